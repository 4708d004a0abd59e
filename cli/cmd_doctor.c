/* SPDX-License-Identifier: Apache-2.0
 * atoll doctor: what this machine offers, and what is in the way.
 */
#include "cli.h"

#include <atoll/datasets.h>
#include <atoll/nn.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct args {
    bool json;
} args;

static const at_option options[] = {
    {"json", AT_OPT_BOOL, offsetof(args, json), NULL, "print one JSON object"}, {0}};

static bool on_path(const char *program)
{
    const char *path = getenv("PATH");
    char *copy = strdup(path ? path : ""), *rest = NULL;
    bool found = false;
    for (char *dir = copy ? strtok_r(copy, ":", &rest) : NULL; dir && !found; dir = strtok_r(NULL, ":", &rest)) {
        char *file = at_path_join(dir, program);
        found = file && access(file, X_OK) == 0;
        free(file);
    }
    free(copy);
    return found;
}

static at_node *examine(void)
{
    static const char *const programs[] = {"mpirun", "srun", "sbatch"};
    char host[256], onednn[32];
    at_host_name(host, sizeof host);
    at_onednn_version(onednn);
    at_node *n = at_node_new(AT_MAP);
    at_set_string(n, "atoll", ATOLL_VERSION);
    at_set_string(n, "host", host);
    at_set_int(n, "cpus", at_cpu_count());
    at_set_string(n, "instructions", at_cpu_instructions());
    at_set_string(n, "onednn", onednn);
    at_set_bool(n, "bf16", at_precision_check(AT_BF16, NULL) == 0);
    at_set_real(n, "memory_gib",
                round(10.0 * (double)sysconf(_SC_PHYS_PAGES) * (double)sysconf(_SC_PAGESIZE) / (double)(1 << 30)) / 10);
    for (size_t i = 0; i < sizeof programs / sizeof *programs; i++)
        at_set_bool(n, programs[i], on_path(programs[i]));
    size_t known;
    const at_known_dataset *sets = at_known_datasets(&known);
    for (size_t i = 0; i < known; i++)
        if (sets[i].system_path)
            at_set_bool(n, sets[i].name, at_dir_exists(sets[i].system_path));
    return n;
}

static int run(int argc, char **argv, at_error *err)
{
    args a = {0};
    int code = cli_parse(options, &a, argc, argv, 0, 0, err);
    if (code == 0) {
        at_node *n = examine();
        if (a.json) {
            cli_print_json(n);
        } else {
            for (size_t i = 0; i < at_node_count(n); i++)
                printf("%-14s %s\n", at_node_key(n, i), at_node_text(at_node_at(n, i)));
            at_node_free(n);
        }
    }
    at_options_fini(options, &a);
    return code;
}

const cli_command cmd_doctor = {.name = "doctor",
                                .usage = "[--json]",
                                .summary = "tell what this machine offers",
                                .help = "CPUs (of this process's cpuset), instructions, memory, launchers, installed data sets.",
                                .options = options,
                                .run = run};
