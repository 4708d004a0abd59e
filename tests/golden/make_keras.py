# SPDX-License-Identifier: Apache-2.0
"""Makes tests/golden/keras2.* and keras3.*: small models as Keras itself saves them, compiled and
trained for a step, with pictures and the scores that it gives them. Run once with each Keras:

    build/venv/bin/python tests/golden/make_keras.py          keras3.h5, .keras, _scores.h5
    build/venv-keras2/bin/python tests/golden/make_keras.py   keras2.h5, .keras, _scores.h5
"""
import pathlib

import h5py
import keras
import numpy as np
from keras import layers

CONV = "block1/conv" if keras.__version__.startswith("2") else "block1_conv"  # Keras 3 has no "/"
PICTURES = 20


def functional():
    """Every class that atoll reads, padding that is uneven, and a branch."""
    image = keras.Input((11, 12, 3), name="image")
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = layers.Normalization(mean=[0.1, 0.2, 0.3], variance=[0.5, 0.6, 0.7])(x)
    x = layers.Conv2D(6, 3, padding="same", activation="relu", name=CONV)(x)
    x = layers.BatchNormalization(scale=False)(x)
    left = layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False)(x)  # uneven in width
    left = layers.ReLU()(left)
    right = layers.MaxPooling2D(3, 2, padding="same")(x)
    right = layers.ZeroPadding2D(1)(right)
    right = layers.Conv2D(4, 3, groups=2, activation="swish")(right)
    x = layers.Concatenate()([left, right])
    y = layers.DepthwiseConv2D(3, padding="same", depth_multiplier=1)(x)
    x = layers.Add()([x, y])
    x = layers.AveragePooling2D(2, 2, padding="same")(x)
    x = layers.Activation("gelu")(x)
    pooled = layers.GlobalAveragePooling2D()(x)
    flat = layers.Dense(8, activation="tanh")(layers.Flatten()(x))
    x = layers.Concatenate()([pooled, flat])
    x = layers.Dropout(0.25)(x)
    return keras.Model(image, layers.Dense(4, activation="softmax")(x))


def sequential():
    return keras.Sequential([
        keras.Input((9, 8, 1)), layers.Rescaling(1 / 255), layers.Conv2D(5, (2, 3), dilation_rate=2),
        layers.Activation("sigmoid"), layers.MaxPooling2D(), layers.Flatten(), layers.Dense(6),
        layers.Softmax()])


def main():
    folder = pathlib.Path(__file__).parent
    name = "keras" + keras.__version__[0]
    rng = np.random.default_rng(1)
    keras.utils.set_random_seed(1)
    with h5py.File(folder / f"{name}_scores.h5", "w") as scores:
        for model, suffix in ((functional(), "h5"), (sequential(), "keras")):
            pixels = rng.integers(0, 256, (PICTURES, *model.input_shape[1:])).astype(np.float32)
            model.compile("sgd", "sparse_categorical_crossentropy", metrics=["accuracy"])
            model.fit(pixels, np.arange(PICTURES) % model.output_shape[-1], epochs=3, verbose=0)
            model.save(folder / f"{name}.{suffix}")
            scores[f"{suffix}_pixels"] = pixels
            scores[f"{suffix}_scores"] = model.predict(pixels, verbose=0)


if __name__ == "__main__":
    main()
