#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Golden vectors of every family of models from PyTorch, which test_golden.c compares with.

To make them again (only after a change to this file or to a model; any PyTorch 2 on a CPU will do):

    python3 -m venv /tmp/torch && /tmp/torch/bin/pip install torch numpy h5py
    /tmp/torch/bin/python tests/golden/make_torch.py tests/golden [MODEL...]

It writes a file a model into the folder. The models are written down here as their papers and
torchvision have them, with atoll's names of their layers and without dropout, which no two programs
draw alike. PyTorch computes in float64, so that the vectors carry no rounding of their own. Weights are not stored: the integer recipe `noise`
makes them and the batch, tests/support/recipe.c repeats it, and both get the same float32 values.
A file holds:

    config        [8]: batch, channels, height, width, classes, steps, learning rate, momentum
    pixels        [N,H,W,C] 0..255, and labels [N]: the recipe's, stored to be compared
    logits        [N,K] of a training forward pass (batch statistics) with the first weights
    grads/L/P     gradient of the mean loss by parameter P of layer L, at those weights: every
                  `stride`-th value from the first on
    losses        [steps] mean loss before each step of SGD with Nesterov momentum on that batch
    logits_after  [N,K] of an inference pass (moving statistics) after these steps
    about/X       [6] of each of these X: number of values, stride, largest magnitude, Euclidean
                  norm; drift of any stored value and of the norm

A ReLU or a maximum whose arguments are within rounding of each other may take the other side, which
changes all gradients in front of it by far more than rounding. How far is measured here: `drift` is
the largest change when every weight is disturbed by a part in 100,000, about what Winograd's
convolution loses in float32, in a few draws.
"""
import copy
import sys

import h5py
import numpy as np
import torch
from torch import nn

STEPS, MOMENTUM = 10, 0.9
DRAWS, DISTURBANCE = 4, 1e-5


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


class Named(nn.Module):
    """A network whose convolutions and normalisations are told apart by atoll's names alone."""

    def add(self, name, module):
        setattr(self, name, module)
        return module.weight.shape[0]

    def run(self, x, *names):
        for name in names:
            x = getattr(self, name)(x)
        return x


