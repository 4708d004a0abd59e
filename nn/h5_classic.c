/* SPDX-License-Identifier: Apache-2.0
 * The tree of a file in HDF5's first layout: an object is a header of messages; a group's header
 * points to a B-tree, whose leaves list symbols, and to a heap with their names.
 *
 * Nothing here is trusted: addresses and lengths are held against the file's size, a tree's levels
 * must fall, and what a walk may visit is bounded by what fits into the file, so a file that leads
 * in circles costs no more than an honest one of its size.
 */
#include <string.h>

#include "h5_classic.h"

enum { SYMBOL_BYTES = 40, NODE_HEAD = 24, SOFT_LINK = 2, MOST_BLOCKS = 1024 };
enum { MESSAGE_LINK_INFO = 2, MESSAGE_LINK = 6, MESSAGE_CONTINUED = 16, MESSAGE_SYMBOLS = 17 };

uint64_t classic_number(const unsigned char *p, int bytes)
{
    uint64_t value = 0;
    for (int i = bytes; i-- > 0;)
        value = value << 8 | p[i];
    return value;
}

h5_span classic_span(const h5_classic *c, uint64_t address, uint64_t bytes)
{
    if (address > c->bytes || bytes > c->bytes - address)
        return (h5_span){0};
    return (h5_span){c->data + address, (size_t)bytes};
}

int classic_damaged(const h5_classic *c, const char *what, const char *name, at_error *err)
{
    return at_fail(err, AT_EINPUT, "%s: damaged: %s of '%s'", c->path, what, name);
}

/* The superblock: numbers of 8 bytes, and a file that is not shorter than it says. */
int classic_check(h5_classic *c, at_error *err)
{
    h5_span head = classic_span(c, 0, 96);
    if (!head.at)
        return at_fail(err, AT_EINPUT, "%s: an HDF5 file that ends in its head", c->path);
    if (head.at[13] != 8 || head.at[14] != 8 || classic_number(head.at + 24, 8) != 0)
        return at_fail(err, AT_EINPUT, "%s: an HDF5 file with unusual addresses", c->path);
    if (classic_number(head.at + 40, 8) > c->bytes)
        return at_fail(err, AT_EINPUT, "%s: truncated: %zu of its %llu bytes", c->path, c->bytes,
                       (unsigned long long)classic_number(head.at + 40, 8));
    c->root = classic_number(head.at + 64, 8);
    return AT_OK;
}

/* ---- object headers ------------------------------------------------------------------------- */
typedef struct header_walk {
    size_t blocks, left; /* blocks seen; messages to come */
    h5_span next[MOST_BLOCKS];
} header_walk;

/* The messages of one block; continuations are queued. */
static int visit_block(const h5_classic *c, header_walk *w, h5_span block, classic_visit visit,
                       void *context, at_error *err)
{
    size_t at = 0;
    for (; w->left > 0 && block.bytes - at >= 8; w->left--) {
        unsigned type = (unsigned)classic_number(block.at + at, 2);
        size_t bytes = (size_t)classic_number(block.at + at + 2, 2);
        bool shared = block.at[at + 4] & 2;
        if (bytes > block.bytes - at - 8)
            return AT_EINPUT;
        h5_span message = {block.at + at + 8, bytes};
        at += 8 + bytes;
        if (type == MESSAGE_CONTINUED) {
            if (bytes < 16 || w->blocks == MOST_BLOCKS)
                return AT_EINPUT;
            h5_span more =
                classic_span(c, classic_number(message.at, 8), classic_number(message.at + 8, 8));
            if (!more.at)
                return AT_EINPUT;
            w->next[w->blocks++] = more;
            continue;
        }
        int rc = shared ? AT_EINPUT : visit(context, type, message, err);
        if (rc != AT_OK)
            return rc;
    }
    return AT_OK;
}

