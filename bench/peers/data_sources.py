# SPDX-License-Identifier: Apache-2.0
"""The sources that bench/peers/data measures with, where none is given: tars of small JPEGs and a
folder of large photographs. Pictures are smooth with edges and some noise, as photographs are; one
picture becomes many contents by a comment (a COM segment) of its own behind the first marker."""
import concurrent.futures
import io
import os
import shutil
import tarfile

import numpy
from PIL import Image


def picture(dice, height, width):
    """Colours that flow at three scales, and the noise of a sensor."""
    total = numpy.zeros((height, width, 3), numpy.float32)
    for cells, share in ((4, 90), (16, 45), (64, 20)):
        rough = dice.uniform(-1, 1, (max(2, height * cells // width), cells, 3))
        for channel in range(3):
            plane = Image.fromarray(rough[:, :, channel].astype(numpy.float32), mode="F")
            total[:, :, channel] += share * numpy.asarray(
                plane.resize((width, height), Image.Resampling.BICUBIC))
    total += 128 + dice.normal(0, 4, (height, width, 1)).astype(numpy.float32)
    return Image.fromarray(total.clip(0, 255).astype(numpy.uint8))


def encode(image, quality):
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality)
    return out.getvalue()


def with_comment(jpeg, text):
    comment = text.encode()
    return jpeg[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment + jpeg[2:]


def one_photograph(folder, i, count, distinct):
    """Picture i as the i-th file and every `distinct`-th behind it; how many bytes they have."""
    jpeg = encode(picture(numpy.random.default_rng((1, i)), 3000, 4000), 88)
    written = 0
    for k in range(i, count, distinct):
        with open(os.path.join(folder, ("land", "sea")[k % 2], f"{k:05}.jpg"), "wb") as file:
            written += file.write(with_comment(jpeg, f"photograph {k}"))
    return written


def photographs(folder, count, distinct, processes, log):
    """`count` JPEGs of 4000 x 3000 pixels, of so many pictures, in two classes; made once: a folder
    that is there is whole."""
    if os.path.isdir(folder):
        return
    part, written = folder + ".part", 0
    shutil.rmtree(part, ignore_errors=True)
    for name in ("land", "sea"):
        os.makedirs(os.path.join(part, name))
    with concurrent.futures.ProcessPoolExecutor(processes) as pool:
        jobs = [pool.submit(one_photograph, part, i, count, distinct) for i in range(distinct)]
        for done, job in enumerate(concurrent.futures.as_completed(jobs), 1):
            written += job.result()
            log(f"  {done} of {distinct} pictures, {written / 1e9:.1f} GB")
    os.rename(part, folder)


def small_tar(path, count, distinct=500):
    """`count` JPEGs of 32 x 32 pixels, of so many pictures, in ten classes."""
    dice = numpy.random.default_rng(2)
    jpegs = [encode(picture(dice, 32, 32), 75) for _ in range(distinct)]
    entry = tarfile.TarInfo()
    with open(path, "wb") as file:
        for i in range(count):
            bytes_ = with_comment(jpegs[i % distinct], f"image {i}")
            entry.name, entry.size = f"train/class{i % 10}/{i:07}.jpg", len(bytes_)
            file.write(entry.tobuf(tarfile.USTAR_FORMAT))
            file.write(bytes_ + bytes(-len(bytes_) % 512))
        file.write(bytes(1024))
