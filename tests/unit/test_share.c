/* SPDX-License-Identifier: Apache-2.0
 * ctest: timeout=600
 * Ranks that share the work of an ingest make the bytes that one alone makes, whichever of them comes
 * first, is killed, or tells nonsense. */
#include "../../datasets/share.h"
#include "dataset_text.h"
#include "place.h"
#include "scratch.h"
#include "sources.h"

#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { MOST_RANKS = 4, COUNT = 120, MANY = 1500 };
static const at_ingest_tuning small = {.shard_bytes = 32 << 10, .commit_images = 100};

/* What a rank tells its parent. */
struct told {
    int code;
    at_ingest_result result;
};
static struct told *told; /* one a rank, shared memory */

static int set_up(void **state)
{
    place_set_up(state);
    struct place *p = *state;
    put_pictures(p->source, "train", 3, COUNT, 0);
    put_pictures(p->source, "test", 3, 10, 10000);
    put_pictures(p->source, "test/class_1", 1, 5, 0); /* copies of others */
    put_text(p->source, "train/class_0/notes.txt", "no picture");
    put_text(p->source, "test/class_2/zzz.jpg", "\xFF\xD8\xFF\xE0");
    put_tar(p->dir, "source", "source.tar.gz", true, true);
    put_zip(p->dir, "source", "source.zip", false);
    return 0;
}

static int ingest(const struct place *p, const char *source, int rank, int ranks, bool append,
                  at_ingest_result *r, at_error *err)
{
    at_ingest_options o = {.source = source, .out = p->out, .val_fraction = 0.2, .seed = 3};
    o.jobs = 1;
    o.resume = true;
    o.append = append;
    o.together = ranks > 1;
    o.rank = rank;
    o.ranks = ranks;
    return at_ingest_tuned(&o, &small, r, err);
}

static pid_t start_rank(const struct place *p, const char *source, int rank, int ranks, bool append)
{
    told[rank] = (struct told){.code = 1};
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        at_error err = {0};
        told[rank].code = ingest(p, source, rank, ranks, append, &told[rank].result, &err);
        _exit(0);
    }
    return child;
}

static void await(pid_t child)
{
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status) ? WEXITSTATUS(status) == 0 : WTERMSIG(status) == SIGKILL);
}

static void pause_for(double seconds)
{
    nanosleep(&(struct timespec){.tv_nsec = (long)(seconds * 1e9)}, NULL);
}

/* What one process alone makes; removes it. */
static char *alone(const struct place *p, const char *source)
{
    at_error err = {0};
    if (ingest(p, source, 0, 1, false, NULL, &err))
        fail_msg("%s", err.message);
    char *files = dataset_files(p->out);
    assert_int_equal(at_remove_tree(p->out, NULL), 0);
    return files;
}

static void expect(const struct place *p, const char *wanted, size_t entries)
{
    char *files = dataset_files(p->out);
    same_text(files, wanted);
    free(files);
    assert_int_equal(scratch_count(p->dir), entries + 1); /* no lock, nothing of what ranks told */
    assert_int_equal(at_remove_tree(p->out, NULL), 0);
}

/* All ranks, to their end; what the one that wrote says. */
static at_ingest_result run_ranks(const struct place *p, const char *source, int ranks, bool append)
{
    pid_t children[MOST_RANKS];
    for (int r = 0; r < ranks; r++)
        children[r] = start_rank(p, source, r, ranks, append);
    for (int r = 0; r < ranks; r++)
        await(children[r]);
    at_ingest_result result = {0};
    int writers = 0;
    for (int r = 0; r < ranks; r++) {
        assert_int_equal(told[r].code, 0);
        writers += !told[r].result.found;
        result = told[r].result.found ? result : told[r].result;
    }
    assert_int_equal(writers, 1);
    return result;
}

/* ---- undisturbed ----------------------------------------------------------------------------- */

