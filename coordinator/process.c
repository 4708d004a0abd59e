/* SPDX-License-Identifier: Apache-2.0
 * Running one stage of a job as a child process.
 *
 * In a process group of its own: Ctrl-C on a terminal would otherwise reach an mpirun below, which
 * kills its ranks before they have written a checkpoint. Signals that end the wait are blocked but
 * within sigsuspend, so that none is missed between looking and sleeping. */
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STATUS_NOT_RUN = 127 };

static const int watched[] = {SIGCHLD, SIGINT, SIGTERM, SIGUSR1};

static void on_child(int number)
{
    (void)number; /* its arrival ends sigsuspend */
}

/* In the child; only async-signal-safe calls. */
static _Noreturn void become(const at_process *p, const sigset_t *mask, pid_t parent)
{
    setpgid(0, 0);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != parent)
        _exit(STATUS_NOT_RUN);
    for (size_t i = 0; i < sizeof watched / sizeof *watched; i++)
        signal(watched[i], SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, mask, NULL);
    int null = open("/dev/null", O_RDWR);
    if (null >= 0) {
        dup2(null, STDIN_FILENO);
        dup2(null, STDOUT_FILENO);
    }
    if (p->inherit)
        fcntl(at_lock_descriptor(p->inherit), F_SETFD, 0);
    if (p->environment)
        environ = (char **)p->environment;
    execvp(p->words[0], (char *const *)p->words);
    static const char message[] = ": cannot be run\n";
    bool told = write(STDERR_FILENO, p->words[0], strlen(p->words[0])) > 0 &&
                write(STDERR_FILENO, message, sizeof message - 1) > 0;
    _exit(told ? STATUS_NOT_RUN : STATUS_NOT_RUN - 1);
}

static int wait_for(const at_process *p, pid_t pid, const sigset_t *open)
{
    int status = 0;
    bool told = false;
    while (waitpid(pid, &status, WNOHANG) == 0) {
        if (at_interrupted() && !told) {
            kill(pid, p->interrupt);
            told = true;
        }
        sigsuspend(open);
    }
    return status;
}

static int judge(const at_process *p, int status, at_error *err)
{
    static const int codes[] = {AT_EFAIL, AT_EUSAGE, AT_EINPUT, AT_EINTERRUPTED};
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return 0;
    if (at_interrupted())
        return at_fail(err, AT_EINTERRUPTED, "interrupted");
    if (WIFSIGNALED(status))
        return at_fail(err, AT_EFAIL, "%s was killed by signal %d (%s)", p->words[0],
                       WTERMSIG(status), strsignal(WTERMSIG(status)));
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++)
        if (WEXITSTATUS(status) == at_error_exit_status(codes[i]))
            return at_fail(err, codes[i], "%s ended with exit status %d", p->words[0],
                           WEXITSTATUS(status));
    return at_fail(err, AT_EFAIL, "%s ended with exit status %d", p->words[0], WEXITSTATUS(status));
}

int at_process_run(const at_process *p, at_error *err)
{
    if (at_interrupted())
        return at_fail(err, AT_EINTERRUPTED, "interrupted");
    sigset_t blocked, before;
    struct sigaction notice = {.sa_handler = on_child}, child_before;
    sigemptyset(&blocked);
    for (size_t i = 0; i < sizeof watched / sizeof *watched; i++)
        sigaddset(&blocked, watched[i]);
    sigemptyset(&notice.sa_mask);
    sigaction(SIGCHLD, &notice, &child_before);
    sigprocmask(SIG_BLOCK, &blocked, &before);
    pid_t parent = getpid(), pid = fork();
    int reason = errno, status = 0;
    if (pid == 0)
        become(p, &before, parent);
    if (pid > 0)
        status = wait_for(p, pid, &before);
    sigprocmask(SIG_SETMASK, &before, NULL);
    sigaction(SIGCHLD, &child_before, NULL);
    return pid < 0 ? at_fail_errno(err, reason, "cannot run %s", p->words[0])
                   : judge(p, status, err);
}
