/* SPDX-License-Identifier: Apache-2.0
 * LeNet-5 (LeCun et al., "Gradient-based learning applied to document recognition", 1998) with ReLU
 * and max pooling: 61,706 parameters for ten classes on 1x32x32. A smaller image is padded by 2 in
 * the first convolution, as the paper pads its 28x28 digits to 32x32, which leaves the number of
 * parameters as it is.
 */
#include "models.h"

static const char *emit(at_graph *g, const at_model_spec *spec, const char *data, at_error *err)
{
    int smaller = spec->height < spec->width ? spec->height : spec->width;
    int pad = smaller < 32 ? 2 : 0;
    int left = ((smaller + 2 * pad - 4) / 2 - 4) / 2;
    if (left < 1) {
        at_fail(err, AT_EINPUT, "model lenet: images of %dx%d are too small, 12x12 is the least",
                spec->height, spec->width);
        return NULL;
    }
    at_graph_add(g, "c1", "conv", data, "out=6 k=5 stride=1 pad=%d bias=1", pad);
    at_graph_add(g, "r1", "relu", "c1", "%s", "");
    at_graph_add(g, "p1", "pool", "r1", "kind=max k=2 stride=2 pad=0");
    at_graph_add(g, "c2", "conv", "p1", "out=16 k=5 stride=1 pad=0 bias=1");
    at_graph_add(g, "r2", "relu", "c2", "%s", "");
    at_graph_add(g, "p2", "pool", "r2", "kind=max k=2 stride=2 pad=0");
    at_graph_add(g, "flat", "flatten", "p2", "%s", "");
    at_graph_add(g, "d1", "dense", "flat", "out=120 bias=1");
    at_graph_add(g, "r3", "relu", "d1", "%s", "");
    at_graph_add(g, "d2", "dense", "r3", "out=84 bias=1");
    at_graph_add(g, "r4", "relu", "d2", "%s", "");
    at_graph_add(g, "logits", "dense", "r4", "out=%d bias=1", spec->classes);
    return "logits";
}

const at_model at_model_lenet = {
    .name = "lenet",
    .summary = "LeNet-5 with ReLU and max pooling; 61,706 parameters on 1x32x32 and 1x28x28",
    .emit = emit,
};
