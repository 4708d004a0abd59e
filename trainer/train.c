/* SPDX-License-Identifier: Apache-2.0
 * One training from configuration to summary: check, open, build, resume, loop, evaluate, write.
 *
 * Each stage ends with all ranks agreeing whether it went well (agree), so none waits for another that gave up.
 */
#include "internal.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The worst code of all ranks; a rank that was well learns that another was not. */
static int agree(at_comm *comm, int code, at_error *err)
{
    int64_t worst = -code;
    at_error why = {0};
    if (at_comm_max_int(comm, &worst, &why) < 0)
        return at_fail(err, AT_EPEER, "%s", why.message);
    if (code == 0 && worst > 0)
        return at_fail(err, (int)-worst, "another rank failed");
    return code;
}

static int failed(const at_error *err)
{
    return err->code < 0 ? err->code : AT_EFAIL;
}

static int parse_size(const char *text, int *height, int *width, at_error *err)
{
    int end = 0;
    if (!strcmp(text, "auto")) {
        *height = *width = 0;
        return 0;
    }
    if (sscanf(text, "%dx%d%n", height, width, &end) != 2 || text[end] || *height < 1 || *width < 1 ||
        *height > 8192 || *width > 8192)
        return at_fail(err, AT_EINPUT, "size: expected HEIGHTxWIDTH such as 32x32, or auto; got \"%s\"", text);
    return 0;
}

static int open_cache(at_training *t, at_error *err)
{
    const at_train_config *c = t->job->config;
    at_cache_spec spec = {.threads = t->threads};
    int code = parse_size(c->size, &spec.height, &spec.width, err);
    if (code < 0)
        return code;
    if (!c->cache[0]) {
        t->cache = at_cache_open(t->job->data, &spec, err);
        return t->cache ? 0 : failed(err);
    }
    at_dataset *data = at_dataset_open(t->job->data, err);
    if (!data)
        return failed(err);
    t->cache = at_cache_open_at(c->cache, at_dataset_hash(data), err);
    at_dataset_close(data);
    if (!t->cache)
        return failed(err);
    int height, width, channels;
    at_cache_shape(t->cache, &height, &width, &channels);
    if (spec.height && (spec.height != height || spec.width != width))
        return at_fail(err, AT_EINPUT, "size is %s, but the cache %s holds %dx%d pictures", c->size, c->cache, height,
                       width);
    return 0;
}

static int check_data(at_training *t, at_error *err)
{
    if (at_cache_count(t->cache, AT_TRAIN) == 0)
        return at_fail(err, AT_EINPUT, "%s has no images in its train split", t->job->data);
    if (at_cache_classes(t->cache) < 2)
        return at_fail(err, AT_EINPUT, "%s has %zu class; a classifier needs at least 2", t->job->data,
                       at_cache_classes(t->cache));
    return 0;
}

static int build_net(at_training *t, at_error *err)
{
    float mean[4], deviation[4];
    at_model_spec spec = {.classes = (int)at_cache_classes(t->cache)};
    at_cache_shape(t->cache, &spec.height, &spec.width, &spec.channels);
    if (t->job->config->normalize) {
        at_cache_statistics(t->cache, mean, deviation);
        spec.mean = mean;
        spec.deviation = deviation;
    }
    at_graph *graph = at_model_graph(t->job->model, &spec, err);
    if (!graph)
        return failed(err);
    t->net = at_net_new(graph, (uint64_t)t->job->config->seed, err);
    at_graph_free(graph);
    return t->net ? 0 : failed(err);
}

/* A rank's share of its node's CPUs; a launcher that bound the rank to fewer has already made it. */
static int thread_share(const at_train_config *c, const at_comm *comm)
{
    if (c->threads > 0)
        return (int)c->threads;
    int cpus = at_cpu_count(), here = at_comm_local_size(comm);
    return cpus / here > 0 ? cpus / here : 1;
}

static int build_engine(at_training *t, at_error *err)
{
    const at_train_config *c = t->job->config;
    at_plan_options options = {
        .batch = (int)c->batch, .training = true, .threads = t->threads, .seed = (uint64_t)c->seed};
    int code = at_precision_parse(c->precision, &options.precision, err);
    if (code < 0)
        return code;
    t->plan = at_plan_new(t->net, &options, err);
    t->optimizer = t->plan ? at_optimizer_new(t->net, c, t->threads, err) : NULL;
    return t->optimizer ? 0 : failed(err);
}

static int build_reducer(at_training *t, at_error *err)
{
    size_t count = at_net_param_count(t->net) + AT_TAIL;
    t->grads = at_comm_alloc(t->comm, count, err);
    if (!t->grads)
        return failed(err);
    at_net_use_grads(t->net, t->grads);
    t->reducer = at_reducer_new(t->comm, t->grads, count, (size_t)t->job->config->bucket_kib << 10, err);
    return t->reducer ? 0 : failed(err);
}

