/* SPDX-License-Identifier: Apache-2.0
 * Ranks fail together: where one of them may fail alone, all meet here before they go on, so none
 * waits for another that gave up, and every rank ends with the same code and message.
 */
#include "internal.h"

int at_agree(at_comm *comm, int code, at_error *err)
{
    int size = comm ? at_comm_size(comm) : 1;
    if (size == 1)
        return code;
    int rank = at_comm_rank(comm);
    int64_t blame = code < 0 ? size - rank : 0; /* the largest is of the lowest rank that failed */
    at_error told = {0}, broken = {0};
    if (at_comm_max_int(comm, &blame, &broken) < 0)
        return at_fail(err, AT_EPEER, "%s", broken.message);
    if (blame == 0)
        return 0;
    int from = size - (int)blame;
    if (rank == from)
        at_fail(&told, code, "%s", err->message[0] ? err->message : at_error_text(code));
    if (at_comm_broadcast(comm, &told, sizeof told, from, &broken) < 0)
        return at_fail(err, AT_EPEER, "%s", broken.message);
    at_fail(err, told.code, "%s", told.message);
    return from == 0 ? told.code : at_fail_in(err, "rank %d", from);
}
