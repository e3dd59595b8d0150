"""Exports classifiers as today's exporters write them, for the table in docs/classifiers.md.

    python exports.py DIRECTORY

Models are fitted to DATA, one of scikit-learn's digits, cancer (breast cancer) and iris:

    DATA.calibration.npy   float32 rows of the training part
    DATA.rows.npy          float32 rows that nothing was fitted to

digits28 are the digits enlarged to the 28x28 pixels of MNIST.

Each export NAME gives, in DIRECTORY:

    NAME.onnx          the model, as the exporter wrote it
    NAME.scores.npy    float32, what onnxruntime computes for the rows: the file's last output of numbers
    NAME.answers.txt   the label that the file gives each row, or the place of the highest score

and exports.json lists them in the table's order, written last, with what made them. What an
exporter refuses is listed with its error. Exports of PyTorch are left out, and the list says
so, where PyTorch is not installed. onnxruntime is the oracle: what it cannot run has no
scores.
"""
import io
import json
import logging
import os
import re
import sys
import time
import warnings

os.environ["OMP_NUM_THREADS"] = "1"  # the models are small, and fitted alike everywhere

import numpy as np
import onnx
import onnxruntime
import skl2onnx
import sklearn
from skl2onnx import to_onnx
from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType, Int64TensorType
from sklearn import (calibration, decomposition, discriminant_analysis, ensemble, feature_selection, gaussian_process, impute, linear_model,
                     multiclass, naive_bayes, neighbors, neural_network, pipeline, preprocessing, svm, tree)
from sklearn.datasets import load_breast_cancer, load_digits, load_iris
from sklearn.model_selection import train_test_split

SEED = 20
FORMAT = 2  # of this directory: tests ask for it
ROWS = 100  # that are answered


class Data:
    def __init__(self, name, load, y=None):
        self.name = name
        x, labels = load(return_X_y=True)
        self.x, self.test, self.y, _ = train_test_split(x.astype(np.float32), labels, test_size=0.3, random_state=SEED, stratify=labels)
        self.test = self.test[:ROWS]
        if y is not None:  # other labels of the same rows
            self.y = y(self.y)


def said(err):
    """An error's first line, without the terminal's colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", f"{type(err).__name__}: {str(err).strip().splitlines()[0]}")[:200]


class Exports:
    def __init__(self, out):
        self.out, self.list, self.missing = out, [], []

    def keep(self, data):
        for part, rows in (("calibration", data.x), ("rows", data.test)):
            np.save(os.path.join(self.out, f"{data.name}.{part}.npy"), np.ascontiguousarray(rows, np.float32))

    def add(self, name, model, exporter, data, make, feed):
        """Exports with make(path), and runs what came out over the rows; feed makes the file's input of them."""
        began = time.monotonic()
        entry = {"name": name, "model": model, "exporter": exporter, "data": data.name}
        path = os.path.join(self.out, name + ".onnx")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                make(path)
        except Exception as err:  # an exporter's own refusal belongs into the table
            entry["not_exported"] = said(err)
            if os.path.exists(path):
                os.remove(path)
        else:
            entry["opsets"] = [f"{o.domain or 'ai.onnx'} {o.version}" for o in onnx.load(path, load_external_data=False).opset_import]
            self.run(entry, path, data.test, feed)
        self.list.append(entry)
        print(f"{name}: {time.monotonic() - began:.1f} s {entry.get('not_exported', '')}", file=sys.stderr)

    def run(self, entry, path, rows, feed):
        try:
            options = onnxruntime.SessionOptions()
            options.log_severity_level = 3
            session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
            value = feed(rows)
            if not isinstance(value, dict):
                value = {session.get_inputs()[0].name: value}
            outputs = self.answer(session, value)
        except Exception as err:
            entry["not_run"] = said(err)
            return
        scores, labels = None, None
        for o in outputs:
            if isinstance(o, list):  # ZipMap: a list of maps, or one column for each class
                o = np.array([list(row.values()) for row in o], np.float32)
            if o.dtype.kind == "f":
                scores = o.reshape(len(rows), -1)
            elif labels is None:
                labels = o.reshape(-1)
        if scores is not None:
            np.save(os.path.join(self.out, entry["name"] + ".scores.npy"), np.ascontiguousarray(scores, np.float32))
        if labels is None:
            labels = scores.argmax(1) if scores.shape[1] > 1 else (scores[:, 0] > 0.5).astype(int)  # one probability
        with open(os.path.join(self.out, entry["name"] + ".answers.txt"), "w", encoding="utf-8") as f:
            f.writelines(f"{v}\n" for v in labels)

    @staticmethod
    def answer(session, value):
        """A file that takes one row at a time is run for each."""
        if session.get_inputs()[0].shape[0] != 1:
            return session.run(None, value)
        each = [session.run(None, {k: v[i:i + 1] for k, v in value.items()}) for i in range(len(next(iter(value.values()))))]
        return [np.concatenate(parts) for parts in zip(*each)]


