/* SPDX-License-Identifier: Apache-2.0
 * See place.h.
 */
#include "place.h"

#include "../../datasets/internal.h"
#include "scratch.h"
#include "sources.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

int place_set_up(void **state)
{
    struct place *p = calloc(1, sizeof *p);
    assert_non_null(p);
    p->dir = scratch_new();
    p->source = at_path_join(p->dir, "source");
    p->out = at_path_join(p->dir, "out");
    *state = p;
    return 0;
}

int place_set_up_dataset(void **state)
{
    place_set_up(state);
    struct place *p = *state;
    put_pictures(p->source, "train", 3, 20, 0);
    put_pictures(p->source, "test", 3, 5, 1000);
    at_ingest_options o = {.source = p->source, .out = p->out, .val_fraction = 0.1};
    at_error err = {0};
    if (at_ingest_tuned(&o, &(at_ingest_tuning){.shard_bytes = 8192, .commit_images = 10}, NULL,
                        &err))
        fail_msg("%s", err.message);
    return 0;
}

int place_name_file(struct place *p, const char *name)
{
    p->file = at_path_join(p->dir, name);
    assert_non_null(p->file);
    return 0;
}

int place_tear_down(void **state)
{
    struct place *p = *state;
    free(p->source);
    free(p->out);
    free(p->file);
    scratch_free(p->dir);
    free(p);
    return 0;
}

void place_expect(const struct place *p, const char *sql, const char *value)
{
    assert_string_equal(query(p->out, sql), value);
}

at_image place_pixels(const char *dataset, at_split split, size_t i, int32_t *label)
{
    at_error err = {0};
    at_dataset *d = at_dataset_open(dataset, &err);
    if (!d)
        fail_msg("%s", err.message);
    at_sample s;
    at_image image;
    assert_int_equal(at_dataset_sample(d, split, i, &s, &err), 0);
    assert_int_equal(at_image_decode(s.bytes, s.size, NULL, &image, NULL, &err), 0);
    *label = s.label;
    at_dataset_close(d);
    return image;
}

void place_cut(const char *dir, const char *name, double part)
{
    at_error err = {0};
    char *path = at_path_join(dir, name), *data;
    size_t size;
    assert_int_equal(at_file_read(path, 1 << 30, &data, &size, &err), 0);
    assert_int_equal(truncate(path, (off_t)((double)size * part)), 0);
    free(data);
    free(path);
}
