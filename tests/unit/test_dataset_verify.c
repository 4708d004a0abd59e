/* SPDX-License-Identifier: Apache-2.0
 * A data set's own check finds every flipped bit of its shards and index, and reading never hands
 * over what is damaged.
 * ctest: timeout=300 */
#include "../../datasets/internal.h"
#include "damage.h"
#include "place.h"
#include "scratch.h"
#include "sources.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* One told damage. */
typedef struct told {
    char file[64], image[300], what[300];
    size_t times;
} told;

static void take(void *context, const at_damage *d)
{
    told *t = context;
    if (t->times++)
        return;
    snprintf(t->file, sizeof t->file, "%s", d->file);
    snprintf(t->image, sizeof t->image, "%s", d->image ? d->image : "");
    snprintf(t->what, sizeof t->what, "%s", d->what);
}

static int verify(const struct place *p, told *t)
{
    at_dataset_checked c;
    at_error err = {0};
    *t = (told){0};
    int code = at_dataset_verify(p->out, 1, take, t, &c, &err);
    assert_int_equal(c.damaged, t->times);
    assert_int_equal(code, c.damaged ? AT_EINPUT : 0);
    if (code) {
        assert_non_null(strstr(err.message, p->out));
        assert_non_null(strstr(err.message, t->what));
    }
    return code;
}

static off_t size_of(const struct place *p, const char *name)
{
    struct stat st;
    char *path = at_path_join(p->out, name);
    off_t size = stat(path, &st) ? 0 : st.st_size;
    free(path);
    return size;
}

static void test_a_whole_one_is_whole(void **state)
{
    told t;
    at_dataset_checked c;
    at_error err = {0};
    assert_int_equal(verify(*state, &t), 0);
    const struct place *p = *state;
    assert_int_equal(at_dataset_verify(p->out, 3, NULL, NULL, &c, &err), 0);
    assert_int_equal(c.images, 75);
    assert_int_equal(c.contents, 75);
    assert_true(c.shards >= 2);
    assert_int_equal(at_dataset_verify(p->source, 1, NULL, NULL, &c, &err), AT_ENOENT);
}

/* ---- flips ---- */

enum { SHARDS = 32 };
typedef struct whole {
    char *bytes[SHARDS]; /* of the shards, as they were written */
    off_t size[SHARDS];
    size_t shards;
} whole;

static void shard_name(size_t i, char out[32])
{
    snprintf(out, 32, "shards/%05zu.atb", i);
}

static whole remember(const struct place *p)
{
    whole w = {0};
    char name[32];
    at_error err = {0};
    for (shard_name(0, name); size_of(p, name); shard_name(++w.shards, name)) {
        assert_true(w.shards < SHARDS);
        char *path = at_path_join(p->out, name);
        assert_int_equal(at_file_read(path, 1 << 20, &w.bytes[w.shards], NULL, &err), 0);
        w.size[w.shards] = size_of(p, name);
        free(path);
    }
    return w;
}

static void count_damage(void *context, uint64_t offset, const char *what)
{
    (void)offset;
    assert_true(what[0]);
    ++*(size_t *)context;
}

/* What reading refuses and what checking the shard finds; what is handed over is as it was. */
static size_t damage_found(const struct place *p, const at_dataset *d, const whole *w, size_t shard)
{
    size_t found = 0;
    for (int split = 0; split < AT_SPLITS; split++)
        for (size_t i = 0; i < at_dataset_count(d, (at_split)split); i++) {
            at_sample s;
            at_error err = {0};
            if (at_dataset_sample(d, (at_split)split, i, &s, &err)) {
                assert_int_equal(err.code, AT_EINPUT);
                assert_non_null(strstr(err.message, ".atb"));
                found++;
                continue;
            }
            bool same = false;
            for (size_t k = 0; k < w->shards && !same; k++)
                same = memmem(w->bytes[k], (size_t)w->size[k], s.bytes, s.size) != NULL;
            assert_true(same);
        }
    at_shard map;
    at_error err = {0};
    char *folder = at_path_join(p->out, "shards");
    if (at_shard_map(folder, (int64_t)shard, &map, &err))
        found++;
    else
        at_shard_check(&map, count_damage, &found);
    at_shard_unmap(&map);
    free(folder);
    return found;
}

