"""Clients of the Message API."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from anchorhold_flower import Withheld

from . import task

unprotected = ClientApp()


def learn(message: Message, context: Context) -> tuple[task.NDArrays, npt.NDArray[np.float32], int, float]:
    before = message.content.array_records["arrays"].to_numpy_ndarrays()
    partition = int(context.node_config["partition-id"])
    after, change, n = task.learned(before, partition, message.metadata.message_type, str(context.node_config["evidence"]))
    return after, change, n, task.loss(after, partition)


def reply(message: Message, **records: Any) -> Message:
    return Message(RecordDict(records), reply_to=message)


def named(arrays: task.NDArrays) -> ArrayRecord:
    return ArrayRecord({str(i): Array(a) for i, a in enumerate(arrays)})


def metrics(change: npt.NDArray[np.float32], n: int, loss: float) -> MetricRecord:
    return MetricRecord({"num-examples": n, "loss": loss, "update": change.astype(float).tolist()})


@unprotected.train()
@unprotected.train("special")
def train(message: Message, context: Context) -> Message:
    after, change, n, loss = learn(message, context)
    return reply(message, arrays=named(after), metrics=metrics(change, n, loss))


@unprotected.train("second")
def second(message: Message, context: Context) -> Message:
    after, change, n, loss = learn(message, context)
    return reply(message, arrays=named(after), control=ArrayRecord([change]), metrics=metrics(change, n, loss))


@unprotected.train("failing")
@unprotected.evaluate("failing")
def failing(message: Message, context: Context) -> Message:
    _, change, _, _ = learn(message, context)
    raise RuntimeError(change.tobytes().hex())


@unprotected.train("coded")
def coded(message: Message, context: Context) -> Message:
    _, change, _, _ = learn(message, context)
    raise Withheld(change.tobytes().hex(), change.tobytes().hex())


@unprotected.train("returned")
def returned(message: Message, context: Context) -> Message:
    _, change, n, loss = learn(message, context)
    return reply(message, metrics=metrics(change, n, loss), note=ConfigRecord({"update": base64.b64encode(change.tobytes()).decode()}))


@unprotected.evaluate()
def evaluate(message: Message, context: Context) -> Message:
    _, change, n, loss = learn(message, context)
    return reply(message, metrics=metrics(change, n, loss))


@unprotected.evaluate("special")
def evaluate_special(message: Message, context: Context) -> Message:
    after, change, n, loss = learn(message, context)
    return reply(message, arrays=named(after), metrics=metrics(change, n, loss))


@unprotected.query()
@unprotected.query("special")
def query(message: Message, context: Context) -> Message:
    _, change, _, _ = learn(message, context)
    return reply(message, arrays=ArrayRecord([change]), note=ConfigRecord({"update": change.tobytes()}))
