/* SPDX-License-Identifier: Apache-2.0
 * The wire in memory: messages in pieces of any size, wrong keys on both sides, garbage, changed,
 * cut, repeated and turned-back bytes; key files. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "../../coordinator/wire.h"
#include "scratch.h"

static const at_key key_a = {.bytes = {1, 2, 3}}, key_b = {.bytes = {1, 2, 4}};

typedef struct side {
    at_wire *wire;
    at_text out;     /* to the other side */
    size_t received; /* messages */
    int64_t last;    /* "n" of the latest */
} side;

static int count_message(void *context, const at_node *message, at_error *err)
{
    (void)err;
    side *s = context;
    s->received++;
    s->last = at_node_int(at_node_get(message, "n"), -1);
    return 0;
}

static void side_init(side *s, const at_key *key, at_wire_role role)
{
    *s = (side){0};
    s->wire = at_wire_new(key, role, &s->out, NULL);
    assert_non_null(s->wire);
}

static void side_fini(side *s)
{
    at_wire_free(s->wire);
    at_text_fini(&s->out);
}

/* Hands over what `from` has to say in pieces of at most `piece` bytes. */
static int carry(side *from, side *to, size_t piece, at_error *err)
{
    at_text text = from->out;
    from->out = (at_text){0};
    int rc = 0;
    for (size_t i = 0; i < text.length && !rc; i += piece) {
        size_t n = text.length - i < piece ? text.length - i : piece;
        rc = at_wire_receive(to->wire, text.data + i, n, &to->out, count_message, to, err);
    }
    at_text_fini(&text);
    return rc;
}

static void connect_sides(side *client, side *server, size_t piece)
{
    side_init(client, &key_a, AT_WIRE_CLIENT);
    side_init(server, &key_a, AT_WIRE_SERVER);
    at_error err = {0};
    assert_int_equal(carry(client, server, piece, &err), 0);
    assert_int_equal(carry(server, client, piece, &err), 0);
    assert_int_equal(carry(client, server, piece, &err), 0);
    assert_true(at_wire_is_open(client->wire));
    assert_true(at_wire_is_open(server->wire));
}

static int say(side *s, int64_t n, size_t padding)
{
    at_node *m = at_node_new(AT_MAP);
    char *text = malloc(padding + 1);
    memset(text, 'x', padding);
    text[padding] = 0;
    at_set_string(m, "type", "test");
    at_set_int(m, "n", n);
    at_set_string(m, "text", text);
    int rc = at_wire_send(s->wire, m, &s->out, NULL);
    free(text);
    at_node_free(m);
    return rc;
}

static void messages_arrive_in_any_pieces(void **state)
{
    (void)state;
    const size_t pieces[] = {1, 3, 17, 1000, 1 << 20};
    for (size_t p = 0; p < 5; p++) {
        side client, server;
        connect_sides(&client, &server, pieces[p]);
        for (int64_t i = 0; i < 50; i++) {
            assert_int_equal(say(&client, i, (size_t)i * 7), 0);
            assert_int_equal(say(&server, i, (size_t)i), 0);
        }
        assert_int_equal(carry(&client, &server, pieces[p], NULL), 0);
        assert_int_equal(carry(&server, &client, pieces[p], NULL), 0);
        assert_int_equal(server.received, 50);
        assert_int_equal(client.received, 50);
        assert_int_equal(server.last, 49);
        side_fini(&client);
        side_fini(&server);
    }
}

static void limits_hold(void **state)
{
    (void)state;
    side client, server;
    connect_sides(&client, &server, 100);
    assert_int_equal(say(&client, 1, AT_FRAME_MAX - 200), 0);
    assert_int_equal(carry(&client, &server, 65536, NULL), 0);
    assert_int_equal(server.received, 1);
    assert_true(say(&client, 2, AT_FRAME_MAX) < 0);
    at_error err = {0};
    const unsigned char huge[] = {0, 0, 0x20, 0};
    assert_int_equal(
        at_wire_receive(server.wire, huge, 4, &server.out, count_message, &server, &err), AT_EPEER);
    assert_non_null(strstr(err.message, "a frame of 2097152 bytes"));
    assert_true(at_wire_receive(server.wire, "", 0, &server.out, count_message, &server, &err) < 0);
    side_fini(&client);
    side_fini(&server);
}

static void a_wrong_key_is_noticed_by_both(void **state)
{
    (void)state;
    side client, server;
    at_error err = {0};
    side_init(&client, &key_b, AT_WIRE_CLIENT);
    side_init(&server, &key_a, AT_WIRE_SERVER);
    assert_int_equal(say(&client, 1, 0), AT_EPEER); /* nothing is sent before the proof */
    assert_int_equal(carry(&client, &server, 100, &err), 0);
    assert_int_equal(carry(&server, &client, 1000, &err), AT_EINPUT);
    assert_string_equal(err.message, "wrong key");
    err = (at_error){0};
    assert_int_equal(carry(&client, &server, 1000, &err), AT_EINPUT); /* its answer was given */
    assert_string_equal(err.message, "wrong key");
    assert_false(at_wire_is_open(server.wire));
    side_fini(&client);
    side_fini(&server);
}

