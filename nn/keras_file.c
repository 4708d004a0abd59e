/* SPDX-License-Identifier: Apache-2.0
 * Opening a model file of any form, and taking weights from it.
 */
#include "keras_file.h"

#include <ctype.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MOST_JSON = 64 << 20, WEIGHTS_GROW = 16, WEIGHTS_LEAST = 16 << 20 };

/* ---- Keras 3's names of groups -------------------------------------------------------------- */
/* "DepthwiseConv2D" is depthwise_conv2d, "ReLU" re_lu. */
static void snake_case(const char *class, char *out, size_t bytes)
{
    size_t n = 0;
    for (size_t i = 0; class[i] && n + 3 < bytes; i++) {
        bool upper = isupper((unsigned char)class[i]);
        bool word =
            islower((unsigned char)class[i + 1]) || (i > 0 && islower((unsigned char)class[i - 1]));
        if (i > 0 && upper && word)
            out[n++] = '_';
        out[n++] = (char)tolower((unsigned char)class[i]);
    }
    out[n] = '\0';
}

static const char *class_of(const at_node *config, size_t i)
{
    const at_node *layer = at_node_at(at_node_path(config, "config.layers"), i);
    return at_node_string(at_node_get(layer, "class_name"), "");
}

char *keras_layer_group(const at_node *config, size_t i)
{
    char name[128];
    const char *class = class_of(config, i);
    size_t before = 0;
    for (size_t k = 0; k < i; k++)
        before += strcmp(class_of(config, k), class) == 0;
    snake_case(class, name, sizeof name);
    return before ? at_format("layers/%s_%zu", name, before) : at_format("layers/%s", name);
}

/* ---- opening -------------------------------------------------------------------------------- */
static at_node *parse(const keras_file *f, const char *what, const char *text, size_t bytes,
                      at_error *err)
{
    at_node *node = at_json_parse(text, bytes, what, err);
    if (!node)
        at_fail_in(err, "%s", f->path);
    return node;
}

/* A text attribute of the root into the tree; JSON where it is no plain text. */
static int take_attribute(keras_file *f, const char *name, bool json, at_error *err)
{
    char *text = at_h5_read_text(f->h, name, err);
    if (!text)
        return err->code;
    at_node *item = json ? parse(f, name, text, strlen(text), err) : at_node_new_string(text);
    free(text);
    if (!item)
        return json ? err->code : at_nomem(err);
    at_node_set(f->own, name, item);
    return AT_OK;
}

static int read_own(keras_file *f, at_error *err)
{
    static const struct {
        const char *name;
        bool json, optional;
    } parts[] = {
        {"atoll_format", false, false}, {"atoll_rows", false, false},
        {"atoll_model", false, false},  {"atoll_classes", true, false},
        {"atoll_training", true, true}, {"atoll_checksum", false, true},
        {"atoll_fit", false, true},
    };
    f->own = at_node_new(AT_MAP);
    int rc = f->own ? AT_OK : at_nomem(err);
    for (size_t i = 0; i < sizeof parts / sizeof *parts && rc == AT_OK; i++) {
        bool there = true;
        if (parts[i].optional)
            rc = at_h5_has_text(f->h, parts[i].name, &there, err);
        if (rc == AT_OK && there)
            rc = take_attribute(f, parts[i].name, parts[i].json, err);
    }
    return rc;
}

/* The layers of weights alone that have any, in order. */
static int read_order(keras_file *f, at_error *err)
{
    h5_names layers = {0};
    int rc = at_h5_read_list(f->h, "/", "layer_names", &layers, err);
    for (size_t i = 0; i < layers.count && rc == AT_OK; i++) {
        h5_names weights = {0};
        rc = at_h5_read_list(f->h, layers.items[i], "weight_names", &weights, err);
        if (rc == AT_OK && weights.count > 0)
            rc = h5_names_add(&f->order, layers.items[i], strlen(layers.items[i]), err);
        h5_names_fini(&weights);
    }
    h5_names_fini(&layers);
    return rc;
}

/* Which of the three layouts an HDF5 file has. */
static int find_layout(keras_file *f, at_error *err)
{
    h5_names members = {0};
    int rc = at_h5_members(f->h, "/", &members, err);
    if (rc == AT_OK && h5_names_have(&members, "model_weights"))
        f->layout = KERAS_WHOLE;
    else if (rc == AT_OK && h5_names_have(&members, "layers"))
        f->layout = KERAS_VARS;
    else if (rc == AT_OK) {
        f->layout = KERAS_LEGACY_WEIGHTS;
        rc = read_order(f, err);
        if (rc == AT_OK && f->order.count == 0)
            rc = at_fail(err, AT_EINPUT,
                         "%s: an HDF5 file, but no model: neither 'model_weights' nor 'layers' nor "
                         "attribute 'layer_names' is in it",
                         f->path);
    }
    h5_names_fini(&members);
    return rc;
}

