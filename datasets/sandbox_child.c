/* SPDX-License-Identifier: Apache-2.0
 * The two processes behind a sandbox: the guard, and the worker that decodes (sandbox.h).
 *
 * Both ignore the signals that are meant for the whole program (Ctrl-C, a job's end): the parent
 * decides when to stop, and an end of theirs would look like a decoder's crash. */
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { GUARD = 1 }; /* the guard's descriptor of its own socket, beside AT_JAIL_WORK */

static void set_signals(void)
{
    static const int ignored[] = {SIGINT,  SIGTERM, SIGHUP,  SIGQUIT, SIGPIPE,  SIGALRM,
                                  SIGUSR1, SIGUSR2, SIGXCPU, SIGPROF, SIGVTALRM};
    static const int natural[] = {SIGSEGV, SIGBUS,  SIGILL, SIGFPE,
                                  SIGABRT, SIGTRAP, SIGSYS, SIGCHLD};
    sigset_t none;
    for (size_t i = 0; i < sizeof ignored / sizeof *ignored; i++)
        signal(ignored[i], SIG_IGN);
    for (size_t i = 0; i < sizeof natural / sizeof *natural; i++)
        signal(natural[i], SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Dies with the process that forked this one, even if that was over before it could be asked for. */
static void die_with(pid_t parent)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) || getppid() != parent)
        _exit(1);
}

/* ---- the worker ---- */

struct worker {
    const at_cell *cell;
    const at_orders *orders;
    at_decoder *decoder;
    at_item item;       /* its bytes lie in the orders */
    bool used;          /* it has decoded a picture */
    double cpu, looked; /* its CPU seconds at the last look at them, and when that was */
};

/* Of the time limit: a picture's time may be told wrong by so much. */
static const double INEXACT = 0.01;

static double cpu_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static void look(struct worker *w)
{
    w->cpu = cpu_seconds();
    w->looked = at_now();
}

/* CPU time, which takes a system call to ask for, goes by no faster than time. */
static bool has_used(const struct worker *w, double seconds)
{
    return at_now() - w->looked > seconds && cpu_seconds() - w->cpu > seconds;
}

/* Memory ran out. What earlier pictures left may have part in it: a new worker must tell. */
static void fail_for_memory(struct worker *w)
{
    if (w->used)
        _exit(AT_SEIZED);
    at_item_fail(&w->item, AT_REASON_TOO_LARGE,
                 "it takes more memory than a picture of --max-pixels may");
}

static void fit(struct worker *w, size_t i, at_image *image)
{
    at_item_fit(&w->item, w->decoder, &w->cell->limits, &w->cell->wish.frame, image,
                w->cell->frames + i * w->cell->frame_bytes);
}

static void examine(struct worker *w, size_t i, at_image *image)
{
    const at_orders *o = w->orders;
    at_item *item = &w->item;
    item->bytes.data = (uint8_t *)(uintptr_t)(o->bytes + o->items[i].at);
    item->bytes.size = o->items[i].size;
    item->bad = false;
    item->frame_channels = 0;
    item->exif.length = 0;
    item->exif.failed = false;
    if (at_now() - w->looked > INEXACT * w->cell->limits.seconds)
        look(w);
    errno = 0;
    if (w->decoder && w->cell->wish.facts)
        at_item_examine(item, w->decoder, &w->cell->limits, image);
    else if (w->decoder)
        fit(w, i, image);
    if (!w->decoder || item->exif.failed || (item->bad && errno == ENOMEM))
        fail_for_memory(w);
    if (has_used(w, w->cell->limits.seconds))
        at_item_fail_for_time(item, w->cell->limits.seconds);
    w->used = true;
}

static void answer(struct worker *w, size_t i)
{
    at_answers *answers = w->cell->answers;
    at_answer *a = &answers->items[i];
    const at_item *item = &w->item;
    a->bad = item->bad;
    a->reason = item->reason;
    memcpy(a->detail, item->detail, sizeof a->detail);
    a->seen = item->seen;
    a->channels = item->frame_channels;
    a->exif = item->exif.length <= AT_EXIF_BYTES ? item->exif.length : 0;
    if (a->exif)
        memcpy(answers->exif[i], item->exif.data, a->exif);
    atomic_store(&answers->finished, (unsigned)i + 1);
}

