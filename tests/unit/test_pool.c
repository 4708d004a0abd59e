/* SPDX-License-Identifier: Apache-2.0
 * The thread pool and the bounded queue: every index once, runs from many threads and within runs,
 * nothing lost between producers and consumers. The thread sanitizer's build runs this too. */
#include "atoll/base.h"

#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <cmocka.h>

static void count_visit(void *context, size_t i)
{
    atomic_fetch_add(&((atomic_int *)context)[i], 1);
}

static void run_and_check(at_pool *pool, size_t n)
{
    atomic_int *visits = calloc(n + 1, sizeof *visits);
    if (!visits)
        abort();
    at_pool_run(pool, n, count_visit, visits);
    for (size_t i = 0; i < n; i++)
        if (visits[i] != 1)
            abort(); /* may run on any thread, where cmocka's assertions cannot */
    if (visits[n] != 0)
        abort();
    free(visits);
}

static void test_every_index_once(void **state)
{
    (void)state;
    static const size_t sizes[] = {0, 1, 2, 3, 7, 100, 10000};
    int runs = 0;
    for (int threads = 0; threads <= 5; threads++) {
        at_pool *pool = at_pool_new(threads, NULL);
        assert_non_null(pool);
        for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++, runs++)
            run_and_check(pool, sizes[s]);
        at_pool_free(pool);
    }
    run_and_check(NULL, 10);
    at_pool_run(NULL, 0, NULL, NULL);
    at_pool_free(NULL);
    print_message("%d runs\n", runs);
}

static void test_many_short_runs(void **state)
{
    (void)state;
    at_pool *pool = at_pool_new(4, NULL);
    assert_non_null(pool);
    for (size_t i = 0; i < 5000; i++)
        run_and_check(pool, i % 9);
    at_pool_free(pool);
}

static void *run_many(void *pool)
{
    for (size_t i = 0; i < 300; i++)
        run_and_check(pool, i % 50);
    return NULL;
}

static void test_runs_from_many_threads(void **state)
{
    (void)state;
    at_pool *pool = at_pool_new(3, NULL);
    assert_non_null(pool);
    pthread_t callers[6];
    for (int i = 0; i < 6; i++)
        assert_int_equal(pthread_create(&callers[i], NULL, run_many, pool), 0);
    for (int i = 0; i < 6; i++)
        pthread_join(callers[i], NULL);
    at_pool_free(pool);
}

typedef struct nest {
    at_pool *pool;
    atomic_size_t leaves;
} nest;

static void leaf(void *context, size_t i)
{
    (void)i;
    atomic_fetch_add(&((nest *)context)->leaves, 1);
}

static void branch(void *context, size_t i)
{
    at_pool_run(((nest *)context)->pool, i, leaf, context);
}

static void test_runs_within_runs(void **state)
{
    (void)state;
    nest n = {.pool = at_pool_new(3, NULL)};
    assert_non_null(n.pool);
    at_pool_run(n.pool, 100, branch, &n);
    assert_int_equal(n.leaves, 99 * 100 / 2);
    at_pool_free(n.pool);
}

static void meet(void *context, size_t i)
{
    (void)i;
    pthread_barrier_wait(context);
}

/* Four items that all wait for each other end only where four threads work. */
static void test_threads_are_all_used(void **state)
{
    (void)state;
    at_pool *pool = at_pool_new(4, NULL);
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, NULL, 4);
    at_pool_run(pool, 4, meet, &barrier);
    at_pool_free(pool);
    pthread_barrier_destroy(&barrier);
}

enum { PRODUCERS = 4, CONSUMERS = 3, ITEMS = 20000 };

typedef struct exchange {
    at_queue *queue;
    atomic_int next, seen[ITEMS + 1];
} exchange;

static void *produce(void *argument)
{
    exchange *e = argument;
    for (int i; (i = atomic_fetch_add(&e->next, 1)) <= ITEMS;)
        if (!at_queue_push(e->queue, (void *)(uintptr_t)i))
            abort();
    return NULL;
}

static void *consume(void *argument)
{
    exchange *e = argument;
    for (uintptr_t i; (i = (uintptr_t)at_queue_pop(e->queue));)
        atomic_fetch_add(&e->seen[i], 1);
    return NULL;
}

static void test_queue_loses_nothing(void **state)
{
    (void)state;
    static const size_t capacities[] = {1, 2, 64};
    for (size_t c = 0; c < 3; c++) {
        exchange *e = calloc(1, sizeof *e);
        pthread_t producers[PRODUCERS], consumers[CONSUMERS];
        assert_true(e && (e->queue = at_queue_new(capacities[c])));
        e->next = 1;
        for (int i = 0; i < CONSUMERS; i++)
            assert_int_equal(pthread_create(&consumers[i], NULL, consume, e), 0);
        for (int i = 0; i < PRODUCERS; i++)
            assert_int_equal(pthread_create(&producers[i], NULL, produce, e), 0);
        for (int i = 0; i < PRODUCERS; i++)
            pthread_join(producers[i], NULL);
        at_queue_close(e->queue); /* what is in it is still handed out */
        for (int i = 0; i < CONSUMERS; i++)
            pthread_join(consumers[i], NULL);
        for (int i = 1; i <= ITEMS; i++)
            assert_int_equal(e->seen[i], 1);
        at_queue_free(e->queue);
        free(e);
    }
}

static void *push_one(void *queue)
{
    int item;
    return at_queue_push(queue, &item) ? queue : NULL;
}

static void *pop_one(void *queue)
{
    return at_queue_pop(queue);
}

static void test_queue_keeps_order_and_closes(void **state)
{
    (void)state;
    int items[3];
    at_queue *q = at_queue_new(3);
    assert_non_null(q);
    for (int round = 0; round < 4; round++) {
        for (int i = 0; i < 3; i++)
            assert_true(at_queue_push(q, &items[i]));
        for (int i = 0; i < 3; i++)
            assert_ptr_equal(at_queue_pop(q), &items[i]);
    }
    assert_true(at_queue_push(q, &items[0]));
    at_queue_close(q);
    assert_false(at_queue_push(q, &items[1]));
    assert_ptr_equal(at_queue_pop(q), &items[0]);
    assert_null(at_queue_pop(q));
    at_queue_free(q);
    at_queue_free(NULL);
}

static void test_close_wakes_waiters(void **state)
{
    (void)state;
    at_queue *full = at_queue_new(1), *empty = at_queue_new(1);
    int item;
    assert_true(at_queue_push(full, &item));
    pthread_t pushers[3], poppers[3];
    for (int i = 0; i < 3; i++) {
        assert_int_equal(pthread_create(&pushers[i], NULL, push_one, full), 0);
        assert_int_equal(pthread_create(&poppers[i], NULL, pop_one, empty), 0);
    }
    at_queue_close(full);
    at_queue_close(empty);
    for (int i = 0; i < 3; i++) {
        void *pushed, *popped;
        pthread_join(pushers[i], &pushed);
        pthread_join(poppers[i], &popped);
        assert_null(pushed);
        assert_null(popped);
    }
    at_queue_free(full);
    at_queue_free(empty);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_index_once),
        cmocka_unit_test(test_many_short_runs),
        cmocka_unit_test(test_runs_from_many_threads),
        cmocka_unit_test(test_runs_within_runs),
        cmocka_unit_test(test_threads_are_all_used),
        cmocka_unit_test(test_queue_loses_nothing),
        cmocka_unit_test(test_queue_keeps_order_and_closes),
        cmocka_unit_test(test_close_wakes_waiters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
