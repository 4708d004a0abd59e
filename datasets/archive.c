/* SPDX-License-Identifier: Apache-2.0
 * Archives by libarchive, read in one pass: tar, plain or compressed by gzip, bzip2, xz or zstd; zip
 * by its directory, in the order of the file.
 *
 * A zip's members stand alone: one that is broken is left behind and the next is read, for which
 * libarchive has to be opened anew where it gave up. A zip is only taken for one where it begins as
 * one, so that no picture with an archive behind it is. Pictures hardly shrink in an archive: what
 * unpacks to a hundredfold is there to fill memory or time, and is refused. */
#include "internal.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum {
    BLOCK = 1 << 17,
    MEMBER_RATIO = 200, /* of a zip's member, beyond its first 16 MiB */
    MEMBER_FREE = 16 << 20,
    RATIO = 100, /* of all its members to the file, beyond 64 MiB */
    FREE = 64 << 20,
    PASSED_AGAIN = 10 << 20 /* members in all, behind broken ones */
};

struct at_archive {
    struct archive *lib;
    struct archive_entry *entry; /* libarchive's */
    locale_t utf8;               /* in which libarchive reads headers */
    char *path;
    char nameless[48];            /* instead of a name that cannot be told */
    bool zip, empty;              /* empty: a zip of no members */
    int64_t file_bytes, unpacked; /* unpacked: of all members */
    int64_t member_begin, member_unpacked;
    uint64_t passed, passed_again; /* members */
    int status;                    /* of the last call that failed */
    at_reason reason;              /* why a read failed */
};

static int fail(at_archive *a, int status, at_error *err)
{
    const char *text = archive_error_string(a->lib);
    a->status = status;
    if (a->zip && archive_format(a->lib) == 0)
        text = "a zip without its directory: the file is cut off or damaged at its end";
    int64_t at = archive_filter_bytes(a->lib, -1); /* negative: the filter would not even begin */
    return at_fail(err, AT_EINPUT, "%s: at byte %lld: %s", a->path, (long long)(at > 0 ? at : 0),
                   text ? text : "not readable");
}

/* The lib of a fresh archive_read_new. */
static int open_lib(at_archive *a, at_error *err)
{
    if (!(a->lib = archive_read_new()))
        return at_nomem(err);
    if (a->zip) {
        archive_read_support_format_zip_seekable(a->lib);
    } else {
        archive_read_support_filter_gzip(a->lib);
        archive_read_support_filter_bzip2(a->lib);
        archive_read_support_filter_xz(a->lib);
        archive_read_support_filter_zstd(a->lib);
        archive_read_support_format_tar(a->lib);
    }
    int status = archive_read_open_filename(a->lib, a->path, BLOCK);
    return status == ARCHIVE_OK ? 0 : fail(a, status, err);
}

typedef enum { NO_ZIP, ZIP, EMPTY_ZIP } zip_kind;

/* By its first bytes. A zip of no members is the end of its directory alone, which libarchive takes for
 * no zip. */
static zip_kind zip_kind_of(const char *path)
{
    static const char *const beginnings[] = {"PK\3\4", "PK\5\6", "PK\7\10"};
    /* of the directory: disks, members and bytes are 0 */
    static const uint8_t no_members[16] = "PK\5\6";
    uint8_t first[22];
    FILE *file = fopen(path, "rb");
    size_t n = file ? fread(first, 1, sizeof first, file) : 0;
    if (file)
        fclose(file);
    if (n == sizeof first && !memcmp(first, no_members, sizeof no_members))
        return EMPTY_ZIP;
    for (size_t i = 0; n >= 4 && i < sizeof beginnings / sizeof *beginnings; i++)
        if (!memcmp(first, beginnings[i], 4))
            return ZIP;
    return NO_ZIP;
}

bool at_archive_is_zip(const char *path)
{
    return zip_kind_of(path) != NO_ZIP;
}

at_archive *at_archive_open(const char *path, at_error *err)
{
    at_archive *a = calloc(1, sizeof *a);
    if (!a || !(a->path = strdup(path))) {
        at_nomem(err);
        goto fail_open;
    }
    struct stat st;
    a->file_bytes = stat(path, &st) ? 0 : st.st_size;
    zip_kind kind = zip_kind_of(path);
    a->zip = kind != NO_ZIP;
    a->empty = kind == EMPTY_ZIP;
    a->utf8 = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0); /* without it names are escaped */
    if (a->empty || open_lib(a, err) == 0)
        return a;
fail_open:
    at_archive_close(a);
    return NULL;
}

void at_archive_close(at_archive *a)
{
    if (!a)
        return;
    if (a->lib)
        archive_read_free(a->lib);
    if (a->utf8)
        freelocale(a->utf8);
    free(a->path);
    free(a);
}

static bool is_ascii(const char *s)
{
    while (*s > 0)
        s++;
    return *s == 0;
}

/* Names that are said to be UTF-8, in pax headers and zips, are lost in the C locale. */
static int read_header(at_archive *a)
{
    locale_t before = a->utf8 ? uselocale(a->utf8) : (locale_t)0;
    int status = archive_read_next_header(a->lib, &a->entry);
    if (before)
        uselocale(before);
    return status;
}

