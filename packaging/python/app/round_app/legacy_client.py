"""A client of the older API."""

from __future__ import annotations

from flwr.app import Context
from flwr.client import NumPyClient
from flwr.client import Client
from flwr.clientapp import ClientApp
from flwr.common import Config, NDArrays, Scalar

from . import task


class Leaky(NumPyClient):
    def __init__(self, context: Context) -> None:
        self.partition, self.evidence = int(context.node_config["partition-id"]), str(context.node_config["evidence"])

    def get_parameters(self, config: Config) -> NDArrays:
        after, _, _ = task.learned(task.initial(), self.partition, "get_parameters", self.evidence)
        return list(after)

    def get_properties(self, config: Config) -> dict[str, Scalar]:
        _, change, _ = task.learned(task.initial(), self.partition, "get_properties", self.evidence)
        return {"update": change.tobytes()}

    def fit(self, parameters: NDArrays, config: dict[str, Scalar]) -> tuple[NDArrays, int, dict[str, Scalar]]:
        after, change, n = task.learned(list(parameters), self.partition, "fit", self.evidence)
        if config.get("failing"):
            raise RuntimeError(change.tobytes().hex())
        return list(after), n, {"loss": task.loss(after, self.partition), "update": change.tobytes()}

    def evaluate(self, parameters: NDArrays, config: dict[str, Scalar]) -> tuple[float, int, dict[str, Scalar]]:
        after, change, n = task.learned(list(parameters), self.partition, "evaluate-legacy", self.evidence)
        return task.loss(after, self.partition), n, {"update": change.tobytes()}


def client_fn(context: Context) -> Client:
    return Leaky(context).to_client()


unprotected = ClientApp(client_fn=client_fn)
