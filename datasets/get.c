/* SPDX-License-Identifier: Apache-2.0
 * `atoll dataset get`: puts the source of a well-known data set into a folder that ingest reads.
 *
 *     --from FILE     checked by reading it to its end as a source, then copied
 *     --from FOLDER   the same; a Debian package's folder serves so by itself
 *     otherwise       downloaded from its address
 *
 * The label dataset.yaml comes last: a folder with it is complete. */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { BLOCK = 1 << 20, LISTED_FILES = 16, MAX_DEPTH = 64 };

struct getting {
    const at_known_dataset *set;
    const char *out;
    at_node *files; /* of the label; the first few */
    uint64_t bytes, count;
    at_progress *progress;
};

/* ---- checks ---- */

static const at_known_dataset *find(const char *name, at_error *err)
{
    size_t n;
    const at_known_dataset *all = at_known_datasets(&n);
    const char *names[16];
    for (size_t i = 0; i < n && i < 16; i++) {
        names[i] = all[i].name;
        if (!strcmp(name, all[i].name))
            return &all[i];
    }
    const char *nearest = at_nearest(name, names, n);
    at_fail(err, AT_EINPUT, "\"%s\" is no known data set%s%s%s; `atoll dataset list` names them",
            name, nearest ? ": did you mean \"" : "", nearest ? nearest : "", nearest ? "\"?" : "");
    return NULL;
}

/* Reads it all as ingest will, without decoding. */
static int check_source(const char *path, at_error *err)
{
    at_source *s = at_source_open(path, NULL, err);
    if (!s)
        return err->code;
    at_item item = {0};
    at_progress *progress = at_progress_new("check", s->total, s->unit);
    uint64_t pictures = 0;
    int code;
    while ((code = at_source_next(s, &item, err)) == 1) {
        pictures += !item.bad && item.class_name.length;
        at_progress_update(progress, s->done, NULL);
        if (at_interrupted())
            code = at_fail(err, AT_EINTERRUPTED, "interrupted while checking %s", path);
        if (code < 0)
            break;
    }
    at_progress_end(progress, NULL);
    at_item_fini(&item);
    at_source_close(s);
    if (code == 0 && pictures == 0)
        code = at_fail(err, AT_EINPUT, "%s: no file in a class folder", path);
    return code;
}

/* The file itself, or what a broken download or copy left of it. */
static bool is_part_of(const char *name, const char *file)
{
    size_t n = strlen(file);
    return !strncmp(name, file, n) &&
           (!name[n] || !strcmp(name + n, ".part") || !strncmp(name + n, ".tmp.", 5));
}

static bool is_ours(const struct getting *g, const char *name, const char *coming)
{
    bool ours = !strcmp(name, ".") || !strcmp(name, "..") || (coming && is_part_of(name, coming));
    for (size_t i = 0; !ours && i < 4 && g->set->files[i].name; i++)
        ours = is_part_of(name, g->set->files[i].name);
    return ours;
}

/* 1: the label says that it is all there; 0: there is no label; AT_EINPUT: another data set. */
static int check_label(const struct getting *g, const char *origin, at_error *err)
{
    char *path = at_path_join(g->out, at_source_label_file);
    if (!path)
        return at_nomem(err);
    at_node *label = at_file_exists(path) ? at_yaml_read(path, err) : NULL;
    int code = label ? 1 : at_file_exists(path) ? AT_EINPUT : 0;
    const char *name = at_node_string(at_node_get(label, "name"), "?");
    const char *from = at_node_string(at_node_get(label, "origin"), "?");
    if (label && (strcmp(name, g->set->name) || strcmp(from, origin)))
        code = at_fail(err, AT_EINPUT, "%s holds %s from %s: choose another folder or remove it",
                       g->out, name, from);
    at_node_free(label);
    free(path);
    return code;
}

/* 0: the folder is new, empty or holds a part of the data set; 1: all of it; AT_EINPUT: something
 * else, which is never touched. coming: a further name that is ours. */
static int check_folder(const struct getting *g, const char *origin, const char *coming,
                        at_error *err)
{
    int code = check_label(g, origin, err);
    DIR *dir = code == 0 ? opendir(g->out) : NULL;
    if (!dir)
        return code || errno == ENOENT ? code : at_fail_errno(err, errno, "cannot read %s", g->out);
    struct dirent *e;
    while (code == 0 && (e = readdir(dir)))
        if (!is_ours(g, e->d_name, coming))
            code = at_fail(err, AT_EINPUT, "%s holds something else (%s): choose another folder",
                           g->out, e->d_name);
    closedir(dir);
    return code;
}

/* ---- copying ---- */

