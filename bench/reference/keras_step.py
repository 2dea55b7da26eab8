"""Training steps of the CIFAR-10 ResNet-20 with TensorFlow in Python on the CPU, for comparison with `dtrain bench step`.

One process. `--loop fit`: Keras's `fit` on a cached tf.data set; `--loop function`: a step of one's own under tf.function. Momentum SGD, one
batch of synthetic images that stays in memory: nothing is read, augmented or normalised, which is in Python's favour. Weight decay is left
out, which is as well. Prints the JSON of `dtrain bench step --json` (docs: contract, Benchmarks), without the phases.

    python keras_step.py --batch 128 --threads 2 --precision bfloat16 --loop fit
"""

import argparse
import json
import os
import resource
import statistics
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import tensorflow as tf
from tensorflow import keras
from tensorflow.keras import layers


def conv3x3(x, filters, stride=1):
    if stride > 1:
        x = layers.ZeroPadding2D(1)(x)
    padding = "same" if stride == 1 else "valid"
    return layers.Conv2D(filters, 3, stride, padding=padding, use_bias=False, kernel_initializer="he_normal")(x)


def batch_norm(x):
    return layers.BatchNormalization(epsilon=1e-5, momentum=0.9)(x)


def basic_block(x, filters, stride):
    y = layers.ReLU()(batch_norm(conv3x3(x, filters, stride)))
    y = batch_norm(conv3x3(y, filters))
    if stride > 1:
        added = filters - x.shape[-1]
        x = layers.AveragePooling2D(1, stride)(x)
        x = layers.Lambda(lambda v: tf.pad(v, [[0, 0], [0, 0], [0, 0], [added // 2, added - added // 2]]))(x)
    return layers.ReLU()(layers.Add()([x, y]))


def resnet20(classes):
    images = layers.Input((32, 32, 3))
    x = layers.ReLU()(batch_norm(conv3x3(images, 16)))
    for filters in (16, 32, 64):
        for block in range(3):
            x = basic_block(x, filters, 2 if block == 0 and filters > 16 else 1)
    logits = layers.Dense(classes, dtype="float32")(layers.GlobalAveragePooling2D()(x))
    return keras.Model(images, logits)


def fit_times(model, images, labels, options):
    """Seconds of each step, by `fit`; the first is not among them."""
    ends = []

    class Clock(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            ends.append(time.perf_counter())

    data = tf.data.Dataset.from_tensors((images, labels)).cache().repeat(options.steps + options.warmup).prefetch(2)
    model.fit(data, epochs=1, verbose=0, callbacks=[Clock()])
    return [b - a for a, b in zip(ends, ends[1:])][options.warmup - 1 :]


def function_times(model, optimizer, loss_of, images, labels, options):
    """Seconds of each step, by a step of one's own under tf.function."""

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            loss = loss_of(labels, model(images, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables))
        return loss

    times = []
    for _ in range(options.warmup + options.steps):
        start = time.perf_counter()
        step(images, labels).numpy()
        times.append(time.perf_counter() - start)
    return times[options.warmup :]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--loop", choices=("fit", "function"), default="fit")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=3)
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(options.threads)
    tf.config.threading.set_inter_op_parallelism_threads(options.threads)
    if options.precision == "bfloat16":
        keras.mixed_precision.set_global_policy("mixed_bfloat16")
    keras.utils.set_random_seed(0)
    model = resnet20(10)
    images = tf.random.normal((options.batch, 32, 32, 3))
    labels = tf.random.uniform((options.batch,), maxval=10, dtype=tf.int32)
    loss_of = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    optimizer = keras.optimizers.SGD(0.1, momentum=0.9)
    if options.loop == "fit":
        model.compile(optimizer, loss_of)
        times = fit_times(model, images, labels, options)
    else:
        times = function_times(model, optimizer, loss_of, images, labels, options)
    rates = [options.batch / seconds for seconds in times]
    result = {
        "bench": "step",
        "config": "resnet20",
        "devices": "cpu",
        "workers": 1,
        "globalBatch": options.batch,
        "precision": options.precision,
        "steps": options.steps,
        "imagesPerSecond": {"median": statistics.median(rates), "min": min(rates), "max": max(rates)},
        "secondsPerStep": {"median": statistics.median(times)},
        "peakRssBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
