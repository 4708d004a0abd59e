/* SPDX-License-Identifier: Apache-2.0
 * A thread's way to a cache's samples. Decoded ones lie in the mapped file and are only pointed at;
 * encoded ones are decoded and fitted into a ring of AT_READER_KEPT pictures. What comes out is the same.
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

struct at_reader {
    at_cache *cache;
    at_decoder *decoder; /* NULL: samples are decoded already */
    at_frame frame;
    uint8_t *kept[AT_READER_KEPT];
    size_t next;
};

/* It was decoded when the cache was filled, within the limits of its data set. */
static const at_decode_limits no_limits = {
    .pixels = SIZE_MAX, .bytes = SIZE_MAX, .seconds = 1e9, .scans = INT64_MAX};

at_reader *at_reader_new(at_cache *c, at_error *err)
{
    at_reader *r = calloc(1, sizeof *r);
    if (!r)
        goto fail;
    *r = (at_reader){.cache = c, .frame = at_cache_frame(c)};
    if (c->file[AT_TRAIN].header.form != AT_FORM_ENCODED)
        return r;
    r->decoder = at_decoder_new();
    if (!r->decoder)
        goto fail;
    at_decoder_reduce(r->decoder, (at_reduction){r->frame.height, r->frame.width, 0});
    for (int i = 0; i < AT_READER_KEPT; i++)
        if (!(r->kept[i] = at_alloc_aligned(c->file[AT_TRAIN].sample_bytes)))
            goto fail;
    return r;
fail:
    at_reader_free(r);
    at_nomem(err);
    return NULL;
}

void at_reader_free(at_reader *r)
{
    if (!r)
        return;
    for (int i = 0; i < AT_READER_KEPT; i++)
        at_free_aligned(r->kept[i]);
    at_decoder_free(r->decoder);
    free(r);
}

static int decode(at_reader *r, const at_cache_file *f, size_t i, const uint8_t *bytes, size_t size,
                  const uint8_t **pixels, at_error *err)
{
    at_image view;
    uint8_t *out = r->kept[r->next++ % AT_READER_KEPT];
    int rc = at_decoder_decode(r->decoder, bytes, size, &no_limits, &view, NULL, err);
    if (!rc)
        rc = at_image_frame(&view, &r->frame, out, err);
    *pixels = out;
    return rc ? at_fail_in(err, "%s: sample %zu", f->path, i) : 0;
}

int at_reader_sample(at_reader *r, at_split split, size_t i, const uint8_t **pixels, int32_t *label,
                     at_error *err)
{
    at_cache_file *f = &r->cache->file[split];
    const at_cache_header *h = &f->header;
    if (i >= h->samples)
        return at_fail(err, AT_EUSAGE, "%s: sample %zu of %llu", f->path, i,
                       (unsigned long long)h->samples);
    size_t batch = i / h->batch_samples, bytes;
    uint64_t offset;
    int rc = at_cache_file_check(f, batch, NULL) ? at_cache_mend(r->cache, split, batch, err) : 0;
    if (rc)
        return rc;
    at_cache_file_batch(f, batch, &offset, &bytes);
    *label = f->labels[i];
    if (r->decoder)
        return decode(r, f, i, f->map + offset, bytes, pixels, err);
    *pixels = f->map + offset + i % h->batch_samples * f->sample_bytes;
    return 0;
}
