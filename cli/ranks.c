/* SPDX-License-Identifier: Apache-2.0
 * Commands without MPI of their own that mpirun or srun has started more than once.
 *
 * They ask the environment only: MPI's start would wait for ranks that may be another command.
 */
#include "cli.h"

#include <stdlib.h>

static int number_in(const char *variable)
{
    const char *text = getenv(variable);
    return text ? (int)strtol(text, NULL, 10) : 0;
}

int cli_ranks(void)
{
    int of_mpirun = number_in("OMPI_COMM_WORLD_SIZE");
    int of_srun = getenv("PMIX_RANK") ? number_in("SLURM_STEP_NUM_TASKS") : 0;
    return of_mpirun > 1 ? of_mpirun : of_srun > 1 ? of_srun : 1;
}

int cli_rank(void)
{
    int rank = number_in(getenv("OMPI_COMM_WORLD_RANK") ? "OMPI_COMM_WORLD_RANK" : "PMIX_RANK");
    return rank >= 0 && rank < cli_ranks() ? rank : 0;
}

bool cli_is_one_of_many(void)
{
    return cli_ranks() > 1;
}

bool cli_is_first(void)
{
    return cli_rank() == 0;
}

int cli_refuse_many(at_error *err)
{
    return cli_is_one_of_many() ? at_fail(err, AT_EUSAGE,
                                          "this starts ranks and workers by itself: run it once, "
                                          "without mpirun or srun")
                                : 0;
}
