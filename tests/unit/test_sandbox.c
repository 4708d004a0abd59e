/* SPDX-License-Identifier: Apache-2.0
 * Decoding in processes of their own: a decoder's crash, hang or hunger costs one picture; what a
 * worker that was taken over tells is not believed; nobody stays behind.
 * ctest: timeout=600 */
#include "../../datasets/sandbox.h"

#include "dataset_text.h"
#include "place.h"
#include "processes.h"
#include "sources.h"
#include "spoilt_jpeg.h"

#include <dlfcn.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>
#include <seccomp.h>

/* ---- what stands before the system's own ----------------------------------------------------- */

static bool no_filters; /* as on a system without them */

int seccomp_load(const scmp_filter_ctx filter)
{
    int (*real)(const scmp_filter_ctx);
    *(void **)&real = dlsym(RTLD_NEXT, "seccomp_load");
    return no_filters ? -EINVAL : real(filter);
}

#ifndef __SANITIZE_THREAD__ /* which needs its own */
void *mmap(void *at, size_t size, int protection, int flags, int fd, off_t offset)
{
    void *p = (void *)syscall(SYS_mmap, at, size, protection, flags, fd, offset); /* NOLINT */
    if (size == sizeof(at_answers) && (flags & MAP_SHARED))
        spoilt_answers(p, offsetof(at_answers, exif) + 4096);
    return p;
}
#endif

/* ---- among good pictures --------------------------------------------------------------------- */

static const at_decode_limits limits = {.pixels = 1 << 20, .bytes = 1 << 20, .seconds = 0.1};

static void put_good(const char *dir, int count)
{
    char name[40];
    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof name, "class_%d/%03d.jpg", i % 3, i * 5);
        put_spoilt(dir, name, SPOILT_GOOD, (uint64_t)i);
        snprintf(name, sizeof name, "class_%d/%03d.png", i % 3, i * 5 + 1);
        put_picture(dir, name, (uint64_t)i);
    }
}

/* Two of each kind at random places among the good ones; returns how many. */
static int put_bad(const char *dir, int places)
{
    at_rng rng = at_rng_stream(7, "places", 0);
    int count = 0;
    char name[60];
    for (int kind = SPOILT_GOOD + 1; kind < SPOILT_END; kind++)
        for (int i = 0; i < 2 && spoilt_of((spoilt_kind)kind).reason; i++, count++) {
            snprintf(name, sizeof name, "class_%d/%03d-%d-%d.jpg", i,
                     (int)at_rng_below(&rng, (uint64_t)places), kind, i);
            put_spoilt(dir, name, (spoilt_kind)kind, (uint64_t)kind * 2 + (uint64_t)i);
        }
    return count;
}

static void ingest_with(const struct place *p, const char *out, int jobs, at_ingest_result *r)
{
    at_error err = {0};
    at_ingest_options o = {.source = p->source, .out = out, .limits = limits, .jobs = jobs};
    if (at_ingest(&o, r, &err))
        fail_msg("%s", err.message);
}

static void expect_errors(const char *out, int count)
{
    at_error err = {0};
    char *catalog = at_path_join(out, "catalog.db");
    at_db *db = at_db_open(catalog, AT_DB_READ, &err);
    at_stmt *s = at_db_prepare(db, "SELECT path, reason, detail FROM errors", &err);
    int found = 0;
    for (; at_stmt_step(s, &err) == 1; found++) {
        int kind = atoi(strchr(at_stmt_text(s, 0), '-') + 1);
        spoilt_row want = spoilt_of((spoilt_kind)kind);
        if (strcmp(at_stmt_text(s, 1), want.reason) || !strstr(at_stmt_text(s, 2), want.detail))
            fail_msg("%s: %s, %s", at_stmt_text(s, 0), at_stmt_text(s, 1), at_stmt_text(s, 2));
    }
    assert_int_equal(found, count);
    at_stmt_free(s);
    at_db_close(db);
    free(catalog);
}

static void forget_errors(const char *out)
{
    at_error err = {0};
    char *catalog = at_path_join(out, "catalog.db");
    at_db *db = at_db_open(catalog, AT_DB_WRITE, &err);
    assert_int_equal(at_db_exec(db, "DELETE FROM errors", &err), 0);
    at_db_close(db);
    free(catalog);
}

