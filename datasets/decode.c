/* SPDX-License-Identifier: Apache-2.0
 * Decoding: recognises a picture by its first bytes and hands it to a codec.
 *
 * Invariants: nothing is allocated before the size has passed the limits; a codec's failure is a
 * reason of a fixed list, so that errors(reason) can be counted; the pixels lie in the decoder's
 * buffer, which only grows, so that a thread decodes millions of pictures without allocating; they
 * are upright, whichever way the camera was held. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

/* libjpeg-turbo writes rows that begin at a multiple of a vector past the processor's caches, where who
 * looks at the pixels next waits for them: they begin so many bytes behind one. */
enum { BEHIND = 8 };

const char *const at_error_reasons[] = {
#define X(name, text) text,
    AT_REASONS(X)
#undef X
        NULL};

struct at_decoder {
    at_jpeg *jpeg; /* made with the first JPEG */
    at_buffer pixels;
    at_buffer turned; /* takes turns with pixels where a picture is not stored upright */
    at_reduction reduction;
    at_stored stored;
};

/* ---- formats ---- */

static bool starts(const uint8_t *bytes, size_t size, const char *magic, size_t length)
{
    return size >= length && !memcmp(bytes, magic, length);
}

static bool is_foreign(const uint8_t *b, size_t size)
{
    if (starts(b, size, "GIF87a", 6) || starts(b, size, "GIF89a", 6) ||
        starts(b, size, "II*\0", 4) || starts(b, size, "MM\0*", 4) ||
        starts(b, size, "\xFF\x0A", 2) || starts(b, size, "8BPS", 4) ||
        starts(b, size, "\0\0\0\x0CjP  ", 8))
        return true;
    if (starts(b, size, "BM", 2) && size >= 10 && at_get_u32(b + 6) == 0)
        return true;
    if (starts(b, size, "RIFF", 4) && size >= 12 && !memcmp(b + 8, "WEBP", 4))
        return true;
    return size >= 12 && !memcmp(b + 4, "ftyp", 4) &&
           (!memcmp(b + 8, "avif", 4) || !memcmp(b + 8, "hei", 3) || !memcmp(b + 8, "mif1", 4));
}

at_format_id at_format_sniff(const void *bytes, size_t size)
{
    if (starts(bytes, size, "\x89PNG\r\n\x1A\n", 8))
        return AT_FORMAT_PNG;
    if (starts(bytes, size, "\xFF\xD8\xFF", 3))
        return AT_FORMAT_JPEG;
    if (starts(bytes, size, "ATRW", 4))
        return AT_FORMAT_RAW;
    return is_foreign(bytes, size) ? AT_FORMAT_FOREIGN : AT_FORMAT_NONE;
}

const char *at_format_text(at_format_id format)
{
    static const char *const names[] = {"none", "png", "jpeg", "raw", "foreign"};
    return names[format];
}

const char *at_mode_text(at_mode mode)
{
    static const char *const names[] = {
#define X(name, text) text,
        AT_MODES(X)
#undef X
    };
    return names[mode];
}

/* ---- one picture ---- */

int at_decoding_fail(at_decoding *d, at_reason reason, const char *format, ...)
{
    char text[200];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    d->reason = reason;
    return at_fail(d->err, AT_EINPUT, "%s: %s", at_error_reasons[reason], text);
}

static size_t part_of(size_t side, unsigned part)
{
    return side / part + (side % part != 0);
}

unsigned at_decoding_part(const at_decoding *d, size_t width, size_t height)
{
    const at_reduction *r = &d->reduction;
    size_t pixels, wide = (size_t)r->width, high = (size_t)r->height;
    if (!wide || !high || !at_mul(width, height, SIZE_MAX, &pixels) || pixels <= r->over)
        return 1;
    if (d->orientation > 4) /* it lies on its side */
        wide = (size_t)r->height, high = (size_t)r->width;
    unsigned part = 8;
    while (part > 1 && (part_of(width, part) < wide || part_of(height, part) < high))
        part /= 2;
    return part;
}

