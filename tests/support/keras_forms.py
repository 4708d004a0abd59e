# SPDX-License-Identifier: Apache-2.0
"""Models of `atoll model list` in every form that this Keras (2 or 3) reads, against atoll: one or
two of each family, every one with ATOLL_EVERY_MODEL=1.

For each: atoll makes the model, its last layer is scaled so that the scores differ, atoll predicts
100 random pictures; Keras loads each form, must give the same scores within 1e-4, and trains a step
with what it was compiled with. Then Keras saves the model in its own forms, and atoll reads those.
"""
import json
import os
import pathlib
import subprocess
import tempfile

import h5py
import keras
import numpy as np
from PIL import Image

TOLERANCE = 1e-4
PICTURES = 100
KERAS3 = keras.__version__.startswith("3")
ATOLL = os.environ["ATOLL"]
SIZES = ((1, 28), (3, 32), (3, 64), (3, 96), (3, 224))  # the first that the model takes


FAMILIES = ("lenet", "airnet", "alexnet", "zfnet", "googlenet", "vgg11", "vgg16-bn", "resnet18", "resnet20",
            "resnet50")


def atoll(*arguments):
    out = subprocess.run([ATOLL, *map(str, arguments)], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True, check=False)
    assert out.returncode == 0, f"atoll {' '.join(map(str, arguments))}: {out.stderr}"
    return out.stdout


def models():
    every = [row["model"] for row in json.loads(atoll("model", "list", "--json"))["models"]]
    assert set(FAMILIES) <= set(every), every
    if os.environ.get("ATOLL_EVERY_MODEL"):
        return every
    print("left out:", *(name for name in every if name not in FAMILIES))
    return list(FAMILIES)


def make_model(name, path):
    """The model at the smallest size; its input's shape."""
    for channels, size in SIZES:
        if channels == 1 and name != "lenet":
            continue
        out = subprocess.run([ATOLL, "model", "new", name, "--classes", "10", "--size",
                              f"{size}x{size}", "--channels", str(channels), "--out", str(path)],
                             stderr=subprocess.PIPE, stdout=subprocess.PIPE, check=False)
        if out.returncode == 0:
            return size, size, channels
    raise AssertionError(f"{name}: {out.stderr.decode()}")


def save_pictures(folder, shape):
    rng = np.random.default_rng(3)
    pixels = rng.integers(0, 256, (PICTURES, *shape), dtype=np.uint8)
    smooth = np.linspace(0, 1, PICTURES)[:, None, None, None]  # from noise to plain
    pixels = (pixels * smooth + 128 * (1 - smooth)).astype(np.uint8)
    paths = []
    for i, picture in enumerate(pixels):
        paths.append(f"{folder}/{i}.png")
        Image.fromarray(picture[:, :, 0] if shape[2] == 1 else picture).save(paths[-1])
    return pixels, paths


def predict(path, pictures):
    answers = json.loads(atoll("predict", path, *pictures, "--json"))["predictions"]
    return np.array([answer["scores"] for answer in answers])


def spread_scores(path, pictures):
    """Changes the last layer so that its logits lie around 0: untrained, all are alike."""
    logits = np.log(predict(path, pictures))
    logits -= logits.mean(1, keepdims=True)
    scale = min(1.5 / logits.std(0).mean(), 1000)  # more would show rounding alone
    with h5py.File(path, "r+") as file:
        del file.attrs["atoll_checksum"]
        config = json.loads(file.attrs["model_config"])
        dense = [l["name"] for l in config["config"]["layers"] if l["class_name"] == "Dense"][-1]
        group = file[f"model_weights/{dense}/{dense}"]
        if "bias" in group:
            bias = group["bias"][...]
            group["bias"][...] = -scale * (logits.mean(0) - (bias - bias.mean()))
        else:
            scale = min(scale, 4 / np.abs(logits).max())
        group["kernel"][...] *= np.float32(scale)


def differ(ours, theirs):
    assert ours.shape == theirs.shape, (ours.shape, theirs.shape)
    return float(np.abs(ours - theirs).max())


def load_forms(folder, path):
    """(form, model) of each form that this Keras reads."""
    model = keras.models.load_model(path)
    yield "keras-h5", model
    config = model.get_config()
    if KERAS3:
        atoll("export", path, "--out", f"{folder}/m.keras")
        yield "keras", keras.models.load_model(f"{folder}/m.keras")
        weights = f"{folder}/m.weights.h5"
        atoll("export", path, "--out", weights)
    else:
        weights = f"{folder}/w.h5"
        atoll("export", path, "--to", "weights-h5", "--out", weights)
    again = type(model).from_config(config)
    again.load_weights(weights)
    yield "keras-weights" if KERAS3 else "weights-h5", again


def check_training(model, pixels):
    """It came compiled, and learns."""
    assert type(model.optimizer).__name__ == "SGD" and model.loss
    before = [w.copy() for w in model.get_weights()]
    result = model.train_on_batch(pixels[:8].astype(np.float32), np.arange(8) % 10)
    assert np.isfinite(result[0]) and len(result) == 2, result  # loss and accuracy
    assert any(np.abs(a - b).max() > 0 for a, b in zip(before, model.get_weights()))


def back_forms(name, folder, model, shape):
    """(form, file) of the forms that Keras itself saves, weights alone made a model of again."""
    model.save(f"{folder}/back.h5")
    yield "its .h5", f"{folder}/back.h5"
    model.save(f"{folder}/back.keras")
    yield "its .keras", f"{folder}/back.keras"
    weights = f"{folder}/back.weights.h5"
    model.save_weights(weights)
    files = {"its .weights.h5": weights}
    if not KERAS3:
        model.save_weights(f"{folder}/legacy.h5")
        files["its weights in .h5"] = f"{folder}/legacy.h5"
    for form, file in files.items():
        atoll("export", file, "--model", name, "--classes", 10, "--channels", shape[2],
              "--size", f"{shape[0]}x{shape[1]}", "--out", f"{folder}/again.h5")
        yield form, f"{folder}/again.h5"


def reads_back(name):
    """Keras's own file of a model with normalisation over channels holds it in pieces."""
    rows = json.loads(atoll("model", "describe", name, "--json"))["layers"]
    return not any(row["layer"] == "lrn" for row in rows)


def check_model(name):
    row = {}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "m.h5")
        shape = make_model(name, path)
        pixels, pictures = save_pictures(folder, shape)
        spread_scores(path, pictures)
        ours = predict(path, pictures)
        assert ours.std(0).max() > 1e-6, f"{name}: all scores are alike"
        for form, model in load_forms(folder, path):
            row[form] = differ(ours, model.predict(pixels, verbose=0))
            if form != "keras-weights" and form != "weights-h5":
                check_training(model, pixels)
        theirs = model.predict(pixels, verbose=0)  # as saved, whatever training did to others
        for form, file in back_forms(name, folder, model, shape):
            if reads_back(name) or "weights" in form:
                row[form] = differ(predict(file, pictures), theirs)
        keras.backend.clear_session()
    return shape, row


def main():
    names = models()
    compared = 0
    print(f"Keras {keras.__version__}: largest difference of a score, {PICTURES} pictures")
    for name in names:
        shape, row = check_model(name)
        size = "x".join(map(str, shape))
        print(f"  {name:12} {size:9}", *(f"{form} {error:.1e}" for form, error in row.items()),
              sep="  ", flush=True)
        assert len(row) >= 3 and max(row.values()) <= TOLERANCE, (name, row)
        compared += len(row)
    print(f"{len(names)} models, {compared} files compared")
    assert compared >= 3 * len(names) > 0
