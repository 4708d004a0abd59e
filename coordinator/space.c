/* SPDX-License-Identifier: Apache-2.0
 * Search spaces: from YAML to a flat list of distributions.
 *
 * Nesting becomes a parent index and the choice under which a distribution exists. Invariant: a
 * parent stands before its children, so one pass in order decides what is active. */
#include "internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DISTS = 256, MAX_CHOICES = 1000 };

static const char *const kind_names[] = {"uniform", "loguniform", "quniform", "int", "choice"};
enum { KINDS = sizeof kind_names / sizeof *kind_names };

typedef struct place {
    int parent;
    size_t choice;
} place;

static int parse_map(at_space *s, const at_node *map, place under, at_error *err);

static int fail_at(at_error *err, const at_node *n, const char *name, const char *what)
{
    const char *where = at_node_where(n);
    return at_fail(err, AT_EINPUT, "%s%sspace: %s: %s", where, *where ? ": " : "", name, what);
}

/* The numbers of [low, high] or [low, high, step]. */
static int read_numbers(const at_node *list, const char *name, double *out, size_t n, at_error *err)
{
    static const char *const shapes[] = {"[low, high]", "[low, high, step]"};
    if (at_node_kind(list) != AT_LIST || at_node_count(list) != n) {
        char text[64];
        snprintf(text, sizeof text, "expected %s", shapes[n - 2]);
        return fail_at(err, list, name, text);
    }
    for (size_t i = 0; i < n; i++) {
        out[i] = at_node_real(at_node_at(list, i), NAN);
        if (!isfinite(out[i]))
            return fail_at(err, at_node_at(list, i), name, "expected a number");
    }
    return 0;
}

double at_dist_clip(const at_dist *d, double value)
{
    if (d->step > 0) { /* by way of 14 digits, so that 0.1 + 2 * 0.1 is 0.3 */
        char text[32];
        value = d->low + d->step * round((value - d->low) / d->step);
        snprintf(text, sizeof text, "%.14g", value);
        value = strtod(text, NULL);
    }
    return fmin(fmax(value, d->low), d->high);
}

static int parse_range(at_dist *d, const at_node *list, at_error *err)
{
    double v[3] = {0, 0, 0};
    int rc = read_numbers(list, d->name, v, d->kind == AT_DIST_QUNIFORM ? 3 : 2, err);
    if (rc)
        return rc;
    d->low = v[0];
    d->high = v[1];
    d->step = d->kind == AT_DIST_INT ? 1 : v[2];
    if (!(d->low < d->high) && !(d->kind == AT_DIST_INT && d->low == d->high))
        return fail_at(err, list, d->name, "low must be below high");
    if (!isfinite(d->high - d->low))
        return fail_at(err, list, d->name, "the range is too wide");
    if (d->kind == AT_DIST_LOGUNIFORM && d->low <= 0)
        return fail_at(err, list, d->name, "loguniform needs low > 0");
    if (d->kind == AT_DIST_INT && (d->low != floor(d->low) || d->high != floor(d->high) ||
                                   fabs(d->low) > 1e15 || fabs(d->high) > 1e15))
        return fail_at(err, list, d->name, "int needs whole numbers");
    if (d->kind == AT_DIST_QUNIFORM) {
        if (!(d->step > 0) || d->step > d->high - d->low || (d->high - d->low) / d->step > 1e9)
            return fail_at(err, list, d->name, "step must be above 0 and fit between low and high");
        d->high = at_dist_clip(d, d->low + d->step * floor((d->high - d->low) / d->step + 1e-9));
    }
    return 0;
}

