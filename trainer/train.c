/* SPDX-License-Identifier: Apache-2.0
 * One training from configuration to summary: check, open, build, resume, loop, evaluate, write.
 *
 * Each stage ends with all ranks agreeing whether it went well (at_agree), so none waits for
 * another that gave up, and all return the same failure.
 */
#include "internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int failed(const at_error *err)
{
    return err->code < 0 ? err->code : AT_EFAIL;
}

static bool is_root(const at_training *t)
{
    return at_comm_rank(t->comm) == 0;
}

/* ---- stages until the first step ------------------------------------------------------------- */

static int check_job(at_training *t, at_error *err)
{
    const at_train_job *job = t->job;
    if (!job->out || !job->out[0] || !job->data || !job->data[0] || !job->model || !job->model[0])
        return at_fail(err, AT_EUSAGE, "a training needs a data set, a model and a folder%s",
                       job->resume ? "; there is none to resume that names them" : "");
    return is_root(t) ? at_run_check(job, err) : 0;
}

static int share_threads(at_training *t, at_error *err)
{
    return at_thread_share(t->job->config, t->comm, &t->threads, err);
}

/* What the keys say and the cache has otherwise; what they leave to auto is the cache's. */
static int check_named(const at_training *t, const at_cache_spec *spec, at_error *err)
{
    const at_cache_keys *keys = &t->job->config->input;
    const at_frame *want = &spec->frame, have = at_cache_frame(t->cache);
    const char *key =
        want->height && (want->height != have.height || want->width != have.width) ? "size"
        : want->channels && want->channels != have.channels                        ? "channels"
        : strcmp(keys->fit, "auto") != 0 && want->fit != have.fit                  ? "fit"
        : strcmp(keys->form, "auto") != 0 && spec->form != at_cache_form(t->cache) ? "form"
                                                                                   : NULL;
    return key ? at_fail(err, AT_EINPUT,
                         "%s is told, but the cache %s has another: it holds %s pictures of "
                         "%dx%dx%d, fit %s",
                         key, at_cache_path(t->cache), at_form_name(at_cache_form(t->cache)),
                         have.height, have.width, have.channels, at_fit_name(have.fit))
               : 0;
}

/* The folder that the configuration names, if it is of this data set and transform. */
static int open_named_cache(at_training *t, const at_cache_spec *spec, at_error *err)
{
    at_dataset *data = at_dataset_open_head(t->job->data, err);
    if (!data)
        return failed(err);
    t->cache = at_cache_open_at(t->job->config->cache, at_dataset_hash(data), err);
    at_dataset_close(data);
    if (!t->cache)
        return failed(err);
    int code = at_cache_set_source(t->cache, t->job->data, err);
    return code < 0 ? code : check_named(t, spec, err);
}

/* What a cache, which may take hours to fill, would not change. */
static int check_kind(at_training *t, at_error *err)
{
    if (at_model_check(t->job->model, err) < 0)
        return failed(err);
    at_dataset *data = at_dataset_open_head(t->job->data, err);
    if (!data)
        return failed(err);
    size_t classes = at_dataset_classes(data);
    at_dataset_close(data);
    return classes > 1 ? 0
                       : at_fail(err, AT_EINPUT, "%s has %zu class; a classifier needs at least 2",
                                 t->job->data, classes);
}

static int open_cache(at_training *t, at_error *err)
{
    const at_train_config *c = t->job->config;
    at_cache_spec spec = {.dir = c->cache_dir};
    double limit;
    int code = at_cache_spec_read(&c->input, &spec, err);
    code = code < 0 ? code : at_parse_bytes("cache.limit", c->cache_limit, &limit, err);
    if (code < 0)
        return code;
    spec.limit_bytes = (uint64_t)limit;
    if (c->cache[0])
        return open_named_cache(t, &spec, err);
    t->cache = at_cache_open(t->job->data, &spec, err);
    return t->cache ? 0 : failed(err);
}

static int check_data(at_training *t, at_error *err)
{
    size_t samples = at_training_samples(t);
    if (samples == 0)
        return at_fail(err, AT_EINPUT, "%s has no images in its train split", t->job->data);
    size_t batch = (size_t)t->job->config->batch, ranks = (size_t)at_comm_size(t->comm);
    if (batch * ranks > samples && is_root(t))
        at_log(AT_LOG_WARN,
               "batch x ranks = %zu is more than the %zu training images: "
               "each epoch is a single step, mostly of padding",
               batch * ranks, samples);
    return 0;
}

