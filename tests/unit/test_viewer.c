/* SPDX-License-Identifier: Apache-2.0
 * Loose pictures of strangers, decoded in a process of their own: what crashes, hangs or starves the
 * decoder is told of by itself, and the next one is seen as it would be here. */
#include <atoll/datasets.h>

#include "place.h"
#include "sources.h"
#include "spoilt_jpeg.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static const at_decode_limits limits = {.seconds = 0.1};

static at_viewer *view_in(const at_frame *frame)
{
    at_error err = {0};
    at_viewer *v = at_viewer_new(frame, &limits, &err);
    if (!v)
        fail_msg("%s", err.message);
    return v;
}

static size_t bytes_of(const at_frame *f)
{
    return (size_t)f->height * (size_t)f->width * (size_t)f->channels;
}

static void put_spoilt_as(const struct place *p, const char *name, spoilt_kind kind)
{
    put_spoilt(p->source, name, kind, (uint64_t)kind);
}

/* dir/name is seen as it is when it is decoded in this process. */
static void see_as_here(at_viewer *v, const at_frame *frame, const char *dir, const char *name)
{
    size_t n = bytes_of(frame), size;
    uint8_t *there = malloc(n), *here = malloc(n);
    char *path = at_path_join(dir, name), *data;
    at_decoder *decoder = at_decoder_new();
    at_error err = {0};
    at_image image;
    if (at_viewer_see(v, path, there, &err))
        fail_msg("%s: %s", name, err.message);
    assert_int_equal(at_file_read(path, AT_MAX_BYTES, &data, &size, &err), 0);
    at_decoder_reduce(decoder, (at_reduction){frame->height, frame->width, 0});
    assert_int_equal(at_decoder_decode(decoder, data, size, NULL, &image, NULL, &err), 0);
    assert_int_equal(at_image_frame(&image, frame, here, &err), 0);
    assert_memory_equal(there, here, n);
    at_decoder_free(decoder);
    free(data);
    free(path);
    free(there);
    free(here);
}

static void refuse(at_viewer *v, const char *dir, const char *name, const char *reason,
                   const char *detail)
{
    uint8_t out[64];
    at_error err = {0};
    char *path = at_path_join(dir, name);
    assert_int_equal(at_viewer_see(v, path, out, &err), AT_EINPUT);
    if (strncmp(err.message, reason, strlen(reason)) != 0 || !strstr(err.message, detail))
        fail_msg("%s: %s", name, err.message);
    free(path);
}

static const at_frame small = {.height = 4, .width = 5, .channels = 3};

static void test_the_next_one_is_seen(void **state)
{
    struct place *p = *state;
    int tried = 0;
    put_spoilt_as(p, "good.jpg", SPOILT_GOOD);
    at_viewer *v = view_in(&small);
    for (int kind = SPOILT_GOOD + 1; kind < SPOILT_END; kind++) {
        spoilt_row row = spoilt_of((spoilt_kind)kind);
        if (!row.reason)
            continue;
        put_spoilt_as(p, "bad.jpg", (spoilt_kind)kind);
        refuse(v, p->source, "bad.jpg", row.reason, row.detail);
        if (kind % 2)
            see_as_here(v, &small, p->source, "good.jpg");
        tried++;
    }
    at_viewer_finish(v);
    at_viewer_free(v);
    assert_true(tried > 8);
    print_message("%d pictures that end their decoder, each named, the next ones seen\n", tried);
}

static void test_pictures_are_those_of_decoding_here(void **state)
{
    struct place *p = *state;
    static const at_frame frames[] = {{28, 28, 1, AT_FIT_STRETCH},
                                      {3, 40, 3, AT_FIT_CROP},
                                      {33, 32, 3, AT_FIT_LETTERBOX},
                                      {1, 1, 1, AT_FIT_CROP}};
    static const int sides[] = {1, 7, 32, 200};
    int seen = 0;
    for (size_t f = 0; f < sizeof frames / sizeof *frames; f++) {
        at_viewer *v = view_in(&frames[f]);
        for (size_t i = 0; i < sizeof sides / sizeof *sides; i++, seen += 2) {
            at_image image = paint_image(sides[i], 1 + sides[i] / 2, i % 2 ? 3 : 1, i);
            encoded jpeg = encode_jpeg(&image, &(jpeg_spec){.quality = 90, .progressive = i > 1});
            encoded png =
                encode_png(&(png_spec){image.width, image.height, 8, image.channels == 3 ? 2 : 0},
                           image.pixels, (size_t)(image.width * image.channels));
            put_file(p->source, "a.png", png.bytes, png.size);
            see_as_here(v, &frames[f], p->source, "a.png");
            put_file(p->source, "a.jpg", jpeg.bytes, jpeg.size);
            see_as_here(v, &frames[f], p->source, "a.jpg");
            at_image_fini(&image);
            free(jpeg.bytes);
            free(png.bytes);
        }
        at_viewer_free(v);
    }
    print_message("%d pictures in %zu frames\n", seen, sizeof frames / sizeof *frames);
}

