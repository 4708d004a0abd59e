/* SPDX-License-Identifier: Apache-2.0
 * Checked sizes, aligned memory and a growing string. */
#include "atoll/base.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { CACHE_LINE = 64, HUGE_PAGE = 2 << 20 };

bool at_mul(size_t a, size_t b, size_t limit, size_t *out)
{
    size_t product;
    if (__builtin_mul_overflow(a, b, &product) || product > limit)
        return false;
    *out = product;
    return true;
}

/* Large blocks ask for huge pages: arenas are walked from end to end, where TLB misses cost. */
void *at_alloc_aligned(size_t bytes)
{
    size_t alignment = bytes >= (size_t)HUGE_PAGE ? HUGE_PAGE : CACHE_LINE;
    if (bytes > SIZE_MAX / 2)
        return NULL;
    size_t whole = (bytes + CACHE_LINE - 1) / CACHE_LINE * CACHE_LINE;
    if (whole == 0)
        whole = CACHE_LINE;
    void *p = NULL;
    if (posix_memalign(&p, alignment, whole))
        return NULL;
    if (alignment == HUGE_PAGE)
        (void)madvise(p, whole / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE); /* advice only */
    return memset(p, 0, whole);
}

void at_free_aligned(void *p)
{
    free(p);
}

char *at_format(const char *format, ...)
{
    char *text = NULL;
    va_list args;
    va_start(args, format);
    int length = vasprintf(&text, format, args);
    va_end(args);
    return length < 0 ? NULL : text;
}

/* Room for `bytes` more and a NUL. */
static bool reserve(at_text *t, size_t bytes)
{
    if (t->failed)
        return false;
    if (bytes < t->capacity - t->length)
        return true;
    size_t capacity = t->capacity ? t->capacity : 64;
    while (capacity - t->length <= bytes) {
        if (__builtin_mul_overflow(capacity, (size_t)2, &capacity))
            goto fail;
    }
    char *data = realloc(t->data, capacity);
    if (!data)
        goto fail;
    t->data = data;
    t->capacity = capacity;
    return true;
fail:
    t->failed = true;
    return false;
}

void at_text_addv(at_text *t, const char *format, va_list args)
{
    va_list again;
    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (length < 0)
        t->failed = true;
    else if (reserve(t, (size_t)length)) {
        vsnprintf(t->data + t->length, (size_t)length + 1, format, args);
        t->length += (size_t)length;
    }
}

void at_text_add(at_text *t, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    at_text_addv(t, format, args);
    va_end(args);
}

void at_text_append(at_text *t, const void *data, size_t bytes)
{
    if (!reserve(t, bytes))
        return;
    if (bytes)
        memcpy(t->data + t->length, data, bytes);
    t->length += bytes;
    t->data[t->length] = 0;
}

void at_text_add_visible(at_text *t, const char *s)
{
    for (; *s; s++) {
        unsigned char c = (unsigned char)s[0], next = (unsigned char)s[1];
        if (c == '\n')
            at_text_append(t, "\\n", 2);
        else if (c == '\t')
            at_text_append(t, "\\t", 2);
        else if (c < 0x20 || c == 0x7F)
            at_text_add(t, "\\x%02X", c);
        else if (c == 0xC2 && next >= 0x80 && next < 0xA0)
            at_text_add(t, "\\x%02X", *++s & 0xFF); /* a terminal may take it for ESC [ */
        else
            at_text_append(t, s, 1);
    }
}

void at_text_fini(at_text *t)
{
    free(t->data);
    *t = (at_text){0};
}
