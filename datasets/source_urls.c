/* SPDX-License-Identifier: Apache-2.0
 * Source: a list of http and https addresses in a file: CSV with a header url,label[,split],
 * JSON-lines {"url": ..., "label": ..., "split": ...}, or addresses alone, one a line, whose folders
 * are the layout: http://host/train/cat/1.jpg.
 *
 * The decoding threads fetch (fetch.c); what cannot be had is set aside, and what was had once is
 * not asked for again when the ingest is resumed. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { HEAD = 8192 };

struct urls {
    at_label_file *list;
    size_t next;
};

static bool has_word(const char *text, size_t length, const char *word)
{
    size_t n = strlen(word);
    for (size_t i = 0; i + n <= length; i++)
        if (!strncasecmp(text + i, word, n) && (i == 0 || strchr(",\"", text[i - 1])) &&
            (i + n == length || strchr(",\"", text[i + n])))
            return true;
    return false;
}

/* An address, or a first line that tells of a url and no path. */
static bool recognise(const char *path)
{
    char head[HEAD + 1] = "";
    FILE *file = at_dir_exists(path) ? NULL : fopen(path, "rb");
    if (file) {
        head[fread(head, 1, HEAD, file)] = 0;
        fclose(file);
    }
    const char *text = head + (strncmp(head, "\xEF\xBB\xBF", 3) ? 0 : 3);
    text += strspn(text, " \t\r\n");
    size_t line = strcspn(text, "\r\n");
    return at_is_address(text, line) ||
           (has_word(text, line, "url") && has_word(text, line, "label") &&
            !has_word(text, line, "path"));
}

static int open_urls(at_source *s, at_error *err)
{
    struct urls *u = calloc(1, sizeof *u);
    if (!u)
        return at_nomem(err);
    s->state = u;
    u->list = at_label_file_read(s->path, s->path, err);
    if (!u->list)
        return err->code;
    s->total = (double)at_label_file_count(u->list);
    return 0;
}

static int next(at_source *s, at_item *item, at_error *err)
{
    struct urls *u = s->state;
    while (u->next < at_label_file_count(u->list)) {
        item->path.length = item->class_name.length = 0;
        at_label_file_get(u->list, u->next++, item);
        s->done++;
        if (item->path.failed)
            return at_nomem(err);
        if (at_keys_has_path(s->skip, item->path.data))
            continue;
        item->remote = true;
        at_text_append(&item->file, item->path.data, item->path.length);
        if (!at_is_address(item->path.data, item->path.length))
            at_item_fail(item, AT_REASON_UNSUPPORTED, "no http or https address");
        return 1;
    }
    return 0;
}

static void close_urls(at_source *s)
{
    struct urls *u = s->state;
    if (u)
        at_label_file_free(u->list);
    free(u);
}

const at_source_kind at_source_urls = {.name = "urls",
                                       .own_labels = true,
                                       .remote = true,
                                       .recognise = recognise,
                                       .open = open_urls,
                                       .next = next,
                                       .close = close_urls};