static void test_what_is_no_picture(void **state)
{
    struct place *p = *state;
    static const struct {
        const char *name, *reason, *detail;
    } cases[] = {{"none.png", "unreadable", "No such file"},
                 {"empty.png", "empty", "0 bytes"},
                 {"text.png", "not-an-image", "first bytes"},
                 {"gif.png", "unsupported", "neither"},
                 {"folder.png", "unreadable", "folder"},
                 {"pipe.png", "timeout", "a pipe that does not end within 0.1 s"},
                 {"loop.png", "unreadable", "symbolic links"},
                 {"cut.png", "truncated", ""},
                 {"cut.jpg", "truncated", ""}};
    char *pipe = at_path_join(p->source, "pipe.png"), *loop = at_path_join(p->source, "loop.png"),
         *folder = at_path_join(p->source, "folder.png");
    put_text(p->source, "empty.png", "");
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_int_equal(mkfifo(pipe, 0600), 0);
    assert_int_equal(symlink("loop.png", loop), 0);
    put_text(p->source, "text.png", "cat, sitting");
    put_text(p->source, "gif.png", "GIF89a............");
    put_picture(p->source, "cut.png", 1);
    put_picture(p->source, "cut.jpg", 2);
    put_picture(p->source, "good.png", 3);
    place_cut(p->source, "cut.png", 0.6);
    place_cut(p->source, "cut.jpg", 0.6);
    at_viewer *v = view_in(&small);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        refuse(v, p->source, cases[i].name, cases[i].reason, cases[i].detail);
        see_as_here(v, &small, p->source, "good.png");
    }
    at_viewer_free(v);
    print_message("%zu things that are no pictures\n", sizeof cases / sizeof *cases);
    free(pipe);
    free(loop);
    free(folder);
}

/* ---- pipes ---- */

enum { ENDLESS = 1 << 24 };

/* A process that writes so many bytes, then so many zeros, to the pipe. */
static pid_t start_writer(const char *pipe, const char *bytes, size_t size, size_t zeros)
{
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid)
        return pid;
    FILE *file = fopen(pipe, "wb");
    if (!file)
        _exit(1);
    fwrite(bytes, 1, size / 2, file);
    fflush(file);
    usleep(20000);
    fwrite(bytes + size / 2, 1, size - size / 2, file);
    for (size_t i = 0; i < zeros; i++)
        putc(0, file);
    fclose(file);
    _exit(0);
}

static void test_pipes(void **state)
{
    struct place *p = *state;
    static const at_decode_limits patient = {.seconds = 60, .bytes = 100000};
    uint8_t there[4 * 5 * 3], here[sizeof there];
    at_error err = {0};
    char *path = at_path_join(p->source, "good.jpg"), *pipe = at_path_join(p->source, "pipe"),
         *data;
    size_t size;
    put_picture(p->source, "good.jpg", 3);
    assert_int_equal(mkfifo(pipe, 0600), 0);
    assert_int_equal(at_file_read(path, AT_MAX_BYTES, &data, &size, &err), 0);
    at_viewer *v = at_viewer_new(&small, &patient, &err);
    assert_non_null(v);
    assert_int_equal(at_viewer_see(v, path, here, &err), 0);
    const struct {
        const char *bytes;
        size_t size, zeros;
        const char *told; /* NULL: it is seen */
    } cases[] = {{data, size, 0, NULL},
                 {data, 0, 0, "empty"},
                 {data, 9, 0, "truncated"},
                 {"cat, sitting on a mat", 21, ENDLESS, "not-an-image"},
                 {data, size, ENDLESS, "too-large: more than 100000 bytes"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        pid_t writer = start_writer(pipe, cases[i].bytes, cases[i].size, cases[i].zeros);
        int code = at_viewer_see(v, pipe, there, &err);
        assert_int_equal(waitpid(writer, NULL, 0), writer);
        assert_int_equal(code, cases[i].told ? AT_EINPUT : 0);
        if (cases[i].told && strncmp(err.message, cases[i].told, strlen(cases[i].told)) != 0)
            fail_msg("case %zu: %s", i, err.message);
        if (!cases[i].told)
            assert_memory_equal(there, here, sizeof here);
    }
    int before = dup(STDIN_FILENO), file = open(path, O_RDONLY);
    assert_true(file >= 0 && dup2(file, STDIN_FILENO) == STDIN_FILENO);
    memset(there, 0, sizeof there);
    assert_int_equal(at_viewer_see(v, "-", there, &err), 0);
    assert_memory_equal(there, here, sizeof here);
    if (before >= 0)
        dup2(before, STDIN_FILENO);
    close(before);
    close(file);
    at_viewer_free(v);
    print_message("%zu pipes and standard input\n", sizeof cases / sizeof *cases);
    free(data);
    free(path);
    free(pipe);
}

int main(void)
{
#define CASE(f) cmocka_unit_test_setup_teardown(f, place_set_up, place_tear_down)
    const struct CMUnitTest tests[] = {
        CASE(test_the_next_one_is_seen),
        CASE(test_pictures_are_those_of_decoding_here),
        CASE(test_what_is_no_picture),
        CASE(test_pipes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
