/* SPDX-License-Identifier: Apache-2.0
 * Interruption is a flag that loops look at, so that every stage can leave what --resume continues.
 * Without SA_RESTART, since a blocking call must return (EINTR) for its loop to look. A second
 * SIGINT ends the process the default way: the user means it. Not where it comes at once behind the
 * first: timeout(1) signals its child and then the child's group, and a launcher passes on the Ctrl-C
 * that the terminal has sent to every process.
 *
 * The handler has a stack of its own. oneDNN's generated matrix multiplication uses the stack pointer
 * for other things while it runs: on the thread's stack, the signal's frame would be written somewhere
 * into the heap. */
#include "atoll/base.h"

#include <signal.h>
#include <stdatomic.h>

#define MEANT_AFTER 0.3 /* seconds */

static _Atomic bool interrupted;

static void on_signal(int number)
{
    static _Atomic double first; /* when SIGINT came */
    double now = at_now();
    if (number == SIGINT && first == 0)
        first = now;
    else if (number == SIGINT && now - first > MEANT_AFTER) {
        signal(SIGINT, SIG_DFL);
        raise(SIGINT); /* delivered when this handler returns */
    }
    interrupted = true;
}

void at_interrupt_install(void)
{
    static _Alignas(64) char stack[128 << 10]; /* of the main thread, which gets these signals */
    stack_t own = {.ss_sp = stack, .ss_size = sizeof stack};
    sigaltstack(&own, NULL);
    struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
}

bool at_interrupted(void)
{
    return interrupted;
}

void at_interrupt_raise(void)
{
    interrupted = true;
}
