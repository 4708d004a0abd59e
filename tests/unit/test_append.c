/* SPDX-License-Identifier: Apache-2.0
 * Appending: what is new comes in, what is there stays as it is, and a kill at any moment leaves a
 * whole data set.
 * ctest: timeout=600 */
#include "../../datasets/internal.h"
#include "dataset_text.h"
#include "place.h"
#include "scratch.h"
#include "sources.h"

#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

static const at_ingest_tuning small = {.shard_bytes = 64 << 10, .commit_images = 100};

static int set_up(void **state)
{
    place_set_up(state);
    return place_name_file(*state, "more");
}

static int append(const struct place *p, const char *source, double val_fraction, bool resume,
                  at_ingest_result *r, at_error *err)
{
    at_ingest_options o = {.source = source,
                           .out = p->out,
                           .append = true,
                           .val_fraction = val_fraction,
                           .seed = 3,
                           .jobs = 2,
                           .resume = resume,
                           .allow_missing_classes = true};
    return at_ingest_tuned(&o, &small, r, err);
}

static at_ingest_result append_must(const struct place *p, const char *source)
{
    at_ingest_result r;
    at_error err = {0};
    if (append(p, source, 0, false, &r, &err))
        fail_msg("%s", err.message);
    assert_int_equal(scratch_count(p->out), 3); /* catalog.db, images.idx, shards */
    return r;
}

static char *hash_of(const struct place *p)
{
    return strdup(query(p->out, "SELECT value FROM meta WHERE key = 'dataset_hash'"));
}

/* Every sample of the data set can be read, and there are so many. */
static void check_whole(const at_dataset *d, size_t images)
{
    at_error err = {0};
    size_t count = 0;
    for (int split = 0; split < AT_SPLITS; split++)
        for (size_t i = 0; i < at_dataset_count(d, (at_split)split); i++, count++) {
            at_sample s;
            at_image image;
            if (at_dataset_sample(d, (at_split)split, i, &s, &err) ||
                at_image_decode(s.bytes, s.size, NULL, &image, NULL, &err))
                fail_msg("%s", err.message);
            at_image_fini(&image);
        }
    assert_int_equal(count, images);
}

static void check_opens(const struct place *p, size_t images)
{
    at_error err = {0};
    at_dataset *d = at_dataset_open(p->out, &err);
    if (!d)
        fail_msg("%s", err.message);
    check_whole(d, images);
    at_dataset_close(d);
}

/* ---- what comes in --------------------------------------------------------------------------- */

static void test_new_images_and_classes(void **state)
{
    struct place *p = *state;
    put_picture(p->source, "train/dog/1.png", 1);
    put_picture(p->source, "train/fox/2.png", 2);
    put_picture(p->source, "test/dog/3.png", 3);
    put_picture(p->source, "test/fox/4.png", 4);
    ingest_must(p->source, p->out, 0);
    char *before = hash_of(p);
    at_dataset *open = at_dataset_open(p->out, NULL); /* a training goes on meanwhile */
    assert_non_null(open);
    put_picture(p->file, "train/ant/5.png", 5);
    put_picture(p->file, "train/fox/6.png", 6);
    put_picture(p->file, "train/cat/7.png", 7);
    put_picture(p->file, "test/dog/8.png", 1); /* as train/dog/1.png */
    put_text(p->file, "test/dog/notes.txt", "no picture");
    at_ingest_result r = append_must(p, p->file);
    assert_int_equal(r.added, 4);
    assert_int_equal(r.images, 8);
    assert_int_equal(r.errors, 1);
    place_expect(
        p, "SELECT group_concat(label || name, ' ') FROM (SELECT * FROM classes ORDER BY label)",
        "0dog 1fox 2ant 3cat");
    place_expect(
        p,
        "SELECT group_concat(path || label, ' ') FROM (SELECT * FROM images WHERE id > 4 ORDER "
        "BY path)",
        "test/dog/8.png0 train/ant/5.png2 train/cat/7.png3 train/fox/6.png1");
    place_expect(p, "SELECT count(*) FROM blobs", "7"); /* a content once, both places */
    place_expect(
        p,
        "SELECT count(*) FROM images JOIN blobs ON blobs.id = images.blob WHERE images.hash "
        "= blobs.hash",
        "8");
    place_expect(p, "SELECT group_concat(shard) FROM (SELECT DISTINCT shard FROM blobs ORDER BY 1)",
                 "0,1");
    place_expect(p, "SELECT source_kind || ' ' || first || ' ' || images FROM appends",
                 "folder 5 4");
    place_expect(p, "SELECT count(*) FROM meta WHERE key LIKE 'append%' OR key LIKE 'resume%'",
                 "0");
    char *after = hash_of(p);
    assert_string_not_equal(before, after); /* so that caches are filled anew */
    check_whole(open, 4);
    at_dataset_close(open);
    check_opens(p, 8);
    free(before);
    free(after);
}

