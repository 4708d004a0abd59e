/* SPDX-License-Identifier: Apache-2.0
 * whiten: shows the first training images to the rows that begin with whitening filters. Rank 0
 * does it; the weights are given to all ranks before the first step (train.c).
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_IMAGES = 5000, MOST_BYTES = 64 << 20 };

int at_whiten(at_net *net, at_cache *cache, at_error *err)
{
    if (!at_net_wants_whitening(net))
        return 0;
    int height, width, channels;
    at_cache_shape(cache, &height, &width, &channels);
    size_t bytes = (size_t)height * (size_t)width * (size_t)channels;
    size_t n = at_cache_count(cache, AT_TRAIN), fit = MOST_BYTES / bytes + 1;
    n = n < MOST_IMAGES ? n : MOST_IMAGES;
    n = n < fit ? n : fit;
    uint8_t *all = malloc(n * bytes);
    at_reader *reader = at_reader_new(cache, err);
    int code = all && reader ? 0 : at_nomem(err);
    for (size_t i = 0; i < n && code == 0; i++) {
        const uint8_t *pixels;
        int32_t label;
        code = at_reader_sample(reader, AT_TRAIN, i, &pixels, &label, err);
        if (code == 0)
            memcpy(all + i * bytes, pixels, bytes);
    }
    if (code == 0)
        code = at_net_whiten(net, all, n, err);
    at_reader_free(reader);
    free(all);
    return code;
}
