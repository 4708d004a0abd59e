/* SPDX-License-Identifier: Apache-2.0
 * What the files of base share among themselves and with nobody else: the one line of the terminal
 * that log and progress both write to, scalars as text, trees, options.
 */
#ifndef ATOLL_BASE_INTERNAL_H
#define ATOLL_BASE_INTERNAL_H

#include "atoll/base.h"

/* ---- the terminal (log.c, progress.c) --------------------------------------------------------
 *     at_screen_lock();
 *     at_screen_print(line);       // clears a bar that stands there first
 *     at_screen_unlock();
 */
void at_screen_lock(void);
void at_screen_unlock(void);
/* With the lock held. print: a whole line, newline included, instead of the bar. bar: without one.
 */
void at_screen_print(const char *line);
void at_screen_bar(const char *line);

/* Limits on YAML and JSON that come from outside. */
#define AT_TREE_BYTES ((size_t)16 << 20)
#define AT_TREE_NODES ((size_t)1000000)
#define AT_TREE_DEPTH 100

/* ---- scalars (scalar.c) ---------------------------------------------------------------------- */
typedef struct at_scalar {
    at_kind kind; /* AT_NULL, AT_BOOL, AT_INT, AT_REAL or AT_STRING */
    union {
        bool boolean;
        int64_t integer;
        double real;
    };
} at_scalar;
/* What a plain scalar means in the YAML 1.2 core schema; an integer beyond int64_t is a real. */
at_scalar at_scalar_resolve(const char *text);
/* The shortest of %.15g, %.16g, %.17g that reads back equal, with ".0" where it has no point.
 * Finite values only. */
void at_real_format(double value, char out[32]);
/* Reads one UTF-8 character (n > 0 bytes are there); returns its length, 0 where it is invalid. */
size_t at_utf8_decode(const char *s, size_t n, uint32_t *character);
/* Text as a double-quoted string that both JSON and YAML read; invalid UTF-8 becomes U+FFFD. */
void at_text_add_quoted(at_text *t, const char *s);
/* Checks a document's size and UTF-8 before a parser sees it; name is for the message. */
int at_document_check(const char *text, size_t bytes, const char *name, at_error *err);
/* 1-based line and column (in characters) of a byte offset. */
void at_text_position(const char *text, size_t offset, size_t *line, size_t *column);

/* ---- trees (node.c) -------------------------------------------------------------------------- */
/* A scalar with a type and the text as it was written (copied). */
at_node *at_node_new_scalar(at_scalar value, const char *text);
/* Notes where a node, or the key last set in a map, was read; false where memory ran out. */
bool at_node_place(at_node *n, const char *name, size_t line, size_t column);
bool at_node_place_key(at_node *map, const char *name, size_t line, size_t column);
/* Index of a key of a map, or at_node_count(map). */
size_t at_node_find(const at_node *map, const char *key);

typedef struct at_tree_size {
    size_t nodes, bytes, depth; /* bytes of texts and keys; a scalar has depth 0 */
} at_tree_size;
at_tree_size at_node_measure(const at_node *n);

/* ---- options (option.c) ---------------------------------------------------------------------- */
/* The option of this name (- and _ are the same), or NULL. The last row has name NULL. */
const at_option *at_option_find(const at_option *table, const char *name, size_t length);
const char *at_option_nearest(const at_option *table, const char *name);
/* Sets one option from text; label begins the message: "lr" or "--lr". */
int at_option_assign(const at_option *option, void *config, const char *label, const char *value,
                     at_error *err);

#endif
