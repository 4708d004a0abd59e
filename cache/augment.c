/* SPDX-License-Identifier: Apache-2.0
 * A picture through all augmentations that are wanted: those that place the view, one pass that
 * moves the pixels, those that paint over them, and at last one of those that mix two pictures.
 *
 * Each augmentation draws from its own stream of (seed, its name, epoch, key of the sample), so
 * neither threads, ranks nor batch size change a pixel, and wanting one more leaves what the others
 * draw as it was.
 */
#include "internal.h"

#include <math.h>
#include <stdlib.h>

#define AUGMENT(name) extern const at_augment_kind at_augment_##name;
#include "augments.def"
#undef AUGMENT

static const at_augment_kind *const table[] = {
#define AUGMENT(name) &at_augment_##name,
#include "augments.def"
#undef AUGMENT
};
enum { KINDS = sizeof table / sizeof *table };

static int choose_kinds(at_augmenter *a, at_error *err)
{
    size_t n = 0;
    for (size_t i = 0; i < KINDS; i++) {
        int wanted = table[i]->wanted(a, err);
        if (wanted < 0)
            return wanted;
        if (!wanted)
            continue;
        a->kinds[n++] = table[i];
        a->mixers += table[i]->mix != NULL;
    }
    return 0;
}

/* Every shift that can come up. */
static int plan_moves(at_augmenter *a, at_error *err)
{
    int64_t most = a->width - 1, reach = a->keys.shift < most ? a->keys.shift : most;
    return at_row_moves_new(a->width, a->channels, (int)reach, &a->moves, err);
}

at_augmenter *at_augmenter_new(const at_augment *keys, uint64_t seed, int height, int width,
                               int channels, const float *mean, at_error *err)
{
    bool fits = height >= 1 && height <= AT_CACHE_MAX_SIDE && width >= 1 &&
                width <= AT_CACHE_MAX_SIDE && channels >= 1 && channels <= AT_CACHE_MAX_CHANNELS;
    if (!fits) {
        at_fail(err, AT_EUSAGE, "pictures of %dx%dx%d cannot be augmented", height, width,
                channels);
        return NULL;
    }
    at_augmenter *a = calloc(1, sizeof *a);
    if (!a || !(a->kinds = calloc(KINDS + 1, sizeof *a->kinds))) {
        free(a);
        at_nomem(err);
        return NULL;
    }
    a->keys = *keys;
    a->seed = seed;
    a->height = height;
    a->width = width;
    a->channels = channels;
    for (int c = 0; c < channels; c++)
        a->mean[c] = (uint8_t)lroundf(255 * mean[c]);
    if (choose_kinds(a, err) || plan_moves(a, err)) {
        at_augmenter_free(a);
        return NULL;
    }
    return a;
}

void at_augmenter_free(at_augmenter *a)
{
    if (!a)
        return;
    free(a->kinds);
    at_row_moves_free(a->moves);
    free(a);
}

size_t at_augmenter_scratch(const at_augmenter *a)
{
    size_t most = 0;
    for (const at_augment_kind **k = a->kinds; *k; k++) {
        size_t bytes = (*k)->scratch ? (*k)->scratch(a) : 0;
        most = bytes > most ? bytes : most;
    }
    return most;
}

static at_draw draw_of(const at_augmenter *a, const char *name, uint64_t epoch, uint32_t key)
{
    return (at_draw){a, epoch, key, at_rng_stream(a->seed, name, epoch << 32 | key)};
}

void at_augmenter_apply(const at_augmenter *a, uint64_t epoch, uint32_t key, const uint8_t *in,
                        uint8_t *out, void *scratch, const uint8_t *next)
{
    at_view view = {.height = a->height,
                    .width = a->width,
                    .channels = a->channels,
                    .box_height = a->height,
                    .box_width = a->width,
                    .next = next};
    for (const at_augment_kind **k = a->kinds; *k; k++) {
        if (!(*k)->place)
            continue;
        at_draw d = draw_of(a, (*k)->name, epoch, key);
        (*k)->place(&d, &view);
    }
    at_view_move(&view, a->moves, in, out, scratch);
    for (const at_augment_kind **k = a->kinds; *k; k++) {
        if (!(*k)->paint)
            continue;
        at_draw d = draw_of(a, (*k)->name, epoch, key);
        (*k)->paint(&d, out, scratch);
    }
}

/* ---- two pictures ---- */

bool at_augmenter_mixes(const at_augmenter *a)
{
    return a->mixers > 0;
}

/* Where several can mix, each sample draws one of them. */
static const at_augment_kind *choose_mixer(const at_augmenter *a, uint64_t epoch, uint32_t key)
{
    at_draw d = draw_of(a, "mixer", epoch, key);
    uint64_t chosen = a->mixers > 1 ? at_rng_below(&d.rng, a->mixers) : 0;
    const at_augment_kind **k = a->kinds;
    while (!(*k)->mix || chosen-- > 0)
        k++;
    return *k;
}

float at_augmenter_mix(const at_augmenter *a, uint64_t epoch, uint32_t key, uint8_t *pixels,
                       const uint8_t *other)
{
    const at_augment_kind *kind = choose_mixer(a, epoch, key);
    at_draw d = draw_of(a, kind->name, epoch, key);
    return kind->mix(&d, pixels, other);
}

/* Gamma(shape, 1) for a shape of at least 1: Marsaglia and Tsang 2000. */
static double draw_gamma(at_rng *rng, double shape)
{
    double d = shape - 1.0 / 3, c = 1 / sqrt(9 * d);
    for (;;) {
        double x = at_rng_normal(rng), v = 1 + c * x, u = 1 - at_rng_uniform(rng);
        v = v * v * v;
        if (v > 0 && log(u) < 0.5 * x * x + d - d * v + d * log(v))
            return d * v;
    }
}

/* From two gammas, in logarithms: for a small `a` both would be 0. */
double at_draw_beta(at_rng *rng, double a)
{
    double log_of[2];
    for (int i = 0; i < 2; i++) {
        log_of[i] = log(draw_gamma(rng, a + 1));
        log_of[i] += log(1 - at_rng_uniform(rng)) / a;
    }
    return 1 / (1 + exp(log_of[1] - log_of[0]));
}
