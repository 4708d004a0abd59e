/* SPDX-License-Identifier: Apache-2.0
 * The wire between coordinator and worker, without a socket: bytes in, messages out, and back.
 *
 *     at_wire *w = at_wire_new(&key, AT_WIRE_CLIENT, &out, &err);     // out: what to send first
 *     at_wire_receive(w, bytes, n, &out, on_message, context, &err);
 *     at_wire_send(w, message, &out, &err);
 */
#ifndef ATOLL_COORDINATOR_WIRE_H
#define ATOLL_COORDINATOR_WIRE_H

#include <atoll/base.h>

enum { AT_KEY_BYTES = 32, AT_FRAME_MAX = 1 << 20 };

typedef struct at_key {
    unsigned char bytes[AT_KEY_BYTES];
} at_key;
/* Reads a key file, making it (mode 0600, random) first where there is none and make is set. A
 * file that others can read is AT_EINPUT. */
int at_key_load(const char *path, bool make, at_key *out, at_error *err);
void at_key_wipe(at_key *key);

typedef struct at_wire at_wire;
typedef enum { AT_WIRE_CLIENT, AT_WIRE_SERVER } at_wire_role;
/* A message, a map with a string "type"; not 0 ends the receiving with that. */
typedef int (*at_wire_sink)(void *context, const at_node *message, at_error *err);
/* Appends to out what must be sent at once. Copies the key. */
at_wire *at_wire_new(const at_key *key, at_wire_role role, at_text *out, at_error *err);
void at_wire_free(at_wire *w);
/* Takes what came, in pieces of any size. AT_EINPUT: the peer has another key; AT_EPEER: it does
 * not speak our language. After an error the wire is dead; out may hold a last answer. */
int at_wire_receive(at_wire *w, const void *bytes, size_t n, at_text *out, at_wire_sink sink,
                    void *context, at_error *err);
int at_wire_send(at_wire *w, const at_node *message, at_text *out, at_error *err);
bool at_wire_is_open(const at_wire *w); /* the peer has proved that it holds the key */

#endif
