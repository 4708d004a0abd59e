/* SPDX-License-Identifier: Apache-2.0
 * What this process may use of the machine: its CPUs are those of its affinity mask (set by Slurm,
 * mpirun or taskset), less where a cgroup v2 quota above it allows less (containers). */
#include "atoll/base.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static int affinity_count(void)
{
    for (int cpus = 1024; cpus <= 1 << 20; cpus *= 2) {
        cpu_set_t *set = CPU_ALLOC((size_t)cpus);
        if (!set)
            break;
        size_t bytes = CPU_ALLOC_SIZE((size_t)cpus);
        int rc = sched_getaffinity(0, bytes, set);
        int reason = errno;
        int count = rc ? 0 : CPU_COUNT_S(bytes, set);
        CPU_FREE(set);
        if (count > 0)
            return count;
        if (reason != EINVAL) /* EINVAL: the kernel knows more CPUs than that */
            break;
    }
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    return online > 0 && online < INT_MAX ? (int)online : 1;
}

/* The quota of one group in CPUs, infinite where there is none. */
static double group_quota(const char *group)
{
    char path[PATH_MAX];
    double quota = INFINITY, period = 0;
    if (snprintf(path, sizeof path, "/sys/fs/cgroup%s/cpu.max", group) >= (int)sizeof path)
        return INFINITY;
    FILE *f = fopen(path, "re");
    if (!f)
        return INFINITY;
    if (fscanf(f, "%lf %lf", &quota, &period) != 2 || period <= 0) /* "max 100000": no limit */
        quota = INFINITY;
    fclose(f);
    return isfinite(quota) ? quota / period : INFINITY;
}

/* The smallest quota from this process's group up to the root. */
static double cgroup_quota(void)
{
    char line[PATH_MAX], group[PATH_MAX] = "";
    FILE *f = fopen("/proc/self/cgroup", "re");
    while (f && fgets(line, sizeof line, f))
        if (strncmp(line, "0::", 3) == 0) {
            line[strcspn(line, "\n")] = 0;
            snprintf(group, sizeof group, "%s", line + 3);
        }
    if (f)
        fclose(f);
    double least = group_quota(group);
    for (char *slash; (slash = strrchr(group, '/'));) {
        *slash = 0;
        double quota = group_quota(group);
        least = quota < least ? quota : least;
    }
    return least;
}

int at_cpu_count(void)
{
    int count = affinity_count();
    double quota = ceil(cgroup_quota());
    if (quota < count)
        count = quota < 1 ? 1 : (int)quota;
    return count;
}

/* VmHWM rather than getrusage, which starts from what the parent had before exec. */
size_t at_peak_rss(void)
{
    char line[256];
    size_t kilobytes = 0;
    FILE *f = fopen("/proc/self/status", "re");
    while (f && fgets(line, sizeof line, f))
        if (sscanf(line, "VmHWM: %zu", &kilobytes) == 1)
            break;
    if (f)
        fclose(f);
    struct rusage usage;
    if (!kilobytes && getrusage(RUSAGE_SELF, &usage) == 0)
        kilobytes = (size_t)usage.ru_maxrss;
    return kilobytes * 1024;
}

void at_host_name(char *out, size_t bytes)
{
    if (!bytes)
        return;
    if (gethostname(out, bytes))
        snprintf(out, bytes, "localhost");
    out[bytes - 1] = 0;
}
