/* SPDX-License-Identifier: Apache-2.0
 * Datasets and attributes of a file in HDF5's first layout: plain float32, and strings of fixed or
 * variable length, one or a list.
 */
#include <stdlib.h>
#include <string.h>

#include "h5_classic.h"

enum {
    MESSAGE_SPACE = 1,
    MESSAGE_TYPE = 3,
    MESSAGE_EXTERNAL = 7,
    MESSAGE_LAYOUT = 8,
    MESSAGE_ATTRIBUTE = 12
};
enum { LAYOUT_COMPACT = 0, LAYOUT_CONTIGUOUS = 1 };
enum { MOST_STEPS = 1 << 22 };
enum { TYPE_HEAD = 8, TYPE_STRING = 3, TYPE_VARIABLE = 9, HEAP_ID_BYTES = 16 };

/* A dataspace's extents; -1: none that we read. */
static int parse_space(h5_span m, int64_t *dims)
{
    if (m.bytes < 4 || (m.at[0] != 1 && m.at[0] != 2))
        return -1;
    int rank = m.at[1];
    size_t head = m.at[0] == 1 ? 8 : 4;
    if (rank > H5_DIMS || m.bytes < head + 8 * (size_t)rank || (head == 4 && m.at[3] == 2))
        return -1;
    for (int i = 0; i < rank; i++) {
        uint64_t extent = classic_number(m.at + head + 8 * (size_t)i, 8);
        if (extent > INT64_MAX)
            return -1;
        dims[i] = (int64_t)extent;
    }
    return rank;
}

/* ---- datasets ------------------------------------------------------------------------------- */
typedef struct classic_set {
    const h5_classic *c;
    int ndims;
    int64_t dims[H5_DIMS];
    bool has_space, has_type, has_layout, floats, plain, external, stored;
    h5_span values;
} classic_set;

static bool is_float32(h5_span m)
{
    static const unsigned char fields[20] = {1,  0x20, 31, 0, 4, 0,  0,   0, 0, 0,
                                             32, 0,    23, 8, 0, 23, 127, 0, 0, 0};
    return m.bytes >= sizeof fields && (m.at[0] & 15) == 1 &&
           memcmp(m.at + 1, fields + 1, sizeof fields - 1) == 0;
}

static void parse_layout(classic_set *set, h5_span m)
{
    set->plain = m.bytes >= 4 && (m.at[0] == 3 || m.at[0] == 4) && m.at[1] <= LAYOUT_CONTIGUOUS;
    if (!set->plain)
        return;
    if (m.at[1] == LAYOUT_COMPACT) {
        uint64_t bytes = classic_number(m.at + 2, 2);
        set->stored = bytes <= m.bytes - 4;
        set->values = (h5_span){m.at + 4, set->stored ? (size_t)bytes : 0};
    } else if (m.bytes >= 18) {
        uint64_t address = classic_number(m.at + 2, 8);
        set->values = classic_span(set->c, address, classic_number(m.at + 10, 8));
        set->stored = set->values.at != NULL;
    }
}

static int visit_set(void *context, unsigned type, h5_span message, at_error *err)
{
    (void)err;
    classic_set *set = context;
    if (type == MESSAGE_SPACE) {
        set->has_space = true;
        set->ndims = parse_space(message, set->dims);
    } else if (type == MESSAGE_TYPE) {
        set->has_type = true;
        set->floats = is_float32(message);
    } else if (type == MESSAGE_LAYOUT) {
        set->has_layout = true;
        parse_layout(set, message);
    } else if (type == MESSAGE_EXTERNAL) {
        set->external = true;
    }
    return AT_OK;
}

static int open_set(const h5_classic *c, const char *name, classic_set *set, at_error *err)
{
    uint64_t header;
    size_t bytes = sizeof(float);
    const char *strange = NULL;
    *set = (classic_set){.c = c};
    int rc = classic_find(c, name, &header, err);
    if (rc == AT_OK)
        rc = classic_messages(c, header, name, visit_set, set, err);
    if (rc != AT_OK)
        return rc;
    if (!set->has_space || !set->has_type || !set->has_layout)
        return at_fail(err, AT_EINPUT, "%s: cannot open dataset '%s': it is none", c->path, name);
    if (set->ndims < 0)
        return classic_damaged(c, "the shape", name, err);
    if (!set->floats)
        strange = "is not float32";
    else if (!set->plain)
        strange = "is chunked, filtered or virtual, not plain";
    else if (set->external)
        strange = "lies in another file";
    if (strange)
        return at_fail(err, AT_EINPUT, "%s: dataset '%s' %s", c->path, name, strange);
    for (int i = 0; i < set->ndims; i++)
        if (!at_mul(bytes, (size_t)set->dims[i], c->bytes, &bytes))
            return at_fail(err, AT_EINPUT, "%s: dataset '%s' claims more bytes than the file has",
                           c->path, name);
    if (bytes > 0 && (!set->stored || set->values.bytes != bytes))
        return at_fail(err, AT_EINPUT, "%s: dataset '%s' has no values stored", c->path, name);
    return AT_OK;
}

int classic_shape(const h5_classic *c, const char *name, int *ndims, int64_t *dims, at_error *err)
{
    classic_set set;
    int rc = open_set(c, name, &set, err);
    if (rc != AT_OK)
        return rc;
    *ndims = set.ndims;
    memcpy(dims, set.dims, (size_t)set.ndims * sizeof *dims);
    return AT_OK;
}