static void test_every_flip_in_a_shard_is_found(void **state)
{
    enum { CASES = 10000, WHOLE = 100 }; /* each WHOLE-th by the whole check, too */
    const struct place *p = *state;
    whole w = remember(p);
    at_error err = {0};
    at_rng rng = at_rng_stream(3, "shard flips", 0);
    at_dataset *d = at_dataset_open(p->out, &err); /* its mapping sees the flips */
    assert_non_null(d);
    for (int i = 0; i < CASES; i++) {
        char name[32];
        size_t shard = at_rng_below(&rng, w.shards);
        off_t offset = (off_t)at_rng_below(&rng, (uint64_t)w.size[shard]);
        uint8_t mask = (uint8_t)(1 << at_rng_below(&rng, 8));
        shard_name(shard, name);
        damage_bits(p->out, name, offset, mask);
        if (!damage_found(p, d, &w, shard))
            fail_msg("bit %02x at %ld of %s: not found", mask, (long)offset, name);
        if (i % WHOLE == 0) {
            told t;
            assert_int_equal(verify(p, &t), AT_EINPUT);
            assert_string_equal(t.file, name);
        }
        damage_bits(p->out, name, offset, mask);
    }
    told t;
    assert_int_equal(verify(p, &t), 0);
    print_message("%d flipped bits in %zu shards, all found; nothing damaged handed over\n", CASES,
                  w.shards);
    at_dataset_close(d);
    for (size_t i = 0; i < w.shards; i++)
        free(w.bytes[i]);
}

static void test_every_flip_in_the_index_is_found(void **state)
{
    enum { CASES = 1000 };
    const struct place *p = *state;
    off_t size = size_of(p, "images.idx");
    at_rng rng = at_rng_stream(4, "index flips", 0);
    for (int i = 0; i < CASES; i++) {
        off_t offset = (off_t)at_rng_below(&rng, (uint64_t)size);
        uint8_t mask = (uint8_t)(1 << at_rng_below(&rng, 8));
        damage_bits(p->out, "images.idx", offset, mask);
        assert_true(at_index_is_damaged(p->out));
        damage_bits(p->out, "images.idx", offset, mask);
    }
    assert_false(at_index_is_damaged(p->out));
    told t;
    damage_bits(p->out, "images.idx", size / 2, 1);
    assert_int_equal(verify(p, &t), AT_EINPUT);
    assert_string_equal(t.file, "images.idx");
    print_message("%d flipped bits in images.idx, all found\n", CASES);
}

/* ---- what it names ---- */

static void run_sql(const struct place *p, const char *sql)
{
    at_error err = {0};
    char *path = at_path_join(p->out, "catalog.db");
    at_db *db = at_db_open(path, AT_DB_WRITE, &err);
    assert_non_null(db);
    if (at_db_exec(db, sql, &err))
        fail_msg("%s", err.message);
    at_db_close(db);
    free(path);
}

static void test_the_image_is_named(void **state)
{
    const struct place *p = *state;
    told t;
    damage_bits(p->out, "shards/00000.atb", 32 + 48 + 3, 1); /* in the first content */
    place_expect(p, "SELECT offset FROM blobs WHERE shard = 0 ORDER BY offset", "80");
    assert_int_equal(verify(p, &t), AT_EINPUT);
    assert_int_equal(t.times, 1);
    assert_string_equal(t.file, "shards/00000.atb");
    place_expect(p,
                 "SELECT path FROM images WHERE blob = (SELECT id FROM blobs WHERE shard = 0 "
                 "ORDER BY offset LIMIT 1)",
                 t.image);
    assert_non_null(strstr(t.what, "CRC"));
    damage_bits(p->out, "shards/00000.atb", 32 + 48 + 3, 1);
    assert_int_equal(verify(p, &t), 0);
}

