# SPDX-License-Identifier: Apache-2.0
"""Latency of onnxruntime on one random image; prints one JSON object.

    predict_onnx.py FILE.onnx REPEATS THREADS
"""
import json
import resource
import sys
import time

import numpy as np
import onnxruntime


def main(path, repeats, threads):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    entry = session.get_inputs()[0]
    kind = np.uint8 if "uint8" in entry.type else np.float32
    shape = [size if isinstance(size, int) else 1 for size in entry.shape]
    image = np.random.default_rng(1).integers(0, 256, shape).astype(kind)
    seconds = []
    for _ in range(5 + int(repeats)):
        start = time.perf_counter()
        session.run(None, {entry.name: image})
        seconds.append(time.perf_counter() - start)
    seconds = sorted(seconds[5:])
    print(json.dumps({
        "seconds": seconds[len(seconds) // 2],
        "best": seconds[0],
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "version": onnxruntime.__version__}))


main(*sys.argv[1:])
