# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=900
"""Keras opens our model files and, fed raw pixels, gives our scores.

The models and our scores come from golden_test_scores (run here, in a folder of its own); `atoll
predict`, given the same pixels as PNG files, must say what Keras says as well.
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

TOLERANCE = 1e-4
compared = 0


def check(what, ours, theirs, largest=1.0):
    """No value further away than TOLERANCE of the largest that there can be."""
    global compared
    assert ours.shape == theirs.shape, f"{what}: {ours.shape} against {theirs.shape}"
    error = float(np.abs(ours - theirs).max()) / largest
    print(f"  {what}: {ours.size} values, largest difference {error:.2e}")
    assert error <= TOLERANCE, what
    compared += ours.size


def check_model(path):
    print(path.name)
    with h5py.File(path.with_suffix(".scores.h5")) as file:
        pixels, logits, scores = (file[name][:] for name in ("pixels", "logits", "scores"))
    model = keras.models.load_model(path)  # no custom objects
    assert model.input_shape[1:] == pixels.shape[1:]
    assert model.count_params() == sum(w.size for w in model.get_weights())
    check("scores", scores, model.predict(pixels, verbose=0))
    inner = keras.Model(model.input, model.layers[-1].input)
    check("logits", logits, inner.predict(pixels, verbose=0), np.abs(logits).max())
    assert ((scores > 0.001) & (scores < 0.999)).mean() > 0.9  # else they would show little
    check_text(path, model)
    return model, pixels


def check_text(path, model):
    """What a reader without atoll learns from the file."""
    with h5py.File(path) as file:
        classes = json.loads(file.attrs["atoll_classes"])
        assert classes == [f"class {i}" for i in range(model.output_shape[-1])]
        assert file.attrs["atoll_model"].decode() == path.stem
        names = [name.decode() for name in file["model_weights"].attrs["layer_names"]]
        assert names == [layer.name for layer in model.layers]


def check_trainable(model, pixels):
    """A Keras user can go on training it, and save it in Keras's own formats."""
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(pixels, np.zeros(len(pixels)), epochs=1, verbose=0)
    with tempfile.TemporaryDirectory() as folder:
        for name in ("again.keras", "again.h5"):
            model.save(f"{folder}/{name}")
            again = keras.models.load_model(f"{folder}/{name}")
            assert np.allclose(again.predict(pixels, verbose=0), model.predict(pixels, verbose=0))


def check_predict(atoll, path, model, pixels):
    """`atoll predict MODEL IMAGE...` against Keras."""
    images = []
    for i, values in enumerate(pixels.astype(np.uint8)):
        images.append(str(path.with_suffix(f".{i}.png")))
        Image.fromarray(values[:, :, 0] if values.shape[2] == 1 else values).save(images[-1])
    command = [atoll, "predict", path, *images, "--json"]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    answers = json.loads(out.stdout)["predictions"]
    assert [answer["path"] for answer in answers] == images
    theirs = model.predict(pixels, verbose=0)
    check("atoll predict", np.array([answer["scores"] for answer in answers]), theirs)
    assert [answer["index"] for answer in answers] == list(theirs.argmax(1))
    assert [answer["class"] for answer in answers] == [f"class {i}" for i in theirs.argmax(1)]


def main():
    atoll = pathlib.Path(os.environ["ATOLL"])
    program = atoll.parent / "tests" / "golden_test_scores"
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([program], check=True, env={**os.environ, "ATOLL_ARTEFACTS": folder})
        names = ("lenet", "lenet32", "airnet", "airnet64", "other")
        for name in names:
            path = pathlib.Path(folder, f"{name}.h5")
            model, pixels = check_model(path)
            if name in ("lenet", "lenet32"):
                check_predict(atoll, path, model, pixels)
            if name in ("lenet", "other"):
                check_trainable(model, pixels)
    print(f"Keras {keras.__version__}: {len(names)} models, {compared} values compared")
    assert compared > 1000


if __name__ == "__main__":
    sys.exit(main())