int classic_messages(const h5_classic *c, uint64_t header, const char *name, classic_visit visit,
                     void *context, at_error *err)
{
    h5_span head = classic_span(c, header, 16);
    if (head.at && memcmp(head.at, "OHDR", 4) == 0)
        return at_fail(err, AT_EINPUT, "%s: '%s' is stored in a newer layout than its file",
                       c->path, name);
    if (!head.at || head.at[0] != 1)
        return classic_damaged(c, "the header", name, err);
    at_error mine = {0};
    header_walk w = {.left = (size_t)classic_number(head.at + 2, 2), .blocks = 1};
    w.next[0] = classic_span(c, header + 16, classic_number(head.at + 8, 4));
    int rc = w.next[0].at ? AT_OK : AT_EINPUT;
    for (size_t i = 0; i < w.blocks && rc == AT_OK; i++)
        rc = visit_block(c, &w, w.next[i], visit, context, &mine);
    if (rc < 0 && !mine.code)
        return classic_damaged(c, "the header", name, err);
    return rc < 0 ? at_fail(err, rc, "%s", mine.message) : rc;
}

/* ---- groups --------------------------------------------------------------------------------- */
/* A walk over a group's members: looks for one, or lists them. */
typedef struct group_walk {
    const h5_classic *c;
    const char *group;
    h5_span heap;
    size_t budget; /* entries still believed to be in the file */
    bool is_group;
    const char *wanted; /* NULL: all */
    size_t wanted_bytes;
    bool found, elsewhere; /* a link, not an object */
    uint64_t header;
    h5_names *names;
} group_walk;

/* One member; a positive number ends the walk. */
static int see_member(group_walk *w, h5_span name, uint64_t header, bool elsewhere, at_error *err)
{
    bool fits = name.bytes < H5_PATH_BYTES && !memchr(name.at, '/', name.bytes);
    if (w->budget-- == 0 || !fits || (w->names && w->names->bytes > w->c->bytes))
        return AT_EINPUT;
    if (!w->wanted)
        return h5_names_add(w->names, (const char *)name.at, name.bytes, err);
    if (name.bytes != w->wanted_bytes || memcmp(name.at, w->wanted, name.bytes) != 0)
        return AT_OK;
    w->found = true;
    w->elsewhere = elsewhere;
    w->header = header;
    return 1;
}

static int walk_symbols(group_walk *w, uint64_t address, at_error *err)
{
    h5_span head = classic_span(w->c, address, 8);
    if (!head.at || memcmp(head.at, "SNOD", 4) != 0 || w->budget-- == 0)
        return AT_EINPUT;
    size_t n = (size_t)classic_number(head.at + 6, 2);
    h5_span symbols = classic_span(w->c, address + 8, n * SYMBOL_BYTES);
    int rc = symbols.at ? AT_OK : AT_EINPUT;
    for (size_t i = 0; i < n && rc == AT_OK; i++) {
        const unsigned char *s = symbols.at + i * SYMBOL_BYTES;
        uint64_t at = classic_number(s, 8);
        if (at >= w->heap.bytes)
            return AT_EINPUT;
        size_t room = w->heap.bytes - (size_t)at;
        const unsigned char *end =
            memchr(w->heap.at + at, 0, room < H5_PATH_BYTES ? room : H5_PATH_BYTES);
        if (!end)
            return AT_EINPUT;
        h5_span name = {w->heap.at + at, (size_t)(end - (w->heap.at + at))};
        rc = see_member(w, name, classic_number(s + 8, 8), classic_number(s + 16, 4) == SOFT_LINK,
                        err);
    }
    return rc;
}

/* A node of level 0 points to symbols, others to nodes of the level below. */
static int walk_tree(group_walk *w, uint64_t address, int level, at_error *err)
{
    h5_span head = classic_span(w->c, address, NODE_HEAD);
    if (!head.at || memcmp(head.at, "TREE", 4) != 0 || head.at[4] != 0 || w->budget-- == 0)
        return AT_EINPUT;
    if (level < 0)
        level = head.at[5];
    size_t n = (size_t)classic_number(head.at + 6, 2);
    h5_span entries = classic_span(w->c, address + NODE_HEAD, n * 16);
    if (!entries.at || head.at[5] != level || level > 16)
        return AT_EINPUT;
    int rc = AT_OK;
    for (size_t i = 0; i < n && rc == AT_OK; i++) {
        uint64_t child = classic_number(entries.at + i * 16 + 8, 8);
        rc = level ? walk_tree(w, child, level - 1, err) : walk_symbols(w, child, err);
    }
    return rc;
}

