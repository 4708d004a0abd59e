/* SPDX-License-Identifier: Apache-2.0
 * Data sets of made-up pictures. */
#include "pictures.h"

#include "atoll/datasets.h"

#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

static void check(int code, const at_error *err)
{
    if (code)
        fail_msg("%s", err->message);
}

static void paint(at_image *image, at_rng *rng)
{
    uint64_t slope = 1 + at_rng_below(rng, 7);
    for (int y = 0, i = 0; y < image->height; y++)
        for (int x = 0; x < image->width; x++)
            for (int c = 0; c < image->channels; c++, i++)
                image->pixels[i] =
                    (uint8_t)(at_rng_below(rng, 64) + slope * (uint64_t)(x + y) + 20 * (uint64_t)c);
}

static void write_one(const pictures *p, const char *folder, int i, at_rng *rng)
{
    at_error err = {0};
    at_image image = {.width = p->width, .height = p->height, .channels = p->channels};
    void *bytes;
    size_t size;
    image.pixels = malloc((size_t)(p->width * p->height * p->channels));
    char *path = at_format("%s/%05d.png", folder, i);
    assert_true(image.pixels && path);
    paint(&image, rng);
    check(at_image_encode_png(&image, &bytes, &size, &err), &err);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
    free(bytes);
    free(path);
    at_image_fini(&image);
}

static void write_split(const pictures *p, const char *source, at_split split, int count)
{
    at_error err = {0};
    for (int class = 0; class < p->classes && count; class ++) {
        char *folder = at_format("%s/%s/class %d", source, at_split_name(split), class);
        assert_non_null(folder);
        check(at_make_dirs(folder, &err), &err);
        at_rng rng = at_rng_stream(p->seed, at_split_name(split), (uint64_t) class);
        for (int i = 0; i < count; i++)
            write_one(p, folder, i, &rng);
        free(folder);
    }
}

char *pictures_ingest(const pictures *p, const char *dir, const char *name)
{
    at_error err = {0};
    at_ingest_result result;
    char *source = at_format("%s/%s.source", dir, name), *out = at_path_join(dir, name);
    assert_true(source && out);
    write_split(p, source, AT_TRAIN, p->train);
    write_split(p, source, AT_VAL, p->val);
    write_split(p, source, AT_TEST, p->test);
    at_ingest_options how = {.source = source, .out = out, .jobs = 2};
    check(at_ingest(&how, &result, &err), &err);
    assert_int_equal(result.images, p->classes * (p->train + p->val + p->test));
    check(at_remove_tree(source, &err), &err);
    free(source);
    return out;
}
