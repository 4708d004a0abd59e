/* SPDX-License-Identifier: Apache-2.0
 * A thread pool for loops of uneven work (decoding, filling caches).
 *
 * A run is a job on its caller's stack, hung on the pool's list; the caller works on it too, so
 * runs from several threads at once, and runs inside a run, always go forward. Threads draw the
 * next index from an atomic counter. Workers block all signals: those belong to the main thread. */
#include "atoll/base.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

typedef struct job {
    void (*fn)(void *context, size_t i);
    void *context;
    size_t n;
    atomic_size_t next;
    int helpers; /* workers inside; guarded by the pool's mutex, as is `after` */
    struct job *after;
} job;

struct at_pool {
    pthread_mutex_t mutex; /* guards jobs, stop and the jobs' helpers */
    pthread_cond_t wake;   /* a job came or stop was set */
    pthread_cond_t left;   /* a job's last helper left */
    job *jobs;
    bool stop;
    int threads;
    pthread_t thread[];
};

static void work(job *j)
{
    for (size_t i; (i = atomic_fetch_add(&j->next, 1)) < j->n;)
        j->fn(j->context, i);
}

static void unhang(at_pool *pool, const job *j)
{
    for (job **at = &pool->jobs; *at; at = &(*at)->after)
        if (*at == j) {
            *at = j->after;
            return;
        }
}

void at_give_way(pthread_mutex_t *held)
{
    pthread_mutex_unlock(held);
    sched_yield();
    pthread_mutex_lock(held);
}

static void await_job(at_pool *pool)
{
    for (int i = 0; i < AT_YIELDS && !pool->jobs && !pool->stop; i++)
        at_give_way(&pool->mutex);
    while (!pool->jobs && !pool->stop)
        pthread_cond_wait(&pool->wake, &pool->mutex);
}

static void *worker(void *argument)
{
    at_pool *pool = argument;
    pthread_mutex_lock(&pool->mutex);
    for (;;) {
        await_job(pool);
        if (!pool->jobs)
            break;
        job *j = pool->jobs;
        j->helpers++;
        pthread_mutex_unlock(&pool->mutex);
        work(j);
        pthread_mutex_lock(&pool->mutex);
        unhang(pool, j);
        if (--j->helpers == 0)
            pthread_cond_broadcast(&pool->left);
    }
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

/* Starts the workers with every signal blocked; the number of those that started is in ->threads.
 */
static int start_workers(at_pool *pool, int workers)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = 0;
    while (!rc && pool->threads < workers) {
        rc = pthread_create(&pool->thread[pool->threads], NULL, worker, pool);
        pool->threads += rc == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

at_pool *at_pool_new(int threads, at_error *err)
{
    if (threads <= 0)
        threads = at_cpu_count();
    int workers = threads - 1;
    at_pool *pool = calloc(1, sizeof *pool + (size_t)workers * sizeof pool->thread[0]);
    if (!pool) {
        at_nomem(err);
        return NULL;
    }
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->left, NULL);
    int rc = start_workers(pool, workers);
    if (rc) {
        at_fail(err, AT_EFAIL, "cannot start thread %d of %d: %s", pool->threads + 1, workers,
                strerror(rc));
        at_pool_free(pool);
        return NULL;
    }
    return pool;
}

void at_pool_run(at_pool *pool, size_t n, void (*fn)(void *context, size_t i), void *context)
{
    job j = {.fn = fn, .context = context, .n = n};
    if (!pool || !pool->threads || n < 2) {
        work(&j);
        return;
    }
    pthread_mutex_lock(&pool->mutex);
    j.after = pool->jobs;
    pool->jobs = &j;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);

    work(&j);

    pthread_mutex_lock(&pool->mutex);
    unhang(pool, &j);
    while (j.helpers)
        pthread_cond_wait(&pool->left, &pool->mutex);
    pthread_mutex_unlock(&pool->mutex);
}

void at_pool_free(at_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->mutex);
    pool->stop = true;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
    for (int i = 0; i < pool->threads; i++)
        pthread_join(pool->thread[i], NULL);
    pthread_cond_destroy(&pool->left);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    free(pool);
}
