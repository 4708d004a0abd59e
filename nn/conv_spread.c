/* SPDX-License-Identifier: Apache-2.0
 * conv_spread: gradients of a convolution's input that the primitive cannot write where they belong:
 * one that is added to what another op wrote there before, and that of a 1x1 convolution with a
 * stride, the shortcut of a residual block: only the pixels that it reads have a gradient, a quarter
 * of them at a stride of 2, so only these are computed, and only these are added.
 */
#include "conv.h"

#include <string.h>

enum { LEAST_LANES = 8 };

bool conv_thin_can(const dnn_conv_spec *spec, int64_t src_lanes)
{
    const nn_window *w = &spec->window;
    bool strided = w->kh == 1 && w->kw == 1 && w->sh * w->sw > 1 && !w->ph && !w->pw;
    return spec->direction == DNN_BACKWARD_DATA && strided && spec->groups == 1 &&
           src_lanes >= LEAST_LANES;
}

dnn_conv_spec conv_thin_spec(const dnn_conv_spec *spec)
{
    dnn_conv_spec thin = *spec;
    thin.src.h = spec->dst.h;
    thin.src.w = spec->dst.w;
    thin.window.sh = thin.window.sw = 1;
    return thin;
}

bool conv_spread_needed(const conv_pass *pass)
{
    bool adds = pass->spec.direction == DNN_BACKWARD_DATA && pass->spec.sum;
    return pass->kind == CONV_THIN || (pass->kind == CONV_LIBRARY && adds);
}

static bool is_bf16(const conv_pass *pass)
{
    return pass->spec.precision == AT_BF16;
}

static size_t number_bytes(const conv_pass *pass)
{
    return is_bf16(pass) ? sizeof(uint16_t) : sizeof(float);
}

static void add_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const conv_pass *pass = context;
    pass->plan->kernels->add(is_bf16(pass), pass->part, pass->whole, begin, end);
}

/* Numbers of a block of channels of the pixels that are read. */
static int64_t thin_plane(const conv_pass *pass)
{
    return pass->spec.dst.h * pass->spec.dst.w * pass->spec.src_lanes;
}

/* Planes of h*w pixels, begin <= i < end, from planes of the pixels that the convolution reads. */
static void thin_part(void *context, int64_t begin, int64_t end, int thread)
{
    (void)thread;
    const conv_pass *pass = context;
    const dnn_conv_spec *s = &pass->spec;
    int64_t lanes = s->src_lanes;
    size_t pixel = (size_t)lanes * number_bytes(pass), row = (size_t)s->src.w * pixel;
    size_t plane = (size_t)s->src.h * row, part_row = (size_t)s->dst.w * pixel;
    for (int64_t i = begin; i < end; i++) {
        char *to = (char *)pass->whole + (size_t)i * plane;
        if (!s->sum)
            memset(to, 0, plane);
        for (int64_t y = 0; y < s->dst.h; y++, to += (size_t)s->window.sh * row) {
            const char *from = (char *)pass->part + (size_t)(i * s->dst.h + y) * part_row;
            for (int64_t x = 0; x < s->dst.w; x++, from += pixel)
                pass->plan->kernels->add(is_bf16(pass), from,
                                         to + (size_t)(x * s->window.sw) * pixel, 0, lanes);
        }
    }
}

size_t conv_part_bytes(const conv_pass *pass)
{
    return pass->src ? dnn_call_bytes(pass->src, DNN_DST) : dnn_call_bytes(pass->main, DNN_SRC);
}

size_t conv_thin_bytes(const conv_pass *pass)
{
    const dnn_conv_spec *s = &pass->spec;
    return conv_part_bytes(pass) / (size_t)(s->dst.h * s->dst.w) * (size_t)(s->src.h * s->src.w);
}

void conv_spread(const conv_pass *pass)
{
    void *context = (void *)(uintptr_t)pass;
    size_t bytes = conv_part_bytes(pass);
    int64_t numbers = (int64_t)(bytes / number_bytes(pass)), part = thin_plane(pass);
    if (pass->kind == CONV_THIN)
        plan_parallel_bytes(pass->plan, numbers / part, bytes, thin_part, context);
    else
        plan_parallel_bytes(pass->plan, numbers, bytes, add_part, context);
}
