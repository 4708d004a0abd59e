/* SPDX-License-Identifier: Apache-2.0
 * Ranks that share the work of an ingest, by files alone: datasets/ knows no MPI, and ranks may come
 * and go.
 *
 * One rank writes the data set in the source's order, as it does alone. Each other rank reads the
 * source, too, decodes the items that a hash of their paths makes its own, and tells in
 * <out>.shared/<rank>-<number> what it saw: about a page for each picture, never its bytes. The writer
 * looks there by the hash of the content that it has read itself. What is not there, it decodes: it
 * waits for nobody, and a rank that is late, is killed or writes nonsense costs time alone. Since the
 * writer is slowed down by what it has to decode itself, the others come ahead of it, and then their
 * results are there in time.
 *
 * Invariants: a file is renamed to its name when it is whole, and removed when it was read; a rank is
 * at most AHEAD files ahead; the data set's bytes do not depend on who decoded. */
#include "share.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
    MAGIC = 0x32685341, /* "ASh2" */
    AHEAD = 32,         /* files */
    MOST_RECORDS = 256, /* of a file */
    MOST_BYTES = 64 << 20,
    HELD = 1 << 15, /* results */
};
static const double tell_after = 0.1, look_after = 0.02; /* seconds */

/* What is told of a content, in this machine's byte order; its EXIF follows. */
struct record {
    uint32_t magic, crc; /* crc: of all that follows, EXIF included */
    char hash[65];
    uint32_t exif; /* bytes */
    at_seen seen;
};

struct result {
    at_key key;
    at_seen seen;
    char *exif; /* NULL: none */
};

struct peer {
    int64_t next;  /* number of its next file */
    double missed; /* when that was not there */
};

struct at_share {
    char *folder;
    int rank, ranks;
    pthread_mutex_t mutex;  /* guards all below */
    struct peer *peers;     /* one a rank */
    at_keys *known;         /* content to index of results */
    struct result *results; /* a ring of HELD */
    size_t next;
    atomic_uint_least64_t taken;
};

static char *folder_of(const char *out)
{
    return at_format("%s.shared", out);
}

static void pause_shortly(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 10000000}, NULL);
}

static int owner_of(const char *path, int ranks)
{
    return (int)(at_crc32c(0, path, strlen(path)) % (uint32_t)ranks);
}

bool at_share_passes(at_source *s, const char *path)
{
    if (s->ranks < 2)
        return false;
    if (s->passed > 0) {
        s->passed--;
        return true;
    }
    return owner_of(path, s->ranks) != s->rank;
}

/* ---- the writer ------------------------------------------------------------------------------ */

/* How many items are done already: with this file the others begin. */
static int write_beginning(const char *folder, uint64_t passed, at_error *err)
{
    char *path = at_path_join(folder, "begin"), text[24];
    snprintf(text, sizeof text, "%llu\n", (unsigned long long)passed);
    int code = path ? at_file_write(path, text, strlen(text), err) : at_nomem(err);
    free(path);
    return code;
}

at_share *at_share_new(const char *out, int rank, int ranks, uint64_t passed, at_error *err)
{
    at_share *s = calloc(1, sizeof *s);
    if (!s) {
        at_nomem(err);
        return NULL;
    }
    pthread_mutex_init(&s->mutex, NULL);
    s->rank = rank;
    s->ranks = ranks;
    s->folder = folder_of(out);
    s->peers = calloc((size_t)ranks, sizeof *s->peers);
    s->known = at_keys_new();
    s->results = calloc(HELD, sizeof *s->results);
    int code = s->folder && s->peers && s->known && s->results ? 0 : at_nomem(err);
    if (code == 0)
        code = at_remove_tree(s->folder, err); /* of a job that was killed */
    if (code == 0)
        code = at_make_dirs(s->folder, err);
    if (code == 0)
        code = write_beginning(s->folder, passed, err);
    if (code == 0)
        return s;
    at_share_free(s);
    return NULL;
}