def scikit(e):
    exporter = f"skl2onnx {skl2onnx.__version__}, scikit-learn {sklearn.__version__}"
    digits, cancer, iris = Data("digits", load_digits), Data("cancer", load_breast_cancer), Data("iris", load_iris)
    for data in (digits, cancer, iris):
        e.keep(data)
    named = Data("cancer", load_breast_cancer, lambda y: np.array(["malignant", "benign"])[y])
    apart = Data("iris", load_iris, lambda y: y * 10 - 5)  # -5, 5, 15
    lr = lambda **o: linear_model.LogisticRegression(**{"max_iter": 100, "tol": 1e-2, **o})
    scaled = lambda *steps: pipeline.make_pipeline(preprocessing.StandardScaler(), *steps)

    def add(name, model, data, estimator, kind=FloatTensorType, **options):
        def make(path):
            estimator.fit(data.x, data.y)
            if "initial_types" not in options:
                options["initial_types"] = [("X", kind([None, data.x.shape[1]]))]
            with open(path, "wb") as f:
                f.write(to_onnx(estimator, **options).SerializeToString())

        def feed(rows):
            return rows.astype({DoubleTensorType: np.float64, Int64TensorType: np.int64}.get(kind, np.float32))

        e.add("sklearn-" + name, model, exporter, data, make, feed)

    plain = {"zipmap": False}
    # One dense layer.
    add("logistic-2", "LogisticRegression, 2 classes", cancer, scaled(lr()))
    add("logistic-2-plain", "LogisticRegression, 2 classes, zipmap off", cancer, lr(), options=plain)
    add("logistic-2-names", "LogisticRegression, 2 classes named by strings", named, scaled(lr()))
    add("logistic-10", "LogisticRegression, 10 classes", digits, lr())
    add("logistic-10-plain", "LogisticRegression, 10 classes, zipmap off", digits, lr(), options=plain)
    add("logistic-3-columns", "LogisticRegression, 3 classes, zipmap in columns", iris, lr(), options={"zipmap": "columns"})
    add("logistic-3-apart", "LogisticRegression, labels -5, 5 and 15", apart, lr())
    add("logistic-3-raw", "LogisticRegression, 3 classes, raw scores", iris, lr(), options={linear_model.LogisticRegression: {"raw_scores": True, "zipmap": False}})
    add("logistic-double", "LogisticRegression, 3 classes, float64", iris, lr(), DoubleTensorType, options=plain)
    add("logistic-integers", "LogisticRegression, 10 classes, int64 inputs", digits, lr(), Int64TensorType, options=plain)
    add("logistic-opset-11", "LogisticRegression, 3 classes, opset 11", iris, lr(), options=plain, target_opset={"": 11, "ai.onnx.ml": 1})
    add("logistic-liblinear", "LogisticRegression(solver='liblinear'), 2 classes", cancer, lr(solver="liblinear"))
    add("logistic-cv", "LogisticRegressionCV, 3 classes", iris, linear_model.LogisticRegressionCV(Cs=[0.1, 1], max_iter=100, tol=1e-2, cv=3, use_legacy_attributes=False))
    add("ridge-2", "RidgeClassifier, 2 classes", cancer, linear_model.RidgeClassifier())
    add("ridge-10", "RidgeClassifier, 10 classes", digits, linear_model.RidgeClassifier())
    add("ridge-cv", "RidgeClassifierCV, 3 classes", iris, linear_model.RidgeClassifierCV())
    add("linearsvc-2", "LinearSVC, 2 classes", cancer, svm.LinearSVC())
    add("linearsvc-pipeline", "StandardScaler, LinearSVC", cancer, scaled(svm.LinearSVC()), options={"zipmap": False})
    add("linearsvc-10", "LinearSVC, 10 classes", digits, svm.LinearSVC())
    add("lda", "LinearDiscriminantAnalysis, 3 classes", iris, discriminant_analysis.LinearDiscriminantAnalysis())
    add("sgd-hinge", "SGDClassifier(loss='hinge'), 3 classes", iris, scaled(linear_model.SGDClassifier(random_state=SEED)))
    add("sgd-hinge-2", "SGDClassifier(loss='hinge'), 2 classes", cancer, scaled(linear_model.SGDClassifier(random_state=SEED)))
    add("sgd-log", "SGDClassifier(loss='log_loss'), 3 classes", iris, scaled(linear_model.SGDClassifier(loss="log_loss", random_state=SEED)))
    add("sgd-log-2", "SGDClassifier(loss='log_loss'), 2 classes", cancer, scaled(linear_model.SGDClassifier(loss="log_loss", random_state=SEED)))
    add("sgd-huber-2", "SGDClassifier(loss='modified_huber'), 2 classes", cancer, scaled(linear_model.SGDClassifier(loss="modified_huber", random_state=SEED)))
    add("sgd-log-raw", "SGDClassifier(loss='log_loss'), 3 classes, raw scores", iris, scaled(linear_model.SGDClassifier(loss="log_loss", random_state=SEED)),
        options={linear_model.SGDClassifier: {"raw_scores": True, "zipmap": False}})
    add("perceptron", "Perceptron, 3 classes", iris, linear_model.Perceptron(random_state=SEED))
    add("perceptron-2", "Perceptron, 2 classes", cancer, scaled(linear_model.Perceptron(random_state=SEED)))
    add("multinomial-nb", "MultinomialNB, 10 classes", digits, naive_bayes.MultinomialNB())
    # Steps before a layer.
    add("minmax-logistic", "MinMaxScaler, LogisticRegression", digits, pipeline.make_pipeline(preprocessing.MinMaxScaler(), lr()))
    add("maxabs-ridge", "MaxAbsScaler, RidgeClassifier", digits, pipeline.make_pipeline(preprocessing.MaxAbsScaler(), linear_model.RidgeClassifier()))
    add("robust-logistic", "RobustScaler, LogisticRegression", cancer, pipeline.make_pipeline(preprocessing.RobustScaler(), lr()))
    add("pca-logistic", "StandardScaler, PCA(16), LogisticRegression", digits, scaled(decomposition.PCA(16), lr()))
    add("select-logistic", "SelectKBest(20), LogisticRegression", digits, pipeline.make_pipeline(feature_selection.SelectKBest(k=20), lr()))
    add("normalizer-logistic", "Normalizer, LogisticRegression", digits, pipeline.make_pipeline(preprocessing.Normalizer(), lr()))
    add("polynomial-logistic", "PolynomialFeatures, LogisticRegression", iris, pipeline.make_pipeline(preprocessing.PolynomialFeatures(), lr()))
    add("imputer-logistic", "SimpleImputer, LogisticRegression", cancer, pipeline.make_pipeline(impute.SimpleImputer(), lr()))
    add("binarizer-logistic", "Binarizer, LogisticRegression", digits, pipeline.make_pipeline(preprocessing.Binarizer(threshold=7), lr()))
    add("onehot-logistic", "OneHotEncoder, LogisticRegression", iris, pipeline.make_pipeline(preprocessing.OneHotEncoder(handle_unknown="ignore"), lr()))
    add("two-columns", "LogisticRegression, two inputs", iris, lr(), initial_types=[("a", FloatTensorType([None, 2])), ("b", FloatTensorType([None, 2]))])
    # Multi-layer perceptrons.
    mlp = lambda *h, **o: neural_network.MLPClassifier(h, random_state=SEED, max_iter=300, **o)
    add("mlp", "MLPClassifier, relu", digits, mlp(32))
    add("mlp-2-layers", "StandardScaler, MLPClassifier, relu, 2 hidden layers", digits, scaled(mlp(32, 16)), options=plain)
    add("mlp-2-classes", "MLPClassifier, relu, 2 classes", cancer, scaled(mlp(16)))
    add("mlp-identity", "MLPClassifier(activation='identity')", iris, mlp(8, activation="identity"))
    add("mlp-tanh", "MLPClassifier(activation='tanh')", iris, mlp(8, activation="tanh"))
    add("mlp-logistic", "MLPClassifier(activation='logistic')", iris, mlp(8, activation="logistic"))
    # Other kinds of model.
    ovr = multiclass.OneVsRestClassifier
    add("ovr-logistic", "OneVsRestClassifier(LogisticRegression)", iris, ovr(lr()))
    add("ovo-svc", "OneVsOneClassifier(LinearSVC)", iris, multiclass.OneVsOneClassifier(svm.LinearSVC()))
    add("tree", "DecisionTreeClassifier", iris, tree.DecisionTreeClassifier(random_state=SEED))
    add("forest", "RandomForestClassifier", iris, ensemble.RandomForestClassifier(5, random_state=SEED))
    add("extra-trees", "ExtraTreesClassifier", iris, ensemble.ExtraTreesClassifier(5, random_state=SEED))
    add("boosting", "GradientBoostingClassifier", iris, ensemble.GradientBoostingClassifier(n_estimators=5, random_state=SEED))
    add("hist-boosting", "HistGradientBoostingClassifier", iris, ensemble.HistGradientBoostingClassifier(max_iter=5, random_state=SEED))
    add("adaboost", "AdaBoostClassifier", iris, ensemble.AdaBoostClassifier(n_estimators=5, random_state=SEED))
    add("bagging-logistic", "BaggingClassifier(LogisticRegression)", iris, ensemble.BaggingClassifier(lr(), 3, random_state=SEED))
    add("voting", "VotingClassifier(LogisticRegression, DecisionTree)", iris, ensemble.VotingClassifier([("a", lr()), ("b", tree.DecisionTreeClassifier())], voting="soft"))
    add("stacking", "StackingClassifier(LogisticRegression, GaussianNB)", iris, ensemble.StackingClassifier([("a", lr()), ("b", naive_bayes.GaussianNB())], lr()))
    add("svc-linear", "SVC(kernel='linear')", iris, svm.SVC(kernel="linear"))
    add("svc-rbf", "SVC(kernel='rbf')", iris, svm.SVC())
    add("nu-svc", "NuSVC", iris, svm.NuSVC())
    add("knn", "KNeighborsClassifier", iris, neighbors.KNeighborsClassifier())
    add("knn-cdist", "KNeighborsClassifier, optim='cdist'", iris, neighbors.KNeighborsClassifier(), options={neighbors.KNeighborsClassifier: {"optim": "cdist"}})
    add("gaussian-nb", "GaussianNB", iris, naive_bayes.GaussianNB())
    add("bernoulli-nb", "BernoulliNB", digits, naive_bayes.BernoulliNB(binarize=7))
    add("complement-nb", "ComplementNB", digits, naive_bayes.ComplementNB())
    add("qda", "QuadraticDiscriminantAnalysis", iris, discriminant_analysis.QuadraticDiscriminantAnalysis())
    add("gaussian-process", "GaussianProcessClassifier", iris, gaussian_process.GaussianProcessClassifier())
    add("calibrated-svc", "CalibratedClassifierCV(LinearSVC)", iris, calibration.CalibratedClassifierCV(svm.LinearSVC(), cv=3))


