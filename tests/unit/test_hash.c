/* SPDX-License-Identifier: Apache-2.0
 * Hashes against published vectors, the system's own sha256sum and b2sum, and each other. */
#include "atoll/base.h"
#include "scratch.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_crc32c_vectors(void **state)
{
    (void)state;
    /* the check value, then RFC 3720 B.4 */
    assert_int_equal(at_crc32c(0, "123456789", 9), 0xE3069283);
    assert_int_equal(at_crc32c(0, NULL, 0), 0);
    unsigned char block[32];
    memset(block, 0, sizeof block);
    assert_int_equal(at_crc32c(0, block, 32), 0x8A9136AA);
    memset(block, 0xff, sizeof block);
    assert_int_equal(at_crc32c(0, block, 32), 0x62A8AB43);
    for (int i = 0; i < 32; i++)
        block[i] = (unsigned char)i;
    assert_int_equal(at_crc32c(0, block, 32), 0x46DD794E);
    assert_int_equal(at_crc32c_portable(0, "123456789", 9), 0xE3069283);
    assert_int_equal(at_crc32c_portable(0, block, 32), 0x46DD794E);
}

/* The definition, a bit at a time. */
static uint32_t crc_by_bits(const unsigned char *data, size_t bytes)
{
    uint32_t crc = ~0u;
    for (size_t i = 0; i < bytes; i++) {
        crc ^= data[i];
        for (int k = 0; k < 8; k++)
            crc = crc & 1 ? (crc >> 1) ^ 0x82f63b78u : crc >> 1;
    }
    return ~crc;
}

static void test_crc32c_ways_agree(void **state)
{
    (void)state;
    enum { BYTES = 70000, CASES = 300 };
    unsigned char *data = malloc(BYTES);
    assert_non_null(data);
    at_rng rng = at_rng_stream(1, "crc", 0);
    for (int i = 0; i < BYTES; i++)
        data[i] = (unsigned char)at_rng_next(&rng);
    for (int i = 0; i < CASES; i++) {
        size_t from = at_rng_below(&rng, 64);
        size_t bytes = i < 100 ? (size_t)i : at_rng_below(&rng, BYTES - from);
        size_t cut = at_rng_below(&rng, bytes + 1);
        uint32_t whole = at_crc32c(0, data + from, bytes);
        assert_int_equal(whole, at_crc32c_portable(0, data + from, bytes));
        assert_int_equal(whole, crc_by_bits(data + from, bytes));
        uint32_t part = at_crc32c(0, data + from, cut);
        assert_int_equal(whole, at_crc32c(part, data + from + cut, bytes - cut));
    }
    uint32_t before = at_crc32c(0, data, BYTES);
    for (int i = 0; i < CASES; i++) {
        size_t bit = at_rng_below(&rng, 8 * BYTES);
        data[bit / 8] ^= (unsigned char)(1 << bit % 8);
        assert_int_not_equal(at_crc32c(0, data, BYTES), before);
        data[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    free(data);
    print_message("%d pieces agree, %d flipped bits found\n", CASES, CASES);
}

static void test_sha256(void **state)
{
    (void)state;
    char hex[65];
    at_sha256_end(at_sha256_new(), hex);
    assert_string_equal(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    at_sha256 *h = at_sha256_new();
    at_sha256_add(h, "a", 1);
    at_sha256_add(h, "", 0);
    at_sha256_add(h, "bc", 2);
    at_sha256_end(h, hex);
    assert_string_equal(hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

static void test_content_hash(void **state)
{
    (void)state;
    char hex[65];
    at_content_hash("", 0, hex);
    assert_string_equal(hex, "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8");
    at_content_hash("abc", 3, hex);
    assert_string_equal(hex, "bddd813c634239723171ef3fee98579b94964e3bb1cb3e427262c8c068d52319");
}

static void first_word(const char *command, char word[65])
{
    FILE *f = popen(command, "r");
    assert_non_null(f);
    assert_int_equal(fread(word, 1, 64, f), 64);
    word[64] = 0;
    pclose(f);
}

static void test_same_as_the_systems_tools(void **state)
{
    (void)state;
    char *dir = scratch_new(), *path = at_path_join(dir, "data"), theirs[65], ours[65];
    size_t bytes = 1000003;
    unsigned char *data = malloc(bytes);
    assert_true(path && data);
    at_rng rng = at_rng_stream(2, "hash", 0);
    for (size_t i = 0; i < bytes; i++)
        data[i] = (unsigned char)at_rng_next(&rng);
    assert_int_equal(at_file_write(path, data, bytes, NULL), 0);

    char *command = at_format("b2sum -l 256 '%s'", path);
    first_word(command, theirs);
    free(command);
    at_content_hash(data, bytes, ours);
    assert_string_equal(ours, theirs);

    command = at_format("sha256sum '%s'", path);
    first_word(command, theirs);
    free(command);
    at_sha256 *h = at_sha256_new();
    for (size_t at = 0; at < bytes; at += 4099)
        at_sha256_add(h, data + at, bytes - at < 4099 ? bytes - at : 4099);
    at_sha256_end(h, ours);
    assert_string_equal(ours, theirs);

    free(data);
    free(path);
    scratch_free(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc32c_vectors),
        cmocka_unit_test(test_crc32c_ways_agree),
        cmocka_unit_test(test_sha256),
        cmocka_unit_test(test_content_hash),
        cmocka_unit_test(test_same_as_the_systems_tools),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