static void test_a_second_time_changes_nothing(void **state)
{
    struct place *p = *state;
    put_pictures(p->source, "", 2, 10, 0);
    ingest_must(p->source, p->out, 0);
    put_pictures(p->file, "", 3, 12, 0); /* other pictures, other names for some classes */
    assert_int_equal(append(p, p->file, 0, false, NULL, NULL), AT_EINPUT);
    at_remove_tree(p->file, NULL);
    put_pictures(p->file, "day-2", 3, 12, 500);
    assert_int_equal(append_must(p, p->file).added, 36);
    char *once = dataset_text(p->out);
    assert_int_equal(append_must(p, p->file).added, 0);
    assert_int_equal(append_must(p, p->source).added, 0);
    char *again = dataset_text(p->out);
    same_text(again, once);
    free(once);
    free(again);
}

/* The usual case: the same folder, in which there is more now. */
static void test_a_folder_that_grew(void **state)
{
    struct place *p = *state;
    put_pictures(p->source, "", 2, 5, 0);
    put_text(p->source, "class_0/late.png", "not whole yet");
    assert_int_equal(ingest_must(p->source, p->out, 0).errors, 1);
    put_picture(p->source, "class_0/late.png", 99);
    put_picture(p->source, "class_2/new.png", 100);
    at_ingest_result r = append_must(p, p->source);
    assert_int_equal(r.added, 2);
    assert_int_equal(r.errors, 0);
    place_expect(p, "SELECT group_concat(name) FROM classes", "class_0,class_1,class_2");
    check_opens(p, 12);
}

static void test_a_path_with_another_picture_is_refused(void **state)
{
    struct place *p = *state;
    put_pictures(p->source, "", 2, 5, 0);
    ingest_must(p->source, p->out, 0);
    char *before = dataset_text(p->out);
    put_picture(p->file, "class_0/00000.png", 1000);
    at_error err = {0};
    assert_int_equal(append(p, p->file, 0, false, NULL, &err), AT_EINPUT);
    assert_non_null(strstr(err.message, "class_0/00000.png: the data set has another picture"));
    assert_int_equal(scratch_count(p->out), 3);
    place_expect(p, "SELECT count(*) FROM images", "10");
    assert_int_equal(append(p, p->source, 0, false, NULL, NULL), 0); /* what was left is no harm */
    char *last = dataset_text(p->out);
    same_text(last, before);
    free(before);
    free(last);
}

/* ---- classes by folders, by names ------------------------------------------------------------ */

static void test_leading_folders(void **state)
{
    struct place *p = *state;
    put_pictures(p->source, "", 2, 3, 0);
    ingest_must(p->source, p->out, 0);
    put_picture(p->file, "class_1/2021/summer/a.png",
                100); /* a known class: what is below is not */
    assert_int_equal(append_must(p, p->file).added, 1);
    place_expect(p, "SELECT label FROM images WHERE path = 'class_1/2021/summer/a.png'", "1");
    at_remove_tree(p->file, NULL);
    put_pictures(p->file, "", 3, 3, 200);
    put_tar(p->dir, "more", "more.tar.gz", true, true); /* more/class_0/... */
    char *tar = at_path_join(p->dir, "more.tar.gz");
    assert_int_equal(append_must(p, tar).added, 9);
    place_expect(p, "SELECT group_concat(name) FROM classes", "class_0,class_1,class_2");
    place_expect(
        p,
        "SELECT group_concat(n) FROM (SELECT count(*) AS n FROM images GROUP BY label ORDER "
        "BY label)",
        "6,7,3");
    free(tar);
}

static void test_sources_with_names_of_their_own(void **state)
{
    struct place *p = *state;
    static const char names[] =
        "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n";
    put_picture(p->source, "truck/1.png", 1);
    put_picture(p->source, "zebra/2.png", 2);
    ingest_must(p->source, p->out, 0);
    put_cifar(p->file, "data_batch_1.bin", 5, false, 1);
    put_text(p->file, "batches.meta.txt", names);
    assert_int_equal(append_must(p, p->file).added, 5);
    place_expect(p, "SELECT group_concat(name) FROM (SELECT name FROM classes ORDER BY label)",
                 "truck,zebra,airplane,automobile,bird,cat,deer");
    place_expect(
        p,
        "SELECT group_concat(name) FROM (SELECT name FROM images JOIN classes USING(label) "
        "WHERE path LIKE 'train/data%' ORDER BY path)",
        "airplane,automobile,bird,cat,deer");
    at_remove_tree(p->file, NULL);
    put_picture(p->file, "cat/3.png", 3);
    assert_int_equal(append_must(p, p->file).added, 1);
    place_expect(p, "SELECT name FROM images JOIN classes USING(label) WHERE path = 'cat/3.png'",
                 "cat");
}