static int note_file(struct getting *g, const char *name, uint64_t bytes, const char *sha256)
{
    g->bytes += bytes;
    if (++g->count > LISTED_FILES)
        return 0;
    at_node *row = at_node_add(g->files, at_node_new(AT_MAP));
    bool set = row && at_set_string(row, "file", name) &&
               at_set_int(row, "bytes", (int64_t)bytes) && at_set_string(row, "sha256", sha256);
    return set ? 0 : AT_ENOMEM;
}

/* Copies and hashes; *bytes counts. */
static int copy_stream(struct getting *g, FILE *from, FILE *to, at_sha256 *h, uint64_t *bytes)
{
    char *block = malloc(BLOCK);
    size_t n;
    int code = block ? 0 : AT_ENOMEM;
    while (code == 0 && (n = fread(block, 1, BLOCK, from)) > 0) {
        at_sha256_add(h, block, n);
        if (fwrite(block, 1, n, to) != n)
            code = AT_EIO;
        *bytes += n;
        at_progress_update(g->progress, (double)(g->bytes + *bytes), NULL);
        if (at_interrupted())
            code = AT_EINTERRUPTED;
    }
    free(block);
    return code == 0 && ferror(from) ? AT_EIO : code;
}

static int copy_file(struct getting *g, const char *from, const char *to, const char *name,
                     at_error *err)
{
    char hex[65];
    uint64_t bytes = 0;
    FILE *in = fopen(from, "rb");
    if (!in)
        return at_fail_errno(err, errno, "cannot read %s", from);
    at_atomic *out = at_atomic_open(to, err);
    at_sha256 *h = at_sha256_new();
    int code = out && h ? copy_stream(g, in, at_atomic_stream(out), h, &bytes) : AT_EIO;
    if (out && code < 0)
        at_fail(err, code, "copying %s to %s: %s", from, to, at_error_text(code));
    if (h)
        at_sha256_end(h, hex);
    fclose(in);
    if (code == 0)
        code = at_atomic_commit(out, err);
    else
        at_atomic_abort(out);
    return code == 0 && note_file(g, name, bytes, hex) < 0 ? at_nomem(err) : code;
}

static int copy_tree(struct getting *g, const char *from, const char *to, const char *name,
                     int depth, at_error *err);

static int visible(const struct dirent *e)
{
    return e->d_name[0] != '.';
}

static int copy_entry(struct getting *g, const char *from, const char *to, const char *name,
                      const char *entry, int depth, at_error *err)
{
    char *source = at_path_join(from, entry), *target = at_path_join(to, entry);
    char *inner = name[0] ? at_path_join(name, entry) : strdup(entry);
    int code =
        source && target && inner ? copy_tree(g, source, target, inner, depth, err) : at_nomem(err);
    free(source);
    free(target);
    free(inner);
    return code;
}

static int copy_entries(struct getting *g, const char *from, const char *to, const char *name,
                        int depth, at_error *err)
{
    struct dirent **entries;
    int n = scandir(from, &entries, visible, alphasort);
    if (n < 0)
        return at_fail_errno(err, errno, "cannot read %s", from);
    int code = at_make_dirs(to, err);
    for (int i = 0; i < n; i++) {
        if (code == 0)
            code = copy_entry(g, from, to, name, entries[i]->d_name, depth + 1, err);
        free(entries[i]);
    }
    free(entries);
    return code;
}

/* A file or a folder with all in it, hidden entries left out. */
static int copy_tree(struct getting *g, const char *from, const char *to, const char *name,
                     int depth, at_error *err)
{
    if (depth > MAX_DEPTH)
        return at_fail(err, AT_EINPUT, "%s: folders are nested more than %d deep", from, MAX_DEPTH);
    return at_dir_exists(from) ? copy_entries(g, from, to, name, depth, err)
                               : copy_file(g, from, to, name, err);
}

/* ---- the label ---- */

static int write_label(const struct getting *g, const char *folder, const char *origin,
                       at_error *err)
{
    char *path = at_path_join(folder, at_source_label_file), now[32];
    at_node *label = at_node_new(AT_MAP);
    at_wall_iso(now);
    bool set = path && label && at_set_string(label, "name", g->set->name) &&
               at_set_string(label, "title", g->set->title) &&
               at_set_string(label, "origin", origin) && at_set_string(label, "obtained", now) &&
               at_set_int(label, "bytes", (int64_t)g->bytes) &&
               at_node_set(label, "files", at_node_copy(g->files));
    char *text = set ? at_yaml_print(label) : NULL;
    int code = text ? at_file_write(path, text, strlen(text), err) : at_nomem(err);
    free(text);
    at_node_free(label);
    free(path);
    return code;
}

