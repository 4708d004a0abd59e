/* SPDX-License-Identifier: Apache-2.0
 * Classification metrics as sums and counts: they add over batches and ranks, and ratios are taken
 * once, at the end. All counts lie in one flat array of doubles: the confusion matrix (row: true
 * class, column: predicted), then the sum of losses. Doubles hold counts exactly up to 2^53.
 */
#include "internal.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>

struct at_metrics {
    size_t classes;
    double *sums; /* [classes * classes + 1] */
};

at_metrics *at_metrics_new(size_t classes)
{
    at_metrics *m = calloc(1, sizeof *m);
    size_t cells;
    if (!m || !at_mul(classes, classes, (size_t)1 << 30, &cells)) {
        free(m);
        return NULL;
    }
    m->classes = classes;
    m->sums = calloc(cells + 1, sizeof *m->sums);
    if (!m->sums) {
        free(m);
        return NULL;
    }
    return m;
}

void at_metrics_free(at_metrics *m)
{
    if (!m)
        return;
    free(m->sums);
    free(m);
}

static size_t argmax(const float *values, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (values[i] > values[best])
            best = i;
    return best;
}

void at_metrics_add(at_metrics *m, const float *scores, const int32_t *labels, const float *weights,
                    size_t batch)
{
    const float smallest = 1e-30f;
    for (size_t i = 0; i < batch; i++) {
        if (weights && weights[i] <= 0)
            continue;
        const float *row = scores + i * m->classes;
        size_t truth = (size_t)labels[i];
        assert(truth < m->classes);
        m->sums[truth * m->classes + argmax(row, m->classes)] += 1;
        m->sums[m->classes * m->classes] -= log(row[truth] < smallest ? smallest : row[truth]);
    }
}

int at_metrics_reduce(at_metrics *m, at_comm *comm, at_error *err)
{
    return comm ? at_comm_sum_doubles(comm, m->sums, m->classes * m->classes + 1, err) : 0;
}

static double ratio(double a, double b)
{
    return b > 0 ? a / b : 0;
}

static double row_sum(const at_metrics *m, size_t row)
{
    double sum = 0;
    for (size_t c = 0; c < m->classes; c++)
        sum += m->sums[row * m->classes + c];
    return sum;
}

static double column_sum(const at_metrics *m, size_t column)
{
    double sum = 0;
    for (size_t r = 0; r < m->classes; r++)
        sum += m->sums[r * m->classes + column];
    return sum;
}

static at_node *class_result(const at_metrics *m, size_t k, const char *name)
{
    double hits = m->sums[k * m->classes + k], support = row_sum(m, k);
    double precision = ratio(hits, column_sum(m, k)), recall = ratio(hits, support);
    at_node *node = at_node_new(AT_MAP);
    at_set_string(node, "class", name);
    at_set_real(node, "precision", precision);
    at_set_real(node, "recall", recall);
    at_set_real(node, "f1", ratio(2 * precision * recall, precision + recall));
    at_set_int(node, "support", (int64_t)support);
    return node;
}

static at_node *confusion_row(const at_metrics *m, size_t row)
{
    at_node *list = at_node_new(AT_LIST);
    for (size_t c = 0; c < m->classes; c++)
        at_node_add(list, at_node_new_int((int64_t)m->sums[row * m->classes + c]));
    return list;
}

at_node *at_metrics_result(const at_metrics *m, const char *const *class_names)
{
    double total = 0, hits = 0;
    for (size_t k = 0; k < m->classes; k++) {
        total += row_sum(m, k);
        hits += m->sums[k * m->classes + k];
    }
    at_node *node = at_node_new(AT_MAP);
    at_set_real(node, "accuracy", ratio(hits, total));
    at_set_real(node, "loss", ratio(m->sums[m->classes * m->classes], total));
    at_set_int(node, "samples", (int64_t)total);
    at_node *classes = at_node_set(node, "classes", at_node_new(AT_LIST));
    at_node *confusion = at_node_set(node, "confusion", at_node_new(AT_LIST));
    at_node *per_class = at_node_set(node, "per_class", at_node_new(AT_LIST));
    for (size_t k = 0; k < m->classes; k++) {
        at_node_add(classes, at_node_new_string(class_names[k]));
        at_node_add(confusion, confusion_row(m, k));
        at_node_add(per_class, class_result(m, k, class_names[k]));
    }
    return node;
}
