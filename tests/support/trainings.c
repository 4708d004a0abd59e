/* SPDX-License-Identifier: Apache-2.0
 * Parts of a training for tests. */
#include "trainings.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

at_train_config training_config(const char *keys)
{
    at_train_config c = {0};
    at_error err = {0};
    int code = at_options_init(at_train_options, &c, &err);
    char *copy = strdup(keys), *rest = copy;
    assert_non_null(copy);
    for (char *key; code == 0 && (key = strsep(&rest, " "));) {
        char *value = strchr(key, '=');
        if (!value)
            continue;
        *value++ = 0;
        code = at_options_set(at_train_options, &c, key, value, "test", &err);
    }
    free(copy);
    if (code)
        fail_msg("%s", err.message);
    return c;
}

static at_net *make(int side, int classes, uint64_t seed, bool normed)
{
    at_error err = {0};
    at_graph *g = at_graph_new();
    at_graph_add(g, "data", "input", "", "channels=1 height=%d width=%d", side, side);
    at_graph_add(g, "scale", "rescale", "data", "%s", "");
    if (normed)
        at_graph_add(g, "norm", "bn", "scale", "%s", "");
    at_graph_add(g, "flat", "flatten", normed ? "norm" : "scale", "%s", "");
    at_graph_add(g, "logits", "dense", "flat", "out=%d", classes);
    at_graph_add(g, "loss", "softmax_loss", "logits", "%s", "");
    at_net *net = at_net_new(g, seed, &err);
    if (!net)
        fail_msg("%s", err.message);
    at_graph_free(g);
    return net;
}

at_net *training_dense_net(int side, int classes, uint64_t seed)
{
    return make(side, classes, seed, false);
}

at_net *training_normed_net(int side, int classes, uint64_t seed)
{
    return make(side, classes, seed, true);
}
