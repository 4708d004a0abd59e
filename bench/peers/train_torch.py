# SPDX-License-Identifier: Apache-2.0
"""Training steps of PyTorch on random 32x32 images; prints one JSON object.

    train_torch.py MODEL fp32|bf16 BATCH STEPS THREADS [compile]
"""
import json
import resource
import sys
import time

import torch
import torch.nn.functional as F

from torch_models import MODELS


def main(model, precision, batch, steps, threads, how="eager"):
    torch.set_num_threads(int(threads))
    batch, steps = int(batch), int(steps)
    net = MODELS[model]().to(memory_format=torch.channels_last)
    images = torch.randn(batch, 3, 32, 32).to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch,))
    optimizer = torch.optim.SGD(
        net.parameters(), lr=0.001, momentum=0.9, nesterov=True, foreach=True)

    def loss():
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "bf16"):
            logits = net(images)
        return F.cross_entropy(logits.float(), labels)

    if how == "compile":
        loss = torch.compile(loss)

    def step():
        loss().backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    for _ in range(3):
        step()
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
    seconds.sort()
    print(json.dumps({
        "images_per_second": batch / seconds[steps // 2],
        "best": batch / seconds[0],
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "version": torch.__version__}))


main(*sys.argv[1:])
