/* SPDX-License-Identifier: Apache-2.0
 * colour: brightness, contrast, saturation and hue in a random order, as torchvision's ColorJitter.
 * Of the first three, factors are uniform in [max(0, 1-x), 1+x] and blend the picture with black,
 * with the mean of its grey, or with its grey; hue turns the circle of HSV by a uniform part in
 * [-x, x]. Values are cut to 0..255 after each and rounded once, at the end.
 *
 * The picture is taken apart into planes of floats, so that each step is a loop without branches
 * that the compiler turns into vectors. The sum of the greys has a fixed order: the same bits for
 * any vector length.
 */
#include "internal.h"

#ifndef __clang__ /* selections become vectors; no trap is ever enabled */
#pragma GCC optimize("no-trapping-math")
#endif

enum { R, G, B, LANES = 8 };

static int wanted(const at_augmenter *a, at_error *err)
{
    const at_augment *k = &a->keys;
    const double value[AT_COLOUR_STEPS] = {k->brightness, k->contrast, k->saturation, k->hue};
    static const char *const name[AT_COLOUR_STEPS] = {"brightness", "contrast", "saturation",
                                                      "hue"};
    int any = 0;
    for (int i = 0; i < AT_COLOUR_STEPS; i++) {
        if (!(value[i] >= 0 && (i != AT_HUE || value[i] <= 0.5)))
            return at_fail(err, AT_EINPUT, "augment.%s: %g is not %s", name[i], value[i],
                           i == AT_HUE ? "in 0..0.5" : "0 or more");
        bool fits = a->channels == 3 || (a->channels == 1 && i < AT_SATURATION);
        if (value[i] > 0 && !fits)
            return at_fail(err, AT_EINPUT,
                           "augment.%s needs colour images: these have %d channel%s", name[i],
                           a->channels, a->channels == 1 ? "" : "s");
        any |= value[i] > 0;
    }
    return any;
}

/* ---- drawing ---- */

static double factor(at_rng *rng, double x)
{
    double low = x < 1 ? 1 - x : 0;
    return low + (1 + x - low) * at_rng_uniform(rng);
}

void at_colour_draw(const at_augment *k, at_rng *rng, at_colour *out)
{
    out->amount[AT_BRIGHTNESS] = (float)factor(rng, k->brightness);
    out->amount[AT_CONTRAST] = (float)factor(rng, k->contrast);
    out->amount[AT_SATURATION] = (float)factor(rng, k->saturation);
    out->amount[AT_HUE] = (float)(k->hue * (2 * at_rng_uniform(rng) - 1));
    for (uint32_t i = 0; i < AT_COLOUR_STEPS; i++)
        out->order[i] = i;
    at_rng_shuffle(rng, out->order, AT_COLOUR_STEPS);
}

/* ---- painting: planes of n floats, 0..255 ---- */

static float clamp(float x)
{
    x = x > 0 ? x : 0;
    return x < 255 ? x : 255;
}

/* f * x + (1 - f) * level */
static void blend_level(float *x, size_t n, float f, float level)
{
    float rest = (1 - f) * level;
    for (size_t i = 0; i < n; i++)
        x[i] = clamp(f * x[i] + rest);
}

static float grey(float r, float g, float b)
{
    return 0.2989f * r + 0.587f * g + 0.114f * b;
}

static float mean_grey(float *const plane[3], int channels, size_t n)
{
    double sum[LANES] = {0}, all = 0;
    for (size_t i = 0; i < n; i++) {
        float level = channels == 3 ? grey(plane[R][i], plane[G][i], plane[B][i]) : plane[0][i];
        sum[i % LANES] += (double)level;
    }
    for (int k = 0; k < LANES; k++)
        all += sum[k];
    return (float)(all / (double)n);
}

static void saturate(float *restrict r, float *restrict g, float *restrict b, size_t n, float f)
{
    for (size_t i = 0; i < n; i++) {
        float rest = (1 - f) * grey(r[i], g[i], b[i]);
        r[i] = clamp(f * r[i] + rest);
        g[i] = clamp(f * g[i] + rest);
        b[i] = clamp(f * b[i] + rest);
    }
}

/* A channel of HSV with value `top` and chroma `range` at this sixth of the circle, 0 <= at < 11:
 * red at h + 5, green at h + 3, blue at h + 1. */
static float channel_at(float at, float top, float range)
{
    at = at >= 6 ? at - 6 : at;
    float down = at < 4 - at ? at : 4 - at;
    down = down < 1 ? down : 1;
    down = down > 0 ? down : 0;
    return top - range * down;
}

