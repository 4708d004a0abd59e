/* SPDX-License-Identifier: Apache-2.0
 * EXIF by libexif: what the camera says of a picture, as one JSON object {tag: value}.
 *
 * First come, where the block has them, what queries want in a form to compare: camera, time (ISO
 * 8601), latitude, longitude, altitude (degrees, metres; south, west and below the sea negative),
 * orientation (1..8); then every tag by its EXIF name, as text. Tags of the embedded preview and the
 * makers' own notes are left out. Nothing in the block is believed: numbers are checked, texts cut
 * and made UTF-8. */
#include "internal.h"

#include <libexif/exif-data.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK_LIMIT = 1 << 20, VALUE_BYTES = 256, MAX_TAGS = 200 };

/* ---- where the block lies ---- */

static uint32_t big_endian(const uint8_t *p, int bytes)
{
    uint32_t v = 0;
    while (bytes--)
        v = v << 8 | *p++;
    return v;
}

/* The segments of a JPEG before its first scan. */
static const uint8_t *find_in_jpeg(const uint8_t *p, size_t size, size_t *length)
{
    static const char name[] = "Exif\0"; /* six bytes, both zeros included */
    size_t at = 2;
    while (size - at >= 4 && p[at] == 0xFF) {
        uint8_t marker = p[at + 1];
        size_t n = big_endian(p + at + 2, 2);
        if (marker == 0xDA || marker == 0xD9 || n < 2 || n > size - at - 2)
            break;
        if (marker == 0xE1 && n > 2 + sizeof name && !memcmp(p + at + 4, name, sizeof name)) {
            *length = n - 2 - sizeof name;
            return p + at + 4 + sizeof name;
        }
        at += 2 + n;
    }
    return NULL;
}

static const uint8_t *find_in_png(const uint8_t *p, size_t size, size_t *length)
{
    size_t at = 8;
    while (size - at >= 12) {
        size_t n = big_endian(p + at, 4);
        if (n > size - at - 12)
            break;
        if (!memcmp(p + at + 4, "eXIf", 4)) {
            *length = n;
            return p + at + 8;
        }
        at += 12 + n;
    }
    return NULL;
}

const uint8_t *at_exif_find(const void *bytes, size_t size, size_t *length)
{
    const uint8_t *block = NULL;
    switch (at_format_sniff(bytes, size)) {
    case AT_FORMAT_JPEG:
        block = find_in_jpeg(bytes, size, length);
        break;
    case AT_FORMAT_PNG:
        block = find_in_png(bytes, size, length);
        break;
    default:
        break;
    }
    return block && *length > 8 && *length <= BLOCK_LIMIT ? block : NULL;
}

/* ---- values ---- */

/* The entry's text without the spaces around it, "" for none. */
static void text_of(ExifEntry *entry, char out[VALUE_BYTES])
{
    char text[VALUE_BYTES] = "";
    out[0] = 0;
    if (!entry || !exif_entry_get_value(entry, text, sizeof text))
        return;
    const char *from = text + strspn(text, " \t\r\n");
    size_t n = strlen(from);
    while (n && strchr(" \t\r\n", from[n - 1]))
        n--;
    memcpy(out, from, n);
    out[n] = 0;
}

static ExifEntry *find(const ExifData *data, ExifIfd ifd, int tag)
{
    return exif_content_get_entry(data->ifd[ifd], (ExifTag)tag);
}

static void set_text(at_node *map, const char *key, const char *text)
{
    at_text clean = {0};
    at_text_add_utf8(&clean, text);
    if (clean.length)
        at_set_string(map, key, clean.data);
    at_text_fini(&clean);
}

/* NaN where there is no such number. */
static double rational_of(const ExifData *data, const ExifEntry *entry, unsigned i)
{
    if (!entry || entry->format != EXIF_FORMAT_RATIONAL || i >= entry->components ||
        entry->size < 8 * (i + 1))
        return NAN;
    ExifRational r =
        exif_get_rational(entry->data + (size_t)8 * i, exif_data_get_byte_order((ExifData *)data));
    return r.denominator ? (double)r.numerator / r.denominator : NAN;
}

static void add_camera(const ExifData *data, at_node *map)
{
    char make[VALUE_BYTES], model[VALUE_BYTES], both[2 * VALUE_BYTES];
    text_of(find(data, EXIF_IFD_0, EXIF_TAG_MAKE), make);
    text_of(find(data, EXIF_IFD_0, EXIF_TAG_MODEL), model);
    bool within = !strncmp(model, make, strlen(make)); /* "Canon", "Canon EOS 5D" */
    snprintf(both, sizeof both, "%s%s%s", within ? "" : make, !within && model[0] ? " " : "",
             model);
    set_text(map, "camera", both);
}

