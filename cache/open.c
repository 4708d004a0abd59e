/* SPDX-License-Identifier: Apache-2.0
 * Which cache: the one named after data set and shape under the common folder, made when it is not
 * there, or an explicit folder. At most one process fills a folder; the others wait for its lock,
 * then find the cache done.
 */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define DEFAULT_LIMIT ((uint64_t)20 << 30)

/* What stands at path may go: nothing, or a folder that holds at most a cache's files. */
bool at_cache_may_replace(const char *path)
{
    static const char *const ours[] = {"train.atc", "val.atc", "test.atc",
                                       "meta.json", "used",    "damaged"};
    DIR *dir = opendir(path);
    if (!dir)
        return errno == ENOENT;
    bool all = true;
    for (struct dirent *entry; all && (entry = readdir(dir));) {
        const char *name = entry->d_name;
        bool known = strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
        for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
            known = known || strcmp(name, ours[i]) == 0;
        all = known;
    }
    closedir(dir);
    return all;
}

static at_cache *open_if_fits(const char *path, const at_cache_plan *p, at_error *err)
{
    at_cache *c = at_cache_open_folder(path, at_dataset_hash(p->dataset), err);
    if (!c)
        return NULL;
    const at_cache_header *have = &c->file[AT_TRAIN].header, *want = &p->header[AT_TRAIN];
    if (have->height != want->height || have->width != want->width ||
        have->channels != want->channels || have->fit != want->fit)
        at_fail(err, AT_EINPUT, "%s holds samples of another size, channels or fit", path);
    else if (have->form != want->form)
        at_fail(err, AT_EINPUT, "%s holds %s samples", path, at_form_name((at_form)have->form));
    else if (at_cache_is_marked(path))
        at_fail(err, AT_EINPUT, "%s has a damaged batch", path);
    else
        return c;
    at_cache_close(c);
    return NULL;
}

/* With the lock held: makes the cache that cannot be opened because of `why`. */
static int make(const at_cache_site *site, at_cache_plan *p, const char *evict_dir, uint64_t limit,
                const at_error *why, at_error *err)
{
    if (!at_cache_may_replace(site->path))
        return at_fail(err, AT_EINPUT, "%s is there already and is no cache: it is left alone",
                       site->path);
    if (why->code != AT_ENOENT)
        at_log(AT_LOG_WARN, "%s: the cache is made again", why->message);
    if (p->frames && !at_cache_fits(p, site->parent)) {
        at_frames_drop(p->frames);
        p->frames = NULL;
    }
    int rc = evict_dir ? at_cache_evict(evict_dir, site->name, p->bytes, limit, err) : 0;
    return rc ? rc : at_cache_site_fill(site, p, err);
}

static bool can_be_made(const at_error *why)
{
    return why->code == AT_ENOENT || why->code == AT_EINPUT;
}

/* Opens the cache at path, made where it is missing or broken. evict_dir: the folder for which the
 * limit holds, or NULL. */
static at_cache *open_or_make(const char *path, at_cache_plan *p, const char *evict_dir,
                              uint64_t limit, at_error *err)
{
    at_error why;
    at_cache_site site;
    at_cache *c = open_if_fits(path, p, &why);
    if (c)
        return c;
    if (!can_be_made(&why)) {
        at_fail(err, why.code, "%s", why.message);
        return NULL;
    }
    if (at_cache_site_init(&site, path, err))
        return NULL;
    if (at_cache_site_lock(&site, true, err) || at_cache_site_sweep(&site, err))
        goto done;
    c = open_if_fits(path, p, &why); /* whoever had the lock may have made it */
    if (!c && make(&site, p, evict_dir, limit, &why, err) == 0)
        c = open_if_fits(path, p, err);
done:
    at_cache_site_fini(&site);
    return c;
}

/* What is the default is not in the name. */
static char *keyed_path(const char *dir, const at_cache_plan *p)
{
    bool stretched = p->frame.fit == AT_FIT_STRETCH, decoded = p->form == AT_FORM_UINT8;
    return at_format("%s/%.*s-%dx%dx%d%s%s%s%s-v%d", dir, AT_CACHE_KEY, at_dataset_hash(p->dataset),
                     p->frame.height, p->frame.width, p->frame.channels, stretched ? "" : "-",
                     stretched ? "" : at_fit_name(p->frame.fit), decoded ? "" : "-",
                     decoded ? "" : at_form_name(p->form), AT_CACHE_VERSION);
}

static void name_another_folder(at_error *err)
{
    at_error why = *err;
    at_fail(err, why.code, "%s; cache.dir or ATOLL_CACHE_DIR names another folder for caches",
            why.message);
}

static bool can_be_written(const char *dir, at_error *err)
{
    if (at_make_dirs(dir, err) == 0)
        return true;
    name_another_folder(err);
    return false;
}

/* The keyed cache of a data set: with `head` only if it is there, for which the images need not be listed. */
static at_cache *open_keyed(const char *dataset, bool head, const at_cache_spec *spec,
                            const char *dir, at_error *err)
{
    at_cache_plan plan;
    at_cache *c = NULL;
    char *path = NULL;
    at_dataset *d = (head ? at_dataset_open_head : at_dataset_open)(dataset, err);
    if (!d || at_cache_plan_init(&plan, d, spec, err))
        goto end;
    path = keyed_path(dir, &plan);
    if (!path)
        at_nomem(err);
    else if (head)
        c = open_if_fits(path, &plan, err);
    else if (can_be_written(dir, err))
        c = open_or_make(path, &plan, dir, spec->limit_bytes ? spec->limit_bytes : DEFAULT_LIMIT,
                         err);
end:
    free(path);
    at_dataset_close(d);
    return c;
}

at_frames *at_cache_frames(const at_cache_spec *spec, at_error *err)
{
    char *dir = at_cache_folder(spec, at_folder_is_remote, err);
    at_frames *frames = NULL;
    if (dir && can_be_written(dir, err) && !(frames = at_frames_new(&spec->frame, dir, err)))
        name_another_folder(err);
    free(dir);
    return frames;
}

at_cache *at_cache_open(const char *dataset, const at_cache_spec *spec, at_error *err)
{
    at_error local = {0};
    char *dir = at_cache_folder(spec, at_folder_is_remote, err);
    if (!dir)
        return NULL;
    at_cache *c = open_keyed(dataset, true, spec, dir, &local);
    if (!c)
        c = open_keyed(dataset, false, spec, dir, err ? err : &local);
    free(dir);
    if (c && at_cache_set_source(c, dataset, err)) {
        at_cache_close(c);
        c = NULL;
    }
    return c;
}

int at_cache_build(const char *dataset, const at_cache_spec *spec, const char *out, at_error *err)
{
    at_error local = {0};
    at_cache_plan plan;
    at_cache *c = NULL;
    at_dataset *d = at_dataset_open(dataset, &local);
    if (!d)
        return at_fail(err, local.code, "%s", local.message);
    if (at_cache_plan_init(&plan, d, spec, &local) == 0)
        c = open_or_make(out, &plan, NULL, 0, &local);
    at_dataset_close(d);
    at_cache_close(c);
    return c ? 0 : at_fail(err, local.code, "%s", local.message);
}