static int resume(at_training *t, at_error *err)
{
    if (!t->job->resume)
        return 0;
    char *dir = at_path_join(t->job->out, "checkpoints");
    int found = dir ? at_checkpoint_load(dir, t->net, t->optimizer, &t->at, err) : at_nomem(err);
    free(dir);
    if (found < 0)
        return found;
    if (!found)
        at_log(AT_LOG_INFO, "%s has no checkpoint yet: training begins", t->job->out);
    uint64_t global = (uint64_t)t->job->config->batch * (uint64_t)at_comm_size(t->comm);
    if (t->at.consumed % global != 0)
        return at_fail(err, AT_EINPUT, "the checkpoint stands %" PRIu64 " samples into an epoch, which is no multiple of "
                       "batch x ranks = %" PRIu64 ": resume with a batch that divides it", t->at.consumed, global);
    t->at.step = t->at.consumed / global;
    return at_comm_rank(t->comm) == 0 ? at_run_trim_metrics(t->job->out, &t->at, err) : 0;
}

static int share_start(at_training *t, at_error *err)
{
    int code = at_comm_broadcast(t->comm, at_net_params(t->net), at_net_param_count(t->net) * sizeof(float), 0, err);
    size_t state = at_net_state_count(t->net) * sizeof(float);
    return code < 0 || state == 0 ? code : at_comm_broadcast(t->comm, at_net_state(t->net), state, 0, err);
}

typedef int (*stage)(at_training *t, at_error *err);

static int prepare_folder(at_training *t, at_error *err)
{
    int code = t->job->model && t->job->data && t->job->out ? 0 : at_fail(err, AT_EUSAGE, "data, model and out are needed");
    if (code == 0 && at_comm_rank(t->comm) == 0)
        code = at_run_prepare(t->job, err);
    return code;
}

static int write_config(at_training *t, at_error *err)
{
    return at_comm_rank(t->comm) == 0 ? at_run_write_config(t->job, t->comm, t->cache, err) : 0;
}

/* The order matters: nothing is written under RUN/ before the data and the model are known to fit. */
static int prepare(at_training *t, at_error *err)
{
    static const stage stages[] = {open_cache,    check_data, build_net, prepare_folder, build_reducer,
                                   build_engine, resume,     write_config, share_start};
    for (size_t i = 0; i < sizeof stages / sizeof *stages; i++) {
        int code = agree(t->comm, stages[i](t, err), err);
        if (code < 0)
            return code;
    }
    return 0;
}

static int save_model(at_training *t, at_error *err)
{
    size_t classes = at_cache_classes(t->cache);
    at_model_info info = {.model = (char *)t->job->model, .class_count = classes};
    info.classes = calloc(classes, sizeof *info.classes);
    info.training = at_options_to_node(at_train_options, t->job->config);
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
    double seconds = at_now() - t->started;
    at_node *s = at_node_new(AT_MAP);
    at_set_real(s, "test_accuracy", at_node_real(at_node_get(test, "accuracy"), NAN));
    at_set_real(s, "test_loss", at_node_real(at_node_get(test, "loss"), NAN));
    at_set_int(s, "epochs", (int64_t)t->at.epoch);
    at_set_int(s, "ranks", at_comm_size(t->comm));
    at_set_real(s, "images_per_second", (double)t->trained / seconds);
    at_set_real(s, "seconds", seconds);
    at_set_string(s, "model", t->job->model);
    at_set_int(s, "parameters", (int64_t)at_net_param_count(t->net));
    static const char *const copied[] = {"train_loss", "train_accuracy", "val_loss", "val_accuracy"};
    for (size_t i = 0; i < sizeof copied / sizeof *copied; i++)
        if (at_node_get(t->last_epoch, copied[i]))
            at_node_set(s, copied[i], at_node_copy(at_node_get(t->last_epoch, copied[i])));
    at_set_int(s, "peak_rss_bytes", (int64_t)at_peak_rss());
    if (test)
        at_node_set(s, "test", at_node_copy(test));
    return s;
}

/* model.h5, the test split's evaluation, summary.json and the report. */
static at_node *finish(at_training *t, at_error *err)
{
    bool root = at_comm_rank(t->comm) == 0, whole = !t->job->trial;
    at_node *test = NULL, *summary = NULL;
    if (whole && at_cache_count(t->cache, AT_TEST) > 0) {
        test = at_evaluate(t->net, t->cache, AT_TEST, "none", t->threads, t->comm, err);
        if (agree(t->comm, test ? 0 : failed(err), err) < 0)
            goto end;
    }
    int code = root && whole ? save_model(t, err) : 0;
    summary = root ? summary_of(t, test) : at_node_new(AT_MAP);
    if (code == 0 && root)
        code = at_run_write_node(t->job->out, "summary.json", summary, err);
    if (code == 0 && root && whole) {
        char *path = at_path_join(t->job->out, "report.html");
        code = path ? at_report_write(t->job->out, NULL, t->job->data, path, err) : at_nomem(err);
        free(path);
    }
    if (agree(t->comm, code, err) < 0) {
        at_node_free(summary);
        summary = NULL;
    }
end:
    at_node_free(test);
    return summary;
}

at_node *at_train(const at_train_job *job, at_comm *comm, at_error *err)
{
    at_error local = {0};
    err = err ? err : &local;
    at_training t = {.job = job, .comm = comm, .threads = thread_share(job->config, comm)};
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
    return summary;
}
