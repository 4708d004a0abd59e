/* SPDX-License-Identifier: Apache-2.0
 * DATASET/images.idx: of a data set that is made at first; what tells that the index is of this catalog, and its CRC,
 * are made right, so that its sizes and entries are reached. Whatever they say, an image that is handed over lies in a
 * shard and has its CRC.
 */
#include "../../datasets/internal.h"
#include "fuzz.h"

#include <stdlib.h>
#include <string.h>

enum { IMAGES = 12, SIDE = 4, MOST_BYTES = 1 << 20 };
enum { CRC_AT = 4, STAMPS_AT = 8, STAMPS = 16 + 64 }; /* the catalog's size and changes, the data set's hash */

static char *dataset, *index_path;
static uint8_t head[STAMPS_AT + STAMPS]; /* of the index that ingest wrote */

static void forget(void)
{
    char *folder = at_path_join(fuzz_folder(), "made");
    at_remove_tree(folder, NULL);
    free(folder);
    free(dataset);
    free(index_path);
}

static void put(const char *folder, const char *name, const uint8_t *bytes, size_t size)
{
    char *path = at_path_join(folder, name);
    if (!path || at_file_write(path, bytes, size, NULL))
        abort();
    free(path);
}

/* idx files of IMAGES grey pictures in three classes. */
static void make_dataset(void)
{
    uint8_t pixels[16 + IMAGES * SIDE * SIDE] = {0, 0, 8, 3, 0, 0, 0, IMAGES, 0, 0, 0, SIDE, 0, 0, 0, SIDE};
    uint8_t labels[8 + IMAGES] = {0, 0, 8, 1, 0, 0, 0, IMAGES};
    for (size_t i = 0; i < IMAGES * SIDE * SIDE; i++)
        pixels[16 + i] = (uint8_t)(i * 7);
    for (size_t i = 0; i < IMAGES; i++)
        labels[8 + i] = (uint8_t)(i % 3);
    char *source = at_path_join(fuzz_folder(), "made/source");
    dataset = at_path_join(fuzz_folder(), "made/data");
    index_path = dataset ? at_path_join(dataset, "images.idx") : NULL;
    at_ingest_result made;
    at_error err = {0};
    if (!source || !index_path || at_make_dirs(source, &err))
        abort();
    atexit(forget);
    put(source, "train-images-idx3-ubyte", pixels, sizeof pixels);
    put(source, "train-labels-idx1-ubyte", labels, sizeof labels);
    char *whole;
    if (at_ingest(&(at_ingest_options){.source = source, .out = dataset, .jobs = 1}, &made, &err) ||
        at_file_read(index_path, MOST_BYTES, &whole, NULL, &err)) {
        fprintf(stderr, "%s\n", err.message);
        abort();
    }
    memcpy(head, whole, sizeof head);
    free(whole);
    free(source);
    at_progress_silence(true);
    at_log_set_level(AT_LOG_ERROR);
}

static void read_all(const at_dataset *d)
{
    for (int split = 0; split < AT_SPLITS; split++)
        for (size_t i = 0; i < at_dataset_count(d, (at_split)split); i++) {
            at_sample s;
            at_error err = {0};
            const char *path = at_dataset_sample_path(d, (at_split)split, i);
            if (!path || strlen(path) > MOST_BYTES)
                abort();
            if (at_dataset_sample(d, (at_split)split, i, &s, &err) < 0 ? !err.message[0]
                                                                       : s.size && !s.bytes)
                abort();
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!dataset)
        make_dataset();
    if (size < sizeof head || size > MOST_BYTES)
        return 0;
    uint8_t *file = malloc(size);
    if (!file)
        return 0;
    memcpy(file, data, size);
    memcpy(file, head, sizeof head);
    uint32_t crc = at_crc32c(0, file + STAMPS_AT, size - STAMPS_AT);
    memcpy(file + CRC_AT, &crc, sizeof crc);
    FILE *f = fopen(index_path, "wb");
    if (!f || fwrite(file, 1, size, f) != size || fclose(f))
        abort();
    free(file);
    at_error err = {0};
    at_dataset *d = at_dataset_open(dataset, &err);
    if (d)
        read_all(d);
    else if (!err.message[0])
        abort();
    at_dataset_close(d);
    return 0;
}
