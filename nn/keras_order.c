/* SPDX-License-Identifier: Apache-2.0
 * The order in which Keras itself has a Functional model's layers. It matters: legacy files are
 * loaded by position, and Keras 3 numbers layers of one class. As in Keras's map_graph: first those
 * furthest from the output; among equals, those that a search from the output, inputs in order,
 * meets first.
 */
#include <stdlib.h>
#include <string.h>

#include "keras.h"

typedef struct place {
    size_t layer, depth, met;
} place;

typedef struct order {
    size_t count, edges;
    size_t *first, *inputs; /* layer i reads inputs[first[i]] to inputs[first[i+1]] */
    place *places;
} order;

static int count_edges(order *o, const at_node *layers, at_error *err)
{
    o->count = at_node_count(layers);
    for (size_t i = 0; i < o->count; i++) {
        const at_node *nodes = at_node_get(at_node_at(layers, i), "inbound_nodes");
        o->edges += at_node_count(at_node_at(nodes, 0));
    }
    o->first = calloc(o->count + 1, sizeof *o->first);
    o->inputs = calloc(o->edges + 1, sizeof *o->inputs);
    o->places = calloc(o->count + 1, sizeof *o->places);
    return o->first && o->inputs && o->places ? AT_OK : at_nomem(err);
}

static const char *name_of(const at_node *layers, size_t i)
{
    return at_node_string(at_node_get(at_node_at(layers, i), "name"), "");
}

/* Inputs are earlier layers, and mostly the one before. */
static void find_edges(order *o, const at_node *layers)
{
    size_t edges = 0;
    for (size_t i = 0; i < o->count; i++) {
        const at_node *nodes = at_node_get(at_node_at(layers, i), "inbound_nodes");
        const at_node *node = at_node_at(nodes, 0);
        o->first[i] = edges;
        for (size_t k = 0; k < at_node_count(node); k++) {
            const char *name = at_node_string(at_node_at(at_node_at(node, k), 0), "");
            size_t from = i;
            while (from > 0 && strcmp(name_of(layers, from - 1), name) != 0)
                from--;
            if (from > 0)
                o->inputs[edges++] = from - 1;
        }
    }
    o->first[o->count] = edges;
}

static void measure_depth(order *o)
{
    for (size_t i = o->count; i-- > 0;)
        for (size_t k = o->first[i]; k < o->first[i + 1]; k++) {
            place *from = &o->places[o->inputs[k]];
            size_t depth = o->places[i].depth + 1;
            from->depth = from->depth > depth ? from->depth : depth;
        }
}

/* Numbers the layers as the search from the last one meets them, from 1. */
static int search(order *o, at_error *err)
{
    size_t *stack = calloc(o->edges + 2, sizeof *stack), height = 0, met = 0;
    if (!stack)
        return at_nomem(err);
    stack[height++] = o->count - 1;
    while (height > 0) {
        size_t i = stack[--height];
        if (o->places[i].met)
            continue;
        o->places[i].met = ++met;
        for (size_t k = o->first[i + 1]; k > o->first[i]; k--)
            stack[height++] = o->inputs[k - 1];
    }
    free(stack);
    return AT_OK;
}

static int compare(const void *a, const void *b)
{
    const place *x = a, *y = b;
    if (x->depth != y->depth)
        return x->depth > y->depth ? -1 : 1;
    return x->met < y->met ? -1 : x->met > y->met;
}

int keras_sort_layers(at_node *config, at_error *err)
{
    order o = {0};
    const at_node *layers = at_node_get(config, "layers");
    at_node *sorted = at_node_new(AT_LIST);
    int rc = sorted ? count_edges(&o, layers, err) : at_nomem(err);
    if (rc == AT_OK && o.count > 0) {
        find_edges(&o, layers);
        measure_depth(&o);
        rc = search(&o, err);
    }
    for (size_t i = 0; i < o.count && rc == AT_OK; i++)
        o.places[i].layer = i;
    if (rc == AT_OK)
        qsort(o.places, o.count, sizeof *o.places, compare);
    for (size_t i = 0; i < o.count && rc == AT_OK; i++)
        if (!at_node_add(sorted, at_node_copy(at_node_at(layers, o.places[i].layer))))
            rc = at_nomem(err);
    free(o.first);
    free(o.inputs);
    free(o.places);
    if (rc == AT_OK)
        at_node_set(config, "layers", sorted);
    else
        at_node_free(sorted);
    return rc;
}
