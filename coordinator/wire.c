/* SPDX-License-Identifier: Apache-2.0
 * Framing and encryption: libsodium's secretstream in both directions, under keys derived from the
 * shared key and a nonce of each side, so that neither an old session can be replayed nor a message
 * turned back to its sender.
 *
 *     client: magic, nonce      server: magic, nonce, header, proof      client: header, proof
 *
 * A proof is an empty frame: who cannot open it has another key. A frame is the u32 length (little
 * endian) of a ciphertext and that. Invariant: a length is checked when its bytes have come; until
 * the proof the only one allowed is the proof's. */
#include "wire.h"

#include <errno.h>
#include <fcntl.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    NONCE = 32,
    HEADER = crypto_secretstream_xchacha20poly1305_HEADERBYTES,
    SEAL = crypto_secretstream_xchacha20poly1305_ABYTES,
    STREAM_KEY = crypto_secretstream_xchacha20poly1305_KEYBYTES,
    LENGTH = 4
};
static const unsigned char magic[8] = {'A', 'T', 'O', 'L', 'L', '/', '1', '\n'};
static const char derivation[] = "atoll wire 1";

typedef enum { GREETING, FIRST_HEADER, PROOF, OPEN, DEAD } wire_state; /* what is awaited */
struct at_wire {
    at_wire_role role;
    wire_state state;
    at_key key;
    unsigned char nonce[NONCE];
    crypto_secretstream_xchacha20poly1305_state push, pull;
    unsigned char keys[2][STREAM_KEY]; /* client to server, server to client */
    at_text in;                        /* what has come and is not yet used */
};

/* ---- key files ---- */

static int make_key(const char *path, at_error *err)
{
    char hex[2 * AT_KEY_BYTES + 2];
    at_key key;
    randombytes_buf(key.bytes, sizeof key.bytes);
    sodium_bin2hex(hex, sizeof hex, key.bytes, sizeof key.bytes);
    at_key_wipe(&key);
    strcat(hex, "\n");
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0)
        return at_fail_errno(err, errno, "cannot make the key file %s", path);
    size_t length = strlen(hex);
    int rc = write(fd, hex, length) == (ssize_t)length && fsync(fd) == 0
                 ? 0
                 : at_fail_errno(err, errno, "cannot write the key file %s", path);
    close(fd);
    sodium_memzero(hex, sizeof hex);
    if (rc)
        unlink(path);
    return rc;
}

static int check_mode(const char *path, at_error *err)
{
    struct stat st;
    if (stat(path, &st))
        return at_fail_errno(err, errno, "key file %s", path);
    if (!S_ISREG(st.st_mode))
        return at_fail(err, AT_EINPUT, "key file %s: not a file", path);
    if (st.st_mode & 077)
        return at_fail(err, AT_EINPUT,
                       "key file %s may be read by others (mode %04o): chmod 600 %s", path,
                       (unsigned)(st.st_mode & 07777), path);
    return 0;
}

int at_key_load(const char *path, bool make, at_key *out, at_error *err)
{
    if (sodium_init() < 0)
        return at_fail(err, AT_EFAIL, "libsodium could not be initialised");
    char *text;
    size_t bytes, decoded = 0;
    const char *end = "";
    int rc = make && !at_file_exists(path) ? make_key(path, err) : 0;
    if (!rc)
        rc = check_mode(path, err);
    if (!rc)
        rc = at_file_read(path, 4096, &text, &bytes, err);
    if (rc)
        return rc;
    if (sodium_hex2bin(out->bytes, sizeof out->bytes, text, bytes, "\n", &decoded, &end) ||
        decoded != sizeof out->bytes || end != text + bytes)
        rc = at_fail(err, AT_EINPUT, "key file %s: expected %d hexadecimal digits", path,
                     2 * AT_KEY_BYTES);
    sodium_memzero(text, bytes);
    free(text);
    return rc;
}

void at_key_wipe(at_key *key)
{
    sodium_memzero(key, sizeof *key);
}

/* ---- handshake ---- */

