/* SPDX-License-Identifier: Apache-2.0
 * The report's pictures: test images with what the model says of them. Of the first SEEN images, evenly spread over
 * the split, the surest mistakes and the same number of right answers are shown.
 */
#include "report.h"

#include <stdlib.h>
#include <string.h>

enum { SEEN = 1000, SHOWN = 12, BATCH = 50 };

typedef struct guess {
    size_t sample;
    int32_t truth, said;
    float score;
} guess;

typedef struct gallery {
    at_dataset *data;
    at_net *net;
    at_plan *plan;
    at_split split;
    uint8_t *pixels;
    at_frame frame;
    at_decoder *decoder;
    int classes;
    guess *guesses;
    size_t count;
} gallery;

static size_t sample_bytes(const gallery *g)
{
    return (size_t)g->frame.height * (size_t)g->frame.width * (size_t)g->frame.channels;
}

static int decode_sample(const gallery *g, size_t i, at_image *image, int32_t *label, at_error *err)
{
    at_sample s;
    const char *reason;
    int code = at_dataset_sample(g->data, g->split, i, &s, err);
    if (code < 0)
        return code;
    *label = s.label;
    return at_image_decode(s.bytes, s.size, at_dataset_limits(g->data), image, &reason, err);
}

/* As a cache has them. */
static int load_pixels(const gallery *g, size_t i, uint8_t *out, int32_t *label, at_error *err)
{
    at_sample s;
    at_image view;
    int code = at_dataset_sample(g->data, g->split, i, &s, err);
    if (code < 0)
        return code;
    *label = s.label;
    code = at_decoder_decode(g->decoder, s.bytes, s.size, at_dataset_limits(g->data), &view, NULL,
                             err);
    return code < 0 ? code : at_image_frame(&view, &g->frame, out, err);
}

static void keep_guess(gallery *g, size_t sample, int32_t truth, const float *scores)
{
    guess best = {.sample = sample, .truth = truth, .score = scores[0]};
    for (int k = 1; k < g->classes; k++)
        if (scores[k] > best.score) {
            best.score = scores[k];
            best.said = k;
        }
    g->guesses[g->count++] = best;
}

static int guess_batch(gallery *g, size_t first, size_t n, size_t stride, at_error *err)
{
    int32_t labels[BATCH];
    size_t bytes = sample_bytes(g);
    for (size_t i = 0; i < n; i++) {
        int code = load_pixels(g, (first + i) * stride, g->pixels + i * bytes, &labels[i], err);
        if (code < 0)
            return code;
    }
    int code = at_plan_infer(g->plan, &(at_plan_input){.pixels = g->pixels}, NULL, err);
    for (size_t i = 0; i < n && code == 0; i++)
        keep_guess(g, (first + i) * stride, labels[i],
                   at_plan_scores(g->plan) + i * (size_t)g->classes);
    return code;
}

/* Mistakes first, the surest of them first; then the right ones, the least sure last. */
static int by_interest(const void *a, const void *b)
{
    const guess *x = a, *y = b;
    int wrong = (y->truth != y->said) - (x->truth != x->said);
    return wrong                  ? wrong
           : x->score != y->score ? (x->score < y->score) - (x->score > y->score)
                                  : (x->sample > y->sample) - (x->sample < y->sample);
}

static int draw_guess(at_text *page, const gallery *g, const guess *one, at_error *err)
{
    at_image image = {0};
    void *png = NULL;
    size_t bytes = 0;
    int32_t label;
    int code = decode_sample(g, one->sample, &image, &label, err);
    if (code == 0)
        code = at_image_encode_png(&image, &png, &bytes, err);
    if (code == 0) {
        at_text_add(page, "<figure class=%s>", one->truth == one->said ? "hit" : "miss");
        at_page_picture(page, png, bytes, at_dataset_sample_path(g->data, g->split, one->sample));
        at_text_add(page, "<figcaption>");
        at_html_text(page, at_dataset_class_name(g->data, (size_t)one->said));
        at_text_add(page, " %.0f%%", 100 * (double)one->score);
        if (one->truth != one->said) {
            at_text_add(page, "<br><small>it is ");
            at_html_text(page, at_dataset_class_name(g->data, (size_t)one->truth));
            at_text_add(page, "</small>");
        }
        at_text_add(page, "</figcaption></figure>\n");
    }
    free(png);
    at_image_fini(&image);
    return code;
}

