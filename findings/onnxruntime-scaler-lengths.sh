#!/usr/bin/env bash
# onnxruntime 1.32.0: the operator Scaler (ai.onnx.ml) has two attributes, offset and scale, and
# the operators' documentation says of each by itself that it has the length of the features or
# length 1, which then applies to all. A model with an offset for each feature and one scale (or
# the reverse) passes onnx.checker with its full check and runs in ONNX's reference evaluator, but
# onnxruntime refuses to load it: it wants both to have one length.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check numpy==2.4.6 onnx==1.23.2 onnxruntime==1.32.0
"$dir/venv/bin/python" - <<'PY'
import sys
import numpy as np, onnx, onnxruntime
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

onnxruntime.set_default_logger_severity(4)
x = np.array([[1, 2, 3]], dtype=np.float32)
same = True
for offset, scale in (([1.0] * 3, [2.0] * 3), ([1.0], [2.0]), ([1.0] * 3, [2.0]), ([1.0], [2.0] * 3)):
    node = helper.make_node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=offset, scale=scale)
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None, 3]) for n in "xy"]
    model = helper.make_model(helper.make_graph([node], "g", values[:1], values[1:]), ir_version=8,
                              opset_imports=[helper.make_opsetid("ai.onnx.ml", 1), helper.make_opsetid("", 13)])
    onnx.checker.check_model(model, full_check=True)
    want = ReferenceEvaluator(model).run(None, {"x": x})[0]
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        got = "runs" if np.array_equal(session.run(None, {"x": x})[0], want) else "runs, with another result"
    except Exception as e:
        got = "refused" if "scale_.size() == offset_.size()" in str(e) else f"another error: {e}"
    print(f"{len(offset)} offsets, {len(scale)} scales: checker accepts, reference gives {want.tolist()}, onnxruntime: {got}")
    same = same and got == ("runs" if len(offset) == len(scale) else "refused")
print("as stated" if same and onnxruntime.__version__ == "1.32.0" else "CHANGED: this is not what the finding states")
sys.exit(not same)
PY
