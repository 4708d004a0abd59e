/* SPDX-License-Identifier: Apache-2.0
 * Label files: every form of them gives the same data set, every mistake is told with its line, and
 * no file and no row is lost silently. */
#include "../../datasets/internal.h"
#include "place.h"
#include "scratch.h"
#include "sources.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int set_up(void **state)
{
    place_set_up(state);
    return place_name_file(*state, "labels.csv");
}

static at_ingest_options options(const struct place *p)
{
    return (at_ingest_options){.source = p->source, .out = p->out, .labels = p->file, .jobs = 2};
}

static at_ingest_result ingest(const at_ingest_options *o)
{
    at_ingest_result r;
    at_error err = {0};
    if (at_ingest(o, &r, &err))
        fail_msg("%s", err.message);
    return r;
}

/* ---- what is read ---------------------------------------------------------------------------- */

static void put_loose(const struct place *p)
{
    for (int i = 1; i <= 4; i++) {
        char name[20];
        snprintf(name, sizeof name, "%d.png", i);
        put_picture(p->source, name, (uint64_t)i);
    }
}

static void test_every_form_is_the_same(void **state)
{
    struct place *p = *state;
    static const char *const forms[] = {
        "path,label,split\n1.png,cat,train\n2.png,dog,train\n3.png,cat,test\n4.png,dog,test\n",
        "path,label,split\r\n1.png,cat,train\r\n2.png,dog,train\r\n3.png,cat,test\r\n4.png,dog,"
        "test",
        "path,label,split\r1.png,cat,train\r2.png,dog,train\r3.png,cat,test\r4.png,dog,test\r",
        "\xEF\xBB\xBFPath,Label,Split\n4.png,dog,testing\n\n3.png,cat,Test\n1.png,cat,Train\n"
        "2.png,dog,training\n\n",
        "\"split\",\"photographer\",\"path\",\"label\"\ntrain,\"A, B\",1.png,cat\n"
        "train,\"she said \"\"no\"\"\nand left\",\"./2.png\",\"dog\"\ntest,,/3.png,cat\n"
        "test,,4.png,dog\n",
        "{\"path\": \"1.png\", \"label\": \"cat\", \"split\": \"train\"}\n"
        "{\"split\": \"train\", \"label\": \"dog\", \"path\": \"2.png\", \"box\": [1, {\"x\": "
        "2}]}\n"
        "\n  \n{\"path\": \"3.png\", \"label\": \"cat\", \"split\": \"test\"}\r\n"
        "{\"path\": \"4.p\\u006eg\", \"label\": \"dog\", \"split\": \"test\"}"};
    enum { FORMS = sizeof forms / sizeof *forms };
    char hash[65] = "";
    put_loose(p);
    for (int i = 0; i < FORMS; i++) {
        put_text(p->dir, "labels.csv", forms[i]);
        char *out = at_format("%s/%d", p->dir, i);
        at_ingest_options o = options(p);
        o.out = out;
        at_ingest_result r = ingest(&o);
        assert_int_equal(r.images, 4);
        assert_int_equal(r.errors, 0);
        assert_string_equal(query(out, "SELECT group_concat(label || name) FROM classes"),
                            "0cat,1dog");
        const char *got = query(out, "SELECT value FROM meta WHERE key = 'dataset_hash'");
        if (i && strcmp(got, hash))
            fail_msg("form %d is another data set", i);
        snprintf(hash, sizeof hash, "%s", got);
        free(out);
    }
    print_message("%d forms of one label file\n", FORMS);
}

static void test_names_of_every_kind(void **state)
{
    struct place *p = *state;
    static const char *const names[] = {"a,b.png",      "new\nline.png", "say \"x\".png",
                                        "caf\xE9.png",  "b\xE9te.png",   "<script>.png",
                                        "\xC3\xA9.png", " blank .png"};
    enum { NAMES = sizeof names / sizeof *names };
    for (int i = 0; i < NAMES; i++)
        put_picture(p->source, names[i], (uint64_t)i);
    put_text(p->dir, "labels.csv",
             "path,label\n\"a,b.png\",x\n\"new\nline.png\",x\n\"say \"\"x\"\".png\",x\n"
             "caf\xE9.png,x\nb\\xE9te.png,caf\xE9\n<script>.png,\"<b>,\"\n\xC3\xA9.png,x\n"
             " blank .png,x\n");
    at_ingest_options o = options(p);
    at_ingest_result r = ingest(&o);
    assert_int_equal(r.images, NAMES);
    assert_int_equal(r.errors, 0);
    place_expect(p, "SELECT group_concat(name, ' ') FROM classes", "<b>, caf\\xE9 x");
}

