/* SPDX-License-Identifier: Apache-2.0
 * Lists of addresses as a source, against a server of the test's own on 127.0.0.1: all forms, every
 * trouble, and nothing is asked for twice. */
#include "../../datasets/internal.h"
#include "http_server.h"
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

enum { PICTURES = 12 };

struct place {
    char *dir, *files, *list, *out;
    http_server *server;
};

static int set_up(void **state)
{
    struct place *p = calloc(1, sizeof *p);
    assert_non_null(p);
    p->dir = scratch_new();
    p->files = at_path_join(p->dir, "files");
    p->list = at_path_join(p->dir, "list.csv");
    p->out = at_path_join(p->dir, "out");
    for (int i = 0; i < PICTURES; i++) {
        char name[40];
        snprintf(name, sizeof name, "train/%s/%d.png", i % 2 ? "cat" : "dog", i);
        put_picture(p->files, name, (uint64_t)i);
    }
    *state = p;
    return 0;
}

static int tear_down(void **state)
{
    struct place *p = *state;
    if (p->server)
        http_server_stop(p->server);
    free(p->files);
    free(p->list);
    free(p->out);
    scratch_free(p->dir);
    free(p);
    return 0;
}

static void start(struct place *p, const http_habits *habits)
{
    if (p->server)
        http_server_stop(p->server);
    p->server = http_server_start(p->files, habits);
}

static int requests(struct place *p)
{
    int n, ranges;
    size_t bytes;
    http_server_counts(p->server, &n, &ranges, &bytes);
    return n;
}

/* %s in the line becomes the server's address with a slash. */
static void add_line(const struct place *p, at_text *t, const char *line)
{
    char *address = http_server_url(p->server, "");
    const char *mark = strstr(line, "%s");
    if (mark)
        at_text_add(t, "%.*s%s%s\n", (int)(mark - line), line, address, mark + 2);
    else
        at_text_add(t, "%s\n", line);
    free(address);
}

static void put_list(const struct place *p, const char *const *lines)
{
    at_text t = {0};
    for (; *lines; lines++)
        add_line(p, &t, *lines);
    put_file(p->dir, "list.csv", t.data, t.length);
    at_text_fini(&t);
}

static void put_all(const struct place *p)
{
    at_text t = {0};
    add_line(p, &t, "url,label");
    for (int i = 0; i < PICTURES; i++) {
        char line[60];
        snprintf(line, sizeof line, "%%strain/%s/%d.png,%s", i % 2 ? "cat" : "dog", i,
                 i % 2 ? "cat" : "dog");
        add_line(p, &t, line);
    }
    put_file(p->dir, "list.csv", t.data, t.length);
    at_text_fini(&t);
}

static void expect(const struct place *p, const char *sql, const char *value)
{
    assert_string_equal(query(p->out, sql), value);
}

/* ---- forms ----------------------------------------------------------------------------------- */

static void test_every_form(void **state)
{
    struct place *p = *state;
    start(p, &(http_habits){0});
    static const char *const csv[] = {"url,label,split",
                                      "%strain/dog/0.png,hund,train",
                                      "%strain/cat/1.png,katze,train",
                                      "%strain/dog/2.png,hund,test",
                                      "%strain/cat/3.png,katze,test",
                                      NULL},
                             *const json[] =
                                 {"{\"url\": \"%strain/dog/0.png\", \"label\": \"hund\"}",
                                  "{\"url\": \"%strain/cat/1.png\", \"label\": \"katze\"}", NULL},
                             *const plain[] = {"", "%strain/dog/0.png", "%strain/cat/1.png", NULL};
    static const struct {
        const char *const *lines;
        int images;
        const char *classes;
    } cases[] = {{csv, 4, "hund,katze"}, {json, 2, "hund,katze"}, {plain, 2, "cat,dog"}};
    for (int i = 0; i < 3; i++) {
        put_list(p, cases[i].lines);
        at_ingest_result r = ingest_must(p->list, p->out, 0);
        assert_int_equal(r.images, cases[i].images);
        assert_int_equal(r.errors, 0);
        expect(p, "SELECT group_concat(name) FROM (SELECT name FROM classes ORDER BY label)",
               cases[i].classes);
        expect(p, "SELECT value FROM meta WHERE key = 'source_kind'", "urls");
        expect(p,
               "SELECT count(*) FROM images WHERE path LIKE 'http://127.0.0.1:%/train/dog/0.png'",
               "1");
        assert_int_equal(at_remove_tree(p->out, NULL), 0);
    }
}

