/* SPDX-License-Identifier: Apache-2.0
 * TensorBoard's event files: records of u64 length, masked CRC-32C of the length, an Event message, masked CRC-32C of
 * it, all little-endian. The few protobuf fields are written by hand (tensorflow/core/util/event.proto):
 *
 *     Event   { double wall_time = 1; int64 step = 2; string file_version = 3; Summary summary = 5; }
 *     Summary { repeated Value value = 1; }    Value { string tag = 1; float simple_value = 2; }
 */
#include "tensorboard.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { VARINT = 0, FIXED64 = 1, BYTES = 2, FIXED32 = 5 };

struct at_tensorboard {
    FILE *file;
    char *path;
};

static void put_varint(at_text *t, uint64_t v)
{
    for (; v >= 0x80; v >>= 7)
        at_text_append(t, &(uint8_t){(uint8_t)(v | 0x80)}, 1);
    at_text_append(t, &(uint8_t){(uint8_t)v}, 1);
}

static void put_key(at_text *t, unsigned field, unsigned type)
{
    put_varint(t, field << 3 | type);
}

static void put_bytes(at_text *t, unsigned field, const void *data, size_t n)
{
    put_key(t, field, BYTES);
    put_varint(t, n);
    at_text_append(t, data, n);
}

static void begin_event(at_text *t, int64_t step)
{
    double wall = (double)at_wall_ms() / 1e3;
    put_key(t, 1, FIXED64);
    at_text_append(t, &wall, sizeof wall);
    put_key(t, 2, VARINT);
    put_varint(t, (uint64_t)step);
}

static uint32_t masked_crc(const void *data, size_t n)
{
    uint32_t crc = at_crc32c(0, data, n);
    return (crc >> 15 | crc << 17) + 0xa282ead8u;
}

/* Takes the event. */
static int write_record(at_tensorboard *tb, at_text *event, at_error *err)
{
    uint64_t length = event->length;
    uint32_t head = masked_crc(&length, sizeof length), tail = masked_crc(event->data, event->length);
    bool good = !event->failed && fwrite(&length, sizeof length, 1, tb->file) == 1 &&
                fwrite(&head, sizeof head, 1, tb->file) == 1 &&
                fwrite(event->data, 1, event->length, tb->file) == event->length &&
                fwrite(&tail, sizeof tail, 1, tb->file) == 1 && fflush(tb->file) == 0;
    at_text_fini(event);
    return good ? 0 : at_fail(err, AT_EIO, "%s: %s", tb->path, strerror(errno));
}

at_tensorboard *at_tensorboard_open(const char *dir, at_error *err)
{
    static const char version[] = "brain.Event:2";
    char host[256];
    at_host_name(host, sizeof host);
    at_tensorboard *tb = calloc(1, sizeof *tb);
    if (!tb)
        goto fail_alloc;
    tb->path = at_format("%s/events.out.tfevents.%010lld.%s.%ld.0", dir, (long long)(at_wall_ms() / 1000), host,
                         (long)getpid());
    if (!tb->path)
        goto fail_alloc;
    tb->file = fopen(tb->path, "ab");
    if (!tb->file) {
        at_fail(err, AT_EIO, "%s: %s", tb->path, strerror(errno));
        goto fail_told;
    }
    at_text event = {0};
    begin_event(&event, 0);
    put_bytes(&event, 3, version, sizeof version - 1);
    if (write_record(tb, &event, err) < 0)
        goto fail_told;
    return tb;
fail_alloc:
    at_nomem(err);
fail_told:
    at_tensorboard_close(tb);
    return NULL;
}

int at_tensorboard_scalar(at_tensorboard *tb, int64_t step, const char *tag, double value, at_error *err)
{
    if (!isfinite(value))
        return 0;
    float number = (float)value;
    at_text item = {0}, summary = {0}, event = {0};
    put_bytes(&item, 1, tag, strlen(tag));
    put_key(&item, 2, FIXED32);
    at_text_append(&item, &number, sizeof number);
    put_bytes(&summary, 1, item.data, item.length);
    begin_event(&event, step);
    put_bytes(&event, 5, summary.data, summary.length);
    event.failed = event.failed || item.failed || summary.failed;
    at_text_fini(&item);
    at_text_fini(&summary);
    return write_record(tb, &event, err);
}

void at_tensorboard_close(at_tensorboard *tb)
{
    if (!tb)
        return;
    if (tb->file)
        fclose(tb->file);
    free(tb->path);
    free(tb);
}
