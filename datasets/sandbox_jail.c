/* SPDX-License-Identifier: Apache-2.0
 * The walls around a worker: resource limits, and a filter for system calls (the only user of
 * libseccomp).
 *
 * What is left is anonymous memory that is not code, the worker's one socket, the clock, and ways to
 * die; a call that is neither in the lists nor refused by name kills the process. Where the system
 * has no filters (an old kernel, a container that forbids them) the limits stand alone: without
 * descriptors and children there is little left to do either. */
#include "sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <seccomp.h>

/* Sanitizers reserve terabytes of address space and report on stderr. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define SANITIZED 1
#elif defined __has_feature
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

/* Pixels with and without alpha, turned, a progressive JPEG's coefficients, pointers to the rows;
 * of a picture that is fitted also its rows as numbers. */
enum { BYTES_A_PIXEL = 24, BYTES_A_VALUE = 16, BYTES_BESIDES = 128 << 20 };

/* The address space that at_jail_enter tells of; RLIM_INFINITY: unknown, or what the sanitizers
 * need. */
static rlim_t memory_for(const at_decode_limits *limits, size_t frame_bytes)
{
    unsigned long pages = 0;
    size_t need, fitting;
    FILE *f = SANITIZED ? NULL : fopen("/proc/self/statm", "re");
    if (f && fscanf(f, "%lu", &pages) != 1)
        pages = 0;
    if (f)
        fclose(f);
    if (!pages || !at_mul(limits->pixels, BYTES_A_PIXEL, SIZE_MAX / 4, &need) ||
        !at_mul(frame_bytes, BYTES_A_VALUE, SIZE_MAX / 4, &fitting))
        return RLIM_INFINITY;
    return need + fitting + BYTES_BESIDES + pages * (size_t)sysconf(_SC_PAGESIZE);
}

int at_jail_first_unused(void)
{
    return SANITIZED ? STDERR_FILENO + 1 : AT_JAIL_WORK + 1;
}

static bool set_limits(rlim_t memory)
{
    const struct {
        __rlimit_resource_t resource;
        rlim_t most;
    } limits[] = {{RLIMIT_AS, memory},
                  {RLIMIT_CORE, 0},
                  {RLIMIT_FSIZE, 0},
                  {RLIMIT_NOFILE, 0},
                  {RLIMIT_NPROC, 0}};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        struct rlimit now, then = {limits[i].most, limits[i].most};
        if (getrlimit(limits[i].resource, &now))
            return false;
        if (then.rlim_max > now.rlim_max) /* somebody has set a lower one */
            then.rlim_cur = then.rlim_max = now.rlim_max;
        if (setrlimit(limits[i].resource, &then))
            return false;
    }
    return prctl(PR_SET_DUMPABLE, 0) == 0;
}

/* Where memory runs out for the whole machine, the worker goes first. */
static void offer_to_oom_killer(void)
{
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (write(fd, "1000", 4) < 0)
        errno = 0; /* it may be forbidden */
    close(fd);
}

/* ---- the filter ---- */

static bool allow_always(scmp_filter_ctx filter)
{
    static const int calls[] = {/* memory */ SCMP_SYS(brk),
                                SCMP_SYS(munmap),
                                SCMP_SYS(mremap),
                                SCMP_SYS(madvise),
                                /* the C library's locks and clock */ SCMP_SYS(futex),
                                SCMP_SYS(clock_gettime),
                                /* the end, abort()'s too */ SCMP_SYS(exit),
                                SCMP_SYS(exit_group),
                                SCMP_SYS(rt_sigreturn),
                                SCMP_SYS(rt_sigprocmask),
                                SCMP_SYS(getpid),
                                SCMP_SYS(gettid)};
    static const int for_sanitizers[] = {SCMP_SYS(sched_yield), SCMP_SYS(sigaltstack),
                                         SCMP_SYS(rt_sigaction), SCMP_SYS(getuid)};
    bool good = true;
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++)
        good = good && !seccomp_rule_add(filter, SCMP_ACT_ALLOW, calls[i], 0);
    for (size_t i = 0; SANITIZED && i < sizeof for_sanitizers / sizeof *for_sanitizers; i++)
        good = good && !seccomp_rule_add(filter, SCMP_ACT_ALLOW, for_sanitizers[i], 0);
    return good;
}

static bool allow_by_argument(scmp_filter_ctx filter)
{
    const struct {
        int call;
        unsigned count;
        struct scmp_arg_cmp arguments[2];
    } rules[] = {
        {SCMP_SYS(read), 1, {SCMP_A0(SCMP_CMP_EQ, AT_JAIL_WORK)}},
        {SCMP_SYS(write), 1, {SCMP_A0(SCMP_CMP_EQ, AT_JAIL_WORK)}},
        {SCMP_SYS(mmap),
         2,
         {SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0),
          SCMP_A3(SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS, MAP_ANONYMOUS)}},
        {SCMP_SYS(mprotect), 1, {SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)}},
        {SCMP_SYS(tgkill), 1, {SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid())}}, /* abort() */
    };
    bool good = true;
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        good = good && !seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, rules[i].call,
                                               rules[i].count, rules[i].arguments);
    return good;
}

/* The C library's last words before it calls abort() would make another end of it. */
static bool refuse_last_words(scmp_filter_ctx filter)
{
    if (SANITIZED)
        return !seccomp_rule_add(filter, SCMP_ACT_ALLOW, SCMP_SYS(write), 1,
                                 SCMP_A0(SCMP_CMP_EQ, STDERR_FILENO));
    return !seccomp_rule_add(filter, SCMP_ACT_ERRNO(EBADF), SCMP_SYS(write), 1,
                             SCMP_A0(SCMP_CMP_NE, AT_JAIL_WORK)) &&
           !seccomp_rule_add(filter, SCMP_ACT_ERRNO(EBADF), SCMP_SYS(writev), 0);
}

static bool load_filter(void)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (!filter)
        return false;
    /* without it older kernels slow the worker down: there is nothing beside it to be spied out */
    seccomp_attr_set(filter, SCMP_FLTATR_CTL_SSB, 1);
    bool loaded = allow_always(filter) && allow_by_argument(filter) && refuse_last_words(filter) &&
                  !seccomp_load(filter);
    seccomp_release(filter);
    return loaded;
}

bool at_jail_enter(const at_decode_limits *limits, size_t frame_bytes, bool *filtered)
{
    offer_to_oom_killer();
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || !set_limits(memory_for(limits, frame_bytes)))
        return false;
    *filtered = load_filter();
    return true;
}