static void test_numbers_are_labels_by_value(void **state)
{
    struct place *p = *state;
    put_loose(p);
    put_text(p->dir, "labels.csv",
             "{\"path\":\"1.png\",\"label\":10}\n{\"path\":\"2.png\",\"label\":9}\n"
             "{\"path\":\"3.png\",\"label\":\"10\"}\n{\"path\":\"4.png\",\"label\":0}\n");
    at_ingest_options o = options(p);
    ingest(&o);
    place_expect(p, "SELECT group_concat(name) FROM (SELECT name FROM classes ORDER BY label)",
                 "0,9,10");
    place_expect(p, "SELECT group_concat(label) FROM (SELECT label FROM images ORDER BY path)",
                 "2,1,2,0");
}

/* Folders below which all lies are no classes here, and a folder may name the split. */
static void test_the_file_rules_over_folders(void **state)
{
    struct place *p = *state;
    put_picture(p->source, "deep/down/train/1.png", 1);
    put_picture(p->source, "deep/down/train/2.png", 2);
    put_picture(p->source, "deep/down/val/3.png", 3);
    put_text(p->dir, "labels.csv",
             "path,label\ndeep/down/train/1.png,one\ndeep/down/train/2.png,one\n"
             "deep/down/val/3.png,one\n");
    at_ingest_options o = options(p);
    ingest(&o);
    place_expect(p, "SELECT group_concat(name) FROM classes", "one");
    place_expect(p, "SELECT group_concat(split) FROM (SELECT split FROM images ORDER BY path)",
                 "train,train,val");
}

static void test_archives_with_a_label_file(void **state)
{
    struct place *p = *state;
    put_loose(p);
    put_text(p->dir, "labels.csv",
             "path,label\n0.png,a\n1.png,a\n2.png,b\n3.png,a\n4.png,b\n5.png,b\n");
    put_tar(p->dir, "source", "a.tar.gz", true, false);
    put_zip(p->dir, "source", "a.zip", false);
    static const char *const archives[] = {"a.tar.gz", "a.zip"};
    for (int i = 0; i < 2; i++) {
        char *source = at_path_join(p->dir, archives[i]), *out = at_format("%s/%d", p->dir, i);
        at_ingest_options o = options(p);
        o.source = source;
        o.out = out;
        o.val_fraction = 0.5;
        at_ingest_result r = ingest(&o);
        assert_int_equal(r.images, 4);
        assert_int_equal(r.errors, 2); /* two rows without a file */
        assert_string_equal(query(out, "SELECT count(*) FROM images WHERE split = 'val'"), "2");
        free(source);
        free(out);
    }
}

/* The label file is a member, which is neither a picture nor an error; one on disk comes first. */
static void test_archives_that_hold_their_label_file(void **state)
{
    struct place *p = *state;
    static const char *const archives[] = {"a.tar.gz", "a.zip"};
    static const char *const paths[] = {"meta/labels.csv", "./meta/labels.csv", "/meta/labels.csv"};
    char hash[65] = "";
    put_loose(p);
    put_text(p->source, "meta/labels.csv",
             "path,label\n1.png,a\n2.png,b\n3.png,a\n4.png,b\n5.png,b\n");
    put_text(p->source, "meta/empty.csv", "path,label\n");
    put_text(p->source, "meta/wrong.csv", "path,label\n1.png\n");
    put_tar(p->dir, "source", "a.tar.gz", true, false);
    put_zip(p->dir, "source", "a.zip", false);
    for (int i = 0; i < 6; i++) {
        char *source = at_path_join(p->dir, archives[i % 2]), *out = at_format("%s/%d", p->dir, i);
        at_ingest_options o = {.source = source, .out = out, .labels = paths[i / 2]};
        at_ingest_result r = ingest(&o);
        assert_int_equal(r.images, 4);
        assert_string_equal(query(out, "SELECT group_concat(path, ' ') FROM "
                                       "(SELECT path FROM errors ORDER BY path)"),
                            "5.png meta/empty.csv meta/wrong.csv");
        const char *got = query(out, "SELECT value FROM meta WHERE key = 'dataset_hash'");
        assert_true(i == 0 || strcmp(got, hash) == 0);
        snprintf(hash, sizeof hash, "%s", got);
        o.resume = true; /* it is there already */
        ingest(&o);
        free(source);
        free(out);
    }
    static const struct {
        const char *labels;
        int code;
        const char *message;
    } wrong[] = {{"meta/none.csv", AT_ENOENT, "no such file, nor such a member of"},
                 {"meta/empty.csv", AT_EINPUT, "it has no row"},
                 {"meta/wrong.csv", AT_EINPUT, "wrong.csv:2"},
                 {"meta/empty.csv/x", AT_ENOENT, "no such file"}};
    for (int i = 0; i < 8; i++) {
        char *source = at_path_join(p->dir, archives[i % 2]);
        at_ingest_options o = {.source = source, .out = p->out, .labels = wrong[i / 2].labels};
        assert_non_null(strstr(ingest_must_fail(&o, wrong[i / 2].code), wrong[i / 2].message));
        free(source);
    }
    at_ingest_options o = {.source = p->source, .out = p->out, .labels = "meta/labels.csv"};
    assert_non_null(strstr(ingest_must_fail(&o, AT_ENOENT), "meta/labels.csv"));
}

