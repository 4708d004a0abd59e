# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=1800
"""atoll --init takes Keras Applications' weights, from files that Keras wrote, and says what Keras says.

A model of Keras Applications gets random weights of a size at which every layer matters; `atoll train`
begins with its file, everything frozen but the last layer, at a learning rate of nothing; then
`atoll predict` is asked about the same images as Keras with its own preprocessing.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import h5py
import keras
import numpy as np
from PIL import Image

ATOLL = os.environ["ATOLL"]
CLASSES = 5
TOLERANCE = 1e-4

# atoll's model, Keras's, size of images, with Keras's own top, preprocessing, kind of file
CASES = (
    ("vgg16", keras.applications.VGG16, 64, True, "caffe", "weights.h5"),
    ("vgg16", keras.applications.VGG16, 32, False, "torch", "keras"),
    ("vgg16", keras.applications.VGG16, 32, False, "tf", "legacy weights"),
    ("resnet50-v1", keras.applications.ResNet50, 64, True, "caffe", "h5"),
    ("resnet50-v1", keras.applications.ResNet50, 64, False, "torch", "weights.h5"),
    ("resnet50-v1", keras.applications.ResNet50, 64, True, "tf", "legacy weights"),
)


def random_weight(rng, variable):
    shape = variable.shape
    if len(shape) > 1:
        return rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape)
    low, high = {"gamma": (0.5, 1.0), "moving_variance": (0.5, 1.5)}.get(variable.name, (-0.2, 0.2))
    return rng.uniform(low, high, shape)


def make_model(make, size, top, mode, pixels):
    """The model with its activation left off, and its logits for the pixels."""
    rng = np.random.default_rng(7)
    shape = (size, size, 3)
    if top:
        model = make(weights=None, input_shape=shape, classes=CLASSES, classifier_activation=None)
    else:
        base = make(weights=None, input_shape=shape, include_top=False)
        last = base.output
        if base.name == "resnet50":
            last = keras.layers.GlobalAveragePooling2D()(last)
        else:
            last = keras.layers.Flatten()(last)
        model = keras.Model(base.input, keras.layers.Dense(CLASSES, name="predictions")(last))
    for layer in model.layers:
        layer.set_weights([random_weight(rng, variable) for variable in layer.weights])
    ready = keras.applications.imagenet_utils.preprocess_input(pixels.astype("float32"), mode=mode)
    head = model.get_layer("predictions")
    spread = np.abs(model.predict(ready, verbose=0)).max() / 3  # scores neither even nor certain
    head.set_weights([weight / spread for weight in head.get_weights()])
    return model, model.predict(ready, verbose=0)


def save(model, kind, folder):
    if kind == "weights.h5":
        path = folder / "keras.weights.h5"
        model.save_weights(path)
        return path
    path = folder / ("keras.keras" if kind == "keras" else "keras.h5")
    model.save(path)
    if kind == "legacy weights":  # what Keras 2 wrote: the group of weights as the whole file
        with h5py.File(path) as whole, h5py.File(folder / "alone.h5", "w") as alone:
            group = whole["model_weights"]
            for name in group:
                group.copy(name, alone)
            for name, value in group.attrs.items():
                alone.attrs[name] = value
        return folder / "alone.h5"
    return path


def put_images(folder, size):
    """Images of classes that differ in colour, so that a wrong order of channels shows."""
    rng = np.random.default_rng(size)
    for use in ("train", "asked"):
        for label in range(CLASSES):
            to = folder / use / f"class {label}"
            to.mkdir(parents=True)
            for i in range(2):
                colour = rng.uniform(20, 235, 3)
                coarse = np.clip(rng.normal(colour, 50, (8, 8, 3)), 0, 255).astype(np.uint8)
                Image.fromarray(coarse).resize((size, size), Image.BICUBIC).save(to / f"{i}.png")
    paths = sorted((folder / "asked").rglob("*.png"))
    return paths, np.stack([np.asarray(Image.open(path)) for path in paths])


def atoll(*arguments):
    out = subprocess.run([ATOLL, *map(str, arguments)], check=True, stdout=subprocess.PIPE)
    return json.loads(out.stdout)


def scores_of(model, mode, file, data, paths, folder):
    summary = atoll("train", "--data", data, "--model", model, "--out", folder / "run", "--init", file,
                    "--preprocess", mode, "--freeze", "[!p]*", "--epochs", 1, "--batch", 4, "--lr",
                    1e-12, "--weight_decay", 0, "--train_limit", 4, "--quiet", "--json")
    init = summary["init"]
    assert init["missing"] == init["misshaped"] == 0 and not init["unused"], init
    statuses = {row["status"] for row in init["rows"]}
    assert statuses == ({"matched", "turned"} if mode == "caffe" else {"matched"}), statuses
    answers = atoll("predict", folder / "run" / "model.h5", *paths, "--json")["predictions"]
    return np.array([answer["scores"] for answer in answers]), init["matched"]


def check_case(case, folder):
    model, make, size, top, mode, kind = case
    paths, pixels = put_images(folder / "images", size)
    network, logits = make_model(make, size, top, mode, pixels)
    file = save(network, kind, folder)
    atoll("ingest", folder / "images" / "train", "--out", folder / "data", "--quiet", "--json")
    scores, matched = scores_of(model, mode, file, folder / "data", paths, folder)
    assert matched == len(network.weights)
    expected = np.exp(logits - logits.max(1, keepdims=True))
    expected /= expected.sum(1, keepdims=True)
    ours = np.log(scores) - np.log(scores).mean(1, keepdims=True)
    theirs = logits - logits.mean(1, keepdims=True)
    of_scores = np.abs(scores - expected).max()
    of_logits = np.abs(ours - theirs).max() / np.abs(theirs).max()
    print(f"{model} {size}x{size} {'with' if top else 'without'} top, {mode}, {kind}: {matched} weights; "
          f"scores differ by at most {of_scores:.1e}, logits by {of_logits:.1e} of the largest")
    assert expected.max(1).std() > 0.01  # images are told apart
    assert of_scores < TOLERANCE and of_logits < TOLERANCE


def main():
    with tempfile.TemporaryDirectory() as caches:
        os.environ.setdefault("ATOLL_CACHE_DIR", caches)
        for case in CASES:
            with tempfile.TemporaryDirectory() as folder:
                check_case(case, pathlib.Path(folder))
            keras.backend.clear_session()
    print(f"Keras {keras.__version__}: {len(CASES)} files")


if __name__ == "__main__":
    sys.exit(main())