bool at_decoding_begin(at_decoding *d, size_t width, size_t height, int channels, unsigned part)
{
    size_t pixels, bytes;
    if (width == 0 || height == 0) {
        at_decoding_fail(d, AT_REASON_CORRUPT, "the picture is %zu x %zu", width, height);
        return false;
    }
    size_t wide = part_of(width, part), high = part_of(height, part);
    if (!at_mul(width, height, d->limits.pixels, &pixels) ||
        !at_mul(wide * high, (size_t)channels, SIZE_MAX / 2, &bytes) || width > INT32_MAX ||
        height > INT32_MAX) {
        at_decoding_fail(d, AT_REASON_TOO_LARGE,
                         "%zu x %zu is over the limit of %zu pixels, which --max-pixels raises",
                         width, height, d->limits.pixels);
        return false;
    }
    if (!at_buffer_reserve(d->pixels, bytes + BEHIND)) {
        at_decoding_fail(d, AT_REASON_TOO_LARGE, "no memory for %zu x %zu pixels", width, height);
        return false;
    }
    d->pixels->size = bytes;
    d->stored.width = (int)width;
    d->stored.height = (int)height;
    *d->image = (at_image){.width = (int)wide,
                           .height = (int)high,
                           .channels = channels,
                           .pixels = d->pixels->data + BEHIND};
    return true;
}

static int decode_jpeg(at_decoder *decoder, at_decoding *d)
{
    if (!decoder->jpeg && !(decoder->jpeg = at_jpeg_new()))
        return at_nomem(d->err);
    return at_jpeg_decode(decoder->jpeg, d);
}

static int dispatch(at_decoder *decoder, at_decoding *d)
{
    if (d->size == 0)
        return at_decoding_fail(d, AT_REASON_EMPTY, "0 bytes");
    if (d->size > d->limits.bytes)
        return at_decoding_fail(d, AT_REASON_TOO_LARGE,
                                "%zu bytes, the limit is %zu, which --max-bytes raises", d->size,
                                d->limits.bytes);
    switch (at_format_sniff(d->bytes, d->size)) {
    case AT_FORMAT_PNG:
        return at_png_decode(d);
    case AT_FORMAT_JPEG:
        return decode_jpeg(decoder, d);
    case AT_FORMAT_RAW:
        return at_raw_decode(d);
    case AT_FORMAT_FOREIGN:
        return at_decoding_fail(d, AT_REASON_UNSUPPORTED, "a picture, but neither PNG nor JPEG");
    default:
        return at_decoding_fail(d, AT_REASON_NOT_AN_IMAGE,
                                "neither PNG nor JPEG by its first bytes");
    }
}

static int make_upright(at_decoder *decoder, at_decoding *d)
{
    if (d->orientation == 1)
        return 0;
    at_buffer stored = decoder->pixels;
    if (!at_buffer_reserve(&decoder->turned, stored.size))
        return at_decoding_fail(d, AT_REASON_TOO_LARGE, "no memory to turn %d x %d pixels",
                                d->image->width, d->image->height);
    at_image upright = {.pixels = decoder->turned.data};
    at_image_turn(d->image, d->orientation, &upright);
    *d->image = upright;
    if (d->orientation > 4) {
        int width = d->stored.width;
        d->stored.width = d->stored.height;
        d->stored.height = width;
    }
    decoder->turned.size = stored.size;
    decoder->pixels = decoder->turned;
    decoder->turned = stored;
    return 0;
}

