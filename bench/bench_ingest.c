/* SPDX-License-Identifier: Apache-2.0
 * atoll bench ingest: images a second from a source to a data set on disk (and a cache, where a size
 * is given), beside what libjpeg and libpng alone need for the same pictures on as many threads.
 *
 * The data set is made in $TMPDIR and goes again. The floor is timed after it, in the same run. */
#include "bare.h"
#include "timing.h"

#include <atoll/cache.h>

#include <stdlib.h>
#include <sys/resource.h>

struct place {
    char folder[BENCH_FOLDER];
    char *dataset, *cache;
    at_frame frame; /* of the cache; height 0: none is made */
};

struct times {
    double ingest, cache, floor;
    double cpu, floor_cpu; /* of all cores: tells more where others use them, too */
    size_t peak;           /* resident bytes while ingest and cache were made */
};

/* Seconds of CPU that this process and the children that it has waited for have used. */
static double cpu_seconds(void)
{
    static const int whose[] = {RUSAGE_SELF, RUSAGE_CHILDREN};
    double sum = 0;
    for (size_t i = 0; i < sizeof whose / sizeof *whose; i++) {
        struct rusage u;
        if (getrusage(whose[i], &u) == 0)
            sum += (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
                   (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) * 1e-6;
    }
    return sum;
}

static int fill_cache(const struct place *p, at_frames *frames, int threads, double *seconds,
                      at_error *err)
{
    at_cache_spec spec = {.frame = p->frame, .threads = threads, .frames = frames};
    double begin = at_now();
    int code = at_cache_build(p->dataset, &spec, p->cache, err);
    *seconds = at_now() - begin;
    return code;
}

static int time_floor(const char *dataset, int threads, double *seconds, at_error *err)
{
    at_dataset *d = at_dataset_open(dataset, err);
    int code = d ? bench_bare_decode(d, threads, seconds, err) : err->code;
    at_dataset_close(d);
    return code;
}

static at_node *describe(const at_ingest_result *made, const struct times *t, int threads)
{
    double images = (double)(made->images + made->errors), seconds = t->ingest + t->cache;
    at_node *n = at_node_new(AT_MAP);
    at_set_string(n, "bench", "ingest");
    at_set_real(n, "images_per_second", images / seconds);
    at_set_real(n, "floor_images_per_second", (double)made->images / t->floor);
    at_set_real(n, "floor_fraction", images / seconds / ((double)made->images / t->floor));
    at_set_real(n, "seconds", seconds);
    at_set_real(n, "ingest_seconds", t->ingest);
    at_set_real(n, "cache_seconds", t->cache);
    at_set_real(n, "floor_seconds", t->floor);
    at_set_real(n, "cpu_seconds", t->cpu);
    at_set_real(n, "floor_cpu_seconds", t->floor_cpu);
    at_set_int(n, "images", (int64_t)made->images);
    at_set_int(n, "errors", (int64_t)made->errors);
    at_set_int(n, "bytes", (int64_t)made->bytes);
    at_set_int(n, "threads", threads);
    at_set_int(n, "peak_rss_bytes", (int64_t)t->peak);
    return n;
}

at_node *at_bench_ingest(const at_bench_ingest_options *o, at_error *err)
{
    int threads = o->threads > 0 ? o->threads : at_cpu_count();
    struct place p = {.frame = {.height = o->height, .width = o->width}};
    at_frames *frames = NULL;
    struct times t = {0};
    at_ingest_result made = {0};
    int code = bench_make_folder(p.folder, err);
    if (code == 0) {
        p.dataset = at_path_join(p.folder, "dataset");
        p.cache = at_path_join(p.folder, "cache");
        code = p.dataset && p.cache ? 0 : at_nomem(err);
    }
    if (code == 0 && o->height && !(frames = at_frames_new(&p.frame, p.folder, err)))
        code = err->code;
    at_ingest_options how = {.source = o->source,
                             .out = p.dataset,
                             .jobs = threads,
                             .allow_missing_classes = true,
                             .frames = frames};
    double begin = cpu_seconds();
    if (code == 0)
        code = at_ingest(&how, &made, err);
    t.ingest = made.seconds;
    if (code == 0 && o->height)
        code = fill_cache(&p, frames, threads, &t.cache, err);
    at_frames_free(frames);
    t.peak = at_peak_rss();
    double between = cpu_seconds();
    if (code == 0)
        code = time_floor(p.dataset, threads, &t.floor, err);
    t.cpu = between - begin;
    t.floor_cpu = cpu_seconds() - between;
    bench_remove_folder(p.folder);
    free(p.dataset);
    free(p.cache);
    return code < 0 ? NULL : describe(&made, &t, threads);
}