/* Behind the answer, which holds whatever becomes of this. */
static void add_frame(struct worker *w, size_t i, at_image *image)
{
    const at_wish *wish = &w->cell->wish;
    if (w->item.bad || !wish->facts || !wish->frame.height)
        return;
    fit(w, i, image);
    if (!w->item.bad)
        w->cell->answers->items[i].channels = w->item.frame_channels;
}

static void tell(char word)
{
    while (write(AT_JAIL_WORK, &word, 1) < 0)
        if (errno != EINTR)
            _exit(0); /* the parent has gone */
}

static void await_word(void)
{
    char word;
    ssize_t n;
    while ((n = read(AT_JAIL_WORK, &word, 1)) < 0 && errno == EINTR)
        ;
    if (n != 1)
        _exit(0);
}

/* done: the last request that another worker had; a word may be about that one still. */
static _Noreturn void work(const at_cell *cell, unsigned done)
{
    struct worker w = {.cell = cell, .orders = cell->orders};
    w.decoder = at_decoder_new();
    look(&w);
    for (;;) {
        await_word();
        unsigned asked = atomic_load(&cell->orders->asked);
        if (asked == done)
            continue;
        for (size_t i = 0; i < w.orders->count; i++) {
            at_image image = {0};
            examine(&w, i, &image);
            answer(&w, i);
            add_frame(&w, i, &image);
        }
        done = asked;
        atomic_store(&cell->answers->answered, asked);
        tell(AT_DONE);
    }
}

static _Noreturn void worker_main(const at_cell *cell, pid_t guard, unsigned done)
{
    bool filtered = false;
    die_with(guard);
    close(GUARD);
    if (mprotect(cell->orders, cell->orders_bytes, PROT_READ) ||
        !at_jail_enter(&cell->limits, cell->frame_bytes, &filtered))
        _exit(1);
    tell(filtered ? AT_READY : AT_READY_UNFILTERED);
    work(cell, done);
}

/* ---- the guard ---- */

/* False: the parent has gone, or wants no more. */
static bool report(at_guard_word word, int value)
{
    at_guard_message m = {word, value};
    ssize_t n;
    while ((n = write(GUARD, &m, sizeof m)) < 0 && errno == EINTR)
        ;
    return n == sizeof m;
}

/* The worker's end, of which the process stays to be waited for: its number is not given away. */
static int await_end(pid_t worker)
{
    siginfo_t info = {0};
    while (waitid(P_PID, (id_t)worker, &info, WEXITED | WNOWAIT) < 0 && errno == EINTR)
        ;
    return info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
}

static bool may_go_on(void)
{
    char word;
    ssize_t n;
    while ((n = read(GUARD, &word, 1)) < 0 && errno == EINTR)
        ;
    return n == 1;
}

static void keep_two_files(const at_cell *cell)
{
    int work = fcntl(cell->work, F_DUPFD, GUARD + 1),
        guard = fcntl(cell->guard, F_DUPFD, GUARD + 1);
    if (dup2(work, AT_JAIL_WORK) < 0 || dup2(guard, GUARD) < 0)
        _exit(1);
    int unused = at_jail_first_unused();
    closefrom(unused > GUARD ? unused : GUARD + 1);
}

_Noreturn void at_guard_main(const at_cell *cell, pid_t parent)
{
    pid_t self = getpid();
    set_signals();
    die_with(parent);
    keep_two_files(cell);
    unsigned done = 0; /* requests; the next one comes only when this worker's end was heard of */
    for (bool more = true; more;) {
        pid_t worker = fork();
        if (worker == 0)
            worker_main(cell, self, done);
        if (worker < 0) {
            report(AT_WORKER_FAILED, errno);
            break;
        }
        more = report(AT_WORKER_STARTED, (int)worker);
        int end = await_end(worker);
        done = atomic_load(&cell->orders->asked);
        more = more && report(AT_WORKER_DIED, end) && may_go_on();
        waitpid(worker, NULL, 0);
    }
    _exit(0);
}
