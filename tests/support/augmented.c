/* SPDX-License-Identifier: Apache-2.0
 * Random pictures that go through augmentation. */
#include "augmented.h"

#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

size_t augmented_bytes(const augmented *p)
{
    return (size_t)(p->height * p->width * p->channels);
}

at_augmenter *augmented_new(const at_augment *keys, int height, int width, int channels,
                            at_error *err)
{
    static const float mean[] = {0.2f, 0.5f, 0.7f};
    return at_augmenter_new(keys, 11, height, width, channels, mean, err);
}

void augmented_init(augmented *p, const at_augment *keys, int height, int width, int channels,
                    at_rng *rng)
{
    at_error err = {0};
    *p = (augmented){.height = height, .width = width, .channels = channels};
    p->in = malloc(augmented_bytes(p));
    p->out = malloc(augmented_bytes(p));
    p->expected = malloc(augmented_bytes(p));
    for (size_t i = 0; i < augmented_bytes(p); i++)
        p->in[i] = (uint8_t)at_rng_next(rng);
    p->augmenter = augmented_new(keys, height, width, channels, &err);
    if (!p->augmenter)
        fail_msg("%s", err.message);
    p->scratch = malloc(at_augmenter_scratch(p->augmenter));
}

void augmented_fini(augmented *p)
{
    free(p->in);
    free(p->out);
    free(p->expected);
    free(p->scratch);
    at_augmenter_free(p->augmenter);
}

void augmented_apply(augmented *p, uint64_t epoch, uint32_t key)
{
    at_augmenter_apply(p->augmenter, epoch, key, p->in, p->out, p->scratch, NULL);
}
