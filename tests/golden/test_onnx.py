# SPDX-License-Identifier: Apache-2.0
# ctest: timeout=900
"""onnxruntime, fed raw pixels, gives our scores for every model of the table, and for a network of every layer.

The models and our scores of 100 images come from golden_test_onnx_files (run here, in a folder of its own). ONNX's own
checker finds nothing to say against the files.
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

import h5py
import numpy as np
import onnx
import onnxruntime

TOLERANCE = 1e-4
IMAGES = 100


def compare(path):
    with h5py.File(path.with_suffix(".scores.h5")) as file:
        pixels, scores = file["pixels"][:], file["scores"][:]
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    classes = {p.key: p.value for p in model.metadata_props}["classes"]
    assert json.loads(classes) == [f"class {i}" for i in range(scores.shape[1])]
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert [i.name for i in session.get_inputs()] == ["pixels"]
    theirs = session.run(["scores"], {"pixels": pixels})[0]
    one = session.run(["scores"], {"pixels": pixels[:1]})[0]  # the batch is free
    assert pixels.shape[0] == IMAGES and theirs.shape == scores.shape and one.shape == scores[:1].shape
    error = max(float(np.abs(theirs - scores).max()), float(np.abs(one - scores[:1]).max()))
    shape = "x".join(str(n) for n in pixels.shape[1:])
    spread = float(scores.std(0).mean())  # between images: scores that are all the same would show little
    print(f"{path.stem:14} {shape:>11} {len(model.graph.node):5} nodes {error:9.1e}  scores {spread:.3f} apart")
    assert error <= TOLERANCE and spread > 1e-3, path.stem


def main():
    program = pathlib.Path(os.environ["ATOLL"]).parent / "tests" / "golden_test_onnx_files"
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([program], check=True, env={**os.environ, "ATOLL_ARTEFACTS": folder})
        paths = sorted(pathlib.Path(folder).glob("*.onnx"))
        for path in paths:
            compare(path)
    print(f"onnxruntime {onnxruntime.__version__}, onnx {onnx.__version__}: {len(paths)} models of {IMAGES} images")
    assert len(paths) > 8


if __name__ == "__main__":
    sys.exit(main())