/* "2024:05:31 12:30:00" as ISO 8601, with its offset from UTC where the camera knew it. */
static bool add_time(const ExifData *data, ExifIfd ifd, int tag, int offset_tag, at_node *map)
{
    char text[VALUE_BYTES], offset[VALUE_BYTES], out[64];
    int year, month, day, hour, minute, second, end = 0;
    text_of(find(data, ifd, tag), text);
    if (sscanf(text, "%4d:%2d:%2d %2d:%2d:%2d%n", &year, &month, &day, &hour, &minute, &second,
               &end) != 6 ||
        text[end] || year < 1 || month < 1 || month > 12 || day < 1 || day > 31 || hour < 0 ||
        hour > 23 || minute < 0 || minute > 59 || second < 0 || second > 60)
        return false;
    text_of(find(data, EXIF_IFD_EXIF, offset_tag), offset);
    unsigned hours, minutes;
    char sign;
    bool known = sscanf(offset, "%c%2u:%2u%n", &sign, &hours, &minutes, &end) == 3 &&
                 (sign == '+' || sign == '-') && end == 6 && !offset[6];
    snprintf(out, sizeof out, "%04d-%02d-%02dT%02d:%02d:%02d%.6s", year, month, day, hour, minute,
             second, known ? offset : "");
    at_set_string(map, "time", out);
    return true;
}

/* Degrees, minutes and seconds; `minus` is the reference that makes them negative. */
static void add_degrees(const ExifData *data, int tag, int ref_tag, char minus, double limit,
                        const char *key, at_node *map)
{
    ExifEntry *entry = find(data, EXIF_IFD_GPS, tag);
    double degrees = rational_of(data, entry, 0), minutes = rational_of(data, entry, 1),
           seconds = rational_of(data, entry, 2);
    char ref[VALUE_BYTES];
    text_of(find(data, EXIF_IFD_GPS, ref_tag), ref);
    double value = degrees + minutes / 60 + (isfinite(seconds) ? seconds / 3600 : 0);
    if (isfinite(value) && value <= limit && ref[0])
        at_set_real(map, key, ref[0] == minus ? -value : value);
}

static void add_place(const ExifData *data, at_node *map)
{
    add_degrees(data, EXIF_TAG_GPS_LATITUDE, EXIF_TAG_GPS_LATITUDE_REF, 'S', 90, "latitude", map);
    add_degrees(data, EXIF_TAG_GPS_LONGITUDE, EXIF_TAG_GPS_LONGITUDE_REF, 'W', 180, "longitude",
                map);
    double altitude = rational_of(data, find(data, EXIF_IFD_GPS, EXIF_TAG_GPS_ALTITUDE), 0);
    const ExifEntry *ref = find(data, EXIF_IFD_GPS, EXIF_TAG_GPS_ALTITUDE_REF);
    bool below = ref && ref->size > 0 && ref->data[0] == 1;
    if (isfinite(altitude))
        at_set_real(map, "altitude", below ? -altitude : altitude);
}

static void add_orientation(const ExifData *data, at_node *map)
{
    const ExifEntry *entry = find(data, EXIF_IFD_0, EXIF_TAG_ORIENTATION);
    if (!entry || entry->format != EXIF_FORMAT_SHORT || entry->size < 2)
        return;
    int value = exif_get_short(entry->data, exif_data_get_byte_order((ExifData *)data));
    if (value >= 1 && value <= 8)
        at_set_int(map, "orientation", value);
}

/* ---- all tags ---- */

static void add_tag(ExifEntry *entry, void *context)
{
    at_node *map = context;
    ExifIfd ifd = exif_entry_get_ifd(entry);
    const char *name = exif_tag_get_name_in_ifd(entry->tag, ifd);
    char text[VALUE_BYTES];
    if (!name || entry->tag == EXIF_TAG_MAKER_NOTE || at_node_count(map) >= MAX_TAGS ||
        at_node_get(map, name))
        return;
    text_of(entry, text);
    set_text(map, name, text);
}

static void add_ifd(ExifContent *content, void *context)
{
    ExifIfd ifd = exif_content_get_ifd(content);
    if (ifd == EXIF_IFD_0 || ifd == EXIF_IFD_EXIF || ifd == EXIF_IFD_GPS)
        exif_content_foreach_entry(content, add_tag, context);
}

static ExifData *parse(const uint8_t *block, size_t length)
{
    static const char name[] = "Exif\0"; /* libexif wants JPEG's form */
    uint8_t *copy = malloc(sizeof name + length);
    ExifData *data = copy ? exif_data_new() : NULL;
    if (data) {
        memcpy(copy, name, sizeof name);
        memcpy(copy + sizeof name, block, length);
        exif_data_unset_option(data,
                               EXIF_DATA_OPTION_FOLLOW_SPECIFICATION); /* as it is, unmended */
        exif_data_set_option(data, EXIF_DATA_OPTION_IGNORE_UNKNOWN_TAGS);
        exif_data_load_data(data, copy, (unsigned)(sizeof name + length));
    }
    free(copy);
    return data;
}

void at_exif_read(const uint8_t *block, size_t length, at_text *json)
{
    ExifData *data = parse(block, length);
    at_node *map = data ? at_node_new(AT_MAP) : NULL;
    if (map) {
        add_camera(data, map);
        if (!add_time(data, EXIF_IFD_EXIF, EXIF_TAG_DATE_TIME_ORIGINAL,
                      EXIF_TAG_OFFSET_TIME_ORIGINAL, map))
            add_time(data, EXIF_IFD_0, EXIF_TAG_DATE_TIME, EXIF_TAG_OFFSET_TIME, map);
        add_place(data, map);
        add_orientation(data, map);
        exif_data_foreach_content(data, add_ifd, map);
    }
    char *text = at_node_count(map) ? at_json_print(map, false) : NULL;
    if (text)
        at_text_append(json, text, strlen(text));
    free(text);
    at_node_free(map);
    exif_data_unref(data);
}
