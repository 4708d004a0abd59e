/* SPDX-License-Identifier: Apache-2.0
 * conv_tune: which implementation a convolution takes. Candidates are the library's Winograd, where
 * it has one (its own guess at whether that pays is not asked), and direct algorithms, in the layouts
 * that the tensors have and in those that the library would choose, whose reorders are then part of
 * the time, and direct in NHWC and NCHW, where it has good kernels for channel counts that are no
 * multiple of a vector; then ours (conv_winograd.c, conv_spread.c). A sum has the layout of what is
 * there to add. The library's reference loops, a hundred times slower, are taken only where there is
 * nothing else. A later candidate must be a twentieth faster than an earlier one, so that noise does
 * not change the choice from one machine of a kind to the next. Where ours would do passes of batch
 * normalisation, the others take the time of moving the bytes of these besides. A fully connected
 * layer has two: the library's primitive for it, and ours.
 */
#include "conv.h"

#include <stdlib.h>
#include <string.h>

enum { CANDIDATES = 9, FIRST_ROUNDS = 3, TUNE_ROUNDS = 10, FLOOR_ROUNDS = 5 };
static const double far_behind = 1.5, behind = 1.2, faster = 0.95, most_seconds = 1.5;

static dnn_conv_spec candidate_spec(const dnn_conv_spec *spec, int i, int64_t src_lanes,
                                    int64_t dst_lanes, conv_kind *kind)
{
    dnn_conv_spec s = *spec;
    const struct {
        bool winograd;
        int64_t src, dst;
        conv_kind kind;
    } all[CANDIDATES] = {{true, src_lanes, dst_lanes},
                         {false, src_lanes, dst_lanes},
                         {true, 0, 0},
                         {false, 0, 0},
                         {false, s.src.c, s.dst.c},
                         {false, 1, 1},
                         {false, src_lanes, dst_lanes, CONV_OWN},
                         {false, src_lanes, dst_lanes, CONV_THIN},
                         {false, src_lanes, dst_lanes, CONV_DENSE}};
    s.winograd = all[i].winograd;
    s.src_lanes = all[i].src;
    bool onto_dst = spec->sum && spec->direction == DNN_FORWARD && dst_lanes;
    s.dst_lanes = onto_dst ? dst_lanes : all[i].dst;
    *kind = all[i].kind;
    return s;
}

/* A convolution of a vector is none: its output is a plane. */
static bool is_dense(const dnn_conv_spec *spec)
{
    return spec->src.vector && spec->dst.vector;
}

/* Candidate i, if there is such a one. */
static int make_candidate(conv_pass *out, at_plan *p, const dnn_conv_spec *spec, int i,
                          int64_t src_lanes, int64_t dst_lanes, at_error *err)
{
    conv_kind kind;
    dnn_conv_spec s = candidate_spec(spec, i, src_lanes, dst_lanes, &kind);
    if (kind != CONV_OWN && is_dense(spec) != (kind == CONV_DENSE))
        return AT_EFAIL;
    return conv_pass_new(out, p, &s, kind, src_lanes, dst_lanes, err);
}

static bool is_reference(const conv_pass *pass)
{
    return !strncmp(conv_pass_name(pass), "ref", 3);
}

/* Leaves the reference loops out where another candidate is there; the number that stay. */
static int drop_references(conv_pass *passes, int *number, int n)
{
    int kept = 0;
    for (int i = 0; i < n; i++) {
        if (is_reference(&passes[i]) && (kept > 0 || i + 1 < n)) {
            conv_pass_fini(&passes[i]);
            continue;
        }
        passes[kept] = passes[i];
        number[kept++] = number[i];
    }
    return kept;
}

/* Whether the two run the same primitives. */
static bool same_pass(const conv_pass *a, const conv_pass *b)
{
    return a->kind == b->kind && !strcmp(conv_pass_name(a), conv_pass_name(b)) &&
           conv_pass_lanes(a, DNN_SRC) == conv_pass_lanes(b, DNN_SRC) &&
           conv_pass_lanes(a, DNN_DST) == conv_pass_lanes(b, DNN_DST);
}