/* ---- nothing is lost ------------------------------------------------------------------------- */

static void test_files_without_row_and_rows_without_file(void **state)
{
    struct place *p = *state;
    put_loose(p);
    put_text(p->source, "labels.csv", /* within the source: passed over, not set aside */
             "path,label\n1.png,a\n\"gone\n.png\",a\n2.png,b\nnever/was.png,b\n3.png,a\n");
    free(p->file);
    p->file = at_path_join(p->source, "labels.csv");
    at_ingest_options o = options(p);
    at_ingest_result r = ingest(&o);
    assert_int_equal(r.images, 3);
    assert_int_equal(r.errors, 3);
    place_expect(p, "SELECT reason || ' ' || detail FROM errors WHERE path = '4.png'",
                 "unsupported labels.csv has no row for it");
    place_expect(p, "SELECT reason || ' ' || detail FROM errors WHERE path LIKE 'gone%'",
                 "unreadable labels.csv:3: there is no such file");
    place_expect(p, "SELECT reason || ' ' || detail FROM errors WHERE path = 'never/was.png'",
                 "unreadable labels.csv:6: there is no such file");
}

static void test_other_labels_are_another_data_set(void **state)
{
    struct place *p = *state;
    put_loose(p);
    put_text(p->dir, "labels.csv", "path,label\n1.png,a\n2.png,b\n3.png,a\n4.png,b\n");
    at_ingest_options o = options(p);
    o.resume = true;
    ingest(&o);
    assert_int_equal(ingest(&o).resumed, 4);
    put_text(p->dir, "labels.csv", "path,label\n1.png,b\n2.png,b\n3.png,a\n4.png,b\n");
    at_error err = {0};
    assert_int_equal(at_ingest(&o, NULL, &err), AT_EINPUT);
    assert_non_null(strstr(err.message, "other options"));
    o.labels = NULL;
    assert_int_equal(at_ingest(&o, NULL, &err), AT_EINPUT);
}

/* ---- mistakes -------------------------------------------------------------------------------- */

static void test_mistakes_are_told_with_their_line(void **state)
{
    struct place *p = *state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "labels.csv:1: its first line must name the columns"},
        {"\xEF\xBB\xBF", "labels.csv:1: its first line must name the columns"},
        {"1.png,cat\n2.png,dog\n", "labels.csv:1: its first line must name the columns"},
        {"path\n1.png\n", "labels.csv:1: its first line must name the columns"},
        {"path,label\n", "labels.csv: it has no row"},
        {"path,label,splt\n1.png,a,test\n", "labels.csv:1: unknown column \"splt\": did you mean"},
        {"path,label,path\n1.png,a,b\n", "labels.csv:1: two columns are named path"},
        {"path,label\n1.png,a\n\n2.png\n", "labels.csv:4: 1 fields where the header has 2"},
        {"path,label\n1.png,a,b\n", "labels.csv:2: 3 fields where the header has 2"},
        {"path,label\n1.png,a\n2.png,\n", "labels.csv:3: label is empty"},
        {"path,label\n,a\n", "labels.csv:2: path is empty"},
        {"path,label,split\n1.png,a,\n", "labels.csv:2: split \"\" is none of"},
        {"path,label,split\n1.png,a,dev\n", "labels.csv:2: split \"dev\" is none of"},
        {"path,label\n\"a\nb\",x\n1.png,a\n1.png,b\n",
         "labels.csv:5: 1.png comes again, it is in line 4"},
        {"path,label\n1.png,a\n./1.png,a\n", "labels.csv:3: 1.png comes again, it is in line 2"},
        {"path,label\n1.png,\"a\n\n\n", "labels.csv:2: a quote is not closed"},
        {"path,label\n1.png,\"a\"b\n", "labels.csv:2: text behind a closing quote"},
        {"path,label\n1.png,a \"b\"\n", "labels.csv:2: a quote within a field"},
        {"[{\"path\":\"1.png\"}]", "labels.csv: a JSON list"},
        {"{\"path\":\"1.png\",\"label\":\"a\"}\n{\"path\":\"2.png\"}\n",
         "labels.csv:2: label is missing"},
        {"{\"path\":\"1.png\",\"label\":\"a\"}\n\n{\"path\":\"2.png\",}\n", "labels.csv:3:"},
        {"{\"path\":\"1.png\",\"label\":\"a\"}\n[1]\n", "labels.csv:2: each line is an object"},
        {"{\"path\":\"1.png\",\"label\":1.5}\n", "labels.csv:1: label is no text"},
        {"{\"path\":1,\"label\":\"a\"}\n", "labels.csv:1: path is no text"},
        {"{\"path\":\"1.png\",\"lable\":\"a\"}\n", "labels.csv:1: unknown column \"lable\""},
        {"{\"path\":\"1\xFF.png\",\"label\":\"a\"}\n", "labels.csv:1:"},
        {"{\"path\":\"1.png\",\"label\":\"a\",\"split\":\"test\"}\n"
         "{\"path\":\"2.png\",\"label\":\"a\"}\n",
         "labels.csv:2: split is missing"},
        {"\xFF\xFEp\1a", "labels.csv is UTF-16"},
    };
    enum { CASES = sizeof cases / sizeof *cases };
    put_loose(p);
    for (int i = 0; i < CASES; i++) {
        put_text(p->dir, "labels.csv", cases[i].text);
        at_ingest_options o = options(p);
        const char *message = ingest_must_fail(&o, AT_EINPUT);
        if (!strstr(message, cases[i].message))
            fail_msg("case %d: \"%s\" instead of \"%s\"", i, message, cases[i].message);
    }
    put_file(p->dir, "labels.csv", "path,label\n1.png,a\0b\n", 21);
    at_ingest_options o = options(p);
    assert_non_null(strstr(ingest_must_fail(&o, AT_EINPUT), "labels.csv:2: a NUL byte"));
    assert_int_equal(scratch_count(p->dir), 2); /* source and labels: nothing is left behind */
    print_message("%d mistakes told\n", CASES + 1);
}

