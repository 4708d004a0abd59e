/* SPDX-License-Identifier: Apache-2.0
 * Model files with scores for tests in Python. */
#include "artefacts.h"

#include "scratch.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static char *dir;
static bool wanted;

int artefacts_setup(void **state)
{
    (void)state;
    const char *asked = getenv("ATOLL_ARTEFACTS");
    wanted = asked != NULL;
    dir = wanted ? strdup(asked) : scratch_new();
    return dir ? 0 : -1;
}

int artefacts_teardown(void **state)
{
    (void)state;
    if (wanted)
        free(dir);
    else
        scratch_free(dir);
    return 0;
}

bool artefacts_wanted(void)
{
    return wanted;
}

char *artefacts_path(const char *name)
{
    return at_path_join(dir, name);
}

void must(bool good, const at_error *err)
{
    if (!good)
        fail_msg("%s", err->message);
}

size_t artefacts_pixels(const at_net *net)
{
    int c, h, w;
    at_net_input_shape(net, &c, &h, &w);
    return (size_t)(c * h * w);
}

float *artefacts_infer(at_net *net, const uint8_t *pixels, size_t n, int batch)
{
    at_error err = {0};
    size_t classes = (size_t)at_net_classes(net), one = artefacts_pixels(net), some = (size_t)batch;
    float *out = malloc(2 * n * classes * sizeof *out);
    at_plan *plan = at_plan_new(net, &(at_plan_options){.batch = batch}, &err);
    must(plan && out, &err);
    assert_int_equal(n % some, 0);
    for (size_t i = 0; i < n; i += some) {
        at_plan_input in = {.pixels = pixels + i * one};
        must(at_plan_infer(plan, &in, &(at_plan_stats){0}, &err) == AT_OK, &err);
        memcpy(out + i * classes, at_plan_logits(plan), some * classes * sizeof *out);
        memcpy(out + (n + i) * classes, at_plan_scores(plan), some * classes * sizeof *out);
    }
    at_plan_free(plan);
    return out;
}

void artefacts_write_scores(const char *name, const at_net *net, const uint8_t *pixels,
                            const float *out, size_t n)
{
    at_error err = {0};
    int c, h, w, classes = at_net_classes(net);
    at_net_input_shape(net, &c, &h, &w);
    size_t count = n * artefacts_pixels(net);
    float *as_floats = malloc(count * sizeof *as_floats);
    assert_non_null(as_floats);
    for (size_t i = 0; i < count; i++)
        as_floats[i] = pixels[i];
    char *path = at_format("%s/%s.scores.h5", dir, name);
    at_h5 *file = at_h5_create(path, &err);
    must(file != NULL, &err);
    const int64_t image[] = {(int64_t)n, h, w, c}, row[] = {(int64_t)n, classes};
    const float *scores = out + n * (size_t)classes;
    must(at_h5_write_floats(file, "pixels", as_floats, 4, image, &err) == AT_OK, &err);
    must(at_h5_write_floats(file, "logits", out, 2, row, &err) == AT_OK, &err);
    must(at_h5_write_floats(file, "scores", scores, 2, row, &err) == AT_OK, &err);
    must(at_h5_close(file, &err) == AT_OK, &err);
    free(path);
    free(as_floats);
}

at_model_info artefacts_info(const char *name, const at_net *net)
{
    at_model_info info = {.model = (char *)(uintptr_t)name};
    info.class_count = (size_t)at_net_classes(net);
    info.classes = calloc(info.class_count, sizeof *info.classes);
    assert_non_null(info.classes);
    for (size_t i = 0; i < info.class_count; i++)
        info.classes[i] = at_format("class %zu", i);
    return info;
}

void artefacts_info_fini(at_model_info *info)
{
    for (size_t i = 0; i < info->class_count; i++)
        free(info->classes[i]);
    free(info->classes);
}
