/* SPDX-License-Identifier: Apache-2.0
 * `atoll predict` of pictures of strangers: whichever ends, hangs or starves the process that decodes it
 * is named with the reason, the others are answered, and the exit status is 3.
 * ctest: once */
#include <atoll/nn.h>

#include "artefacts.h"
#include "encode.h"
#include "place.h"
#include "processes.h"
#include "sources.h"
#include "trainings.h"

#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

enum { SCANS = 10000, MOST = 40 };

static void put_model(const struct place *p)
{
    at_error err = {0};
    at_net *net = training_dense_net(8, 3, 1);
    at_model_info info = artefacts_info("small", net);
    must(at_model_save(net, &info, p->file, &err) == AT_OK, &err);
    artefacts_info_fini(&info);
    at_net_free(net);
}

static int set_up(void **state)
{
    if (place_set_up(state) || place_name_file(*state, "model.h5"))
        return -1;
    put_model(*state);
    return 0;
}

/* Of the files in p->source; the answer goes to dir/answer. */
static pid_t start_predict(const struct place *p, const char *const options[],
                           const char *const names[])
{
    pid_t pid = fork();
    if (pid)
        return pid;
    const char *words[MOST] = {getenv("ATOLL"), "predict", p->file, "--json"};
    size_t n = 4;
    while (*options)
        words[n++] = *options++;
    while (*names)
        words[n++] = at_path_join(p->source, *names++);
    char *answer = at_path_join(p->dir, "answer");
    int fd = open(answer, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (fd < 0 || dup2(fd, STDOUT_FILENO) < 0)
        _exit(99);
    execv(words[0], (char **)(uintptr_t)words);
    _exit(98);
}

/* Each name from first on has an answer: an error that begins so, or, wanted NULL, scores. */
static void expect_answers(const struct place *p, const char *const names[],
                           const char *const wanted[])
{
    at_error err = {0};
    char *path = at_path_join(p->dir, "answer"), *text;
    size_t size, count = 0;
    must(at_file_read(path, 1 << 20, &text, &size, &err) == 0, &err);
    at_node *all = at_json_parse(text, size, path, &err);
    const at_node *predictions = at_node_get(all, "predictions");
    for (; names[count]; count++) {
        const at_node *one = at_node_at(predictions, count);
        const char *of = at_node_string(at_node_get(one, "path"), "?"),
                   *error = at_node_string(at_node_get(one, "error"), "");
        assert_non_null(strstr(of, names[count]));
        if (wanted[count] ? !strstr(error, wanted[count]) : *error != 0)
            fail_msg("%s: \"%s\"", of, error);
        assert_int_equal(at_node_count(at_node_get(one, "scores")), wanted[count] ? 0 : 3);
    }
    assert_int_equal(at_node_count(predictions), count);
    at_node_free(all);
    free(text);
    free(path);
}

static void put_scans(const struct place *p)
{
    encoded scans = encode_scans(400, SCANS);
    put_file(p->source, "scans.jpg", scans.bytes, scans.size);
    free(scans.bytes);
}

static void test_hostile_files(void **state)
{
    struct place *p = *state;
    static const char *const limits[] = {
        "--max-scans", "20000", "--max-seconds", "0.1", "--max-pixels", "160000", NULL};
    static const char *const names[] = {
        "1.png",     "scans.jpg", "2.jpg",      "pipe.png",  "cut.png", "none.png", "text.jpg",
        "scans.jpg", "empty.png", "folder.png", "large.png", "3.png",   NULL};
    static const char *const wanted[] = {NULL,
                                         "timeout: ",
                                         NULL,
                                         "timeout: ",
                                         "truncated: ",
                                         "unreadable: ",
                                         "not-an-image: ",
                                         "timeout: ",
                                         "empty: ",
                                         "unreadable: ",
                                         "too-large: ",
                                         NULL};
    char *pipe = at_path_join(p->source, "pipe.png"),
         *folder = at_path_join(p->source, "folder.png");
    put_picture(p->source, "1.png", 1);
    put_picture(p->source, "2.jpg", 2);
    put_picture(p->source, "3.png", 3);
    put_picture(p->source, "cut.png", 4);
    place_cut(p->source, "cut.png", 0.6);
    put_text(p->source, "text.jpg", "a text");
    put_text(p->source, "empty.png", "");
    put_scans(p);
    at_image image = paint_image(401, 400, 3, 1);
    encoded large = encode_jpeg(&image, &(jpeg_spec){.quality = 50});
    put_file(p->source, "large.png", large.bytes, large.size);
    assert_int_equal(mkfifo(pipe, 0600), 0);
    assert_int_equal(mkdir(folder, 0700), 0);
    assert_int_equal(status_of(start_predict(p, limits, names)), 3);
    expect_answers(p, names, wanted);
    print_message("9 hostile files of 12\n");
    at_image_fini(&image);
    free(large.bytes);
    free(folder);
    free(pipe);
}

/* A signal from outside is what a crash inside is. */
static void test_a_crash_of_the_decoder(void **state)
{
    struct place *p = *state;
    static const char *const limits[] = {"--max-scans", "20000", "--max-seconds", "600", NULL};
    static const char *const names[] = {"scans.jpg", "1.png", NULL};
    static const struct {
        int signal;
        const char *error;
    } ends[] = {{SIGSEGV, "corrupt: the decoder crashed (SIGSEGV)"},
                {SIGABRT, "corrupt: the decoder crashed (SIGABRT)"},
                {SIGKILL, "too-large: the decoder was killed"}};
    put_picture(p->source, "1.png", 1);
    put_scans(p);
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        pid_t guard, worker, predict = start_predict(p, limits, names);
        await_worker(predict, &guard, &worker);
        while (cpu_seconds_of(worker) < 0.1) /* it decodes */
            usleep(1000);
        assert_int_equal(kill(worker, ends[i].signal), 0);
        assert_int_equal(status_of(predict), 3);
        expect_answers(p, names, (const char *const[]){ends[i].error, NULL});
    }
    print_message("%zu ends of a decoder, each named\n", sizeof ends / sizeof *ends);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_hostile_files, set_up, place_tear_down),
        cmocka_unit_test_setup_teardown(test_a_crash_of_the_decoder, set_up, place_tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
