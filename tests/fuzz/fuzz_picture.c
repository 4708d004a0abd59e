/* SPDX-License-Identifier: Apache-2.0
 * Pictures: PNG, JPEG, our raw form, and their EXIF. A picture that is taken has all its pixels.
 */
#include "../../datasets/internal.h"
#include "fuzz.h"

#include <stdlib.h>

enum { MOST_PIXELS = 1 << 18, MOST_BYTES = 1 << 20 };

static void read_exif(const uint8_t *data, size_t size)
{
    size_t length;
    at_text json = {0};
    const uint8_t *block = at_exif_find(data, size, &length);
    if (block)
        at_exif_read(block, length, &json);
    at_text_fini(&json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static at_decoder *decoder;
    decoder = decoder ? decoder : at_decoder_new();
    at_decode_limits limits = {MOST_PIXELS, MOST_BYTES};
    at_image image;
    at_pixel_stats stats;
    const char *reason = NULL;
    at_error err = {0};
    if (at_decoder_decode(decoder, data, size, &limits, &image, &reason, &err) == 0) {
        if (image.width < 1 || image.height < 1 || (image.channels != 1 && image.channels != 3))
            abort();
        at_pixel_stats_of(&image, &stats);
        read_exif(data, size);
    } else if (!reason || !err.message[0]) {
        abort();
    }
    return 0;
}
