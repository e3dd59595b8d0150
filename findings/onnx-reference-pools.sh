#!/usr/bin/env bash
# onnx 1.23.2: the reference evaluator is no reference for pooling along one axis. On models that
# onnx.checker accepts with its full check it disagrees with onnx's own shape inference, with the
# formula in the operator's documentation and with onnxruntime 1.32.0, which has the documented values:
#   1. MaxPool, kernel 2, stride 1, one element of padding at each end: IndexError; with padding at the end
#      alone, the last window is missing;
#   2. ceil_mode=1: the room that the last window needs beyond the input is taken from both ends, so that all
#      windows begin earlier and the first, too, averages or compares other elements (AveragePool and MaxPool).
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0
"$dir/venv/bin/python" - <<'PY'
import sys
import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from onnx.shape_inference import infer_shapes

onnxruntime.set_default_logger_severity(4)

def documented(operator, x, kernel_shape, strides, pads=(0, 0), ceil_mode=0):
    """The values by the definition, windows that begin in the padding at the end left out."""
    k, s, n = kernel_shape[0], strides[0], len(x)
    room = n + sum(pads) - k
    count = (-(-room // s) if ceil_mode else room // s) + 1
    windows = [[x[i] for i in range(j * s - pads[0], j * s - pads[0] + k) if 0 <= i < n] for j in range(count) if j * s - pads[0] < n]
    return [max(w) if operator == "MaxPool" else sum(w) / len(w) for w in windows]

cases = [
    ("plain", "MaxPool", [4, 9, 2, 7], dict(kernel_shape=[2], strides=[2])),
    ("1", "MaxPool", [4, 9, 2, 7], dict(kernel_shape=[2], strides=[1], pads=[1, 1])),
    ("1", "MaxPool", [4, 9, 2, 7], dict(kernel_shape=[2], strides=[1], pads=[0, 1])),
    ("2", "MaxPool", [9, 4, 2, 7], dict(kernel_shape=[2], strides=[1], pads=[1, 0], ceil_mode=1)),
    ("2", "AveragePool", [4, 9, 2, 7], dict(kernel_shape=[3], strides=[3], ceil_mode=1)),
    ("2", "AveragePool", [4, 9, 2, 7, 3, 8, 1], dict(kernel_shape=[3], strides=[3], ceil_mode=1)),
]
same = True
for point, operator, x, attributes in cases:
    want = documented(operator, x, **attributes)
    node = helper.make_node(operator, ["x"], ["y"], **attributes)
    values = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 1, len(x)]),
              helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, "m"])]
    model = helper.make_model(helper.make_graph([node], "g", values[:1], values[1:]), ir_version=8,
                              opset_imports=[helper.make_opsetid("", 22)])
    onnx.checker.check_model(model, full_check=True)
    length = infer_shapes(model).graph.output[0].type.tensor_type.shape.dim[2].dim_value
    feed = {"x": np.array([[x]], dtype=np.float32)}
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    runtime = session.run(None, feed)[0].ravel()
    try:
        reference = ReferenceEvaluator(model).run(None, feed)[0].ravel().tolist()
    except IndexError:
        reference = []
    agrees = len(reference) == len(want) and np.allclose(reference, want)
    print(f"{point}: {operator} {attributes} of {x}: documented {np.round(want, 2).tolist()}, inferred length {length}, "
          f"onnxruntime {np.round(runtime, 2).tolist()}, reference {reference or 'raises IndexError'}")
    same = same and len(want) == length and np.allclose(runtime, want) and agrees == (point == "plain")
print("as stated" if same else "CHANGED: this is not what the finding states")
sys.exit(not same)
PY
