"""Exports Keras classifiers with tf2onnx, for a run by hand (docs/classifiers.md).

    python -m venv VENV && VENV/bin/pip install tensorflow-cpu==2.21.0 tf2onnx==1.17.0 onnxruntime==1.32.0 scikit-learn==1.9.1
    VENV/bin/python kerasexports.py DIRECTORY

Models are fitted to scikit-learn's digits: 8x8 images, or 28x28 as MNIST has them. Each export
NAME gives the files of make.py, in DIRECTORY:

    NAME.onnx              the model, as tf2onnx wrote it
    NAME.calibration.npy   float32 rows of the training part
    NAME.test.npy          float32 rows of the test part
    NAME.answers.npy       int64, the right class of each test row
    NAME.scores.npy        float32, what onnxruntime computes for each test row
    NAME.predicted.npy     int64, the class that the file gives, by onnxruntime

and complete.json lists the models, written last.
"""
import json
import os
import sys

os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1", TF_ENABLE_ONEDNN_OPTS="0")

import keras
import numpy as np
import onnx
import onnxruntime
import tensorflow as tf
import tf2onnx
from keras import layers as k
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

SEED = 20
FORMAT = 2  # make.py's


def data(large):
    """The training and test part, with channels last."""
    x, y = load_digits(return_X_y=True)
    x = x.reshape(-1, 8, 8)
    if large:
        x = np.pad(np.kron(x, np.ones((1, 3, 3))) / 16, ((0, 0), (2, 2), (2, 2)))
    x = x[..., None].astype(np.float32)
    return train_test_split(x, y, test_size=0.3, random_state=SEED, stratify=y)


def lenet(pool, last="softmax"):
    return [k.Conv2D(6, 5, padding="same", activation="relu"), pool(2), k.Conv2D(16, 5, activation="relu"), pool(2), k.Flatten(),
            k.Dense(120, activation="relu"), k.Dense(84, activation="relu"), k.Dense(10, activation=last)]


def norm():
    """Its means settle in the few steps of a fit."""
    return k.BatchNormalization(momentum=0.9)


def mobile(end):
    """Depthwise and pointwise convolutions as MobileNet has them, with ReLU6."""
    def pointwise(n):
        return [k.Conv2D(n, 1, use_bias=False), norm(), k.ReLU(6)]

    def depthwise(strides):
        return [k.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False), norm(), k.ReLU(6)]

    return [k.Rescaling(1 / 16), k.Conv2D(8, 3, padding="same", use_bias=False), norm(), k.ReLU(6),
            *depthwise(1), *pointwise(16), *depthwise(2), *pointwise(24), k.GlobalAveragePooling2D(), *end]


def cases():
    """Name, whether for 28x28 images, layers, and options of the export."""
    small = lambda *behind: [k.Rescaling(1 / 16), k.Conv2D(8, 3, use_bias=False), *behind]
    yield "lenet", True, lenet(k.MaxPooling2D), {}
    yield "lenet-average", True, lenet(k.AveragePooling2D), {}
    yield "lenet-nchw", True, lenet(k.MaxPooling2D), {"nchw": True}
    yield "lenet-scores", True, lenet(k.MaxPooling2D, None), {}
    yield "mobile", False, mobile([k.Dense(10, activation="softmax")]), {}
    yield "mobile-nchw", False, mobile([k.Dense(10, activation="softmax")]), {"nchw": True}
    yield "mobile-label", False, mobile([k.Dense(10)]), {"label": True}
    yield "mobile-both", False, mobile([k.Dense(10, activation="softmax")]), {"both": True}
    yield "mobile-keepdims", False, [*mobile([])[:-1], k.GlobalAveragePooling2D(keepdims=True), k.Conv2D(10, 1), k.Flatten(), k.Softmax()], {}
    yield "norm-leaky", False, small(norm(), k.LeakyReLU(0.1), k.MaxPooling2D(2), k.Flatten(), k.Dense(10, activation="softmax")), {}
    yield "leaky-norm", False, small(k.LeakyReLU(0.3), norm(), k.Conv2D(8, 3, padding="same", activation="relu"), k.GlobalAveragePooling2D(), k.Dense(10, activation="softmax")), {}
    yield "prelu", False, small(k.PReLU(shared_axes=[1, 2]), k.GlobalMaxPooling2D(), k.Dense(10, activation="softmax")), {}
    yield "rectangular", False, [k.Conv2D(8, (1, 5), activation="relu"), k.Conv2D(8, (5, 1), strides=(2, 1), padding="same", activation="relu"),
                                 k.MaxPooling2D((2, 1)), k.Flatten(), k.Dropout(0.2), k.Dense(10, activation="softmax")], {}
    yield "separable", False, [k.SeparableConv2D(8, 3, depth_multiplier=2, activation="relu"), norm(), k.SeparableConv2D(16, (3, 2), padding="same", activation="relu6"),
                               k.AveragePooling2D((2, 3)), k.Flatten(), k.Dense(10, activation="softmax")], {}
    yield "groups", False, [k.Conv2D(8, 3, activation="relu"), k.Conv2D(16, 3, groups=4, activation="relu"), k.GlobalAveragePooling2D(), k.Dense(10, activation="softmax")], {}
    yield "dilated", False, [k.ZeroPadding2D(((1, 0), (2, 1))), k.Conv2D(8, 3, dilation_rate=2, activation="relu"), k.AveragePooling2D(2, 1, padding="same"), k.Flatten(), k.Dense(10, activation="softmax")], {}
    yield "normalization", False, [k.Normalization(mean=5.0, variance=36.0), k.Conv2D(8, 3, strides=2, padding="same", activation="relu"), k.Flatten(), k.Dense(16, activation="relu"), k.Dense(10, activation="softmax")], {}
    yield "permute", False, [k.Conv2D(4, 3, activation="relu"), k.Permute((3, 1, 2)), k.Flatten(), k.Dense(10, activation="softmax")], {}
    yield "lines", False, [k.Reshape((8, 8)), k.Conv1D(16, 3, activation="relu"), k.MaxPooling1D(2), k.Conv1D(16, 3, padding="same", activation="relu"), k.GlobalAveragePooling1D(), k.Dense(10, activation="softmax")], {}
    yield "mlp", False, [k.Flatten(), k.Dense(32), norm(), k.ReLU(), k.Dense(10, activation="softmax")], {}
    yield "two-classes", False, [k.Conv2D(4, 3, activation="relu"), k.Flatten(), k.Dense(1, activation="sigmoid")], {"two": True}
    yield "fixed-batch", False, [k.Conv2D(4, 3, activation="relu"), k.MaxPooling2D(2), k.Flatten(), k.Dense(10, activation="softmax")], {"batch": 1}
    for v in (9, 11, 13, 15, 17, 18):
        yield f"opset-{v}", False, mobile([k.Dense(10, activation="softmax")]), {"opset": v}