static void test_a_crash_costs_one_picture(void **state)
{
    struct place *p = *state;
    at_ingest_result r;
    put_good(p->source, 60);
    ingest_with(p, p->out, 2, &r);
    assert_int_equal(r.images, 120);
    assert_int_equal(r.errors, 0);
    char *wanted = dataset_text(p->out);
    int bad = put_bad(p->source, 300);
    static const int jobs[] = {1, 2, 5};
    for (int i = 0; i < 3; i++) {
        char *out = at_format("%s/out-%d", p->dir, jobs[i]);
        ingest_with(p, out, jobs[i], &r);
        assert_int_equal(r.images, 120);
        expect_errors(out, bad);
        forget_errors(out);
        char *got = dataset_text(out);
        same_text(got, wanted);
        free(got);
        free(out);
    }
    print_message("%d pictures that end their decoder among 120 good ones, 3 times\n", bad);
    free(wanted);
}

/* ---- one sandbox ----------------------------------------------------------------------------- */

static at_sandbox *start(const at_decode_limits *within, bool filtered)
{
    at_error err = {0};
    bool has_filter = !filtered;
    at_sandbox *s = at_sandbox_new(within, &(at_wish){.facts = true}, &err);
    if (!s || at_sandbox_await(s, &has_filter, &err))
        fail_msg("%s", err.message);
    assert_int_equal(has_filter, filtered);
    return s;
}

static void make_items(at_item *items, const spoilt_kind *kinds, size_t count)
{
    memset(items, 0, count * sizeof *items);
    for (size_t i = 0; i < count; i++) {
        encoded jpeg = encode_spoilt(kinds[i], i);
        assert_true(at_buffer_set(&items[i].bytes, jpeg.bytes, jpeg.size));
        free(jpeg.bytes);
    }
}

static void examine(at_sandbox *s, at_item *items, size_t count)
{
    at_error err = {0};
    at_item *pointers[AT_CHUNK_ITEMS];
    for (size_t i = 0; i < count; i++)
        pointers[i] = &items[i];
    if (at_sandbox_examine(s, pointers, count, &err))
        fail_msg("%s", err.message);
}

static void free_items(at_item *items, size_t count)
{
    for (size_t i = 0; i < count; i++)
        at_item_fini(&items[i]);
}

/* Who is decoded after the guilty one is innocent; who crashes by itself is not, whatever was
 * before. */
static void test_the_innocent_are_not_blamed(void **state)
{
    (void)state;
    static const spoilt_kind kinds[] = {SPOILT_GOOD, SPOILT_NEXT, SPOILT_GOOD, SPOILT_GOOD,
                                        SPOILT_SEGV, SPOILT_NEXT, SPOILT_SEGV, SPOILT_GOOD};
    enum { COUNT = sizeof kinds / sizeof *kinds };
    at_item items[COUNT];
    make_items(items, kinds, COUNT);
    at_sandbox *s = start(&limits, true);
    for (int again = 0; again < 3; again++) {
        examine(s, items, COUNT);
        for (int i = 0; i < COUNT; i++) {
            assert_int_equal(items[i].bad, kinds[i] == SPOILT_SEGV);
            items[i].bad = false;
        }
    }
    at_sandbox_free(s);
    free_items(items, COUNT);
}

static void test_results_are_those_of_decoding_here(void **state)
{
    (void)state;
    spoilt_kind kinds[AT_CHUNK_ITEMS];
    at_item items[AT_CHUNK_ITEMS], here[AT_CHUNK_ITEMS];
    for (int i = 0; i < AT_CHUNK_ITEMS; i++)
        kinds[i] = i % 2 ? SPOILT_GOOD : SPOILT_SLOW;
    make_items(items, kinds, AT_CHUNK_ITEMS);
    make_items(here, kinds, AT_CHUNK_ITEMS);
    at_sandbox *s = start(&limits, true);
    examine(s, items, AT_CHUNK_ITEMS);
    at_decoder *decoder = at_decoder_new();
    for (int i = 0; i < AT_CHUNK_ITEMS; i++) {
        at_image image;
        at_item_examine(&here[i], decoder, &limits, &image);
        at_item_hash(&here[i]);
        assert_false(items[i].bad);
        assert_memory_equal(&items[i].seen, &here[i].seen, sizeof here[i].seen);
        assert_string_equal(items[i].hash, here[i].hash);
        assert_int_equal(items[i].crc, here[i].crc);
    }
    at_decoder_free(decoder);
    at_sandbox_free(s);
    free_items(items, AT_CHUNK_ITEMS);
    free_items(here, AT_CHUNK_ITEMS);
}