/* The pixels are those of the files. */
static void test_what_comes_is_what_is_there(void **state)
{
    struct place *p = *state;
    start(p, &(http_habits){0});
    put_all(p);
    assert_int_equal(ingest_must(p->list, p->out, 0).images, PICTURES);
    char *hashes = strdup(query(p->out, "SELECT group_concat(hash) FROM (SELECT hash FROM images "
                                        "ORDER BY hash)"));
    char *out = at_path_join(p->dir, "from-files");
    ingest_must(p->files, out, 0);
    assert_string_equal(query(out, "SELECT group_concat(hash) FROM (SELECT hash FROM images "
                                   "ORDER BY hash)"),
                        hashes);
    free(hashes);
    free(out);
}

/* ---- trouble --------------------------------------------------------------------------------- */

static void test_trouble_is_set_aside(void **state)
{
    struct place *p = *state;
    at_image image = paint_image(300, 200, 3, 1);
    encoded png = encode_png(&(png_spec){300, 200, 8, 2}, image.pixels, 900);
    put_file(p->files, "train/dog/large.png", png.bytes, png.size);
    put_file(p->files, "train/dog/cut.png", png.bytes, 3000);
    put_text(p->files, "train/dog/notes.html",
             "<html>this is not the picture that you want</html>");
    put_text(p->files, "train/dog/empty.png", "");
    start(p, &(http_habits){0});
    static const char *const lines[] = {"url,label",
                                        "%strain/dog/0.png,dog",
                                        "%strain/dog/gone.png,dog",
                                        "%strain/dog/large.png,dog",
                                        "%strain/dog/cut.png,dog",
                                        "%strain/dog/notes.html,dog",
                                        "%strain/dog/empty.png,dog",
                                        "ftp://127.0.0.1/a.png,dog",
                                        "/etc/passwd,dog",
                                        "http://127.0.0.1:1/a.png,dog",
                                        "%strain/cat/1.png,cat",
                                        NULL};
    put_list(p, lines);
    at_ingest_options o = {.source = p->list, .out = p->out, .limits = {.bytes = 20000}};
    assert_true(png.size > 20000);
    at_ingest_result r;
    at_error err = {0};
    if (at_ingest(&o, &r, &err))
        fail_msg("%s", err.message);
    assert_int_equal(r.images, 2);
    static const char *const want[][2] = {{"gone.png", "unreadable the server answers 404"},
                                          {"large.png", "too-large "},
                                          {"cut.png", "truncated "},
                                          {"notes.html", "not-an-image "},
                                          {"empty.png", "empty "},
                                          {"ftp:", "unsupported no http or https address"},
                                          {"passwd", "unsupported no http"},
                                          {"127.0.0.1:1/", "unreadable "}};
    enum { TROUBLES = sizeof want / sizeof *want };
    for (int i = 0; i < TROUBLES; i++) {
        char *sql = at_format("SELECT reason || ' ' || detail FROM errors WHERE path LIKE '%%%s%%'",
                              want[i][0]);
        const char *got = query(p->out, sql);
        if (strncmp(got, want[i][1], strlen(want[i][1])))
            fail_msg("%s: \"%s\" instead of \"%s\"", want[i][0], got, want[i][1]);
        free(sql);
    }
    assert_int_equal(r.errors, TROUBLES);
    print_message("%d kinds of trouble set aside\n", TROUBLES);
    at_image_fini(&image);
    free(png.bytes);
}

/* Another day the picture is there: an append takes it, and the error goes. */
static void test_what_was_gone_is_appended(void **state)
{
    struct place *p = *state;
    char *late = at_path_join(p->files, "train/cat/3.png"), *hidden = at_path_join(p->dir, "3.png");
    start(p, &(http_habits){.failures = 2}); /* twice in vain: tried again */
    put_all(p);
    assert_int_equal(rename(late, hidden), 0);
    at_ingest_result r = ingest_must(p->list, p->out, 0);
    assert_int_equal(r.images, PICTURES - 1);
    assert_int_equal(r.errors, 1);
    assert_int_equal(rename(hidden, late), 0);
    at_ingest_options o = {.source = p->list, .out = p->out, .append = true};
    assert_int_equal(at_ingest(&o, &r, NULL), 0);
    assert_int_equal(r.added, 1);
    assert_int_equal(r.errors, 0);
    free(late);
    free(hidden);
}

