/* SPDX-License-Identifier: Apache-2.0
 * Pictures that look alike: whose dHashes differ in at most DISTANCE of 64 bits, and whose means,
 * deviations, sharpness and shapes are near, for a hash of few edges says little.
 *
 * Of two hashes that differ in 3 bits one of four quarters is equal. So the hashes are sorted once
 * by each quarter, and compared with those that follow as long as that quarter is the same, though
 * with WINDOW at most: pictures on black ground share whole quarters by the thousand, and beyond
 * the window, among neighbours in the order of all their bits, only few pairs are missed. Time
 * grows as n log n + 4 * WINDOW * n, not as n^2. Pairs are joined into groups
 * (union-find) around their first picture. */
#include "report.h"

#include <math.h>
#include <stdlib.h>

enum { DISTANCE = 3, QUARTERS = 4, QUARTER_BITS = 16, WINDOW = 256 };

struct turned {
    uint64_t hash; /* the quarter in question at the top */
    uint32_t index;
};

static int by_hash(const void *a, const void *b)
{
    const struct turned *x = a, *y = b;
    return x->hash != y->hash ? (x->hash > y->hash) - (x->hash < y->hash)
                              : (x->index > y->index) - (x->index < y->index);
}

static uint64_t turn(uint64_t hash, unsigned bits)
{
    return bits ? hash << bits | hash >> (64 - bits) : hash;
}

static bool looks_like(const at_look *a, const at_look *b)
{
    const float light = 4, ratio = 1.25F;
    if (a->sharpness > ratio * b->sharpness || b->sharpness > ratio * a->sharpness)
        return false;
    for (int c = 0; c < 3; c++)
        if (fabsf(a->mean[c] - b->mean[c]) > light ||
            fabsf(a->deviation[c] - b->deviation[c]) > light)
            return false;
    return a->aspect < 1.1F * b->aspect && b->aspect < 1.1F * a->aspect;
}

static uint32_t root_of(uint32_t *group, uint32_t i)
{
    while (group[i] != i) {
        group[i] = group[group[i]];
        i = group[i];
    }
    return i;
}

static bool is_near(const at_look *a, const at_look *b)
{
    return __builtin_popcountll(a->dhash ^ b->dhash) <= DISTANCE && looks_like(a, b);
}

/* Two groups become one only if their first pictures look alike, too: else a chain of pictures,
 * each near the next, would join what has nothing in common. */
static void join(const at_look *looks, uint32_t *group, uint32_t a, uint32_t b)
{
    a = root_of(group, a);
    b = root_of(group, b);
    if (a != b && is_near(&looks[a], &looks[b]))
        group[a < b ? b : a] = a < b ? a : b;
}

static void compare_neighbours(const at_look *looks, const struct turned *t, size_t n,
                               uint32_t *group)
{
    const unsigned others = 64 - QUARTER_BITS;
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n && j <= i + WINDOW; j++) {
            uint64_t differs = t[i].hash ^ t[j].hash;
            if (differs >> others)
                break;
            if (is_near(&looks[t[i].index], &looks[t[j].index]))
                join(looks, group, t[i].index, t[j].index);
        }
}

int at_near_groups(const at_look *looks, size_t n, uint32_t *group, at_error *err)
{
    struct turned *t = calloc(n ? n : 1, sizeof *t);
    if (!t)
        return at_nomem(err);
    for (size_t i = 0; i < n; i++)
        group[i] = (uint32_t)i;
    for (unsigned quarter = 0; quarter < QUARTERS; quarter++) {
        for (size_t i = 0; i < n; i++)
            t[i] = (struct turned){turn(looks[i].dhash, quarter * QUARTER_BITS), (uint32_t)i};
        qsort(t, n, sizeof *t, by_hash);
        compare_neighbours(looks, t, n, group);
    }
    free(t);
    for (size_t i = 0; i < n; i++)
        group[i] = root_of(group, (uint32_t)i);
    return 0;
}
