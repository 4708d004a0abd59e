/* SPDX-License-Identifier: Apache-2.0
 * Random data trees, damage to texts, equality of trees. */
#include "random_tree.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static const char *const awkward[] = {"",
                                      "~",
                                      "null",
                                      "Null",
                                      "true",
                                      "False",
                                      "yes",
                                      "off",
                                      "0",
                                      "-1",
                                      "+7",
                                      "0x1F",
                                      "0o17",
                                      "1e3",
                                      "1e-3",
                                      ".5",
                                      "5.",
                                      "-.inf",
                                      ".nan",
                                      "12:30:45",
                                      "1_000",
                                      "2026-11-21",
                                      " lead",
                                      "trail ",
                                      "a: b",
                                      "a:b",
                                      "a #b",
                                      "#c",
                                      "- x",
                                      "-",
                                      "--- ",
                                      "...",
                                      "? q",
                                      ": v",
                                      "[1, 2]",
                                      "{a: 1}",
                                      "a, b",
                                      "&anchor",
                                      "*alias",
                                      "!tag",
                                      "| block",
                                      "> fold",
                                      "%dir",
                                      "@at",
                                      "`tick",
                                      "'single'",
                                      "\"dbl\"",
                                      "back\\slash",
                                      "tab\t",
                                      "two\nlines",
                                      "\r",
                                      "\x01\x1f",
                                      "\x7f",
                                      "caf\xC3\xA9",
                                      "\xC2\x85",
                                      "\xC2\xA0",
                                      "\xE2\x80\xA8",
                                      "\xEF\xBB\xBF",
                                      "\xEF\xBF\xBE",
                                      "\xF0\x9F\x90\x9A",
                                      "\xE6\x97\xA5\xE6\x9C\xAC",
                                      "<<",
                                      "=",
                                      "y",
                                      "N",
                                      "a  b",
                                      "conv2d/kernel:0",
                                      "/usr/share",
                                      "..",
                                      ".",
                                      "1.2.3",
                                      "99999999999999999999",
                                      "0b1",
                                      "1:2",
                                      "null null"};

static void random_text(at_rng *rng, at_text *t)
{
    static const char alphabet[] = "abcXYZ019_-. :#,[]{}&*!|>'\"%@`\\\n\t?~=/+()";
    switch (at_rng_below(rng, 8)) {
    case 0:
    case 1:
    case 2:
        at_text_add(t, "%s", awkward[at_rng_below(rng, sizeof awkward / sizeof *awkward)]);
        break;
    case 3: /* beyond YAML's limit for simple keys, now and then */
        for (uint64_t n = at_rng_below(rng, 20) ? 20 : 2500; n > 0; n--)
            at_text_add(t, "%c", (char)('a' + (char)at_rng_below(rng, 26)));
        break;
    default:
        for (uint64_t n = at_rng_below(rng, 12); n > 0; n--)
            at_text_append(t, &alphabet[at_rng_below(rng, sizeof alphabet - 1)], 1);
    }
    at_text_add(t, "%s", "");
}

static double random_real(at_rng *rng)
{
    static const double special[] = {0.0, -0.0, 0.1, 1e22, 1e-300, 5.0, 123456789.0, 1.0 / 3.0};
    if (at_rng_below(rng, 3) == 0)
        return special[at_rng_below(rng, sizeof special / sizeof *special)];
    double value;
    do {
        uint64_t bits = at_rng_next(rng);
        memcpy(&value, &bits, sizeof value);
    } while (!isfinite(value));
    return value;
}

static at_node *random_scalar(at_rng *rng)
{
    at_text t = {0};
    at_node *n;
    switch (at_rng_below(rng, 7)) {
    case 0:
        return at_node_new(AT_NULL);
    case 1:
        return at_node_new_bool(at_rng_below(rng, 2));
    case 2:
        return at_node_new_int((int64_t)at_rng_next(rng));
    case 3:
        return at_node_new_int((int64_t)at_rng_below(rng, 100) - 50);
    case 4:
        return at_node_new_real(random_real(rng));
    default:
        random_text(rng, &t);
        n = t.failed ? NULL : at_node_new_string(t.data);
        at_text_fini(&t);
        return n;
    }
}

at_node *random_tree(at_rng *rng, int depth)
{
    uint64_t choice = depth > 0 ? at_rng_below(rng, 3) : 2;
    if (choice == 2)
        return random_scalar(rng);
    at_node *n = at_node_new(choice ? AT_MAP : AT_LIST);
    for (uint64_t i = at_rng_below(rng, 6); i > 0; i--) {
        at_node *child = random_tree(rng, depth - 1);
        if (!choice) {
            at_node_add(n, child);
            continue;
        }
        at_text key = {0};
        random_text(rng, &key);
        at_node_set(n, key.failed ? "" : key.data, child);
        at_text_fini(&key);
    }
    return n;
}

static bool reals_equal(double a, double b)
{
    return isnan(a) ? isnan(b) : a == b && signbit(a) == signbit(b);
}

bool trees_equal(const at_node *a, const at_node *b)
{
    if (!a || !b || at_node_kind(a) != at_node_kind(b) || at_node_count(a) != at_node_count(b))
        return a == b;
    switch (at_node_kind(a)) {
    case AT_NULL:
        return true;
    case AT_BOOL:
        return at_node_bool(a, false) == at_node_bool(b, false);
    case AT_INT:
        return at_node_int(a, 0) == at_node_int(b, 0);
    case AT_REAL:
        return reals_equal(at_node_real(a, 0), at_node_real(b, 0));
    case AT_STRING:
        return strcmp(at_node_text(a), at_node_text(b)) == 0;
    case AT_LIST:
    case AT_MAP:
        break;
    }
    for (size_t i = 0; i < at_node_count(a); i++) {
        if (at_node_kind(a) == AT_MAP && strcmp(at_node_key(a, i), at_node_key(b, i)) != 0)
            return false;
        if (!trees_equal(at_node_at(a, i), at_node_at(b, i)))
            return false;
    }
    return true;
}

size_t random_damage(at_rng *rng, char *text, size_t bytes)
{
    static const char syntax[] = "{}[]\"':,-?|>&*!#%@`\n\t \\0e.\xC3\xFF";
    for (uint64_t n = 1 + at_rng_below(rng, 4); n > 0 && bytes > 0; n--) {
        size_t at = at_rng_below(rng, bytes);
        size_t other = at_rng_below(rng, bytes);
        switch (at_rng_below(rng, 4)) {
        case 0:
            text[at] = (char)at_rng_below(rng, 256);
            break;
        case 1:
            text[at] = syntax[at_rng_below(rng, sizeof syntax - 1)];
            break;
        case 2:
            text[at] = text[other];
            break;
        default:
            bytes = at + 1;
        }
    }
    return bytes;
}
