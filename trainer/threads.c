/* SPDX-License-Identifier: Apache-2.0
 * Compute threads of a rank: its share of the CPUs. A launcher binds ranks to sets of CPUs, each to
 * its own or several to one, so the CPUs of a set are shared out among the ranks that have that
 * set.
 */
#include "internal.h"

#include <sched.h>
#include <stdlib.h>
#include <string.h>

/* "host 000f": two ranks have the same text where they compete for the same CPUs. */
static void describe_cpus(at_text *out)
{
    char host[256];
    cpu_set_t set;
    at_host_name(host, sizeof host);
    at_text_add(out, "%s ", host);
    if (sched_getaffinity(0, sizeof set, &set) != 0)
        return;
    for (size_t i = 0; i < CPU_SETSIZE; i += 4)
        at_text_add(out, "%x",
                    CPU_ISSET(i, &set) | CPU_ISSET(i + 1, &set) << 1 | CPU_ISSET(i + 2, &set) << 2 |
                        CPU_ISSET(i + 3, &set) << 3);
}

static void count_equal(char *lines, char **line, int64_t *sharing, size_t ranks)
{
    char *rest = NULL;
    for (size_t i = 0; i < ranks; i++)
        line[i] = strtok_r(i ? NULL : lines, "\n", &rest);
    for (size_t i = 0; i < ranks; i++)
        for (size_t k = 0; k < ranks; k++)
            sharing[i] += line[i] && line[k] && !strcmp(line[i], line[k]);
}

/* How many ranks, this one among them, have this rank's CPUs. */
static int count_sharing(at_comm *comm, int64_t *out, at_error *err)
{
    size_t ranks = (size_t)at_comm_size(comm);
    char *lines = NULL, **line = calloc(ranks, sizeof *line);
    int64_t *sharing = calloc(ranks, sizeof *sharing);
    at_text mine = {0};
    describe_cpus(&mine);
    int code = line && sharing && !mine.failed ? 0 : at_nomem(err);
    code = at_agree(comm, code, err);
    code = code < 0 ? code : at_comm_gather_text(comm, mine.data, &lines, err);
    if (code == 0 && lines)
        count_equal(lines, line, sharing, ranks);
    code = code < 0 ? code : at_comm_broadcast(comm, sharing, ranks * sizeof *sharing, 0, err);
    if (code == 0)
        *out = sharing[at_comm_rank(comm)];
    at_text_fini(&mine);
    free(lines);
    free(line);
    free(sharing);
    return code;
}

int at_thread_share(const at_train_config *c, at_comm *comm, int *threads, at_error *err)
{
    int64_t sharing = 1, cpus = at_cpu_count();
    int code = at_comm_size(comm) > 1 ? count_sharing(comm, &sharing, err) : 0;
    if (code < 0)
        return code;
    int64_t share = cpus / sharing > 0 ? cpus / sharing : 1;
    if (c->threads > cpus)
        return at_fail(err, AT_EINPUT, "threads: %lld, but a rank may use only %lld CPUs here",
                       (long long)c->threads, (long long)cpus);
    if (c->threads > share && at_comm_rank(comm) == 0)
        at_log(AT_LOG_WARN, "%lld ranks of %lld threads share %lld CPUs: they wait for each other",
               (long long)sharing, (long long)c->threads, (long long)cpus);
    *threads = (int)(c->threads > 0 ? c->threads : share);
    return 0;
}
