/* SPDX-License-Identifier: Apache-2.0
 * Keras 3's .keras file: a zip archive of three members, stored without compression.
 *
 *     metadata.json       {"keras_version": ..., "atoll": {...}}: what keras_write.c keeps as
 *                         attributes; Keras does not read it
 *     config.json         the model as in model_config, and compile_config
 *     model.weights.h5    the weights by class and number
 *
 * Members carry no time, so equal trainings give equal files.
 */
#include <archive.h>
#include <archive_entry.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "keras_file.h"

enum { PIECE = 1 << 16 };

static int archive_fail(const char *path, struct archive *a, at_error *err)
{
    const char *why = archive_error_string(a);
    return at_fail(err, AT_EINPUT, "%s: a damaged .keras file: %s", path,
                   why ? why : "no zip archive");
}

/* ---- reading -------------------------------------------------------------------------------- */
/* The member that was found, as long as it is within the limit. */
static int read_entry(const char *path, const char *member, struct archive *a, size_t limit,
                      at_text *out, at_error *err)
{
    char *piece = malloc(PIECE);
    la_ssize_t got = piece ? 1 : 0;
    int rc = piece ? AT_OK : at_nomem(err);
    while (got > 0 && rc == AT_OK) {
        got = archive_read_data(a, piece, PIECE);
        if (got < 0)
            rc = archive_fail(path, a, err);
        else if ((size_t)got > limit - out->length)
            rc = at_fail(err, AT_EINPUT, "%s: '%s' unpacks to more than %zu bytes", path, member,
                         limit);
        else
            at_text_append(out, piece, (size_t)got);
        if (out->failed)
            rc = at_nomem(err);
    }
    free(piece);
    return rc;
}

static int find_entry(const char *path, const char *member, struct archive *a, at_error *err)
{
    enum { MOST_MEMBERS = 10000 };
    struct archive_entry *entry;
    for (int i = 0; i < MOST_MEMBERS; i++) {
        int status = archive_read_next_header(a, &entry);
        if (status == ARCHIVE_EOF)
            break;
        if (status != ARCHIVE_OK)
            return archive_fail(path, a, err);
        const char *name = archive_entry_pathname(entry);
        if (name && strcmp(name, member) == 0)
            return archive_entry_is_encrypted(entry)
                       ? at_fail(err, AT_EINPUT, "%s: '%s' is encrypted", path, member)
                       : AT_OK;
    }
    return at_fail(err, AT_EINPUT, "%s: no .keras file: '%s' is missing", path, member);
}

int keras_zip_read(const char *path, const char *member, size_t limit, char **data, size_t *bytes,
                   at_error *err)
{
    at_text out = {0};
    struct archive *a = archive_read_new();
    if (!a)
        return at_nomem(err);
    archive_read_support_format_zip_seekable(a);
    int rc = archive_read_open_filename(a, path, PIECE) == ARCHIVE_OK ? AT_OK
                                                                      : archive_fail(path, a, err);
    if (rc == AT_OK)
        rc = find_entry(path, member, a, err);
    if (rc == AT_OK)
        rc = read_entry(path, member, a, limit, &out, err);
    if (rc == AT_OK && out.length == 0)
        rc = at_fail(err, AT_EINPUT, "%s: '%s' is empty", path, member);
    archive_read_free(a);
    if (rc != AT_OK) {
        at_text_fini(&out);
        return rc;
    }
    *data = out.data;
    *bytes = out.length;
    return AT_OK;
}

/* ---- writing -------------------------------------------------------------------------------- */
static int write_fail(struct archive *a, at_error *err)
{
    const char *why = archive_error_string(a);
    return at_fail(err, AT_EIO, "%s", why ? why : "cannot write the archive");
}

static int begin_member(struct archive *a, const char *name, int64_t bytes, at_error *err)
{
    struct archive_entry *entry = archive_entry_new();
    if (!entry)
        return at_nomem(err);
    archive_entry_set_pathname(entry, name);
    archive_entry_set_filetype(entry, AE_IFREG);
    archive_entry_set_perm(entry, 0644);
    archive_entry_set_size(entry, bytes);
    int rc = archive_write_header(a, entry) == ARCHIVE_OK ? AT_OK : write_fail(a, err);
    archive_entry_free(entry);
    return rc;
}

/* Takes the tree, which may be NULL for want of memory. */
static int add_json(struct archive *a, const char *name, at_node *tree, at_error *err)
{
    char *text = tree ? at_json_print(tree, false) : NULL;
    at_node_free(tree);
    if (!text)
        return at_nomem(err);
    size_t bytes = strlen(text);
    int rc = begin_member(a, name, (int64_t)bytes, err);
    if (rc == AT_OK && archive_write_data(a, text, bytes) != (la_ssize_t)bytes)
        rc = write_fail(a, err);
    free(text);
    return rc;
}

