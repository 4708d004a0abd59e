/* SPDX-License-Identifier: Apache-2.0
 * EXIF blocks: what is read of one is JSON, and an orientation is one of eight.
 */
#include "../../datasets/internal.h"
#include "fuzz.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    at_error err = {0};
    at_text json = {0};
    int orientation = at_exif_orientation(data, size);
    if (orientation < 1 || orientation > 8)
        abort();
    at_exif_read(data, size, &json);
    at_node *tree = json.length ? at_json_parse(json.data, json.length, "exif", &err) : NULL;
    if (json.length && !tree)
        abort();
    at_node_free(tree);
    at_text_fini(&json);
    return 0;
}
