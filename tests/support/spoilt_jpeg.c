/* SPDX-License-Identifier: Apache-2.0
 * See spoilt_jpeg.h.
 */
#include "spoilt_jpeg.h"

#include "sources.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <jpeglib.h>

#include <cmocka.h>
#include <jerror.h>

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
enum { SANITIZED = 1 };
#else
enum { SANITIZED = 0 };
#endif

static boolean (*real_start)(j_decompress_ptr);
static pid_t own; /* the test's process */
static bool next_crashes;
static uint8_t *answers;
static size_t answers_size;

__attribute__((constructor)) static void set_up(void)
{
    *(void **)&real_start = dlsym(RTLD_NEXT, "jpeg_start_decompress");
    own = getpid();
}

void spoilt_answers(void *bytes, size_t size)
{
    answers = bytes;
    answers_size = size;
}

static void crash(void)
{
    static int *volatile nowhere = (int *)(uintptr_t)64;
    *nowhere = 1;
}

static int descend(volatile int depth)
{
    volatile char room[4096];
    room[0] = (char)depth;
    return depth < INT32_MAX ? descend(depth + 1) + room[0] : 0;
}

static void take_all_memory(j_decompress_ptr lib)
{
    void *volatile p;
    while ((p = malloc(1 << 20)))
        ;
    ERREXIT1(lib, JERR_OUT_OF_MEMORY, 0);
}

static void work(void)
{
    clock_t end = clock() + CLOCKS_PER_SEC / 50;
    while (clock() < end)
        ;
}

static void make_noise(unsigned seed)
{
    at_rng rng = at_rng_stream(seed, "noise", 0);
    for (size_t i = 0; i < answers_size; i++)
        answers[i] = (uint8_t)at_rng_next(&rng);
}

static void look_for_files(void)
{
    for (int fd = 1; fd < 1024; fd++)
        if (fcntl(fd, F_GETFD) >= 0 && !(SANITIZED && fd == STDERR_FILENO))
            crash();
}

static void misbehave(j_decompress_ptr lib)
{
    static char *const arguments[] = {(char *)(uintptr_t) "true", NULL};
    void *volatile p;
    char c;
    switch ((spoilt_kind)lib->image_width) {
    case SPOILT_SEGV:
        crash();
        break;
    case SPOILT_ABORT:
        abort();
    case SPOILT_FREE_TWICE:
        p = malloc(2000);
        free(p);
        free(p);
        break;
    case SPOILT_FPE:
        raise(SIGFPE);
        break;
    case SPOILT_LOOP:
        for (;;)
            lib->data_precision = 8;
    case SPOILT_SLEEP:
        while (read(0, &c, 1) >= 0)
            ;
        break;
    case SPOILT_STACK:
        descend(1);
        break;
    case SPOILT_MEMORY:
        take_all_memory(lib);
        break;
    case SPOILT_EXIT:
        _exit(3);
    case SPOILT_OPEN:
        if (open("/etc/hostname", O_RDONLY) < 0)
            break;
        break;
    case SPOILT_FORK:
        if (fork() == 0)
            _exit(0);
        break;
    case SPOILT_SOCKET:
        if (socket(AF_INET, SOCK_STREAM, 0) < 0)
            break;
        break;
    case SPOILT_EXEC:
        execv("/bin/true", arguments);
        break;
    case SPOILT_KILL:
        kill(getppid(), SIGKILL);
        break;
    case SPOILT_CODE:
        mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        break;
    case SPOILT_NEXT:
        next_crashes = true;
        break;
    case SPOILT_SLOW:
        work();
        break;
    case SPOILT_ANSWERS:
        make_noise(lib->image_height);
        break;
    case SPOILT_FILES:
        look_for_files();
        break;
    default:
        break;
    }
}

boolean jpeg_start_decompress(j_decompress_ptr lib)
{
    if (getpid() != own) {
        if (next_crashes)
            crash();
        misbehave(lib);
    }
    return real_start(lib);
}

spoilt_row spoilt_of(spoilt_kind kind)
{
    static const struct {
        spoilt_row row;
        bool everywhere;
    } rows[] = {
#define X(name, reason, detail, everywhere) {{reason, detail}, everywhere},
        SPOILT(X)
#undef X
    };
    size_t i = (size_t)(kind - SPOILT_GOOD - 1);
    return rows[i].everywhere || !SANITIZED ? rows[i].row : (spoilt_row){0};
}

/* The height differs, so that the contents of a kind do; no EXIF, 8 bits. */
encoded encode_spoilt(spoilt_kind kind, uint64_t seed)
{
    at_image image = paint_image((int)kind, 1 + (int)(seed % 50), 3, seed);
    encoded jpeg = encode_jpeg(&image, &(jpeg_spec){.quality = 80});
    at_image_fini(&image);
    return jpeg;
}

void put_spoilt(const char *dir, const char *name, spoilt_kind kind, uint64_t seed)
{
    encoded jpeg = encode_spoilt(kind, seed);
    put_file(dir, name, jpeg.bytes, jpeg.size);
    free(jpeg.bytes);
}
