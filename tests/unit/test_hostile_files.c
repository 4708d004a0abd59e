/* SPDX-License-Identifier: Apache-2.0
 * Folders as they are found: links in circles, pipes and sockets, files that change or vanish while
 * they are read, what may not be read, names of every kind. Nothing of it is waited for or stops an
 * ingest; what is no picture is in errors with its reason.
 *
 * This program's read() comes before libc's, so that a file can be changed between two reads. */
#include "place.h"
#include "scratch.h"
#include "sources.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- files that change while they are read --------------------------------------------------- */

static struct stat watched;
static void (*change)(int time); /* called before the watched file is read; NULL: no more */
static atomic_int reads;

static void *libc_read; /* looked up before decoding processes are there, whose calls are few */
static bool in_child;

static void note_child(void)
{
    in_child = true;
}

ssize_t read(int fd, void *out, size_t bytes)
{
    struct stat st;
    if (!libc_read)
        libc_read = dlsym(RTLD_NEXT, "read");
    if (change && !in_child && fstat(fd, &st) == 0 && st.st_ino == watched.st_ino &&
        st.st_dev == watched.st_dev)
        change(atomic_fetch_add(&reads, 1));
    return ((ssize_t(*)(int, void *, size_t))(uintptr_t)libc_read)(fd, out, bytes);
}

static char *path_of(const struct place *p, const char *name)
{
    char *path = at_path_join(p->source, name);
    assert_non_null(path);
    return path;
}

static char *victim;         /* the watched file's path */
static encoded small, large; /* two pictures */

static void write_victim(const void *bytes, size_t size, off_t at)
{
    int fd = open(victim, O_WRONLY);
    assert_true(fd >= 0);
    assert_int_equal(pwrite(fd, bytes, size, at), size);
    struct timespec times[2] = {{.tv_nsec = UTIME_NOW},
                                {.tv_sec = 1700000000 + atomic_load(&reads)}};
    assert_int_equal(futimens(fd, times), 0); /* a clock's tick may be too coarse for a test */
    close(fd);
}

static void becomes_another_once(int time)
{
    if (time == 1)
        write_victim(large.bytes, large.size, 0);
}

static void grows_once(int time)
{
    if (time == 1)
        write_victim("behind the end", 14, (off_t)small.size);
}

static void grows_without_end(int time)
{
    write_victim("and so on", 9, (off_t)small.size + 9 * time);
}

static void shrinks(int time)
{
    if (time == 1)
        assert_int_equal(truncate(victim, (off_t)small.size / 2), 0);
}

static void is_emptied(int time)
{
    if (time == 1)
        assert_int_equal(truncate(victim, 0), 0);
}

static void is_replaced(int time)
{
    char *new = at_format("%s.new", victim);
    if (time == 1) {
        int fd = open(new, O_WRONLY | O_CREAT, 0600);
        assert_int_equal(write(fd, "no picture", 10), 10);
        close(fd);
        assert_int_equal(rename(new, victim), 0);
    }
    free(new);
}

static void vanishes(int time)
{
    if (time == 1)
        unlink(victim);
}

static const struct {
    const char *name;
    void (*change)(int time);
    const char *result; /* mode or reason */
} changes[] = {{"becomes another once", becomes_another_once, "grey"},
               {"grows once", grows_once, "rgb"},
               {"grows without end", grows_without_end, "unreadable"},
               {"shrinks", shrinks, "truncated"},
               {"is emptied", is_emptied, "empty"},
               {"is replaced by renaming", is_replaced, "rgb"},
               {"vanishes", vanishes, "rgb"}};

static encoded picture(int size, int channels)
{
    at_image image = paint_image(size, size, channels, 7);
    encoded file = encode_png(&(png_spec){size, size, 8, channels == 3 ? 2 : 0}, image.pixels,
                              (size_t)(size * channels));
    at_image_fini(&image);
    return file;
}

