/* SPDX-License-Identifier: Apache-2.0
 * EXIF blocks made by hand: a TIFF header, IFD 0, the EXIF and GPS IFDs, then the values that do
 * not fit into their entries. */
#include "exif_block.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <cmocka.h>

enum { SIZE = 2048, VALUES = 512 };
enum { ASCII = 2, SHORT = 3, LONG = 4, RATIONAL = 5 };

struct writer {
    uint8_t bytes[SIZE];
    size_t entry, value; /* where the next ones go */
    bool big;
};

static void put(struct writer *w, size_t at, uint32_t v, int bytes)
{
    for (int i = 0; i < bytes; i++)
        w->bytes[at + (size_t)i] = (uint8_t)(v >> 8 * (w->big ? bytes - 1 - i : i));
}

/* An entry whose value is an offset to `bytes` bytes, or lies in it where bytes is 0. Returns where
 * the value is to be written. */
static size_t add_entry(struct writer *w, int tag, int type, uint32_t count, size_t bytes)
{
    put(w, w->entry, (uint32_t)tag, 2);
    put(w, w->entry + 2, (uint32_t)type, 2);
    put(w, w->entry + 4, count, 4);
    size_t value = w->entry + 8;
    if (bytes) {
        put(w, value, (uint32_t)w->value, 4);
        value = w->value;
        w->value += (bytes + 1) & ~(size_t)1;
        assert_true(w->value <= SIZE);
    }
    w->entry += 12;
    return value;
}

static void add_text(struct writer *w, int tag, const char *text)
{
    size_t n = strlen(text) + 1;
    memcpy(w->bytes + add_entry(w, tag, ASCII, (uint32_t)n, n > 4 ? n : 0), text, n);
}

static void add_degrees(struct writer *w, int tag, double degrees)
{
    size_t at = add_entry(w, tag, RATIONAL, 3, 24);
    uint32_t parts[3] = {(uint32_t)degrees, (uint32_t)(fmod(degrees, 1) * 60),
                         (uint32_t)lround(fmod(degrees * 60, 1) * 60 * 1000)};
    for (size_t i = 0; i < 3; i++) {
        put(w, at + 8 * i, parts[i], 4);
        put(w, at + 8 * i + 4, i == 2 ? 1000 : 1, 4);
    }
}

static void begin_ifd(struct writer *w, size_t at, uint32_t entries)
{
    put(w, at, entries, 2);
    w->entry = at + 2;
}

encoded exif_block(const exif_spec *e)
{
    struct writer w = {.value = VALUES, .big = e->big_endian};
    bool place = e->latitude != 0 || e->longitude != 0;
    memcpy(w.bytes, w.big ? "MM" : "II", 2);
    put(&w, 2, 42, 2);
    put(&w, 4, 8, 4);
    begin_ifd(&w, 8, (uint32_t)(!!e->make + !!e->model + !!e->orientation + !!e->time + place));
    if (e->make)
        add_text(&w, 0x010F, e->make);
    if (e->model)
        add_text(&w, 0x0110, e->model);
    if (e->orientation)
        put(&w, add_entry(&w, 0x0112, SHORT, 1, 0), (uint32_t)e->orientation, 2);
    if (e->time)
        put(&w, add_entry(&w, 0x8769, LONG, 1, 0), 200, 4);
    if (place)
        put(&w, add_entry(&w, 0x8825, LONG, 1, 0), 300, 4);
    if (e->time) {
        begin_ifd(&w, 200, 1);
        add_text(&w, 0x9003, e->time);
    }
    if (place) {
        begin_ifd(&w, 300, 4);
        add_text(&w, 1, e->latitude < 0 ? "S" : "N");
        add_degrees(&w, 2, fabs(e->latitude));
        add_text(&w, 3, e->longitude < 0 ? "W" : "E");
        add_degrees(&w, 4, fabs(e->longitude));
    }
    encoded out = {malloc(w.value), w.value};
    assert_non_null(out.bytes);
    memcpy(out.bytes, w.bytes, w.value);
    return out;
}

static uint8_t *put_big(uint8_t *p, size_t v, int bytes)
{
    for (int i = bytes - 1; i >= 0; i--)
        *p++ = (uint8_t)(v >> 8 * i);
    return p;
}

encoded exif_bytes_into(encoded file, const uint8_t *block, size_t size)
{
    bool png = file.bytes[0] == 0x89;
    size_t at = png ? 33 : 2; /* behind the header chunk, behind SOI */
    encoded out = {malloc(file.size + size + 12), 0};
    assert_non_null(out.bytes);
    memcpy(out.bytes, file.bytes, at);
    uint8_t *p = out.bytes + at;
    if (png) {
        p = put_big(p, size, 4);
        memcpy(p, "eXIf", 4);
        memcpy(p + 4, block, size);
        p = put_big(p + 4 + size, crc32(0, p, (uInt)size + 4), 4);
    } else {
        p = put_big(p, 0xFFE1, 2);
        p = put_big(p, size + 8, 2);
        memcpy(p, "Exif\0", 6);
        memcpy(p + 6, block, size);
        p += 6 + size;
    }
    memcpy(p, file.bytes + at, file.size - at);
    out.size = (size_t)(p - out.bytes) + file.size - at;
    free(file.bytes);
    return out;
}

encoded exif_into(encoded file, const exif_spec *spec)
{
    encoded block = exif_block(spec), out = exif_bytes_into(file, block.bytes, block.size);
    free(block.bytes);
    return out;
}
