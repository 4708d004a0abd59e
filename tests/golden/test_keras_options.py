# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=900
"""Layers of Keras with options that networks of ours do not use: atoll gives Keras's scores, or
refuses the file by the layer's name; never other scores."""
import json
import os
import subprocess
import sys
import tempfile

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras
import numpy as np
from keras import layers as L
from PIL import Image

SHAPE = (13, 15, 3)
PICTURES = 3
TOLERANCE = 1e-4


def conv(filters=8, k=3, **options):
    return L.Conv2D(filters, k, **options)


def scores():
    return L.Dense(4, activation="softmax")


# Between Rescaling and Flatten, scores.
READ = {
    "a maximum cut off at an odd border": [conv(16, 3), L.MaxPooling2D(2, padding="same")],
    "the same with a stride beyond it": [conv(16, 3), L.MaxPooling2D(2, strides=3, padding="same")],
    "an average of unequal windows": [conv(16, 3), L.AveragePooling2D(3, strides=1, padding="same")],
    "strides of two numbers": [conv(8, (2, 5), strides=(2, 1), padding="same")],
    "an even window": [conv(6, 2, padding="same"), conv(6, 4, strides=3, padding="same")],
    "dilation": [conv(8, 3, dilation_rate=(1, 2), padding="same", activation="silu")],
    "groups": [conv(8, 3), conv(12, 3, groups=4, use_bias=False)],
    "depthwise": [L.DepthwiseConv2D(3, depth_multiplier=2, padding="same", activation="tanh")],
    "padding before valid": [L.ZeroPadding2D(((0, 1), (2, 0))), conv(8, 3, strides=2)],
    "padding before same": [L.ZeroPadding2D((0, 1)), conv(8, 3, strides=2, padding="same")],
    "two paddings": [L.ZeroPadding2D(1), L.ZeroPadding2D((0, 1)), conv(8, 5, padding="same")],
    "padding before a maximum": [conv(activation="relu"), L.ZeroPadding2D(1), L.MaxPooling2D(3, 2)],
    "batch normalisation": [conv(), L.BatchNormalization(scale=False), L.ReLU(),
                            L.BatchNormalization(center=False, epsilon=0.01)],
    "gelu": [conv(activation="gelu"), L.Activation("sigmoid")],
    "a global maximum": [conv(), L.GlobalMaxPooling2D(keepdims=True)],
}

# Whole models, and what the refusal must hold besides the layer's name.
REFUSED = {
    "a sigmoid a class": ([L.Flatten(), L.Dense(3, activation="sigmoid", name="guilty")], "sigmoid"),
    "a sigmoid for two classes": ([L.Flatten(), L.Dense(1), L.Activation("sigmoid", name="guilty")],
                                  "sigmoid"),
    "one logit for two classes": ([L.Flatten(), L.Dense(1, name="guilty")], "one number"),
    "rectified scores": ([L.Flatten(), L.Dense(3), L.ReLU(name="guilty")], "relu"),
    "flattened by channels": ([conv(), L.Flatten(data_format="channels_first", name="guilty"), scores()],
                              "channels_first"),
    "averages of rows": ([L.GlobalAveragePooling2D(data_format="channels_first", name="guilty"),
                          scores()], "channels_first"),
    "statistics of rows": ([L.BatchNormalization(axis=1, name="guilty"), L.Flatten(), scores()], "axis"),
    "padding of a maximum": ([L.ZeroPadding2D(1), L.MaxPooling2D(3, padding="same", name="guilty"),
                              L.Flatten(), scores()], "same"),
    "softmax over rows": ([conv(), L.Softmax(axis=1, name="guilty"), L.Flatten(), scores()], "axis"),
    "a slope": ([L.ReLU(negative_slope=0.1, name="guilty"), L.Flatten(), scores()], "slope"),
    "uneven dilated": ([conv(4, 2, dilation_rate=3, padding="same", name="guilty"), L.Flatten(),
                        scores()], "uneven"),
}