uint64_t at_share_taken(const at_share *s)
{
    return s ? atomic_load(&s->taken) : 0;
}

void at_share_clear(const char *out)
{
    char *folder = folder_of(out);
    if (folder)
        at_remove_tree(folder, NULL);
    free(folder);
}

/* A rank that is still telling may put a file there meanwhile: it removes it itself. */
void at_share_free(at_share *s)
{
    if (!s)
        return;
    if (s->folder)
        at_remove_tree(s->folder, NULL);
    for (size_t i = 0; s->results && i < HELD; i++)
        free(s->results[i].exif);
    free(s->results);
    at_keys_free(s->known);
    free(s->peers);
    free(s->folder);
    pthread_mutex_destroy(&s->mutex);
    free(s);
}

static bool hold(at_share *s, const struct record *r, const char *exif)
{
    struct result *slot = &s->results[s->next];
    free(slot->exif);
    *slot = (struct result){.key = at_key_of_hash(r->hash), .seen = r->seen};
    if (r->exif && !(slot->exif = strndup(exif, r->exif)))
        return false;
    bool held = at_keys_add(s->known, slot->key, (int64_t)s->next);
    s->next = (s->next + 1) % HELD;
    return held;
}

/* Takes over what a file tells, as far as it is whole. */
static void read_records(at_share *s, const char *data, size_t bytes)
{
    const size_t from = offsetof(struct record, hash);
    while (bytes >= sizeof(struct record)) {
        struct record r;
        memcpy(&r, data, sizeof r);
        if (r.magic != MAGIC || r.exif > bytes - sizeof r || strnlen(r.hash, 65) != 64 ||
            at_crc32c(0, data + from, sizeof r - from + r.exif) != r.crc ||
            !hold(s, &r, data + sizeof r))
            return;
        data += sizeof r + r.exif;
        bytes -= sizeof r + r.exif;
    }
}

/* Reads a rank's next file; false: it is not there. */
static bool read_next(at_share *s, int rank)
{
    struct peer *p = &s->peers[rank];
    double now = at_now();
    if (now - p->missed < look_after)
        return false;
    char *path = at_format("%s/%d-%lld", s->folder, rank, (long long)p->next), *data = NULL;
    size_t bytes;
    bool there = path && at_file_read(path, MOST_BYTES, &data, &bytes, NULL) == 0;
    if (there) {
        read_records(s, data, bytes);
        unlink(path);
        p->next++;
    } else {
        p->missed = now;
    }
    free(data);
    free(path);
    return there;
}

/* False: nobody told of it. What was told is given away. */
static bool look_up(at_share *s, at_item *item)
{
    at_key key = at_key_of_hash(item->hash);
    int64_t at = at_keys_get(s->known, key);
    struct result *r = at < 0 ? NULL : &s->results[at];
    if (!r || r->key.low != key.low || r->key.high != key.high)
        return false; /* forgotten meanwhile */
    item->seen = r->seen;
    item->exif.length = 0;
    if (r->exif)
        at_text_add(&item->exif, "%s", r->exif);
    return !item->exif.failed;
}

bool at_share_take(at_share *s, at_item *item)
{
    int owner = s ? owner_of(item->path.data, s->ranks) : 0;
    if (!s || owner == s->rank)
        return false;
    pthread_mutex_lock(&s->mutex);
    bool found = look_up(s, item);
    while (!found && read_next(s, owner))
        found = look_up(s, item);
    pthread_mutex_unlock(&s->mutex);
    atomic_fetch_add(&s->taken, found);
    return found;
}

/* ---- the other ranks ------------------------------------------------------------------------- */

struct helper {
    char *folder;
    const char *lock;
    int rank;
    int64_t number; /* of the next file */
    at_text told;   /* its records */
    size_t records;
    double since;
};

static bool writer_is_gone(const struct helper *h)
{
    return at_interrupted() || !at_lock_is_held(h->lock);
}

static char *file_of(const struct helper *h, int64_t number)
{
    return at_format("%s/%d-%lld", h->folder, h->rank, (long long)number);
}