static void messages_cannot_be_repeated_or_turned_back(void **state)
{
    (void)state;
    side client, server;
    connect_sides(&client, &server, 100);
    say(&client, 1, 0);
    at_text kept = {0};
    at_text_append(&kept, client.out.data, client.out.length);
    assert_int_equal(carry(&client, &server, 100, NULL), 0);
    side turned = {.out = kept};
    assert_int_equal(carry(&turned, &client, 1000, NULL), AT_EPEER); /* our own words */
    say(&server, 5, 0);
    assert_int_equal(server.received, 1);
    side_fini(&client);
    side_fini(&server);

    connect_sides(&client, &server, 100);
    say(&client, 1, 0);
    for (int i = 0; i < 2; i++) {
        at_text copy = {0};
        at_text_append(&copy, client.out.data, client.out.length);
        side again = {.out = copy};
        assert_int_equal(carry(&again, &server, 1000, NULL), i ? AT_EPEER : 0);
    }
    assert_int_equal(server.received, 1);
    side_fini(&client);
    side_fini(&server);
}

/* All that a client says in a session: greeting, introduction, a message. */
static void record_session(at_text *first, at_text *rest, side *server)
{
    side client;
    side_init(&client, &key_a, AT_WIRE_CLIENT);
    side_init(server, &key_a, AT_WIRE_SERVER);
    at_text_append(first, client.out.data, client.out.length);
    carry(&client, server, 1000, NULL);
    carry(server, &client, 1000, NULL);
    say(&client, 1, 20);
    at_text_append(rest, client.out.data, client.out.length);
    side_fini(&client);
}

/* Any change of a byte after the greeting must be noticed: nothing is delivered. */
static void changed_bytes_are_noticed(void **state)
{
    (void)state;
    size_t cases = 0, refused = 0;
    at_rng rng = at_rng_stream(1, "test", 0);
    for (int round = 0; round < 3000; round++) {
        at_text first = {0}, rest = {0};
        side server;
        record_session(&first, &rest, &server);
        size_t at = (size_t)at_rng_below(&rng, rest.length);
        rest.data[at] ^= (char)(1 << at_rng_below(&rng, 8));
        int rc = at_wire_receive(server.wire, rest.data, rest.length, &server.out, count_message,
                                 &server, NULL);
        refused += rc < 0;
        assert_int_equal(server.received, 0);
        cases++;
        at_text_fini(&first);
        at_text_fini(&rest);
        side_fini(&server);
    }
    assert_true(refused > cases * 9 / 10); /* a longer length waits for more */
    print_message(
        "%zu sessions with a changed bit: %zu refused, the others still wait; 0 messages\n", cases,
        refused);
}

static void garbage_is_refused(void **state)
{
    (void)state;
    at_rng rng = at_rng_stream(2, "test", 0);
    size_t cases = 0, refused = 0;
    for (int round = 0; round < 20000; round++) {
        side server;
        side_init(&server, &key_a, AT_WIRE_SERVER);
        unsigned char bytes[300];
        size_t n = 1 + (size_t)at_rng_below(&rng, sizeof bytes);
        for (size_t i = 0; i < n; i++)
            bytes[i] = (unsigned char)at_rng_next(&rng);
        if (round % 2 && n > 8)
            memcpy(bytes, "ATOLL/1\n", 8);
        int rc = at_wire_receive(server.wire, bytes, n, &server.out, count_message, &server, NULL);
        assert_int_equal(server.received, 0);
        assert_false(at_wire_is_open(server.wire));
        assert_true(server.out.length <= 200);
        refused += rc < 0;
        cases++;
        side_fini(&server);
    }
    print_message("%zu random inputs: %zu refused at once, the others wait; 0 messages\n", cases,
                  refused);
}

/* Whoever has the key may still send nonsense. */
static void sealed_nonsense_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"3",          "null",          "[]",
                                        "{\"n\": 1}", "{\"type\": 1}", "\"type\""};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        side client, server;
        at_error err = {0};
        connect_sides(&client, &server, 100);
        at_node *m = at_json_parse(texts[i], strlen(texts[i]), "m", NULL);
        if (m)
            assert_int_equal(at_wire_send(client.wire, m, &client.out, &err), 0);
        if (m)
            assert_int_equal(carry(&client, &server, 100, &err), AT_EPEER);
        assert_int_equal(server.received, 0);
        at_node_free(m);
        side_fini(&client);
        side_fini(&server);
    }
}

static void key_files(void **state)
{
    (void)state;
    char *dir = scratch_new(), *path = at_path_join(dir, "worker.key");
    at_key a, b;
    at_error err = {0};
    struct stat st;
    assert_int_equal(at_key_load(path, false, &a, &err), AT_ENOENT);
    assert_int_equal(at_key_load(path, true, &a, &err), 0);
    assert_int_equal(at_key_load(path, true, &b, &err), 0);
    assert_memory_equal(&a, &b, sizeof a);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 07777, 0600);
    assert_int_equal(chmod(path, 0640), 0);
    assert_int_equal(at_key_load(path, true, &b, &err), AT_EINPUT);
    assert_non_null(strstr(err.message, "chmod 600"));
    assert_non_null(strstr(err.message, path));
    static const char *const wrong[] = {"", "abc\n", "zz", "00112233445566778899aabbccddeeff"};
    for (size_t i = 0; i < 4; i++) {
        FILE *f = fopen(path, "w");
        fputs(wrong[i], f);
        fclose(f);
        chmod(path, 0600);
        assert_int_equal(at_key_load(path, true, &b, &err), AT_EINPUT);
    }
    assert_int_equal(at_key_load(dir, false, &b, &err), AT_EINPUT);
    free(path);
    scratch_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(messages_arrive_in_any_pieces),
        cmocka_unit_test(limits_hold),
        cmocka_unit_test(a_wrong_key_is_noticed_by_both),
        cmocka_unit_test(messages_cannot_be_repeated_or_turned_back),
        cmocka_unit_test(changed_bytes_are_noticed),
        cmocka_unit_test(garbage_is_refused),
        cmocka_unit_test(sealed_nonsense_is_refused),
        cmocka_unit_test(key_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
