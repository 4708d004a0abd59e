/* SPDX-License-Identifier: Apache-2.0
 * ctest: ranks=4 timeout=120
 * The small collectives and the shared memory. With an argument this program plays a rank in
 * trouble for test_trouble.sh: abort, die, stall, stall-step, stall-barrier, alone. */
#include "ranks.h"

#include <math.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void ranks_are_numbered(void **state)
{
    (void)state;
    at_comm *c = ranks_comm();
    int rank = at_comm_rank(c), size = at_comm_size(c);
    const char *told = getenv("OMPI_COMM_WORLD_SIZE"); /* by mpirun; srun tells in its own way */
    if (!told)
        told = getenv("PMIX_RANK") ? getenv("SLURM_STEP_NUM_TASKS") : "1";
    ranks_assert(told && size == atoi(told), "%d ranks", size);
    ranks_assert(rank >= 0 && rank < size, "rank %d of %d", rank, size);
    int local = at_comm_local_rank(c), locals = at_comm_local_size(c);
    ranks_assert(local >= 0 && local < locals && locals <= size, "local rank %d of %d", local,
                 locals);
    const char *pretended = getenv("ATOLL_RANKS_PER_NODE");
    int k = pretended ? atoi(pretended) : size;
    ranks_assert(local == rank % k, "local rank %d of rank %d", local, rank);
}

static void broadcasts_from_every_root(void **state)
{
    (void)state;
    at_comm *c = ranks_comm();
    const size_t sizes[] = {0, 1, 100, 1000003};
    for (int root = 0; root < at_comm_size(c); root++)
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            unsigned char *data = calloc(sizes[s] + 1, 1);
            ranks_assert(data != NULL, "no memory");
            for (size_t i = 0; at_comm_rank(c) == root && i < sizes[s]; i++)
                data[i] = (unsigned char)(i * 31 + (size_t)root);
            at_error err = {0};
            int code = at_comm_broadcast(c, data, sizes[s], root, &err);
            ranks_assert(code == 0, "%s", err.message);
            size_t wrong = 0;
            for (size_t i = 0; i < sizes[s]; i++)
                wrong += data[i] != (unsigned char)(i * 31 + (size_t)root);
            ranks_assert(wrong == 0 && data[sizes[s]] == 0, "%zu of %zu bytes are wrong", wrong,
                         sizes[s]);
            free(data);
        }
}

static void doubles_are_summed_in_the_order_of_ranks(void **state)
{
    (void)state;
    at_comm *c = ranks_comm();
    enum { MOST = 10007 };
    const size_t sizes[] = {0, 1, 5, 4096, 4097, MOST};
    double *values = calloc(MOST, sizeof *values);
    ranks_assert(values != NULL, "no memory");
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        for (size_t i = 0; i < sizes[s]; i++)
            values[i] = sin((double)i + 1) * pow(10, at_comm_rank(c));
        at_error err = {0};
        int code = at_comm_sum_doubles(c, values, sizes[s], &err);
        ranks_assert(code == 0, "%s", err.message);
        size_t wrong = 0;
        for (size_t i = 0; i < sizes[s]; i++) {
            double sum = 0;
            for (int r = 0; r < at_comm_size(c); r++)
                sum += sin((double)i + 1) * pow(10, r);
            wrong += sum != values[i]; /* to the bit */
        }
        ranks_assert(wrong == 0, "%zu of %zu sums are wrong", wrong, sizes[s]);
    }
    free(values);
}

static void the_largest_is_found(void **state)
{
    (void)state;
    at_comm *c = ranks_comm();
    int size = at_comm_size(c);
    for (int who = 0; who < size; who++) {
        int64_t value = at_comm_rank(c) == who ? INT64_MAX - 1 : INT64_MIN + who;
        at_error err = {0};
        int code = at_comm_max_int(c, &value, &err);
        ranks_assert(code == 0 && value == INT64_MAX - 1, "got %lld", (long long)value);
    }
}

static void texts_are_gathered_as_lines(void **state)
{
    (void)state;
    at_comm *c = ranks_comm();
    static const char *const texts[] = {"first", "", "two\nlines\n", "last"};
    at_text expected = {0};
    for (int r = 0; r < at_comm_size(c); r++) {
        const char *text = texts[r % 4];
        at_text_add(&expected, "%s%s", text, !*text || text[strlen(text) - 1] == '\n' ? "" : "\n");
    }
    char *all = NULL;
    at_error err = {0};
    int code = at_comm_gather_text(c, texts[at_comm_rank(c) % 4], &all, &err);
    ranks_assert(code == 0, "%s", err.message);
    if (at_comm_rank(c) == 0)
        ranks_assert(all && strcmp(all, expected.data) == 0, "got '%s'", all ? all : "(null)");
    else
        ranks_assert(!all, "only rank 0 gets the texts");
    free(all);
    at_text_fini(&expected);
}