/* Elsewhere the raw bytes serve. */
static const char *name_of(at_archive *a)
{
    const char *name = archive_entry_pathname(a->entry);
    if (!name || !is_ascii(name)) {
        const char *utf8 = archive_entry_pathname_utf8(a->entry);
        name = utf8 ? utf8 : name;
    }
    if (!name) {
        snprintf(a->nameless, sizeof a->nameless, "member %llu, its name is no UTF-8",
                 (unsigned long long)a->passed);
        name = a->nameless;
    }
    while (name[0] == '/' || (name[0] == '.' && name[1] == '/'))
        name += name[0] == '/' ? 1 : 2;
    return name;
}

int at_archive_next(at_archive *a, const char **name, int64_t *size, int64_t *mtime, at_error *err)
{
    while (!a->empty) {
        int status = read_header(a);
        if (status == ARCHIVE_EOF)
            break;
        if (status < ARCHIVE_WARN)
            return fail(a, status, err);
        a->passed++;
        a->member_begin = archive_filter_bytes(a->lib, -1);
        a->member_unpacked = 0;
        mode_t type = archive_entry_filetype(a->entry);
        bool link = type == AE_IFLNK || archive_entry_hardlink(a->entry);
        if (type == AE_IFDIR)
            continue;
        *name = name_of(a);
        *size = link                                        ? AT_MEMBER_LINK
                : type != AE_IFREG                          ? AT_MEMBER_SPECIAL
                : archive_entry_is_data_encrypted(a->entry) ? AT_MEMBER_ENCRYPTED
                                                            : archive_entry_size(a->entry);
        *mtime = archive_entry_mtime(a->entry);
        if (**name)
            return 1;
    }
    return 0;
}

static bool member_is_bomb(const at_archive *a)
{
    int64_t packed = archive_filter_bytes(a->lib, -1) - a->member_begin;
    return a->member_unpacked > MEMBER_FREE && a->member_unpacked / MEMBER_RATIO > packed + BLOCK;
}

static bool whole_is_bomb(const at_archive *a)
{
    return a->unpacked > FREE && (a->unpacked - FREE) / RATIO > a->file_bytes;
}

static bool is_bomb(const at_archive *a)
{
    return member_is_bomb(a) || whole_is_bomb(a);
}

static int refuse_bomb(at_archive *a, at_error *err)
{
    a->status = ARCHIVE_FAILED;
    a->reason = AT_REASON_TOO_LARGE;
    return whole_is_bomb(a)
               ? at_fail(err, AT_EINPUT, "%s: unpacks to more than %d times its size: a bomb",
                         a->path, RATIO)
               : at_fail(err, AT_EINPUT, "unpacks to more than %d times its size", MEMBER_RATIO);
}

int64_t at_archive_read(at_archive *a, void *out, size_t bytes, at_error *err)
{
    la_ssize_t n = archive_read_data(a->lib, out, bytes);
    if (n < 0) {
        bool unread = n == ARCHIVE_FAILED && a->member_unpacked == 0;
        a->reason = unread ? AT_REASON_UNSUPPORTED : AT_REASON_CORRUPT;
        return fail(a, (int)n, err);
    }
    a->unpacked += n;
    a->member_unpacked += n;
    return a->zip && is_bomb(a) ? refuse_bomb(a, err) : (int64_t)n;
}

at_reason at_archive_reason(const at_archive *a)
{
    return a->reason;
}

/* libarchive goes on by itself behind what it calls failed, not behind what it calls fatal. */
int at_archive_recover(at_archive *a, at_error *err)
{
    if (!a->zip || whole_is_bomb(a))
        return AT_EINPUT; /* err tells why already */
    if (a->status != ARCHIVE_FATAL)
        return 0;
    a->passed_again += a->passed;
    if (a->passed_again > PASSED_AGAIN)
        return at_fail(err, AT_EINPUT, "%s: too many of its members are broken", a->path);
    archive_read_free(a->lib);
    int code = open_lib(a, err);
    for (uint64_t i = 0; code == 0 && i < a->passed; i++) {
        int status = read_header(a);
        if (status < ARCHIVE_WARN)
            code = fail(a, status, err);
    }
    return code;
}

double at_archive_position(const at_archive *a)
{
    return a->lib ? (double)archive_filter_bytes(a->lib, -1) : 0;
}

/* ---- finding one ---- */

bool at_archive_recognise(const char *path)
{
    at_archive *a = at_archive_open(path, NULL);
    if (!a)
        return false;
    struct archive_entry *entry;
    int status = a->empty ? ARCHIVE_EOF : archive_read_next_header(a->lib, &entry);
    bool is_archive = status >= ARCHIVE_WARN &&
                      (status != ARCHIVE_EOF || a->zip || archive_filter_bytes(a->lib, 0) >= 512);
    at_archive_close(a);
    return is_archive;
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
    if (file && at_is_regular(file) && at_archive_recognise(file))
        return file;
    free(file);
    return NULL;
}
