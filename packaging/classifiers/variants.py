"""Writes ONNX files that differ in one thing from what exporters write, and random ones.

    python variants.py DIRECTORY SEED COUNT

Each file NAME gives NAME.onnx and NAME.rows.npy (float32 rows, flat), and where onnxruntime runs
it NAME.scores.npy (its last output of numbers) and NAME.answers.txt (its labels, or places of
the highest score). variants.json lists them, written last: "hand" for those below, "random" for
COUNT files drawn from SEED, a third of them with one attribute or constant changed at random.
Nothing is said of which files are accepted: whoever accepts one must answer as onnxruntime does.
"""
import json
import os
import sys

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

ROWS = 16
node = helper.make_node
DTYPES = {TensorProto.FLOAT: np.float32, TensorProto.DOUBLE: np.float64, TensorProto.INT64: np.int64}


def ml(op, inputs, outputs, **attributes):
    return node(op, inputs, outputs, domain="ai.onnx.ml", **attributes)


class File:
    """A graph while it is put together."""

    def __init__(self, r, shape, kind=TensorProto.FLOAT, batch="n"):
        self.r, self.shape, self.kind, self.batch = r, list(shape), kind, batch
        self.nodes, self.weights, self.count = [], [], 0
        self.opsets = [("", 17), ("ai.onnx.ml", 3)]

    def name(self):
        self.count += 1
        return f"v{self.count}"

    def const(self, values, dtype=None):
        dtype = dtype or DTYPES.get(self.kind, np.float32)
        array = np.array(values)
        n = self.name()
        self.weights.append(numpy_helper.from_array(array if array.dtype.kind in "UO" else array.astype(dtype), n))
        return n

    def normal(self, *shape):
        return self.const(self.r.normal(size=shape))

    def add(self, op, inputs, domain="", **attributes):
        out = self.name()
        self.nodes.append(node(op, inputs, [out], domain=domain, **attributes))
        return out

    def model(self, outputs):
        infos = [helper.make_tensor_value_info("x", self.kind, [self.batch] + self.shape)]
        outs = [onnx.ValueInfoProto(name=o) for o in outputs]
        graph = helper.make_graph(self.nodes, "variant", infos, outs, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid(*o) for o in self.opsets], ir_version=9)


def write(out, group, name, f, model):
    """Runs a model, and writes what it says. A file that onnxruntime does not run has no scores."""
    rows = f.r.normal(size=(ROWS if f.batch == "n" else f.batch, int(np.prod(f.shape)))).astype(np.float32)
    if f.kind == TensorProto.INT64:
        rows = np.round(rows * 3)
    path = os.path.join(out, name)
    with open(path + ".onnx", "wb") as g:
        g.write(model.SerializeToString())
    np.save(path + ".rows.npy", rows)
    entry = {"name": name, "group": group}
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        session = onnxruntime.InferenceSession(path + ".onnx", options, providers=["CPUExecutionProvider"])
        results = session.run(None, {"x": rows.reshape([len(rows)] + f.shape).astype(DTYPES[f.kind])})
    except Exception as err:
        entry["not_run"] = f"{type(err).__name__}: {str(err).strip().splitlines()[0]}"[:160]
        return entry
    scores = labels = None
    for o in results:
        if isinstance(o, list):
            o = np.array([list(row.values()) for row in o], np.float32)
        if o.dtype.kind == "f" and o.size == len(rows) and len(results) > 1 and labels is None and scores is None:
            labels = o.reshape(-1)  # integers that were cast
        elif o.dtype.kind == "f" and o.size % len(rows) == 0:
            scores = o.reshape(len(rows), -1)
        elif o.dtype.kind != "f" and o.size == len(rows):
            labels = o.reshape(-1)
    if scores is not None and np.isfinite(scores).all():
        np.save(path + ".scores.npy", np.ascontiguousarray(scores, np.float32))
    if labels is None and scores is not None:
        labels = scores.argmax(1) if scores.shape[1] > 1 else (scores[:, 0] > 0.5).astype(int)
    if labels is None or scores is not None and not np.isfinite(scores).all():
        entry["not_run"] = "no finite scores and no labels of the rows"
        return entry
    with open(path + ".answers.txt", "w", encoding="utf-8") as g:
        g.writelines(f"{v}\n" for v in labels)
    return entry


