/* SPDX-License-Identifier: Apache-2.0
 * The weights in a file, as a list of layers. Three layouts (FORMATS: Keras):
 *
 *     atoll          a model of ours, read whole (keras_read.c), so that all is judged as always
 *     keras legacy   attribute layer_names at the root or at model_weights; a group a layer with
 *                    attribute weight_names: "block1_conv1/kernel:0", or "block1_conv1_W_1:0"
 *     keras 3        groups layers/conv2d_3/vars with attribute name and datasets 0, 1, ...
 *
 * Keras 3's lies in .weights.h5 files and, as a member, in .keras archives. A model within a model
 * is spread out: its layers are listed as if they were the outer one's.
 */
#include "transfer.h"
#include "keras_file.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_DEPTH = 8, MOST_LAYERS = 20000, NAME_BYTES = 256 };

struct transfer_file {
    const char *path; /* borrowed */
    const char *layout;
    at_net *net; /* of a model of ours, else NULL */
    at_h5 *file;
    char *image; /* what a .keras archive keeps the weights in; NULL: the file itself */
    bool rgb;    /* it is of a model with our row "rescale": its kernels are in RGB */
    size_t count, capacity;
    transfer_layer *layers;
};

/* ---- the list -------------------------------------------------------------------------------- */

static transfer_layer *add_layer(transfer_file *f, const char *name, at_error *err)
{
    if (f->count == MOST_LAYERS) {
        at_fail(err, AT_EINPUT, "%s: more than %d layers", f->path, MOST_LAYERS);
        return NULL;
    }
    if (f->count == f->capacity) {
        size_t capacity = f->capacity ? 2 * f->capacity : 64;
        transfer_layer *grown = realloc(f->layers, capacity * sizeof *grown);
        if (!grown) {
            at_nomem(err);
            return NULL;
        }
        f->layers = grown;
        f->capacity = capacity;
    }
    transfer_layer *l = &f->layers[f->count];
    *l = (transfer_layer){.name = strdup(name)};
    f->count += l->name != NULL;
    if (l->name)
        return l;
    at_nomem(err);
    return NULL;
}

/* The name as our rows have it; "" for names that only Keras 1 or a position gives. */
static const char *known_name(const char *path)
{
    static const char *const names[] = {"kernel", "bias",        "gamma",
                                        "beta",   "moving_mean", "moving_variance"};
    const char *last = strrchr(path, '/');
    last = last ? last + 1 : path;
    size_t length = strcspn(last, ":");
    if (length == strlen("depthwise_kernel") && !strncmp(last, "depthwise_kernel", length))
        return "kernel";
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (length == strlen(names[i]) && !strncmp(last, names[i], length))
            return names[i];
    return "";
}

/* Takes path. What is no float32 (a generator's state) matters only to a row that wants it. */
static int add_weight(transfer_file *f, transfer_layer *l, char *path, at_error *err)
{
    int64_t dims[H5_DIMS] = {0};
    transfer_weight w = {.path = path, .name = strdup(path ? known_name(path) : "")};
    transfer_weight *grown = reallocarray(l->weights, l->count + 1, sizeof *grown);
    l->weights = grown ? grown : l->weights;
    if (!path || !w.name || !grown) {
        free(path);
        free(w.name);
        return at_nomem(err);
    }
    if (at_h5_shape(f->file, path, &w.ndims, dims, NULL) != AT_OK)
        w.ndims = -1;
    memcpy(w.dims, dims, sizeof w.dims);
    grown[l->count++] = w;
    return 0;
}

/* The part of "a/b/kernel" before the last slash, without what is before it: "b". */
static void scope_of(const char *weight, char out[NAME_BYTES])
{
    const char *end = strrchr(weight, '/'), *begin = end;
    while (begin && begin > weight && begin[-1] != '/')
        begin--;
    snprintf(out, NAME_BYTES, "%.*s", end ? (int)(end - begin) : 0, end ? begin : "");
}

/* ---- Keras's legacy layout ------------------------------------------------------------------- */

/* Whether the weights of one group are of several layers: it is a model within the model. */
static bool is_nested(const h5_names *weights)
{
    char first[NAME_BYTES], other[NAME_BYTES];
    for (size_t i = 0; i < weights->count; i++) {
        scope_of(weights->items[i], i ? other : first);
        if (i && strcmp(first, other) != 0)
            return true;
    }
    return false;
}

