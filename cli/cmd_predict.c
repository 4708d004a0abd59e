/* SPDX-License-Identifier: Apache-2.0
 * atoll predict: classes of image files, from a model file alone. They are decoded in a process of their own. A bad
 * image gets an error of its own; the others are answered all the same, and the exit status is 3.
 */
#include "model_input.h"
#include "cli.h"

#include <atoll/datasets.h>
#include <atoll/nn.h>

#include <stdlib.h>
#include <string.h>

enum { MAX_BATCH = 32, ALONE_FLOPS = 50000000 };

typedef struct args {
    char *fit;
    bool json;
    double max_seconds;
    int64_t top, threads, max_pixels, max_bytes, max_scans;
} args;

static const at_option options[] = {
    {"top", AT_OPT_INT, offsetof(args, top), "1", "the K likeliest classes", "K", .min = 1,
     .max = 100000},
    {"threads", AT_OPT_INT, offsetof(args, threads), "0",
     "0: one a CPU, or one where there is little to do", "N", .min = 0, .max = 4096},
    {"max-pixels", AT_OPT_INT, offsetof(args, max_pixels), "134217728",
     "an image of more is refused", "N", .min = 1, .max = -1},
    {"max-bytes", AT_OPT_INT, offsetof(args, max_bytes), AT_STRING_OF(AT_MAX_BYTES),
     "a file of more is refused", "N", .min = 1, .max = -1},
    {"max-scans", AT_OPT_INT, offsetof(args, max_scans), AT_STRING_OF(AT_MAX_SCANS),
     "a progressive JPEG of more is refused", "N", .min = 1, .max = -1},
    {"max-seconds", AT_OPT_REAL, offsetof(args, max_seconds), "16",
     "an image whose decoding takes more of a CPU's time, or that a pipe takes longer to bring, is "
     "refused",
     "S", .min = 0.01, .max = 86400},
    CLI_FIT_OPTION(offsetof(args, fit)),
    {"json", AT_OPT_BOOL, offsetof(args, json), NULL, "print one JSON object"},
    {0}};

typedef struct predictor {
    at_net *net;
    at_plan *plan;
    at_model_info info;
    at_frame frame;
    at_viewer *viewer;
    int batch, classes;
    uint8_t *pixels;
    at_decode_limits limits;
    int64_t top;
} predictor;

static size_t sample_bytes(const predictor *p)
{
    return (size_t)p->frame.height * (size_t)p->frame.width * (size_t)p->frame.channels;
}

/* A second thread costs more than it saves on a few small images: it has to be started, and waits by spinning. */
static int threads_for(const at_net *net, int images, int64_t asked)
{
    at_node *d = at_net_describe(net);
    double flops = (double)at_node_int(at_node_get(d, "flops"), INT64_MAX) * images;
    at_node_free(d);
    return asked || flops > ALONE_FLOPS ? (int)asked : 1;
}

static int predictor_init(predictor *p, const args *a, const char *path, int images, at_error *err)
{
    p->net = at_model_load(path, &p->info, err);
    if (!p->net)
        return err->code;
    at_net_input_shape(p->net, &p->frame.channels, &p->frame.height, &p->frame.width);
    if (cli_read_fit(a->fit, &p->info, path, &p->frame.fit, err) < 0)
        return err->code;
    p->viewer = at_viewer_new(&p->frame, &p->limits, err); /* before there are threads */
    if (!p->viewer)
        return err->code;
    p->classes = at_net_classes(p->net);
    p->batch = images < MAX_BATCH ? images : MAX_BATCH;
    at_plan_options how = {
        .batch = p->batch, .constant = true, .threads = threads_for(p->net, images, a->threads)};
    p->plan = at_plan_new(p->net, &how, err);
    if (!p->plan)
        return err->code;
    p->pixels = at_alloc_aligned((size_t)p->batch * sample_bytes(p));
    return p->pixels ? 0 : at_nomem(err);
}

static void predictor_fini(predictor *p)
{
    at_plan_free(p->plan);
    at_net_free(p->net);
    at_model_info_fini(&p->info);
    at_viewer_free(p->viewer);
    at_free_aligned(p->pixels);
}

static int likeliest(const float *scores, int n, const bool *taken)
{
    int best = -1;
    for (int i = 0; i < n; i++)
        if (!taken[i] && (best < 0 || scores[i] > scores[best]))
            best = i;
    return best;
}

static void add_top(const predictor *p, at_node *answer, const float *scores)
{
    bool *taken = calloc((size_t)p->classes, sizeof *taken);
    at_node *list = at_node_set(answer, "top", at_node_new(AT_LIST));
    for (int64_t k = 0; taken && k < p->top && k < p->classes; k++) {
        int best = likeliest(scores, p->classes, taken);
        taken[best] = true;
        at_node *item = at_node_add(list, at_node_new(AT_MAP));
        at_set_string(item, "class", p->info.classes[best]);
        at_set_int(item, "index", best);
        at_set_real(item, "score", (double)scores[best]);
    }
    free(taken);
}

static void fill_answer(const predictor *p, at_node *answer, const float *scores)
{
    add_top(p, answer, scores);
    const at_node *first = at_node_at(at_node_get(answer, "top"), 0);
    static const char *const copied[] = {"class", "index", "score"};
    for (size_t i = 0; i < sizeof copied / sizeof *copied; i++)
        at_node_set(answer, copied[i], at_node_copy(at_node_get(first, copied[i])));
    at_node *all = at_node_set(answer, "scores", at_node_new(AT_LIST));
    for (int i = 0; i < p->classes; i++)
        at_node_add(all, at_node_new_real((double)scores[i]));
    if (p->top == 1)
        at_node_remove(answer, "top");
}