def by_hand(r):
    """Files with one thing that is easily passed over."""
    def dense(op="Gemm", inputs=None, width=4, classes=4, kind=TensorProto.FLOAT, batch="n", tail=None, **attributes):
        f = File(r, [width], kind, batch)
        y = f.add(op, ["x"] + [f.normal(*s) for s in inputs or [(width, classes), (classes,)]], **attributes)
        return f, tail(f, y) if tail else [y]

    def image(shape, kernel, after, **attributes):
        f = File(r, shape)
        c = f.add("Conv", ["x", f.normal(*kernel)], **attributes)
        flat = f.add("Flatten", [c])
        return f, [f.add("MatMul", [flat, f.normal(after, 3)])]

    def classifier(nodes=None, labels=(0, 1, 2), width=4, kind=TensorProto.FLOAT, rows=None, **attributes):
        f = File(r, [width], kind)
        classes = rows or len(labels)
        key = "classlabels_strings" if isinstance(labels[0], str) else "classlabels_ints"
        attributes = {"coefficients": r.normal(size=classes * width).tolist(), "intercepts": r.normal(size=classes).tolist(), key: list(labels), **attributes}
        f.nodes.append(ml("LinearClassifier", ["x"], ["label", "p"], **attributes))
        return f, nodes(f) if nodes else ["label", "p"]

    def between(*ops):
        """Steps between two layers: (op, shape of the constant, constant first)."""
        f = File(r, [4])
        y = f.add("MatMul", ["x", f.normal(4, 5)])
        for op, shape, first in ops:
            if op in ("Relu", "Identity", "Neg", "Sigmoid"):
                y = f.add(op, [y])
            elif op == "BatchNormalization":
                y = f.add(op, [y, f.normal(5), f.normal(5), f.normal(5), f.const(r.uniform(0.01, 2, 5))], **shape)
            else:
                c = f.normal(*shape)
                y = f.add(op, [c, y] if first else [y, c])
        return f, [f.add("MatMul", [y, f.normal(5, 3)])]

    def reshaped(to, allowzero=0, shape=(2, 3, 3), computed=None):
        f = File(r, shape)
        c = f.add("Relu", [f.add("Conv", ["x", f.normal(2, shape[0], 2, 2)])])
        if computed is not None:
            d = f.add("Gather", [f.add("Shape", [c if computed else "x"]), f.const([to[0]], np.int64)], axis=0)
            s = f.add("Concat", [d, f.const([to[1]], np.int64)], axis=0)
        else:
            s = f.const(to, np.int64)
        return f, [f.add("MatMul", [f.add("Reshape", [c, s], allowzero=allowzero), f.normal(8, 3)])]

    def single(*tail):
        f = File(r, [4])
        y = f.add("Gemm", ["x", f.normal(4, 1), f.normal(1)])
        return f, [t(f, y) for t in tail]

    def pair(first, second):
        def make(f, y):
            parts = {"z": y, "minus": f.add("Mul", [y, f.const(-1.0)]), "twice": f.add("Mul", [y, f.const(-2.0)]), "s": f.add("Sigmoid", [y])}
            parts["one minus s"] = f.add("Sub", [f.const(1.0), parts["s"]])
            parts["s minus one"] = f.add("Sub", [parts["s"], f.const(1.0)])
            keep = {first, second} | ({"s"} if "s" in first + second else set())
            f.nodes = [n for n in f.nodes if n.op_type == "Gemm" or n.output[0] in {parts[k] for k in keep}]
            return f.add("Concat", [parts[first], parts[second]], axis=1)
        return make

    soft = lambda **a: (lambda f, y: [f.add("Softmax", [y], **a)])
    arg = lambda **a: (lambda f, y: [f.add("ArgMax", [y], **a)])

    def looked_up(labels, **a):
        return lambda f, y: [f.add("ArrayFeatureExtractor", [f.const(labels, np.int64), f.add("ArgMax", [y], axis=1)], domain="ai.onnx.ml"), y]

    def zipped(labels):
        def make(f):
            f.nodes.append(ml("ZipMap", ["p"], ["z"], classlabels_int64s=labels))
            return ["label", "z"]
        return make

    def normal_form(norm):
        return lambda f: ["label", f.add("Normalizer", ["p"], domain="ai.onnx.ml", norm=norm)]

    def recast(*types):
        def make(f):
            y = "label"
            for t in types:
                y = f.add("Cast", [y], to=t)
            return [y, "p"]
        return make

    def scaled(offset, scale, kind=TensorProto.FLOAT, before=()):
        f = File(r, [4], kind)
        y = "x"
        for op in before:
            y = f.add(op, [y, f.const([2, 3, 4, 5])])
        y = f.add("Scaler", [y], domain="ai.onnx.ml", offset=offset, scale=scale)
        return f, [f.add("MatMul", [y, f.const(r.normal(size=(4, 3)), np.float32)])]

    def opsets(*sets):
        f, outputs = dense()
        f.opsets = list(sets)
        return f, outputs

    def moved(shape, perm):
        f = File(r, shape)
        t = f.add("Transpose", ["x"], perm=perm)
        c = f.add("Conv", [t, f.normal(3, shape[perm[1] - 1], 2, 2)])
        size = 3 * (shape[perm[2] - 1] - 1) * (shape[perm[3] - 1] - 1)
        return f, [f.add("MatMul", [f.add("Flatten", [c]), f.normal(size, 3)])]

    def normed(**a):
        f = File(r, [4])
        y = f.add("Gemm", ["x", f.normal(4, 5)])
        t = f.add("ReduceLogSumExp", [y], **{k: v for k, v in a.items() if k != "shape"})
        if "shape" in a:
            t = f.add("Reshape", [t, f.const(a["shape"], np.int64)])
        return f, [f.add("Exp", [f.add("Sub", [y, t])])]

    def chosen(places, then="MatMul"):
        f = File(r, [4])
        y = f.add("ArrayFeatureExtractor", ["x", f.const(places, np.int64)], domain="ai.onnx.ml")
        if then == "Relu":
            y = f.add("Relu", [y])
        return f, [f.add("MatMul", [y, f.normal(len(places), 3)])]

    def dropout(mode, opset=17):
        f = File(r, [4])
        y = f.add("MatMul", ["x", f.normal(4, 5)])
        y = f.add("Dropout", [y, f.const(0.5), f.const(mode, np.bool_)] if mode is not None else [y])
        return f, [f.add("MatMul", [y, f.normal(5, 3)])]

    F, D, I, I32, B, S, H = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL, TensorProto.STRING, TensorProto.FLOAT16)
    relu, bn = ("Relu", None, False), lambda **a: ("BatchNormalization", a, False)
    return {
        "gemm": dense(), "gemm-transA": dense(transA=1, batch=4), "gemm-transB": dense(transB=1), "gemm-alpha": dense(alpha=0.3), "gemm-beta": dense(beta=-2.0), "gemm-beta-0": dense(beta=0.0),
        "gemm-alpha-beta": dense(alpha=-1.5, beta=0.5, transB=1), "gemm-bias-row": dense(inputs=[(4, 4), (1, 4)]), "gemm-bias-column": dense(inputs=[(4, 4), (4, 1)], batch=4), "gemm-bias-one": dense(inputs=[(4, 4), (1,)]),
        "gemm-bias-scalar": dense(inputs=[(4, 4), ()]), "gemm-bias-each": dense(inputs=[(4, 4), (4, 4)], batch=4), "gemm-double": dense(kind=D), "gemm-batch-1": dense(batch=1), "gemm-batch-4": dense(batch=4),
        "matmul-vector": dense("MatMul", [(4,)]), "matmul-three": dense("MatMul", [(1, 4, 3)]),
        "softmax": dense(tail=soft(axis=1)), "softmax-0": dense(tail=soft(axis=0)), "softmax-last": dense(tail=soft()), "softmax--2": dense(tail=soft(axis=-2)),
        "argmax": dense(tail=arg(axis=1)), "argmax-0": dense(tail=arg(axis=0), batch=4), "argmax-flat": dense(tail=arg(axis=1, keepdims=0)), "argmax-last": dense(tail=arg(axis=1, select_last_index=1)),
        "labels": dense(tail=looked_up([7, -1, 3, 100])), "labels-few": dense(tail=looked_up([7, -1, 3])), "labels-twice": dense(tail=looked_up([7, 7, 3, 4])),
        "conv": image((2, 5, 5), (3, 2, 3, 3), 27), "conv-pads": image((2, 5, 5), (3, 2, 3, 3), 75, pads=[1, 1, 1, 1]), "conv-pads-uneven": image((2, 5, 5), (3, 2, 3, 3), 48, pads=[1, 0, 0, 1]),
        "conv-strides": image((2, 5, 5), (3, 2, 3, 3), 12, strides=[2, 2]), "conv-strides-uneven": image((2, 5, 5), (3, 2, 3, 3), 18, strides=[2, 1]), "conv-dilations": image((2, 5, 5), (3, 2, 3, 3), 3, dilations=[2, 2]),
        "conv-group": image((2, 5, 5), (4, 1, 3, 3), 36, group=2), "conv-same-upper": image((2, 5, 5), (3, 2, 3, 3), 75, auto_pad="SAME_UPPER"), "conv-same-lower": image((2, 5, 5), (3, 2, 3, 3), 75, auto_pad="SAME_LOWER"),
        "conv-same-even": image((2, 5, 5), (3, 2, 2, 2), 75, auto_pad="SAME_UPPER"), "conv-same-strides": image((2, 5, 5), (3, 2, 3, 3), 27, auto_pad="SAME_UPPER", strides=[2, 2]), "conv-valid": image((2, 5, 5), (3, 2, 3, 3), 27, auto_pad="VALID"),
        "conv-kernel-shape": image((2, 5, 5), (3, 2, 3, 3), 27, kernel_shape=[3, 3]), "conv-kernel-wrong": image((2, 5, 5), (3, 2, 3, 3), 48, kernel_shape=[2, 2]), "conv-oblong": image((2, 5, 5), (3, 2, 1, 3), 45), "conv-one": image((2, 5, 5), (3, 2, 1, 1), 75),
        "classifier": classifier(), "classifier-softmax": classifier(post_transform="SOFTMAX"), "classifier-logistic": classifier(post_transform="LOGISTIC"), "classifier-softmax-zero": classifier(post_transform="SOFTMAX_ZERO"),
        "classifier-probit": classifier(post_transform="PROBIT"), "classifier-ovr": classifier(multi_class=0, post_transform="LOGISTIC"), "classifier-multi": classifier(multi_class=1), "classifier-strings": classifier(labels=("b", "a", "c")),
        "classifier-order": classifier(labels=(9, -4, 2)), "classifier-2": classifier(labels=(3, 8), post_transform="LOGISTIC"), "classifier-opposite": classifier(labels=(3, 8), post_transform="LOGISTIC", coefficients=[-1.0, 2, 3, -4, 1, -2, -3, 4], intercepts=[-0.5, 0.5]),
        "classifier-one": classifier(labels=(3, 8), rows=1), "classifier-one-logistic": classifier(labels=(3, 8), rows=1, post_transform="LOGISTIC"), "classifier-one-label": classifier(labels=(3,), rows=1), "classifier-no-intercepts": classifier(intercepts=None),
        "classifier-double": classifier(kind=D), "classifier-integers": classifier(kind=I), "classifier-ties": classifier(coefficients=[1.0, 0, 0, 0] * 3, intercepts=[1.0, 1, 1]), "classifier-equal": classifier(labels=(1, 1, 2)),
        "zipmap": classifier(zipped([0, 1, 2])), "zipmap-order": classifier(zipped([2, 1, 0])), "l1": classifier(normal_form("L1"), post_transform="SOFTMAX"), "l2": classifier(normal_form("L2"), post_transform="SOFTMAX"), "max": classifier(normal_form("MAX"), post_transform="SOFTMAX"),
        "l1-of-scores": classifier(normal_form("L1")), "cast-labels": classifier(recast(I32, I)), "cast-labels-float": classifier(recast(F, I), labels=(1, 1 << 24 | 1, 5)), "cast-labels-bool": classifier(recast(B, I)), "cast-labels-text": classifier(recast(S), labels=(4, 5, 6)),
        "cast-labels-half": classifier(recast(H, I), labels=(1, 2, 4097)),
        "bias": between(("Add", (5,), False), relu), "bias-first": between(("Add", (5,), True), relu), "minus": between(("Sub", (5,), False), relu), "from": between(("Sub", (5,), True), relu), "times": between(("Mul", (5,), False), relu), "by": between(("Div", (5,), False), relu),
        "into": between(("Div", (5,), True), relu), "times-after": between(relu, ("Mul", (5,), False)), "by-after": between(relu, ("Div", (1,), False)), "from-after": between(relu, ("Sub", (5,), True), ("Add", (1, 5), False)), "relu-twice": between(relu, relu),
        "times-between-relus": between(relu, ("Mul", (5,), False), relu), "scalar": between(("Add", (), False), relu, ("Mul", (), True)), "constant-of-rows": between(("Add", (16, 1), False), relu), "constant-of-all": between(("Add", (16, 5), False)),
        "neg": between(("Neg", None, False), relu), "sigmoid-between": between(("Sigmoid", None, False)), "no-activation": between(), "bn": between(bn(), relu), "bn-epsilon": between(bn(epsilon=0.5), relu), "bn-after": between(relu, bn(epsilon=0.1)),
        "bn-momentum": between(bn(momentum=0.1), relu), "bn-after-twice": between(relu, bn(), bn()), "bn-training": between(bn(training_mode=1)),
        "reshape": reshaped([-1, 8]), "reshape-0": reshaped([0, -1]), "reshape-0-8": reshaped([0, 8]), "reshape-zero": reshaped([0, -1], allowzero=1), "reshape-16": reshaped([ROWS, -1]), "reshape-8": reshaped([-1, 8], shape=(1, 3, 3)),
        "reshape-rows": reshaped([0, -1], computed=True), "reshape-rows-of-x": reshaped([0, -1], computed=False), "reshape-channels": reshaped([1, -1], computed=True), "reshape-mixed": reshaped([-1, 8], shape=(2, 3, 3)),
        "single": single(lambda f, y: y), "single-sigmoid": single(lambda f, y: f.add("Sigmoid", [y])), "single-both": single(lambda f, y: f.add("Sigmoid", [y]), lambda f, y: y), "pair": single(pair("minus", "z")), "pair-reversed": single(pair("z", "minus")),
        "pair-twice": single(pair("twice", "z")), "pair-same": single(pair("z", "z")), "pair-sigmoid": single(pair("one minus s", "s")), "pair-sigmoid-reversed": single(pair("s", "one minus s")), "pair-minus-one": single(pair("s minus one", "s")),
        "scaler": scaled([1.0, 2, 3, 4], [0.5, 2, -1, 3]), "scaler-one": scaled([1.0], [0.5]), "scaler-mixed": scaled([1.0], [0.5, 2, -1, 3]), "scaler-integers": scaled([1.0], [0.5], I), "scaler-of-quotient": scaled([1.0], [0.5], I, ["Div"]), "scaler-double": scaled([1.0, 2, 3, 4], [0.5], D),
        "opset-twice": opsets(("", 17), ("", 17)), "opset-two": opsets(("", 17), ("", 13)), "opset-two-reversed": opsets(("", 13), ("", 17)), "opset-both-names": opsets(("ai.onnx", 17), ("", 17)), "opset-only-ai.onnx": opsets(("ai.onnx", 17)), "opset-7": opsets(("", 7)), "opset-6": opsets(("", 6)),
        "moved": moved((4, 4, 1), [0, 3, 1, 2]), "moved-channels": moved((4, 4, 2), [0, 3, 1, 2]), "moved-sides": moved((1, 4, 4), [0, 1, 3, 2]),
        "lse": normed(axes=[1]), "lse-0": normed(axes=[0]), "lse-flat": normed(axes=[1], keepdims=0, shape=[-1, 1]), "lse-row": normed(axes=[1], keepdims=0, shape=[1, -1]), "lse-all": normed(),
        "chosen": chosen([2, 0]), "chosen-twice": chosen([1, 1, 3]), "chosen-relu": chosen([3, 1], "Relu"), "dropout": dropout(False), "dropout-training": dropout(True), "dropout-plain": dropout(None),
    }


