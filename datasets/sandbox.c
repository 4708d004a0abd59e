/* SPDX-License-Identifier: Apache-2.0
 * The parent's side of a sandbox (sandbox.h): lays pictures into the orders, hashes them while the
 * worker decodes, takes the answers (sandbox_answer.c), and decides who is to blame when there are
 * none.
 *
 * A request is its number in orders->asked; the bytes through the socket pair only wake, so one too
 * many, from before a worker's death, does no harm. The time limit is CPU time of the worker while
 * it is at one picture, looked at every so often: a busy machine fails no picture. */
#include "sandbox.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    LEAST_CAPACITY = 1 << 20,
    KEPT_BYTES = 8 << 20,   /* of the orders' memory between requests */
    LONGEST_LOOK = 250,     /* milliseconds between looks at the worker's clock */
    FRAMES_BYTES = 8 << 20, /* of a request's frames, if it is not one */
};

/* A worker that neither works nor ends is given up after so many time limits, and as much longer as
 * it had at least this share of a CPU. */
static const double GRACE = 10, LEAST_SHARE = 0.01;

/* Where the worker was at the last look. */
struct mark {
    bool begun;
    unsigned finished; /* pictures */
    double from;       /* the worker's CPU seconds when it was first seen at this picture */
    int looks;         /* since then */
};

struct at_sandbox {
    at_cell cell;
    pid_t guard_pid, worker_pid; /* worker 0: not told yet */
    int work, guard;             /* sockets */
    unsigned asked;
    bool ready, filtered;
    bool fresh;   /* the worker has not been asked for anything yet */
    bool died;    /* and the guard waits to be let go on */
    int end;      /* of the worker that died, as in at_guard_message */
    bool overdue; /* it was killed for taking too long */
    size_t used;  /* of the orders' bytes */
    struct mark mark;
};

/* ---- the beginning and the end ---- */

static void *map_shared(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE,
                   -1, 0);
    return p == MAP_FAILED ? NULL : p;
}

/* Guards of other sandboxes do not get it. */
static bool map_cell(at_cell *c)
{
    const at_decode_limits *limits = &c->limits;
    const at_wish *wish = &c->wish;
    size_t capacity = limits->bytes > LEAST_CAPACITY ? limits->bytes : LEAST_CAPACITY;
    c->orders_bytes = sizeof *c->orders + capacity;
    c->orders = map_shared(c->orders_bytes);
    c->answers = map_shared(sizeof *c->answers);
    c->frame_bytes = wish->frame.height ? at_frame_bytes(&wish->frame) : 0;
    c->frame_count = at_frames_within(&wish->frame, FRAMES_BYTES, wish->facts ? AT_ORDER_ITEMS : 1);
    c->frames = c->frame_bytes ? map_shared(c->frame_count * c->frame_bytes) : NULL;
    if (!c->orders || !c->answers || (c->frame_bytes && !c->frames))
        return false;
    c->orders->capacity = capacity;
    return true;
}

static void keep_to_this_guard(const at_cell *c)
{
    madvise(c->orders, c->orders_bytes, MADV_DONTFORK);
    madvise(c->answers, sizeof *c->answers, MADV_DONTFORK);
    if (c->frames)
        madvise(c->frames, c->frame_count * c->frame_bytes, MADV_DONTFORK);
}

static void unmap_cell(at_cell *c)
{
    if (c->orders)
        munmap(c->orders, c->orders_bytes);
    if (c->answers)
        munmap(c->answers, sizeof *c->answers);
    if (c->frames)
        munmap(c->frames, c->frame_count * c->frame_bytes);
}

static int start_guard(at_sandbox *s, at_error *err)
{
    int work[2], guard[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, work))
        return at_fail_errno(err, errno, "cannot start a decoding process");
    s->work = work[0];
    s->cell.work = work[1];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, guard)) {
        close(work[1]);
        return at_fail_errno(err, errno, "cannot start a decoding process");
    }
    s->guard = guard[0];
    s->cell.guard = guard[1];
    pid_t self = getpid(), pid = fork();
    if (pid == 0)
        at_guard_main(&s->cell, self);
    int failed = errno;
    close(work[1]);
    close(guard[1]);
    if (pid < 0)
        return at_fail_errno(err, failed, "cannot start a decoding process");
    s->guard_pid = pid;
    keep_to_this_guard(&s->cell);
    return 0;
}