static int walk_symbol_table(group_walk *w, h5_span message, at_error *err)
{
    if (message.bytes < 16)
        return AT_EINPUT;
    h5_span heap = classic_span(w->c, classic_number(message.at + 8, 8), 32);
    if (!heap.at || memcmp(heap.at, "HEAP", 4) != 0)
        return AT_EINPUT;
    w->heap = classic_span(w->c, classic_number(heap.at + 24, 8), classic_number(heap.at + 8, 8));
    return w->heap.at ? walk_tree(w, classic_number(message.at, 8), -1, err) : AT_EINPUT;
}

/* A link as groups with external ones hold it, within the header. */
static int walk_link(group_walk *w, h5_span message, at_error *err)
{
    if (message.bytes < 4 || message.at[0] != 1)
        return AT_EINPUT;
    unsigned flags = message.at[1];
    size_t at = 2, width = (size_t)1 << (flags & 3);
    unsigned type = flags & 8 ? message.at[at++] : 0;
    at += (flags & 4 ? 8u : 0u) + (flags & 16 ? 1u : 0u);
    if (at + width > message.bytes)
        return AT_EINPUT;
    uint64_t length = classic_number(message.at + at, (int)width);
    at += width;
    if (length > message.bytes - at || (type == 0 && message.bytes - at - length < 8))
        return AT_EINPUT;
    h5_span name = {message.at + at, (size_t)length};
    uint64_t header = type == 0 ? classic_number(name.at + length, 8) : 0;
    return see_member(w, name, header, type != 0, err);
}

/* Whether the links lie outside of the header, as those of a group of very many do. */
static bool has_outside_links(h5_span message)
{
    size_t at = message.bytes > 1 && message.at[1] & 1 ? 10 : 2;
    return message.bytes < at + 8 || classic_number(message.at + at, 8) != UINT64_MAX;
}

static int walk_message(void *context, unsigned type, h5_span message, at_error *err)
{
    group_walk *w = context;
    w->is_group |= type == MESSAGE_SYMBOLS || type == MESSAGE_LINK_INFO;
    if (type == MESSAGE_SYMBOLS)
        return walk_symbol_table(w, message, err);
    if (type == MESSAGE_LINK)
        return walk_link(w, message, err);
    if (type == MESSAGE_LINK_INFO && has_outside_links(message))
        return at_fail(err, AT_EINPUT, "%s: group '%s' is stored in a newer layout than its file",
                       w->c->path, w->group);
    return AT_OK;
}

static int walk_group(group_walk *w, uint64_t header, at_error *err)
{
    w->budget = w->c->bytes / 8;
    int rc = classic_messages(w->c, header, w->group, walk_message, w, err);
    if (rc >= 0 && !w->is_group)
        return at_fail(err, AT_EINPUT, "%s: '%s' is no group", w->c->path, w->group);
    return rc < 0 ? rc : AT_OK;
}

int classic_find(const h5_classic *c, const char *path, uint64_t *header, at_error *err)
{
    char within[H5_PATH_BYTES];
    *header = c->root;
    if (strlen(path) >= sizeof within)
        return at_fail(err, AT_EINPUT, "%s: a name of %zu bytes", c->path, strlen(path));
    for (const char *s = path; *(s += strspn(s, "/"));) {
        size_t bytes = strcspn(s, "/");
        int upto = (int)(s + bytes - path);
        snprintf(within, sizeof within, "%.*s", s > path ? (int)(s - 1 - path) : 0, path);
        group_walk w = {
            .c = c, .group = *within ? within : "/", .wanted = s, .wanted_bytes = bytes};
        int rc = walk_group(&w, *header, err);
        if (rc != AT_OK)
            return rc;
        if (!w.found)
            return at_fail(err, AT_EINPUT, "%s: '%.*s' is missing", c->path, upto, path);
        if (w.elsewhere)
            return at_fail(err, AT_EINPUT, "%s: '%.*s' is a link to elsewhere", c->path, upto,
                           path);
        *header = w.header;
        s += bytes;
    }
    return AT_OK;
}

int classic_members(const h5_classic *c, const char *group, h5_names *out, at_error *err)
{
    uint64_t header;
    group_walk w = {.c = c, .group = group, .names = out};
    int rc = classic_find(c, group, &header, err);
    return rc == AT_OK ? walk_group(&w, header, err) : rc;
}