static void test_lists_that_are_none(void **state)
{
    struct place *p = *state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"http://127.0.0.1/1.png\n", "list.csv:1: no class folder in "},
        {"http://127.0.0.1/a/1.png\nhttp://127.0.0.1\n", "list.csv:2: no class folder in "},
        {"url,label\nhttp://127.0.0.1/1.png\n", "list.csv:2: 1 fields where"},
        {"url,label\n", "list.csv: it has no row"},
        {"url,label,splt\nhttp://127.0.0.1/1.png,a,b\n", "did you mean \"split\""},
        {"{\"url\": \"http://127.0.0.1/1.png\", \"label\": 1.5}\n", "list.csv:1: label"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        put_text(p->dir, "list.csv", cases[i].text);
        at_ingest_options o = {.source = p->list, .out = p->out};
        const char *message = ingest_must_fail(&o, AT_EINPUT);
        if (!strstr(message, cases[i].message))
            fail_msg("case %zu: %s", i, message);
    }
}

/* ---- resuming -------------------------------------------------------------------------------- */

static const at_ingest_tuning small = {.shard_bytes = 64 << 10, .commit_images = 1};

static int ingest(const struct place *p, bool resume, at_ingest_result *r)
{
    at_ingest_options o = {.source = p->list, .out = p->out, .jobs = 1, .resume = resume};
    return at_ingest_tuned(&o, &small, r, NULL);
}

/* Pictures of some size from a slow server, and a signal on the way. */
/* Nobody who says nothing, or next to nothing, is waited for long. */
static void test_servers_that_take_their_time(void **state)
{
    struct place *p = *state;
    static const http_habits habits[] = {
        {.mute = true},
        {.drip = "HTTP/1.1 200 OK\r\n"}, /* heads without end */
        {.drip = "HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n\x89PNG\r\n\x1A\n picture"}};
    at_item item = {0};
    at_fetcher *fetcher = NULL;
    for (int i = 0; i < 3; i++) {
        start(p, &habits[i]);
        char *address = http_server_url(p->server, "train/dog/0.png");
        at_item_reset(&item);
        at_text_add(&item.file, "%s", address);
        at_item_fetch(&item, &fetcher, 1 << 20, 0.2);
        assert_true(item.bad);
        assert_int_equal(item.reason, AT_REASON_TIMEOUT);
        assert_non_null(strstr(item.detail, "bytes a second"));
        free(address);
    }
    at_fetcher_free(fetcher);
    at_item_fini(&item);
}

static void test_interrupted_it_asks_for_the_rest(void **state)
{
    struct place *p = *state;
#ifdef __SANITIZE_THREAD__ /* it ends the child of a process with threads that starts some itself */
    skip();
#endif
    at_image image = paint_image(60, 50, 3, 1);
    for (int i = 0; i < PICTURES; i++) {
        char name[40];
        image.pixels[0] = (uint8_t)i;
        encoded png = encode_png(&(png_spec){60, 50, 8, 2}, image.pixels, 180);
        snprintf(name, sizeof name, "train/%s/%d.png", i % 2 ? "cat" : "dog", i);
        put_file(p->files, name, png.bytes, png.size);
        free(png.bytes);
    }
    at_image_fini(&image);
    start(p, &(http_habits){.pause_ms = 15});
    put_all(p);
    int stopped = 0, status = 0;
    for (int i = 0; i < 60; i++) {
        pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            at_interrupt_install();
            at_ingest_result r;
            int code = ingest(p, true, &r);
            _exit(code < 0 ? at_error_exit_status(code) : 0);
        }
        struct timespec t = {.tv_nsec = 150L * 1000 * 1000};
        nanosleep(&t, NULL);
        kill(child, i % 2 ? SIGTERM : SIGKILL);
        assert_int_equal(waitpid(child, &status, 0), child);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
            break;
        assert_true(WIFSIGNALED(status) || WEXITSTATUS(status) == 4);
        stopped++;
    }
    at_ingest_result r;
    assert_int_equal(ingest(p, true, &r), 0);
    assert_int_equal(r.images, PICTURES);
    assert_int_equal(r.errors, 0); /* an interruption is no picture's fault */
    expect(p, "SELECT count(DISTINCT hash) FROM images", "12");
    assert_true(stopped >= 1);
    int before = requests(p);
    assert_int_equal(ingest(p, true, &r), 0);
    assert_int_equal(requests(p), before);
    print_message("%d pictures in %d requests, stopped %d times\n", PICTURES, before, stopped);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_every_form),
        CASE(test_what_comes_is_what_is_there),
        CASE(test_trouble_is_set_aside),
        CASE(test_what_was_gone_is_appended),
        CASE(test_lists_that_are_none),
        CASE(test_interrupted_it_asks_for_the_rest),
        CASE(test_servers_that_take_their_time),
    };
#undef CASE
    unsetenv("http_proxy"); /* the server is here */
    unsetenv("all_proxy");
    at_log_set_level(AT_LOG_ERROR);
    at_progress_silence(true);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