/* The layer listed last, if that is its name, or a new one. */
static transfer_layer *layer_named(transfer_file *f, size_t from, const char *name, at_error *err)
{
    for (size_t i = from; i < f->count; i++)
        if (!strcmp(f->layers[i].name, name))
            return &f->layers[i];
    return add_layer(f, name, err);
}

static int add_legacy_layer(transfer_file *f, const char *top, const char *name, at_error *err)
{
    h5_names weights = {0};
    char scope[NAME_BYTES];
    size_t from = f->count;
    char *group = at_format("%s%s%s", top, *top ? "/" : "", name);
    int status =
        group ? at_h5_read_list(f->file, group, "weight_names", &weights, err) : at_nomem(err);
    bool nested = is_nested(&weights);
    f->rgb |= !strcmp(name, "rescale");
    for (size_t i = 0; i < weights.count && !status; i++) {
        scope_of(weights.items[i], scope);
        transfer_layer *l = layer_named(f, from, nested ? scope : name, err);
        status = l ? add_weight(f, l, at_format("%s/%s", group, weights.items[i]), err) : AT_ENOMEM;
    }
    h5_names_fini(&weights);
    free(group);
    return status;
}

/* 1: it is of this layout, with its layers in the group `top`. */
static int read_legacy(transfer_file *f, const char *top, at_error *err)
{
    h5_names layers = {0};
    int status = at_h5_read_list(f->file, *top ? top : "/", "layer_names", &layers, err);
    for (size_t i = 0; i < layers.count && !status; i++)
        status = add_legacy_layer(f, top, layers.items[i], err);
    status = status ? status : layers.count > 0;
    h5_names_fini(&layers);
    f->layout = "keras legacy";
    return status;
}

/* ---- Keras 3's layout ------------------------------------------------------------------------ */

/* The weights have numbers: their order is not that of the names beyond 9. */
static int add_vars(transfer_file *f, const char *group, at_error *err)
{
    h5_names name = {0}, members = {0};
    const char *last = strrchr(group, '/');
    char *vars = at_format("%s/vars", group);
    int status = vars ? at_h5_read_list(f->file, vars, "name", &name, err) : at_nomem(err);
    if (!status)
        status = at_h5_members(f->file, vars, &members, err);
    last = name.count ? name.items[0] : last ? last + 1 : group;
    f->rgb |= !strcmp(last, "rescale");
    transfer_layer *l = !status && members.count ? add_layer(f, last, err) : NULL;
    if (!status && members.count && !l)
        status = AT_ENOMEM;
    for (size_t i = 0; i < members.count && !status; i++)
        status = add_weight(f, l, at_format("%s/%zu", vars, i), err);
    h5_names_fini(&members);
    h5_names_fini(&name);
    free(vars);
    return status;
}

/* Layers may hold layers, and their own variables beside them. */
static int walk_layers(transfer_file *f, const char *group, int depth, at_error *err)
{
    h5_names members = {0};
    int status = at_h5_members(f->file, group, &members, err);
    if (!status && depth > MOST_DEPTH)
        status = at_fail(err, AT_EINPUT, "%s: groups more than %d deep", f->path, MOST_DEPTH);
    for (size_t i = 0; i < members.count && !status; i++) {
        if (!strcmp(members.items[i], "vars")) {
            status = add_vars(f, group, err);
        } else if (strcmp(members.items[i], "seed_generator") != 0) {
            char *inner = at_format("%s/%s", group, members.items[i]);
            status = inner ? walk_layers(f, inner, depth + 1, err) : at_nomem(err);
            free(inner);
        }
    }
    h5_names_fini(&members);
    return status;
}

/* ---- a model of ours ------------------------------------------------------------------------- */

static int add_own_row(transfer_file *f, const nn_row *row, at_error *err)
{
    keras_weight own[KERAS_WEIGHTS];
    int n = keras_row_weights(f->net, row, own);
    transfer_layer *l = n ? add_layer(f, row->row.name, err) : NULL;
    if (l && !(l->weights = calloc((size_t)n, sizeof *l->weights)))
        return at_nomem(err);
    for (int i = 0; l && i < n; i++) {
        transfer_weight *w = &l->weights[l->count++];
        *w = (transfer_weight){.path = at_format("%s/%s", own[i].layer, own[i].name),
                               .name = strdup(own[i].name),
                               .ndims = own[i].ndims,
                               .own = malloc(sizeof *w->own)};
        memcpy(w->dims, own[i].dims, sizeof w->dims);
        if (!w->path || !w->name || !w->own)
            return at_nomem(err);
        *w->own = own[i];
    }
    return n && !l ? AT_ENOMEM : 0;
}