/* A file of the disk, in pieces. */
static int add_file(struct archive *a, const char *name, const char *path, at_error *err)
{
    FILE *file = fopen(path, "rb");
    char *piece = malloc(PIECE);
    int rc = !file ? at_fail(err, AT_EIO, "%s: %m", path) : piece ? AT_OK : at_nomem(err);
    long bytes = rc == AT_OK && fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
    if (rc == AT_OK && (bytes < 0 || fseek(file, 0, SEEK_SET) != 0))
        rc = at_fail(err, AT_EIO, "%s: %m", path);
    if (rc == AT_OK)
        rc = begin_member(a, name, bytes, err);
    size_t got = 1;
    while (rc == AT_OK && (got = fread(piece, 1, PIECE, file)) > 0)
        if (archive_write_data(a, piece, got) != (la_ssize_t)got)
            rc = write_fail(a, err);
    if (file && ferror(file) && rc == AT_OK)
        rc = at_fail(err, AT_EIO, "%s: cannot be read", path);
    free(piece);
    if (file)
        fclose(file);
    return rc;
}

/* Keras 3's form of the model: the same layers, and with what it is compiled. Takes config. */
static at_node *model_json(at_node *config, const at_model_info *info)
{
    at_node *training = keras_training(info->training), *own = at_node_new(AT_MAP);
    at_set_string(config, "module", "keras.src.models.functional");
    at_set_string(config, "registered_name", "Functional");
    static const char *const same[] = {"loss", "metrics", "weighted_metrics", "loss_weights"};
    at_node_set(own, "optimizer", at_node_copy(at_node_get(training, "optimizer_config")));
    for (size_t i = 0; i < sizeof same / sizeof *same; i++)
        at_node_set(own, same[i], at_node_copy(at_node_get(training, same[i])));
    static const char *const objects[] = {"optimizer", "loss"};
    static const char *const modules[] = {"keras.optimizers", "keras.losses"};
    for (int i = 0; i < 2; i++) {
        at_node *object = at_node_copy(at_node_get(own, objects[i]));
        at_set_string(object, "module", modules[i]);
        at_node_set(object, "registered_name", at_node_new(AT_NULL));
        at_node_set(own, objects[i], object);
    }
    at_node_set(config, "compile_config", own);
    at_node_free(training);
    return config;
}

static at_node *metadata_json(const at_net *net, const at_model_info *info)
{
    at_node *root = at_node_new(AT_MAP), *own = keras_own(net, info);
    at_set_string(root, "keras_version", "3.0.0");
    if (own && at_node_set(root, "atoll", own))
        return root;
    at_node_free(root);
    return NULL;
}

/* Takes config. */
static int write_members(struct archive *a, const at_net *net, const at_model_info *info,
                         at_node *config, const char *weights, at_error *err)
{
    int rc = add_json(a, "metadata.json", metadata_json(net, info), err);
    if (rc != AT_OK)
        at_node_free(config);
    else
        rc = add_json(a, "config.json", model_json(config, info), err);
    if (rc == AT_OK)
        rc = add_file(a, "model.weights.h5", weights, err);
    if (archive_write_close(a) != ARCHIVE_OK && rc == AT_OK)
        rc = write_fail(a, err);
    return rc;
}

static int write_archive(const char *path, const char *weights, const at_net *net,
                         const at_model_info *info, at_error *err)
{
    at_node *config = keras_config(net, info->model, err);
    struct archive *a = archive_write_new();
    if (!config || !a) {
        at_node_free(config);
        archive_write_free(a);
        return config ? at_nomem(err) : err->code;
    }
    archive_write_set_format_zip(a);
    archive_write_zip_set_compression_store(a);
    int rc;
    if (archive_write_open_filename(a, path) == ARCHIVE_OK) {
        rc = write_members(a, net, info, config, weights, err);
    } else {
        at_node_free(config);
        rc = write_fail(a, err);
    }
    archive_write_free(a);
    return rc;
}

int keras_archive_save(at_net *net, const at_model_info *info, const char *path, at_error *err)
{
    at_error mine = {0};
    at_atomic *file = at_atomic_open(path, &mine);
    char *weights = file ? at_format("%s.weights.h5", at_atomic_path(file)) : NULL;
    int rc = !file     ? mine.code
             : weights ? keras_vars_save(net, info, weights, &mine)
                       : at_nomem(&mine);
    if (rc == AT_OK)
        rc = write_archive(at_atomic_path(file), weights, net, info, &mine);
    if (weights)
        unlink(weights);
    free(weights);
    if (file && rc != AT_OK)
        at_atomic_abort(file);
    else if (file)
        rc = at_atomic_commit(file, &mine);
    return rc == AT_OK ? rc : at_fail(err, rc, "saving %s: %s", path, mine.message);
}
