/* SPDX-License-Identifier: Apache-2.0
 * A folder of a test's own. */
#include "scratch.h"

#include "atoll/base.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdlib.h>

#include <cmocka.h>

char *scratch_new(void)
{
    const char *parent = getenv("TMPDIR");
    char *dir = at_path_join(parent && *parent ? parent : "/tmp", "atoll-test-XXXXXX");
    assert_non_null(dir);
    assert_non_null(mkdtemp(dir));
    return dir;
}

void scratch_free(char *dir)
{
    at_error err = {0};
    if (at_remove_tree(dir, &err))
        fail_msg("%s", err.message);
    free(dir);
}

void scratch_in_memory(void)
{
    if (at_dir_exists("/dev/shm"))
        setenv("TMPDIR", "/dev/shm", 0);
}

int scratch_caches(void **state)
{
    *state = scratch_new();
    return setenv("ATOLL_CACHE_DIR", *state, 1);
}

int scratch_caches_gone(void **state)
{
    scratch_free(*state);
    return 0;
}

size_t scratch_count(const char *dir)
{
    DIR *d = opendir(dir);
    assert_non_null(d);
    size_t n = 0;
    while (readdir(d))
        n++;
    closedir(d);
    return n - 2; /* . and .. */
}
