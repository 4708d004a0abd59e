/* SPDX-License-Identifier: Apache-2.0
 * Random pictures that go through augmentation, each in a block of exactly its size, so that the
 * address sanitizer sees every step beside it.
 */
#ifndef ATOLL_TEST_AUGMENTED_H
#define ATOLL_TEST_AUGMENTED_H

#include <atoll/cache.h>

typedef struct augmented {
    int height, width, channels;
    uint8_t *in, *out, *expected; /* [H,W,C] */
    at_augmenter *augmenter;
    void *scratch;
} augmented;

/* What is in `in` is drawn from rng; fails the test where the keys are refused. */
void augmented_init(augmented *p, const at_augment *keys, int height, int width, int channels,
                    at_rng *rng);
void augmented_fini(augmented *p);
size_t augmented_bytes(const augmented *p);
/* in → out. */
void augmented_apply(augmented *p, uint64_t epoch, uint32_t key);
/* The augmenter of seed 11 and mean colour 0.2, 0.5, 0.7. */
at_augmenter *augmented_new(const at_augment *keys, int height, int width, int channels,
                            at_error *err);

#endif
