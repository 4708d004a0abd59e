#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Golden vectors of lenet and airnet from PyTorch, which test_golden.c compares with.

To make them again (only after a change to this file or to a model; any PyTorch 2 on a CPU will do):

    python3 -m venv /tmp/torch && /tmp/torch/bin/pip install torch numpy h5py
    /tmp/torch/bin/python tests/golden/make_torch.py tests/golden

It writes lenet.h5, lenet32.h5 and airnet.h5 into the folder. PyTorch computes in float64, so that
the vectors carry no rounding of their own. Weights are not stored: the integer recipe `noise`
makes them and the batch, tests/support/recipe.c repeats it, and both get the same float32 values.
A file holds:

    config        [8]: batch, channels, height, width, classes, steps, learning rate, momentum
    pixels        [N,H,W,C] 0..255, and labels [N]: the recipe's, stored to be compared
    logits        [N,K] of a training forward pass (batch statistics) with the first weights
    grads/L/P     gradient of the mean loss by parameter P of layer L, at those weights: every
                  `stride`-th value from the first on
    about/L/P     [4] of that gradient: number of values, stride, largest magnitude, Euclidean norm
    losses        [steps] mean loss before each step of SGD with Nesterov momentum on that batch
    logits_after  [N,K] of an inference pass (moving statistics) after these steps
"""
import sys

import h5py
import numpy as np
import torch
from torch import nn

FULL = 16384  # gradients up to this many values are stored in full
STEPS, MOMENTUM = 10, 0.9


def fnv1a(text):
    value = 0x811C9DC5
    for byte in text.encode():
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def noise(name, count):
    """[count] of uint32, well mixed (murmur3's finaliser), from the name and the index alone."""
    with np.errstate(over="ignore"):
        x = np.arange(count, dtype=np.uint32) * np.uint32(0x9E3779B1) + np.uint32(fnv1a(name))
        x = (x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B)
        x = (x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35)
        return x ^ (x >> np.uint32(16))


def weights(name, shape):
    """A parameter's first value: uniform in (-s, s), s a power of two about sqrt(6 / fan-in)."""
    values = (noise(name, int(np.prod(shape))) >> np.uint32(16)).astype(np.float64) / 32768 - 1
    kind = name.split("/")[1]
    if kind == "gamma":
        values = 1 + values / 4
    elif kind in ("beta", "bias"):
        values = values / 4
    else:
        values = values * 2.0 ** np.round(np.log2(6 / np.prod(shape[1:])) / 2)
    return torch.from_numpy(values.reshape(shape))


class LeNet(nn.Module):
    def __init__(self, channels, size, classes):
        super().__init__()
        self.c1 = nn.Conv2d(channels, 6, 5, padding=2 if size < 32 else 0)
        self.c2 = nn.Conv2d(6, 16, 5)
        self.d1 = nn.Linear(400, 120)
        self.d2 = nn.Linear(120, 84)
        self.logits = nn.Linear(84, classes)

    def forward(self, x):
        x = nn.functional.max_pool2d(self.c1(x).relu(), 2)
        x = nn.functional.max_pool2d(self.c2(x).relu(), 2).flatten(1)
        return self.logits(self.d2(self.d1(x).relu()).relu())


class AirNet(nn.Module):
    """AirNet as in Keller Jordan's airbench, with atoll's names of its layers."""

    def __init__(self, channels, size, classes):
        super().__init__()
        self.white = nn.Conv2d(channels, 24, 2)
        for block, (i, o) in enumerate([(24, 64), (64, 256), (256, 256)], 1):
            setattr(self, f"b{block}_c1", nn.Conv2d(i, o, 3, padding=1, bias=False))
            setattr(self, f"b{block}_n1", nn.BatchNorm2d(o))
            setattr(self, f"b{block}_c2", nn.Conv2d(o, o, 3, padding=1, bias=False))
            setattr(self, f"b{block}_n2", nn.BatchNorm2d(o))
        self.logits = nn.Linear(256, classes, bias=False)

    def forward(self, x):
        gelu, pool = nn.functional.gelu, nn.functional.max_pool2d
        x = gelu(self.white(x))
        for b in ("b1", "b2", "b3"):
            x = gelu(getattr(self, f"{b}_n1")(pool(getattr(self, f"{b}_c1")(x), 2)))
            x = gelu(getattr(self, f"{b}_n2")(getattr(self, f"{b}_c2")(x)))
        return self.logits(pool(x, 3).flatten(1))


def parameters(model):
    """(name in atoll, parameter)"""
    for layer, module in model.named_children():
        ours = ("gamma", "beta") if isinstance(module, nn.BatchNorm2d) else ("kernel", "bias")
        for name, value in zip(ours, (module.weight, module.bias)):
            if value is not None:
                yield f"{layer}/{name}", value


def write(file, name, values):
    file.create_dataset(name, data=np.ascontiguousarray(values, dtype="<f4"))


def write_gradient(file, name, gradient):
    flat = gradient.detach().numpy().ravel()
    stride = 1 if flat.size <= FULL else flat.size // FULL | 1
    write(file, f"grads/{name}", flat[::stride])
    write(file, f"about/{name}", [flat.size, stride, np.abs(flat).max(), np.linalg.norm(flat)])


def make(path, kind, batch, channels, size, classes, rate):
    model = kind(channels, size, classes).double()
    for name, value in parameters(model):
        value.data = weights(name, tuple(value.shape))
    shape = (batch, size, size, channels)
    pixels = (noise("pixels", int(np.prod(shape))) & np.uint32(255)).reshape(shape)
    labels = noise("labels", batch) % np.uint32(classes)
    x = torch.from_numpy(pixels.astype(np.float64) / 255).permute(0, 3, 1, 2).contiguous()
    y = torch.from_numpy(labels.astype(np.int64))
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=MOMENTUM, nesterov=True)
    losses = []
    with h5py.File(path, "w", libver=("v108", "v108")) as file:
        write(file, "config", [batch, channels, size, size, classes, STEPS, rate, MOMENTUM])
        write(file, "pixels", pixels)
        write(file, "labels", labels)
        for step in range(STEPS):
            optimizer.zero_grad()
            logits = model(x)
            loss = nn.functional.cross_entropy(logits, y)
            loss.backward()
            losses.append(loss.item())
            if step == 0:
                write(file, "logits", logits.detach().numpy())
                for name, value in parameters(model):
                    write_gradient(file, name, value.grad)
            optimizer.step()
        model.eval()
        write(file, "losses", losses)
        write(file, "logits_after", model(x).detach().numpy())
    count = sum(p.numel() for p in model.parameters())
    print(f"{path}: {count} parameters, losses", *(f"{x:.5f}" for x in losses))


if __name__ == "__main__":
    out = sys.argv[1] if len(sys.argv) == 2 else sys.exit(__doc__)
    make(f"{out}/lenet.h5", LeNet, 8, 1, 28, 10, 0.002)
    make(f"{out}/lenet32.h5", LeNet, 8, 3, 32, 10, 0.002)
    make(f"{out}/airnet.h5", AirNet, 8, 3, 32, 10, 0.0002)
