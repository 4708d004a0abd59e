/* SPDX-License-Identifier: Apache-2.0
 * Damage: found by checking a whole cache, mended from the data set.
 *
 * A batch depends on data set and transform alone, so one that is damaged is made again and written
 * into its place, which the table's CRC32C confirms; who maps the file sees it at once. That holds
 * for a reader that meets it (at_cache_mend) and for `atoll cache repair`. Where header, table or
 * meta.json are broken, or the batch that is made has another CRC, the whole cache is made again.
 * Whoever mends holds the lock of the cache's site.
 */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int at_cache_set_source(at_cache *c, const char *dataset, at_error *err)
{
    free(c->source);
    c->source = strdup(dataset);
    return c->source ? 0 : at_nomem(err);
}

static at_cache_spec spec_of(const at_cache_header *h, int threads)
{
    return (at_cache_spec){
        .frame = at_cache_header_frame(h), .form = (at_form)h->form, .threads = threads};
}

static int check_hash(const char *path, const char *made_from, const at_dataset *d,
                      const char *dataset, at_error *err)
{
    if (strncmp(at_dataset_hash(d), made_from, 64) == 0)
        return 0;
    return at_fail(err, AT_EINPUT,
                   "%s was made from another data set than %s: its hash is %.16s..., not %.16s...",
                   path, dataset, made_from, at_dataset_hash(d));
}

/* Opens the data set and plans this very cache of it. */
static int plan_again(at_cache_plan *p, const at_cache *c, const char *dataset, int threads,
                      at_dataset **out, at_error *err)
{
    const at_cache_header *h = &c->file[AT_TRAIN].header;
    at_cache_spec spec = spec_of(h, threads);
    at_dataset *d = *out = at_dataset_open(dataset, err);
    if (!d)
        return err->code;
    int rc = check_hash(c->path, h->dataset_hash, d, dataset, err);
    return rc ? rc : at_cache_plan_init(p, d, &spec, err);
}

/* Makes the batch again and writes it, if it is the one that the table expects. */
static int rewrite_batch(at_cache_file *f, at_cache_maker *m, at_split split, size_t batch,
                         at_error *err)
{
    uint64_t offset;
    size_t bytes;
    struct stat now, mapped;
    at_cache_file_batch(f, batch, &offset, &bytes);
    int rc = at_cache_maker_make(m, split, batch, err);
    if (rc)
        return rc;
    if (m->bytes != bytes || at_crc32c(0, m->data, bytes) != f->crcs[batch])
        return at_fail(err, AT_EINPUT, "%s: batch %zu comes out otherwise now", f->path, batch);
    int fd = open(f->path, O_RDWR | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &now) || fstat(f->fd, &mapped))
        rc = at_fail_errno(err, errno, "cannot mend %s", f->path);
    else if (now.st_ino != mapped.st_ino || now.st_dev != mapped.st_dev)
        rc = at_fail(err, AT_EINPUT, "%s was replaced meanwhile", f->path);
    if (!rc)
        rc = at_cache_write(fd, f->path, m->data, bytes, offset, err);
    if (!rc && fsync(fd))
        rc = at_fail_errno(err, errno, "cannot mend %s", f->path);
    if (fd >= 0)
        close(fd);
    return rc ? rc : at_cache_file_check(f, batch, err);
}

/* ---- one batch, met by a reader ------------------------------------------------------------- */

/* With the site's lock held, so that of several processes one mends. */
static int mend_locked(at_cache *c, at_split split, size_t batch, at_error *err)
{
    at_cache_plan plan;
    at_cache_maker maker;
    at_dataset *dataset = NULL;
    at_cache_file *f = &c->file[split];
    if (at_cache_file_check(f, batch, NULL) == 0)
        return 0;
    int rc = plan_again(&plan, c, c->source, 1, &dataset, err);
    if (!rc)
        rc = at_cache_maker_init(&maker, &plan, NULL, err);
    if (!rc) {
        rc = rewrite_batch(f, &maker, split, batch, err);
        at_cache_maker_fini(&maker);
    }
    at_dataset_close(dataset);
    if (!rc)
        at_log(AT_LOG_WARN, "%s: batch %zu was damaged: made again from %s", f->path, batch,
               c->source);
    return rc;
}

