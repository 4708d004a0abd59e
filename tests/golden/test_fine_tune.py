# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=1200
"""What Keras learned on some classes of real images helps atoll to learn the others.

Keras trains a network with the layout of VGG16 (without top) at 32x32 on six classes of
Fashion-MNIST. atoll learns the other four from few images, once from scratch and once beginning with
Keras's weights, its convolutions frozen; the same epochs, images and keys otherwise.
"""
import gzip
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

FASHION = pathlib.Path("/usr/share/datasets/fashion-mnist")
if not FASHION.exists():
    print("skipped: dataset-fashion-mnist is not installed")
    sys.exit(77)

import h5py
import keras
import numpy as np
from PIL import Image

ATOLL = os.environ["ATOLL"]
NAMES = ("shirt-like top", "trouser", "pullover", "dress", "coat", "sandal")
OTHERS = {6: "shirt", 7: "sneaker", 8: "bag", 9: "boot"}
PRETRAIN, TRAIN, TEST = 1400, 100, 100  # images: of all six classes; of each other class
EPOCHS = 2


def load(split):
    images = gzip.open(FASHION / f"{split}-images-idx3-ubyte.gz").read()
    labels = gzip.open(FASHION / f"{split}-labels-idx1-ubyte.gz").read()
    pixels = np.frombuffer(images, np.uint8, offset=16).reshape(-1, 28, 28)
    pixels = np.pad(pixels, ((0, 0), (2, 2), (2, 2)))
    return np.repeat(pixels[..., None], 3, 3), np.frombuffer(labels, np.uint8, offset=8)


def pretrain(path):
    """VGG16's layers of convolution on the first six classes."""
    keras.utils.set_random_seed(1)
    pixels, labels = load("train")
    chosen = np.flatnonzero(labels < len(NAMES))[:PRETRAIN]
    base = keras.applications.VGG16(weights=None, include_top=False, input_shape=(32, 32, 3))
    he = keras.initializers.HeNormal(seed=1)
    for layer in base.layers:
        if layer.weights:  # without normalisation the usual start lets the signal fade
            layer.kernel.assign(he(layer.kernel.shape))
    scores = keras.layers.Dense(len(NAMES))(keras.layers.Flatten()(base.output))
    model = keras.Model(base.input, scores)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(1e-4), loss, metrics=["accuracy"])
    history = model.fit(pixels[chosen] / 127.5 - 1, labels[chosen], batch_size=32, verbose=0)
    print(f"Keras {keras.__version__}: {PRETRAIN} images of {len(NAMES)} classes, accuracy while "
          f"training {history.history['accuracy'][-1]:.3f}")
    base.save_weights(path)
    return {layer.name: layer.get_weights() for layer in base.layers if layer.weights}


def put_images(folder):
    for split, source, count in (("train", "train", TRAIN), ("test", "t10k", TEST)):
        pixels, labels = load(source)
        for label, name in OTHERS.items():
            to = folder / split / name
            to.mkdir(parents=True)
            for i in np.flatnonzero(labels == label)[:count]:
                Image.fromarray(pixels[i]).save(to / f"{i}.png")


def atoll(*arguments):
    out = subprocess.run([ATOLL, *map(str, arguments)], check=True, stdout=subprocess.PIPE)
    return json.loads(out.stdout)


def train(folder, run, *more):
    keys = ("--preprocess", "tf", "--epochs", EPOCHS, "--batch", 20, "--optimizer", "adam",
            "--lr", "0.001", "--weight_decay", 0, "--quiet", "--json")
    return atoll("train", "--data", folder / "data", "--model", "vgg16", "--out", folder / run, *keys,
                 *more)


def check_frozen(path, learned):
    """Bit by bit what Keras learned, the convolutions being frozen."""
    with h5py.File(path) as file:
        for layer, (kernel, bias) in learned.items():
            group = file["model_weights"][layer][layer]
            assert group["kernel"][:].tobytes() == kernel.tobytes(), layer
            assert group["bias"][:].tobytes() == bias.tobytes(), layer
    print(f"{len(learned)} frozen layers are bit by bit Keras's")


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        os.environ.setdefault("ATOLL_CACHE_DIR", str(folder / "caches"))
        weights = folder / "vgg16_notop.weights.h5"
        learned = pretrain(weights)
        put_images(folder / "images")
        atoll("ingest", folder / "images", "--out", folder / "data", "--quiet", "--json")
        tuned = train(folder, "tuned", "--init", weights, "--freeze", "block*")
        scratch = train(folder, "scratch")
        init = tuned["init"]
        assert init["matched"] == 26 and init["missing"] == 2 and init["misshaped"] == 0, init
        assert [row["name"] for row in init["rows"] if row["status"] == "missing"] == ["predictions"]
        assert "init" not in scratch
        check_frozen(folder / "tuned" / "model.h5", learned)
    print(f"{4 * TRAIN} images of {len(OTHERS)} other classes, {EPOCHS} epochs: test accuracy "
          f"{tuned['test_accuracy']:.3f} fine-tuned, {scratch['test_accuracy']:.3f} from scratch; "
          f"{tuned['seconds']:.1f} and {scratch['seconds']:.1f} s of training")
    assert tuned["test_accuracy"] > scratch["test_accuracy"] + 0.1
    assert tuned["test_accuracy"] > 0.6


if __name__ == "__main__":
    sys.exit(main())