def enlarged(return_X_y):
    """The digits as MNIST has them: 28x28, each pixel three by three, and an empty edge."""
    x, y = load_digits(return_X_y=return_X_y)
    x = np.kron(x.reshape(-1, 8, 8), np.ones((1, 3, 3))) / 16
    return np.pad(x, ((0, 0), (2, 2), (2, 2))).reshape(-1, 784), y


def torch_exports(e):
    try:
        import torch
        import torch.nn.functional as F
        from torch import nn
    except ImportError as err:
        e.missing.append(f"PyTorch: {err}")
        return
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    digits, cancer = Data("digits", load_digits), Data("cancer", load_breast_cancer)
    large = Data("digits28", enlarged)
    e.keep(large)
    flat, image, picture = (lambda x: x), (lambda x: x.reshape(-1, 1, 8, 8)), (lambda x: x.reshape(-1, 1, 28, 28))
    S = nn.Sequential

    class Fn(nn.Module):
        """A module whose forward is a function of itself and the input."""

        def __init__(self, f, **parts):
            super().__init__()
            self.f = f
            for name, part in parts.items():
                setattr(self, name, part)

        def forward(self, x):
            return self.f(self, x)

    class Joined(nn.Module):
        """Its input comes in two parts."""

        def __init__(self, body):
            super().__init__()
            self.body = body

        def forward(self, x, z):
            return self.body(torch.cat([x, z], 1))

    act = lambda a: (lambda: S(nn.Linear(64, 32), a, nn.Linear(32, 10)))
    conv = lambda *middle, after=144: (lambda: S(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), *middle, nn.Flatten(), nn.Linear(after, 10)))
    mlp = act(nn.ReLU())
    def block(channels, out):
        return nn.Conv2d(channels, out, 3, padding=1), nn.BatchNorm2d(out), nn.ReLU(inplace=True)

    def apart(channels, out, stride):
        return (nn.Conv2d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False), nn.BatchNorm2d(channels), nn.ReLU6(),
                nn.Conv2d(channels, out, 1, bias=False), nn.BatchNorm2d(out), nn.ReLU6())

    def lenet(pool):
        return lambda: S(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), pool, nn.Conv2d(6, 16, 5), nn.ReLU(), pool, nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10))

    cases = [  # name, what it is, data, rows, module, options
        ("mlp", "MLP", digits, flat, mlp, {}),
        ("mlp-dropout", "MLP with Dropout, in eval", digits, flat, lambda: S(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 10)), {}),
        ("linear", "one Linear", digits, flat, lambda: nn.Linear(64, 10), {}),
        ("linear-softmax", "one Linear, softmax", digits, flat, lambda: S(nn.Linear(64, 10), nn.Softmax(1)), {}),
        ("no-bias", "MLP without biases", digits, flat, lambda: S(nn.Linear(64, 32, bias=False), nn.ReLU(), nn.Linear(32, 10, bias=False)), {}),
        ("log-softmax", "MLP, log-softmax", digits, flat, lambda: S(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10), nn.LogSoftmax(-1)), {}),
        ("argmax", "MLP, argmax", digits, flat, lambda: Fn(lambda m, x: m.body(x).argmax(1), body=mlp()), {}),
        ("sigmoid-1", "MLP, one output, sigmoid", cancer, flat, lambda: S(nn.BatchNorm1d(30), nn.Linear(30, 8), nn.ReLU(), nn.Linear(8, 1), nn.Sigmoid()), {}),
        ("one-output", "MLP, one output", cancer, flat, lambda: S(nn.Linear(30, 8), nn.ReLU(), nn.Linear(8, 1)), {}),
        ("sigmoid-10", "MLP, ten sigmoids", digits, flat, lambda: S(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10), nn.Sigmoid()), {}),
        ("batchnorm", "MLP, BatchNorm1d before ReLU", digits, flat, lambda: S(nn.Linear(64, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 10)), {}),
        ("batchnorm-after", "MLP, BatchNorm1d behind ReLU", digits, flat, lambda: S(nn.Linear(64, 32), nn.ReLU(), nn.BatchNorm1d(32), nn.Linear(32, 10)), {}),
        ("batchnorm-first", "BatchNorm1d, MLP", digits, flat, lambda: S(nn.BatchNorm1d(64), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)), {}),
        ("temperature", "MLP, scores divided by a temperature", digits, flat, lambda: Fn(lambda m, x: m.body(x) / 2.5, body=mlp()), {}),
        ("tied", "MLP, one Linear used twice", digits, flat, lambda: Fn(lambda m, x: m.c(torch.relu(m.b(torch.relu(m.b(torch.relu(m.a(x))))))), a=nn.Linear(64, 32), b=nn.Linear(32, 32), c=nn.Linear(32, 10)), {}),
        ("double", "MLP in float64", digits, flat, mlp, {"dtype": torch.float64}),
        ("half", "MLP in float16", digits, flat, mlp, {"dtype": torch.float16}),
        ("integers", "MLP of int64 inputs, cast inside", digits, flat, lambda: Fn(lambda m, x: m.body(x.float() / 16), body=mlp()), {"input": torch.int64}),
        ("fixed-batch", "MLP for one row at a time", digits, flat, mlp, {"batch": 1}),
        ("two-inputs", "MLP of two inputs", digits, flat, lambda: Joined(mlp()), {"split": 32}),
        ("cnn", "CNN, stride 2", digits, image, lambda: S(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)), {}),
        ("cnn-batchnorm", "CNN, BatchNorm2d", digits, image, lambda: S(nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10)), {}),
        ("cnn-view", "CNN, flattened by view(-1, 144)", digits, image, lambda: Fn(lambda m, x: m.b(torch.relu(m.a(x)).view(-1, 144)), a=nn.Conv2d(1, 16, 3, stride=2), b=nn.Linear(144, 10)), {}),
        ("cnn-reshape", "CNN, flattened by reshape(x.shape[0], -1)", digits, image, lambda: Fn(lambda m, x: m.b(torch.relu(m.a(x)).reshape(x.shape[0], -1)), a=nn.Conv2d(1, 16, 3, stride=2), b=nn.Linear(144, 10)), {}),
        ("cnn-rows", "CNN of rows that are reshaped to images", digits, flat, lambda: Fn(lambda m, x: m.b(torch.relu(m.a(x.view(-1, 1, 8, 8))).flatten(1)), a=nn.Conv2d(1, 16, 3, stride=2), b=nn.Linear(144, 10)), {}),
        ("cnn-same", "CNN, padding='same'", digits, image, lambda: S(nn.Conv2d(1, 4, 3, padding="same"), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)), {}),
        ("cnn-maxpool", "CNN, MaxPool2d", digits, image, conv(nn.MaxPool2d(2), after=128), {}),
        ("cnn-avgpool", "CNN, AvgPool2d", digits, image, conv(nn.AvgPool2d(2), after=128), {}),
        ("cnn-avgpool-pad", "CNN, AvgPool2d(3, 2, padding=1, count_include_pad=False)", digits, image, conv(nn.AvgPool2d(3, 2, 1, count_include_pad=False), after=128), {}),
        ("cnn-global", "CNN, AdaptiveAvgPool2d(1)", digits, image, conv(nn.AdaptiveAvgPool2d(1), after=8), {}),
        ("cnn-mean", "CNN, mean over height and width", digits, image, lambda: Fn(lambda m, x: m.b(torch.relu(m.a(x)).mean((2, 3))), a=nn.Conv2d(1, 16, 3), b=nn.Linear(16, 10)), {}),
        ("cnn-groups", "CNN, a convolution in groups", digits, image, conv(nn.Conv2d(8, 16, 3, stride=2, groups=8), nn.ReLU()), {}),
        ("cnn-dilated", "CNN, a dilated convolution", digits, image, conv(nn.Conv2d(8, 9, 3, dilation=2), nn.ReLU()), {}),
        ("cnn-oblong", "CNN, kernel 1 by 3", digits, image, lambda: S(nn.Conv2d(1, 4, (1, 3)), nn.ReLU(), nn.Flatten(), nn.Linear(192, 10)), {}),
        ("cnn-1d", "CNN, Conv1d", digits, lambda x: x.reshape(-1, 1, 64), lambda: S(nn.Conv1d(1, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(124, 10)), {}),
        ("lenet", "LeNet-5 on 28x28, ReLU, MaxPool2d", large, picture, lenet(nn.MaxPool2d(2)), {}),
        ("lenet-average", "LeNet-5 on 28x28, ReLU, AvgPool2d", large, picture, lenet(nn.AvgPool2d(2)), {}),
        ("cnn-functional", "CNN, F.relu(F.max_pool2d(conv(x), 2)), Dropout2d, log_softmax", digits, image,
         lambda: Fn(lambda m, x: F.log_softmax(m.d(F.dropout(F.relu(m.c(torch.flatten(F.relu(F.max_pool2d(m.p(m.b(F.relu(m.a(x)))), 2)), 1))), training=m.training)), dim=1),
                    a=nn.Conv2d(1, 8, 3), b=nn.Conv2d(8, 8, 3), p=nn.Dropout2d(), c=nn.Linear(32, 32), d=nn.Linear(32, 10)), {}),
        ("cnn-vgg", "CNN, twice Conv2d, BatchNorm2d, ReLU, then MaxPool2d", digits, image,
         lambda: S(*block(1, 8), *block(8, 8), nn.MaxPool2d(2), *block(8, 16), *block(16, 16), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Dropout(), nn.Linear(32, 10)), {}),
        ("cnn-mobile", "CNN, depthwise and pointwise convolutions, BatchNorm2d, ReLU6, global average", digits, image,
         lambda: S(nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU6(), *apart(16, 24, 2), *apart(24, 32, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(32, 10)), {}),
        ("cnn-squeeze", "CNN, a last convolution with a global average behind it", digits, image,
         lambda: S(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.MaxPool2d(3, 2, ceil_mode=True), nn.Conv2d(16, 10, 1), nn.AdaptiveAvgPool2d((1, 1)), nn.Flatten()), {}),
        ("cnn-conv-last", "CNN, the last layer a convolution of what is left", digits, image, lambda: S(nn.Conv2d(1, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 10, 3), nn.Flatten()), {}),
        ("cnn-pool-norm", "CNN, MaxPool2d, BatchNorm2d, ReLU", digits, image, conv(nn.MaxPool2d(2), nn.BatchNorm2d(8), nn.ReLU(), after=128), {}),
        ("cnn-norm-padded", "CNN, ReLU, BatchNorm2d, a padded convolution", digits, image, conv(nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.ReLU(), after=128), {}),
        ("cnn-leaky", "CNN, LeakyReLU(0.1), MaxPool2d", digits, image, lambda: S(nn.Conv2d(1, 8, 3, padding=1), nn.LeakyReLU(0.1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10)), {}),
        ("cnn-prelu", "CNN, PReLU of each channel", digits, image, lambda: S(nn.Conv2d(1, 8, 3, padding=1), nn.PReLU(8), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(128, 10)), {}),
        ("cnn-zeros", "CNN, ZeroPad2d at one side, a stride of 2", digits, image, lambda: S(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(1, 8, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(128, 10)), {}),
        ("cnn-average-padded", "CNN, AvgPool2d(3, 2, padding=1, ceil_mode=True)", digits, image, conv(nn.AvgPool2d(3, 2, 1, ceil_mode=True), after=200), {}),
        ("cnn-same-even", "CNN, padding='same', an even kernel", digits, image, lambda: S(nn.Conv2d(1, 4, 4, padding="same"), nn.ReLU(), nn.Flatten(), nn.Linear(256, 10)), {}),
        ("cnn-1d-pools", "CNN, Conv1d, MaxPool1d, global average", digits, lambda x: x.reshape(-1, 8, 8),
         lambda: S(nn.Conv1d(8, 16, 3, padding=1), nn.BatchNorm1d(16), nn.ReLU(), nn.MaxPool1d(2), nn.Conv1d(16, 24, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(24, 10)), {}),
        ("cnn-channels-last", "CNN, images with channels last, flattened that way", digits, lambda x: x.reshape(-1, 8, 4, 2),
         lambda: Fn(lambda m, x: m.b(F.max_pool2d(torch.relu(m.a(x.permute(0, 3, 1, 2))), 2).permute(0, 2, 3, 1).flatten(1)), a=nn.Conv2d(2, 8, 3, padding=1), b=nn.Linear(64, 10)), {}),
        ("cnn-maximum", "CNN, largest over height and width", digits, image, lambda: Fn(lambda m, x: m.b(torch.amax(torch.relu(m.a(x)), (2, 3))), a=nn.Conv2d(1, 16, 3), b=nn.Linear(16, 10)), {}),
        ("hardtanh", "MLP, Hardtanh", digits, flat, act(nn.Hardtanh()), {}),
        ("gelu", "MLP, GELU", digits, flat, act(nn.GELU()), {}),
        ("gelu-tanh", "MLP, GELU(approximate='tanh')", digits, flat, act(nn.GELU("tanh")), {}),
        ("silu", "MLP, SiLU", digits, flat, act(nn.SiLU()), {}),
        ("leaky", "MLP, LeakyReLU", digits, flat, act(nn.LeakyReLU()), {}),
        ("elu", "MLP, ELU", digits, flat, act(nn.ELU()), {}),
        ("tanh", "MLP, Tanh", digits, flat, act(nn.Tanh()), {}),
        ("sigmoid-hidden", "MLP, Sigmoid between layers", digits, flat, act(nn.Sigmoid()), {}),
        ("relu6", "MLP, ReLU6", digits, flat, act(nn.ReLU6()), {}),
        ("hardswish", "MLP, Hardswish", digits, flat, act(nn.Hardswish()), {}),
        ("layernorm", "MLP, LayerNorm", digits, flat, act(S(nn.LayerNorm(32), nn.ReLU())), {}),
        ("residual", "MLP, a residual connection", digits, flat, lambda: Fn(lambda m, x: m.c((h := torch.relu(m.a(x))) + torch.relu(m.b(h))), a=nn.Linear(64, 32), b=nn.Linear(32, 32), c=nn.Linear(32, 10)), {}),
        ("resnet", "CNN, a residual block", digits, image, lambda: Fn(lambda m, x: m.c(torch.relu((h := torch.relu(m.a(x))) + m.b(h)).flatten(1)), a=nn.Conv2d(1, 4, 3, padding=1), b=nn.Conv2d(4, 4, 3, padding=1), c=nn.Linear(256, 10)), {}),
        ("lstm", "LSTM over the rows of an image", digits, lambda x: x.reshape(-1, 8, 8), lambda: Fn(lambda m, x: m.b(m.a(x)[0][:, -1]), a=nn.LSTM(8, 16, batch_first=True), b=nn.Linear(16, 10)), {}),
        ("attention", "attention over the rows of an image", digits, lambda x: x.reshape(-1, 8, 8), lambda: Fn(lambda m, x: m.b(F.scaled_dot_product_attention(x, x, x).mean(1)), b=nn.Linear(8, 10)), {}),
        ("embedding", "embedding of integers", digits, flat, lambda: Fn(lambda m, x: m.b(m.a(x).mean(1)), a=nn.Embedding(17, 8), b=nn.Linear(8, 10)), {"input": torch.int64}),
        ("train-mode", "MLP with Dropout, exported in training mode", digits, flat, lambda: S(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.5), nn.Linear(32, 10)), {"training": True}),
    ]
    opsets = [("mlp-opset-%d" % v, "MLP, opset %d" % v, digits, flat, mlp, {"opset": v}) for v in (9, 11, 13, 18, 20, 23)]

    def fit(model, data, rows, options):
        """A few steps, so that classes differ; what cannot be trained is exported as it is."""
        if "split" in options or options.get("input") == torch.int64:
            return model
        optimizer, x, y = torch.optim.Adam(model.parameters(), lr=5e-3), torch.tensor(rows(data.x)), torch.tensor(data.y)
        for _ in range(10):
            for part in torch.randperm(len(x)).split(64):
                out = model(x[part])
                if not out.requires_grad:
                    return model
                loss = F.cross_entropy(out, y[part]) if out.shape[1] > 1 else F.mse_loss(out[:, 0], y[part].float())
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        return model

    def export(name, what, data, rows, build, options, exporter, kwargs):
        torch.manual_seed(SEED)
        model = fit(build(), data, rows, options)
        model.train(options.get("training", False))
        model.to(options.get("dtype", torch.float32))
        to = options.get("input", options.get("dtype", torch.float32))

        def inputs(x):
            x = torch.tensor(rows(x)).to(to)
            return (x[:, :options["split"]], x[:, options["split"]:]) if "split" in options else (x,)

        def make(path):
            example = inputs(data.x[:options.get("batch", 2)])
            names = ["x", "z"][:len(example)]
            if options.get("batch") != 1:
                if kwargs["dynamo"]:
                    kwargs["dynamic_shapes"] = tuple({0: torch.export.Dim("n", min=1, max=4096)} for _ in names)
                else:
                    kwargs["dynamic_axes"] = {n: {0: "n"} for n in names}
            if "opset" in options:
                kwargs["opset_version"] = options["opset"]
            if options.get("training"):
                kwargs["training"] = torch.onnx.TrainingMode.TRAINING
            if kwargs["dynamo"]:
                kwargs["external_data"] = False
            old, sys.stdout = sys.stdout, io.StringIO()  # the exporter reports its steps there
            try:
                torch.onnx.export(model, example, path, input_names=names, verbose=False, **kwargs)
            finally:
                sys.stdout = old

        def feed(x):
            return {n: v.numpy() for n, v in zip(["x", "z"], inputs(x))} if "split" in options else inputs(x)[0].numpy()

        e.add(f"torch-{exporter}-{name}", what, f"PyTorch {torch.__version__.split('+')[0]}, {'dynamo=True' if kwargs['dynamo'] else 'TorchScript'}", data, make, feed)

    for name, what, data, rows, build, options in cases + opsets:
        for exporter, dynamo in (("dynamo", True), ("script", False)):
            if dynamo and options.get("opset", 18) < 18 or dynamo and options.get("training"):
                continue  # it writes no such file
            export(name, what, data, rows, build, options, exporter, {"dynamo": dynamo})


def main():
    out = sys.argv[1]
    os.makedirs(out, exist_ok=True)
    e = Exports(out)
    scikit(e)
    torch_exports(e)
    with open(os.path.join(out, "exports.json"), "w", encoding="utf-8") as f:
        json.dump({"format": FORMAT, "exports": e.list, "missing": e.missing}, f, indent=1)


main()