/* One item of a choice: a scalar, or {value: {nested space}}. */
static int parse_choice(at_space *s, size_t index, const at_node *item, at_error *err)
{
    at_dist *d = &s->dists[index];
    bool nested = at_node_kind(item) == AT_MAP;
    if (nested && at_node_count(item) != 1)
        return fail_at(err, item, d->name, "a nested choice is one \"value: {parameters}\"");
    if (at_node_kind(item) == AT_LIST)
        return fail_at(err, item, d->name, "a choice is a number, a word, true or false");
    at_node *value = nested ? at_node_new_string(at_node_key(item, 0)) : at_node_copy(item);
    if (!value)
        return at_nomem(err);
    for (size_t i = 0; i < d->choice_count; i++) {
        if (strcmp(at_node_text(d->choices[i]), at_node_text(value)) == 0) {
            at_node_free(value);
            return fail_at(err, item, d->name, "the same choice twice");
        }
    }
    d->choices[d->choice_count++] = value;
    if (!nested || at_node_kind(at_node_at(item, 0)) == AT_NULL)
        return 0;
    return parse_map(s, at_node_at(item, 0), (place){(int)index, d->choice_count - 1}, err);
}

static int parse_choices(at_space *s, size_t index, const at_node *list, at_error *err)
{
    at_dist *d = &s->dists[index];
    size_t n = at_node_count(list);
    if (at_node_kind(list) != AT_LIST || n == 0 || n > MAX_CHOICES)
        return fail_at(err, list, d->name, "expected a list of choices");
    d->choices = calloc(n, sizeof(at_node *));
    if (!d->choices)
        return at_nomem(err);
    for (size_t i = 0; i < n; i++) {
        int rc = parse_choice(s, index, at_node_at(list, i), err);
        if (rc)
            return rc;
    }
    return 0;
}

/* Whether no values make both active: somewhere above, they hang on two choices of one parent. */
static bool exclusive(const at_space *s, const at_dist *a, const at_dist *b)
{
    for (; a->parent >= 0; a = &s->dists[a->parent])
        for (const at_dist *c = b; c->parent >= 0; c = &s->dists[c->parent])
            if (a->parent == c->parent && a->parent_choice != c->parent_choice)
                return true;
    return false;
}

static int check_name(const at_space *s, const at_dist *d, const at_node *n, at_error *err)
{
    for (const at_dist *other = s->dists; other < d; other++) {
        if (strcmp(other->name, d->name) != 0)
            continue;
        if (!exclusive(s, other, d))
            return fail_at(err, n, d->name, "the same parameter twice");
        if ((other->kind == AT_DIST_CHOICE) != (d->kind == AT_DIST_CHOICE))
            return fail_at(err, n, d->name, "a choice in one place, a range in another");
    }
    return 0;
}

static int read_kind(const at_node *n, size_t i, at_dist_kind *out, at_error *err)
{
    const char *word = at_node_key(n, i);
    for (int k = 0; k < KINDS; k++) {
        if (strcmp(word, kind_names[k]) == 0) {
            *out = (at_dist_kind)k;
            return 0;
        }
    }
    const char *near = at_nearest(word, kind_names, KINDS), *where = at_node_key_where(n, i);
    return at_fail(err, AT_EINPUT, "%s%sspace: unknown distribution \"%s\"; %s%s%s", where,
                   *where ? ": " : "", word, near ? "did you mean \"" : "there are ",
                   near ? near : "uniform, loguniform, quniform, int, choice", near ? "\"?" : "");
}

static int parse_dist(at_space *s, const at_node *map, size_t i, place under, at_error *err)
{
    const char *name = at_node_key(map, i);
    const at_node *n = at_node_at(map, i);
    if (at_node_kind(n) != AT_MAP || at_node_count(n) != 1)
        return fail_at(err, n, name, "expected one distribution, such as {uniform: [0, 1]}");
    if (s->count == MAX_DISTS)
        return fail_at(err, n, name, "too many parameters");
    size_t index = s->count;
    at_dist *d = &s->dists[index];
    *d = (at_dist){.parent = under.parent, .parent_choice = under.choice};
    s->count++;
    d->name = strdup(name);
    d->where = strdup(at_node_key_where(map, i));
    if (!d->name || !d->where)
        return at_nomem(err);
    int rc = read_kind(n, 0, &d->kind, err);
    if (!rc)
        rc = check_name(s, d, n, err);
    if (rc)
        return rc;
    const at_node *range = at_node_at(n, 0);
    return d->kind == AT_DIST_CHOICE ? parse_choices(s, index, range, err)
                                     : parse_range(d, range, err);
}

