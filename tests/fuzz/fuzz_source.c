/* SPDX-License-Identifier: Apache-2.0
 * Sources of one file: tar and zip archives (compressed ones too), idx and CIFAR binary, which are found by their names,
 * lists of addresses. The first byte chooses the name.
 */
#include "../../datasets/internal.h"
#include "fuzz.h"

#include <stdlib.h>
#include <unistd.h>

enum { MOST_ITEMS = 2000 };

static const char *const names[] = {"images.tar", "images.zip", "train-images-idx3-ubyte", "train-labels-idx1-ubyte",
                                    "data_batch_1.bin", "train.bin", "addresses.csv"};
enum { NAMES = sizeof names / sizeof *names };

static void read_all(const char *path)
{
    at_error err = {0};
    at_item item = {0};
    at_source *s = at_source_open(path, NULL, &err);
    int code = s ? 1 : err.code;
    for (int i = 0; i < MOST_ITEMS && code == 1; i++) {
        at_item_reset(&item);
        code = at_source_next(s, &item, &err);
        if (code == 1 && (!item.path.length || (item.bad && !item.detail[0])))
            abort();
    }
    if (code < 0 && !err.message[0])
        abort();
    at_item_fini(&item);
    at_source_close(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 1)
        return 0;
    size_t name = data[0] % NAMES;
    const char *path = fuzz_file(names[name], data + 1, size - 1);
    bool alone = name < 2 || name == NAMES - 1; /* the file itself is the source, else its folder */
    read_all(alone ? path : fuzz_folder());
    unlink(fuzz_file(names[name], NULL, 0));
    return 0;
}