static void test_validation_images(void **state)
{
    struct place *p = *state;
    put_pictures(p->source, "", 2, 20, 0);
    ingest_must(p->source, p->out, 0.25);
    place_expect(p, "SELECT count(*) FROM images WHERE split = 'val'", "10");
    put_pictures(p->file, "again", 2, 20, 0);   /* all of them a second time, */
    put_pictures(p->file, "fresh", 2, 8, 1000); /* and others */
    at_error err = {0};
    at_ingest_result r;
    if (append(p, p->file, 0.25, false, &r, &err))
        fail_msg("%s", err.message);
    assert_int_equal(r.added, 56);
    place_expect(
        p, "SELECT count(*) FROM images a JOIN images b USING(blob) WHERE a.split != b.split", "0");
    place_expect(p, "SELECT count(*) FROM images WHERE split = 'val' AND path LIKE 'again%'", "10");
    place_expect(p, "SELECT count(*) > 0 FROM images WHERE split = 'val' AND path LIKE 'fresh%'",
                 "1");
    place_expect(p, "SELECT val_fraction || ' ' || seed FROM appends", "0.25 3");
}

static void test_with_a_label_file(void **state)
{
    struct place *p = *state;
    put_pictures(p->source, "", 2, 3, 0);
    ingest_must(p->source, p->out, 0);
    put_picture(p->file, "a.png", 100);
    put_picture(p->file, "b.png", 101);
    put_text(p->dir, "labels.csv", "path,label\na.png,class_1\nb.png,another\n");
    char *labels = at_path_join(p->dir, "labels.csv");
    at_ingest_options o = {.source = p->file, .out = p->out, .append = true, .labels = labels};
    at_ingest_result r;
    assert_int_equal(at_ingest(&o, &r, NULL), 0);
    assert_int_equal(r.added, 2);
    place_expect(
        p, "SELECT group_concat(label) FROM (SELECT label FROM images WHERE id > 6 ORDER BY path)",
        "1,2");
    free(labels);
}

static void test_nothing_to_append_to(void **state)
{
    struct place *p = *state;
    put_pictures(p->file, "", 2, 2, 0);
    at_error err = {0};
    assert_int_equal(append(p, p->file, 0, false, NULL, &err), AT_ENOENT);
    assert_non_null(strstr(err.message, "nothing to append to"));
    assert_false(at_dir_exists(p->out));
    put_text(p->out, "notes.txt", "no data set");
    assert_int_equal(append(p, p->file, 0, false, NULL, &err), AT_ENOENT);
    assert_int_equal(scratch_count(p->out), 1);
}

/* ---- killed ---------------------------------------------------------------------------------- */

enum { OLD = 300, NEW = 600 };

static void put_two_sources(const struct place *p)
{
    put_pictures(p->source, "train", 3, OLD / 3, 0);
    put_pictures(p->file, "train/new", 3, NEW / 3 - 1, 5000);
    put_pictures(p->file, "train/copies", 3, 1, 0); /* of the old ones */
}

static void make_old(const struct place *p)
{
    at_ingest_options o = {.source = p->source, .out = p->out, .val_fraction = 0.1, .jobs = 2};
    at_error err = {0};
    if (at_ingest_tuned(&o, &small, NULL, &err))
        fail_msg("%s", err.message);
}

/* Appends in a child that is killed after some time. Whether it came to its end. */
static bool run_child(const struct place *p, double seconds)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        at_ingest_result r;
        _exit(append(p, p->file, 0.1, true, &r, NULL) < 0);
    }
    struct timespec t = {.tv_sec = (time_t)seconds,
                         .tv_nsec = (long)((seconds - (double)(time_t)seconds) * 1e9)};
    nanosleep(&t, NULL);
    kill(child, SIGKILL);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    return WIFEXITED(status);
}

