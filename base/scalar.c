/* SPDX-License-Identifier: Apache-2.0
 * Scalars as text: the YAML 1.2 core schema, numbers that survive a round trip, UTF-8.
 *
 * The command line, -s key=value, YAML and printing all decide by at_scalar_resolve what a text
 * means, so that a value reads the same wherever it is written.
 */
#include "internal.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static bool is_one_of(const char *text, const char *const *words)
{
    for (; *words; words++)
        if (strcmp(text, *words) == 0)
            return true;
    return false;
}

static const char *skip_digits(const char *s)
{
    return s + strspn(s, "0123456789");
}

/* [-+]? [0-9]+ | 0o [0-7]+ | 0x [0-9a-fA-F]+ ; returns the base, 0 where it is no integer. */
static int integer_base(const char *s)
{
    if (s[0] == '0' && s[1] == 'o' && s[2])
        return s[2 + strspn(s + 2, "01234567")] ? 0 : 8;
    if (s[0] == '0' && s[1] == 'x' && s[2])
        return s[2 + strspn(s + 2, "0123456789abcdefABCDEF")] ? 0 : 16;
    s += *s == '-' || *s == '+';
    return *s && !*skip_digits(s) ? 10 : 0;
}

/* [-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )? */
static bool is_real(const char *s)
{
    s += *s == '-' || *s == '+';
    const char *whole = skip_digits(s);
    const char *end = whole;
    if (*whole == '.') {
        end = skip_digits(whole + 1);
        if (end == whole + 1 && whole == s)
            return false;
    } else if (whole == s) {
        return false;
    }
    if (*end != 'e' && *end != 'E')
        return !*end;
    end++;
    end += *end == '-' || *end == '+';
    return *end && !*skip_digits(end);
}

static at_scalar resolve_integer(const char *text, int base)
{
    errno = 0;
    long long value = strtoll(base == 8 ? text + 2 : text, NULL, base);
    if (errno == 0)
        return (at_scalar){.kind = AT_INT, .integer = value};
    double real = 0;
    if (base == 8)
        for (const char *s = text + 2; *s; s++)
            real = real * 8 + (*s - '0');
    else
        real = strtod(text, NULL);
    return (at_scalar){.kind = AT_REAL, .real = real};
}

at_scalar at_scalar_resolve(const char *text)
{
    static const char *const nulls[] = {"", "~", "null", "Null", "NULL", NULL};
    static const char *const trues[] = {"true", "True", "TRUE", NULL};
    static const char *const falses[] = {"false", "False", "FALSE", NULL};
    static const char *const infinities[] = {".inf", ".Inf", ".INF", NULL};
    static const char *const nans[] = {".nan", ".NaN", ".NAN", NULL};
    if (is_one_of(text, nulls))
        return (at_scalar){.kind = AT_NULL};
    if (is_one_of(text, trues))
        return (at_scalar){.kind = AT_BOOL, .boolean = true};
    if (is_one_of(text, falses))
        return (at_scalar){.kind = AT_BOOL, .boolean = false};
    if (is_one_of(text, nans))
        return (at_scalar){.kind = AT_REAL, .real = (double)NAN};
    if (is_one_of(text + (*text == '-' || *text == '+'), infinities))
        return (at_scalar){.kind = AT_REAL, .real = *text == '-' ? -HUGE_VAL : HUGE_VAL};
    int base = integer_base(text);
    if (base)
        return resolve_integer(text, base);
    if (is_real(text))
        return (at_scalar){.kind = AT_REAL, .real = strtod(text, NULL)};
    return (at_scalar){.kind = AT_STRING};
}

void at_real_format(double value, char out[32])
{
    for (int digits = 15; digits <= 17; digits++) {
        snprintf(out, 32, "%.*g", digits, value);
        if (strtod(out, NULL) == value)
            break;
    }
    if (strchr(out, '.'))
        return;
    char *end = out + strcspn(out, "e"); /* PyYAML takes 1e-05 for a string, 1.0e-05 not */
    memmove(end + 2, end, strlen(end) + 1);
    memcpy(end, ".0", 2);
}

size_t at_utf8_decode(const char *s, size_t n, uint32_t *character)
{
    static const uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    unsigned char first = (unsigned char)s[0];
    *character = first;
    if (first < 0x80)
        return 1;
    size_t length = first >= 0xF0 ? 4 : first >= 0xE0 ? 3 : 2;
    if (first < 0xC2 || first > 0xF4 || n < length)
        return 0;
    uint32_t c = first & (0x7FU >> length);
    for (size_t i = 1; i < length; i++) {
        if (((unsigned char)s[i] & 0xC0) != 0x80)
            return 0;
        c = c << 6 | ((unsigned char)s[i] & 0x3FU);
    }
    *character = c;
    bool valid = c >= smallest[length] && c <= 0x10FFFF && (c < 0xD800 || c > 0xDFFF);
    return valid ? length : 0;
}

/* Characters that YAML does not take as they are, or takes for line breaks. */
static bool needs_escape(uint32_t c)
{
    return c < 0x20 || (c >= 0x7F && c <= 0x9F) || c == 0x2028 || c == 0x2029 || c == 0xFEFF ||
           c == 0xFFFE || c == 0xFFFF;
}

void at_text_add_quoted(at_text *t, const char *s)
{
    at_text_append(t, "\"", 1);
    for (size_t left = strlen(s); left;) {
        uint32_t c;
        size_t length = at_utf8_decode(s, left, &c);
        if (length == 0) {
            at_text_append(t, "\xEF\xBF\xBD", 3);
            length = 1;
        } else if (c == '"' || c == '\\') {
            at_text_add(t, "\\%c", (char)c);
        } else if (c == '\n' || c == '\t' || c == '\r') {
            at_text_add(t, "\\%c", c == '\n' ? 'n' : c == '\t' ? 't' : 'r');
        } else if (needs_escape(c)) {
            at_text_add(t, "\\u%04x", (unsigned)c);
        } else {
            at_text_append(t, s, length);
        }
        s += length;
        left -= length;
    }
    at_text_append(t, "\"", 1);
}

void at_text_position(const char *text, size_t offset, size_t *line, size_t *column)
{
    *line = *column = 1;
    for (size_t i = 0; i < offset; i++) {
        if (text[i] == '\n') {
            ++*line;
            *column = 1;
        } else if (((unsigned char)text[i] & 0xC0) != 0x80) {
            ++*column;
        }
    }
}

int at_document_check(const char *text, size_t bytes, const char *name, at_error *err)
{
    if (bytes > AT_TREE_BYTES)
        return at_fail(err, AT_EINPUT, "%s: %zu bytes are above the limit of %zu", name, bytes,
                       AT_TREE_BYTES);
    for (size_t i = 0; i < bytes;) {
        uint32_t c;
        size_t length = at_utf8_decode(text + i, bytes - i, &c);
        if (length == 0) {
            size_t line, column;
            at_text_position(text, i, &line, &column);
            return at_fail(err, AT_EINPUT, "%s:%zu:%zu: invalid UTF-8", name, line, column);
        }
        i += length;
    }
    return 0;
}
