"""Sends every type of message to every node, and prints what came back."""

from __future__ import annotations

import time

from flwr.app import ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.common import EvaluateIns, FitIns, GetParametersIns, GetPropertiesIns, ndarrays_to_parameters
from flwr.compat.common import recorddict_compat as compat
from flwr.serverapp import Grid, ServerApp

from anchorhold_flower import ROUND_KEY

from . import task
from .rounds import rounds_of

# train and evaluate are the other runs'; here they are for clients without protection.
KINDS = {
    ("message", True): (
        "train.special", "train.second", "train.returned", "train.failing", "train.coded", "train.absent", "evaluate.special", "evaluate.failing",
        "query", "query.special", "system", "reconnect",
    ),
    ("message", False): (
        "train", "train.special", "train.second", "train.returned", "train.failing", "train.coded", "evaluate", "evaluate.special", "evaluate.failing",
        "query", "query.special",
    ),
    ("legacy", True): ("train.special", "evaluate.special", "query", "system", "reconnect", "get_parameters", "get_properties"),
    ("legacy", False): ("train", "evaluate", "get_parameters", "get_properties"),
}

app = ServerApp()


def content(kind: str, legacy: bool, name: str) -> RecordDict:
    if kind == "get_parameters":
        return compat.getparametersins_to_recorddict(GetParametersIns({}))
    if kind == "get_properties":
        return compat.getpropertiesins_to_recorddict(GetPropertiesIns({}))
    if not legacy:
        return RecordDict({"arrays": ArrayRecord(task.initial()), "config": ConfigRecord({ROUND_KEY: name})})
    parameters = ndarrays_to_parameters(list(task.initial()))
    if kind.startswith("evaluate"):
        return compat.evaluateins_to_recorddict(EvaluateIns(parameters, {}), keep_input=True)
    return compat.fitins_to_recorddict(FitIns(parameters, {ROUND_KEY: name}), keep_input=True)


@app.main()
def main(grid: Grid, context: Context) -> None:
    api, guarded = str(context.run_config["api"]), bool(context.run_config["guarded"])
    while len(nodes := sorted(grid.get_node_ids())) < 2:
        time.sleep(1)
    rounds, length = rounds_of(context), task.flat(task.initial()).size
    messages, opened = [], {}
    for kind in KINDS[api, guarded]:
        name = "0" * 32
        if guarded and kind.startswith("train"):
            name = opened[kind] = rounds.open(length)
        # One node is enough where nothing is to be summed.
        shared = guarded and kind == "train.special"
        messages += [Message(content(kind, api == "legacy", name), dst_node_id=n, message_type=kind) for n in (nodes if shared else nodes[:1])]
    print(f"SENT {len(messages)} to {api} clients, protected: {guarded}", flush=True)
    for reply in sorted(grid.send_and_receive(messages, timeout=1500), key=lambda m: m.metadata.message_type):
        said = reply.error.reason if reply.has_error() else ", ".join(sorted(reply.content))
        print(f"PROBE {reply.metadata.message_type}: {(said or '')[:60]!r}", flush=True)
    for kind, name in opened.items():
        if api == "message" and kind == "train.special":
            print(f"PUBLISHED {kind} contributions={rounds.publish(name).count}", flush=True)
        else:
            rounds.abandon(name)