/* False: nobody listens any more. */
static bool wait_for_reader(const struct helper *h)
{
    char *path = file_of(h, h->number - AHEAD);
    bool listening = path != NULL;
    while (listening && h->number >= AHEAD && at_file_exists(path)) {
        listening = !writer_is_gone(h);
        pause_shortly();
    }
    free(path);
    return listening;
}

static bool tell(struct helper *h)
{
    char *path = file_of(h, h->number), *draft = at_format("%s/%d.draft", h->folder, h->rank);
    FILE *file = draft && path ? fopen(draft, "wb") : NULL; /* no folder: the writer is done */
    bool told = file && fwrite(h->told.data, 1, h->told.length, file) == h->told.length;
    told = file && fclose(file) == 0 && told && rename(draft, path) == 0;
    free(draft);
    free(path);
    h->number++;
    h->told.length = h->records = 0;
    h->since = at_now();
    return told && !writer_is_gone(h) && wait_for_reader(h);
}

static void add_record(struct helper *h, const at_item *item)
{
    const size_t from = offsetof(struct record, hash), begin = h->told.length;
    struct record r;
    memset(&r, 0, sizeof r); /* padding is told, too */
    r.magic = MAGIC;
    r.exif = (uint32_t)item->exif.length;
    memcpy(&r.seen, &item->seen, sizeof r.seen);
    memcpy(r.hash, item->hash, sizeof r.hash);
    at_text_append(&h->told, &r, sizeof r);
    at_text_append(&h->told, r.exif ? item->exif.data : "", r.exif);
    if (h->told.failed)
        return;
    uint32_t crc = at_crc32c(0, h->told.data + begin + from, sizeof r - from + r.exif);
    memcpy(h->told.data + begin + offsetof(struct record, crc), &crc, sizeof crc);
    h->records++;
}

static bool tell_chunk(struct helper *h, const at_chunk *k)
{
    for (size_t i = 0; i < k->count; i++)
        if (!k->items[i].bad && !k->items[i].dropped)
            add_record(h, &k->items[i]);
    if (h->told.failed)
        return false;
    bool due = h->records >= MOST_RECORDS || at_now() - h->since > tell_after;
    return !h->records || !due || tell(h);
}

static bool wait_for_beginning(const struct helper *h, uint64_t *passed)
{
    char *path = at_path_join(h->folder, "begin"), *text = NULL;
    bool begun = false;
    while (path && !begun && !writer_is_gone(h)) {
        begun = at_file_read(path, 64, &text, NULL, NULL) == 0;
        if (!begun)
            pause_shortly();
    }
    *passed = begun ? strtoull(text, NULL, 10) : 0;
    free(text);
    free(path);
    return begun;
}

static void examine_share(struct helper *h, at_source *source, int jobs)
{
    at_pipeline *p = at_pipeline_new(source, NULL, jobs, NULL);
    bool going = p && at_pipeline_start(p, NULL) == 0;
    at_chunk *k;
    while (going && (k = at_pipeline_next(p))) {
        going = tell_chunk(h, k);
        at_pipeline_give_back(p, k);
    }
    if (p)
        at_pipeline_stop(p, NULL);
    if (going && h->records)
        tell(h);
}

void at_share_help(const at_ingest_options *o, const char *out, const char *lock)
{
    struct helper h = {.folder = folder_of(out), .lock = lock, .rank = o->rank, .since = at_now()};
    uint64_t passed;
    at_source *source = NULL;
    if (h.folder && o->ranks > 1 && wait_for_beginning(&h, &passed))
        source = at_source_open(o->source, o->labels, NULL);
    if (source && !source->kind->remote) {
        source->limits = at_limits_resolved(o->limits);
        source->rank = o->rank;
        source->ranks = o->ranks;
        source->passed = passed;
        examine_share(&h, source, o->jobs);
    }
    at_source_close(source);
    at_text_fini(&h.told);
    free(h.folder);
}