static void test_a_catalog_that_was_changed_is_told(void **state)
{
    static const char *const changes[] = {
        "UPDATE images SET label = 1 - label WHERE id = 3",
        "UPDATE images SET split = CASE split WHEN 'test' THEN 'val' ELSE 'test' END WHERE id = 4",
        "UPDATE images SET path = path || 'x' WHERE id = 5",
        "DELETE FROM images WHERE id = 6",
        "PRAGMA foreign_keys = OFF; UPDATE images SET label = 77 WHERE id = 7",
        "UPDATE blobs SET hash = replace(hash, 'a', 'b')",
        "UPDATE blobs SET crc32c = crc32c + 1 WHERE id = 2",
        "UPDATE blobs SET offset = offset + 1 WHERE id = 2",
        "UPDATE blobs SET bytes = 1 << 40 WHERE id = 2",
        "UPDATE blobs SET shard = 99 WHERE id = 2",
    };
    const struct place *p = *state;
    enum { CHANGES = sizeof changes / sizeof *changes, PAGE = 4096 };
    char *path = at_path_join(p->out, "catalog.db"), *bytes;
    size_t size;
    at_error err = {0};
    assert_int_equal(at_file_read(path, 1 << 24, &bytes, &size, &err), 0);
    for (size_t i = 0; i < CHANGES; i++) {
        told t;
        run_sql(p, changes[i]);
        if (verify(p, &t) == 0)
            fail_msg("not found: %s", changes[i]);
        assert_int_equal(at_file_write(path, bytes, size, &err), 0);
    }
    size_t torn = 0, found = 0; /* pages; those that SQLite does not use may hold anything */
    for (size_t at = 0; at + PAGE <= size; at += PAGE, torn++) {
        told t = {0};
        at_dataset_checked c;
        char *page = malloc(size);
        memcpy(page, bytes, size);
        memset(page + at, 0x5a, PAGE);
        assert_int_equal(at_file_write(path, page, size, &err), 0);
        int code = at_dataset_verify(p->out, 1, take, &t, &c, &err);
        assert_true(code == 0 || code == AT_EINPUT);
        found += code != 0;
        free(page);
    }
    assert_true(4 * found > torn);
    assert_int_equal(at_file_write(path, bytes, size, &err), 0);
    print_message("%d changes of a catalog, all found, and %zu of %zu torn pages\n", CHANGES, found,
                  torn);
    free(bytes);
    free(path);
}

static void test_cut_and_missing_shards_are_named(void **state)
{
    const struct place *p = *state;
    char *path = at_path_join(p->out, "shards/00001.atb"), *bytes;
    off_t size = size_of(p, "shards/00001.atb");
    at_error err = {0};
    told t;
    assert_int_equal(at_file_read(path, 1 << 20, &bytes, NULL, &err), 0);
    for (off_t length = 0; length < size; length += 97) {
        assert_int_equal(truncate(path, length), 0);
        assert_int_equal(verify(p, &t), AT_EINPUT);
        assert_string_equal(t.file, "shards/00001.atb");
        assert_int_equal(at_file_write(path, bytes, (size_t)size, &err), 0);
    }
    assert_int_equal(unlink(path), 0);
    assert_int_equal(verify(p, &t), AT_EINPUT);
    assert_string_equal(t.file, "shards/00001.atb");
    free(bytes);
    free(path);
}

int main(void)
{
    at_progress_silence(true);
    at_log_set_level(AT_LOG_ERROR);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_whole_one_is_whole, place_set_up_dataset,
                                        place_tear_down),
        cmocka_unit_test_setup_teardown(test_every_flip_in_a_shard_is_found, place_set_up_dataset,
                                        place_tear_down),
        cmocka_unit_test_setup_teardown(test_every_flip_in_the_index_is_found, place_set_up_dataset,
                                        place_tear_down),
        cmocka_unit_test_setup_teardown(test_the_image_is_named, place_set_up_dataset,
                                        place_tear_down),
        cmocka_unit_test_setup_teardown(test_a_catalog_that_was_changed_is_told,
                                        place_set_up_dataset, place_tear_down),
        cmocka_unit_test_setup_teardown(test_cut_and_missing_shards_are_named, place_set_up_dataset,
                                        place_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
