/* SPDX-License-Identifier: Apache-2.0
 * A libjpeg with faults. In a test that calls a function of this file, its jpeg_start_decompress stands
 * before libjpeg's own, and misbehaves by the picture's width in every process but the test's own. So
 * does a decoder with a hole in it when somebody sends the picture that was made for the hole.
 *
 *     put_spoilt(dir, "cat/7.jpg", SPOILT_SEGV, 7);
 */
#ifndef ATOLL_TEST_SPOILT_JPEG_H
#define ATOLL_TEST_SPOILT_JPEG_H

#include "encode.h"

/* X(name, reason, what its detail says, whether sanitizers leave it as it is) */
#define SPOILT(X)                                                                                  \
    X(SEGV, "corrupt", "SIGSEGV", true)                                                            \
    X(ABORT, "corrupt", "SIGABRT", true)                                                           \
    X(FREE_TWICE, "corrupt", "SIGABRT", false)                                                     \
    X(FPE, "corrupt", "SIGFPE", true)                                                              \
    X(LOOP, "timeout", "--max-seconds", true)                                                      \
    X(SLEEP, "timeout", "--max-seconds", true)                                                     \
    X(STACK, "corrupt", "SIGSEGV", true)                                                           \
    X(MEMORY, "too-large", "memory", false)                                                        \
    X(EXIT, "corrupt", "status 3", true)                                                           \
    X(OPEN, "corrupt", "SIGSYS", true)                                                             \
    X(FORK, "corrupt", "SIGSYS", true)                                                             \
    X(SOCKET, "corrupt", "SIGSYS", true)                                                           \
    X(EXEC, "corrupt", "SIGSYS", true)                                                             \
    X(KILL, "corrupt", "SIGSYS", true)                                                             \
    X(CODE, "corrupt", "SIGSYS", true)
typedef enum { /* the picture's width */
               SPOILT_GOOD = 100,
#define X(name, reason, detail, everywhere) SPOILT_##name,
               SPOILT(X)
#undef X
                   SPOILT_END,
               SPOILT_NEXT,    /* decodes well, and what the process decodes after it crashes */
               SPOILT_SLOW,    /* decodes well after 20 ms of work */
               SPOILT_ANSWERS, /* decodes well, and fills what spoilt_answers() told with noise */
               SPOILT_FILES,   /* crashes where the process has a file besides its socket */
} spoilt_kind;
typedef struct spoilt_row {
    const char *reason, *detail; /* reason NULL: not to be tried under this build's sanitizer */
} spoilt_row;
spoilt_row spoilt_of(spoilt_kind kind); /* between SPOILT_GOOD and SPOILT_END */
encoded encode_spoilt(spoilt_kind kind, uint64_t seed);
void put_spoilt(const char *dir, const char *name, spoilt_kind kind, uint64_t seed);
/* Shared with the process that will decode. */
void spoilt_answers(void *bytes, size_t size);

#endif