static void begin_push(at_wire *w, at_text *out)
{
    unsigned char header[HEADER];
    crypto_secretstream_xchacha20poly1305_init_push(&w->push, header,
                                                    w->keys[w->role == AT_WIRE_CLIENT ? 0 : 1]);
    at_text_append(out, header, sizeof header);
}

static void begin_pull(at_wire *w, const unsigned char *header)
{
    crypto_secretstream_xchacha20poly1305_init_pull(&w->pull, header,
                                                    w->keys[w->role == AT_WIRE_CLIENT ? 1 : 0]);
    sodium_memzero(w->keys, sizeof w->keys);
}

static void derive(at_wire *w, const unsigned char *theirs)
{
    const unsigned char *client = w->role == AT_WIRE_CLIENT ? w->nonce : theirs;
    const unsigned char *server = w->role == AT_WIRE_CLIENT ? theirs : w->nonce;
    crypto_generichash_state hash;
    crypto_generichash_init(&hash, w->key.bytes, sizeof w->key.bytes, sizeof w->keys);
    crypto_generichash_update(&hash, (const unsigned char *)derivation, sizeof derivation);
    crypto_generichash_update(&hash, client, NONCE);
    crypto_generichash_update(&hash, server, NONCE);
    crypto_generichash_final(&hash, w->keys[0], sizeof w->keys);
    at_key_wipe(&w->key);
}

static int seal(at_wire *w, const void *data, size_t n, at_text *out, at_error *err)
{
    size_t bytes = n + SEAL;
    unsigned char length[LENGTH] = {(unsigned char)bytes, (unsigned char)(bytes >> 8),
                                    (unsigned char)(bytes >> 16), (unsigned char)(bytes >> 24)};
    unsigned char *box = malloc(bytes);
    if (!box)
        return at_nomem(err);
    crypto_secretstream_xchacha20poly1305_push(&w->push, box, NULL, data, n, NULL, 0, 0);
    at_text_append(out, length, sizeof length);
    at_text_append(out, box, bytes);
    free(box);
    return out->failed ? at_nomem(err) : 0;
}

static void greet(const at_wire *w, at_text *out)
{
    at_text_append(out, magic, sizeof magic);
    at_text_append(out, w->nonce, sizeof w->nonce);
}

/* Our stream's header and the proof that we hold the key. */
static int introduce(at_wire *w, at_text *out, at_error *err)
{
    begin_push(w, out);
    return seal(w, NULL, 0, out, err);
}

at_wire *at_wire_new(const at_key *key, at_wire_role role, at_text *out, at_error *err)
{
    at_wire *w = sodium_init() < 0 ? NULL : calloc(1, sizeof *w);
    if (!w) {
        at_nomem(err);
        return NULL;
    }
    w->role = role;
    w->state = GREETING;
    w->key = *key;
    randombytes_buf(w->nonce, sizeof w->nonce);
    if (role == AT_WIRE_CLIENT)
        greet(w, out);
    return w;
}

void at_wire_free(at_wire *w)
{
    if (!w)
        return;
    at_text_fini(&w->in);
    sodium_memzero(w, sizeof *w);
    free(w);
}

bool at_wire_is_open(const at_wire *w)
{
    return w->state == OPEN;
}

/* ---- receiving ---- */

static int check_magic(const unsigned char *bytes, at_error *err)
{
    return memcmp(bytes, magic, sizeof magic) == 0
               ? 0
               : at_fail(err, AT_EPEER, "the other side is not atoll, or of another version");
}

static size_t frame_length(const unsigned char *p)
{
    return (size_t)p[0] | (size_t)p[1] << 8 | (size_t)p[2] << 16 | (size_t)p[3] << 24;
}

static int deliver(const char *text, size_t n, at_wire_sink sink, void *context, at_error *err)
{
    at_node *message = at_json_parse(text, n, "message", err);
    if (!message)
        return AT_EPEER;
    int rc = at_node_string(at_node_get(message, "type"), NULL)
                 ? sink(context, message, err)
                 : at_fail(err, AT_EPEER, "a message without a type");
    at_node_free(message);
    return rc;
}