class VGG(Named):
    """torchvision's from 64x64 on; below that one linear layer behind the last pooling."""

    def __init__(self, channels, size, classes, convs, norm):
        super().__init__()
        self.convs, self.norm, self.small = convs, norm, size < 64
        for block, (n, out) in enumerate(zip(convs, (64, 128, 256, 512, 512)), 1):
            for i in range(1, n + 1):
                conv = nn.Conv2d(channels, out, 3, padding=1, bias=not (norm and self.small))
                channels = self.add(f"block{block}_conv{i}", conv)
                if norm:
                    self.add(f"block{block}_bn{i}", nn.BatchNorm2d(out))
        width = 512 * (size // 32) ** 2
        for name in () if self.small else ("fc1", "fc2"):
            width = self.add(name, nn.Linear(width, 4096))
        self.add("predictions", nn.Linear(width, classes))

    def forward(self, x):
        for block, n in enumerate(self.convs, 1):
            for i in range(1, n + 1):
                x = self.run(x, f"block{block}_conv{i}")
                x = (self.run(x, f"block{block}_bn{i}") if self.norm else x).relu()
            x = nn.functional.max_pool2d(x, 2)
        x = x.flatten(1)
        for name in () if self.small else ("fc1", "fc2"):
            x = self.run(x, name).relu()
        return self.predictions(x)


class AlexNet(Named):
    """torchvision's on 64x64, which leaves a single pixel."""

    SHAPES = (64, 11, 4, 2), (192, 5, 1, 2), (384, 3, 1, 1), (256, 3, 1, 1), (256, 3, 1, 1)

    def __init__(self, channels, size, classes):
        super().__init__()
        for i, (out, k, stride, pad) in enumerate(self.SHAPES, 1):
            channels = self.add(f"conv{i}", nn.Conv2d(channels, out, k, stride, pad))
        for name in ("fc1", "fc2"):
            channels = self.add(name, nn.Linear(channels, 4096))
        self.add("predictions", nn.Linear(channels, classes))

    def pooled(self, x, i):
        return nn.functional.max_pool2d(x, 3, 2) if i in (1, 2, 5) else x

    def forward(self, x):
        for i in range(1, 6):
            x = self.pooled(self.run(x, f"conv{i}").relu(), i)
        x = self.fc2(self.fc1(x.flatten(1)).relu()).relu()
        return self.predictions(x)


class ZFNet(AlexNet):
    """Zeiler and Fergus, figure 3."""

    SHAPES = (96, 7, 2, 1), (256, 5, 2, 0), (384, 3, 1, 1), (384, 3, 1, 1), (256, 3, 1, 1)

    def pooled(self, x, i):
        if i > 2:
            return super().pooled(x, i)
        x = nn.functional.max_pool2d(x, 3, 2, ceil_mode=True)
        return nn.functional.local_response_norm(x, 5, 1e-4, 0.75, 2)


class GoogLeNet(Named):
    """Szegedy et al., table 1, on 64x64: the auxiliary classifiers read a plane of 4x4."""

    MODULES = {
        "3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64),
        "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64),
        "4c": (128, 128, 256, 24, 64, 64), "4d": (112, 144, 288, 32, 64, 64),
        "4e": (256, 160, 320, 32, 128, 128), "5a": (256, 160, 320, 32, 128, 128),
        "5b": (384, 192, 384, 48, 128, 128),
    }  # fmt: skip
    AUXILIARY = {"4a": "aux1_", "4d": "aux2_"}

    def __init__(self, channels, size, classes):
        super().__init__()
        self.unit("conv1", channels, 64, 7, 2)
        self.unit("conv2_reduce", 64, 64, 1)
        last = self.unit("conv2", 64, 192, 3)
        for module, (one, reduce3, three, reduce5, five, pool) in self.MODULES.items():
            name = f"inception{module}_"
            self.unit(name + "1x1", last, one, 1)
            self.unit(name + "3x3", self.unit(name + "3x3_reduce", last, reduce3, 1), three, 3)
            self.unit(name + "5x5", self.unit(name + "5x5_reduce", last, reduce5, 1), five, 5)
            self.unit(name + "pool_proj", last, pool, 1)
            last = one + three + five + pool
            if module in self.AUXILIARY:
                name = self.AUXILIARY[module]
                self.unit(name + "conv", last, 128, 1)
                self.add(name + "fc", nn.Linear(128 * 16, 1024))
                self.add(name + "predictions", nn.Linear(1024, classes))
        self.add("predictions", nn.Linear(last, classes))

    def unit(self, name, channels, out, k, stride=1):
        return self.add(name, nn.Conv2d(channels, out, k, stride, k // 2))

    def relu(self, x, *names):
        for name in names:
            x = self.run(x, name).relu()
        return x

    def pool(self, x):
        return nn.functional.max_pool2d(x, 3, 2, ceil_mode=True)

    def norm(self, x):
        return nn.functional.local_response_norm(x, 5, 1e-4, 0.75, 1)

    def inception(self, x, name):
        branches = ["1x1"], ["3x3_reduce", "3x3"], ["5x5_reduce", "5x5"]
        out = [self.relu(x, *(name + part for part in branch)) for branch in branches]
        pooled = nn.functional.max_pool2d(x, 3, 1, 1)
        return torch.cat(out + [self.relu(pooled, name + "pool_proj")], 1)

    def forward(self, x):
        x = self.norm(self.pool(self.relu(x, "conv1")))
        x = self.pool(self.norm(self.relu(x, "conv2_reduce", "conv2")))
        self.auxiliary = []
        for module in self.MODULES:
            x = self.pool(x) if module in ("4a", "5a") else x
            x = self.inception(x, f"inception{module}_")
            if module in self.AUXILIARY:
                name = self.AUXILIARY[module]
                y = self.relu(self.relu(x, name + "conv").flatten(1), name + "fc")
                self.auxiliary.append(self.run(y, name + "predictions"))
        return self.predictions(x.mean((2, 3)))


class ResNet(Named):
    """torchvision's from 64x64 on; below that, and always of CIFAR's, a 3x3 stem without pooling."""

    def __init__(self, channels, size, classes, blocks, width, bottleneck, cifar=False):
        super().__init__()
        self.blocks, self.small = [], cifar or size < 64
        last = self.unit("conv1", channels, width, 3 if self.small else 7, 1 if self.small else 2)
        for stage, n in enumerate(blocks):
            inner = width << stage
            for i in range(n):
                name, stride = f"conv{stage + 2}_block{i + 1}_", 2 if stage and not i else 1
                out = 4 * inner if bottleneck else inner
                if last != out or stride > 1:
                    self.unit(name + "0", last, out, 1, stride)
                if bottleneck:
                    self.unit(name + "1", last, inner, 1, 1)
                    self.unit(name + "2", inner, inner, 3, stride)
                    self.unit(name + "3", inner, out, 1, 1)
                else:
                    self.unit(name + "1", last, inner, 3, stride)
                    self.unit(name + "2", inner, inner, 3, 1)
                self.blocks.append((name, 3 if bottleneck else 2))
                last = out
        self.add("predictions", nn.Linear(last, classes))

    def unit(self, name, channels, out, k, stride):
        conv = nn.Conv2d(channels, out, k, stride, k // 2, bias=False)
        self.add(name + "_bn", nn.BatchNorm2d(out))
        return self.add(name + "_conv", conv)

    def normalised(self, x, name):
        return self.run(x, name + "_conv", name + "_bn")

    def forward(self, x):
        x = self.normalised(x, "conv1").relu()
        x = x if self.small else nn.functional.max_pool2d(x, 3, 2, 1)
        for name, depth in self.blocks:
            shortcut = self.normalised(x, name + "0") if hasattr(self, name + "0_bn") else x
            for i in range(1, depth):
                x = self.normalised(x, f"{name}{i}").relu()
            x = (self.normalised(x, f"{name}{depth}") + shortcut).relu()
        return self.predictions(x.mean((2, 3)))


def parameters(model):
    """(name in atoll, parameter)"""
    for layer, module in model.named_children():
        ours = ("gamma", "beta") if isinstance(module, nn.BatchNorm2d) else ("kernel", "bias")
        for name, value in zip(ours, (module.weight, module.bias)):
            if value is not None:
                yield f"{layer}/{name}", value


def measure(model, x, y, rate):
    """Everything that is compared, by its name in the file."""
    out, losses = {}, []
    optimizer = torch.optim.SGD(model.parameters(), lr=rate, momentum=MOMENTUM, nesterov=True)
    for step in range(STEPS):
        optimizer.zero_grad()
        logits = model(x)
        loss = nn.functional.cross_entropy(logits, y)
        others = (nn.functional.cross_entropy(a, y) for a in getattr(model, "auxiliary", ()))
        (loss + 0.3 * sum(others)).backward()
        losses.append(loss.item())
        if step == 0:
            out["logits"] = logits.detach().numpy().ravel()
            for name, value in parameters(model):
                out[f"grads/{name}"] = value.grad.detach().numpy().ravel().copy()
        optimizer.step()
    model.eval()
    out["losses"] = np.array(losses)
    out["logits_after"] = model(x).detach().numpy().ravel()
    return out


def disturbed(model):
    model = copy.deepcopy(model)
    for value in model.parameters():
        value.data *= 1 + DISTURBANCE * torch.randn_like(value)
    return model


def write(file, name, values):
    file.create_dataset(name, data=np.ascontiguousarray(values, dtype="<f4"))


def write_measured(file, name, values, draws, most):
    """In full up to `most` values; returns drift as a share of the largest magnitude."""
    stride = 1 if values.size <= most else values.size // most | 1
    largest, norm = np.abs(values).max(), np.linalg.norm(values)
    drift = max(np.abs(d - values)[::stride].max() for d in draws)
    drift_of_norm = max(abs(np.linalg.norm(d) - norm) for d in draws)
    write(file, name, values[::stride])
    write(file, f"about/{name}", [values.size, stride, largest, norm, drift, drift_of_norm])
    return drift / largest


def make(path, kind, batch, channels, size, classes, rate, most=16384):
    torch.manual_seed(1)
    model = kind(channels, size, classes).double()
    for name, value in parameters(model):
        value.data = weights(name, tuple(value.shape))
    shape = (batch, size, size, channels)
    pixels = (noise("pixels", int(np.prod(shape))) & np.uint32(255)).reshape(shape)
    labels = noise("labels", batch) % np.uint32(classes)
    x = torch.from_numpy(pixels.astype(np.float64) / 255).permute(0, 3, 1, 2).contiguous()
    y = torch.from_numpy(labels.astype(np.int64))
    draws = [measure(disturbed(model), x, y, rate) for _ in range(DRAWS)]
    measured = measure(model, x, y, rate)
    with h5py.File(path, "w", libver=("v108", "v108")) as file:
        write(file, "config", [batch, channels, size, size, classes, STEPS, rate, MOMENTUM])
        write(file, "pixels", pixels)
        write(file, "labels", labels)
        drift = {
            name: write_measured(file, name, values, [d[name] for d in draws], most)
            for name, values in measured.items()
        }
    count = sum(p.numel() for p in model.parameters())
    worst = max(drift, key=drift.get)
    print(f"{path}: {count} parameters, losses", *(f"{x:.5f}" for x in measured["losses"]))
    print(f"    drift up to {drift[worst]:.1e} ({worst}), of losses {drift['losses']:.1e}")


def vgg(convs, norm):
    return lambda *shape: VGG(*shape, convs, norm)


def resnet(*blocks, **how):
    return lambda *shape: ResNet(*shape, blocks, **how)


MODELS = {
    "lenet": (LeNet, 8, 1, 28, 10, 0.002),
    "lenet32": (LeNet, 8, 3, 32, 10, 0.002),
    "airnet": (AirNet, 8, 3, 32, 10, 0.0002),
    "alexnet": (AlexNet, 4, 3, 64, 10, 1e-4, 4096),
    "zfnet": (ZFNet, 4, 1, 64, 10, 1e-4, 4096),
    "googlenet": (GoogLeNet, 4, 3, 64, 12, 1e-4, 1024),
    "vgg11": (vgg((1, 1, 2, 2, 2), False), 4, 3, 64, 10, 1e-5, 4096),
    "vgg16-bn": (vgg((2, 2, 3, 3, 3), True), 4, 3, 32, 10, 1e-6, 4096),
    "resnet20": (resnet(3, 3, 3, width=16, bottleneck=False, cifar=True), 8, 3, 32, 10, 1e-4, 4096),
    "resnet18": (resnet(2, 2, 2, 2, width=64, bottleneck=False), 4, 1, 28, 10, 1e-5, 2048),
    "resnet50": (resnet(3, 4, 6, 3, width=64, bottleneck=True), 4, 3, 64, 20, 1e-6, 1024),
}

if __name__ == "__main__":
    out = sys.argv[1] if len(sys.argv) > 1 else sys.exit(__doc__)
    for name in sys.argv[2:] or MODELS:
        make(f"{out}/{name}.h5", *MODELS[name])