static void test_files_that_change_while_read(void **state)
{
    struct place *p = *state;
    small = picture(20, 3);
    large = picture(60, 1);
    assert_true(large.size > small.size);
    victim = path_of(p, "a/victim.png");
    enum { CASES = sizeof changes / sizeof *changes };
    for (int i = 0; i < CASES; i++) {
        put_picture(p->source, "a/other.png", 1);
        put_file(p->source, "a/victim.png", small.bytes, small.size);
        assert_int_equal(stat(victim, &watched), 0);
        atomic_store(&reads, 0);
        change = changes[i].change;
        at_ingest_result r = ingest_must(p->source, p->out, 0);
        change = NULL;
        assert_true(atomic_load(&reads) >= 2);
        assert_int_equal(r.images + r.errors, 2);
        const char *got =
            query(p->out, "SELECT coalesce((SELECT reason FROM errors WHERE path = 'a/victim.png'),"
                          "(SELECT mode FROM images JOIN blobs USING(hash)"
                          " WHERE path = 'a/victim.png'))");
        if (strcmp(got, changes[i].result))
            fail_msg("a file that %s: %s", changes[i].name, got);
        assert_int_equal(at_remove_tree(p->out, NULL), 0);
        assert_int_equal(at_remove_tree(p->source, NULL), 0);
    }
    print_message("%d ways to change while being read\n", CASES);
    free(victim);
    free(small.bytes);
    free(large.bytes);
}

/* Listed, and gone when it was to be opened. */
static void folder_vanishes(int time)
{
    if (time == 0)
        at_remove_tree(victim, NULL);
}

static void test_a_folder_that_vanishes(void **state)
{
    struct place *p = *state;
    enum { FILES = 40 };
    put_picture(p->source, "a/first.png", 1);
    for (int i = 0; i < FILES; i++) {
        char name[40];
        snprintf(name, sizeof name, "b/%02d.png", i);
        put_picture(p->source, name, (uint64_t)i);
    }
    char *first = path_of(p, "a/first.png");
    victim = path_of(p, "b");
    assert_int_equal(stat(first, &watched), 0);
    atomic_store(&reads, 0);
    change = folder_vanishes;
    at_ingest_options o = {.source = p->source, .out = p->out, .jobs = 1};
    at_ingest_result r;
    at_error err = {0};
    if (at_ingest(&o, &r, &err))
        fail_msg("%s", err.message);
    change = NULL;
    assert_true(r.images >= 1 && r.errors >= 1);
    place_expect(p, "SELECT count(DISTINCT reason) FROM errors WHERE reason = 'unreadable'", "1");
    place_expect(p, "SELECT count(*) FROM errors WHERE reason != 'unreadable'", "0");
    free(first);
    free(victim);
}

/* ---- links ----------------------------------------------------------------------------------- */

static void put_link(const struct place *p, const char *to, const char *name)
{
    char *path = path_of(p, name);
    if (symlink(to, path))
        fail_msg("%s: %s", path, strerror(errno));
    free(path);
}

static void test_links_in_circles(void **state)
{
    struct place *p = *state;
    put_picture(p->source, "a/1.png", 1);
    put_picture(p->source, "b/2.png", 2);
    put_link(p, "../b", "a/to-b");
    put_link(p, "../a", "b/to-a");
    put_link(p, ".", "a/here");
    put_link(p, "..", "b/up");
    put_link(p, "self.png", "a/self.png");
    put_link(p, "ping.png", "a/pong.png");
    put_link(p, "pong.png", "a/ping.png");
    put_link(p, "nowhere.png", "b/dangling.png");
    put_link(p, "/", "b/.hidden");
    put_link(p, "../b/2.png", "a/file-link.png");
    put_link(p, "1.png/", "a/no-folder.png");
    at_ingest_result r = ingest_must(p->source, p->out, 0);
    /* each folder by its own name, and once through the other */
    place_expect(p, "SELECT group_concat(path, ' ') FROM (SELECT path FROM images ORDER BY path)",
                 "a/1.png a/file-link.png a/to-b/2.png b/2.png b/to-a/1.png b/to-a/file-link.png");
    place_expect(p, "SELECT count(*) FROM errors WHERE reason != 'unreadable'", "0");
    place_expect(p, "SELECT group_concat(path, ' ') FROM (SELECT path FROM errors ORDER BY path)",
                 "a/no-folder.png a/ping.png a/pong.png a/self.png a/to-b/dangling.png "
                 "b/dangling.png b/to-a/no-folder.png b/to-a/ping.png b/to-a/pong.png "
                 "b/to-a/self.png");
    assert_int_equal(r.errors, 10);
    print_message("%llu files behind links in circles\n",
                  (unsigned long long)(r.images + r.errors));
}