int at_cache_mend(at_cache *c, at_split split, size_t batch, at_error *err)
{
    at_cache_site site;
    at_error damage = {0}, why = {0};
    int rc = at_cache_file_check(&c->file[split], batch, &damage);
    if (!rc || !c->source)
        goto done;
    pthread_mutex_lock(&c->mending);
    rc = at_cache_site_init(&site, c->path, &why);
    if (!rc) {
        rc = at_cache_site_lock(&site, true, &why);
        if (!rc)
            rc = mend_locked(c, split, batch, &why);
        at_cache_site_fini(&site);
    }
    pthread_mutex_unlock(&c->mending);
done:
    if (!rc)
        return 0;
    if (why.code == AT_EINTERRUPTED)
        return at_fail(err, why.code, "%s", why.message);
    at_cache_mark(c->path, true);
    return at_fail(err, AT_EINPUT, "%s%s%s: `atoll cache repair %s --data DATASET` makes it again",
                   damage.message, why.code ? "; not mended: " : "", why.message, c->path);
}

/* ---- all batches ---------------------------------------------------------------------------- */

typedef struct survey {
    at_cache *cache;
    const at_cache_plan *plan; /* to make every batch anew; NULL: CRCs alone */
    bool mend;
    at_split split; /* at work */
    atomic_bool stop;

    pthread_mutex_t mutex; /* guards what follows */
    at_progress *progress;
    at_cache_damage *found;
    at_cache_sums sums;
    at_error err;     /* the first damage */
    at_error failure; /* what ended the survey early */
} survey;

enum { SURVEY_TASK = 16 }; /* batches */

/* Whether batch b is what the data set makes of it: else *damage tells. Negative: it cannot be made. */
static int compare_batch(const survey *s, at_cache_maker *m, size_t b, at_error *damage,
                         at_error *err)
{
    const at_cache_file *f = &s->cache->file[s->split];
    uint64_t offset;
    size_t bytes;
    int rc = at_cache_maker_make(m, s->split, b, err);
    if (rc)
        return rc;
    at_cache_file_batch(f, b, &offset, &bytes);
    if (m->bytes != bytes || memcmp(m->data, f->map + offset, bytes) != 0 ||
        memcmp(m->labels, f->labels + b * f->header.batch_samples,
               m->samples * sizeof *m->labels) != 0)
        at_fail(damage, AT_EINPUT, "%s: batch %zu is not what the data set makes of it", f->path,
                b);
    return 0;
}

/* A thread's look at one batch: `damage` tells of it; what it returns ends the survey. */
static int look_at(survey *s, at_cache_maker *m, size_t b, at_error *damage, bool *mended,
                   at_error *err)
{
    at_cache_file *f = &s->cache->file[s->split];
    if (at_interrupted())
        return at_fail(err, AT_EINTERRUPTED, "interrupted: %s", s->cache->path);
    if (at_cache_file_check(f, b, damage) == 0)
        return s->plan && !s->mend ? compare_batch(s, m, b, damage, err) : 0;
    int rc = s->mend ? rewrite_batch(f, m, s->split, b, err) : 0;
    *mended = s->mend && rc == 0;
    return rc;
}

static void note(survey *s, const at_error *damage, bool mended, const at_error *failure)
{
    pthread_mutex_lock(&s->mutex);
    s->found->batches++;
    s->found->bad += damage->code != 0;
    s->found->mended += mended;
    if (damage->code && !s->err.code)
        s->err = *damage;
    if (failure->code && !s->failure.code && !atomic_load(&s->stop))
        s->failure = *failure;
    if (s->failure.code)
        atomic_store(&s->stop, true);
    at_progress_update(s->progress, (double)s->found->batches, NULL);
    pthread_mutex_unlock(&s->mutex);
}

