/* SPDX-License-Identifier: Apache-2.0
 * conv_own: what our own kernels of convolution (conv_winograd.c, conv_amx.c) have in common: memory,
 * filters as the direction reads them, sums of all threads.
 */
#include "conv.h"

#include <string.h>

int conv_want_pieces(const conv_piece *pieces, size_t n, conv_want want, void *context,
                     at_error *err)
{
    int status = 0;
    for (size_t i = 0; i < n && !status; i++)
        if (pieces[i].bytes)
            status = want(context, i == 0, pieces[i].to, pieces[i].bytes, err);
    return status;
}

nn_filters conv_filters_of(const dnn_conv_spec *s, const float *weights)
{
    bool back = s->direction == DNN_BACKWARD_DATA;
    int64_t in_step = s->window.kh * s->window.kw, out_step = s->src.c * in_step;
    return (nn_filters){.weights = weights,
                        .outs = back ? s->src.c : s->dst.c,
                        .ins = back ? s->dst.c : s->src.c,
                        .out_step = back ? in_step : out_step,
                        .in_step = back ? out_step : in_step,
                        .turned = back};
}

void conv_total_bias(const double *sums, int64_t threads, int64_t step, int64_t channels,
                     float *bias)
{
    for (int64_t o = 0; o < channels; o++) {
        double sum = 0;
        for (int64_t t = 0; t < threads; t++)
            sum += sums[t * step + o];
        bias[o] = (float)sum;
    }
}

nn_watch conv_watch_of(const conv_memory *memory, int thread)
{
    if (!memory->watch)
        return (nn_watch){.kind = NN_WATCH_NOTHING};
    nn_watch w = *memory->watch;
    w.sum += w.step * thread;
    w.product += w.step * thread;
    return w;
}

void conv_watch_clear(const at_plan *p, const conv_memory *memory, int64_t channels)
{
    size_t bytes = (size_t)channels * sizeof(double);
    for (int t = 0; t < p->options.threads && memory->watch; t++) {
        nn_watch w = conv_watch_of(memory, t);
        memset(w.sum, 0, bytes);
        memset(w.product, 0, bytes);
    }
}