def model_of(layers):
    model = keras.Sequential([L.Input(SHAPE), L.Rescaling(1 / 255), *layers])
    rng = np.random.default_rng(7)
    values = [rng.uniform(0.5, 1.5, w.shape) if "variance" in w.path or "gamma" in w.path
              else rng.normal(0, 1.5 / max(1, np.prod(w.shape[:-1])) ** 0.5, w.shape)
              for w in model.weights]  # so that scores neither agree nor saturate
    model.set_weights(values)
    return model


def predict(file, pictures):
    return subprocess.run([os.environ["ATOLL"], "predict", file, *pictures, "--json"],
                          capture_output=True, text=True)


def check_read(name, layers, folder, pixels, pictures):
    model = model_of([*layers, L.Flatten(), scores()])
    theirs = model.predict(pixels.astype(np.float32), verbose=0)
    assert theirs.std(0).max() > 1e-3, f"{name}: all scores are alike"
    for form in ("keras", "h5"):
        model.save(f"{folder}/m.{form}")
        out = predict(f"{folder}/m.{form}", pictures)
        assert out.returncode == 0, f"{name}, {form}: {out.stderr}"
        ours = np.array([p["scores"] for p in json.loads(out.stdout)["predictions"]])
        error = np.abs(ours - theirs).max()
        assert error <= TOLERANCE, f"{name}, {form}: {error:.1e}"


def check_refused(name, layers, reason, folder, pictures):
    model = model_of(layers)
    for form in ("keras", "h5"):
        model.save(f"{folder}/m.{form}")
        out = predict(f"{folder}/m.{form}", pictures)
        assert out.returncode == 3, f"{name}, {form}: {out.returncode} {out.stdout}"
        assert "'guilty'" in out.stderr and reason in out.stderr, f"{name}, {form}: {out.stderr}"


def check_own_file(name, theirs, folder, pixels, pictures):
    """Rows in a file of any name make a model that Keras opens."""
    with open(f"{folder}/{name}", "w", encoding="utf-8") as file:
        file.write("- {name: c1, layer: conv, attrs: {out: 4, k: 3}}\n- {name: flat, layer: flatten}\n"
                   "- {name: logits, layer: dense, attrs: {out: classes}}\n")
    size = f"{SHAPE[0]}x{SHAPE[1]}"
    subprocess.run([os.environ["ATOLL"], "model", "new", f"{folder}/{name}", "--size", size, "--channels", "3",
                    "--classes", "3", "--out", f"{folder}/own.h5"], check=True, capture_output=True)
    subprocess.run([os.environ["ATOLL"], "export", f"{folder}/own.h5", "--out", f"{folder}/own.keras"],
                   check=True, capture_output=True)
    ours = [p["scores"] for p in json.loads(predict(f"{folder}/own.h5", pictures).stdout)["predictions"]]
    for form in ("h5", "keras"):
        model = keras.models.load_model(f"{folder}/own.{form}")
        assert model.name == theirs, model.name
        assert np.abs(model.predict(pixels.astype(np.float32), verbose=0) - ours).max() <= TOLERANCE


def main():
    with tempfile.TemporaryDirectory() as folder:
        pixels = np.random.default_rng(1).integers(0, 256, (PICTURES, *SHAPE), dtype=np.uint8)
        pictures = [f"{folder}/{i}.png" for i in range(PICTURES)]
        for path, picture in zip(pictures, pixels):
            Image.fromarray(picture).save(path)
        for name, layers in READ.items():
            check_read(name, layers, folder, pixels, pictures)
        for name, (layers, reason) in REFUSED.items():
            check_refused(name, layers, reason, folder, pictures)
        check_own_file("my-model.yaml", "my-model", folder, pixels, pictures)
        check_own_file("größe 2.b.yaml", "gr____e_2.b", folder, pixels, pictures)
    print(f"Keras {keras.__version__}: {len(READ)} models read, {len(REFUSED)} refused by name")


if __name__ == "__main__":
    sys.exit(main())
