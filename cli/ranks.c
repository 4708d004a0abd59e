/* SPDX-License-Identifier: Apache-2.0
 * Commands without MPI of their own that mpirun or srun has started more than once.
 *
 * They ask the environment only: MPI's start would wait for ranks that may be another command.
 */
#include "cli.h"

#include <stdlib.h>

static bool is_many(const char *variable)
{
    const char *text = getenv(variable);
    return text && atol(text) > 1;
}

bool cli_is_one_of_many(void)
{
    return is_many("OMPI_COMM_WORLD_SIZE") ||
           (getenv("PMIX_RANK") && is_many("SLURM_STEP_NUM_TASKS"));
}

bool cli_is_first(void)
{
    const char *rank = getenv("OMPI_COMM_WORLD_RANK");
    rank = rank ? rank : getenv("PMIX_RANK");
    return !cli_is_one_of_many() || !rank || atol(rank) == 0;
}

int cli_refuse_many(at_error *err)
{
    return cli_is_one_of_many() ? at_fail(err, AT_EUSAGE,
                                          "this starts ranks and workers by itself: run it once, "
                                          "without mpirun or srun")
                                : 0;
}
