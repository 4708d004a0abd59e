/* SPDX-License-Identifier: Apache-2.0 */
#include "ranks.h"

#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

static at_comm *the_comm; /* from ranks_run's start to its end */

at_comm *ranks_comm(void)
{
    return the_comm;
}

static int64_t largest(int64_t value)
{
    at_error err = {0};
    if (at_comm_max_int(the_comm, &value, &err)) {
        at_log(AT_LOG_ERROR, "%s", err.message);
        at_comm_abort(the_comm, 1);
    }
    return value;
}

void ranks_assert(bool ok, const char *format, ...)
{
    if (!ok) {
        at_text why = {0};
        va_list args;
        va_start(args, format);
        at_text_addv(&why, format, args);
        va_end(args);
        at_log(AT_LOG_ERROR, "rank %d: %s", at_comm_rank(the_comm), why.data ? why.data : "");
        at_text_fini(&why);
    }
    assert_int_equal(largest(!ok), 0);
}

bool ranks_agree(const void *data, size_t bytes)
{
    int64_t crc = at_crc32c(0, data, bytes);
    return largest(crc) == crc && -largest(-crc) == crc;
}

int ranks_run(const struct CMUnitTest *tests, size_t n)
{
    at_error err = {0};
    the_comm = at_comm_new(&err);
    if (!the_comm) {
        at_log(AT_LOG_ERROR, "%s", err.message);
        return 1;
    }
    if (at_comm_rank(the_comm) && !freopen("/dev/null", "w", stdout))
        return 1;
    int failed = _cmocka_run_group_tests("mpi", tests, n, NULL, NULL);
    at_comm_free(the_comm);
    return failed != 0;
}