/* ---- the ways to get it ---- */

static const char *last_part(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static int get_file(struct getting *g, const char *from, double bytes, at_error *err)
{
    int code = check_source(from, err);
    if (code == 0)
        code = at_make_dirs(g->out, err);
    char *to = at_path_join(g->out, last_part(from));
    g->progress = at_progress_new("copy", bytes, "bytes");
    if (code == 0)
        code = to ? copy_file(g, from, to, last_part(from), err) : at_nomem(err);
    free(to);
    return code < 0 ? code : write_label(g, g->out, from, err);
}

/* By a folder beside it, so that <out> appears whole. */
static int get_folder(struct getting *g, const char *from, at_error *err)
{
    char *partial = at_format("%s.partial", g->out);
    if (!partial)
        return at_nomem(err);
    int code = check_source(from, err);
    if (code == 0)
        code = at_remove_tree(partial, err);
    g->progress = at_progress_new("copy", 0, "bytes");
    if (code == 0)
        code = copy_tree(g, from, partial, "", 0, err);
    if (code == 0)
        code = write_label(g, partial, from, err);
    if (code == 0)
        code = at_remove_tree(g->out, err);
    if (code == 0 && rename(partial, g->out))
        code = at_fail_errno(err, errno, "cannot rename %s to %s", partial, g->out);
    if (code < 0)
        at_remove_tree(partial, NULL);
    free(partial);
    return code;
}

static int download_file(struct getting *g, const at_known_file *file, const char *folder,
                         at_error *err)
{
    char *path = at_path_join(g->out, file->name), *url = at_format("%s%s", folder, file->name),
         hex[65] = "";
    uint64_t bytes = 0;
    int code = path && url ? 0 : at_nomem(err);
    if (code == 0 && at_file_exists(path))
        code = at_file_sha256(path, hex, &bytes, err);
    if (code == 0 && strcmp(hex, file->sha256))
        code = at_download(url, file->sha256, path, err);
    if (code == 0 && note_file(g, file->name, file->bytes, file->sha256) < 0)
        code = at_nomem(err);
    free(path);
    free(url);
    return code;
}

static int get_download(struct getting *g, const char *folder, at_error *err)
{
    int code = at_make_dirs(g->out, err);
    for (size_t i = 0; code == 0 && i < 4 && g->set->files[i].name; i++)
        code = download_file(g, &g->set->files[i], folder, err);
    if (code == AT_EIO)
        return at_fail_in(err, "no download (--from PATH takes a local copy)");
    if (code == 0)
        code = check_source(g->out, err);
    return code < 0 ? code : write_label(g, g->out, folder, err);
}

/* ---- the whole ---- */

static int get_local(struct getting *g, const char *from, at_error *err)
{
    struct stat st;
    char *path = realpath(from, NULL), *out = realpath(g->out, NULL);
    int code = 0;
    if (!path || stat(path, &st))
        code = at_fail_errno(err, errno, "cannot read %s", from);
    else if (out && !strcmp(path, out))
        code = at_fail(err, AT_EINPUT, "%s is the source already: atoll ingest reads it as it is",
                       from);
    else
        code = check_folder(g, path, S_ISDIR(st.st_mode) ? NULL : last_part(path), err);
    if (code == 0)
        code = S_ISDIR(st.st_mode) ? get_folder(g, path, err)
                                   : get_file(g, path, (double)st.st_size, err);
    at_progress_end(g->progress, NULL);
    free(path);
    free(out);
    return code;
}

static int get(struct getting *g, const char *from, const char *url, at_error *err)
{
    int code = from ? get_local(g, from, err) : check_folder(g, url, NULL, err);
    if (code == 0 && !from)
        code = get_download(g, url, err);
    if (code == 1)
        at_log(AT_LOG_INFO, "%s is complete already", g->out);
    return code == 1 ? 0 : code;
}

int at_dataset_get(const char *name, const char *from, const char *url, const char *out,
                   at_error *err)
{
    at_error local = {0};
    err = err ? err : &local;
    struct getting g = {.set = find(name, err)};
    if (!g.set)
        return err->code;
    size_t length = strlen(out);
    while (length > 1 && out[length - 1] == '/')
        length--;
    char *folder = strndup(out, length);
    g.out = folder;
    g.files = at_node_new(AT_LIST);
    if (!from && !url && g.set->system_path && at_dir_exists(g.set->system_path))
        from = g.set->system_path;
    int code = folder && g.files ? get(&g, from, url ? url : g.set->url, err) : at_nomem(err);
    at_node_free(g.files);
    free(folder);
    return code;
}
