/* SPDX-License-Identifier: Apache-2.0
 * What a stranger sends to a coordinator or a worker: nothing that he says is taken for a message.
 */
#include "../../coordinator/wire.h"
#include "fuzz.h"

#include <stdlib.h>

static int take(void *context, const at_node *message, at_error *err)
{
    (void)context;
    (void)message;
    (void)err;
    abort(); /* without the key there is none */
}

static void receive(at_wire_role role, const uint8_t *data, size_t size)
{
    static const at_key key = {{1, 2, 3}};
    at_text out = {0};
    at_error err = {0};
    at_wire *w = at_wire_new(&key, role, &out, &err);
    size_t piece = size / 3 + 1;
    int code = w ? 0 : err.code;
    for (size_t at = 0; at < size && code == 0; at += piece)
        code = at_wire_receive(w, data + at, at + piece < size ? piece : size - at, &out, take, NULL, &err);
    if (code < 0 && !err.message[0])
        abort();
    if (w && at_wire_is_open(w))
        abort();
    at_wire_free(w);
    at_text_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    receive(AT_WIRE_SERVER, data, size);
    receive(AT_WIRE_CLIENT, data, size);
    return 0;
}
