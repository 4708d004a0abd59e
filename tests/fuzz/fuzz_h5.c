/* SPDX-License-Identifier: Apache-2.0
 * The first layout of HDF5, in which Keras and we write models: groups, attributes and tensors of a damaged file.
 */
#include "../../nn/h5_classic.h"
#include "fuzz.h"

#include <stdlib.h>

enum { MOST_FLOATS = 1 << 16, DEPTH = 4 };

static const char *const attributes[] = {"layer_names", "weight_names", "model_config", "keras_version", "atoll_rows"};

static void read_floats(const h5_classic *c, const char *path)
{
    at_error err = {0};
    int64_t dims[8] = {0};
    int ndims = 0;
    size_t count = 1;
    if (classic_shape(c, path, &ndims, dims, &err) != AT_OK)
        return;
    for (int i = 0; i < ndims; i++)
        if (dims[i] < 0 || !at_mul(count, (size_t)dims[i], MOST_FLOATS, &count))
            return;
    float *data = malloc(count * sizeof *data + 1);
    if (data)
        classic_floats(c, path, data, count, &err);
    free(data);
}

static void walk(const h5_classic *c, const char *path, int depth)
{
    at_error err = {0};
    h5_names names = {0};
    for (size_t i = 0; i < sizeof attributes / sizeof *attributes; i++) {
        h5_names values = {0};
        bool found = false;
        classic_strings(c, path, attributes[i], &values, &found, &err);
        h5_names_fini(&values);
    }
    read_floats(c, path);
    if (depth < DEPTH && classic_members(c, path, &names, &err) == AT_OK)
        for (size_t i = 0; i < names.count && i < 16; i++) {
            char *below = at_format("%s/%s", path, names.items[i]);
            if (below)
                walk(c, below, depth + 1);
            free(below);
        }
    h5_names_fini(&names);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    at_error err = {0};
    h5_classic c = {.data = data, .bytes = size, .path = "input"};
    if (classic_check(&c, &err) == AT_OK)
        walk(&c, "", 0);
    else if (!err.message[0])
        abort();
    return 0;
}