def fitted(shape, stack, y, x, two, scores):
    model = keras.Sequential([k.Input(shape), *stack])
    loss = keras.losses.BinaryCrossentropy() if two else keras.losses.SparseCategoricalCrossentropy(from_logits=scores)
    model.compile(optimizer=keras.optimizers.Adam(4e-3), loss=loss)
    model.fit(x, y, epochs=14, batch_size=64, verbose=0)
    return model


def export(out, name, large, stack, options):
    keras.utils.set_random_seed(SEED)
    x, test, y, answers = data(large)
    if options.get("two"):
        y, answers = y % 2, answers % 2
    activation = getattr(stack[-1], "activation", None)
    scores = isinstance(stack[-1], k.Dense) and activation is keras.activations.linear
    model = fitted(x.shape[1:], stack, y, x, options.get("two"), scores)

    def call(images):
        p = model(images, training=False)
        label = tf.argmax(p, axis=-1, name="label")
        return label if options.get("label") else (label, p) if options.get("both") else p

    signature = [tf.TensorSpec([options.get("batch"), *x.shape[1:]], tf.float32, name="images")]
    path = os.path.join(out, name + ".onnx")
    tf2onnx.convert.from_function(tf.function(call, input_signature=signature), input_signature=signature, opset=options.get("opset"),
                                  inputs_as_nchw=["images"] if options.get("nchw") else None, output_path=path)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    rows = np.ascontiguousarray(test.transpose(0, 3, 1, 2)) if options.get("nchw") else test
    parts = [session.run(None, {session.get_inputs()[0].name: part}) for part in (rows[i:i + 1] for i in range(len(rows)))]
    outputs = [np.concatenate(p) for p in zip(*parts)]
    numbers = [o for o in outputs if o.dtype.kind == "f"]
    labels = [o for o in outputs if o.dtype.kind != "f"]
    if numbers:
        have = numbers[0].reshape(len(rows), -1)
        worst = np.abs(have - np.asarray(model(test, training=False)).reshape(have.shape)).max()
        if worst > 1e-4:
            raise RuntimeError(f"{name}: tf2onnx's file is {worst} from Keras")
        np.save(os.path.join(out, name + ".scores.npy"), have)
    predicted = labels[0].reshape(-1) if labels else (have[:, 0] > 0.5).astype(int) if have.shape[1] == 1 else have.argmax(1)
    for part, rows in (("calibration", x), ("test", test)):
        np.save(os.path.join(out, f"{name}.{part}.npy"), np.ascontiguousarray(rows.reshape(len(rows), -1)))
    for part, classes in (("answers", answers), ("predicted", predicted)):
        np.save(os.path.join(out, f"{name}.{part}.npy"), classes.astype(np.int64))
    ops = [n.op_type for n in onnx.load(path).graph.node]
    print(f"{name}: {np.mean(predicted == answers):.3f} right, {' '.join(ops)}", file=sys.stderr)
    return {"name": name, "accuracy": float(np.mean(predicted == answers)), "rows": len(rows)}


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    made, refused = [], {}
    for name, large, stack, options in cases():
        try:
            made.append(export(out, name, large, stack, options))
        except Exception as err:  # an exporter's own refusal is listed
            refused[name] = f"{type(err).__name__}: {err}"[:300]
            print(f"{name}: {refused[name]}", file=sys.stderr)
    with open(os.path.join(out, "complete.json"), "w", encoding="utf-8") as f:
        json.dump({"format": FORMAT, "models": made, "not_exported": refused, "missing": []}, f, indent=1)


main()
