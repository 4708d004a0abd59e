/* SPDX-License-Identifier: Apache-2.0
 * The page of a data set, and the search of near duplicates behind it. */
#include "../../datasets/report.h"

#include "place.h"
#include "scratch.h"
#include "sources.h"

#include <setjmp.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static int set_up(void **state)
{
    place_set_up(state);
    return place_name_file(*state, "page.html");
}

static char *page_of(const struct place *p)
{
    at_error err = {0};
    char *text = NULL;
    if (at_dataset_report(p->out, p->file, &err) ||
        at_file_read(p->file, 64 << 20, &text, NULL, &err))
        fail_msg("%s", err.message);
    return text;
}

static void expect(const char *page, const char *text)
{
    if (!strstr(page, text))
        fail_msg("\"%s\" is not in the page", text);
}

static size_t count_of(const char *page, const char *text)
{
    size_t n = 0;
    for (; (page = strstr(page, text)); page += strlen(text))
        n++;
    return n;
}

/* A JPEG of a pattern that the seed decides; quality changes the bytes, hardly the looks. */
static void put_pattern(const struct place *p, const char *name, uint64_t seed, int quality)
{
    at_image m = {48, 48, 3, malloc(48 * 48 * 3)};
    assert_non_null(m.pixels);
    at_rng rng = at_rng_stream(seed, "pattern", 0);
    uint8_t blocks[6][6][3];
    for (size_t i = 0; i < sizeof blocks; i++)
        (&blocks[0][0][0])[i] = (uint8_t)at_rng_below(&rng, 256);
    for (size_t y = 0; y < 48; y++)
        for (size_t x = 0; x < 48; x++)
            memcpy(m.pixels + (y * 48 + x) * 3, blocks[y / 8][x / 8], 3);
    encoded file = encode_jpeg(&m, &(jpeg_spec){.quality = quality});
    put_file(p->source, name, file.bytes, file.size);
    free(file.bytes);
    at_image_fini(&m);
}

/* How many bars the chart of that title has. */
static size_t bars_of(const char *page, const char *title)
{
    const char *begin = strstr(page, title);
    assert_non_null(begin);
    const char *end = strstr(begin, "</svg>");
    size_t bars = 0;
    while ((begin = strstr(begin, "<rect class=\"bar")) && begin < end) {
        begin++;
        bars++;
    }
    return bars;
}

static void test_the_page_tells_all(void **state)
{
    struct place *p = *state;
    for (int i = 0; i < 20; i++) {
        char name[60];
        snprintf(name, sizeof name, "train/%s/%02d.jpg", i % 2 ? "<script>alert(1)" : "dog", i);
        put_pattern(p, name, (uint64_t)i, 90);
    }
    put_pattern(p, "test/dog/copy.jpg", 4, 90); /* train/dog/04.jpg */
    put_pattern(p, "test/dog/near.jpg", 6, 60); /* looks like train/dog/06.jpg */
    put_pattern(p, "test/<script>alert(1)/&\"x.jpg", 50, 90);
    put_text(p->source, "train/dog/notes<b>.txt", "not a picture");
    put_text(p->source, "train/dog/empty.jpg", "");
    ingest_must(p->source, p->out, 0);
    char *page = page_of(p);
    expect(page, "<b>23</b><span>images");
    expect(page, "<b>22</b><span>contents");
    expect(page, "<td class=text>dog<td>10<td>0<td>2<td>12");
    expect(page, "&lt;script&gt;alert(1)");
    expect(page, "<th>label<th class=text>class<th>train");
    expect(page, "48 x 48<td>3<td>23");
    assert_in_range(bars_of(page, "Bytes of a file"), 4,
                    40); /* of 23 files of about the same size */
    assert_in_range(bars_of(page, "Brightness"), 2, 34);
    assert_null(strstr(page, ">300</text>")); /* of an axis from 0 to 255 */
    expect(page, "Contents that lie in several places: 1, in 2 places");
    expect(page, "look alike: 1, of 2 contents; in several splits: 1, in several classes: 0");
    expect(page, "test/dog/near.jpg<br><small>test, dog");
    expect(page, "<h3>two-splits <small>2</small>");
    expect(page, "<td class=text>not-an-image<td>1<td class=text>train/dog/notes&lt;b&gt;.txt");
    expect(page, "<td class=text>empty<td>1<td class=text>train/dog/empty.jpg");
    expect(page, "Brightness");
    expect(page, "</svg>");
    assert_null(strstr(page, "<script"));
    assert_null(strstr(page, "notes<b>"));
    assert_null(strstr(page, "http"));
    assert_null(strstr(page, "class=gap"));
    assert_int_equal(count_of(page, "<section>"), count_of(page, "</section>"));
    assert_in_range(count_of(page, "src=\"data:image/png;base64,"), 26, 40);
    assert_int_equal(count_of(page, "<img"), count_of(page, "src=\"data:image/png;base64,"));
    free(page);
}

