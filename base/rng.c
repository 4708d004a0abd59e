/* SPDX-License-Identifier: Apache-2.0
 * Random streams: xoshiro256++ 1.0 (Blackman and Vigna 2018), seeded by splitmix64 from
 * (seed, purpose, id), so that a stream never depends on how another one was used and results do
 * not depend on thread or rank counts. Only integer arithmetic decides the sequence. */
#include "atoll/base.h"

#include <math.h>

static uint64_t splitmix(uint64_t *state)
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

/* FNV-1a: spreads the names of purposes; splitmix does the rest. */
static uint64_t hash_name(const char *name)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *name; name++)
        h = (h ^ (unsigned char)*name) * 0x100000001b3u;
    return h;
}

at_rng at_rng_stream(uint64_t seed, const char *purpose, uint64_t id)
{
    uint64_t state = seed;
    state = splitmix(&state) ^ hash_name(purpose);
    state = splitmix(&state) ^ id;
    at_rng rng;
    for (int i = 0; i < 4; i++)
        rng.s[i] = splitmix(&state);
    return rng;
}

static uint64_t rotate_left(uint64_t x, int k)
{
    return (x << k) | (x >> (64 - k));
}

uint64_t at_rng_next(at_rng *rng)
{
    uint64_t *s = rng->s;
    uint64_t result = rotate_left(s[0] + s[3], 23) + s[0];
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

/* Lemire 2019, "Fast random integer generation in an interval": the high half of a product, where
 * the few low halves that would favour some results are drawn again. */
uint64_t at_rng_below(at_rng *rng, uint64_t n)
{
    if (n == 0)
        return 0;
    unsigned __int128 product = (unsigned __int128)at_rng_next(rng) * n;
    if ((uint64_t)product < n) {
        uint64_t uneven = (0 - n) % n;
        while ((uint64_t)product < uneven)
            product = (unsigned __int128)at_rng_next(rng) * n;
    }
    return (uint64_t)(product >> 64);
}

double at_rng_uniform(at_rng *rng)
{
    return (double)(at_rng_next(rng) >> 11) * 0x1p-53;
}

/* Box and Muller, one of the pair: every call takes two draws, so a stream's place is known. */
double at_rng_normal(at_rng *rng)
{
    double radius = sqrt(-2 * log(1 - at_rng_uniform(rng)));
    return radius * cos(6.283185307179586 * at_rng_uniform(rng));
}

void at_rng_shuffle(at_rng *rng, uint32_t *items, size_t n)
{
    for (size_t i = n; i > 1; i--) {
        size_t j = at_rng_below(rng, i);
        uint32_t item = items[i - 1];
        items[i - 1] = items[j];
        items[j] = item;
    }
}