static int build_net(at_training *t, at_error *err)
{
    float mean[4], deviation[4];
    at_model_spec spec = {.classes = (int)at_cache_classes(t->cache)};
    at_cache_shape(t->cache, &spec.height, &spec.width, &spec.channels);
    const char *mode = t->job->config->preprocess;
    if (strcmp(mode, "dataset") != 0) {
        int code = at_preprocess(&spec, mode, err);
        if (code < 0)
            return code;
    } else if (t->job->config->normalize) {
        at_cache_statistics(t->cache, mean, deviation);
        spec.mean = mean;
        spec.deviation = deviation;
    }
    at_graph *graph = at_model_graph(t->job->model, &spec, err);
    if (!graph)
        return failed(err);
    if (at_check_weights_fit(t, graph, err) == 0)
        t->net = at_net_new(graph, (uint64_t)t->job->config->seed, err);
    at_graph_free(graph);
    int code = t->net ? at_model_savable(t->net, err) : failed(err); /* not only after all epochs */
    if (code == 0 && is_root(t))
        code = at_whiten(t->net, t->cache, err);
    return code < 0 ? code : at_net_freeze(t->net, t->job->config->freeze, err);
}

/* Before the plan: its gradients lie in the node's window. */
static int build_reducer(at_training *t, at_error *err)
{
    size_t count = at_net_trained_count(t->net) + at_net_state_count(t->net) + AT_TAIL;
    t->grads = at_comm_alloc(t->comm, count, err);
    if (!t->grads)
        return failed(err);
    at_net_use_grads(t->net, t->grads);
    size_t bucket = (size_t)t->job->config->bucket_kib << 10;
    t->reducer = at_reducer_new(t->comm, t->grads, count, bucket, err);
    return t->reducer ? 0 : failed(err);
}

/* Every rank reads them from the catalog. */
static int weigh_classes(at_training *t, at_error *err)
{
    size_t classes = at_cache_classes(t->cache);
    if (strcmp(t->job->config->class_weights, "balanced") != 0)
        return 0;
    t->class_weights = calloc(classes, sizeof *t->class_weights);
    return t->class_weights ? at_balanced_weights(t->job->data, t->class_weights, classes, err)
                            : at_nomem(err);
}

static int weigh_draws(at_training *t, at_error *err)
{
    return at_draw_weights(t->job->config, t->cache, &t->draw_weights, err);
}

/* Tells before anything is built whether these keys go together and fit the images. */
static int check_augment(at_training *t, at_error *err)
{
    int height, width, channels;
    float mean[4], deviation[4];
    at_cache_shape(t->cache, &height, &width, &channels);
    at_cache_statistics(t->cache, mean, deviation);
    at_augmenter *a =
        at_augmenter_new(&t->job->config->augment, 0, height, width, channels, mean, err);
    at_augmenter_free(a);
    return a ? 0 : failed(err);
}

static int build_optimizer(at_training *t, at_error *err)
{
    t->optimizer = at_optimizer_new(t->net, t->job->config, t->threads, err);
    return t->optimizer ? 0 : failed(err);
}

static int sum_over_ranks(void *context, double *values, size_t n, at_error *err)
{
    return at_reducer_sum(context, values, n, err);
}

static int plan_options(const at_training *t, at_plan_options *out, at_error *err)
{
    const at_train_config *c = t->job->config;
    *out = (at_plan_options){.batch = (int)c->batch,
                             .training = true,
                             .threads = t->threads,
                             .seed = (uint64_t)c->seed,
                             .label_smoothing = (float)c->label_smoothing,
                             .class_weights = t->class_weights};
    if (c->sync_bn && at_comm_size(t->comm) > 1) {
        out->sum = sum_over_ranks;
        out->sum_context = t->reducer;
    }
    int code = at_precision_parse(c->precision, &out->precision, err);
    return code < 0 ? code : at_precision_check(out->precision, err);
}

static int check_batch(at_training *t, at_error *err)
{
    at_plan_options options;
    int code = plan_options(t, &options, err);
    return code < 0 ? code : at_check_batch_fits(t, &options, err);
}

static int build_plan(at_training *t, at_error *err)
{
    at_plan_options options;
    int code = plan_options(t, &options, err);
    t->plan = code == 0 ? at_build_plan(t->comm, t->net, &options, err) : NULL;
    return t->plan ? 0 : failed(err);
}

static int check_plan(at_training *t, at_error *err)
{
    return at_check_plan_fits(t, err);
}

/* Where a training is resumed, its checkpoint has the weights, if there is one. */
static int init_weights(at_training *t, at_error *err)
{
    return is_root(t) && !t->job->resume ? at_init_read(t, err) : 0;
}

