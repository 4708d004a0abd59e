/* SPDX-License-Identifier: Apache-2.0
 * What the tests of caches share. */
#include "caches.h"

#include <math.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

const pictures cache_small = {
    .classes = 3, .train = 7, .val = 2, .test = 3, .height = 9, .width = 5, .channels = 3};

void cache_must(int code, const at_error *err)
{
    if (code)
        fail_msg("%s", err->message);
}

at_cache *cache_must_open(const char *path)
{
    at_error err = {0};
    at_cache *c = at_cache_open_at(path, NULL, &err);
    if (!c)
        fail_msg("%s", err.message);
    return c;
}

at_cache *cache_must_make(const char *dataset, const char *dir)
{
    at_error err = {0};
    at_cache *c = at_cache_open(dataset, &(at_cache_spec){.dir = dir, .threads = 2}, &err);
    if (!c)
        fail_msg("%s", err.message);
    return c;
}

char *cache_file_path(const char *folder, const char *name)
{
    char *path = at_path_join(folder, name);
    assert_non_null(path);
    return path;
}

ino_t cache_inode(const char *folder, const char *name)
{
    struct stat st;
    char *path = cache_file_path(folder, name);
    assert_int_equal(stat(path, &st), 0);
    free(path);
    return st.st_ino;
}

typedef struct moments {
    double n, sum[3], square[3];
} moments;

static void check_split(const at_dataset *d, at_cache *c, at_split split, moments *m)
{
    at_error err = {0};
    at_frame frame = at_cache_frame(c);
    int h = frame.height, w = frame.width, k = frame.channels;
    at_reader *reader = at_reader_new(c, &err);
    assert_non_null(reader);
    size_t bytes = (size_t)(h * w * k);
    uint8_t *expected = malloc(bytes);
    assert_int_equal(at_cache_count(c, split), at_dataset_count(d, split));
    for (size_t i = 0; i < at_cache_count(c, split); i++) {
        const uint8_t *pixels;
        int32_t label;
        at_sample s;
        at_image image;
        cache_must(at_dataset_sample(d, split, i, &s, &err), &err);
        cache_must(at_image_decode(s.bytes, s.size, NULL, &image, NULL, &err), &err);
        cache_must(at_image_frame(&image, &frame, expected, &err), &err);
        cache_must(at_reader_sample(reader, split, i, &pixels, &label, &err), &err);
        assert_int_equal(label, s.label);
        assert_memory_equal(pixels, expected, bytes);
        for (size_t j = 0; j < bytes; j++) {
            m->sum[j % (size_t)k] += expected[j] / 255.0;
            m->square[j % (size_t)k] += expected[j] / 255.0 * (expected[j] / 255.0);
        }
        m->n += (double)(h * w);
        at_image_fini(&image);
    }
    at_reader_free(reader);
    free(expected);
}

static void check_statistics(const at_cache *c, const moments *m)
{
    int h, w, k;
    float mean[3], deviation[3];
    at_cache_shape(c, &h, &w, &k);
    at_cache_statistics(c, mean, deviation);
    for (int i = 0; i < k; i++) {
        double expected = m->sum[i] / m->n;
        assert_true(fabs(mean[i] - expected) < 1e-6);
        assert_true(fabs(deviation[i] - sqrt(m->square[i] / m->n - expected * expected)) < 1e-6);
    }
}

void cache_check_contents(const char *dataset, at_cache *c)
{
    at_error err = {0};
    moments train = {0}, others = {0};
    at_dataset *d = at_dataset_open(dataset, &err);
    if (!d)
        fail_msg("%s", err.message);
    check_split(d, c, AT_TRAIN, &train);
    check_split(d, c, AT_VAL, &others);
    check_split(d, c, AT_TEST, &others);
    check_statistics(c, &train);
    assert_int_equal(at_cache_classes(c), at_dataset_classes(d));
    for (size_t i = 0; i < at_cache_classes(c); i++)
        assert_string_equal(at_cache_class_name(c, i), at_dataset_class_name(d, i));
    assert_null(at_cache_class_name(c, at_cache_classes(c)));
    at_dataset_close(d);
}

/* A small cache in dir/cache; free the path. */
char *cache_build_small(const char *dir)
{
    at_error err = {0};
    char *dataset = pictures_ingest(&cache_small, dir, "data"), *path = at_path_join(dir, "cache");
    cache_must(at_cache_build(dataset, &(at_cache_spec){.threads = 2}, path, &err), &err);
    free(dataset);
    return path;
}
