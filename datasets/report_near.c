/* SPDX-License-Identifier: Apache-2.0
 * The report's near duplicates: groups of contents that look alike, those first that lie in two
 * splits or two classes, since they spoil what a test measures. */
#include "report.h"

#include <stdlib.h>
#include <string.h>

enum { SHOWN = 18, SHOWN_OF_GROUP = 6 };
enum {
    SIDE = 12,
    APART = 5
}; /* of the pictures that are compared, and by how much they may differ, of 255 */
static const double most_pixels = 1e9; /* to decode for that, some seconds */

struct member {
    uint32_t group;
    int64_t blob;
};

struct near_group {
    size_t first, count; /* in the members */
    bool splits, classes;
};

static int by_group(const void *a, const void *b)
{
    const struct member *x = a, *y = b;
    return x->group != y->group ? (x->group > y->group) - (x->group < y->group)
                                : (x->blob > y->blob) - (x->blob < y->blob);
}

/* Two splits before two classes before the rest; small groups first, whose pictures are the most
 * alike. */
static int by_interest(const void *a, const void *b)
{
    const struct near_group *x = a, *y = b;
    int splits = y->splits - x->splits, classes = y->classes - x->classes;
    return splits                 ? splits
           : classes              ? classes
           : x->count != y->count ? (x->count > y->count) - (x->count < y->count)
                                  : (x->first > y->first) - (x->first < y->first);
}

/* Whether the group's pictures lie in several splits, or classes. */
static void ask_places(struct at_report *r, at_stmt *s, const struct member *members,
                       struct near_group *g)
{
    char split[8] = "";
    int64_t label = -1;
    for (size_t i = 0; i < g->count && r->code == 0; i++) {
        int code;
        at_stmt_bind(s, "i", members[g->first + i].blob);
        while ((code = at_stmt_step(s, r->err)) == 1) {
            const char *in = at_stmt_word(s, 0);
            g->splits = g->splits || (split[0] && strcmp(split, in));
            g->classes = g->classes || (label >= 0 && label != at_stmt_int(s, 1));
            snprintf(split, sizeof split, "%s", in);
            label = at_stmt_int(s, 1);
        }
        r->code = code < 0 ? code : r->code;
    }
}

static void draw_group(struct at_report *r, const struct member *members,
                       const struct near_group *g)
{
    at_text_add(&r->page, "<div><h3>%zu pictures%s%s</h3><div class=gallery>\n", g->count,
                g->splits ? ", in several splits" : "", g->classes ? ", in several classes" : "");
    for (size_t i = 0; i < g->count && i < SHOWN_OF_GROUP; i++) {
        at_stmt *s = at_report_ask(
            r, "SELECT path, split, name, images.hash FROM blobs JOIN images USING(hash)"
               " JOIN classes USING(label) WHERE blobs.id = ? LIMIT 1");
        if (s)
            at_stmt_bind(s, "i", members[g->first + i].blob);
        while (at_report_row(r, &s)) {
            at_text_add(&r->page, "<figure class=%s>", g->splits || g->classes ? "miss" : "hit");
            at_report_picture(r, at_stmt_word(s, 3), at_stmt_word(s, 0));
            at_text_add(&r->page, "<figcaption>");
            at_html_text(&r->page, at_stmt_word(s, 0));
            at_text_add(&r->page, "<br><small>%s, ", at_stmt_word(s, 1));
            at_html_text(&r->page, at_stmt_word(s, 2));
            at_text_add(&r->page, "</small></figcaption></figure>\n");
        }
    }
    at_text_add(&r->page, "</div></div>\n");
}

static void draw(struct at_report *r, const struct member *members, struct near_group *groups,
                 size_t n, size_t unseen)
{
    at_stmt *s = at_report_ask(
        r, "SELECT split, label FROM blobs JOIN images USING(hash) WHERE blobs.id = ?");
    size_t splits = 0, classes = 0, pictures = 0;
    for (size_t i = 0; i < n && r->code == 0; i++) {
        ask_places(r, s, members, &groups[i]);
        pictures += groups[i].count;
        splits += groups[i].splits;
        classes += groups[i].classes;
    }
    at_stmt_free(s);
    qsort(groups, n, sizeof *groups, by_interest);
    at_text_add(
        &r->page,
        "<section><h2>Near duplicates</h2><p class=note>Groups of contents that look alike: "
        "%zu, of %zu contents; in several splits: %zu, in several classes: %zu.</p>\n<div "
        "class=groups>\n",
        n, pictures, splits, classes);
    for (size_t i = 0; i < n && i < SHOWN; i++)
        draw_group(r, members, &groups[i]);
    at_text_add(&r->page,
                "</div><p class=note>Found by a 64-bit hash of the picture (dHash, at most 3 bits "
                "apart), mean, deviation and "
                "shape, then compared with the group's first picture.%s",
                n > SHOWN ? " The 18 groups of most interest are shown." : "");
    if (unseen > 0)
        at_text_add(&r->page, " Not compared, for they are of too many pixels in all: %zu.",
                    unseen);
    at_text_add(&r->page, "</p></section>\n");
}