static int read_own(transfer_file *f, at_error *err)
{
    f->layout = "atoll";
    f->rgb = true;
    f->net = at_model_load(f->path, NULL, err);
    int status = f->net ? 0 : AT_EINPUT;
    for (size_t i = 0; !status && i < f->net->row_count; i++)
        status = add_own_row(f, &f->net->rows[i], err);
    return status;
}

/* ---- the file -------------------------------------------------------------------------------- */

static int read_keras(transfer_file *f, at_error *err)
{
    static const char *const tops[] = {"", "model_weights"};
    h5_names members = {0};
    int status = read_legacy(f, tops[0], err), found = status > 0;
    status = found ? 0 : status;
    if (!status && !found)
        status = at_h5_members(f->file, "/", &members, err);
    for (size_t i = 0; i < members.count && !status && !found; i++) {
        if (!strcmp(members.items[i], tops[1])) {
            status = read_legacy(f, tops[1], err);
            found = true;
        } else if (!strcmp(members.items[i], "layers")) {
            f->layout = "keras 3";
            status = walk_layers(f, "layers", 0, err);
            found = true;
        }
    }
    h5_names_fini(&members);
    if (status >= 0 && f->count == 0)
        return at_fail(err, AT_EINPUT,
                       "%s: an HDF5 file without weights of Keras or atoll: it has no layers, no "
                       "model_weights and no layer_names with weights in them",
                       f->path);
    return status < 0 ? status : 0;
}

static at_h5 *open_archive(transfer_file *f, size_t limit, at_error *err)
{
    size_t bytes;
    int status = keras_zip_read(f->path, "model.weights.h5", limit, &f->image, &bytes, err);
    return status ? NULL : at_h5_open_bytes(f->path, f->image, bytes, err);
}

static int read_file(transfer_file *f, at_error *err)
{
    size_t limit;
    f->file =
        keras_is_zip(f->path, &limit) ? open_archive(f, limit, err) : at_h5_open(f->path, err);
    if (!f->file)
        return AT_EINPUT;
    bool own;
    int rc = at_h5_has_text(f->file, "atoll_format", &own, err);
    return rc != AT_OK ? rc : own ? read_own(f, err) : read_keras(f, err);
}

transfer_file *transfer_open(const char *path, at_error *err)
{
    at_error mine = {0};
    transfer_file *f = calloc(1, sizeof *f);
    if (!f) {
        at_nomem(err);
        return NULL;
    }
    f->path = path;
    if (read_file(f, &mine) == 0)
        return f;
    transfer_close(f);
    at_fail(err, mine.code == AT_ENOENT ? AT_EINPUT : mine.code, "%s", mine.message);
    return NULL;
}

void transfer_close(transfer_file *f)
{
    if (!f)
        return;
    for (size_t i = 0; i < f->count; i++) {
        transfer_layer *l = &f->layers[i];
        for (size_t k = 0; k < l->count; k++) {
            free(l->weights[k].path);
            free(l->weights[k].name);
            free(l->weights[k].own);
        }
        free(l->weights);
        free(l->name);
    }
    free(f->layers);
    at_net_free(f->net);
    at_h5_close(f->file, NULL);
    free(f->image);
    free(f);
}

const char *transfer_layout(const transfer_file *f)
{
    return f->layout;
}

bool transfer_is_rgb(const transfer_file *f)
{
    return f->rgb;
}

size_t transfer_layers(const transfer_file *f)
{
    return f->count;
}

const transfer_layer *transfer_layer_at(const transfer_file *f, size_t i)
{
    return &f->layers[i];
}

const transfer_layer *transfer_find(const transfer_file *f, const char *name)
{
    for (size_t i = 0; i < f->count; i++)
        if (!strcmp(f->layers[i].name, name))
            return &f->layers[i];
    return NULL;
}

int transfer_read(transfer_file *f, const transfer_weight *w, float *values, size_t count,
                  at_error *err)
{
    if (!w->own)
        return at_h5_read_floats(f->file, w->path, values, count, err);
    keras_give(w->own, values);
    return 0;
}
