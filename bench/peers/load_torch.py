# SPDX-License-Identifier: Apache-2.0
"""Images a second of PyTorch's DataLoader over a tensor in memory, made floats and shuffled, but not
augmented; the faster of loading in the process itself and in THREADS workers. Prints one JSON object.

    load_torch.py BATCH THREADS
"""
import json
import resource
import sys
import time

import torch

IMAGES = 50000


class InMemory(torch.utils.data.Dataset):
    def __init__(self):
        self.pixels = torch.randint(0, 256, (IMAGES, 3, 32, 32), dtype=torch.uint8)

    def __len__(self):
        return IMAGES

    def __getitem__(self, i):
        return self.pixels[i].float() / 255


def rate(data, batch, workers):
    loader = torch.utils.data.DataLoader(data, batch_size=batch, shuffle=True, num_workers=workers)
    start, images = time.perf_counter(), 0
    for pixels in loader:
        images += len(pixels)
    return images / (time.perf_counter() - start)


def main(batch, threads):
    torch.set_num_threads(threads)
    data = InMemory()
    rates = {workers: rate(data, batch, workers) for workers in (0, threads)}
    print(json.dumps({"images_per_second": max(rates.values()), "workers": max(rates, key=rates.get),
                      "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}))


main(int(sys.argv[1]), int(sys.argv[2]))