/* Each of 12 folders has links to all others: more paths than could ever be listed. */
static void test_a_bomb_of_links(void **state)
{
    struct place *p = *state;
    enum { FOLDERS = 12 };
    for (int i = 0; i < FOLDERS; i++) {
        char name[40], to[40];
        snprintf(name, sizeof name, "%02d/1.png", i);
        put_picture(p->source, name, (uint64_t)i);
        for (int k = 0; k < FOLDERS; k++) {
            snprintf(name, sizeof name, "%02d/to-%02d", i, k);
            snprintf(to, sizeof to, "../%02d", k);
            put_link(p, to, name);
        }
    }
    at_ingest_result r = ingest_must(p->source, p->out, 0);
    assert_int_equal(r.images, 17 * FOLDERS); /* 16 times by links */
    place_expect(p, "SELECT count(DISTINCT detail) FROM errors", "1");
    place_expect(p, "SELECT detail || reason FROM errors",
                 "links lead to this folder more than 16 timesunreadable");
    print_message("%d folders with links to each other: %llu paths, %llu set aside\n", FOLDERS,
                  (unsigned long long)r.images, (unsigned long long)r.errors);
}

/* ---- no files -------------------------------------------------------------------------------- */

static void put_socket(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
    close(fd);
}

static void test_what_is_no_file(void **state)
{
    struct place *p = *state;
    put_picture(p->source, "a/1.png", 1);
    char *pipe = path_of(p, "a/pipe.png"), *busy = path_of(p, "a/busy.png"),
         *unix_socket = path_of(p, "a/s.png"), *folder = path_of(p, "a/folder.png");
    assert_int_equal(mkfifo(pipe, 0600), 0);
    assert_int_equal(mkfifo(busy, 0600), 0);
    int ends[2] = {open(busy, O_RDONLY | O_NONBLOCK), open(busy, O_WRONLY | O_NONBLOCK)};
    assert_int_equal(write(ends[1], "\x89PNG\r\n\x1A\n", 8), 8); /* somebody writes to it */
    put_socket(unix_socket);
    assert_int_equal(mkdir(folder, 0700), 0);
    put_link(p, "/dev/zero", "a/zero.png");
    put_link(p, "/dev/null", "a/null.png");
    put_link(p, "/dev/tty", "a/tty.png");
    put_link(p, "/proc/self/mem", "a/mem.png");
    put_link(p, "/proc/kmsg", "a/kmsg.png");
    at_ingest_result r = ingest_must(p->source, p->out, 0);
    assert_int_equal(r.images, 1);
    assert_int_equal(r.errors, 8);
    place_expect(p, "SELECT group_concat(path, ' ') FROM errors WHERE reason != 'unreadable'",
                 "a/kmsg.png a/mem.png"); /* files of no bytes, as the kernel tells */
    print_message("%llu things that are no files\n", (unsigned long long)r.errors);
    close(ends[0]);
    close(ends[1]);
    free(pipe);
    free(busy);
    free(unix_socket);
    free(folder);
}

/* The source itself is none, or what makes it one of its kind. */
static void test_sources_that_are_no_files(void **state)
{
    struct place *p = *state;
    static const char *const members[] = {"only-one.tar", "train-images-idx3-ubyte",
                                          "data_batch_1.bin", "dataset.yaml"};
    at_ingest_options o = {.source = p->source, .out = p->out};
    at_error err = {0};
    size_t cases = 0;
    for (size_t i = 0; i < sizeof members / sizeof *members; i++, cases++) {
        char *path = path_of(p, members[i]);
        assert_int_equal(at_make_dirs(p->source, &err), 0);
        assert_int_equal(mkfifo(path, 0600), 0);
        assert_non_null(strstr(ingest_must_fail(&o, AT_EINPUT), "no image"));
        assert_int_equal(at_remove_tree(p->source, NULL), 0);
        free(path);
    }
    static const char *const devices[] = {"/dev/zero", "/dev/null"};
    for (size_t i = 0; i < sizeof devices / sizeof *devices; i++, cases++) {
        o.source = devices[i];
        assert_non_null(strstr(ingest_must_fail(&o, AT_EINPUT), "a pipe, a socket or a device"));
    }
    o.source = p->source;
    assert_int_equal(mkfifo(p->source, 0600), 0);
    assert_non_null(strstr(ingest_must_fail(&o, AT_EINPUT), "a pipe, a socket or a device"));
    assert_int_equal(unlink(p->source), 0);
    put_socket(p->source);
    assert_non_null(strstr(ingest_must_fail(&o, AT_EINPUT), "a pipe, a socket or a device"));
    print_message("%zu sources that are no files, none waited for\n", cases + 2);
}