static int draw_group(at_text *page, const gallery *g, bool wrong, const char *title, at_error *err)
{
    size_t shown = 0;
    int code = 0;
    at_text_add(page, "<h3>%s</h3><div class=gallery>\n", title);
    for (size_t i = 0; i < g->count && shown < SHOWN && code == 0; i++) {
        if ((g->guesses[i].truth != g->guesses[i].said) != wrong)
            continue;
        code = draw_guess(page, g, &g->guesses[i], err);
        shown++;
    }
    at_text_add(page, "</div>%s\n", shown ? "" : "<p class=note>none</p>");
    return code;
}

/* Pictures come to the network as they did in training. */
static at_net *load_model(gallery *g, const char *model, at_error *err)
{
    at_model_info info = {0};
    at_net *net = at_model_load(model, &info, err);
    if (net && info.fit && at_fit_parse(info.fit, &g->frame.fit, err) < 0) {
        at_net_free(net);
        net = NULL;
    }
    at_model_info_fini(&info);
    return net;
}

static int gallery_init(gallery *g, const char *model, const char *data, at_error *err)
{
    g->net = load_model(g, model, err);
    g->data = g->net ? at_dataset_open(data, err) : NULL;
    if (!g->data)
        return AT_EINPUT;
    g->split = at_dataset_count(g->data, AT_TEST) ? AT_TEST : AT_VAL;
    g->classes = at_net_classes(g->net);
    if ((size_t)g->classes != at_dataset_classes(g->data))
        return at_fail(err, AT_EINPUT, "%s knows %d classes, %s has %zu", model, g->classes, data,
                       at_dataset_classes(g->data));
    at_net_input_shape(g->net, &g->frame.channels, &g->frame.height, &g->frame.width);
    g->plan = at_plan_new(g->net, &(at_plan_options){.batch = BATCH, .constant = true}, err);
    g->pixels = at_alloc_aligned((size_t)BATCH * sample_bytes(g));
    g->guesses = calloc(SEEN, sizeof *g->guesses);
    g->decoder = at_decoder_new();
    if (g->decoder)
        at_decoder_reduce(g->decoder, (at_reduction){g->frame.height, g->frame.width, 0});
    return !g->plan ? AT_EFAIL : g->pixels && g->guesses && g->decoder ? 0 : at_nomem(err);
}

static void gallery_fini(gallery *g)
{
    at_plan_free(g->plan);
    at_net_free(g->net);
    at_dataset_close(g->data);
    at_decoder_free(g->decoder);
    at_free_aligned(g->pixels);
    free(g->guesses);
}

static int draw_gallery(at_text *page, gallery *g, at_error *err)
{
    size_t all = at_dataset_count(g->data, g->split), seen = all < SEEN ? all : SEEN;
    int code = 0;
    for (size_t at = 0; at < seen && code == 0; at += BATCH)
        code = guess_batch(g, at, seen - at < BATCH ? seen - at : BATCH, all / seen, err);
    if (code < 0 || seen == 0)
        return code;
    qsort(g->guesses, g->count, sizeof *g->guesses, by_interest);
    at_text_add(page, "<section><h2>Sample predictions</h2>\n");
    code = draw_group(page, g, true, "Surest mistakes", err);
    code = code < 0 ? code : draw_group(page, g, false, "Right", err);
    at_text_add(page,
                "<p class=note>From %zu images, evenly spread over the %s split.</p></section>\n",
                seen, at_split_name(g->split));
    return code;
}

int at_report_samples(at_text *page, const char *run, const char *data, at_error *err)
{
    char *model = at_path_join(run, "model.h5");
    if (!model)
        return at_nomem(err);
    gallery g = {0};
    int code = 0;
    if (data && at_file_exists(model)) {
        code = gallery_init(&g, model, data, err);
        code = code < 0 ? code : draw_gallery(page, &g, err);
    }
    gallery_fini(&g);
    free(model);
    return code;
}