/* A worker that is somebody else's writes what it likes. */
static void test_noise_for_answers_is_not_believed(void **state)
{
    (void)state;
    enum { COUNT = 3, ROUNDS = 100 };
    static const spoilt_kind kinds[COUNT] = {SPOILT_GOOD, SPOILT_ANSWERS, SPOILT_GOOD};
    at_item items[COUNT];
    int refused = 0;
#ifdef __SANITIZE_THREAD__
    skip();
#endif
    at_sandbox *s = start(&limits, true);
    for (int round = 0; round < ROUNDS; round++) {
        make_items(items, kinds, COUNT);
        encoded noise = encode_spoilt(SPOILT_ANSWERS, (uint64_t)round);
        at_buffer_set(&items[1].bytes, noise.bytes, noise.size);
        free(noise.bytes);
        examine(s, items, COUNT);
        for (int i = 0; i < COUNT; i++) {
            refused += items[i].bad;
            if (items[i].bad)
                assert_true(strlen(items[i].detail) > 0 && items[i].reason < AT_REASON_COUNT);
            else
                assert_true(items[i].seen.width > 0 && items[i].seen.height > 0);
        }
        free_items(items, COUNT);
    }
    at_sandbox_free(s);
    print_message("%d answers of noise, %d pictures refused\n", ROUNDS, refused);
    assert_true(refused > ROUNDS / 2 && refused <= COUNT * ROUNDS / 2);
}

/* Then nothing but limits holds the worker; without a file it can do little. */
static void test_a_system_without_filters(void **state)
{
    (void)state;
    static const spoilt_kind kinds[] = {SPOILT_GOOD, SPOILT_FILES, SPOILT_SEGV, SPOILT_GOOD};
    enum { COUNT = sizeof kinds / sizeof *kinds };
    at_item items[COUNT];
    make_items(items, kinds, COUNT);
    no_filters = true;
    at_sandbox *s = start(&limits, false);
    examine(s, items, COUNT);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(items[i].bad, kinds[i] == SPOILT_SEGV);
    at_sandbox_free(s);
    no_filters = false;
    free_items(items, COUNT);
}

static void test_a_file_beyond_the_limit(void **state)
{
    (void)state;
    at_item item = {0}, *pointer = &item;
    uint8_t *bytes = calloc(1, limits.bytes + 1);
    assert_true(bytes && at_buffer_set(&item.bytes, bytes, limits.bytes + 1));
    at_sandbox *s = start(&limits, true);
    assert_int_equal(at_sandbox_examine(s, &pointer, 1, NULL), 0);
    assert_int_equal(item.reason, AT_REASON_TOO_LARGE);
    assert_non_null(strstr(item.detail, "--max-bytes"));
    at_sandbox_free(s);
    free(bytes);
    at_item_fini(&item);
}

/* What the limits allow, the worker's memory must suffice for, whatever form is the hungriest. */
static void test_the_largest_pictures_have_room(void **state)
{
    (void)state;
    static const at_decode_limits usual = {.seconds = 300};
    enum { SIDE = 4096, COUNT = 3 };
    uint8_t *black = calloc((size_t)SIDE * SIDE, 8);
    assert_non_null(black);
    at_image image = {SIDE, SIDE, 3, black};
    encoded files[COUNT] = {
        encode_jpeg(&image, &(jpeg_spec){.quality = 50, .progressive = true, .cmyk = true}),
        encode_png(&(png_spec){SIDE, SIDE, 16, 6, .interlaced = true}, black, (size_t)SIDE * 8),
        encode_png(&(png_spec){1, SIDE * SIDE, 8, 4}, black, 2)};
    free(black);
    at_item items[COUNT] = {0};
    at_sandbox *s = start(&usual, true);
    for (int i = 0; i < COUNT; i++) {
        items[i].bytes = (at_buffer){files[i].bytes, files[i].size, files[i].size};
        examine(s, &items[i], 1);
        if (items[i].bad)
            fail_msg("%d: %s", i, items[i].detail);
        assert_int_equal((int64_t)items[i].seen.width * items[i].seen.height, SIDE * SIDE);
    }
    at_sandbox_free(s);
    free_items(items, COUNT);
}

/* ---- scans ----------------------------------------------------------------------------------- */

/* Its images and the errors' reasons. */
static void ingest_scans(const struct place *p, int64_t scans, double seconds, uint64_t images,
                         const char *error)
{
    at_error err = {0};
    at_ingest_result r;
    at_ingest_options o = {
        .source = p->source, .out = p->out, .limits = {.scans = scans, .seconds = seconds}};
    if (at_ingest(&o, &r, &err))
        fail_msg("%s", err.message);
    assert_int_equal(r.images, images);
    assert_string_equal(query(p->out, "SELECT reason || ': ' || detail FROM errors"), error);
}

