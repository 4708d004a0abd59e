/* SPDX-License-Identifier: Apache-2.0
 * "did you mean": the nearest known name to a mistyped word.
 *
 * Nearness is the edit distance with swapped neighbours (optimal string alignment), and three ways
 * in which people misremember a name: another case or separator (Weight-Decay), the last part of
 * a dotted name (flip for augment.flip), the words behind an abbreviation (learning_rate for lr).
 */
#include "internal.h"

#include <ctype.h>
#include <string.h>

enum { LONGEST = 64 };

static char fold(char c)
{
    return c == '-' || c == '.' || c == ' ' ? '_' : (char)tolower((unsigned char)c);
}

static size_t min3(size_t a, size_t b, size_t c)
{
    size_t least = a < b ? a : b;
    return least < c ? least : c;
}

static size_t distance(const char *a, const char *b)
{
    size_t n = strlen(a), m = strlen(b);
    if (n > LONGEST || m > LONGEST)
        return SIZE_MAX;
    size_t rows[3][LONGEST + 1];
    size_t *older = rows[0], *old = rows[1], *now = rows[2];
    for (size_t j = 0; j <= m; j++)
        old[j] = j;
    for (size_t i = 1; i <= n; i++) {
        now[0] = i;
        for (size_t j = 1; j <= m; j++) {
            bool same = fold(a[i - 1]) == fold(b[j - 1]);
            now[j] = min3(old[j] + 1, now[j - 1] + 1, old[j - 1] + !same);
            bool swapped = i > 1 && j > 1 && fold(a[i - 1]) == fold(b[j - 2]) &&
                           fold(a[i - 2]) == fold(b[j - 1]);
            if (swapped && older[j - 2] + 1 < now[j])
                now[j] = older[j - 2] + 1;
        }
        size_t *spare = older;
        older = old;
        old = now;
        now = spare;
    }
    return old[m];
}

/* Whether short_name is the first letters of the words of long_name: lr, learning_rate. */
static bool is_initials(const char *short_name, const char *long_name)
{
    bool begins = true;
    for (; *long_name; long_name++) {
        char c = fold(*long_name);
        if (begins && c != '_' && fold(*short_name++) != c)
            return false;
        begins = c == '_';
    }
    return !*short_name;
}

static size_t badness(const char *word, const char *name)
{
    size_t length = strlen(word) > strlen(name) ? strlen(word) : strlen(name);
    size_t d = distance(word, name);
    if (d <= (length + 2) / 3 && d < length)
        return d;
    const char *dot = strrchr(name, '.');
    if (dot && distance(word, dot + 1) <= 1 && strlen(word) > 1)
        return 1;
    bool related = strlen(name) > 1 && strlen(word) > 1 &&
                   (is_initials(name, word) || is_initials(word, name));
    return related ? 1 : SIZE_MAX;
}

const char *at_nearest(const char *word, const char *const *names, size_t n)
{
    const char *nearest = NULL;
    size_t least = SIZE_MAX;
    for (size_t i = 0; i < n; i++) {
        size_t bad = badness(word, names[i]);
        if (bad < least) {
            least = bad;
            nearest = names[i];
        }
    }
    return nearest;
}