int classic_floats(const h5_classic *c, const char *name, float *data, size_t count, at_error *err)
{
    classic_set set;
    int rc = open_set(c, name, &set, err);
    if (rc != AT_OK)
        return rc;
    size_t got = 1;
    for (int i = 0; i < set.ndims; i++)
        got *= (size_t)set.dims[i]; /* no overflow: open_set bounds it */
    if (got != count)
        return at_fail(err, AT_EINPUT, "%s: dataset '%s' has %zu values, not %zu", c->path, name,
                       got, count);
    if (count > 0)
        memcpy(data, set.values.at, count * sizeof *data);
    return AT_OK;
}

/* ---- attributes ----------------------------------------------------------------------------- */
typedef struct classic_attribute {
    const h5_classic *c;
    const char *wanted;
    bool found;
    h5_span type, space, values;
} classic_attribute;

static size_t padded(size_t bytes, bool pad)
{
    return pad ? (bytes + 7) / 8 * 8 : bytes;
}

static int visit_attribute(void *context, unsigned type, h5_span m, at_error *err)
{
    (void)err;
    classic_attribute *a = context;
    if (type != MESSAGE_ATTRIBUTE)
        return AT_OK;
    if (m.bytes < 9 || m.at[0] < 1 || m.at[0] > 3)
        return AT_EINPUT;
    bool pad = m.at[0] == 1, shared = !pad && m.at[1] != 0;
    size_t sizes[3], at = m.at[0] == 3 ? 9 : 8; /* of name, type, space */
    h5_span parts[3];
    for (int i = 0; i < 3; i++) {
        sizes[i] = (size_t)classic_number(m.at + 2 + 2 * i, 2);
        if (padded(sizes[i], pad) > m.bytes - at)
            return AT_EINPUT;
        parts[i] = (h5_span){m.at + at, sizes[i]};
        at += padded(sizes[i], pad);
    }
    size_t length = strlen(a->wanted);
    if (sizes[0] != length + 1 || memcmp(parts[0].at, a->wanted, length) != 0)
        return AT_OK;
    if (shared)
        return AT_EINPUT;
    a->found = true;
    a->type = parts[1];
    a->space = parts[2];
    a->values = (h5_span){m.at + at, m.bytes - at};
    return AT_OK;
}

/* The bytes that a reference into the global heap means. A heap is looked through object by object;
 * *steps bounds that for all references of an attribute. */
static h5_span heap_object(const h5_classic *c, const unsigned char *id, size_t *steps)
{
    uint64_t wanted = classic_number(id + 12, 4), address = classic_number(id + 4, 8);
    uint64_t length = classic_number(id, 4);
    if (length == 0)
        return (h5_span){id, 0};
    h5_span head = classic_span(c, address, 16);
    if (!head.at || memcmp(head.at, "GCOL", 4) != 0)
        return (h5_span){0};
    h5_span all = classic_span(c, address, classic_number(head.at + 8, 8));
    for (size_t at = 16; all.bytes >= 16 && at <= all.bytes - 16 && ++*steps < MOST_STEPS;) {
        uint64_t index = classic_number(all.at + at, 2), bytes = classic_number(all.at + at + 8, 8);
        if (index == 0 || bytes > all.bytes - at - 16)
            break;
        if (index == wanted)
            return length <= bytes ? (h5_span){all.at + at + 16, (size_t)length} : (h5_span){0};
        at += 16 + (size_t)((bytes + 7) / 8 * 8);
        if (at > all.bytes)
            break;
    }
    return (h5_span){0};
}

/* The strings of an attribute, each up to its first NUL. */
static int parse_strings(const classic_attribute *a, h5_names *out, at_error *err)
{
    int64_t dims[H5_DIMS];
    int rank = parse_space(a->space, dims);
    size_t n = rank == 1 ? (size_t)dims[0] : 1, width;
    if (rank < 0 || rank > 1 || a->type.bytes < TYPE_HEAD)
        return AT_EINPUT;
    if (n == 0)
        return AT_OK; /* numpy makes an empty list one of floats */
    unsigned class = a->type.at[0] & 15u;
    bool variable = class == TYPE_VARIABLE && (a->type.at[1] & 15) == 1;
    width = (size_t)classic_number(a->type.at + 4, 4);
    if ((class != TYPE_STRING && !variable) || width == 0 || n > a->values.bytes / width ||
        (variable && width != HEAP_ID_BYTES))
        return AT_EINPUT;
    int rc = AT_OK;
    size_t steps = 0;
    for (size_t i = 0; i < n && rc == AT_OK; i++) {
        h5_span s = {a->values.at + i * width, width};
        if (variable)
            s = heap_object(a->c, s.at, &steps);
        bool good = s.at && out->bytes <= a->c->bytes; /* many may be one long text */
        rc = good ? h5_names_add(out, (const char *)s.at, s.bytes, err) : AT_EINPUT;
    }
    return rc;
}

int classic_strings(const h5_classic *c, const char *object, const char *name, h5_names *out,
                    bool *found, at_error *err)
{
    uint64_t header;
    classic_attribute a = {.c = c, .wanted = name};
    int rc = classic_find(c, object, &header, err);
    if (rc == AT_OK)
        rc = classic_messages(c, header, object, visit_attribute, &a, err);
    *found = a.found;
    if (rc != AT_OK || !a.found)
        return rc;
    at_error mine = {0};
    if (parse_strings(&a, out, &mine) == AT_OK)
        return AT_OK;
    return mine.code ? at_fail(err, mine.code, "%s", mine.message)
                     : at_fail(err, AT_EINPUT, "%s: attribute '%s' of '%s' is not text", c->path,
                               name, object);
}
