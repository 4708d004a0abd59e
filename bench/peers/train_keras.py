# SPDX-License-Identifier: Apache-2.0
"""Training steps of Keras on TensorFlow with random 32x32 images; prints one JSON object.

    train_keras.py MODEL fp32|bf16 BATCH STEPS THREADS
"""
import json
import os
import resource
import sys
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
import tensorflow as tf

K, L = tf.keras, tf.keras.layers


def lenet_wide(x):
    for filters in (32, 64):
        x = L.MaxPool2D()(L.Conv2D(filters, 5, padding="same", activation="relu")(x))
    return L.Dense(10)(L.Dense(512, activation="relu")(L.Flatten()(x)))


def normalised(x, filters, stride=1, size=3):
    x = L.Conv2D(filters, size, stride, padding="same", use_bias=False)(x)
    return L.BatchNormalization()(x)


def residual(x, filters, stride):
    y = normalised(L.ReLU()(normalised(x, filters, stride)), filters)
    if stride != 1 or x.shape[-1] != filters:
        x = normalised(x, filters, stride, 1)
    return L.ReLU()(L.Add()([y, x]))


def resnet(x, widths, blocks):
    x = L.ReLU()(normalised(x, widths[0]))
    for stage, filters in enumerate(widths):
        for block in range(blocks):
            x = residual(x, filters, 2 if stage and not block else 1)
    return L.Dense(10)(L.GlobalAveragePooling2D()(x))


def vgg16(x):
    for stage, filters in enumerate((64, 128, 256, 512, 512)):
        for _ in range(2 if stage < 2 else 3):
            x = L.ReLU()(L.BatchNormalization()(L.Conv2D(filters, 3, padding="same")(x)))
        x = L.MaxPool2D()(x)
    return L.Dense(10)(L.Flatten()(x))


def airnet(x):
    x = L.Activation("gelu")(L.Conv2D(24, 2)(x))
    for filters in (64, 256, 256):
        x = L.MaxPool2D()(L.Conv2D(filters, 3, padding="same", use_bias=False)(x))
        x = L.Activation("gelu")(L.BatchNormalization()(x))
        x = L.Activation("gelu")(normalised(x, filters))
    return L.Dense(10, use_bias=False)(L.Flatten()(L.MaxPool2D(3)(x)))


MODELS = {
    "lenet-wide": lenet_wide,
    "resnet20": lambda x: resnet(x, (16, 32, 64), 3),
    "resnet18": lambda x: resnet(x, (64, 128, 256, 512), 2),
    "vgg16-bn": vgg16,
    "airnet": airnet,
}


def main(model, precision, batch, steps, threads):
    batch, steps = int(batch), int(steps)
    tf.config.threading.set_intra_op_parallelism_threads(int(threads))
    K.mixed_precision.set_global_policy("mixed_bfloat16" if precision == "bf16" else "float32")
    inputs = K.Input((32, 32, 3))
    net = K.Model(inputs, MODELS[model](inputs))
    optimizer = K.optimizers.SGD(0.001, momentum=0.9, nesterov=True)
    loss = K.losses.SparseCategoricalCrossentropy(from_logits=True)
    images = tf.random.normal((batch, 32, 32, 3))
    labels = tf.random.uniform((batch,), 0, 10, dtype=tf.int32)

    @tf.function
    def step():
        with tf.GradientTape() as tape:
            value = loss(labels, tf.cast(net(images, training=True), tf.float32))
        weights = net.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(value, weights), weights))
        return value

    for _ in range(3):
        step().numpy()
    seconds = []
    for _ in range(steps):
        start = time.perf_counter()
        step().numpy()
        seconds.append(time.perf_counter() - start)
    seconds.sort()
    print(json.dumps({
        "images_per_second": batch / seconds[steps // 2],
        "best": batch / seconds[0],
        "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "version": tf.__version__ + " (Keras " + K.__version__ + ")"}))


main(*sys.argv[1:])