static void test_label_files_that_do_not_fit(void **state)
{
    struct place *p = *state;
    put_loose(p);
    at_ingest_options o = options(p);
    assert_non_null(strstr(ingest_must_fail(&o, AT_ENOENT), "labels.csv"));
    o.labels = p->dir;
    ingest_must_fail(&o, AT_EINPUT);
    put_text(p->dir, "labels.csv", "path,label\nother.png,a\n");
    o.labels = p->file;
    assert_non_null(strstr(ingest_must_fail(&o, AT_EINPUT), "labels.csv has no row for it"));
    char *idx = at_path_join(p->dir, "idx");
    put_idx(idx, "train", &(idx_spec){.images = 5, .labels = 5});
    o.source = idx;
    assert_non_null(strstr(ingest_must_fail(&o, AT_EINPUT), "labels of its own"));
    free(idx);
}

static void test_random_damage_does_no_harm(void **state)
{
    struct place *p = *state;
    static const char *const texts[] = {
        "path,label,split\n1.png,cat,train\n\"2\n.png\",\"d\"\"og\",train\n3.png,cat,test\n",
        "{\"path\": \"1.png\", \"label\": \"cat\", \"split\": \"train\"}\n"
        "{\"path\": \"2.png\", \"label\": 7, \"split\": \"test\"}\n"};
    enum { CASES = 4000 };
    static const char odd[] = "\",\n\r{}[]:\\\0\xFF x";
    at_rng rng = at_rng_stream(1, "labels", 0);
    size_t refused = 0;
    for (int i = 0; i < CASES; i++) {
        const char *text = texts[i % 2];
        size_t size = strlen(text);
        char copy[300];
        memcpy(copy, text, size);
        for (uint64_t changes = 1 + at_rng_below(&rng, 4); changes; changes--)
            copy[at_rng_below(&rng, size)] = odd[at_rng_below(&rng, sizeof odd - 1)];
        put_file(p->dir, "labels.csv", copy, i % 5 ? size : at_rng_below(&rng, size));
        at_error err = {0};
        at_label_file *f = at_label_file_read(p->file, p->source, &err);
        assert_true(f || (err.code == AT_EINPUT && strstr(err.message, "labels.csv")));
        refused += !f;
        at_label_file_free(f);
    }
    print_message("%d damaged label files, %zu refused\n", CASES, refused);
    assert_true(refused > CASES / 2 && refused < CASES);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, place_tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_every_form_is_the_same),
        CASE(test_names_of_every_kind),
        CASE(test_numbers_are_labels_by_value),
        CASE(test_the_file_rules_over_folders),
        CASE(test_archives_with_a_label_file),
        CASE(test_archives_that_hold_their_label_file),
        CASE(test_files_without_row_and_rows_without_file),
        CASE(test_other_labels_are_another_data_set),
        CASE(test_mistakes_are_told_with_their_line),
        CASE(test_label_files_that_do_not_fit),
        CASE(test_random_damage_does_no_harm),
    };
#undef CASE
    at_log_set_level(AT_LOG_ERROR);
    at_progress_silence(true);
    scratch_in_memory();
    return cmocka_run_group_tests(tests, NULL, NULL);
}
