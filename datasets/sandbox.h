/* SPDX-License-Identifier: Apache-2.0
 * Pictures of strangers are decoded in a process of its own.
 *
 *     at_sandbox *s = at_sandbox_new(&limits, &wish, &err);  // while there are few threads: it forks
 *     at_sandbox_await(s, &filtered, &err);
 *     at_sandbox_examine(s, items, count, &err);         // any number of times, one thread
 *     at_sandbox_free(s);
 *
 *     parent ──fork──▶ guard ──fork──▶ worker          parent: this process
 *        └── orders, answers: shared memory ──┘
 *
 * The worker decodes what lies in the orders, and can do nothing else: it has no file but its end of
 * a socket pair, its memory is limited, and of the system's calls a filter leaves it those that
 * memory needs; any other one ends it. The guard is a small process without threads, which forks the
 * first worker and, when one has died, tells of its end and forks the next one. When the parent
 * dies, however it may, the guard is killed with it, and the worker with the guard.
 *
 * A picture's result depends on its bytes and the limits alone, not on what the worker decoded
 * before: a picture at which a worker ends is given to a new one, and only one that ends a new worker
 * is blamed. Nothing in the answers is believed: what is out of range is that picture's "corrupt".
 */
#ifndef ATOLL_DATASETS_SANDBOX_H
#define ATOLL_DATASETS_SANDBOX_H

#include "internal.h"

#include <stdatomic.h>
#include <sys/types.h>

typedef struct at_sandbox at_sandbox;
/* What is wanted of every picture. */
typedef struct at_wish {
    bool facts;     /* hash, crc, .seen and .exif */
    at_frame frame; /* .frame, in .frame_channels; height 0: it is not wanted. Beside facts a picture
                     * of which it cannot be made, or not in time, is good all the same. */
} at_wish;
/* NULL: no process could be started. */
at_sandbox *at_sandbox_new(const at_decode_limits *limits, const at_wish *wish, at_error *err);
/* Waits till the worker is shut in. *filtered: whether this system has filters for its calls. */
int at_sandbox_await(at_sandbox *s, bool *filtered, at_error *err);
void at_sandbox_warn(void); /* for people: it has none */
/* Fills what is wanted of items that have their bytes; what is wrong with one is recorded in it.
 * Negative: workers cannot be had any more; some of the items are as before. */
int at_sandbox_examine(at_sandbox *s, at_item *const items[], size_t count, at_error *err);
/* Nothing is asked any more: its processes end by themselves, and free, which follows, waits less. */
void at_sandbox_finish(at_sandbox *s);
void at_sandbox_free(at_sandbox *s);

/* ---- what the three processes share (sandbox_*.c) ------------- */
enum {
    AT_ORDER_ITEMS = AT_CHUNK_ITEMS,
    AT_EXIF_BYTES = 512 << 10, /* of a picture's JSON; more is left out */
    AT_SEIZED = 97, /* the exit status of a worker out of memory, if pictures before have some */
};
typedef struct at_orders { /* written by the parent, between requests; read-only to the worker */
    atomic_uint asked; /* the number of the last request */
    size_t count, capacity;
    struct {
        size_t at, size;
    } items[AT_ORDER_ITEMS];
    uint8_t bytes[]; /* capacity */
} at_orders;
typedef struct at_answer {
    int bad; /* or 0 */
    at_reason reason;
    char detail[200];
    at_seen seen;
    size_t exif;  /* bytes of its JSON */
    int channels; /* of its frame; 0: none was made */
} at_answer;
typedef struct at_answers { /* written by the worker: anything may be in here */
    atomic_uint answered;   /* the number of the last request that is done */
    atomic_uint finished;   /* items of the present one */
    at_answer items[AT_ORDER_ITEMS];
    char exif[AT_ORDER_ITEMS][AT_EXIF_BYTES];
} at_answers;

/* The worker tells by a byte that it is ready, and that a request is done. */
enum { AT_READY = 'r', AT_READY_UNFILTERED = 'u', AT_DONE = 'd' };
/* What the guard tells. */
typedef enum { AT_WORKER_STARTED, AT_WORKER_FAILED, AT_WORKER_DIED } at_guard_word;
typedef struct at_guard_message {
    at_guard_word word;
    int value; /* pid; errno; exit status or negative: signal */
} at_guard_message;

typedef struct at_cell { /* copied by fork: a worker cannot change the parent's limits and wish */
    at_decode_limits limits;
    at_wish wish;
    at_orders *orders;
    at_answers *answers;
    uint8_t *frames; /* [frame_count][frame_bytes], written by the worker; NULL: none are wanted */
    size_t orders_bytes, frame_bytes, frame_count;
    int work, guard; /* sockets to the parent */
} at_cell;
/* Sets what was wanted of the item, or what is wrong with it, by answer i, whatever that holds
 * (sandbox_answer.c). */
void at_answer_take(const at_cell *cell, size_t i, at_item *item);

_Noreturn void at_guard_main(const at_cell *cell, pid_t parent);

enum { AT_JAIL_WORK = 0 };      /* the only file of a worker: its end of the socket pair */
int at_jail_first_unused(void); /* descriptors from here on are to be closed */
/* Shuts this process in for good, with as much more memory as decoding within the limits, and making
 * a frame of frame_bytes of it, may take. *filtered: as in at_sandbox_await; false: it could not. */
bool at_jail_enter(const at_decode_limits *limits, size_t frame_bytes, bool *filtered);

#endif