at_sandbox *at_sandbox_new(const at_decode_limits *limits, const at_wish *wish, at_error *err)
{
    at_sandbox *s = calloc(1, sizeof *s);
    if (!s) {
        at_nomem(err);
        return NULL;
    }
    s->cell = (at_cell){.limits = at_limits_resolved(*limits), .wish = *wish};
    s->work = s->guard = -1;
    if (!map_cell(&s->cell))
        at_fail(err, AT_EINPUT, "no address space for files of %zu bytes: a smaller --max-bytes",
                s->cell.limits.bytes);
    else if (start_guard(s, err) == 0)
        return s;
    at_sandbox_free(s);
    return NULL;
}

/* A worker that is asked for nothing ends when the last word to it can have been said. */
void at_sandbox_finish(at_sandbox *s)
{
    if (s->work >= 0)
        close(s->work);
    if (s->guard >= 0)
        close(s->guard);
    s->work = s->guard = -1;
}

void at_sandbox_free(at_sandbox *s)
{
    if (!s)
        return;
    at_sandbox_finish(s);
    while (s->guard_pid > 0 && waitpid(s->guard_pid, NULL, 0) < 0 && errno == EINTR)
        ;
    unmap_cell(&s->cell);
    free(s);
}

/* ---- what the other processes tell ---- */

static void hear_worker(at_sandbox *s)
{
    char words[16];
    ssize_t n;
    while ((n = recv(s->work, words, sizeof words, MSG_DONTWAIT)) > 0)
        for (ssize_t i = 0; i < n && !s->ready; i++) {
            s->ready = words[i] == AT_READY || words[i] == AT_READY_UNFILTERED;
            s->filtered = words[i] == AT_READY;
        }
}