static void test_any_number_of_ranks(void **state)
{
    struct place *p = *state;
    static const char *const names[] = {"source", "source.tar.gz", "source.zip"};
    uint64_t shared = 0;
    int rounds = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char *source = at_path_join(p->dir, names[i]), *wanted = alone(p, source);
        size_t entries = scratch_count(p->dir);
        for (int ranks = 2; ranks <= MOST_RANKS; ranks++, rounds++) {
            at_ingest_result r = run_ranks(p, source, ranks, false);
            assert_int_equal(r.images, 3 * (COUNT + 10) + 5);
            assert_true(r.shared <= r.images);
            shared += r.shared;
            expect(p, wanted, entries);
        }
        free(source);
        free(wanted);
    }
    /* A rank that starts late decodes in vain: of many more pictures there is something left for it. */
    place_name_file(p, "many");
    put_pictures(p->file, "train", 3, MANY, 50000);
    char *wanted = alone(p, p->file);
    size_t entries = scratch_count(p->dir);
    for (; shared == 0 && rounds < 60; rounds++) {
        shared += run_ranks(p, p->file, 2, false).shared;
        expect(p, wanted, entries);
    }
    free(wanted);
    print_message("%d ingests by 2 to 4 ranks: the bytes of one, %llu pictures decoded by others\n",
                  rounds, (unsigned long long)shared);
    assert_true(shared > 0);
}

static void test_appending_together(void **state)
{
    struct place *p = *state;
    place_name_file(p, "old");
    put_pictures(p->file, "before/train", 3, 5, 20000);
    assert_int_equal(ingest(p, p->file, 0, 1, false, NULL, NULL), 0);
    assert_int_equal(ingest(p, p->source, 0, 1, true, NULL, NULL), 0);
    char *wanted = dataset_files(p->out);
    assert_int_equal(at_remove_tree(p->out, NULL), 0);
    size_t entries = scratch_count(p->dir);
    assert_int_equal(ingest(p, p->file, 0, 1, false, NULL, NULL), 0);
    at_ingest_result r = run_ranks(p, p->source, 3, true);
    assert_int_equal(r.added, 3 * (COUNT + 10) + 5);
    expect(p, wanted, entries);
    free(wanted);
}

/* ---- disturbed ------------------------------------------------------------------------------- */

/* Some rank is killed at some time. If it was the one that writes, another run ends it. */
static void test_a_rank_is_killed(void **state)
{
    struct place *p = *state;
    enum { RANKS = 3, ROUNDS = 40, MOST_ROUNDS = 400 };
    char *wanted = alone(p, p->source);
    size_t entries = scratch_count(p->dir);
    at_rng rng = at_rng_stream(4, "kill", 0);
    double start = at_now();
    run_ranks(p, p->source, RANKS, false);
    double seconds = at_now() - start < 0.9 ? at_now() - start : 0.9;
    expect(p, wanted, entries);
    int ended = 0, resumed = 0, round = 0;
    for (; round < ROUNDS || (round < MOST_ROUNDS && !(ended && resumed)); round++) {
        pid_t children[RANKS];
        for (int r = 0; r < RANKS; r++)
            children[r] = start_rank(p, p->source, r, RANKS, false);
        pause_for(at_rng_uniform(&rng) * seconds);
        kill(children[round % RANKS], SIGKILL);
        for (int r = 0; r < RANKS; r++)
            await(children[r]);
        bool made = at_dir_exists(p->out);
        for (int r = 0; r < RANKS; r++) /* done, killed, or told of the other's end */
            assert_true(told[r].code == 0 || told[r].code == 1 || told[r].code == AT_EPEER);
        ended += made;
        resumed += !made;
        if (!made || scratch_count(p->dir) != entries + 1)
            run_ranks(p, p->source, 1 + round % 2, false);
        expect(p, wanted, entries);
    }
    print_message("a rank of %d killed in %d ingests: %d ended without it, %d were resumed\n",
                  RANKS, round, ended, resumed);
    assert_true(ended > 0 && resumed > 0);
    free(wanted);
}

