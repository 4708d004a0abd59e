/* SPDX-License-Identifier: Apache-2.0
 * atoll dataset: well-known data sets by name, and the page of a data set.
 */
#include "cli.h"

#include <atoll/datasets.h>

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef struct args {
    char *from, *url, *out;
    int64_t jobs;
    bool json;
} args;

static const at_option options[] = {
    {"out", AT_OPT_STRING, offsetof(args, out), NULL,
     "get: the folder to put the source in; report: the page (DATASET/report.html)", "PATH"},
    {"from", AT_OPT_STRING, offsetof(args, from), NULL,
     "get: a local file or folder instead of the network", "PATH"},
    {"url", AT_OPT_STRING, offsetof(args, url), NULL,
     "get: another address than the official one, of a folder", "URL"},
    {"jobs", AT_OPT_INT, offsetof(args, jobs), "0", "verify: threads; 0: one a CPU", "N", .min = 0,
     .max = 1024},
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
    if (code < 0 && out && !a->out[0] && access(dataset, F_OK) == 0 && access(dataset, W_OK) != 0)
        code = at_fail(err, code, "%s cannot be written to: say --out FILE.html", dataset);
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

enum { LISTED = 1000 }; /* damages in a report */

static void list_damage(void *context, const at_damage *d)
{
    at_node *list = context;
    if (at_node_count(list) == LISTED)
        return;
    at_node *n = at_node_add(list, at_node_new(AT_MAP));
    at_set_string(n, "file", d->file);
    at_node_set(n, "offset", d->offset < 0 ? at_node_new(AT_NULL) : at_node_new_int(d->offset));
    at_set_string(n, "image", d->image);
    at_set_string(n, "what", d->what);
}

static void print_damage(const at_node *damages, const at_dataset_checked *c)
{
    for (size_t i = 0; i < at_node_count(damages); i++) {
        const at_node *n = at_node_at(damages, i);
        const char *image = at_node_string(at_node_get(n, "image"), NULL);
        printf("%s", at_node_string(at_node_get(n, "file"), ""));
        if (at_node_kind(at_node_get(n, "offset")) == AT_INT)
            printf(" at %s", at_node_text(at_node_get(n, "offset")));
        printf(": %s%s%s\n", image ? image : "", image ? ": " : "",
               at_node_string(at_node_get(n, "what"), ""));
    }
    if (c->damaged > at_node_count(damages))
        printf("... and %" PRIu64 " more\n", c->damaged - at_node_count(damages));
    printf("%s, %s of %s in %s: %s\n", cli_number(c->images, "image").text,
           cli_number(c->contents, "content").text, cli_number(c->bytes, "byte").text,
           cli_number(c->shards, "shard").text, c->damaged ? "damaged" : "all whole");
}

static int verify(const char *dataset, const args *a, at_error *err)
{
    at_dataset_checked c;
    at_node *damages = at_node_new(AT_LIST);
    int code = at_dataset_verify(dataset, (int)a->jobs, list_damage, damages, &c, err);
    bool finished = code == 0 || c.damaged;
    if (finished && a->json) {
        at_node *n = at_node_new(AT_MAP);
        at_set_string(n, "dataset", dataset);
        at_set_int(n, "images", (int64_t)c.images);
        at_set_int(n, "contents", (int64_t)c.contents);
        at_set_int(n, "shards", (int64_t)c.shards);
        at_set_int(n, "bytes", (int64_t)c.bytes);
        at_set_int(n, "damaged", (int64_t)c.damaged);
        at_set_bool(n, "ok", code == 0);
        at_node_set(n, "damages", at_node_copy(damages));
        cli_print_json(n);
    } else if (finished) {
        print_damage(damages, &c);
    }
    const char *first = at_node_string(at_node_get(at_node_at(damages, 0), "file"), "");
    if (code == AT_EINPUT && c.damaged) {
        at_error what = *err;
        at_fail(err, code, "%" PRIu64 " damaged: %s%s", c.damaged, what.message,
                strcmp(first, "images.idx")
                    ? ": take the data set from a copy, or ingest its source "
                      "again"
                    : "");
    }
    at_node_free(damages);
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
    if (!strcmp(argv[0], "verify") && operands == 2)
        return verify(argv[1], a, err);
    return at_fail(err, AT_EUSAGE,
                   "neither \"list\" nor \"get NAME\", \"report DATASET\" or \"verify DATASET\"");
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
    .usage = "list | get NAME [--from PATH] --out SRC | report DATASET [--out FILE.html] | "
             "verify DATASET",
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
        "(constant, dark, tiny, in two classes, ...)\nand the files that could not be "
        "read.\n\nverify "
        "reads every content against its CRC and its hash, all other bytes of the "
        "shards, the catalog's\nimages (paths, splits, labels) against the data set's hash; "
        "statistics and sizes in the catalog are not\nreckoned anew. It names what is damaged and "
        "whose image it is; exit status 3.\n\n"
        "  atoll dataset list\n"
        "  atoll dataset get cifar10 --out src/cifar10\n"
        "  atoll dataset get cifar10 --from cifar10-jpeg.tar.gz --out src/cifar10\n"
        "  atoll dataset report data/cifar10 --out cifar10.html\n"
        "  atoll dataset verify data/cifar10",
    .options = options,
    .run = run};