static int hear_guard(at_sandbox *s, at_error *err)
{
    at_guard_message m;
    ssize_t n = recv(s->guard, &m, sizeof m, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return 0;
    if (n != sizeof m)
        return at_fail(err, AT_EPEER, "the process that watches a decoder has ended");
    switch (m.word) {
    case AT_WORKER_STARTED:
        s->worker_pid = m.value;
        return 0;
    case AT_WORKER_DIED:
        hear_worker(s); /* its last words */
        s->died = true;
        s->end = m.value;
        return 0;
    default:
        return at_fail_errno(err, m.value, "cannot start a decoding process");
    }
}

static int look_interval(const at_sandbox *s)
{
    double ms = 250 * s->cell.limits.seconds;
    return ms < 1 ? 1 : ms > LONGEST_LOOK ? LONGEST_LOOK : (int)ms;
}

/* Waits a while for a word of either; 1: there was one, 0: the while is over. */
static int hear(at_sandbox *s, at_error *err)
{
    struct pollfd files[2] = {{.fd = s->work, .events = POLLIN},
                              {.fd = s->guard, .events = POLLIN}};
    int n = poll(files, 2, look_interval(s));
    if (n < 0 && errno != EINTR)
        return at_fail_errno(err, errno, "cannot wait for a decoding process");
    if (n <= 0)
        return n < 0;
    hear_worker(s);
    int code = files[1].revents ? hear_guard(s, err) : 0;
    return code < 0 ? code : 1;
}

/* Lets the guard take the dead worker away and start another. */
static int replace_worker(at_sandbox *s, at_error *err)
{
    s->died = s->ready = s->overdue = false;
    s->fresh = true;
    s->worker_pid = 0;
    char word = AT_DONE;
    if (send(s->guard, &word, 1, MSG_NOSIGNAL) == 1)
        return 0;
    return at_fail(err, AT_EPEER, "the process that watches a decoder has ended");
}

int at_sandbox_await(at_sandbox *s, bool *filtered, at_error *err)
{
    int code = 0;
    while (!s->ready && !s->died && code >= 0)
        code = hear(s, err);
    s->fresh = true;
    *filtered = s->filtered;
    if (code < 0)
        return code;
    return s->ready ? 0 : at_fail(err, AT_EFAIL, "a decoding process cannot be shut in");
}

void at_sandbox_warn(void)
{
    at_log(AT_LOG_WARN, "this system does not let a process give up system calls (seccomp): "
                        "pictures are decoded in processes with resource limits alone");
}

/* ---- time ---- */

static bool worker_cpu(const at_sandbox *s, double *seconds)
{
    clockid_t id;
    struct timespec t;
    if (!s->worker_pid || clock_getcpuclockid(s->worker_pid, &id) || clock_gettime(id, &t))
        return false;
    *seconds = (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
    return true;
}

/* Looks how far the worker is, and kills it where it has been at one picture for too long. */
static void look(at_sandbox *s)
{
    struct mark *m = &s->mark;
    unsigned finished = atomic_load(&s->cell.answers->finished);
    double cpu;
    if (!s->ready || !worker_cpu(s, &cpu))
        return;
    if (!m->begun || m->finished != finished) {
        *m = (struct mark){.begun = true, .finished = finished, .from = cpu};
        return;
    }
    double used = cpu - m->from, waited = 0.001 * ++m->looks * look_interval(s);
    if (used <= s->cell.limits.seconds &&
        waited <= GRACE * s->cell.limits.seconds + used / LEAST_SHARE)
        return;
    s->overdue = true;
    kill(s->worker_pid, SIGKILL);
}

/* ---- answers ---- */

/* The worker ended at the first picture that it had. */
static void blame(const at_sandbox *s, at_item *item)
{
    if (s->overdue)
        at_item_fail_for_time(item, s->cell.limits.seconds);
    else if (s->end == -SIGKILL)
        at_item_fail(item, AT_REASON_TOO_LARGE, "the decoder was killed, as if memory had run out");
    else if (s->end == -SIGSYS)
        at_item_fail(item, AT_REASON_CORRUPT,
                     "the decoder crashed (SIGSYS: a system call that it has no need of)");
    else if (s->end < 0)
        at_item_fail(item, AT_REASON_CORRUPT, "the decoder crashed (SIG%s)",
                     sigabbrev_np(-s->end) ? sigabbrev_np(-s->end) : "?");
    else
        at_item_fail(item, AT_REASON_CORRUPT, "the decoder ended with status %d", s->end);
}

/* ---- requests ---- */

/* As many of the pictures as there is room for. */
static size_t lay_out(at_sandbox *s, at_item *const items[], size_t count)
{
    at_orders *o = s->cell.orders;
    size_t used = 0, most = s->cell.frame_count < count ? s->cell.frame_count : count;
    for (o->count = 0; o->count < most; o->count++) {
        const at_buffer *bytes = &items[o->count]->bytes;
        if (bytes->size > o->capacity - used)
            break;
        if (bytes->size) /* of nothing there is no address */
            memcpy(o->bytes + used, bytes->data, bytes->size);
        o->items[o->count].at = used;
        o->items[o->count].size = bytes->size;
        used += bytes->size;
    }
    s->used = used;
    return o->count;
}

static void give_memory_back(at_sandbox *s)
{
    if (s->used > KEPT_BYTES)
        madvise((char *)s->cell.orders + KEPT_BYTES, s->cell.orders_bytes - KEPT_BYTES,
                MADV_REMOVE);
}

static void ask(at_sandbox *s)
{
    double cpu = 0;
    bool known = s->ready && worker_cpu(s, &cpu);
    s->mark = (struct mark){.begun = known, .from = cpu};
    atomic_store(&s->cell.answers->finished, 0);
    atomic_store(&s->cell.orders->asked, ++s->asked);
    char word = AT_DONE;
    send(s->work, &word, 1, MSG_NOSIGNAL); /* what has happened to it, the guard tells */
}

/* Until the request is done or the worker has died. */
static int await_answers(at_sandbox *s, at_error *err)
{
    int code = 0;
    while (code >= 0 && !s->died && atomic_load(&s->cell.answers->answered) != s->asked)
        if ((code = hear(s, err)) == 0)
            look(s);
    return code < 0 ? code : 0;
}

/* Takes what there is of n answers; *done tells how many pictures are through. */
static int take_answers(at_sandbox *s, at_item *const items[], size_t n, bool fresh, size_t *done,
                        at_error *err)
{
    size_t finished = s->died ? atomic_load(&s->cell.answers->finished) : n;
    for (*done = 0; *done < n && *done < finished; ++*done)
        at_answer_take(&s->cell, *done, items[*done]);
    if (!s->died)
        return 0;
    if (!s->ready)
        return at_fail(err, AT_EFAIL, "a decoding process cannot be shut in");
    if (*done == 0 && fresh)
        blame(s, items[(*done)++]);
    return replace_worker(s, err);
}

int at_sandbox_examine(at_sandbox *s, at_item *const items[], size_t count, at_error *err)
{
    int code = 0;
    size_t hashed = 0, done;
    for (size_t at = 0; at < count && code == 0; at += done) {
        size_t n = lay_out(s, items + at, count - at);
        done = 1;
        if (n == 0) {
            at_item_fail_for_size(items[at], items[at]->bytes.size, s->cell.limits.bytes);
            continue;
        }
        bool fresh = s->fresh;
        s->fresh = false;
        ask(s);
        for (; s->cell.wish.facts && hashed < at + n; hashed++)
            at_item_hash(items[hashed]);
        code = await_answers(s, err);
        if (code == 0)
            code = take_answers(s, items + at, n, fresh, &done, err);
        give_memory_back(s);
    }
    return code;
}