/* Memory for trying passes out, one after another: each lays its pieces out from the start. */
typedef struct trial_memory {
    char *base; /* NULL: only counts */
    size_t used;
} trial_memory;

static int trial_want(void *context, bool weights, void **to, size_t bytes, at_error *err)
{
    trial_memory *t = context;
    (void)weights;
    (void)err;
    *to = t->base ? t->base + t->used : NULL;
    t->used += (bytes + 63) / 64 * 64;
    return 0;
}

static size_t tensor_bytes(const conv_pass *pass, dnn_slot slot, const dnn_call *reorder)
{
    size_t theirs = conv_pass_bytes(pass, slot);
    size_t ours = reorder ? dnn_call_bytes(reorder, slot) : 0;
    size_t other = reorder ? dnn_call_bytes(reorder, slot == DNN_SRC ? DNN_DST : DNN_SRC) : 0;
    theirs = theirs > ours ? theirs : ours;
    return theirs > other ? theirs : other;
}

/* Lays the pass out in the trial's memory and binds it, if there is memory. */
static int prepare_trial(conv_pass *pass, trial_memory *trial, at_error *err)
{
    void *src = NULL, *dst = NULL, *weights = NULL, *bias = NULL;
    const dnn_conv_spec *s = &pass->spec;
    size_t kernel =
        (size_t)(s->src.c / s->groups * s->dst.c * s->window.kh * s->window.kw) * sizeof(float);
    trial->used = 0;
    trial_want(trial, false, &src, tensor_bytes(pass, DNN_SRC, pass->src), err);
    trial_want(trial, false, &dst, tensor_bytes(pass, DNN_DST, pass->dst), err);
    trial_want(trial, false, &weights, kernel, err);
    trial_want(trial, false, &bias, (size_t)s->dst.c * sizeof(float), err);
    int status = conv_pass_memory(pass, trial_want, trial, err);
    if (status || !trial->base)
        return status;
    return conv_pass_bind(pass, &(conv_memory){src, weights, s->bias ? bias : NULL, dst}, err);
}

/* One memory for all of them, as large as the largest needs. */
static int prepare_trials(conv_pass *passes, int n, trial_memory *trial, at_error *err)
{
    size_t most = 1;
    int status = 0;
    for (int i = 0; i < n && !status; i++) {
        status = prepare_trial(&passes[i], trial, err);
        most = trial->used > most ? trial->used : most;
    }
    trial->base = status ? NULL : at_alloc_aligned(most);
    if (!trial->base)
        return status ? status : at_nomem(err);
    for (int i = 0; i < n && !status; i++)
        status = prepare_trial(&passes[i], trial, err);
    return status;
}

/* What is timed: a step's work, a pass of inference whose weights are there, a primitive alone. */
typedef enum { TIME_STEP, TIME_READY, TIME_ALONE } time_what;

static int run_once(const conv_pass *pass, time_what what, double *seconds, at_error *err)
{
    double start = at_now();
    int status = what == TIME_STEP ? conv_pass_weights(pass, err) : 0;
    if (!status)
        status = what == TIME_ALONE && pass->kind == CONV_LIBRARY ? dnn_call_run(pass->main, err)
                                                                  : conv_pass_run(pass, err);
    *seconds = at_now() - start;
    return status;
}

/* Who stays for the next round, when so many were timed: only where a race is close are many needed. */
static int stay(const double *best, int n, int rounds, bool *in)
{
    double least = 1e30, most = rounds < FIRST_ROUNDS ? far_behind : behind;
    int left = 0;
    for (int i = 0; i < n; i++)
        least = best[i] < least ? best[i] : least;
    for (int i = 0; i < n; i++)
        left += in[i] = in[i] && best[i] <= most * least;
    return left;
}

/* A close race goes on, but for most_seconds at most: long convolutions are disturbed less. */
static bool goes_on(time_what what, int round, int left, double until)
{
    if (what == TIME_ALONE)
        return round <= FLOOR_ROUNDS;
    return round <= FIRST_ROUNDS || (round <= TUNE_ROUNDS && left > 1 && at_now() < until);
}

/* The shortest time of each pass. They take turns, so that a disturbance from outside meets all of
 * them; the first round only warms up. */