def at_random(r):
    """A chain of steps that are all supported, in a form drawn at random."""
    pick = lambda *options: options[r.integers(len(options))]
    images = r.random() < 0.4
    shape = [int(r.integers(1, 3)), *([int(r.integers(4, 8))] * 2)] if images else [int(r.integers(2, 9))]
    f = File(r, shape, batch=pick("n", "n", "n", 1, 4))
    f.opsets = [("", int(pick(13, 15, 17, 18, 20))), ("ai.onnx.ml", int(pick(1, 3)))]
    y, rank = "x", 4 if images else 2
    current = list(shape)

    def steps(y, most):
        each = [current[0]] + [1] * (len(current) - 1)  # one for each channel, or value
        for _ in range(r.integers(0, most + 1)):
            op = pick("Add", "Sub", "Mul", "Div", "BatchNormalization", "Identity", "Dropout", "Scaler")
            if op == "BatchNormalization":
                y = f.add(op, [y, f.normal(current[0]), f.normal(current[0]), f.normal(current[0]), f.const(r.uniform(0.05, 2, current[0]))], **pick({}, {"epsilon": 0.3}, {"momentum": 0.2}))
            elif op in ("Identity", "Dropout"):
                y = f.add(op, [y])
            elif op == "Scaler":
                if len(current) == 1:
                    size = pick(1, current[0])
                    y = f.add(op, [y], domain="ai.onnx.ml", offset=r.normal(size=size).tolist(), scale=r.normal(size=size).tolist())
            else:
                c = f.const(r.uniform(0.3, 2, pick(each, [1] * len(each), [1] + each, [])) * pick(1, -1))
                y = f.add(op, [c, y] if r.random() < 0.3 and op != "Div" else [y, c])
        return y

    y = steps(y, 2)
    if not images and r.random() < 0.2:
        places = r.integers(0, current[0], size=r.integers(2, 6))
        y, current = f.add("ArrayFeatureExtractor", [y, f.const(places, np.int64)], domain="ai.onnx.ml"), [len(places)]
    while rank == 4:
        k, out = int(r.integers(1, 4)), int(r.integers(1, 4))
        stride, pad = int(r.integers(1, 3)), int(r.integers(0, k))
        attributes = {"strides": [stride] * 2, "pads": [pad] * 4}
        if stride == 1 and k % 2 and r.random() < 0.3:
            attributes, pad = {"auto_pad": str(pick("SAME_UPPER", "SAME_LOWER"))}, (k - 1) // 2
        y = f.add("Conv", [y, f.normal(out, current[0], k, k)] + pick([], [f.normal(out)]), **attributes)
        current = [out] + [(current[1] + 2 * pad - k) // stride + 1] * 2
        y = steps(y, 1)
        if r.random() < 0.7:
            y = steps(f.add("Relu", [y]), 1)
        if r.random() < 0.6 or current[1] < 3:
            size = int(np.prod(current))
            form = pick("flatten", "reshape", "zero", "computed")
            if form == "flatten":
                y = f.add("Flatten", [y], axis=int(pick(1, -3)))
            elif form == "computed":
                d = f.add("Unsqueeze", [f.add("Gather", [f.add("Shape", [y]), f.const(0, np.int64)]), f.const([0], np.int64)])
                y = f.add("Reshape", [y, f.add("Concat", [d, f.const([-1], np.int64)], axis=0)])
            else:
                y = f.add("Reshape", [y, f.const([-1, size] if form == "reshape" else [0, -1], np.int64)])
            current, rank = [size], 2
    for _ in range(r.integers(0, 3)):
        y, current = matrix(f, y, current[0], int(r.integers(2, 8)), pick)
        y = steps(y, 1)
        if r.random() < 0.7:
            y = steps(f.add("Relu", [y]), 1)
    tail = pick("none", "none", "softmax", "log", "argmax", "sigmoid", "pair", "classifier", "labels", "lse")
    classes = 1 if tail in ("sigmoid", "pair") else int(r.integers(2, 6))
    if tail == "classifier":
        f.nodes.append(ml("LinearClassifier", [y], ["label", "p"], coefficients=r.normal(size=classes * current[0]).tolist(), intercepts=r.normal(size=classes).tolist(),
                          classlabels_ints=r.permutation(50)[:classes].tolist(), post_transform=str(pick("NONE", "SOFTMAX"))))
        return f, ["label", "p"]
    y, current = matrix(f, y, current[0], classes, pick)
    if tail != "pair" and tail != "sigmoid" and r.random() < 0.3:
        y = steps(y, 1)
    if tail == "none":
        return f, [y]
    if tail == "softmax":
        return f, [f.add("Softmax", [y], axis=int(pick(1, -1)))]
    if tail == "log":
        return f, [f.add("LogSoftmax", [y], axis=int(pick(1, -1)))]
    if tail == "argmax":
        return f, [f.add("ArgMax", [y], axis=int(pick(1, -1)), keepdims=int(pick(0, 1))), y]
    if tail == "sigmoid":
        return f, [f.add("Sigmoid", [y])]
    if tail == "pair":
        return f, [f.add("Concat", [f.add("Mul", [y, f.const(-1.0)]), y], axis=int(pick(1, -1)))]
    if tail == "lse":
        if f.opsets[0][1] < 18:
            f.opsets[0] = ("", 18)
        return f, [f.add("Sub", [y, f.add("ReduceLogSumExp", [y, f.const([1], np.int64)])])]
    labels = f.const(r.permutation(90)[:classes] - 40, np.int64)
    found = f.add("ArrayFeatureExtractor", [labels, f.add("ArgMax", [y], axis=1)], domain="ai.onnx.ml")
    return f, [f.add("Cast", [f.add("Reshape", [found, f.const([-1], np.int64)])], to=int(pick(TensorProto.INT64, TensorProto.INT32))), y]


def matrix(f, y, width, out, pick):
    form = pick("gemm", "by row", "matmul", "bias first")
    if form == "gemm":
        return f.add("Gemm", [y, f.normal(width, out)] + pick([], [f.normal(out)], [f.normal(1, out)], [f.normal(1)]), alpha=float(pick(1, 0.5, -2)), beta=float(pick(1, 0.5, 0))), [out]
    if form == "by row":
        return f.add("Gemm", [y, f.normal(out, width), f.normal(out)], transB=1), [out]
    y = f.add("MatMul", [y, f.normal(width, out)])
    if form == "bias first":
        y = f.add("Add", [f.normal(out), y])
    return y, [out]


def change(r, model):
    """Changes one thing of a model: an attribute, a constant's shape or type, an operator, two inputs."""
    nodes = model.graph.node
    for _ in range(20):
        n = nodes[r.integers(len(nodes))]
        what = r.integers(5)
        if what == 0 and n.attribute:
            a = n.attribute[r.integers(len(n.attribute))]
            if a.type == onnx.AttributeProto.INT:
                a.i = int(r.integers(-2, 4))
            elif a.type == onnx.AttributeProto.INTS and a.ints:
                a.ints[r.integers(len(a.ints))] = int(r.integers(-1, 4))
            elif a.type == onnx.AttributeProto.FLOAT:
                a.f = float(r.normal())
            elif a.type == onnx.AttributeProto.FLOATS and len(a.floats):
                a.floats.pop()
            elif a.type == onnx.AttributeProto.STRING:
                a.s = [b"NONE", b"LOGISTIC", b"VALID", b"SAME_UPPER", b"NOTSET"][r.integers(5)]
            return
        if what == 1 and n.attribute:
            del n.attribute[int(r.integers(len(n.attribute)))]
            return
        if what == 2 and len(n.input) > 1:
            i, j = r.permutation(len(n.input))[:2]
            n.input[i], n.input[j] = n.input[j], n.input[i]
            return
        if what == 3 and model.graph.initializer:
            t = model.graph.initializer[r.integers(len(model.graph.initializer))]
            if len(t.dims) > 1:
                t.dims.reverse()
            else:
                t.dims.insert(0 if r.random() < 0.5 else len(t.dims), 1)
            return
        if what == 4:
            swap = {"Add": "Sub", "Sub": "Div", "Mul": "Add", "Div": "Mul", "Relu": "Neg", "Softmax": "Exp", "Flatten": "Identity", "MatMul": "Gemm", "Identity": "Relu", "Sigmoid": "Relu", "ArgMax": "ArgMin"}
            if n.op_type in swap:
                n.op_type = swap[n.op_type]
                return


def main():
    out, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    os.makedirs(out, exist_ok=True)
    entries = []
    for name, (f, outputs) in by_hand(np.random.default_rng(seed)).items():
        entries.append(write(out, "hand", "hand-" + name, f, f.model(outputs)))
    for i in range(count):
        r = np.random.default_rng([seed, i])
        f, outputs = at_random(r)
        model = f.model(outputs)
        changed = i % 3 == 2
        if changed:
            change(r, model)
        entries.append(write(out, "changed" if changed else "random", f"random-{i}", f, model))
    with open(os.path.join(out, "variants.json"), "w", encoding="utf-8") as g:
        json.dump(entries, g, indent=1)


main()
