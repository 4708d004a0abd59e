/* SPDX-License-Identifier: Apache-2.0
 * Makes one batch of a cache from the data set, as it lies on disk: what filling, mending and
 * verifying share, so that a batch has the same bytes whoever makes it.
 */
#include "internal.h"

#include <string.h>

int at_cache_maker_init(at_cache_maker *m, const at_cache_plan *p, const atomic_bool *stop,
                        at_error *err)
{
    *m = (at_cache_maker){.plan = p, .stop = stop, .decoder = at_decoder_new()};
    m->room = at_alloc_aligned(at_cache_batch_bytes(&p->header[AT_TRAIN]));
    if (!m->decoder || !m->room) {
        at_cache_maker_fini(m);
        return at_nomem(err);
    }
    at_decoder_reduce(m->decoder, (at_reduction){p->frame.height, p->frame.width, 0});
    return 0;
}

void at_cache_maker_fini(at_cache_maker *m)
{
    at_decoder_free(m->decoder);
    at_free_aligned(m->room);
    *m = (at_cache_maker){0};
}

/* Sample i as its ingest decoded and fitted it, where that is there: grey may become RGB yet, which
 * at_image_frame makes of a copy. */
static bool take_frame(const at_cache_maker *m, at_split split, size_t i, uint8_t *pixels,
                       int32_t *label)
{
    const at_cache_plan *p = m->plan;
    at_image kept = {.height = p->frame.height,
                     .width = p->frame.width,
                     .channels = p->frame.channels,
                     .pixels = pixels};
    return p->frames &&
           at_frames_read(p->frames, p->dataset, split, i, pixels, &kept.channels, label) &&
           (kept.channels == p->frame.channels ||
            at_image_frame(&kept, &p->frame, pixels, NULL) == 0);
}

/* Sample i decoded and fitted; m->data and m->bytes become its file's. */
static int fit_sample(at_cache_maker *m, at_split split, size_t i, uint8_t *pixels, int32_t *label,
                      at_error *err)
{
    const at_cache_plan *p = m->plan;
    at_sample sample;
    at_image view;
    int rc = at_dataset_sample(p->dataset, split, i, &sample, err);
    if (rc)
        return rc;
    *label = sample.label;
    m->data = sample.bytes;
    m->bytes = sample.size;
    rc = at_decoder_decode(m->decoder, sample.bytes, sample.size, at_dataset_limits(p->dataset),
                           &view, NULL, err);
    if (!rc)
        rc = at_image_frame(&view, &p->frame, pixels, err);
    return rc ? at_fail_in(err, "%s", at_dataset_sample_path(p->dataset, split, i)) : 0;
}

static void add_pixels(at_cache_sums *s, const uint8_t *pixels, size_t n, size_t channels)
{
    s->pixels += n;
    for (size_t i = 0; i < n; i++)
        for (size_t c = 0; c < channels; c++) {
            uint64_t v = pixels[i * channels + c];
            s->value[c] += v;
            s->square[c] += v * v;
        }
}

void at_cache_sums_add(at_cache_sums *to, const at_cache_sums *from)
{
    to->pixels += from->pixels;
    for (size_t c = 0; c < AT_CACHE_MAX_CHANNELS; c++) {
        to->value[c] += from->value[c];
        to->square[c] += from->square[c];
    }
}

int at_cache_maker_make(at_cache_maker *m, at_split split, size_t batch, at_error *err)
{
    const at_cache_header *h = &m->plan->header[split];
    size_t first = batch * h->batch_samples, left = h->samples - first;
    size_t each = at_cache_sample_bytes(h), all = at_cache_batch_bytes(h);
    m->samples = left < h->batch_samples ? left : h->batch_samples;
    for (size_t i = 0; i < m->samples; i++) {
        if (at_interrupted() || (m->stop && atomic_load(m->stop)))
            return at_fail(err, AT_EINTERRUPTED, "interrupted while making %s, batch %zu",
                           at_split_name(split), batch);
        uint8_t *pixels = m->room + i * each;
        int rc = take_frame(m, split, first + i, pixels, &m->labels[i])
                     ? 0
                     : fit_sample(m, split, first + i, pixels, &m->labels[i], err);
        if (rc)
            return rc;
    }
    if (split == AT_TRAIN)
        add_pixels(&m->sums, m->room, m->samples * (size_t)h->height * h->width, h->channels);
    if (m->plan->form == AT_FORM_ENCODED)
        return 0;
    memset(m->room + m->samples * each, 0, all - m->samples * each);
    m->data = m->room;
    m->bytes = all;
    return 0;
}
