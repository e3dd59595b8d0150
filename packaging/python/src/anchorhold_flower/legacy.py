"""Federated averaging for ServerApps of Flower's older API (server_fn, NumPyClient)."""

from __future__ import annotations

from typing import Any

import numpy as np
from flwr.common import EvaluateRes, FitIns, FitRes, Parameters, Scalar, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.server.client_manager import ClientManager
from flwr.server.client_proxy import ClientProxy
from flwr.server.strategy import FedAvg

from anchorhold_fed import Rounds

from . import records
from .strategy import UpdateInTheClear, publish, told

__all__ = ["AnchorholdFedAvg"]


class AnchorholdFedAvg(FedAvg):
    """FedAvg that opens a round for each training, and adds its published mean to the
    model. initial_parameters are needed: no client is asked for its own, which nothing
    protects. kwargs are FedAvg's. Training metrics gain what those of the Message
    API's strategy do."""

    def __init__(self, rounds: Rounds, *, initial_parameters: Parameters, **kwargs: Any) -> None:
        super().__init__(initial_parameters=initial_parameters, **kwargs)
        self.rounds = rounds
        self._model: list[records.NDArray] = []
        self._round = ""

    def configure_fit(self, server_round: int, parameters: Parameters, client_manager: ClientManager) -> list[tuple[ClientProxy, FitIns]]:
        """Opens the round once there are clients to train, and names it to them."""
        asked = super().configure_fit(server_round, parameters, client_manager)
        if not asked:
            return []
        self._model = list(parameters_to_ndarrays(parameters))
        self._round = self.rounds.open(sum(a.size for a in self._model))
        return [(c, FitIns(i.parameters, {**i.config, records.ROUND_KEY: self._round, "server_round": server_round})) for c, i in asked]

    def aggregate_fit(
        self, server_round: int, results: list[tuple[ClientProxy, FitRes]], failures: list[tuple[ClientProxy, FitRes] | BaseException]
    ) -> tuple[Parameters | None, dict[str, Scalar]]:
        """Publishes the round. A reply that carries an update is an error."""
        if not self._round:
            return None, {}
        name, self._round = self._round, ""
        outcomes = [r.metrics.get(records.OUTCOME_KEY) for _, r in results]
        if any(r.parameters.tensors for _, r in results) or not set(outcomes) <= {records.SUBMITTED, records.NO_EXAMPLES}:
            self.rounds.abandon(name)
            raise UpdateInTheClear("a client answered without anchorhold_mod: its update came in the clear, if it sent one")
        if failures and not self.accept_failures:
            self.rounds.abandon(name)
            return None, {}
        published = publish(self.rounds, name)
        if published is None:
            return None, {}
        model = records.add(self._model, np.frombuffer(published.mean, np.float32))
        metrics: dict[str, Scalar] = {}
        weighed = [(r.num_examples, {k: v for k, v in r.metrics.items() if k != records.OUTCOME_KEY}) for _, r in results if r.num_examples]
        if self.fit_metrics_aggregation_fn and weighed:
            metrics = dict(self.fit_metrics_aggregation_fn(weighed))
        metrics.update(told(published))
        return ndarrays_to_parameters(model), metrics

    def aggregate_evaluate(
        self, server_round: int, results: list[tuple[ClientProxy, EvaluateRes]], failures: list[tuple[ClientProxy, EvaluateRes] | BaseException]
    ) -> tuple[float | None, dict[str, Scalar]]:
        """Averages over the clients that have examples: FedAvg divides by their number."""
        return super().aggregate_evaluate(server_round, [(c, r) for c, r in results if r.num_examples], failures)
