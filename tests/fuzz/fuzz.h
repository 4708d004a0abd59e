/* SPDX-License-Identifier: Apache-2.0
 * What the fuzz targets share. A target is a file fuzz_<name>.c with LLVMFuzzerTestOneInput; its first inputs lie in
 * seeds/<name>/. It calls what reads such bytes in earnest and uses what comes out; crashes, sanitizers' findings, runs
 * of over 10 s and abort() are failures. `scripts/fuzz` builds and runs them.
 */
#ifndef ATOLL_FUZZ_H
#define ATOLL_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A file of this name in the process's own folder, which is removed at exit; the path lasts until the next call.
 * Aborts where it cannot be written. */
const char *fuzz_file(const char *name, const uint8_t *data, size_t size);
/* The same of a copy in which seal() has made right what a checksum would refuse. */
void fuzz_sealed_file(const char *name, const uint8_t *data, size_t size, void (*seal)(uint8_t *file, size_t size));
const char *fuzz_folder(void);

#endif
