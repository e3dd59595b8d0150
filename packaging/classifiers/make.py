"""Makes the classifiers and data that tests, demo and benchmarks use.

    python make.py DIRECTORY

Real data are scikit-learn's digits (8x8 images, 10 classes; for LeNet enlarged to 28x28) and breast cancer (30
features, 2 classes), divided into a training and a test half by a fixed seed. Each model
NAME gives, in DIRECTORY:

    NAME.onnx              the model, as the exporter wrote it (and NAME.onnx.data beside it,
                           where PyTorch's exporter keeps weights apart)
    NAME.calibration.npy   float32 rows of the training part
    NAME.test.npy          float32 rows of the test part
    NAME.answers.npy       int64, the right class of each test row
    NAME.scores.npy        float32, what onnxruntime computes for each test row
    NAME.predicted.npy     int64, the class that the model names, by onnxruntime

and complete.json lists the models, written last. Models of PyTorch are left out, and the
list says so, where PyTorch is not installed.
"""
import json
import os
import sys
import warnings

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from skl2onnx import to_onnx
from sklearn.datasets import load_breast_cancer, load_digits, make_classification
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

SEED = 20
FORMAT = 2  # of this directory: tests ask for it


class Data:
    def __init__(self, x, y):
        x = x.astype(np.float32)
        self.x, self.test, self.y, self.answers = train_test_split(x, y, test_size=0.3, random_state=SEED, stratify=y)


def digits():
    return Data(*load_digits(return_X_y=True))


def enlarged():
    """The digits as MNIST has them: 28x28, each pixel three by three, and an empty edge."""
    x, y = load_digits(return_X_y=True)
    x = np.kron(x.reshape(-1, 8, 8), np.ones((1, 3, 3))) / 16
    return Data(np.pad(x, ((0, 0), (2, 2), (2, 2))).reshape(-1, 784), y)


def cancer():
    x, y = load_breast_cancer(return_X_y=True)
    return Data(x, 1 - y)  # 0 benign, 1 malignant: the order of the names


def mnist_shaped():
    """Ten classes of 784 values like pixels: the shape of MNIST, for speed only."""
    x, y = make_classification(2600, 784, n_informative=60, n_redundant=200, n_classes=10, n_clusters_per_class=1, class_sep=2.0, random_state=SEED)
    return Data(np.clip(x * 24 + 96, 0, 255).round(), y)


def mlp(hidden, **options):
    return MLPClassifier(hidden, random_state=SEED, max_iter=300, early_stopping=False, **options)