static int begin_folder(at_training *t, at_error *err)
{
    return is_root(t) ? at_run_begin(t->job, &t->lock, err) : 0;
}

/* Steps are of this session's batch and ranks, which may be others than the checkpoint's. */
static int place_in_epoch(at_training *t, at_error *err)
{
    uint64_t samples = at_training_samples(t);
    uint64_t global = (uint64_t)t->job->config->batch * (uint64_t)at_comm_size(t->comm);
    if (t->at.consumed > samples)
        return at_fail(err, AT_EINPUT,
                       "the checkpoint stands %" PRIu64
                       " images into an epoch, which has only %" PRIu64
                       ": resume with the same data and train_limit",
                       t->at.consumed, samples);
    if (t->at.consumed < samples && t->at.consumed % global != 0)
        return at_fail(err, AT_EINPUT,
                       "the checkpoint stands %" PRIu64
                       " images into an epoch, which is no multiple of batch x ranks = %" PRIu64
                       ": resume with a batch that divides it",
                       t->at.consumed, global);
    t->at.step = t->at.consumed < samples ? t->at.consumed / global : at_training_steps(t);
    return 0;
}

/* The plan of samples and the normalisation are of the data set that the training began with. */
static int check_dataset(const at_training *t, at_error *err)
{
    const char *before = t->at.dataset;
    char now[65];
    at_cache_dataset(t->cache, now);
    if (!before[0] || !strcmp(before, now))
        return 0;
    return at_fail(err, AT_EINPUT,
                   "the checkpoint in %s is of another data set (%.16s) than %s is now (%.16s): "
                   "resume with the one "
                   "that it began with, or begin anew with another --out",
                   t->job->out, before, t->job->data, now);
}

static int check_fit(const at_training *t, at_error *err)
{
    const char *before = t->at.fit, *now = at_fit_name(at_cache_frame(t->cache).fit);
    if (!before[0] || !strcmp(before, now))
        return 0;
    return at_fail(err, AT_EINPUT,
                   "the checkpoint in %s has seen pictures with fit=%s, not %s: resume with --fit "
                   "%s, or begin anew with another --out",
                   t->job->out, before, now, before);
}

/* Rank 0 reads the checkpoint, share_start gives it to all: ranks may see different disks. */
static int resume(at_training *t, at_error *err)
{
    if (!t->job->resume || !is_root(t))
        return 0;
    char *dir = at_path_join(t->job->out, "checkpoints");
    int found = dir ? at_checkpoint_load(dir, t->net, t->optimizer, &t->at, err) : at_nomem(err);
    free(dir);
    if (found < 0)
        return found;
    if (!found)
        at_log(AT_LOG_INFO, "%s has no checkpoint yet: training begins", t->job->out);
    int code = found ? 0 : at_init_read(t, err);
    code = code < 0 ? code : check_dataset(t, err);
    code = code < 0 ? code : check_fit(t, err);
    code = code < 0 ? code : place_in_epoch(t, err);
    return code < 0 ? code : at_run_trim_metrics(t->job->out, &t->at, &t->last_epoch, err);
}

static int write_config(at_training *t, at_error *err)
{
    int code = is_root(t) ? at_run_write_config(t->job, t->comm, t->cache, err) : 0;
    return code == 0 && is_root(t) ? at_init_write(t, err) : code;
}

static int share_start(at_training *t, at_error *err)
{
    struct {
        at_progress_point at;
        uint64_t updates;
    } start = {t->at, at_optimizer_steps(t->optimizer)};
    size_t params = at_net_param_count(t->net) * sizeof(float);
    size_t states = at_net_state_count(t->net) * sizeof(float);
    int code = at_comm_broadcast(t->comm, &start, sizeof start, 0, err);
    code = code < 0 ? code : at_comm_broadcast(t->comm, at_net_params(t->net), params, 0, err);
    code = code < 0 ? code : at_comm_broadcast(t->comm, at_net_state(t->net), states, 0, err);
    for (size_t i = 0; i < at_optimizer_slots(t->optimizer) && code == 0; i++)
        code = at_comm_broadcast(t->comm, at_optimizer_slot(t->optimizer, i), params, 0, err);
    t->at = start.at;
    at_optimizer_set_steps(t->optimizer, start.updates);
    return code;
}

/* The order matters: nothing is written under RUN/ before all is known to fit. */
static int prepare(at_training *t, at_error *err)
{
    static int (*const stages[])(at_training *, at_error *) = {
        check_job,     share_threads,   check_kind,   open_cache,   check_data,
        check_augment, weigh_draws,     build_net,    init_weights, build_reducer,
        weigh_classes, build_optimizer, check_batch,  build_plan,   check_plan,
        begin_folder,  resume,          write_config, share_start};
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        int code = at_agree(t->comm, stages[i](t, err), err);
        if (code < 0)
            return code;
    }
    return 0;
}

