/* SPDX-License-Identifier: Apache-2.0
 * Frozen rows. A row is frozen as a whole: parameters and moving statistics. The plan does the rest:
 * it asks only rows that train for gradients, and those that lead to one (plan.c). The flat order
 * is that of backward, so where the first rows are frozen, as is usual, the gradients that exist
 * are a prefix of the flat buffer, and nothing else travels between ranks.
 */
#include "internal.h"

#include <fnmatch.h>
#include <stdlib.h>
#include <string.h>

enum { MOST_NAMED = 4 };

static size_t common_prefix(const char *a, const char *b)
{
    size_t n = 0;
    while (a[n] && a[n] == b[n])
        n++;
    return n;
}

/* Rows that begin most like the glob, or the first ones where none does. */
static int fail_unmatched(const at_net *net, const char *glob, at_error *err)
{
    size_t best = 0, named = 0;
    at_text list = {0};
    for (size_t i = 0; i < net->row_count; i++) {
        size_t n = common_prefix(net->rows[i].row.name, glob);
        best = net->rows[i].param_count && n > best ? n : best;
    }
    for (size_t i = 0; i < net->row_count && named < MOST_NAMED; i++)
        if (net->rows[i].param_count && common_prefix(net->rows[i].row.name, glob) == best)
            at_text_add(&list, "%s\"%s\"", named++ ? ", " : "", net->rows[i].row.name);
    int status =
        at_fail(err, AT_EINPUT, "freeze: no row with parameters matches \"%s\"; the nearest are %s",
                glob, list.data ? list.data : "none");
    at_text_fini(&list);
    return status;
}

static void freeze_row(nn_row *row)
{
    row->frozen = true;
    for (int k = 0; k < row->param_count; k++)
        row->params[k].info.frozen = true;
}

static int freeze_matching(at_net *net, const char *glob, at_error *err)
{
    bool matched = false;
    for (size_t i = 0; i < net->row_count; i++) {
        nn_row *row = &net->rows[i];
        if (!row->param_count || fnmatch(glob, row->row.name, 0) != 0)
            continue;
        freeze_row(row);
        matched = true;
    }
    return matched ? 0 : fail_unmatched(net, glob, err);
}

int at_net_freeze(at_net *net, const char *globs, at_error *err)
{
    char *copy = strdup(globs), *rest = copy;
    int status = copy ? 0 : at_nomem(err);
    for (char *glob; !status && (glob = strsep(&rest, ", "));)
        if (*glob)
            status = freeze_matching(net, glob, err);
    free(copy);
    if (!status && net->param_count && !at_net_trained_count(net))
        status = at_fail(err, AT_EINPUT, "freeze: \"%s\" leaves no row to be trained", globs);
    return status;
}

size_t at_net_trained_count(const at_net *net)
{
    for (size_t i = net->params_listed; i-- > 0;)
        if (!net->listed[i]->frozen)
            return net->listed[i]->offset + net->listed[i]->count;
    return 0;
}

bool at_net_next_moving(const at_net *net, size_t *begin, size_t *end)
{
    for (size_t i = 0; i < net->row_count; i++) {
        const nn_row *row = &net->rows[i];
        for (int k = 0; k < row->state_count && !row->frozen; k++) {
            if (row->states[k].offset < *end)
                continue;
            *begin = row->states[k].offset;
            *end = *begin + row->states[k].count;
            return true;
        }
    }
    return false;
}
