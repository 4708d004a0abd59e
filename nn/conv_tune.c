/* SPDX-License-Identifier: Apache-2.0
 * conv_tune: which implementation a convolution takes. Candidates are the library's direct and
 * Winograd algorithms, in the layouts that the tensors have and in those that the library would
 * choose, whose reorders are then part of the time. A later candidate must be a tenth faster than
 * an earlier one, so that noise does not change the choice from one machine of a kind to the next.
 */
#include "conv.h"

#include <stdlib.h>
#include <string.h>

enum { CANDIDATES = 4, REPEATS = 3, MOST_MEMORY = 7 };

static dnn_conv_spec candidate_spec(const dnn_conv_spec *spec, int i, int64_t src_lanes,
                                    int64_t dst_lanes)
{
    dnn_conv_spec s = *spec;
    s.winograd = i % 2 == 0;
    s.src_lanes = i < 2 ? src_lanes : 0;
    s.dst_lanes = i < 2 ? dst_lanes : 0;
    return s;
}

/* Whether the two run the same primitives. */
static bool same_pass(const conv_pass *a, const conv_pass *b)
{
    return !strcmp(dnn_call_name(a->main), dnn_call_name(b->main)) &&
           dnn_call_lanes(a->main, DNN_SRC) == dnn_call_lanes(b->main, DNN_SRC) &&
           dnn_call_lanes(a->main, DNN_DST) == dnn_call_lanes(b->main, DNN_DST);
}

/* Memory for trying passes out; freed together. */
typedef struct trial_memory {
    void *blocks[MOST_MEMORY + 4];
    int count;
} trial_memory;

static int trial_want(void *context, void **to, size_t bytes, at_error *err)
{
    trial_memory *t = context;
    *to = at_alloc_aligned(bytes ? bytes : 1);
    if (!*to)
        return at_nomem(err);
    t->blocks[t->count++] = *to;
    return 0;
}

static void trial_fini(trial_memory *t)
{
    while (t->count > 0)
        at_free_aligned(t->blocks[--t->count]);
}

static size_t tensor_bytes(const conv_pass *pass, dnn_slot slot, const dnn_call *reorder)
{
    size_t theirs = dnn_call_bytes(pass->main, slot);
    size_t ours = reorder ? dnn_call_bytes(reorder, slot) : 0;
    size_t other = reorder ? dnn_call_bytes(reorder, slot == DNN_SRC ? DNN_DST : DNN_SRC) : 0;
    theirs = theirs > ours ? theirs : ours;
    return theirs > other ? theirs : other;
}

static double best_of(int (*run)(const conv_pass *, at_error *), const conv_pass *pass, int *status,
                      at_error *err)
{
    double best = 1e30;
    *status = run(pass, err);
    for (int i = 0; i < REPEATS && !*status; i++) {
        double start = at_now();
        *status = run(pass, err);
        double seconds = at_now() - start;
        best = seconds < best ? seconds : best;
    }
    return best;
}

static int run_main(const conv_pass *pass, at_error *err)
{
    return dnn_call_run(pass->main, err);
}

/* Runs the pass, or its primitive alone, on memory of its own. */
static int time_pass(conv_pass *pass, bool alone, double *seconds, at_error *err)
{
    trial_memory trial = {0};
    void *src = NULL, *dst = NULL, *weights = NULL, *bias = NULL;
    const dnn_conv_spec *s = &pass->spec;
    size_t kernel = (size_t)(s->src.c * s->dst.c * s->window.kh * s->window.kw) * sizeof(float);
    int status = trial_want(&trial, &src, tensor_bytes(pass, DNN_SRC, pass->src), err);
    if (!status)
        status = trial_want(&trial, &dst, tensor_bytes(pass, DNN_DST, pass->dst), err);
    if (!status)
        status = trial_want(&trial, &weights, kernel, err);
    if (!status)
        status = trial_want(&trial, &bias, (size_t)s->dst.c * sizeof(float), err);
    if (!status)
        status = conv_pass_memory(pass, trial_want, &trial, err);
    if (!status)
        status =
            conv_pass_bind(pass, &(conv_memory){src, weights, s->bias ? bias : NULL, dst}, err);
    if (!status)
        *seconds = best_of(alone ? run_main : conv_pass_run, pass, &status, err);
    trial_fini(&trial);
    return status;
}