static void test_killed_at_any_moment(void **state)
{
    struct place *p = *state;
    put_two_sources(p);
    make_old(p);
    char *old = hash_of(p);
    at_ingest_result r;
    at_error err = {0};
    if (append(p, p->file, 0.1, false, &r, &err))
        fail_msg("%s", err.message);
    assert_int_equal(r.added, NEW);
    char *wanted = dataset_files(p->out), *new = hash_of(p);
    double seconds = r.seconds < 0.9 ? r.seconds : 0.9;
    at_rng rng = at_rng_stream(1, "kill", 0);
    int kills = 0, ends = 0, between = 0;
    for (int rounds = 0; rounds < 200 && (kills < 40 || ends < 4); rounds++) {
        if (rounds == 0)
            at_remove_tree(p->out, NULL);
        if (!at_dir_exists(p->out))
            make_old(p);
        bool end = run_child(p, at_rng_uniform(&rng) * seconds * 1.2);
        char *now = hash_of(p);
        assert_true(!strcmp(now, old) || !strcmp(now, new));
        check_opens(p, !strcmp(now, old) ? OLD : OLD + NEW);
        between += !end && scratch_count(p->out) > 3;
        free(now);
        kills += !end;
        ends += end;
        if (!end)
            continue;
        char *got = dataset_files(p->out);
        same_text(got, wanted);
        free(got);
        assert_int_equal(scratch_count(p->out), 3);
        at_remove_tree(p->out, NULL);
    }
    print_message("killed %d times, %d of them half-way; %d times at the end: the same\n", kills,
                  between, ends);
    assert_true(between >= 10 && ends >= 1);
    free(old);
    free(new);
    free(wanted);
}

/* Whether a killed append has left some images. */
static bool has_begun(const struct place *p)
{
    char *partial = at_path_join(p->out, "append.partial"),
         *path = at_path_join(partial, "catalog.db");
    bool begun = at_file_exists(path) && atoi(query(partial, "SELECT count(*) FROM images")) > OLD;
    free(path);
    free(partial);
    return begun;
}

/* Without resume what a killed run left is thrown away. */
static void test_anew_after_a_kill(void **state)
{
    struct place *p = *state;
    put_two_sources(p);
    make_old(p);
    for (double seconds = 0.005; !has_begun(p) && seconds < 0.9; seconds *= 1.2)
        if (run_child(p, seconds)) {
            at_remove_tree(p->out, NULL);
            make_old(p);
        }
    assert_int_equal(scratch_count(p->out), 4); /* append.partial */
    char *other = at_path_join(p->dir, "other");
    put_picture(other, "train/class_0/one.png", 77777);
    at_error err = {0};
    at_ingest_result r;
    assert_int_equal(append(p, other, 0, true, &r, &err), AT_EINPUT);
    assert_non_null(strstr(err.message, "was begun from"));
    assert_int_equal(append_must(p, other).added, 1);
    check_opens(p, OLD + 1);
    free(other);
}

static void move(const char *from_dir, const char *from, const char *to_dir, const char *to)
{
    char *a = at_path_join(from_dir, from), *b = at_path_join(to_dir, to);
    at_error err = {0};
    assert_int_equal(at_make_dirs(to_dir, &err), 0);
    assert_int_equal(rename(a, b), 0);
    free(a);
    free(b);
}

/* Killed when only the renaming was left: the next run does it, whatever its own source is. */
static void test_killed_before_the_renaming(void **state)
{
    struct place *p = *state;
    put_pictures(p->source, "", 2, 3, 0);
    put_pictures(p->file, "more", 2, 3, 100);
    ingest_must(p->source, p->out, 0);
    char *copy = at_path_join(p->dir, "copy"), *partial = at_path_join(p->out, "append.partial"),
         *other = at_path_join(p->dir, "other"), *command = at_format("cp -r %s %s", p->out, copy);
    assert_int_equal(system(command), 0);
    append_must(p, p->file);
    move(p->out, "catalog.db", partial, "catalog.db");
    move(copy, "catalog.db", p->out, "catalog.db");
    check_opens(p, 6);
    put_picture(other, "class_0/other.png", 999);
    at_ingest_result r;
    assert_int_equal(append(p, other, 0, true, &r, NULL), 0);
    assert_int_equal(r.added, 1);
    assert_int_equal(scratch_count(p->out), 3);
    check_opens(p, 13);
    free(copy);
    free(partial);
    free(other);
    free(command);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, place_tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_new_images_and_classes), CASE(test_a_second_time_changes_nothing),
        CASE(test_a_folder_that_grew),     CASE(test_a_path_with_another_picture_is_refused),
        CASE(test_leading_folders),        CASE(test_sources_with_names_of_their_own),
        CASE(test_validation_images),      CASE(test_with_a_label_file),
        CASE(test_nothing_to_append_to),   CASE(test_killed_at_any_moment),
        CASE(test_anew_after_a_kill),      CASE(test_killed_before_the_renaming),
    };
#undef CASE
    at_log_set_level(AT_LOG_ERROR);
    at_progress_silence(true);
    if (at_dir_exists("/dev/shm")) /* a killed process needs no disk */
        setenv("TMPDIR", "/dev/shm", 0);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