static void test_ten_thousand_scans(void **state)
{
    struct place *p = *state;
    static const char too_many[] = "too-large: more than 100 scans, which --max-scans raises";
    encoded small = encode_scans(16, 10000), large = encode_scans(400, 10000);
    put_picture(p->source, "a/good.png", 1);
    put_file(p->source, "a/scans.jpg", large.bytes, large.size);
    ingest_scans(p, 0, 0, 1, too_many);
    at_remove_tree(p->out, NULL);
    ingest_scans(p, 20000, 0.1, 1,
                 "timeout: decoding takes more than 0.1 s of a CPU's time, which --max-seconds "
                 "raises");
    at_remove_tree(p->out, NULL);
    put_file(p->source, "a/scans.jpg", small.bytes, small.size);
    ingest_scans(p, 20000, 60, 2, "");
    /* the data set tells within what it can be decoded */
    at_dataset *d = at_dataset_open(p->out, NULL);
    at_image image;
    assert_int_equal(at_dataset_limits(d)->scans, 20000);
    assert_int_equal(
        at_image_decode(small.bytes, small.size, at_dataset_limits(d), &image, NULL, NULL), 0);
    at_image_fini(&image);
    const char *reason = NULL;
    assert_int_equal(at_image_decode(small.bytes, small.size, NULL, &image, &reason, NULL),
                     AT_EINPUT);
    assert_string_equal(reason, "too-large");
    at_dataset_close(d);
    free(small.bytes);
    free(large.bytes);
}

/* ---- signals --------------------------------------------------------------------------------- */

static pid_t start_ingest(const at_ingest_options *o)
{
    pid_t pid = fork();
    if (pid)
        return pid;
    setpgid(0, 0);
    at_interrupt_install();
    at_error err = {0};
    int code = at_ingest(o, NULL, &err);
    _exit(code < 0 ? at_error_exit_status(code) : 0);
}

/* Orphans come to this process, which learns of their end. */
static void test_nobody_outlives_a_killed_ingest(void **state)
{
    struct place *p = *state;
    enum { ROUNDS = 5 };
    assert_int_equal(prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    put_spoilt(p->source, "a/loop.jpg", SPOILT_LOOP, 1);
    put_spoilt(p->source, "b/loop.jpg", SPOILT_LOOP, 2);
    for (int round = 0; round < ROUNDS; round++) {
        at_ingest_options o = {
            .source = p->source, .out = p->out, .limits = {.seconds = 1000}, .jobs = 1 + round % 2};
        pid_t guard, worker, ingest = start_ingest(&o);
        await_worker(ingest, &guard, &worker);
        usleep((useconds_t)(round * 10000));
        assert_int_equal(kill(ingest, SIGKILL), 0);
        assert_int_equal(status_of(ingest), -SIGKILL);
        while (waitpid(-1, NULL, 0) > 0)
            ; /* returns when there is none */
        assert_true(kill(guard, 0) < 0 && errno == ESRCH);
        assert_true(kill(worker, 0) < 0 && errno == ESRCH);
    }
    prctl(PR_SET_CHILD_SUBREAPER, 0);
    print_message("%d ingests killed, nobody left\n", ROUNDS);
}

/* What a terminal sends to all processes is the parent's to answer. */
static void test_an_interrupted_ingest_blames_nobody(void **state)
{
    struct place *p = *state;
    char name[40];
    at_ingest_result r;
    for (int i = 0; i < 100; i++) {
        snprintf(name, sizeof name, "%c/%03d.jpg", "ab"[i % 2], i);
        put_spoilt(p->source, name, SPOILT_SLOW, (uint64_t)i);
    }
    at_ingest_options o = {.source = p->source, .out = p->out, .jobs = 2};
    static const int signals[] = {SIGINT, SIGTERM, SIGINT};
    int interrupted = 0;
    for (int i = 0; i < 3; i++) {
        pid_t guard, worker, ingest = start_ingest(&o);
        await_worker(ingest, &guard, &worker);
        usleep(100000);
        kill(-ingest, signals[i]);
        int status = status_of(ingest);
        assert_true(status == 4 || status == 0);
        interrupted += status == 4;
        o.resume = true;
    }
    assert_true(interrupted > 0);
    assert_int_equal(at_ingest(&o, &r, NULL), 0);
    assert_int_equal(r.errors, 0);
    assert_int_equal(r.images, 100);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_a_crash_costs_one_picture, place_set_up,
                                        place_tear_down),
        cmocka_unit_test(test_the_innocent_are_not_blamed),
        cmocka_unit_test(test_results_are_those_of_decoding_here),
        cmocka_unit_test(test_noise_for_answers_is_not_believed),
        cmocka_unit_test(test_a_system_without_filters),
        cmocka_unit_test(test_a_file_beyond_the_limit),
        cmocka_unit_test(test_the_largest_pictures_have_room),
        cmocka_unit_test_setup_teardown(test_ten_thousand_scans, place_set_up, place_tear_down),
        cmocka_unit_test_setup_teardown(test_nobody_outlives_a_killed_ingest, place_set_up,
                                        place_tear_down),
        cmocka_unit_test_setup_teardown(test_an_interrupted_ingest_blames_nobody, place_set_up,
                                        place_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