/* ---- what a training leaves behind ----------------------------------------------------------- */

static int save_model(at_training *t, at_error *err)
{
    size_t classes = at_cache_classes(t->cache);
    at_model_info info = {.model = (char *)t->job->model,
                          .class_count = classes,
                          .fit = (char *)at_fit_name(at_cache_frame(t->cache).fit)};
    info.classes = calloc(classes, sizeof *info.classes);
    info.training = at_run_keys(t->job->config);
    char *path = at_path_join(t->job->out, "model.h5");
    int code = info.classes && path ? 0 : at_nomem(err);
    for (size_t i = 0; code == 0 && i < classes; i++)
        info.classes[i] = (char *)at_cache_class_name(t->cache, i);
    if (code == 0)
        code = at_model_save(t->net, &info, path, err);
    free(info.classes);
    at_node_free(info.training);
    free(path);
    return code;
}

static at_node *summary_of(const at_training *t, const at_node *test)
{
    at_node *s = at_node_new(AT_MAP);
    at_set_real(s, "test_accuracy", at_node_real(at_node_get(test, "accuracy"), NAN));
    at_set_real(s, "test_loss", at_node_real(at_node_get(test, "loss"), NAN));
    at_set_int(s, "epochs", (int64_t)t->at.epoch);
    at_set_int(s, "ranks", at_comm_size(t->comm));
    double images = (double)t->at.epoch * (double)at_training_samples(t);
    at_set_real(s, "images_per_second", images / t->at.step_seconds);
    at_set_real(s, "seconds", t->at.seconds);
    at_set_string(s, "model", t->job->model);
    at_set_int(s, "parameters", (int64_t)at_net_param_count(t->net));
    static const char *const copied[] = {"train_loss", "train_accuracy", "val_loss",
                                         "val_accuracy"};
    for (size_t i = 0; i < sizeof copied / sizeof *copied; i++)
        if (at_node_get(t->last_epoch, copied[i]))
            at_node_set(s, copied[i], at_node_copy(at_node_get(t->last_epoch, copied[i])));
    at_node *init = at_init_report(t);
    if (init)
        at_node_set(s, "init", init);
    at_set_int(s, "peak_rss_bytes", (int64_t)at_peak_rss());
    if (test)
        at_node_set(s, "test", at_node_copy(test));
    return s;
}

static int write_report(const at_train_job *job, at_error *err)
{
    char *path = at_path_join(job->out, "report.html");
    int code =
        path ? at_report_write(&(at_report_sources){.run = job->out, .data = job->data}, path, err)
             : at_nomem(err);
    free(path);
    return code;
}

/* Rank 0's files: model.h5, summary.json, report.html; of a trial only the summary. */
static int write_results(at_training *t, const at_node *summary, at_error *err)
{
    bool whole = !t->job->trial;
    int code = whole ? save_model(t, err) : 0;
    code = code < 0 ? code : at_run_write_node(t->job->out, "summary.json", summary, err);
    return code < 0 || !whole ? code : write_report(t->job, err);
}

static at_node *finish(at_training *t, at_error *err)
{
    at_node *test = NULL;
    if (!t->job->trial && at_cache_count(t->cache, AT_TEST) > 0) {
        test = at_evaluate(t->net, t->cache, AT_TEST, "none", t->threads, t->comm, err);
        if (!test)
            return NULL;
    }
    at_node *summary = is_root(t) ? summary_of(t, test) : at_node_new(AT_MAP);
    at_node_free(test);
    if (at_agree(t->comm, is_root(t) ? write_results(t, summary, err) : 0, err) == 0)
        return summary;
    at_node_free(summary);
    return NULL;
}

at_node *at_train(const at_train_job *job, at_comm *comm, at_error *err)
{
    at_error local = {0};
    err = err ? err : &local;
    at_training t = {.job = job, .comm = comm};
    at_node *summary = NULL;
    if (prepare(&t, err) == 0 && at_training_run(&t, err) == 0)
        summary = finish(&t, err);
    at_reducer_free(t.reducer);
    at_optimizer_free(t.optimizer);
    at_plan_free(t.plan);
    at_net_free(t.net);
    if (t.grads)
        at_comm_dealloc(comm, t.grads);
    at_cache_close(t.cache);
    at_node_free(t.last_epoch);
    at_node_free(t.init);
    free(t.class_weights);
    free(t.draw_weights);
    at_lock_release(t.lock);
    return summary;
}