static int time_all(conv_pass *passes, int n, time_what what, double *best, at_error *err)
{
    trial_memory trial = {0};
    bool in[CANDIDATES];
    int status = prepare_trials(passes, n, &trial, err), left = n;
    double until = at_now() + most_seconds;
    for (int i = 0; i < n; i++) {
        best[i] = 1e30;
        in[i] = true;
    }
    for (int k = 0; !status && goes_on(what, k, left, until); k++) {
        for (int i = 0; i < n && !status; i++) {
            double seconds = 0;
            if (!in[i])
                continue;
            status = run_once(&passes[i], what, &seconds, err);
            if (k > 0 && seconds < best[i])
                best[i] = seconds;
        }
        left = stay(best, n, k, in);
    }
    at_free_aligned(trial.base);
    return status;
}

/* All candidates that differ, in order; their number. Those that the library does not have are left
 * out. number[] is what the choice is remembered by. */
static int make_candidates(conv_pass *out, int *number, at_plan *p, const dnn_conv_spec *spec,
                           int64_t src_lanes, int64_t dst_lanes, at_error *err)
{
    int n = 0;
    for (int i = 0; i < CANDIDATES; i++) {
        if (make_candidate(&out[n], p, spec, i, src_lanes, dst_lanes, err))
            continue;
        bool known = false;
        for (int j = 0; j < n; j++)
            known |= same_pass(&out[j], &out[n]);
        if (known)
            conv_pass_fini(&out[n]);
        else
            number[n++] = i;
    }
    return drop_references(out, number, n);
}

/* Batches of nearly one size share a choice. */
static void make_key(char *key, size_t bytes, const at_plan *p, const dnn_conv_spec *s,
                     int64_t src_lanes, int64_t dst_lanes, double spared)
{
    static const char *const directions[] = {"forward", "backward data", "backward weights"};
    static const char *const activations[] = {"", " relu", " gelu", " sigmoid", " tanh", " silu"};
    const nn_window *w = &s->window;
    int64_t n = 1;
    while (n < s->n)
        n *= 2;
    snprintf(key, bytes,
             "threads %d, %s%s%s, %s%s%s%s, n %lld, %lldx%lldx%lld to %lldx%lldx%lld, "
             "k %lldx%lld, stride %lldx%lld, pad %lldx%lld, dilation %lldx%lld, groups %lld, "
             "lanes %lld %lld, spares %.0f",
             p->options.threads, directions[s->direction], p->options.constant ? " alone" : "",
             is_dense(s) ? " dense" : "", s->precision == AT_BF16 ? "bf16" : "fp32",
             s->bias ? " bias" : "", s->sum ? " sum" : "", activations[s->activation], (long long)n,
             (long long)s->src.c, (long long)s->src.h, (long long)s->src.w, (long long)s->dst.c,
             (long long)s->dst.h, (long long)s->dst.w, (long long)w->kh, (long long)w->kw,
             (long long)w->sh, (long long)w->sw, (long long)w->ph, (long long)w->pw,
             (long long)w->dh, (long long)w->dw, (long long)s->groups, (long long)src_lanes,
             (long long)dst_lanes, spared);
}

static void move_part(void *context, int64_t begin, int64_t end, int thread)
{
    char *const *halves = context;
    (void)thread;
    memcpy(halves[1] + begin, halves[0] + begin, (size_t)(end - begin));
}

/* What it takes to move so many bytes, that are read or written. */
static double seconds_to_move(const at_plan *p, double bytes)
{
    enum { HALF = 64 << 20 }; /* not to be found in a cache */
    char *block = bytes > 0 ? at_alloc_aligned(2 * HALF) : NULL, *halves[] = {block, block + HALF};
    double best = 1e30;
    if (!block)
        return 0;
    memset(block, 1, 2 * HALF);
    for (int i = 0; i < FIRST_ROUNDS; i++) {
        double start = at_now();
        plan_parallel(p, HALF, move_part, halves);
        plan_note_time(&best, start);
    }
    at_free_aligned(block);
    return best * bytes / (2 * HALF);
}