def run(path, rows):
    """Scores (one column for each class) and classes of rows, by onnxruntime."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    outputs = session.run(None, {session.get_inputs()[0].name: rows})
    scores = outputs[-1]
    if isinstance(scores, list):  # ZipMap: a list of maps
        scores = np.array([list(row.values()) for row in scores], np.float32)
    return scores.reshape(len(rows), -1).astype(np.float32)


def write(out, name, data, rows=None):
    shape = rows or (lambda x: x)
    scores = run(os.path.join(out, name + ".onnx"), shape(data.test))
    for part, array in (
        ("calibration", data.x), ("test", data.test), ("answers", data.answers.astype(np.int64)),
        ("scores", scores), ("predicted", scores.argmax(1).astype(np.int64)),
    ):
        np.save(os.path.join(out, f"{name}.{part}.npy"), np.ascontiguousarray(array))
    accuracy = float((scores.argmax(1) == data.answers).mean())
    print(f"{name}: {accuracy:.4f} of {len(data.answers)} right", file=sys.stderr)
    return {"name": name, "accuracy": accuracy, "rows": len(data.answers)}


def scikit(out, name, data, pipeline, y=None, **options):
    pipeline.fit(data.x, data.y if y is None else y)
    model = to_onnx(pipeline, data.x[:1], **options)
    with open(os.path.join(out, name + ".onnx"), "wb") as f:
        f.write(model.SerializeToString())
    return write(out, name, data)


def plain(out, name, data, model):
    """The same layers as a bare graph of Gemm and Relu: what other proof systems read too."""
    nodes, weights, last = [], [], "input"
    for i, (w, b) in enumerate(zip(model.coefs_, model.intercepts_)):
        weights += [numpy_helper.from_array(w.astype(np.float32), f"w{i}"), numpy_helper.from_array(b.astype(np.float32), f"b{i}")]
        final = i == len(model.coefs_) - 1
        nodes.append(helper.make_node("Gemm", [last, f"w{i}", f"b{i}"], ["output" if final else f"g{i}"], f"gemm{i}"))
        if not final:
            nodes.append(helper.make_node("Relu", [f"g{i}"], [f"r{i}"], f"relu{i}"))
            last = f"r{i}"
    value = lambda n, size: helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch_size", size])
    graph = helper.make_graph(nodes, name, [value("input", model.coefs_[0].shape[0])], [value("output", model.coefs_[-1].shape[1])], weights)
    m = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    with open(os.path.join(out, name + ".onnx"), "wb") as f:
        f.write(m.SerializeToString())
    return write(out, name, data)


def torch_models(out):
    import torch
    from torch import nn

    torch.set_num_threads(1)

    class Normalized(nn.Module):
        """Mean and deviation inside the model, then two layers, flattened by a view."""

        def __init__(self, data):
            super().__init__()
            self.register_buffer("mean", torch.tensor(data.x.mean(0)))
            self.register_buffer("deviation", torch.tensor(data.x.std(0)))
            self.layers = nn.Sequential(nn.Linear(30, 16), nn.ReLU(), nn.Linear(16, 2))

        def forward(self, x):
            return self.layers((x - self.mean) / self.deviation)

    def fit(model, data, rows, epochs=60):
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
        x, y = torch.tensor(rows(data.x)), torch.tensor(data.y)
        for _ in range(epochs):
            for part in torch.randperm(len(x)).split(64):
                optimizer.zero_grad()
                nn.functional.cross_entropy(model(x[part]), y[part]).backward()
                optimizer.step()
        return model.eval()

    def norm(channels, activation):
        return nn.BatchNorm2d(channels), activation

    def apart(channels, out, stride):
        """A convolution of each channel for itself, then one of a single place."""
        return (nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False), *norm(channels, nn.ReLU6()),
                nn.Conv2d(channels, out, 1, bias=False), *norm(out, nn.ReLU6()))

    def lenet(pool):
        return nn.Sequential(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), pool, nn.Conv2d(6, 16, 5), nn.ReLU(), pool, nn.Flatten(),
                             nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))

    flat, image, picture = lambda x: x, lambda x: x.reshape(-1, 1, 8, 8), lambda x: x.reshape(-1, 1, 28, 28)
    d, c, e = digits(), cancer(), enlarged()
    cases = [
        ("digits-mlp", d, flat, lambda: nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))),
        ("digits-cnn", d, image, lambda: nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=1, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))),
        ("cancer", c, flat, lambda: Normalized(c)),
        ("lenet", e, picture, lambda: lenet(nn.MaxPool2d(2)), 12),
        ("lenet-average", e, picture, lambda: lenet(nn.AvgPool2d(2)), 12),
        ("digits-vgg", d, image, lambda: nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), *norm(8, nn.LeakyReLU(0.1)), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), *norm(16, nn.LeakyReLU(0.1)),
            nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 10))),
        ("digits-mobile", d, image, lambda: nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1, bias=False), *norm(16, nn.ReLU6()), *apart(16, 24, 2), *apart(24, 32, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 10))),
    ]
    for name, data, rows, make, *epochs in cases:
        torch.manual_seed(SEED)
        model = fit(make(), data, rows, *epochs)
        example = (torch.tensor(rows(data.x[:2])),)
        for exporter, options in (
            ("legacy", {"dynamo": False, "dynamic_axes": {"x": {0: "n"}}, "input_names": ["x"]}),
            ("dynamo", {"dynamo": True, "dynamic_shapes": ({0: torch.export.Dim("n", min=1, max=4096)},)}),
        ):
            full = f"torch-{name}-{exporter}"
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                torch.onnx.export(model, example, os.path.join(out, full + ".onnx"), verbose=False, **options)
            yield write(out, full, data, rows)


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    digit, tumour, large = digits(), cancer(), mnist_shaped()
    names = np.array(["benign", "malignant"])
    models, missing = [], []
    plain_digits, plain_large = mlp(32).fit(digit.x, digit.y), mlp(128, tol=1e-3).fit(large.x, large.y)
    models += [
        scikit(out, "digits", digit, mlp(32)),
        scikit(out, "digits-standard", digit, make_pipeline(StandardScaler(), mlp(32))),
        scikit(out, "digits-minmax", digit, make_pipeline(MinMaxScaler(), mlp(32, learning_rate_init=5e-3)), options={"zipmap": False}),
        scikit(out, "cancer", tumour, make_pipeline(StandardScaler(), mlp(16, alpha=1.0)), names[tumour.y]),
        plain(out, "digits-plain", digit, plain_digits),
        plain(out, "mnist-plain", large, plain_large),
    ]
    try:
        models += torch_models(out)
    except ImportError as err:
        missing.append(f"PyTorch: {err}")
    with open(os.path.join(out, "complete.json"), "w", encoding="utf-8") as f:
        json.dump({"format": FORMAT, "models": models, "missing": missing}, f, indent=1)


main()
