/* SPDX-License-Identifier: Apache-2.0
 * How much memory this process may still take: the least of what the machine has left, of what the
 * limits of its cgroups leave (those from its own up to the root, as v2 and as v1 tell them), and of
 * what RLIMIT_AS and RLIMIT_DATA leave. Pages of files that the kernel would give back count as free.
 */
#include "atoll/base.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* The number behind `key` in a file of lines "key number [kB]"; false: not there. */
static bool read_key(const char *path, const char *key, size_t *out)
{
    char line[256];
    bool found = false;
    FILE *f = fopen(path, "re");
    while (f && !found && fgets(line, sizeof line, f)) {
        size_t length = strlen(key);
        char *end = NULL;
        if (strncmp(line, key, length) != 0 || !strchr(" \t:", line[length]))
            continue;
        *out = strtoull(line + length + strspn(line + length, " \t:"), &end, 10);
        *out *= strstr(end, "kB") ? 1024 : 1;
        found = true;
    }
    if (f)
        fclose(f);
    return found;
}

/* The number that a file consists of; false: none, or "max". */
static bool read_number(const char *folder, const char *name, size_t *out)
{
    char path[PATH_MAX + 64];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "re");
    bool found = f && fscanf(f, "%zu", out) == 1;
    if (f)
        fclose(f);
    return found;
}

static size_t less(size_t a, size_t b)
{
    return a > b ? a - b : 0;
}

typedef struct group_names {
    const char *limit, *used, *reclaimable;
} group_names;

/* What the group's own limit leaves, SIZE_MAX where it has none. */
static size_t left_in_group(const char *folder, const group_names *names)
{
    char path[PATH_MAX + 64];
    size_t limit = 0, used = 0, files = 0;
    if (!read_number(folder, names->limit, &limit) || !read_number(folder, names->used, &used))
        return SIZE_MAX;
    snprintf(path, sizeof path, "%s/memory.stat", folder);
    if (!read_key(path, names->reclaimable, &files))
        files = 0;
    return less(limit, less(used, files));
}

/* `group` is the path within the hierarchy mounted at `root`. */
static size_t left_in_groups(const char *root, char *group, const group_names *names)
{
    char folder[2 * PATH_MAX];
    size_t least = SIZE_MAX;
    for (;;) {
        snprintf(folder, sizeof folder, "%s%s", root, group);
        size_t left = left_in_group(folder, names);
        least = left < least ? left : least;
        char *slash = strrchr(group, '/');
        if (!slash)
            return least;
        *slash = 0;
    }
}

static size_t left_by_cgroups(void)
{
    static const group_names v2 = {"memory.max", "memory.current", "inactive_file"};
    static const group_names v1 = {"memory.limit_in_bytes", "memory.usage_in_bytes",
                                   "total_inactive_file"};
    char line[PATH_MAX];
    size_t least = SIZE_MAX;
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f && fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        char *controllers = strchr(line, ':'),
             *group = controllers ? strchr(controllers + 1, ':') : 0;
        if (!group)
            continue;
        *group++ = 0;
        size_t left = SIZE_MAX;
        if (!*++controllers)
            left = left_in_groups("/sys/fs/cgroup", group, &v2);
        else if (strstr(controllers, "memory"))
            left = left_in_groups("/sys/fs/cgroup/memory", group, &v1);
        least = left < least ? left : least;
    }
    if (f)
        fclose(f);
    return least;
}

static size_t left_by_rlimit(int resource, const char *used_key)
{
    struct rlimit limit;
    size_t used = 0;
    if (getrlimit(resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return SIZE_MAX;
    return read_key("/proc/self/status", used_key, &used) ? less(limit.rlim_cur, used) : SIZE_MAX;
}

size_t at_memory_available(bool *shared)
{
    size_t machine = SIZE_MAX, groups = left_by_cgroups();
    if (!read_key("/proc/meminfo", "MemAvailable", &machine))
        machine = SIZE_MAX;
    size_t least = machine < groups ? machine : groups;
    size_t space = left_by_rlimit(RLIMIT_AS, "VmSize"),
           data = left_by_rlimit(RLIMIT_DATA, "VmData");
    size_t own = space < data ? space : data;
    if (shared)
        *shared = least < own;
    return least < own ? least : own;
}

size_t at_anonymous_rss(void)
{
    size_t bytes = 0;
    return read_key("/proc/self/status", "RssAnon", &bytes) ? bytes : 0;
}

size_t at_current_rss(void)
{
    size_t bytes = 0;
    return read_key("/proc/self/status", "VmRSS", &bytes) ? bytes : 0;
}
