/* SPDX-License-Identifier: Apache-2.0
 * Errors, and what a log line looks like. */
#include "atoll/base.h"

#include <errno.h>
#include <setjmp.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static void test_fail_fills_and_returns(void **state)
{
    (void)state;
    at_error err = {0};
    assert_int_equal(at_fail(&err, AT_EINPUT, "%s:%d", "a.yaml", 7), AT_EINPUT);
    assert_int_equal(err.code, AT_EINPUT);
    assert_string_equal(err.message, "a.yaml:7");
    assert_int_equal(at_fail(NULL, AT_EIO, "nobody listens"), AT_EIO);
    assert_int_equal(at_nomem(&err), AT_ENOMEM);
    assert_string_equal(err.message, "out of memory");
}

static void test_message_may_quote_itself(void **state)
{
    (void)state;
    at_error err = {0};
    at_fail(&err, AT_EPEER, "rank 3 died");
    at_fail(&err, AT_EFAIL, "training: %s (%s)", err.message, err.message);
    assert_string_equal(err.message, "training: rank 3 died (rank 3 died)");
}

static void test_context_goes_before(void **state)
{
    (void)state;
    at_error err = {0};
    at_fail(&err, AT_EIO, "short read");
    assert_int_equal(at_fail_in(&err, "shard %d", 4), AT_EIO);
    assert_string_equal(err.message, "shard 4: short read");
    assert_int_equal(err.code, AT_EIO);
    assert_int_equal(at_fail_in(NULL, "x"), AT_EFAIL);
}

static void test_long_messages_are_cut(void **state)
{
    (void)state;
    char longer[5000];
    memset(longer, 'x', sizeof longer - 1);
    longer[sizeof longer - 1] = 0;
    at_error err = {0};
    at_fail(&err, AT_EFAIL, "%s", longer);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    at_fail_in(&err, "%s", longer);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
    at_fail_errno(&err, EIO, "%s", longer);
    assert_int_equal(strlen(err.message), sizeof err.message - 1);
}

static void test_errno_decides_the_code(void **state)
{
    (void)state;
    static const struct {
        int number, code;
    } rows[] = {{ENOENT, AT_ENOENT}, {ENOTDIR, AT_ENOENT},    {EACCES, AT_EINPUT},
                {EISDIR, AT_EINPUT}, {ENOMEM, AT_ENOMEM},     {ENOSPC, AT_EIO},
                {EIO, AT_EIO},       {EINTR, AT_EINTERRUPTED}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        at_error err = {0};
        assert_int_equal(at_fail_errno(&err, rows[i].number, "cannot open %s", "f"), rows[i].code);
        assert_int_equal(err.code, rows[i].code);
        assert_non_null(strstr(err.message, "cannot open f: "));
        assert_non_null(strstr(err.message, strerror(rows[i].number)));
    }
}

static void test_table(void **state)
{
    (void)state;
    assert_string_equal(at_error_name(AT_OK), "AT_OK");
    assert_string_equal(at_error_name(AT_EUSAGE), "AT_EUSAGE");
    assert_string_equal(at_error_text(AT_EINPUT), "bad input");
    assert_int_equal(at_error_exit_status(AT_OK), 0);
    assert_int_equal(at_error_exit_status(AT_EFAIL), 1);
    assert_int_equal(at_error_exit_status(AT_EUSAGE), 2);
    assert_int_equal(at_error_exit_status(AT_EINPUT), 3);
    assert_int_equal(at_error_exit_status(AT_ENOENT), 3);
    assert_int_equal(at_error_exit_status(AT_EINTERRUPTED), 4);
    assert_string_equal(at_error_name(-12345), "unknown error");
    assert_int_equal(at_error_exit_status(-12345), 1);
}

/* What the calls between begin and end write to stderr. */
static int capture_begin(FILE *file)
{
    fflush(stderr);
    int kept = dup(STDERR_FILENO);
    assert_true(kept >= 0 && dup2(fileno(file), STDERR_FILENO) >= 0);
    return kept;
}

static void capture_end(FILE *file, int kept, char *text, size_t bytes)
{
    fflush(stderr);
    dup2(kept, STDERR_FILENO);
    close(kept);
    rewind(file);
    text[fread(text, 1, bytes - 1, file)] = 0;
}

static void test_log_levels(void **state)
{
    (void)state;
    char text[1000];
    FILE *file = tmpfile();
    assert_non_null(file);
    int kept = capture_begin(file);
    at_log(AT_LOG_INFO, "read %d images", 3);
    at_log(AT_LOG_DEBUG, "not shown");
    at_log_set_level(AT_LOG_WARN);
    at_log(AT_LOG_INFO, "not shown");
    at_log(AT_LOG_WARN, "careful");
    at_log(AT_LOG_ERROR, "100%% broken");
    at_log_set_level(AT_LOG_INFO);
    capture_end(file, kept, text, sizeof text);
    fclose(file);
    assert_string_equal(text, "read 3 images\nwarning: careful\nerror: 100% broken\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fail_fills_and_returns),
        cmocka_unit_test(test_message_may_quote_itself),
        cmocka_unit_test(test_context_goes_before),
        cmocka_unit_test(test_long_messages_are_cut),
        cmocka_unit_test(test_errno_decides_the_code),
        cmocka_unit_test(test_table),
        cmocka_unit_test(test_log_levels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