static void survey_task(void *context, size_t task)
{
    survey *s = context;
    at_cache_maker maker = {0};
    at_error failure = {0};
    size_t batches = s->cache->file[s->split].header.batches, begin = task * SURVEY_TASK;
    if (s->plan && at_cache_maker_init(&maker, s->plan, &s->stop, &failure))
        atomic_store(&s->stop, true);
    for (size_t b = begin; b < begin + SURVEY_TASK && b < batches && !atomic_load(&s->stop); b++) {
        at_error damage = {0}, end = {0};
        bool mended = false;
        look_at(s, &maker, b, &damage, &mended, &end);
        note(s, &damage, mended, &end);
    }
    pthread_mutex_lock(&s->mutex);
    at_cache_sums_add(&s->sums, &maker.sums);
    if (failure.code && !s->failure.code)
        s->failure = failure;
    pthread_mutex_unlock(&s->mutex);
    at_cache_maker_fini(&maker);
}

/* Looks at all batches; 0, the first damage, or what ended it. */
static int survey_all(survey *s, int threads, at_error *err)
{
    uint64_t batches = 0;
    for (int split = 0; split < AT_SPLITS; split++)
        batches += s->cache->file[split].header.batches;
    at_pool *pool = at_pool_new(threads, err);
    if (!pool)
        return err->code;
    pthread_mutex_init(&s->mutex, NULL);
    s->progress = at_progress_new(s->mend ? "repair" : "verify", (double)batches, "batches");
    for (int split = 0; split < AT_SPLITS; split++) {
        size_t n = s->cache->file[split].header.batches;
        s->split = (at_split)split;
        at_pool_run(pool, n / SURVEY_TASK + (n % SURVEY_TASK != 0), survey_task, s);
    }
    at_progress_end(s->progress, s->failure.code ? "stopped" : "done");
    pthread_mutex_destroy(&s->mutex);
    at_pool_free(pool);
    const at_error *why = s->failure.code ? &s->failure : &s->err;
    return why->code ? at_fail(err, why->code, "%s", why->message) : 0;
}

/* Statistics and class names are what the data set gives. */
static int compare_meta(const survey *s, at_error *err)
{
    at_node *expected = NULL;
    char *text = at_cache_meta(s->plan, &s->sums), *have = NULL, *wanted = NULL;
    if (text)
        expected = at_json_parse(text, strlen(text), "meta.json", err);
    if (expected) {
        at_set_string(expected, "atoll", at_node_string(at_node_get(s->cache->meta, "atoll"), ""));
        have = at_json_print(s->cache->meta, false);
        wanted = at_json_print(expected, false);
    }
    int rc = !have || !wanted ? at_nomem(err)
             : strcmp(have, wanted) != 0
                 ? at_fail(err, AT_EINPUT, "%s/meta.json is not what the data set makes of it",
                           s->cache->path)
                 : 0;
    at_node_free(expected);
    free(wanted);
    free(have);
    free(text);
    return rc;
}

static int verify_open(at_cache *c, const char *dataset, int threads, at_cache_damage *found,
                       at_error *err)
{
    at_cache_plan plan;
    at_dataset *d = NULL;
    survey s = {.cache = c, .found = found};
    int rc = dataset ? plan_again(&plan, c, dataset, threads, &d, err) : 0;
    if (!rc) {
        s.plan = dataset ? &plan : NULL;
        rc = survey_all(&s, threads, err);
        if (!rc && s.plan)
            rc = compare_meta(&s, err);
        if (found->bad)
            at_cache_mark(c->path, true);
    }
    at_dataset_close(d);
    return rc;
}

int at_cache_verify(const char *path, const char *dataset, int threads, at_cache_damage *found,
                    at_error *err)
{
    at_error local = {0};
    *found = (at_cache_damage){0};
    at_cache *c = at_cache_open_folder(path, NULL, &local);
    int rc = c ? verify_open(c, dataset, threads, found, &local) : local.code;
    at_cache_close(c);
    return rc ? at_fail(err, rc, "%s", local.message) : 0;
}

/* ---- repair --------------------------------------------------------------------------------- */

/* The transform of a cache that does not open, and its data set's hash, as a header or else
 * meta.json tells. */