/* The index of the fastest of n > 1 candidates. */
static int fastest(conv_pass *passes, int n, time_what what, double spared, double *seconds,
                   at_error *err)
{
    double best[CANDIDATES] = {0};
    int chosen = 0, status = time_all(passes, n, what, best, err);
    double more = seconds_to_move(passes[0].plan, spared);
    for (int i = 0; i < n; i++)
        best[i] += conv_pass_is_own(&passes[i]) ? 0 : more;
    for (int i = 1; i < n && !status; i++)
        if (best[i] < faster * best[chosen])
            chosen = i;
    *seconds = best[chosen];
    return status ? status : chosen;
}

/* What was found before, without making the others; false where it cannot be made (any more), or is
 * the library's last resort here: the others may be better. */
static bool take_known(conv_pass *out, const char *key, at_plan *p, const dnn_conv_spec *spec,
                       int64_t src_lanes, int64_t dst_lanes)
{
    int known = conv_choice_find(key);
    if (known < 0 || known >= CANDIDATES)
        return false;
    if (make_candidate(out, p, spec, known, src_lanes, dst_lanes, NULL))
        return false;
    if (is_reference(out))
        conv_pass_fini(out);
    return conv_pass_made(out);
}

/* For a plan that only wants to know sizes: the first that is there, direct ones before Winograd's. */
static int take_untimed(conv_pass *out, at_plan *p, const dnn_conv_spec *spec, int64_t src_lanes,
                        int64_t dst_lanes, at_error *err)
{
    for (int winograd = 0; winograd < 2; winograd++) {
        for (int i = 0; i < CANDIDATES; i++) {
            conv_kind kind;
            dnn_conv_spec s = candidate_spec(spec, i, src_lanes, dst_lanes, &kind);
            if (s.winograd == winograd &&
                !make_candidate(out, p, spec, i, src_lanes, dst_lanes, err))
                return 0;
        }
    }
    return AT_EFAIL;
}

int conv_tune(conv_pass *out, at_plan *p, const dnn_conv_spec *spec, int64_t src_lanes,
              int64_t dst_lanes, double spared, at_error *err)
{
    conv_pass passes[CANDIDATES];
    int number[CANDIDATES];
    char key[400];
    spared = conv_own_can(p, spec, src_lanes, dst_lanes) ? spared : 0;
    make_key(key, sizeof key, p, spec, src_lanes, dst_lanes, spared);
    if (take_known(out, key, p, spec, src_lanes, dst_lanes))
        return 0;
    if (p->sizing)
        return take_untimed(out, p, spec, src_lanes, dst_lanes, err);
    int n = make_candidates(passes, number, p, spec, src_lanes, dst_lanes, err);
    if (n == 0)
        return AT_EFAIL;
    double seconds = 0;
    time_what what = p->options.constant ? TIME_READY : TIME_STEP;
    int chosen = n > 1 ? fastest(passes, n, what, spared, &seconds, err) : 0;
    for (int i = 0; i < n; i++)
        if (i != chosen)
            conv_pass_fini(&passes[i]);
    if (chosen < 0)
        return chosen;
    conv_choice_add(key, number[chosen], seconds);
    *out = passes[chosen];
    return 0;
}

static int floor_of(const plan_op *op, const conv_pass *chosen, double *seconds, at_error *err)
{
    conv_pass passes[CANDIDATES];
    double best[CANDIDATES] = {0};
    int number[CANDIDATES];
    int n = make_candidates(passes, number, op->plan, &chosen->spec, plan_lanes(op->in[0]),
                            plan_lanes(op->out), err);
    int status = n ? time_all(passes, n, TIME_ALONE, best, err) : AT_EFAIL;
    *seconds = best[0];
    for (int i = 0; i < n; i++) {
        *seconds = best[i] < *seconds ? best[i] : *seconds;
        conv_pass_fini(&passes[i]);
    }
    return status;
}

int conv_floor(const plan_op *op, const conv_pass passes[DNN_DIRECTIONS], double *seconds,
               at_error *err)
{
    int status = 0;
    *seconds = 0;
    for (int i = 0; i < DNN_DIRECTIONS && !status; i++) {
        double one = 0;
        if (conv_pass_made(&passes[i]))
            status = floor_of(op, &passes[i], &one, err);
        *seconds += one;
    }
    return status;
}
