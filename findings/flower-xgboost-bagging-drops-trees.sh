#!/usr/bin/env bash
# Flower 1.42.0 with xgboost 3.2.0: FedXgbBagging, which is to add the trees of all clients to the global model, takes
# of each client's part as many trees as num_parallel_tree says (1 by default) and drops the rest
# without a word. One boosting round on two classes sends just that many. But with 5 local rounds a client
# sends 5 trees and 4 are lost; only the first client of the first round is kept whole, as nothing is
# there yet to add to. With 3 classes each boosting round has 3 trees, one for each class, of which
# the first is kept, and all that are added count for class 0: the other classes have no tree but those
# of that first client, so they stand still from then on, and which client comes first decides.
set -euo pipefail
dir=$(mktemp -d); trap 'rm -rf "$dir"' EXIT
python3 -m venv "$dir/venv"
"$dir/venv/bin/pip" install -q --disable-pip-version-check numpy==2.4.6 flwr==1.42.0 xgboost-cpu==3.2.0
FLWR_TELEMETRY_ENABLED=0 "$dir/venv/bin/python" - <<'PY'
import json, logging, sys, warnings
warnings.filterwarnings("ignore")
import numpy as np, xgboost
from flwr.app import ArrayRecord, Message, MetricRecord, RecordDict
from flwr.serverapp.strategy import FedXgbBagging
from flwr.supercore.task_identity import TaskIdentity

logging.getLogger("flwr").setLevel(logging.ERROR)
TaskIdentity.run_id = TaskIdentity.node_id = TaskIdentity.task_id = 1  # which Flower's processes set for themselves
rng = np.random.default_rng(1)

def data(rows, classes):
    x = rng.normal(size=(rows, 4)).astype(np.float32)
    return xgboost.DMatrix(x, np.digitize(x[:, 0] + 0.3 * x[:, 1], [0] if classes == 2 else [-0.5, 0.5]))

def reply(part, rows):
    arrays = ArrayRecord([np.frombuffer(bytes(part.save_raw("json")), dtype=np.uint8)])
    content = RecordDict({"arrays": arrays, "metrics": MetricRecord({"num-examples": rows})})
    return Message(content, dst_node_id=1, message_type="train")

def federate(classes, local, parallel=1, rounds=10, clients=2):
    """Each client adds its local rounds to the global model and sends what it added."""
    options = {"max_depth": 3, "nthread": 1, "seed": 1, "num_parallel_tree": parallel}
    options |= {"objective": "binary:logistic"} if classes == 2 else {"objective": "multi:softprob", "num_class": classes}
    shares = [data(300, classes) for _ in range(clients)]
    strategy, model, sent = FedXgbBagging(), b"", 0
    for r in range(rounds):
        parts = []
        for share in shares:
            booster = xgboost.Booster(options)
            if model:
                booster.load_model(bytearray(model))
                for _ in range(local):
                    booster.update(share, booster.num_boosted_rounds())
                part = booster[booster.num_boosted_rounds() - local:]
            else:
                part = xgboost.train(options, share, num_boost_round=local)
            sent += len(part.get_dump())
            parts.append(reply(part, 300))
        strategy.current_bst = model
        arrays, _ = strategy.aggregate_train(r + 1, parts)
        model = arrays["0"].numpy().tobytes()
    trees = json.loads(model)["learner"]["gradient_booster"]["model"]
    return sent, len(trees["trees"]), [trees["tree_info"].count(c) for c in range(classes if classes > 2 else 1)]

same = True
for what, arguments, stated in [
    ("2 classes, 1 local round", dict(classes=2, local=1), (20, 20, [20])),
    ("2 classes, 1 local round of 3 parallel trees", dict(classes=2, local=1, parallel=3), (60, 60, [60])),
    ("2 classes, 5 local rounds", dict(classes=2, local=5), (100, 24, [24])),
    ("3 classes, 1 local round", dict(classes=3, local=1), (60, 22, [20, 1, 1])),
]:
    sent, kept, by_class = seen = federate(**arguments)
    print(f"{what}, 2 clients, 10 rounds: {sent} trees sent, {kept} in the global model" + (f", {by_class} for each class" if len(by_class) > 1 else ""))
    same = same and seen == stated
print("as stated" if same else "CHANGED: this is not what the finding states")
sys.exit(not same)
PY