/* ---- permissions ----------------------------------------------------------------------------- */

enum { NOBODY = 65534 };

/* An ingest by somebody who may not read everything. Its exit status; skips the test where he cannot
 * come to the place. */
static int ingest_as_nobody(const struct place *p, at_error *err)
{
    int pipe_ends[2];
    assert_int_equal(pipe(pipe_ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        at_error local = {0};
        bool other = getuid() != 0 || (setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
        if (access(p->dir, X_OK))
            _exit(77);
        at_ingest_options o = {.source = p->source, .out = p->out, .jobs = 2};
        int code = other ? at_ingest(&o, NULL, &local) : AT_EFAIL;
        if (write(pipe_ends[1], local.message, sizeof local.message) < 0)
            code = AT_EFAIL;
        _exit(code < 0 ? at_error_exit_status(code) : 0);
    }
    close(pipe_ends[1]);
    size_t got = 0;
    for (ssize_t n; (n = read(pipe_ends[0], err->message + got, sizeof err->message - got)) > 0;)
        got += (size_t)n;
    close(pipe_ends[0]);
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) == 77) {
        print_message("skipped: nobody else can come to %s\n", p->dir);
        skip();
    }
    return WEXITSTATUS(status);
}

static void set_mode(const struct place *p, const char *name, mode_t mode)
{
    char *path = path_of(p, name);
    assert_int_equal(chmod(path, mode), 0);
    free(path);
}

static void test_what_may_not_be_read(void **state)
{
    struct place *p = *state;
    static const char *const files[] = {"a/1.png", "a/shut.png",     "b/shut/2.png",
                                        "b/3.png", "b/listed/4.png", "b/listed/deep/5.png",
                                        "c/6.png"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++)
        put_picture(p->source, files[i], i);
    assert_int_equal(chmod(p->dir, 0777), 0);
    set_mode(p, "a/shut.png", 0);
    set_mode(p, "b/shut", 0);      /* may not be listed */
    set_mode(p, "b/listed", 0444); /* its files may not be opened */
    set_mode(p, "c", 0311);        /* its files could be, but who knows their names? */
    at_error err = {0};
    int status = ingest_as_nobody(p, &err);
    if (status)
        fail_msg("exit %d: %s", status, err.message);
    place_expect(p, "SELECT group_concat(path, ' ') FROM (SELECT path FROM images ORDER BY path)",
                 "a/1.png b/3.png");
    place_expect(p, "SELECT group_concat(path, ' ') FROM (SELECT path FROM errors ORDER BY path)",
                 "a/shut.png b/listed/4.png b/listed/deep b/shut c");
    place_expect(p, "SELECT group_concat(DISTINCT reason || ': ' || detail) FROM errors",
                 "unreadable: Permission denied");
    print_message("5 files and folders that may not be read\n");
    set_mode(p, "b/shut", 0700); /* whoever clears up may not be root */
    set_mode(p, "b/listed", 0700);
    set_mode(p, "c", 0700);
}

static void test_a_source_or_place_without_permission(void **state)
{
    struct place *p = *state;
    put_picture(p->source, "a/1.png", 1);
    at_error err = {0};
    set_mode(p, ".", 0);
    assert_int_equal(chmod(p->dir, 0777), 0);
    assert_int_equal(ingest_as_nobody(p, &err), 3);
    assert_non_null(strstr(err.message, p->source));
    assert_non_null(strstr(err.message, "Permission denied"));
    set_mode(p, ".", 0755);
    assert_int_equal(chmod(p->dir, 0555), 0);
    assert_int_equal(ingest_as_nobody(p, &err), 3);
    assert_non_null(strstr(err.message, "out.partial"));
    assert_non_null(strstr(err.message, "Permission denied"));
    assert_int_equal(chmod(p->dir, 0755), 0);
    assert_int_equal(scratch_count(p->dir), 1);
}

