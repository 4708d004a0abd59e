/* SPDX-License-Identifier: Apache-2.0
 * JSON: what is parsed can be printed, and the print parsed again.
 */
#include <atoll/base.h>

#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    at_error err = {0};
    at_node *tree = at_json_parse((const char *)data, size, "input", &err);
    if (!tree) {
        if (!err.message[0])
            abort();
        return 0;
    }
    char *text = at_json_print(tree, false);
    at_node *again = text ? at_json_parse(text, strlen(text), "print", &err) : NULL;
    if (text && !again)
        abort();
    at_node_free(again);
    free(text);
    at_node_free(tree);
    return 0;
}