/* turn: of the circle, -0.5 to 0.5. */
static void turn_hue(float *restrict r, float *restrict g, float *restrict b, size_t n, float turn)
{
    float sixths = turn < 0 ? 6 * turn + 6 : 6 * turn;
    for (size_t i = 0; i < n; i++) {
        float top = r[i] > g[i] ? r[i] : g[i], low = r[i] < g[i] ? r[i] : g[i];
        top = top > b[i] ? top : b[i];
        low = low < b[i] ? low : b[i];
        float range = top - low, per = 1 / (range > 0 ? range : 1);
        float in_red = (g[i] - b[i]) * per, in_green = (b[i] - r[i]) * per + 2;
        float in_blue = (r[i] - g[i]) * per + 4;
        float h = top == g[i] ? in_green : in_blue;
        h = (top == r[i] ? in_red : h) + sixths;
        h = h < 0 ? h + 6 : h;
        h = h >= 6 ? h - 6 : h;
        r[i] = channel_at(h + 5, top, range);
        g[i] = channel_at(h + 3, top, range);
        b[i] = channel_at(h + 1, top, range);
    }
}

static void run_step(uint32_t step, float amount, float *const plane[3], int channels, size_t n)
{
    if (step == AT_HUE && amount != 0) {
        turn_hue(plane[R], plane[G], plane[B], n, amount);
    } else if (step == AT_SATURATION && amount != 1) {
        saturate(plane[R], plane[G], plane[B], n, amount);
    } else if ((step == AT_BRIGHTNESS || step == AT_CONTRAST) && amount != 1) {
        float level = step == AT_CONTRAST ? mean_grey(plane, channels, n) : 0;
        for (int c = 0; c < channels; c++)
            blend_level(plane[c], n, amount, level);
    }
}

/* Bytes of three channels to planes and back: shuffles, where the CPU has them. */
#define INLINE static inline __attribute__((always_inline))
INLINE void split(const uint8_t *restrict in, size_t n, float *restrict r, float *restrict g,
                  float *restrict b)
{
    for (size_t i = 0; i < n; i++) {
        r[i] = in[3 * i];
        g[i] = in[3 * i + 1];
        b[i] = in[3 * i + 2];
    }
}

INLINE void join(const float *restrict r, const float *restrict g, const float *restrict b,
                 size_t n, uint8_t *restrict out)
{
    for (size_t i = 0; i < n; i++) {
        out[3 * i] = (uint8_t)(int)(r[i] + 0.5f);
        out[3 * i + 1] = (uint8_t)(int)(g[i] + 0.5f);
        out[3 * i + 2] = (uint8_t)(int)(b[i] + 0.5f);
    }
}

#ifdef __x86_64__
#define SHUFFLES    __attribute__((target("ssse3")))
#define CAN_SHUFFLE __builtin_cpu_supports("ssse3")
#else
#define SHUFFLES
#define CAN_SHUFFLE true
#endif
SHUFFLES static void split_shuffled(const uint8_t *in, size_t n, float *const plane[3])
{
    split(in, n, plane[R], plane[G], plane[B]);
}

SHUFFLES static void join_shuffled(float *const plane[3], size_t n, uint8_t *out)
{
    join(plane[R], plane[G], plane[B], n, out);
}

static void take_apart(const uint8_t *pixels, int channels, size_t n, float *const plane[3])
{
    if (channels == 3 && CAN_SHUFFLE)
        split_shuffled(pixels, n, plane);
    else if (channels == 3)
        split(pixels, n, plane[R], plane[G], plane[B]);
    else
        for (size_t i = 0; i < n; i++)
            plane[0][i] = pixels[i];
}

static void put_together(float *const plane[3], int channels, size_t n, uint8_t *pixels)
{
    if (channels == 3 && CAN_SHUFFLE)
        join_shuffled(plane, n, pixels);
    else if (channels == 3)
        join(plane[R], plane[G], plane[B], n, pixels);
    else
        for (size_t i = 0; i < n; i++)
            pixels[i] = (uint8_t)(int)(plane[0][i] + 0.5f);
}

void at_colour_paint(const at_colour *c, uint8_t *pixels, int channels, size_t n, float *scratch)
{
    float *const plane[3] = {scratch, scratch + n, scratch + 2 * n};
    take_apart(pixels, channels, n, plane);
    for (int i = 0; i < AT_COLOUR_STEPS; i++)
        run_step(c->order[i], c->amount[c->order[i]], plane, channels, n);
    put_together(plane, channels, n, pixels);
}

/* ---- the augmentation ---- */

static size_t area(const at_augmenter *a)
{
    return (size_t)a->height * (size_t)a->width;
}

static void paint(at_draw *d, uint8_t *pixels, void *scratch)
{
    at_colour c;
    at_colour_draw(&d->a->keys, &d->rng, &c);
    at_colour_paint(&c, pixels, d->a->channels, area(d->a), scratch);
}

static size_t scratch(const at_augmenter *a)
{
    return 3 * area(a) * sizeof(float);
}

const at_augment_kind at_augment_colour = {
    .name = "colour", .wanted = wanted, .paint = paint, .scratch = scratch};