static int open_h5(keras_file *f, at_error *err)
{
    f->h = at_h5_open(f->path, err);
    if (!f->h)
        return err->code;
    bool own = false, model = false;
    int rc = at_h5_has_text(f->h, "atoll_format", &own, err);
    if (rc == AT_OK && own)
        rc = read_own(f, err);
    if (rc == AT_OK)
        rc = find_layout(f, err);
    if (rc == AT_OK && !own)
        rc = at_h5_has_text(f->h, "model_config", &model, err);
    if (rc != AT_OK || !model)
        return rc;
    char *text = at_h5_read_text(f->h, "model_config", err);
    if (text)
        f->config = parse(f, "model_config", text, strlen(text), err);
    free(text);
    return f->config ? AT_OK : err->code;
}

static at_node *read_member(keras_file *f, const char *member, at_error *err)
{
    char *text = NULL;
    size_t bytes = 0;
    if (keras_zip_read(f->path, member, MOST_JSON, &text, &bytes, err) != AT_OK)
        return NULL;
    at_node *node = parse(f, member, text, bytes, err);
    free(text);
    return node;
}

static int open_zip(keras_file *f, size_t limit, at_error *err)
{
    size_t bytes;
    f->layout = KERAS_VARS;
    at_node *metadata = read_member(f, "metadata.json", err);
    if (!metadata || !(f->config = read_member(f, "config.json", err))) {
        at_node_free(metadata);
        return err->code;
    }
    if (at_node_get(metadata, "atoll"))
        f->own = at_node_copy(at_node_get(metadata, "atoll"));
    at_node_free(metadata);
    int rc = keras_zip_read(f->path, "model.weights.h5", limit, &f->image, &bytes, err);
    if (rc == AT_OK && !(f->h = at_h5_open_bytes(f->path, f->image, bytes, err)))
        rc = err->code;
    return rc;
}

bool keras_is_zip(const char *path, size_t *limit)
{
    char head[4] = {0};
    struct stat st = {0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    bool zip = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) &&
               pread(fd, head, sizeof head, 0) == sizeof head && memcmp(head, "PK\3\4", 4) == 0;
    if (fd >= 0)
        close(fd);
    if (!at_mul((size_t)st.st_size, WEIGHTS_GROW, SIZE_MAX / 2, limit))
        *limit = SIZE_MAX / 2;
    *limit = *limit > WEIGHTS_LEAST ? *limit : WEIGHTS_LEAST;
    return zip;
}

int keras_file_open(keras_file *f, const char *path, at_error *err)
{
    size_t limit;
    *f = (keras_file){.path = path};
    return keras_is_zip(path, &limit) ? open_zip(f, limit, err) : open_h5(f, err);
}

void keras_file_close(keras_file *f)
{
    at_h5_close(f->h, NULL);
    at_node_free(f->own);
    at_node_free(f->config);
    free(f->image);
    h5_names_fini(&f->order);
    *f = (keras_file){0};
}

/* ---- weights -------------------------------------------------------------------------------- */
/* Of all layers of the configuration, the how-manieth with weights is this row's. */
static size_t rank_of(const at_node *config, const at_net *net, size_t layer)
{
    size_t rank = 0;
    for (size_t i = 0; i < layer; i++) {
        const nn_row *row = nn_net_row(net, keras_layer_name(config, i));
        rank += row && row->param_count + row->state_count > 0;
    }
    return rank;
}

/* The layer's datasets, in Keras's order. */
static int find_places(keras_file *f, const at_node *config, const at_net *net, size_t layer,
                       h5_names *out, at_error *err)
{
    h5_names names = {0};
    char *group = NULL, *place;
    if (f->layout == KERAS_VARS)
        group = keras_layer_group(config, layer);
    else if (f->layout == KERAS_WHOLE)
        group = at_format("model_weights/%s", keras_layer_name(config, layer));
    else if (rank_of(config, net, layer) < f->order.count)
        group = strdup(f->order.items[rank_of(config, net, layer)]);
    else
        return at_fail(err, AT_EINPUT, "%s: weights of %zu layers; '%s' is one more", f->path,
                       f->order.count, keras_layer_name(config, layer));
    char *vars = at_format("%s/vars", group ? group : "");
    int rc = group && vars ? AT_OK : at_nomem(err);
    if (rc == AT_OK && f->layout == KERAS_VARS)
        rc = at_h5_members(f->h, vars, &names, err);
    else if (rc == AT_OK)
        rc = at_h5_read_list(f->h, group, "weight_names", &names, err);
    for (size_t i = 0; i < names.count && rc == AT_OK; i++) {
        place = f->layout == KERAS_VARS ? at_format("%s/%zu", vars, i)
                                        : at_format("%s/%s", group, names.items[i]);
        rc = place ? h5_names_add(out, place, strlen(place), err) : at_nomem(err);
        free(place);
    }
    free(vars);
    free(group);
    h5_names_fini(&names);
    return rc;
}