static int find_spec(const char *path, at_cache_spec *out, char hash[65], at_error *err)
{
    at_cache_header h;
    for (int split = 0; split < AT_SPLITS; split++)
        if (at_cache_header_read(path, (at_split)split, &h)) {
            *out = spec_of(&h, out->threads);
            snprintf(hash, 65, "%.*s", (int)sizeof h.dataset_hash, h.dataset_hash);
            return 0;
        }
    char *file = at_path_join(path, "meta.json");
    at_node *meta = file ? at_json_read(file, NULL) : NULL;
    const at_node *transform = at_node_get(meta, "transform");
    const char *fit = at_node_string(at_node_get(transform, "fit"), at_fit_name(AT_FIT_STRETCH));
    const char *form = at_node_string(at_node_get(meta, "form"), at_form_name(AT_FORM_UINT8));
    out->frame.height = (int)at_node_int(at_node_get(transform, "height"), 0);
    out->frame.width = (int)at_node_int(at_node_get(transform, "width"), 0);
    out->frame.channels = (int)at_node_int(at_node_get(transform, "channels"), 0);
    snprintf(hash, 65, "%s", at_node_string(at_node_get(meta, "dataset_hash"), ""));
    bool known = out->frame.height > 0 && out->frame.width > 0 && out->frame.channels > 0 &&
                 at_fit_parse(fit, &out->frame.fit, NULL) == 0 &&
                 at_form_parse(form, &out->form, NULL) == 0;
    at_node_free(meta);
    free(file);
    return known ? 0
                 : at_fail(err, AT_EINPUT,
                           "%s: neither a header nor meta.json tells its size: `atoll cache build "
                           "DATASET --size HxW --out CACHE` makes it anew",
                           path);
}

static int rebuild(const at_cache_site *site, const char *dataset, int threads,
                   at_cache_damage *found, at_error *err)
{
    at_cache_plan plan;
    at_cache_spec spec = {.threads = threads};
    if (!at_cache_may_replace(site->path))
        return at_fail(err, AT_EINPUT, "%s holds other files than a cache's: it is left alone",
                       site->path);
    char hash[65];
    int rc = find_spec(site->path, &spec, hash, err);
    if (rc)
        return rc;
    at_dataset *d = at_dataset_open(dataset, err);
    rc = d ? check_hash(site->path, hash, d, dataset, err) : err->code;
    if (!rc)
        rc = at_cache_plan_init(&plan, d, &spec, err);
    if (!rc)
        rc = at_cache_site_fill(site, &plan, err);
    at_dataset_close(d);
    found->rebuilt = rc == 0;
    return rc;
}

/* Mends batch by batch; AT_EINPUT where that is not enough. */
static int repair_batches(at_cache *c, const at_cache_plan *plan, at_cache_damage *found,
                          at_error *err)
{
    survey s = {.cache = c, .plan = plan, .found = found, .mend = true};
    int rc = survey_all(&s, plan->threads, err);
    return s.failure.code || found->bad > found->mended ? rc : 0;
}

static int repair_locked(const at_cache_site *site, const char *dataset, int threads,
                         at_cache_damage *found, at_error *err)
{
    at_cache_plan plan;
    at_dataset *d = NULL;
    at_error why = {0};
    if (!at_dir_exists(site->path))
        return at_fail(err, AT_ENOENT, "there is no cache %s", site->path);
    at_cache *c = at_cache_open_folder(site->path, NULL, &why);
    int rc = c ? plan_again(&plan, c, dataset, threads, &d, err) : 0;
    if (!rc && c)
        why.code = repair_batches(c, &plan, found, &why);
    at_dataset_close(d);
    at_cache_close(c);
    if (rc || (why.code && why.code != AT_EINPUT && why.code != AT_ENOENT))
        return rc ? rc : at_fail(err, why.code, "%s", why.message);
    if (why.code) {
        at_log(AT_LOG_WARN, "%s: the whole cache is made again", why.message);
        return rebuild(site, dataset, threads, found, err);
    }
    at_cache_mark(site->path, false);
    return 0;
}

int at_cache_repair(const char *path, const char *dataset, int threads, at_cache_damage *found,
                    at_error *err)
{
    at_cache_site site;
    at_error local = {0};
    *found = (at_cache_damage){0};
    int rc = at_cache_site_init(&site, path, &local);
    if (rc)
        return at_fail(err, rc, "%s", local.message);
    rc = at_cache_site_lock(&site, true, &local);
    if (!rc)
        rc = at_cache_site_sweep(&site, &local);
    if (!rc)
        rc = repair_locked(&site, dataset, threads, found, &local);
    at_cache_site_fini(&site);
    return rc ? at_fail(err, rc, "%s", local.message) : 0;
}