static int parse_map(at_space *s, const at_node *map, place under, at_error *err)
{
    if (at_node_kind(map) != AT_MAP)
        return fail_at(err, map, under.parent < 0 ? "parameters" : s->dists[under.parent].name,
                       "expected \"name: {distribution: [...]}\"");
    for (size_t i = 0; i < at_node_count(map); i++) {
        int rc = parse_dist(s, map, i, under, err);
        if (rc)
            return rc;
    }
    return 0;
}

at_space *at_space_parse(const at_node *map, at_error *err)
{
    at_space *s = calloc(1, sizeof *s);
    if (!s || !(s->dists = calloc(MAX_DISTS, sizeof *s->dists))) {
        at_nomem(err);
        goto fail;
    }
    if (parse_map(s, map, (place){-1, 0}, err))
        goto fail;
    if (s->count == 0) {
        fail_at(err, map, "parameters", "there is nothing to search");
        goto fail;
    }
    return s;
fail:
    at_space_free(s);
    return NULL;
}

void at_space_free(at_space *s)
{
    if (!s)
        return;
    for (size_t i = 0; i < s->count; i++) {
        at_dist *d = &s->dists[i];
        for (size_t k = 0; k < d->choice_count; k++)
            at_node_free(d->choices[k]);
        free(d->choices);
        free(d->name);
        free(d->where);
    }
    free(s->dists);
    free(s);
}

bool at_space_active(const at_space *s, const double *values, size_t i)
{
    const at_dist *d = &s->dists[i];
    while (d->parent >= 0) {
        double chosen = values[d->parent];
        if (isnan(chosen) || (size_t)chosen != d->parent_choice)
            return false;
        d = &s->dists[d->parent];
    }
    return true;
}

at_node *at_dist_external(const at_dist *d, double value)
{
    if (d->kind == AT_DIST_CHOICE)
        return at_node_copy(d->choices[(size_t)value]);
    bool whole =
        d->kind == AT_DIST_INT || (d->kind == AT_DIST_QUNIFORM && d->low == floor(d->low) &&
                                   d->step == floor(d->step) && fabs(value) < 1e15);
    return whole ? at_node_new_int((int64_t)value) : at_node_new_real(value);
}

at_node *at_space_params(const at_space *s, const double *values)
{
    at_node *params = at_node_new(AT_MAP);
    for (size_t i = 0; params && i < s->count; i++) {
        if (isnan(values[i]))
            continue;
        if (!at_node_set(params, s->dists[i].name, at_dist_external(&s->dists[i], values[i]))) {
            at_node_free(params);
            return NULL;
        }
    }
    return params;
}

static at_node *dist_attributes(const at_dist *d)
{
    at_node *a = at_node_new(AT_MAP);
    if (d->kind == AT_DIST_CHOICE) {
        at_node *list = at_node_new(AT_LIST);
        for (size_t i = 0; i < d->choice_count; i++)
            at_node_add(list, at_node_copy(d->choices[i]));
        at_node_set(a, "choices", list);
        return a;
    }
    bool integer = d->kind == AT_DIST_INT;
    if (integer)
        at_set_int(a, "step", 1);
    else
        at_node_set(a, "step", d->step > 0 ? at_node_new_real(d->step) : at_node_new(AT_NULL));
    at_node_set(a, "low", integer ? at_node_new_int((int64_t)d->low) : at_node_new_real(d->low));
    at_node_set(a, "high", integer ? at_node_new_int((int64_t)d->high) : at_node_new_real(d->high));
    at_set_bool(a, "log", d->kind == AT_DIST_LOGUNIFORM);
    return a;
}

char *at_dist_json(const at_dist *d)
{
    at_node *n = at_node_new(AT_MAP);
    at_set_string(n, "name",
                  d->kind == AT_DIST_CHOICE ? "CategoricalDistribution"
                  : d->kind == AT_DIST_INT  ? "IntDistribution"
                                            : "FloatDistribution");
    at_node_set(n, "attributes", dist_attributes(d));
    char *text = n ? at_json_print(n, false) : NULL;
    at_node_free(n);
    return text;
}