/* All candidates that differ, in order; their number. Those that the library does not have are left
 * out. number[] is what the choice is remembered by. */
static int make_candidates(conv_pass *out, int *number, at_plan *p, const dnn_conv_spec *spec,
                           int64_t src_lanes, int64_t dst_lanes, at_error *err)
{
    int n = 0;
    for (int i = 0; i < CANDIDATES; i++) {
        dnn_conv_spec s = candidate_spec(spec, i, src_lanes, dst_lanes);
        if (conv_pass_new(&out[n], p->engine, &s, src_lanes, dst_lanes, err))
            continue;
        bool known = false;
        for (int j = 0; j < n; j++)
            known |= same_pass(&out[j], &out[n]);
        if (known)
            conv_pass_fini(&out[n]);
        else
            number[n++] = i;
    }
    return n;
}

static void make_key(char *key, size_t bytes, const at_plan *p, const dnn_conv_spec *s,
                     int64_t src_lanes, int64_t dst_lanes)
{
    const nn_window *w = &s->window;
    snprintf(key, bytes,
             "threads %d, direction %d, %s%s, n %lld, %lldx%lldx%lld to %lldx%lldx%lld, "
             "k %lldx%lld, stride %lldx%lld, pad %lldx%lld, lanes %lld %lld",
             p->options.threads, (int)s->direction, s->precision == AT_BF16 ? "bf16" : "fp32",
             s->bias ? " bias" : "", (long long)s->n, (long long)s->src.c, (long long)s->src.h,
             (long long)s->src.w, (long long)s->dst.c, (long long)s->dst.h, (long long)s->dst.w,
             (long long)w->kh, (long long)w->kw, (long long)w->sh, (long long)w->sw,
             (long long)w->ph, (long long)w->pw, (long long)src_lanes, (long long)dst_lanes);
}

/* The index of the fastest of n > 1 candidates. */
static int time_all(conv_pass *passes, int n, double *best, at_error *err)
{
    int chosen = 0;
    for (int i = 0; i < n; i++) {
        double seconds = 0;
        int status = time_pass(&passes[i], false, &seconds, err);
        if (status)
            return status;
        if (i == 0 || seconds < 0.9 * *best) {
            chosen = i;
            *best = seconds;
        }
    }
    return chosen;
}

int conv_tune(conv_pass *out, at_plan *p, const dnn_conv_spec *spec, int64_t src_lanes,
              int64_t dst_lanes, at_error *err)
{
    conv_pass passes[CANDIDATES];
    int number[CANDIDATES], chosen = 0;
    int n = make_candidates(passes, number, p, spec, src_lanes, dst_lanes, err);
    if (n == 0)
        return AT_EFAIL;
    if (n > 1) {
        char key[400];
        double seconds = 0;
        make_key(key, sizeof key, p, spec, src_lanes, dst_lanes);
        int known = conv_choice_find(key);
        for (chosen = n - 1; chosen >= 0 && number[chosen] != known;)
            chosen--;
        if (chosen < 0) {
            chosen = time_all(passes, n, &seconds, err);
            if (chosen >= 0)
                conv_choice_add(key, number[chosen], seconds);
        }
    }
    for (int i = 0; i < n; i++)
        if (i != chosen)
            conv_pass_fini(&passes[i]);
    if (chosen < 0)
        return chosen;
    *out = passes[chosen];
    return 0;
}

int conv_floor(at_plan *p, const conv_pass *chosen, int64_t src_lanes, int64_t dst_lanes,
               double *seconds, at_error *err)
{
    conv_pass passes[CANDIDATES];
    int number[CANDIDATES], status = 0;
    int n = make_candidates(passes, number, p, &chosen->spec, src_lanes, dst_lanes, err);
    *seconds = 1e30;
    for (int i = 0; i < n; i++) {
        double one = 1e30;
        if (!status)
            status = time_pass(&passes[i], true, &one, err);
        *seconds = one < *seconds ? one : *seconds;
        conv_pass_fini(&passes[i]);
    }
    return n ? status : AT_EFAIL;
}
