/* SPDX-License-Identifier: Apache-2.0
 * draw_weights: how often an image of each class is drawn, by the keys sampler and sampler.weights.
 */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

static void count_images(const at_cache *cache, double *counts)
{
    const int32_t *labels = at_cache_labels(cache, AT_TRAIN);
    for (size_t i = 0; i < at_cache_count(cache, AT_TRAIN); i++)
        counts[labels[i]]++;
}

static int parse(const char *text, const at_cache *cache, double *weights, at_error *err)
{
    size_t n = 0, classes = at_cache_classes(cache);
    const char *s = text;
    while (*s && n < classes) {
        char *end = NULL;
        weights[n] = strtod(s, &end);
        if (end == s || (*end && *end != ',') || !(weights[n] >= 0 && weights[n] < 1e300))
            return at_fail(err, AT_EINPUT, "sampler.weights: \"%s\": number %zu is not 0 or more",
                           text, n + 1);
        n++;
        s = *end ? end + 1 : end;
    }
    if (*s || n != classes)
        return at_fail(err, AT_EINPUT,
                       "sampler.weights: \"%s\" is not %zu numbers, one for each class from \"%s\" "
                       "to \"%s\"",
                       text, classes, at_cache_class_name(cache, 0),
                       at_cache_class_name(cache, classes - 1));
    return 0;
}

/* What parse() read, or one over a class's images: then all classes come up equally often. */
static int weigh(const at_train_config *c, at_cache *cache, double *weights, double *counts,
                 at_error *err)
{
    bool balanced = !strcmp(c->sampler, "balanced");
    int code = balanced ? 0 : parse(c->sampler_weights, cache, weights, err);
    count_images(cache, counts);
    double all = 0;
    for (size_t i = 0; i < at_cache_classes(cache) && code == 0; i++) {
        if (balanced)
            weights[i] = counts[i] > 0 ? 1 / counts[i] : 0;
        all += weights[i] * counts[i];
    }
    if (code == 0 && !(all > 0))
        return at_fail(err, AT_EINPUT,
                       "sampler.weights: \"%s\": no class with images has a weight above 0",
                       c->sampler_weights);
    return code;
}

int at_draw_weights(const at_train_config *c, at_cache *cache, double **weights, at_error *err)
{
    bool balanced = !strcmp(c->sampler, "balanced"), weighted = !strcmp(c->sampler, "weighted");
    if (!weighted && c->sampler_weights[0])
        return at_fail(err, AT_EINPUT, "sampler.weights is for sampler=weighted; sampler is %s",
                       c->sampler);
    if (weighted && !c->sampler_weights[0])
        return at_fail(err, AT_EINPUT, "sampler=weighted needs sampler.weights, a number a class");
    if (balanced && !strcmp(c->class_weights, "balanced"))
        return at_fail(err, AT_EINPUT,
                       "sampler=balanced and class_weights=balanced would make up for rare classes "
                       "twice: use one of them");
    if (!balanced && !weighted)
        return 0;
    *weights = calloc(at_cache_classes(cache), sizeof **weights);
    double *counts = calloc(at_cache_classes(cache), sizeof *counts);
    int code = *weights && counts ? weigh(c, cache, *weights, counts, err) : at_nomem(err);
    free(counts);
    return code;
}