/* Sets "path" and, of a bad image, "error" of each answer; returns how many are bad, or why none can
 * be seen. */
static int see_batch(predictor *p, char **paths, int n, at_node *const answers[], at_error *err)
{
    int bad = 0;
    size_t bytes = sample_bytes(p);
    memset(p->pixels, 0, bytes * (size_t)p->batch);
    for (int i = 0; i < n; i++) {
        at_error why = {0};
        at_set_string(answers[i], "path", paths[i]);
        int code = at_viewer_see(p->viewer, paths[i], p->pixels + (size_t)i * bytes, &why);
        if (code == 0)
            continue;
        if (code != AT_EINPUT)
            return at_fail(err, code, "%s", why.message);
        bad++;
        at_set_string(answers[i], "error", why.message);
    }
    return bad;
}

/* Up to p->batch images; returns how many were bad, or an error that is none's. */
static int predict_batch(predictor *p, char **paths, int n, bool last, at_node *predictions,
                         at_error *err)
{
    at_node *answers[MAX_BATCH];
    for (int i = 0; i < n; i++)
        answers[i] = at_node_add(predictions, at_node_new(AT_MAP));
    int bad = see_batch(p, paths, n, answers, err);
    if (last)
        at_viewer_finish(p->viewer);
    if (bad < 0 || bad == n)
        return bad;
    int code = at_plan_infer(p->plan, &(at_plan_input){.pixels = p->pixels}, NULL, err);
    for (int i = 0; i < n && code == 0; i++)
        if (!at_node_get(answers[i], "error"))
            fill_answer(p, answers[i], at_plan_scores(p->plan) + (size_t)i * (size_t)p->classes);
    return code < 0 ? code : bad;
}

static void print_answer(const at_node *answer)
{
    const at_node *top = at_node_get(answer, "top");
    size_t n = top ? at_node_count(top) : 1;
    for (size_t k = 0; k < n; k++) {
        const at_node *item = top ? at_node_at(top, k) : answer;
        printf("%s  %s  %.4f\n", at_node_string(at_node_get(answer, "path"), ""),
               at_node_string(at_node_get(item, "class"), ""),
               at_node_real(at_node_get(item, "score"), 0));
    }
}

static void tell_bad(const at_node *answer)
{
    at_error why;
    int code = at_fail(&why, AT_EINPUT, "%s: %s", at_node_string(at_node_get(answer, "path"), ""),
                       at_node_string(at_node_get(answer, "error"), ""));
    cli_print_error("predict", code, &why);
}

/* scores: or they are told as JSON. Bad images are named on stderr. */
static void print_predictions(const at_node *predictions, bool scores)
{
    for (size_t i = 0; i < at_node_count(predictions); i++) {
        const at_node *answer = at_node_at(predictions, i);
        if (at_node_get(answer, "error"))
            tell_bad(answer);
        else if (scores)
            print_answer(answer);
    }
}

static int predict_all(const args *a, const char *model, char **paths, int n, at_error *err)
{
    predictor p = {.top = a->top,
                   .limits = {.pixels = (size_t)a->max_pixels,
                              .bytes = (size_t)a->max_bytes,
                              .seconds = a->max_seconds,
                              .scans = a->max_scans}};
    at_node *result = at_node_new(AT_MAP);
    at_node *predictions = at_node_set(result, "predictions", at_node_new(AT_LIST));
    int bad = 0, code = predictor_init(&p, a, model, n, err);
    for (int at = 0; at < n && code >= 0; at += p.batch) {
        bool last = n - at <= p.batch;
        code = predict_batch(&p, paths + at, last ? n - at : p.batch, last, predictions, err);
        bad += code > 0 ? code : 0;
    }
    if (code >= 0 && a->json)
        cli_print_json(at_node_copy(result));
    if (code >= 0)
        print_predictions(predictions, !a->json);
    if (code >= 0 && bad) /* the sum of one is told already */
        code = n > 1 ? at_fail(err, AT_EINPUT, "%d of %d images could not be read", bad, n)
                     : at_error_exit_status(AT_EINPUT);
    at_node_free(result);
    predictor_fini(&p);
    return code;
}

static int run(int argc, char **argv, at_error *err)
{
    args a = {0};
    int code = cli_parse(options, &a, argc, argv, 2, -1, err);
    if (code > 0) {
        int images = code - 1;
        char *path = cli_model_path(argv[0], err);
        code = path ? predict_all(&a, path, argv + 1, images, err) : err->code;
        free(path);
    }
    at_options_fini(options, &a);
    return code;
}

const cli_command cmd_predict = {
    .name = "predict",
    .usage = "MODEL.h5|RUN IMAGE... [--top K] [--json]",
    .summary = "name what image files show",
    .help =
        "Images of any size come to the network's input as in its training (train --fit). They are "
        "decoded in a\nprocess that can do nothing else: one that makes it crash or hang, or is "
        "over a limit, gets an error by\nits name, the others are answered, and the exit status is "
        "3. IMAGE may be a pipe, and - is standard\ninput; a pipe that does not end within "
        "--max-seconds is given up.\n\n"
        "  atoll predict runs/1/model.h5 new/*.jpg --top 3\n"
        "  ssh camera cat last.jpg | atoll predict runs/1/model.h5 -",
    .options = options,
    .run = run};