/* ---- what ranks tell ------------------------------------------------------------------------- */

/* A file as a rank writes it, of every picture of the source that is not rank 0's. */
static char *told_of(const struct place *p, size_t *bytes)
{
    char *lock = at_format("%s.lock", p->out), *name = at_format("%s.shared/1-0", p->out), *data;
    at_ingest_options o = {.source = p->source, .out = p->out, .jobs = 1, .rank = 1, .ranks = 2};
    at_lock *turn = at_lock_take(lock, false, NULL);
    at_share *s = at_share_new(p->out, 0, 2, 0, NULL);
    assert_true(turn && s);
    pid_t child = fork();
    if (child == 0) {
        at_share_help(&o, p->out, lock);
        _exit(0);
    }
    while (!at_file_exists(name))
        pause_for(0.002);
    assert_int_equal(at_file_read(name, 1 << 24, &data, bytes, NULL), 0);
    await(child);
    at_share_free(s);
    at_lock_release(turn);
    assert_int_equal(unlink(lock), 0);
    free(lock);
    free(name);
    return data;
}

/* How many of the source's pictures a writer finds in these bytes. */
static size_t found_in(const struct place *p, const char *data, size_t bytes)
{
    at_error err = {0};
    at_share *s = at_share_new(p->out, 0, 2, 0, &err);
    assert_non_null(s);
    char *name = at_format("%s.shared", p->out);
    put_file(name, "1-0", data, bytes);
    at_source *source = at_source_open(p->source, NULL, &err);
    at_item item = {0};
    at_image image;
    size_t found = 0;
    while (at_source_next(source, &item, &err) == 1) {
        at_item_load(&item, 1 << 20);
        if (item.bad)
            continue;
        at_item_hash(&item);
        if (!at_share_take(s, &item))
            continue;
        found++;
        assert_int_equal(
            at_image_decode(item.bytes.data, item.bytes.size, NULL, &image, NULL, NULL),
            0); /* what was told is true */
        assert_int_equal(item.seen.width, image.width);
        assert_int_equal(item.seen.height, image.height);
        at_pixel_stats stats;
        at_pixel_stats_of(&image, &stats);
        assert_memory_equal(stats.mean, item.seen.stats.mean, sizeof stats.mean);
        assert_int_equal(stats.dhash, item.seen.stats.dhash);
        at_image_fini(&image);
    }
    assert_int_equal(at_share_taken(s), found);
    at_item_fini(&item);
    at_source_close(source);
    at_share_free(s);
    free(name);
    return found;
}

static void test_damage_to_what_is_told(void **state)
{
    struct place *p = *state;
    enum { FLIPS = 60, CUTS = 30 };
    size_t bytes, cases = 0;
    char *data = told_of(p, &bytes);
    size_t all = found_in(p, data, bytes);
    assert_true(all > 0);
    char *copy = malloc(bytes);
    assert_non_null(copy);
    at_rng rng = at_rng_stream(5, "told", 0);
    for (; cases < FLIPS; cases++) {
        memcpy(copy, data, bytes);
        copy[at_rng_below(&rng, bytes)] ^= (char)(1 << at_rng_below(&rng, 8));
        assert_true(found_in(p, copy, bytes) < all);
    }
    for (; cases < FLIPS + CUTS; cases++)
        assert_true(found_in(p, data, at_rng_below(&rng, bytes)) < all);
    print_message("%zu damaged files of other ranks: nothing false was believed\n", cases);
    free(copy);
    free(data);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, place_tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_any_number_of_ranks),
        CASE(test_appending_together),
        CASE(test_a_rank_is_killed),
        CASE(test_damage_to_what_is_told),
    };
#undef CASE
    at_log_set_level(AT_LOG_ERROR);
    at_progress_silence(true);
    scratch_in_memory();
    told = mmap(NULL, MOST_RANKS * sizeof *told, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
                -1, 0);
    return told == MAP_FAILED ? 1 : cmocka_run_group_tests(tests, NULL, NULL);
}
