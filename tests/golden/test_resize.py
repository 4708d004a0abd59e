#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# Pictures come to a network's size as Pillow would bring them there: bicubic (a = -0.5) for growing, by area for
# shrinking, the middle part for crop, black bars for letterbox, ITU-R BT.601 for grey. The cache is read here by what
# cache/cache_file.c says of its format.
# ctest: timeout=300
import json
import os
import random
import struct
import subprocess
import sys
import tempfile

from PIL import Image

ATOLL = os.environ["ATOLL"]
SIZES = [(24, 20), (31, 18), (9, 40)]  # of the pictures, width x height
FRAMES = [(48, 60), (7, 6), (12, 10), (29, 11)]


def picture(size, mode, seed):
    """Away from black and white: Pillow cuts what overshoots after each axis, atoll after both."""
    rng = random.Random(seed)
    image = Image.new(mode, size)
    for y in range(size[1]):
        for x in range(size[0]):
            value = [min(255, max(0, int(128 + 40 * ((x * (c + 1) + y) % 9 - 4) / 4 + rng.gauss(0, 12)))) for c in range(3)]
            image.putpixel((x, y), tuple(value) if mode == "RGB" else value[0])
    return image


def along(image, axis, length):
    """One axis: by area (exactly, over a picture that is larger by the length) or bicubic."""
    size = list(image.size)
    if length > size[axis]:
        size[axis] = length
        return image.resize(size, Image.BICUBIC)
    whole = list(size)
    whole[axis] = size[axis] * length
    size[axis] = length
    return image.resize(whole, Image.NEAREST).resize(size, Image.BOX)


def stretch(image, width, height):
    return along(along(image, 0, width), 1, height)


def share(side, of, to):
    return max(1, (side * of + to // 2) // to)


def margin(length, of):
    """When growing, Pillow leaves out the taps beyond an edge and atoll repeats the edge: not compared."""
    return 2 * length // of + 1 if length > of else 0


# Each gives the frame, the box in it that holds the picture, and the box's margins that are not compared.
def stretched(image, width, height):
    return stretch(image, width, height), (0, 0, width, height), (margin(width, image.width), margin(height, image.height))


def crop(image, width, height):
    w, h = image.size
    if w * height > h * width:
        w = share(h, width, height)
    else:
        h = share(w, height, width)
    left, top = (image.width - w) // 2, (image.height - h) // 2
    return stretched(image.crop((left, top, left + w, top + h)), width, height)


def letterbox(image, width, height):
    w, h = width, height
    if image.width * height > image.height * width:
        h = share(width, image.height, image.width)
    else:
        w = share(height, image.width, image.height)
    inside, _, margins = stretched(image, w, h)
    out, left, top = Image.new(image.mode, (width, height)), (width - w) // 2, (height - h) // 2
    out.paste(inside, (left, top))
    return out, (left, top, left + w, top + h), margins


def read_cache(path):
    """The training samples [H][W][C] of the uint8 form, in order."""
    raw = open(os.path.join(path, "train.atc"), "rb").read()
    magic, version, _, height, width, channels, _, samples, batch, _, batches, _, offset = struct.unpack_from(
        "<8sIIIIIIQIIQQQ", raw)
    assert magic == b"ATCACHE\n" and version == 3, (magic, version)
    each = height * width * channels
    stride = (batch * each + 4095) // 4096 * 4096
    return [raw[offset + i // batch * stride + i % batch * each:][:each] for i in range(samples)], channels


def compare(got, want, box, margins, channels):
    """The largest difference inside the box, but for its margins, or outside; and how many values."""
    pixels, worst, n = want.tobytes(), 0, 0
    for y in range(want.height):
        for x in range(want.width):
            outside = not (box[0] <= x < box[2] and box[1] <= y < box[3])
            middle = (box[0] + margins[0] <= x < box[2] - margins[0] and box[1] + margins[1] <= y < box[3] - margins[1])
            for c in range(channels if outside or middle else 0):
                i = (y * want.width + x) * channels + c
                worst = max(worst, abs(got[i] - pixels[i]))
                n += 1
    return worst, n


def main():
    compared, worst_of_all = 0, 0
    with tempfile.TemporaryDirectory() as place:
        os.environ["ATOLL_CACHE_DIR"] = place + "/caches"
        images = []
        for i, size in enumerate(SIZES):
            for mode in ("RGB", "L"):
                image = picture(size, mode, 10 * i + len(mode))
                name = f"{place}/photos/class_{i % 2}/{i}{mode}.png"
                os.makedirs(os.path.dirname(name), exist_ok=True)
                image.save(name)
                images.append((os.path.relpath(name, place + "/photos"), image))
        images.sort()
        data = place + "/data"
        subprocess.run([ATOLL, "ingest", place + "/photos", "--out", data, "--quiet"], check=True, stdout=subprocess.DEVNULL)
        for frame in FRAMES:
            for name, fit in (("stretch", stretched), ("crop", crop), ("letterbox", letterbox)):
                for channels in (1, 3):
                    cache = f"{place}/{name}-{frame[0]}x{frame[1]}x{channels}"
                    out = subprocess.run([ATOLL, "cache", "build", data, "--size", f"{frame[1]}x{frame[0]}", "--channels",
                                          str(channels), "--fit", name, "--out", cache, "--json", "--quiet"],
                                         check=True, stdout=subprocess.PIPE).stdout
                    assert json.loads(out)["transform"]["fit"] == name
                    samples, there = read_cache(cache)
                    assert there == channels and len(samples) == len(images)
                    for (path, image), got in zip(images, samples):
                        want, box, margins = fit(image, *frame)
                        worst, n = compare(got, want.convert("L" if channels == 1 else "RGB"), box, margins, channels)
                        compared += n
                        worst_of_all = max(worst_of_all, worst)
                        assert worst <= 2, f"{path} in {cache}: {worst} levels from Pillow"
    assert compared > 20000, compared
    print(f"{compared} pixels, at most {worst_of_all} grey levels from Pillow's")


sys.exit(main())