/* ---- names ----------------------------------------------------------------------------------- */

static void test_names_of_every_kind(void **state)
{
    struct place *p = *state;
    char longest[256] = "", deepest[600] = "class";
    memset(longest, 'n', 255);
    static const char *const names[] = {"new\nline.png",
                                        "carriage\rreturn.png",
                                        "tab\t.png",
                                        "\x1B[31mred\x1B[2J.png",
                                        "bell\a.png",
                                        "'single'.png",
                                        "\"double\".png",
                                        "`back`.png",
                                        "$(reboot).png",
                                        "; rm -rf ~.png",
                                        "'); DROP TABLE images; --.png",
                                        "<script>alert(1)</script>.png",
                                        "a&amp;b.png",
                                        "<img src=x onerror=alert(1)>.png",
                                        "back\\slash.png",
                                        "per%20cent%s%n.png",
                                        "-dash.png",
                                        "--help",
                                        " space ",
                                        "...",
                                        "*",
                                        "?",
                                        "~",
                                        "#hash.png",
                                        "caf\xE9.png",
                                        "\xFF\xFE.png",
                                        "\xC3\xA9t\xC3\xA9.png",
                                        "overlong\xC0\xAF.png",
                                        "half\xE2\x82.png",
                                        "surrogate\xED\xA0\x80.png",
                                        "\xE2\x80\xAEgnp.exe",
                                        "\xF0\x9F\x98\x80.png",
                                        "\xEF\xBB\xBF"
                                        "bom.png",
                                        "nul\x01\x7F.png"};
    enum { NAMES = sizeof names / sizeof *names, DEPTH = 62 };
    for (int i = 0; i < NAMES; i++) {
        char *name = at_format("class/%s", names[i]);
        put_picture(p->source, name, (uint64_t)i);
        free(name);
    }
    char *name = at_format("class/%s", longest);
    put_picture(p->source, name, 1000);
    free(name);
    for (int i = 0; i < DEPTH; i++)
        strcat(deepest, "/d");
    name = at_format("%s/1.png", deepest);
    put_picture(p->source, name, 1001);
    free(name);
    name = at_format("%s/d/2.png", deepest); /* one folder too deep */
    put_picture(p->source, name, 1002);
    free(name);
    at_ingest_result r = ingest_must(p->source, p->out, 0);
    assert_int_equal(r.images, NAMES + 2);
    assert_int_equal(r.errors, 1);
    place_expect(p, "SELECT detail FROM errors", "folders are nested more than 64 deep");
    place_expect(p, "SELECT count(*) FROM images WHERE length(path) = 261", "1");
    place_expect(p, "SELECT path FROM images WHERE path LIKE '%caf%'", "class/caf\\xE9.png");
    place_expect(p, "SELECT path FROM images WHERE path LIKE '%half%'", "class/half\\xE2\\x82.png");
    place_expect(p, "SELECT count(*) FROM images WHERE path LIKE '%' || char(10) || 'line.png'",
                 "1");
    place_expect(
        p, "SELECT count(*) FROM images WHERE path = 'class/''); DROP TABLE images; --.png'", "1");
    at_error err = {0};
    at_dataset *d = at_dataset_open(p->out, &err);
    assert_non_null(d);
    at_sample s;
    for (size_t i = 0; i < NAMES + 2; i++)
        assert_int_equal(at_dataset_sample(d, AT_TRAIN, i, &s, &err), 0);
    at_dataset_close(d);
    print_message("%d names\n", NAMES + 3);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, place_set_up, place_tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_files_that_change_while_read),
        CASE(test_a_folder_that_vanishes),
        CASE(test_links_in_circles),
        CASE(test_a_bomb_of_links),
        CASE(test_what_is_no_file),
        CASE(test_sources_that_are_no_files),
        CASE(test_what_may_not_be_read),
        CASE(test_a_source_or_place_without_permission),
        CASE(test_names_of_every_kind),
    };
#undef CASE
    at_log_set_level(AT_LOG_ERROR);
    at_progress_silence(true);
    libc_read = dlsym(RTLD_NEXT, "read");
    pthread_atfork(NULL, NULL, note_child);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
