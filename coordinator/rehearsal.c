/* SPDX-License-Identifier: Apache-2.0
 * One step of a trial before the first lease, so that trials start at once on a new machine too.
 *
 * Where the workers are elsewhere (listen:) nothing is rehearsed: this machine is not theirs. */
#include "rehearsal.h"
#include "command.h"

#include <inttypes.h>
#include <stdlib.h>

/* Threads of a trial beside its neighbours on this machine. */
static int64_t threads_beside(const at_workers *workers)
{
    const char *nodes = getenv("SLURM_JOB_NUM_NODES");
    int64_t here = workers->count, cpus = at_cpu_count();
    if (workers->kind == AT_WORKERS_SLURM && nodes && atoi(nodes) > 1)
        here = (here + atoi(nodes) - 1) / atoi(nodes);
    return cpus > here && here > 0 ? cpus / here : 1;
}

/* Its checkpoint would be thrown away, too. */
static at_node *settings_of(const at_rehearsal *r, at_error *err)
{
    at_node *flat = at_trial_settings(r->sweep, r->trial, threads_beside(r->workers), err);
    if (!flat || (at_set_int(flat, "epochs", 1) && at_set_int(flat, "train_limit", 1) &&
                  at_set_int(flat, "checkpoint.every", 0)))
        return flat;
    at_node_free(flat);
    at_nomem(err);
    return NULL;
}

static int train(const at_rehearsal *r, const char *out, at_error *err)
{
    at_node *words = at_command_new(r->program, "train"), *settings = settings_of(r, err);
    const char *const fixed[] = {"--data", r->sweep->data, "--model", r->sweep->model, "--out",
                                 out,      "--trial",      "--quiet"};
    bool ok = words != NULL;
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed && ok; i++)
        ok = at_command_add(words, fixed[i]);
    int rc = !settings ? err->code : ok ? at_settings_args(settings, words, err) : at_nomem(err);
    if (!rc)
        rc = at_command_run(words, NULL, err);
    at_node_free(settings);
    at_node_free(words);
    return rc;
}

int at_rehearse(const at_rehearsal *r, at_error *err)
{
    if (r->workers->kind == AT_WORKERS_LISTEN)
        return 0;
    at_error why = {0};
    char *out = at_path_join(r->out, "rehearsal");
    int rc = out ? at_remove_tree(out, &why) : at_nomem(&why);
    if (!rc)
        rc = train(r, out, &why);
    if (rc && rc != AT_EINTERRUPTED)
        at_log(AT_LOG_WARN, "a rehearsal of trial %" PRId64 ": %s", r->trial->number, why.message);
    if (out)
        at_remove_tree(out, NULL);
    free(out);
    return rc == AT_EINTERRUPTED ? at_fail(err, rc, "%s", why.message) : 0;
}
