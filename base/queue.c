/* SPDX-License-Identifier: Apache-2.0
 * A bounded queue of pointers, many producers to many consumers. The mutex guards every field. */
#include "atoll/base.h"

#include <assert.h>
#include <pthread.h>
#include <stdlib.h>

struct at_queue {
    pthread_mutex_t mutex;
    pthread_cond_t not_full, not_empty;
    size_t capacity, first, count;
    bool closed;
    void *items[]; /* a ring */
};

at_queue *at_queue_new(size_t capacity)
{
    size_t bytes;
    if (capacity == 0)
        capacity = 1;
    if (!at_mul(capacity, sizeof(void *), SIZE_MAX / 2, &bytes))
        return NULL;
    at_queue *q = calloc(1, sizeof *q + bytes);
    if (!q)
        return NULL;
    q->capacity = capacity;
    pthread_mutex_init(&q->mutex, NULL);
    pthread_cond_init(&q->not_full, NULL);
    pthread_cond_init(&q->not_empty, NULL);
    return q;
}

bool at_queue_push(at_queue *q, void *item)
{
    assert(item); /* NULL is how pop says that the queue has ended */
    pthread_mutex_lock(&q->mutex);
    while (q->count == q->capacity && !q->closed)
        pthread_cond_wait(&q->not_full, &q->mutex);
    bool open = !q->closed;
    if (open) {
        q->items[(q->first + q->count++) % q->capacity] = item;
        pthread_cond_signal(&q->not_empty);
    }
    pthread_mutex_unlock(&q->mutex);
    return open;
}

void *at_queue_pop(at_queue *q)
{
    void *item = NULL;
    pthread_mutex_lock(&q->mutex);
    while (q->count == 0 && !q->closed)
        pthread_cond_wait(&q->not_empty, &q->mutex);
    if (q->count) {
        item = q->items[q->first];
        q->first = (q->first + 1) % q->capacity;
        q->count--;
        pthread_cond_signal(&q->not_full);
    }
    pthread_mutex_unlock(&q->mutex);
    return item;
}

void at_queue_close(at_queue *q)
{
    pthread_mutex_lock(&q->mutex);
    q->closed = true;
    pthread_cond_broadcast(&q->not_full);
    pthread_cond_broadcast(&q->not_empty);
    pthread_mutex_unlock(&q->mutex);
}

void at_queue_free(at_queue *q)
{
    if (!q)
        return;
    pthread_cond_destroy(&q->not_empty);
    pthread_cond_destroy(&q->not_full);
    pthread_mutex_destroy(&q->mutex);
    free(q);
}
