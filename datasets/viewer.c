/* SPDX-License-Identifier: Apache-2.0
 * Loose files of strangers as a network's input: read here, decoded and fitted in a sandbox of one
 * worker. It starts when the viewer is made and is waited for at the first picture, so that what the
 * caller does between costs no time.
 */
#include "item_stream.h"
#include "sandbox.h"

#include <stdlib.h>
#include <string.h>

struct at_viewer {
    at_sandbox *sandbox;
    at_decode_limits limits;
    at_frame frame;
    at_item item;
    bool started;
};

at_viewer *at_viewer_new(const at_frame *frame, const at_decode_limits *limits, at_error *err)
{
    at_viewer *v = calloc(1, sizeof *v);
    if (!v) {
        at_nomem(err);
        return NULL;
    }
    v->limits = at_limits_resolved(limits ? *limits : (at_decode_limits){0});
    v->frame = *frame;
    v->sandbox = at_sandbox_new(&v->limits, &(at_wish){.frame = *frame}, err);
    if (v->sandbox)
        return v;
    at_viewer_free(v);
    return NULL;
}

void at_viewer_free(at_viewer *v)
{
    if (!v)
        return;
    at_sandbox_free(v->sandbox);
    at_item_fini(&v->item);
    free(v);
}

void at_viewer_finish(at_viewer *v)
{
    at_sandbox_finish(v->sandbox);
}

static int start(at_viewer *v, at_error *err)
{
    bool filtered;
    int code = at_sandbox_await(v->sandbox, &filtered, err);
    v->started = code == 0;
    if (code == 0 && !filtered)
        at_sandbox_warn();
    return code;
}

int at_viewer_see(at_viewer *v, const char *path, uint8_t *out, at_error *err)
{
    at_item *item = &v->item;
    int code = v->started ? 0 : start(v, err);
    if (code < 0)
        return code;
    at_item_reset(item);
    at_text_append(&item->file, path, strlen(path));
    if (item->file.failed)
        return at_nomem(err);
    if (at_item_is_stream(item))
        code = at_item_load_stream(item, &v->limits, err);
    else
        at_item_load(item, v->limits.bytes);
    if (code == 0 && !item->bad)
        code = at_sandbox_examine(v->sandbox, &item, 1, err);
    if (code == 0 && !item->bad)
        memcpy(out, item->frame.data, at_frame_bytes(&v->frame));
    if (code == 0 && item->bad)
        code = at_fail(err, AT_EINPUT, "%s: %s", at_error_reasons[item->reason], item->detail);
    return code;
}