int at_decoder_decode(at_decoder *decoder, const void *bytes, size_t size,
                      const at_decode_limits *limits, at_image *view, const char **reason,
                      at_error *err)
{
    at_decoding d = {.bytes = bytes,
                     .size = size,
                     .limits = at_limits_resolved(limits ? *limits : (at_decode_limits){0}),
                     .reduction = decoder->reduction,
                     .pixels = &decoder->pixels,
                     .image = view,
                     .orientation = 1,
                     .reason = AT_REASON_UNREADABLE,
                     .err = err};
    *view = (at_image){0};
    int code = dispatch(decoder, &d);
    if (code == 0)
        code = make_upright(decoder, &d);
    decoder->stored = d.stored;
    if (code < 0)
        *view = (at_image){0};
    if (reason)
        *reason = code < 0 ? at_error_reasons[d.reason] : NULL;
    return code;
}

void at_decoder_reduce(at_decoder *d, at_reduction reduction)
{
    d->reduction = reduction;
}

at_stored at_decoder_stored(const at_decoder *d)
{
    return d->stored;
}

bool at_decoder_serves(const at_decoder *d, at_reduction reduction)
{
    const at_stored *s = &d->stored;
    const at_decoding upright = {.reduction = reduction, .orientation = 1};
    return !s->part || s->part == at_decoding_part(&upright, (size_t)s->width, (size_t)s->height);
}

at_decoder *at_decoder_new(void)
{
    return calloc(1, sizeof(at_decoder));
}

static void decoder_fini(at_decoder *d)
{
    at_jpeg_free(d->jpeg);
    at_buffer_fini(&d->pixels);
    at_buffer_fini(&d->turned);
}

void at_decoder_free(at_decoder *d)
{
    if (!d)
        return;
    decoder_fini(d);
    free(d);
}

int at_image_decode(const void *bytes, size_t size, const at_decode_limits *limits, at_image *out,
                    const char **reason, at_error *err)
{
    at_decoder decoder = {0};
    int code = at_decoder_decode(&decoder, bytes, size, limits, out, reason, err);
    if (code == 0) {
        memmove(decoder.pixels.data, out->pixels, decoder.pixels.size);
        out->pixels = decoder.pixels.data;
        decoder.pixels = (at_buffer){0}; /* they are the caller's now */
    }
    decoder_fini(&decoder);
    return code;
}

void at_image_fini(at_image *image)
{
    free(image->pixels);
    *image = (at_image){0};
}

/* ---- our raw form ---- */

void at_raw_header(uint8_t out[AT_RAW_HEADER], uint32_t width, uint32_t height, uint32_t channels)
{
    memcpy(out, "ATRW", 4);
    at_put_u32(out + 4, width);
    at_put_u32(out + 8, height);
    at_put_u32(out + 12, channels);
}

int at_raw_decode(at_decoding *d)
{
    if (d->size < AT_RAW_HEADER)
        return at_decoding_fail(d, AT_REASON_TRUNCATED, "the header ends at byte %zu", d->size);
    uint32_t channels = at_get_u32(d->bytes + 12);
    if (channels != 1 && channels != 3)
        return at_decoding_fail(d, AT_REASON_CORRUPT, "%u channels", channels);
    size_t width = at_get_u32(d->bytes + 4), height = at_get_u32(d->bytes + 8), wanted;
    size_t there = d->size - AT_RAW_HEADER;
    if (at_mul(width, height, d->limits.pixels, &wanted) && there / channels < wanted)
        return at_decoding_fail(d, AT_REASON_TRUNCATED, "%zu bytes of %zu x %zu pixels", there,
                                width, height);
    if (!at_decoding_begin(d, width, height, (int)channels, 1))
        return AT_EINPUT;
    if (there > d->pixels->size)
        return at_decoding_fail(d, AT_REASON_CORRUPT, "%zu bytes too many",
                                there - d->pixels->size);
    d->stored.mode = channels == 1 ? AT_MODE_GREY : AT_MODE_RGB;
    d->stored.depth = 8;
    memcpy(d->image->pixels, d->bytes + AT_RAW_HEADER, d->pixels->size);
    return 0;
}