static void test_a_damaged_picture_is_a_gap(void **state)
{
    struct place *p = *state;
    put_pictures(p->source, "", 2, 3, 1);
    ingest_must(p->source, p->out, 0);
    char *shard = at_format("%s/shards/00000.atb", p->out);
    long at = atol(query(p->out, "SELECT offset + 30 FROM blobs WHERE id = 2"));
    FILE *f = fopen(shard, "r+b");
    assert_non_null(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    int byte = fgetc(f);
    assert_int_equal(fseek(f, at, SEEK_SET), 0);
    assert_int_equal(fputc(byte ^ 1, f), byte ^ 1);
    assert_int_equal(fclose(f), 0);
    char *page = page_of(p);
    assert_in_range(count_of(page, "class=gap"), 1, 3);
    expect(page, "damaged\"></span>");
    expect(page, "data:image/png");
    free(page);
    free(shard);
}

/* Many classes and pictures: the page stays small. */
static void test_the_page_is_bounded(void **state)
{
    struct place *p = *state;
    put_pictures(p->source, "", 60, 30, 1);
    ingest_must(p->source, p->out, 0);
    char *page = page_of(p);
    expect(page, "The first 40 of 60 classes");
    assert_in_range(count_of(page, "<img"), 400, 800);
    assert_in_range(strlen(page), 10000, 2 << 20);
    free(page);
}

static void test_no_data_set(void **state)
{
    struct place *p = *state;
    at_error err = {0};
    assert_int_equal(at_dataset_report(p->out, p->file, &err), AT_ENOENT);
    assert_non_null(strstr(err.message, "is no data set"));
}

/* Light below, or above, by `up`; ramps to the right: the same dHash, mean, deviation and sharpness. */
static void put_ramp(const struct place *p, const char *name, bool up)
{
    at_error err = {0};
    uint8_t pixels[32 * 32];
    at_image m = {32, 32, 1, pixels};
    void *png = NULL;
    size_t size;
    for (size_t i = 0; i < sizeof pixels; i++)
        pixels[i] = (uint8_t)(((i / 32 < 16) == up ? 130 : 50) + i % 32 * 2);
    assert_int_equal(at_image_encode_png(&m, &png, &size, &err), 0);
    put_file(p->source, name, png, size);
    free(png);
}

static void test_pictures_decide_what_looks_alike(void **state)
{
    const struct place *p = *state;
    put_ramp(p, "train/a/up.png", true);
    put_ramp(p, "train/b/down.png", false);
    put_pattern(p, "train/a/1.jpg", 1, 90);
    put_pattern(p, "train/b/1.jpg", 1, 60);
    ingest_must(p->source, p->out, 0);
    char *page = page_of(p);
    expect(page, "look alike: 1, of 2 contents; in several splits: 0, in several classes: 1");
    free(page);
}

/* ---- near duplicates ------------------------------------------------------------------------- */

static at_look look_of(uint64_t dhash)
{
    return (at_look){.dhash = dhash, .mean = {9, 9, 9}, .deviation = {5, 5, 5}, .aspect = 1};
}

/* Every pair within 3 bits is found, wherever the bits are, and no other. */
static void test_near_hashes_are_found(void **state)
{
    (void)state;
    enum { PAIRS = 3000 };
    at_look *looks = calloc(2 * PAIRS, sizeof *looks);
    uint32_t *group = calloc(2 * PAIRS, sizeof *group);
    assert_true(looks && group);
    at_rng rng = at_rng_stream(3, "near", 0);
    for (size_t i = 0; i < PAIRS; i++) {
        uint64_t hash = at_rng_next(&rng), other = hash;
        for (size_t bits = i % 5; bits > 0;) { /* 0 to 4 bits away */
            uint64_t bit = (uint64_t)1 << at_rng_below(&rng, 64);
            bits -= (other ^ hash) & bit ? 0 : 1;
            other ^= (other ^ hash) & bit ? 0 : bit;
        }
        looks[i] = look_of(hash);
        looks[PAIRS + i] = look_of(other);
    }
    assert_int_equal(at_near_groups(looks, 2 * PAIRS, group, NULL), 0);
    for (size_t i = 0; i < PAIRS; i++) {
        assert_int_equal(group[i], i);
        assert_int_equal(group[PAIRS + i], i % 5 <= 3 ? i : PAIRS + i);
    }
    free(looks);
    free(group);
    print_message("%d pairs\n", PAIRS);
}

static void test_looks_must_agree_too(void **state)
{
    (void)state;
    at_look looks[6];
    uint32_t group[6];
    for (size_t i = 0; i < 6; i++)
        looks[i] = look_of(0);
    looks[1].mean[2] = 30;
    looks[2].deviation[0] = 40;
    looks[3].aspect = 1.5F;
    looks[4].sharpness = 10;
    looks[5].mean[0] = 12; /* near enough */
    assert_int_equal(at_near_groups(looks, 6, group, NULL), 0);
    static const uint32_t expected[] = {0, 1, 2, 3, 4, 0};
    assert_memory_equal(group, expected, sizeof group);
    assert_int_equal(at_near_groups(looks, 0, group, NULL), 0);
}

/* 200,000 pictures on the same ground: three quarters of all hashes are equal. Comparing each with
 * each would take minutes; neighbours in the order of all bits are found all the same. */
static void test_crowds_are_no_trap(void **state)
{
    (void)state;
    enum { CROWD = 200000 };
    at_look *looks = calloc(CROWD, sizeof *looks);
    uint32_t *group = calloc(CROWD, sizeof *group);
    assert_true(looks && group);
    for (size_t i = 0; i < CROWD; i++) {
        looks[i] = look_of(((uint64_t)i * 2654435761U % 65536) << 24);
        looks[i].mean[0] = (float)(i / 65536 * 100); /* four apart that have the same hash */
    }
    looks[CROWD - 1] = looks[17];
    assert_int_equal(at_near_groups(looks, CROWD, group, NULL), 0);
    assert_int_equal(group[CROWD - 1], group[17]);
    free(looks);
    free(group);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_page_tells_all, set_up, place_tear_down),
        cmocka_unit_test_setup_teardown(test_a_damaged_picture_is_a_gap, set_up, place_tear_down),
        cmocka_unit_test_setup_teardown(test_the_page_is_bounded, set_up, place_tear_down),
        cmocka_unit_test_setup_teardown(test_no_data_set, set_up, place_tear_down),
        cmocka_unit_test_setup_teardown(test_pictures_decide_what_looks_alike, set_up,
                                        place_tear_down),
        cmocka_unit_test(test_near_hashes_are_found),
        cmocka_unit_test(test_looks_must_agree_too),
        cmocka_unit_test(test_crowds_are_no_trap),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
