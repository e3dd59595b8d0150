#!/usr/bin/env bash
# skl2onnx 1.20.0 with scikit-learn 1.9.1: to_onnx converts LinearSVC by itself, and pipelines of
# StandardScaler with LogisticRegression or RidgeClassifier, but refuses the pipeline of
# StandardScaler and LinearSVC with its default arguments: NameError, option "zipmap" is none of
# LinearSVC's, although nobody named it. Naming it for the last step ({"zipmap": False}) ends the
# same; naming an option that changes nothing of it but is LinearSVC's own ({"raw_scores": True})
# makes it convert.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check numpy==2.4.6 onnx==1.23.2 scikit-learn==1.9.1 skl2onnx==1.20.0
"$dir/venv/bin/python" - <<'PY'
import sys, warnings
warnings.filterwarnings("ignore")
import numpy as np
from skl2onnx import to_onnx
from sklearn.linear_model import LogisticRegression, RidgeClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

rng = np.random.default_rng(1)
x = rng.normal(size=(60, 4)).astype(np.float32)
y = np.arange(60) % 3

def convert(model, **options):
    model.fit(x, y)
    last = model[-1] if hasattr(model, "steps") else model
    try:
        to_onnx(model, x[:1], **({"options": {id(last): options}} if options else {}))
        return "converted"
    except NameError as e:
        return "NameError"

seen = {
    "LinearSVC": convert(LinearSVC()),
    "StandardScaler, LogisticRegression": convert(make_pipeline(StandardScaler(), LogisticRegression())),
    "StandardScaler, RidgeClassifier": convert(make_pipeline(StandardScaler(), RidgeClassifier())),
    "StandardScaler, LinearSVC": convert(make_pipeline(StandardScaler(), LinearSVC())),
    "StandardScaler, LinearSVC, zipmap=False": convert(make_pipeline(StandardScaler(), LinearSVC()), zipmap=False),
    "StandardScaler, LinearSVC, raw_scores=True": convert(make_pipeline(StandardScaler(), LinearSVC()), raw_scores=True),
}
for what, how in seen.items():
    print(f"{what}: {how}")
same = list(seen.values()) == ["converted"] * 3 + ["NameError"] * 2 + ["converted"]
print("as stated" if same else "CHANGED: this is not what the finding states")
sys.exit(not same)
PY
