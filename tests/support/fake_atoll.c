/* SPDX-License-Identifier: Apache-2.0
 * A test program in the part of atoll. */
#include "fake_atoll.h"

#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *option(int argc, char **argv, const char *name)
{
    for (int i = 0; i + 1 < argc; i++)
        if (strcmp(argv[i], name) == 0)
            return argv[i + 1];
    return "";
}

/* The value of -s key=value, NaN where it is not given. */
static double setting(int argc, char **argv, const char *key)
{
    size_t n = strlen(key);
    double value = NAN;
    for (int i = 0; i + 1 < argc; i++)
        if (strcmp(argv[i], "-s") == 0 && strncmp(argv[i + 1], key, n) == 0 &&
            argv[i + 1][n] == '=')
            value = strtod(argv[i + 1] + n + 1, NULL);
    return value;
}

double fake_metric(double lr)
{
    return 1 - 0.1 * pow(log10(lr) + 1, 2);
}

static bool once(const char *out, const char *name)
{
    char *path = at_path_join(out, name);
    FILE *f = fopen(path, "wx");
    free(path);
    if (f)
        fclose(f);
    return f != NULL;
}

static bool has_word(int argc, char **argv, const char *word)
{
    for (int i = 0; i < argc; i++)
        if (strcmp(argv[i], word) == 0)
            return true;
    return false;
}

/* Everything a job starts is noted in $FAKE_ATOLL_NOTES, a line each. */
static void note(int argc, char **argv)
{
    const char *path = getenv("FAKE_ATOLL_NOTES");
    at_text line = {0};
    for (int i = 1; i < argc; i++)
        at_text_add(&line, "%s%s", argv[i], i + 1 < argc ? " " : "\n");
    FILE *f = path ? fopen(path, "a") : NULL;
    if (f) {
        fputs(line.data, f);
        fclose(f);
    }
    at_text_fini(&line);
}

static int write_under(const char *dir, const char *name, const char *text)
{
    char *path = at_path_join(dir, name);
    int rc = at_make_dirs(dir, NULL);
    if (rc == 0)
        rc = at_file_write(path, text, strlen(text), NULL);
    free(path);
    return rc ? 1 : 0;
}

/* The final training: what -s fail=1 and -s wait_for_signal=1 ask for, else its files. */
static int play_final(int argc, char **argv)
{
    const char *out = option(argc, argv, "--out"), *rank = getenv("OMPI_COMM_WORLD_RANK");
    const char *size = getenv("OMPI_COMM_WORLD_SIZE");
    char summary[200];
    at_interrupt_install();
    if (setting(argc, argv, "not_launched") == 1)
        return 0;
    if (!rank || strcmp(rank, "0") == 0)
        note(argc, argv);
    if (setting(argc, argv, "fail") == 1)
        return 3;
    write_under(out, "config.yaml", "x: 1\n");
    bool waits = setting(argc, argv, "wait_for_signal") == 1 && !has_word(argc, argv, "--resume");
    while (waits && !at_interrupted())
        usleep(10000);
    if (waits)
        return 4;
    if (rank && strcmp(rank, "0") != 0)
        return 0;
    snprintf(summary, sizeof summary, "{\"test_accuracy\": 0.9123, \"epochs\": 3, \"ranks\": %s}",
             size ? size : "1");
    return write_under(out, "model.h5", "a model") | write_under(out, "summary.json", summary);
}

static int play_stage(int argc, char **argv)
{
    const char *out = option(argc, argv, "--out");
    bool slow = strstr(argv[2], "slow") != NULL;
    if (slow)
        signal(SIGTERM, SIG_IGN);
    note(argc, argv);
    if (strstr(argv[2], "missing")) {
        fprintf(stderr, "there is no %s\n", argv[2]);
        return 3;
    }
    for (int i = 0; slow && i < 100; i++)
        usleep(10000);
    if (strcmp(argv[1], "report") == 0)
        return at_file_write(out, "<html>", 6, NULL) ? 1 : 0;
    return write_under(out, "made", "x");
}

