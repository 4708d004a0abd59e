# SPDX-License-Identifier: Apache-2.0
"""Images a second of PyTorch's DataLoader over JPEG files: opened and decoded by Pillow, made float
tensors, shuffled, in THREADS workers. Prints one JSON object.

    load_files_torch.py FOLDER BATCH THREADS [IMAGES]
"""
import json
import os
import resource
import sys
import time

import numpy
import torch
from PIL import Image


class Files(torch.utils.data.Dataset):
    def __init__(self, folder, limit):
        names = (os.path.join(at, name) for at, _, files in os.walk(folder) for name in files)
        self.paths = sorted(name for name in names if name.endswith(".jpg"))[:limit]

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, i):
        with Image.open(self.paths[i]) as picture:
            pixels = numpy.asarray(picture.convert("RGB"))
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float() / 255


def main(folder, batch, threads, limit=None):
    data = Files(folder, int(limit) if limit else None)
    loader = torch.utils.data.DataLoader(data, batch_size=int(batch), shuffle=True,
                                         num_workers=int(threads))
    start, images = time.perf_counter(), 0
    for pixels in loader:
        images += len(pixels)
    print(json.dumps({"images_per_second": images / (time.perf_counter() - start), "images": images,
                      "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


main(*sys.argv[1:])
