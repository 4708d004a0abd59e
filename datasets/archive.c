/* SPDX-License-Identifier: Apache-2.0
 * Archives by libarchive, read in one pass: tar, plain or compressed by gzip, bzip2, xz or zstd. */
#include "internal.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 1 << 17 };

struct at_archive {
    struct archive *lib;
    struct archive_entry *entry; /* libarchive's */
    char *path;
};

static int fail(at_archive *a, at_error *err)
{
    const char *text = archive_error_string(a->lib);
    return at_fail(err, AT_EINPUT, "%s: at byte %lld: %s", a->path,
                   (long long)archive_filter_bytes(a->lib, -1), text ? text : "not readable");
}

at_archive *at_archive_open(const char *path, at_error *err)
{
    at_archive *a = calloc(1, sizeof *a);
    if (!a || !(a->path = strdup(path)) || !(a->lib = archive_read_new())) {
        at_nomem(err);
        at_archive_close(a);
        return NULL;
    }
    archive_read_support_filter_gzip(a->lib);
    archive_read_support_filter_bzip2(a->lib);
    archive_read_support_filter_xz(a->lib);
    archive_read_support_filter_zstd(a->lib);
    archive_read_support_format_tar(a->lib);
    if (archive_read_open_filename(a->lib, path, BLOCK) != ARCHIVE_OK) {
        fail(a, err);
        at_archive_close(a);
        return NULL;
    }
    return a;
}

void at_archive_close(at_archive *a)
{
    if (!a)
        return;
    if (a->lib)
        archive_read_free(a->lib);
    free(a->path);
    free(a);
}

static bool is_ascii(const char *s)
{
    while (*s > 0)
        s++;
    return *s == 0;
}

/* Names in pax headers are UTF-8, which the C locale cannot convert; elsewhere the raw bytes serve.
 */
static const char *name_of(struct archive_entry *entry)
{
    const char *name = archive_entry_pathname(entry);
    if (!name || !is_ascii(name)) {
        const char *utf8 = archive_entry_pathname_utf8(entry);
        name = utf8 ? utf8 : name;
    }
    while (name && (name[0] == '/' || (name[0] == '.' && name[1] == '/')))
        name += name[0] == '/' ? 1 : 2;
    return name;
}

int at_archive_next(at_archive *a, const char **name, int64_t *size, int64_t *mtime, at_error *err)
{
    for (;;) {
        int status = archive_read_next_header(a->lib, &a->entry);
        if (status == ARCHIVE_EOF)
            return 0;
        if (status < ARCHIVE_WARN)
            return fail(a, err);
        bool link =
            archive_entry_filetype(a->entry) == AE_IFLNK || archive_entry_hardlink(a->entry);
        if (archive_entry_filetype(a->entry) != AE_IFREG && !link)
            continue;
        *name = name_of(a->entry);
        *size = link ? -1 : archive_entry_size(a->entry);
        *mtime = archive_entry_mtime(a->entry);
        if (*name && **name)
            return 1;
    }
}

int64_t at_archive_read(at_archive *a, void *out, size_t bytes, at_error *err)
{
    la_ssize_t n = archive_read_data(a->lib, out, bytes);
    return n < 0 ? fail(a, err) : (int64_t)n;
}

double at_archive_position(const at_archive *a)
{
    return (double)archive_filter_bytes(a->lib, -1);
}

/* ---- finding one ---- */

bool at_archive_recognise(const char *path)
{
    at_archive *a = at_archive_open(path, NULL);
    if (!a)
        return false;
    struct archive_entry *entry;
    int status = archive_read_next_header(a->lib, &entry);
    bool is_tar =
        status >= ARCHIVE_WARN && (status != ARCHIVE_EOF || archive_filter_bytes(a->lib, 0) >= 512);
    at_archive_close(a);
    return is_tar;
}

static int counts(const struct dirent *e)
{
    return e->d_name[0] != '.' && strcmp(e->d_name, at_source_label_file);
}

/* The folder's one file or folder, malloc'd; NULL where there is another number. */
static char *only_entry(const char *folder)
{
    struct dirent **entries;
    int n = scandir(folder, &entries, counts, NULL);
    char *path = n == 1 ? at_path_join(folder, entries[0]->d_name) : NULL;
    for (int i = 0; i < n; i++)
        free(entries[i]);
    if (n >= 0)
        free(entries);
    return path;
}

char *at_archive_find(const char *path)
{
    char *file = at_dir_exists(path) ? only_entry(path) : strdup(path);
    if (file && !at_dir_exists(file) && at_archive_recognise(file))
        return file;
    free(file);
    return NULL;
}