static int play_trainer(int argc, char **argv)
{
    if (!has_word(argc, argv, "--trial"))
        return play_final(argc, argv);
    const char *out = option(argc, argv, "--out"), *slash = strrchr(out, '/');
    int number = atoi(slash ? slash + 1 : "-1"), fd = atoi(option(argc, argv, "--events-fd"));
    bool rehearsal = slash && strcmp(slash, "/rehearsal") == 0;
    static const char *const leaks[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "SLURM_STEPID",
                                        "OMP_NUM_THREADS"};
    for (size_t i = 0; i < sizeof leaks / sizeof *leaks; i++)
        if (getenv(leaks[i]))
            return 90;
    if (!(setting(argc, argv, "threads") >= 1))
        return 91;
    at_interrupt_install();
    if (rehearsal) {
        note(argc, argv);
        return setting(argc, argv, "fail_all") == 1 ? 1 : write_under(out, "made", "x");
    }
    dprintf(fd, "{\"event\":\"start\",\"wall_ms\":%lld}\n", (long long)at_wall_ms());
    if (setting(argc, argv, "kill_worker_of") == number && once(out, "killed"))
        kill(getppid(), SIGKILL);
    if (setting(argc, argv, "crash_at") == number)
        abort();
    if (setting(argc, argv, "fail_at") == number || setting(argc, argv, "fail_all") == 1) {
        fprintf(stderr, "a first line\ntrial %d has failed: as it was told\n", number);
        return isnan(setting(argc, argv, "status")) ? 1 : (int)setting(argc, argv, "status");
    }
    double metric = fake_metric(setting(argc, argv, "lr"));
    int nap = (int)setting(argc, argv, "nap_ms");
    for (int epoch = 1; epoch <= 2; epoch++) {
        for (int i = 0; i < nap / 10; i++) {
            usleep(10000);
            if (at_interrupted())
                return 4;
        }
        dprintf(fd, "{\"event\":\"epoch\",\"epoch\":%d,\"val_accuracy\":%.17g}\n", epoch,
                metric - (2 - epoch) * 0.01);
    }
    dprintf(fd, "{\"event\":\"end\",\"seconds\":0.1}\n");
    return 0;
}

static int end_status(const char *who, int code, const at_error *err)
{
    if (code)
        fprintf(stderr, "%s: %s\n", who, err->message);
    return at_error_exit_status(code);
}

static int play_worker(int argc, char **argv)
{
    at_error err = {0};
    at_log_set_level(AT_LOG_ERROR);
    at_worker_options options = {.join = option(argc, argv, "--join"),
                                 .key = option(argc, argv, "--key"),
                                 .program = FAKE_ATOLL};
    return end_status("worker", at_worker(&options, &err), &err);
}

at_node *fake_tune(const char *sweep, const char *out, const char *workers, bool resume,
                   at_error *err)
{
    at_tune_options options = {
        .sweep = sweep, .out = out, .workers = workers, .program = FAKE_ATOLL, .resume = resume};
    return at_tune(&options, err);
}

static int play_coordinator(char **argv)
{
    at_error err = {0};
    at_log_set_level(AT_LOG_ERROR);
    at_progress_silence(true);
    at_interrupt_install();
    at_node *best = fake_tune(argv[2], argv[3], argv[4], strcmp(argv[5], "resume") == 0, &err);
    at_node_free(best);
    return end_status("tune", best ? 0 : err.code, &err);
}

at_node *fake_job(const char *yaml, const char *out, bool resume, at_error *err)
{
    char self[4096];
    ssize_t n = readlink(FAKE_ATOLL, self, sizeof self - 1); /* to mpirun, /proc/self is another */
    self[n > 0 ? n : 0] = 0;
    at_job_options options = {
        .job = yaml, .out = out, .program = self, .batch = 64, .resume = resume};
    return at_job(&options, err);
}

static int play_job(char **argv)
{
    at_error err = {0};
    at_log_set_level(AT_LOG_ERROR);
    at_progress_silence(true);
    at_interrupt_install();
    at_node *summary = fake_job(argv[2], argv[3], false, &err);
    at_node_free(summary);
    return end_status("run", summary ? 0 : err.code, &err);
}

int fake_main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "train") == 0)
        return play_trainer(argc, argv);
    if (argc > 1 && strcmp(argv[1], "worker") == 0)
        return play_worker(argc, argv);
    if (argc > 5 && strcmp(argv[1], "tune") == 0)
        return play_coordinator(argv);
    if (argc > 2 && (strcmp(argv[1], "ingest") == 0 || strcmp(argv[1], "cache") == 0 ||
                     strcmp(argv[1], "report") == 0))
        return play_stage(argc, argv);
    if (argc > 3 && strcmp(argv[1], "run") == 0)
        return play_job(argv);
    return -1;
}
