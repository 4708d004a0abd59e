/* SPDX-License-Identifier: Apache-2.0
 * normalize: (pixel - mean) / deviation with numbers a channel, as Keras' Normalization.
 */
#include "plan.h"

#include <stdlib.h>

static const at_option attributes[] = {
    {"mean", AT_OPT_STRING, offsetof(nn_normalize_attrs, mean_text), "0", "a number a channel",
     "X,X,..."},
    {"deviation", AT_OPT_STRING, offsetof(nn_normalize_attrs, deviation_text), "1",
     "a number a channel, above 0", "X,X,..."},
    {0},
};

/* "0.5" is meant for every channel, else there is one number a channel. */
static int parse_list(const nn_row *row, const char *key, const char *text, bool positive,
                      float *out, at_error *err)
{
    int64_t n = 0, channels = row->out.c;
    for (const char *s = text; *s;) {
        char *end = NULL;
        double value = strtod(s, &end);
        bool good = end != s && (*end == ',' || !*end) && value - value == 0;
        if (!good || n == channels || (positive && (float)value <= 0))
            return nn_misfit(row, err, "%s=%s to be %lld %snumbers with commas between", key, text,
                             (long long)channels, positive ? "positive " : "");
        out[n++] = (float)value;
        s = *end ? end + 1 : end;
    }
    if (n != channels && n != 1)
        return nn_misfit(row, err, "%s=%s to be %lld numbers, a number a channel", key, text,
                         (long long)channels);
    for (; n < channels; n++)
        out[n] = out[0];
    return 0;
}

static int infer(nn_row *row, at_error *err)
{
    nn_normalize_attrs *a = row->attrs;
    nn_same_shape(row, err);
    int status = parse_list(row, "mean", a->mean_text, false, a->mean, err);
    return status ? status
                  : parse_list(row, "deviation", a->deviation_text, true, a->deviation, err);
}

static void pixel(const nn_row *row, int64_t c, float *scale, float *offset)
{
    const nn_normalize_attrs *a = row->attrs;
    *scale = 1 / a->deviation[c];
    *offset = -a->mean[c] / a->deviation[c];
}

const at_layer at_layer_normalize = {
    .name = "normalize",
    .probes = {"mean=0.4,0.5,0.6 deviation=0.2,0.3,0.25"},
    .attributes = attributes,
    .attributes_bytes = sizeof(nn_normalize_attrs),
    .pixels = true,
    .infer = infer,
    .pixel = pixel,
    .build = plan_pixels_build,
};