/* ---- hashes only suggest: the pictures decide ---- */

/* The content made small and grey; false: it cannot be read. */
static bool make_small(struct at_report *r, at_stmt *place, int64_t blob, uint8_t *small,
                       double *pixels)
{
    at_image view;
    at_error err = {0};
    at_stmt_bind(place, "i", blob);
    bool made = at_stmt_step(place, &err) == 1 && at_report_decode(r, place, &view, &err) == 0 &&
                at_image_fit(&view, SIDE, SIDE, 1, small, &err) == 0;
    at_stmt_reset(place);
    *pixels += made ? (double)view.width * view.height : 0;
    return made;
}

static bool look_alike(const uint8_t *a, const uint8_t *b)
{
    int apart = 0;
    for (int i = 0; i < SIDE * SIDE; i++)
        apart += abs(a[i] - b[i]);
    return apart <= APART * SIDE * SIDE;
}

/* The members of groups of two and more, sorted; returns how many groups. */
static size_t collect(const at_look *looks, const uint32_t *group, size_t n, struct member *members,
                      struct near_group *groups)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++)
        members[i] = (struct member){group[i], looks[i].blob};
    qsort(members, n, sizeof *members, by_group);
    for (size_t begin = 0, end; begin < n; begin = end) {
        for (end = begin + 1; end < n && members[end].group == members[begin].group;)
            end++;
        if (end - begin < 2)
            continue;
        groups[count++] = (struct near_group){.first = begin, .count = end - begin};
    }
    return count;
}

/* Leaves those in the group that look like its first picture. */
static void keep_alike(struct at_report *r, at_stmt *place, struct member *members,
                       struct near_group *g, double *pixels)
{
    uint8_t first[SIDE * SIDE], other[SIDE * SIDE];
    struct member *m = &members[g->first];
    size_t count = g->count;
    g->count = make_small(r, place, m->blob, first, pixels);
    for (size_t i = 1; i < count && g->count; i++)
        if (make_small(r, place, m[i].blob, other, pixels) && look_alike(first, other))
            m[g->count++] = m[i];
}

/* Keeps the groups of pictures that do look alike; how many of the n. On a dark ground few bits of a dHash say
 * anything. *unseen: those that were let go because there was too much to look at. */
static size_t compare_pictures(struct at_report *r, struct member *members,
                               struct near_group *groups, size_t n, size_t *unseen)
{
    size_t kept = 0;
    double pixels = 0;
    at_stmt *place =
        at_report_ask(r, "SELECT shard, offset, bytes, crc32c FROM blobs WHERE id = ?");
    for (size_t i = 0; place && i < n; i++) {
        if (pixels > most_pixels) {
            ++*unseen;
            continue;
        }
        keep_alike(r, place, members, &groups[i], &pixels);
        if (groups[i].count > 1)
            groups[kept++] = groups[i];
    }
    at_stmt_free(place);
    return kept;
}

void at_report_near(struct at_report *r, const at_look *looks, size_t n)
{
    if (r->code < 0)
        return;
    uint32_t *group = calloc(n ? n : 1, sizeof *group);
    struct member *members = calloc(n ? n : 1, sizeof *members);
    struct near_group *groups = calloc(n / 2 + 1, sizeof *groups);
    if (!group || !members || !groups)
        r->code = at_nomem(r->err);
    else
        r->code = at_near_groups(looks, n, group, r->err);
    size_t unseen = 0, count = r->code < 0 ? 0 : collect(looks, group, n, members, groups);
    count = compare_pictures(r, members, groups, count, &unseen);
    if (r->code == 0)
        draw(r, members, groups, count, unseen);
    free(group);
    free(members);
    free(groups);
}
