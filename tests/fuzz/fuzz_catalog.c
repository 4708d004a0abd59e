/* SPDX-License-Identifier: Apache-2.0
 * A data set whose catalog.db a stranger made: it opens or is refused with a message, and what it counts can be asked for.
 */
#include "../../datasets/internal.h"
#include "fuzz.h"

#include <stdlib.h>

enum { MOST_SAMPLES = 50 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    at_error err = {0};
    at_sample sample;
    int height, width, channels;
    fuzz_file("catalog.db", data, size);
    at_dataset *d = at_dataset_open(fuzz_folder(), &err);
    if (!d && !err.message[0])
        abort();
    for (int split = 0; d && split < AT_SPLITS; split++)
        for (size_t i = 0; i < at_dataset_count(d, split) && i < MOST_SAMPLES; i++)
            if (!at_dataset_sample_path(d, split, i) || at_dataset_sample(d, split, i, &sample, &err) == 0)
                abort(); /* there are no shards */
    if (d)
        at_dataset_shape(d, &height, &width, &channels);
    at_dataset_close(d);
    return 0;
}
