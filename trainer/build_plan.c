/* SPDX-License-Identifier: Apache-2.0
 * Compiling a network on several ranks. A plan times its convolutions once and remembers the
 * fastest on the node's disk. So one rank of each node goes first, with the CPUs for itself; the
 * others find its choices, and all compute with the same ones, in this run and in later ones.
 */
#include "internal.h"

at_plan *at_build_plan(at_comm *comm, at_net *net, const at_plan_options *options, at_error *err)
{
    bool first = !comm || at_comm_local_rank(comm) == 0;
    at_plan *plan = first ? at_plan_new(net, options, err) : NULL;
    int code = at_agree(comm, first && !plan ? err->code : 0, err);
    if (code == 0 && !first)
        plan = at_plan_new(net, options, err);
    if (code == 0)
        code = at_agree(comm, plan ? 0 : err->code, err);
    if (code == 0)
        return plan;
    at_plan_free(plan);
    return NULL;
}