static bool has_grown(const keras_weight *w, const keras_source *s)
{
    return w->ndims == 4 && (s->grown[0] || s->grown[1]);
}

/* Our i-th value's index in Keras's values; false: it is a zero that the window has grown by. */
static bool find_value(const keras_weight *w, const keras_weight *stored, const keras_source *s,
                       size_t i, size_t *index)
{
    if (!has_grown(w, s)) {
        *index = keras_index(w, i);
        return true;
    }
    int64_t kw = w->dims[1], x = (int64_t)i % kw - s->shift[1];
    int64_t y = (int64_t)i / kw % w->dims[0] - s->shift[0];
    int64_t plane = (int64_t)i / (kw * w->dims[0]);
    if (x < 0 || y < 0 || y >= stored->dims[0] || x >= stored->dims[1])
        return false;
    *index = keras_index(stored, (size_t)((plane * stored->dims[0] + y) * stored->dims[1] + x));
    return true;
}

int keras_file_read(keras_file *f, const char *place, const keras_weight *w,
                    const keras_source *source, at_error *err)
{
    keras_weight stored = *w;
    size_t bad, index, count = 1;
    for (int i = 0; i < 2 && w->ndims == 4; i++)
        stored.dims[i] -= source->grown[i];
    if (w->ndims == 4 && source->hwio) {
        stored.dims[3] *= stored.dims[2] / (int64_t)w->inputs;
        stored.dims[2] = (int64_t)w->inputs;
    }
    int rc = at_h5_expect_shape(f->h, place, stored.ndims, stored.dims, err);
    if (rc != AT_OK || !w->data)
        return rc;
    for (int i = 0; i < stored.ndims; i++)
        count *= (size_t)stored.dims[i]; /* it has been seen to lie in the file */
    float *values = malloc(count * sizeof *values + 1);
    rc = values ? at_h5_read_floats(f->h, place, values, count, err) : at_nomem(err);
    if (rc == AT_OK && !has_grown(w, source))
        keras_take(w, values);
    for (size_t i = 0; rc == AT_OK && has_grown(w, source) && i < w->count; i++)
        w->data[i] = find_value(w, &stored, source, i, &index) ? values[index] : 0;
    if (rc == AT_OK && keras_find_bad_value(w, &bad)) {
        bool there = find_value(w, &stored, source, bad, &index);
        rc = at_fail(err, AT_EINPUT, "%s: dataset '%s' has no usable value at %zu (%g)", f->path,
                     place, there ? index : 0, (double)w->data[bad]);
    }
    free(values);
    return rc;
}

static void fill_absent(const keras_weight *w)
{
    float value = strcmp(w->name, "gamma") == 0 || strcmp(w->name, "moving_variance") == 0;
    for (size_t i = 0; w->data && i < w->count; i++)
        w->data[i] = value;
}

int keras_file_take(keras_file *f, const at_node *config, const at_net *net, const nn_row *row,
                    const keras_source *source, at_error *err)
{
    keras_weight weights[KERAS_WEIGHTS];
    h5_names places = {0};
    int n = keras_row_weights(net, row, weights);
    size_t expected = 0, next = 0;
    for (int i = 0; i < n; i++)
        expected += !source->absent[i];
    int rc = find_places(f, config, net, source->layer, &places, err);
    if (rc == AT_OK && places.count != expected)
        rc = at_fail(err, AT_EINPUT, "%s: layer '%s' has %zu weights, not %zu", f->path,
                     keras_layer_name(config, source->layer), places.count, expected);
    for (int i = 0; i < n && rc == AT_OK; i++) {
        if (source->absent[i])
            fill_absent(&weights[i]);
        else
            rc = keras_file_read(f, places.items[next++], &weights[i], source, err);
    }
    h5_names_fini(&places);
    return rc;
}

int keras_file_statistic(keras_file *f, const at_node *config, size_t layer, size_t k, float *out,
                         size_t count, at_error *err)
{
    h5_names places = {0};
    int rc = find_places(f, config, NULL, layer, &places, err);
    if (rc == AT_OK && k >= places.count)
        rc = at_fail(err, AT_EINPUT, "%s: layer '%s' has %zu weights, not more than %zu", f->path,
                     keras_layer_name(config, layer), places.count, k);
    if (rc == AT_OK)
        rc = at_h5_read_floats(f->h, places.items[k], out, count, err);
    h5_names_fini(&places);
    return rc;
}
