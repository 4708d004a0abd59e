/* SPDX-License-Identifier: Apache-2.0
 * Interruption is a flag that loops look at, so that every stage can leave what --resume continues.
 * Without SA_RESTART, since a blocking call must return (EINTR) for its loop to look. A second
 * SIGINT ends the process the default way: the user means it. */
#include "atoll/base.h"

#include <signal.h>
#include <stdatomic.h>

static _Atomic bool interrupted;

static void on_signal(int number)
{
    static volatile sig_atomic_t asked;
    if (number == SIGINT && asked++) {
        signal(SIGINT, SIG_DFL);
        raise(SIGINT); /* delivered when this handler returns */
    }
    interrupted = true;
}

void at_interrupt_install(void)
{
    struct sigaction action = {.sa_handler = on_signal};
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
