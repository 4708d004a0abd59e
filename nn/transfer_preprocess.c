/* SPDX-License-Identifier: Apache-2.0
 * What the weights of Keras Applications expect of pixels, as numbers for the rows "rescale" and
 * "normalize", so that a model keeps it. The numbers are those of keras.applications.imagenet_utils:
 *
 *     caffe   pixel - mean, not scaled; Keras turns RGB into BGR there, we turn the kernels of the
 *             first convolution into RGB instead (transfer.c): the means are listed as RGB here
 *     torch   (pixel / 255 - mean) / deviation
 *     tf      pixel / 127.5 - 1
 */
#include <atoll/nn.h>

#include <string.h>

typedef struct mode {
    const char *name;
    double scale, offset;
    bool per_channel; /* mean and deviation, of red, green and blue */
    float mean[3], deviation[3];
} mode;

static const mode modes[] = {
    {"caffe", 1, 0, true, {123.68f, 116.779f, 103.939f}, {1, 1, 1}},
    {"torch", 1.0 / 255, 0, true, {0.485f, 0.456f, 0.406f}, {0.229f, 0.224f, 0.225f}},
    {"tf", 1 / 127.5, -1, false, {0}, {0}},
};
enum { MODES = sizeof modes / sizeof *modes };

int at_preprocess(at_model_spec *spec, const char *name, at_error *err)
{
    const mode *m = modes;
    while (m < modes + MODES && strcmp(m->name, name) != 0)
        m++;
    if (m == modes + MODES)
        return at_fail(err, AT_EINPUT, "preprocess: \"%s\" is not one of caffe, torch, tf", name);
    if (m->per_channel && spec->channels != 3)
        return at_fail(err, AT_EINPUT,
                       "preprocess: %s is for images of 3 channels, these have %d; use tf, or the "
                       "data set's own mean and deviation (dataset)",
                       name, spec->channels);
    spec->scale = m->scale;
    spec->offset = m->offset;
    spec->mean = m->per_channel ? m->mean : NULL;
    spec->deviation = m->per_channel ? m->deviation : NULL;
    return 0;
}
