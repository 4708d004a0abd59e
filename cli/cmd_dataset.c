/* SPDX-License-Identifier: Apache-2.0
 * atoll dataset: well-known data sets by name, and the page of a data set.
 */
#include "cli.h"

#include <atoll/datasets.h>

#include <stdlib.h>
#include <string.h>

typedef struct args {
    char *from, *url, *out;
    bool json;
} args;

static const at_option options[] = {
    {"out", AT_OPT_STRING, offsetof(args, out), NULL,
     "get: the folder to put the source in; report: the page (DATASET/report.html)", "PATH"},
    {"from", AT_OPT_STRING, offsetof(args, from), NULL,
     "get: a local file or folder instead of the network", "PATH"},
    {"url", AT_OPT_STRING, offsetof(args, url), NULL,
     "get: another address than the official one, of a folder", "URL"},
    {"json", AT_OPT_BOOL, offsetof(args, json), "false", "print one JSON object"},
    {0}};

static at_node *rows_of_known(bool all)
{
    size_t n;
    const at_known_dataset *known = at_known_datasets(&n);
    at_node *rows = at_node_new(AT_LIST);
    for (size_t i = 0; i < n; i++) {
        bool here = known[i].system_path && at_dir_exists(known[i].system_path);
        at_node *row = at_node_add(rows, at_node_new(AT_MAP));
        at_set_string(row, "name", known[i].name);
        at_set_real(row, "megabytes", (double)(known[i].bytes / 100000) / 10);
        at_set_string(row, "from", here ? known[i].system_path : known[i].url);
        if (all)
            at_set_int(row, "bytes", (int64_t)known[i].bytes);
        at_set_string(row, "title", known[i].title);
    }
    return rows;
}

static void list(bool json)
{
    at_node *rows = rows_of_known(json);
    if (json) {
        at_node *n = at_node_new(AT_MAP);
        at_node_set(n, "datasets", rows);
        cli_print_json(n);
        return;
    }
    cli_print_table(rows);
    at_node_free(rows);
}

static int get(const char *name, const args *a, at_error *err)
{
    if (!a->out[0])
        return at_fail(err, AT_EUSAGE, "--out SRC is missing");
    if (a->from[0] && a->url[0])
        return at_fail(err, AT_EUSAGE, "--from and --url exclude each other");
    int code =
        at_dataset_get(name, a->from[0] ? a->from : NULL, a->url[0] ? a->url : NULL, a->out, err);
    if (code < 0)
        return code;
    if (a->json) {
        at_node *n = at_node_new(AT_MAP);
        at_set_string(n, "name", name);
        at_set_string(n, "source", a->out);
        cli_print_json(n);
    } else {
        printf("%s is in %s; next: atoll ingest %s --out DATASET\n", name, a->out, a->out);
    }
    return 0;
}

static int report(const char *dataset, const args *a, at_error *err)
{
    char *out = a->out[0] ? at_format("%s", a->out) : at_path_join(dataset, "report.html");
    int code = out ? at_dataset_report(dataset, out, err) : at_nomem(err);
    if (code == 0 && a->json) {
        at_node *n = at_node_new(AT_MAP);
        at_set_string(n, "report", out);
        cli_print_json(n);
    } else if (code == 0) {
        puts(out);
    }
    free(out);
    return code;
}

static int act(int operands, char **argv, const args *a, at_error *err)
{
    if (!strcmp(argv[0], "list") && operands == 1) {
        list(a->json);
        return 0;
    }
    if (!strcmp(argv[0], "get") && operands == 2)
        return get(argv[1], a, err);
    if (!strcmp(argv[0], "report") && operands == 2)
        return report(argv[1], a, err);
    return at_fail(err, AT_EUSAGE, "neither \"list\" nor \"get NAME\" nor \"report DATASET\"");
}

static int run(int argc, char **argv, at_error *err)
{
    args a = {0};
    int code = cli_parse(options, &a, argc, argv, 1, 2, err);
    if (code > 0)
        code = act(code, argv, &a, err);
    at_options_fini(options, &a);
    return code;
}

const cli_command cmd_dataset = {
    .name = "dataset",
    .usage = "list | get NAME [--from PATH] --out SRC | report DATASET [--out FILE.html]",
    .summary = "get a well-known data set; look at one that was ingested",
    .help =
        "get puts the source of a data set into the folder SRC, for `atoll ingest SRC`: from a "
        "local copy "
        "with --from,\nfrom where a Debian package put it, else from its official address. A "
        "download goes "
        "on where it broke off\nand is checked against a pinned SHA-256; a local copy is "
        "checked by reading "
        "it to its end.\n\nreport writes one page, for a browser without network: images by class "
        "and split, contact sheets,\nsizes, light and colours, duplicates and near ones, suspects "
        "(constant, dark, tiny, in two classes, ...)\nand the files that could not be read.\n\n"
        "  atoll dataset list\n"
        "  atoll dataset get cifar10 --out src/cifar10\n"
        "  atoll dataset get cifar10 --from cifar10-jpeg.tar.gz --out src/cifar10\n"
        "  atoll dataset report data/cifar10 --out cifar10.html",
    .options = options,
    .run = run};
