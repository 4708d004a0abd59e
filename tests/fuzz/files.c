/* SPDX-License-Identifier: Apache-2.0
 * Files of a fuzz target: in memory where /dev/shm is there, since one is written for every input.
 */
#include "fuzz.h"

#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char folder[64], path[PATH_MAX];

static void remove_folder(void)
{
    DIR *all = opendir(folder);
    for (struct dirent *e; all && (e = readdir(all));)
        if (snprintf(path, sizeof path, "%s/%s", folder, e->d_name) < (int)sizeof path)
            unlink(path);
    if (all)
        closedir(all);
    rmdir(folder);
}

const char *fuzz_folder(void)
{
    if (!folder[0]) {
        strcpy(folder, access("/dev/shm", W_OK) == 0 ? "/dev/shm/atoll-fuzz-XXXXXX" : "/tmp/atoll-fuzz-XXXXXX");
        if (!mkdtemp(folder))
            abort();
        atexit(remove_folder);
    }
    return folder;
}

const char *fuzz_file(const char *name, const uint8_t *data, size_t size)
{
    snprintf(path, sizeof path, "%s/%s", fuzz_folder(), name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(data, 1, size, f) != size || fclose(f))
        abort();
    return path;
}

void fuzz_sealed_file(const char *name, const uint8_t *data, size_t size, void (*seal)(uint8_t *file, size_t size))
{
    uint8_t *file = malloc(size);
    if (!file)
        abort();
    memcpy(file, data, size);
    seal(file, size);
    fuzz_file(name, file, size);
    free(file);
}
