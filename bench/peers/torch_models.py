# SPDX-License-Identifier: Apache-2.0
"""The benchmarks' networks for PyTorch, in the form that atoll gives them for 32x32 images."""
import torch
from torch import nn


def stack(*layers):
    return nn.Sequential(*layers)


def lenet_wide():
    return stack(
        nn.Conv2d(3, 32, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(64 * 8 * 8, 512), nn.ReLU(), nn.Linear(512, 10))


def normalised(channels_in, channels_out, stride=1, size=3):
    return stack(
        nn.Conv2d(channels_in, channels_out, size, stride, size // 2, bias=False),
        nn.BatchNorm2d(channels_out))


class Residual(nn.Module):
    def __init__(self, channels_in, channels_out, stride):
        super().__init__()
        self.first = normalised(channels_in, channels_out, stride)
        self.second = normalised(channels_out, channels_out)
        same = stride == 1 and channels_in == channels_out
        self.skip = nn.Identity() if same else normalised(channels_in, channels_out, stride, 1)

    def forward(self, x):
        return torch.relu(self.second(torch.relu(self.first(x))) + self.skip(x))


def resnet(widths, blocks):
    layers, width = [normalised(3, widths[0]), nn.ReLU()], widths[0]
    for stage, out in enumerate(widths):
        for block in range(blocks):
            layers.append(Residual(width, out, 2 if stage and not block else 1))
            width = out
    return stack(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))


def vgg16():
    layers, width = [], 3
    for stage, out in enumerate((64, 128, 256, 512, 512)):
        for _ in range(2 if stage < 2 else 3):
            layers += [nn.Conv2d(width, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU()]
            width = out
        layers.append(nn.MaxPool2d(2))
    return stack(*layers, nn.Flatten(), nn.Linear(512, 10))


def airnet():
    layers, width = [nn.Conv2d(3, 24, 2), nn.GELU()], 24
    for out in (64, 256, 256):
        layers += [
            nn.Conv2d(width, out, 3, padding=1, bias=False), nn.MaxPool2d(2),
            nn.BatchNorm2d(out), nn.GELU(),
            nn.Conv2d(out, out, 3, padding=1, bias=False), nn.BatchNorm2d(out), nn.GELU()]
        width = out
    return stack(*layers, nn.MaxPool2d(3), nn.Flatten(), nn.Linear(256, 10, bias=False))


MODELS = {
    "lenet-wide": lenet_wide,
    "resnet20": lambda: resnet((16, 32, 64), 3),
    "resnet18": lambda: resnet((64, 128, 256, 512), 2),
    "vgg16-bn": vgg16,
    "airnet": airnet,
}