/* Opens the frame's box. The first one proves that the peer holds the key. */
static int open_box(at_wire *w, const unsigned char *box, size_t bytes, at_wire_sink sink,
                    void *context, at_error *err)
{
    unsigned long long n = 0;
    char *plain = malloc(bytes - SEAL + 1);
    if (!plain)
        return at_nomem(err);
    int rc = 0;
    if (crypto_secretstream_xchacha20poly1305_pull(&w->pull, (unsigned char *)plain, &n, NULL, box,
                                                   bytes, NULL, 0))
        rc = w->state == PROOF ? at_fail(err, AT_EINPUT, "wrong key")
                               : at_fail(err, AT_EPEER, "a frame was changed on its way");
    else if (w->state == PROOF)
        w->state = OPEN;
    else
        rc = deliver(plain, (size_t)n, sink, context, err);
    sodium_memzero(plain, bytes - SEAL + 1);
    free(plain);
    return rc;
}

static int take_frame(at_wire *w, const unsigned char *p, size_t have, size_t *used,
                      at_wire_sink sink, void *context, at_error *err)
{
    if (have < LENGTH)
        return 0;
    size_t bytes = frame_length(p);
    if (bytes < SEAL || bytes > AT_FRAME_MAX || (w->state == PROOF && bytes != SEAL))
        return at_fail(err, AT_EPEER, "a frame of %zu bytes", bytes);
    if (have < LENGTH + bytes)
        return 0;
    *used = LENGTH + bytes;
    return open_box(w, p + LENGTH, bytes, sink, context, err);
}

/* One step of the handshake or one frame from the `have` bytes at p; *used 0: more is needed. */
static int take(at_wire *w, const unsigned char *p, size_t have, size_t *used, at_text *out,
                at_wire_sink sink, void *context, at_error *err)
{
    size_t greeting = sizeof magic + NONCE;
    *used = 0;
    if (w->state == PROOF || w->state == OPEN)
        return take_frame(w, p, have, used, sink, context, err);
    if (w->state == FIRST_HEADER) {
        if (have < HEADER)
            return 0;
        begin_pull(w, p);
        w->state = PROOF;
        *used = HEADER;
        return 0;
    }
    if (have >= sizeof magic && check_magic(p, err))
        return AT_EPEER;
    if (have < greeting)
        return 0;
    if (w->role == AT_WIRE_SERVER)
        greet(w, out);
    derive(w, p + sizeof magic);
    w->state = FIRST_HEADER;
    *used = greeting;
    return introduce(w, out, err);
}

int at_wire_receive(at_wire *w, const void *bytes, size_t n, at_text *out, at_wire_sink sink,
                    void *context, at_error *err)
{
    if (w->state == DEAD)
        return at_fail(err, AT_EPEER, "the wire is dead");
    at_text_append(&w->in, bytes, n);
    int rc = w->in.failed ? at_nomem(err) : 0;
    size_t at = 0, used = 1;
    while (!rc && used) {
        const unsigned char *p = (const unsigned char *)w->in.data + at;
        rc = take(w, p, w->in.length - at, &used, out, sink, context, err);
        at += used;
    }
    if (rc) {
        w->state = DEAD;
        return rc;
    }
    if (at > 0) {
        memmove(w->in.data, w->in.data + at, w->in.length - at);
        w->in.length -= at;
    }
    return 0;
}

int at_wire_send(at_wire *w, const at_node *message, at_text *out, at_error *err)
{
    if (w->state != OPEN)
        return at_fail(err, AT_EPEER, "the wire is not open");
    char *text = at_json_print(message, false);
    if (!text)
        return at_nomem(err);
    size_t n = strlen(text);
    int rc = 0;
    if (n + SEAL > AT_FRAME_MAX)
        rc = at_fail(err, AT_EFAIL, "a message of %zu bytes is too long", n);
    else
        rc = seal(w, text, n, out, err);
    free(text);
    return rc;
}