static void memory_is_zeroed_and_can_be_had_again(void **state)
{
    (void)state;
    at_comm *c = ranks_comm();
    enum { COUNT = 100000 };
    for (int i = 0; i < 3; i++) {
        at_error err = {0};
        float *data = at_comm_alloc(c, COUNT, &err), *none = at_comm_alloc(c, 0, &err);
        ranks_assert(data && none, "%s", err.message);
        size_t dirty = 0;
        for (size_t k = 0; k < COUNT; k++) {
            dirty += data[k] != 0;
            data[k] = 1;
        }
        ranks_assert(dirty == 0, "%zu values are not zero", dirty);
        ranks_assert(((uintptr_t)data & 63) == 0, "not aligned");
        at_comm_dealloc(c, data);
        at_comm_dealloc(c, none);
        at_comm_dealloc(c, NULL);
    }
    at_error err = {0};
    ranks_assert(!at_comm_alloc(c, SIZE_MAX / 2, &err) && err.code == AT_ENOMEM, "too much");
}

static void without_room_in_shared_memory_plain_memory_serves(void **state)
{
    (void)state;
    at_comm *c = ranks_comm();
    at_error err = {0};
    if (at_comm_size(c) == 1)
        skip();
    /* More than any /dev/shm holds for all ranks, less than what malloc refuses outright. */
    float *data = at_comm_alloc(c, (size_t)1 << 44, &err);
    ranks_assert(!data && err.code == AT_ENOMEM, "%s", err.message);
    ranks_assert(at_comm_barrier(c, &err) == 0, "%s", err.message);
}

/* ---- ranks in trouble (test_trouble.sh) ---- */

static int reduce_late(at_comm *c, bool late, at_error *err)
{
    static float data[100];
    if (late)
        usleep(2000000);
    return at_comm_allreduce(c, data, 100, err);
}

static int reduce_step_late(at_comm *c, bool late, at_error *err)
{
    static float data[1000];
    at_reducer *r = at_reducer_new(c, data, 1000, 400, err);
    if (!r)
        return AT_EFAIL;
    at_reducer_begin(r);
    if (late)
        usleep(2000000);
    int code = at_reducer_finish(r, err);
    at_reducer_free(r);
    return code;
}

static int barrier_late(at_comm *c, bool late, at_error *err)
{
    if (late)
        usleep(2000000);
    return at_comm_barrier(c, err);
}

/* Rank 1 gets into trouble while the others wait for it. */
static int play(const char *trouble)
{
    at_error err = {0};
    at_comm *c = at_comm_new(&err);
    if (!c) {
        at_log(AT_LOG_ERROR, "%s", err.message);
        return at_error_exit_status(err.code);
    }
    int code = 0;
    bool culprit = at_comm_rank(c) == 1;
    if (culprit && strcmp(trouble, "abort") == 0)
        at_comm_abort(c, 7);
    else if (culprit && strcmp(trouble, "die") == 0)
        raise(SIGKILL);
    else if (strcmp(trouble, "stall") == 0)
        code = reduce_late(c, culprit, &err);
    else if (strcmp(trouble, "stall-step") == 0)
        code = reduce_step_late(c, culprit, &err);
    else if (strcmp(trouble, "alone") == 0)
        code = at_comm_size(c) == 1 ? reduce_step_late(c, false, &err) : AT_EFAIL;
    else
        code = barrier_late(c, culprit, &err);
    at_comm_free(c);
    return at_error_exit_status(code);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        return play(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ranks_are_numbered),
        cmocka_unit_test(broadcasts_from_every_root),
        cmocka_unit_test(doubles_are_summed_in_the_order_of_ranks),
        cmocka_unit_test(the_largest_is_found),
        cmocka_unit_test(texts_are_gathered_as_lines),
        cmocka_unit_test(memory_is_zeroed_and_can_be_had_again),
        cmocka_unit_test(without_room_in_shared_memory_plain_memory_serves),
    };
    return ranks_run(tests, sizeof tests / sizeof *tests);
}
