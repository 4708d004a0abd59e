/* SPDX-License-Identifier: Apache-2.0
 * Label files: the first byte chooses CSV or JSON lines.
 */
#include "../../datasets/internal.h"
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

static int take(void *context, const at_label_row *row, at_error *err)
{
    (void)err;
    *(size_t *)context += strlen(row->path) + strlen(row->label) + (row->split ? strlen(row->split) : 0);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    char *text = malloc(size);
    size_t letters = 0;
    at_error err = {0};
    if (!text)
        return 0;
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    if (at_label_rows(text, size - 1, data[0] & 1 ? "labels.csv" : "labels.jsonl", take, &letters, &err) < 0 &&
        !err.message[0])
        abort();
    free(text);
    return 0;
}
