/* SPDX-License-Identifier: Apache-2.0
 * Allreduce while backward still runs: gradients lie in backward order, so each bucket is final
 * when `done` has passed its end, and the communication thread reduces the buckets one after
 * another, in the same order on every rank. allreduce itself waits until every rank has come to a
 * bucket.
 *
 * A sum that the computing thread waits for comes behind the buckets that were complete when it
 * asked; since it announces nothing while it waits, that order too is the same on every rank.
 *
 * Between begin and finish only this thread calls MPI. It sleeps on a condition while it has
 * nothing to do, and the computing thread wakes it only where a bucket became complete. */
#include "comm_internal.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

struct at_reducer {
    at_comm *comm;
    float *grads;
    size_t count, bucket; /* floats */
    double waited;        /* the computing thread's */
    size_t announced;     /* the computing thread's copy of done */
    pthread_t thread;
    pthread_mutex_t mutex; /* guards what follows */
    pthread_cond_t work;   /* done or stop changed */
    pthread_cond_t rest;   /* reduced or code changed */
    size_t done;           /* final gradients of this step */
    size_t reduced;        /* of those, summed over ranks; begin sets it to 0 */
    double *sum;           /* what the computing thread waits for, or NULL */
    size_t sum_count;
    bool stop;
    int code; /* of the first allreduce that failed; nothing is reduced after it */
    at_error error;
};

static size_t bucket_end(const at_reducer *r, size_t begin)
{
    return r->count - begin < r->bucket ? r->count : begin + r->bucket;
}

/* ---- the communication thread ---- */

static bool bucket_ready(const at_reducer *r)
{
    return !r->code && r->reduced < r->count && r->done >= bucket_end(r, r->reduced);
}

static void keep_error(at_reducer *r, int code, const at_error *error)
{
    if (code) {
        r->code = code;
        r->error = *error;
    }
}

static void reduce_bucket(at_reducer *r)
{
    size_t begin = r->reduced, end = bucket_end(r, begin);
    at_error error = {0};
    pthread_mutex_unlock(&r->mutex);
    int code = at_comm_allreduce(r->comm, r->grads + begin, end - begin, &error);
    pthread_mutex_lock(&r->mutex);
    r->reduced = end;
    keep_error(r, code, &error);
    if (code || end == r->count)
        pthread_cond_signal(&r->rest);
}

static void reduce_sum(at_reducer *r)
{
    at_error error = {0};
    pthread_mutex_unlock(&r->mutex);
    int code = at_comm_sum_doubles(r->comm, r->sum, r->sum_count, &error);
    pthread_mutex_lock(&r->mutex);
    r->sum = NULL;
    keep_error(r, code, &error);
    pthread_cond_signal(&r->rest);
}

static void *communicate(void *argument)
{
    at_reducer *r = argument;
    pthread_mutex_lock(&r->mutex);
    for (;;) {
        while (!r->stop && !bucket_ready(r) && !(r->sum && !r->code))
            pthread_cond_wait(&r->work, &r->mutex);
        if (r->stop)
            break;
        if (bucket_ready(r))
            reduce_bucket(r);
        else
            reduce_sum(r);
    }
    pthread_mutex_unlock(&r->mutex);
    return NULL;
}

/* Signals belong to the main thread. */
static int start_thread(at_reducer *r, at_error *err)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&r->thread, NULL, communicate, r);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc ? at_fail_errno(err, rc, "cannot start the communication thread") : 0;
}

/* ---- the computing thread ---- */

at_reducer *at_reducer_new(at_comm *c, float *grads, size_t count, size_t bucket_bytes,
                           at_error *err)
{
    at_reducer *r = calloc(1, sizeof *r);
    if (!r) {
        at_nomem(err);
        return NULL;
    }
    size_t line = AT_CACHE_LINE / sizeof *grads;
    size_t bucket = bucket_bytes / sizeof *grads / line * line;
    r->comm = c;
    r->grads = grads;
    r->count = count;
    r->bucket = bucket ? bucket : line;
    r->done = r->reduced = r->announced = count; /* at rest */
    pthread_mutex_init(&r->mutex, NULL);
    pthread_cond_init(&r->work, NULL);
    pthread_cond_init(&r->rest, NULL);
    if (c->size > 1 && start_thread(r, err)) {
        r->comm = NULL;
        at_reducer_free(r);
        return NULL;
    }
    return r;
}

void at_reducer_begin(at_reducer *r)
{
    if (r->comm->size == 1)
        return;
    pthread_mutex_lock(&r->mutex);
    r->done = r->reduced = r->announced = 0;
    pthread_mutex_unlock(&r->mutex);
}

void at_reducer_ready(at_reducer *r, size_t done)
{
    size_t before = r->announced;
    if (done > r->count)
        done = r->count;
    if (r->comm->size == 1 || done <= before)
        return;
    if (done < r->count && done / r->bucket == before / r->bucket)
        return; /* no bucket became complete */
    r->announced = done;
    pthread_mutex_lock(&r->mutex);
    r->done = done;
    pthread_cond_signal(&r->work);
    pthread_mutex_unlock(&r->mutex);
}

int at_reducer_sum(at_reducer *r, double *values, size_t n, at_error *err)
{
    if (r->comm->size == 1)
        return 0;
    pthread_mutex_lock(&r->mutex);
    r->sum = values;
    r->sum_count = n;
    pthread_cond_signal(&r->work);
    while (!r->code && r->sum)
        pthread_cond_wait(&r->rest, &r->mutex);
    r->sum = NULL;
    int code = r->code;
    pthread_mutex_unlock(&r->mutex);
    return code ? at_fail(err, code, "%s", r->error.message) : 0;
}

int at_reducer_finish(at_reducer *r, at_error *err)
{
    if (r->comm->size == 1)
        return 0;
    double began = at_now();
    at_reducer_ready(r, r->count);
    pthread_mutex_lock(&r->mutex);
    while (!r->code && r->reduced < r->count)
        pthread_cond_wait(&r->rest, &r->mutex);
    int code = r->code;
    pthread_mutex_unlock(&r->mutex);
    r->waited += at_now() - began;
    return code ? at_fail(err, code, "%s", r->error.message) : 0;
}

double at_reducer_waited(const at_reducer *r)
{
    return r->waited;
}

void at_reducer_free(at_reducer *r)
{
    if (!r)
        return;
    if (r->comm && r->comm->size > 1) {
        pthread_mutex_lock(&r->mutex);
        r->stop = true;
        pthread_cond_signal(&r->work);
        pthread_mutex_unlock(&r->mutex);
        pthread_join(r->thread, NULL);
    }
    pthread_cond_destroy(&r->rest);
    pthread_cond_destroy(&r->work);
    pthread_mutex_destroy(&r->mutex);
    free(r);
}
