"""Federated averaging over sums that nobody sees apart, for the Message API."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import numpy as np
from flwr.app import ArrayRecord, ConfigRecord, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid
from flwr.serverapp.strategy import FedAvg

from anchorhold_fed import Published, Refused, Rounds

from . import records

log = logging.getLogger("flwr.anchorhold")

_TOO_SMALL = "cohort-too-small"


class UpdateInTheClear(ValueError):
    """A client answered with its model: it runs an app that is not protected."""


def publish(rounds: Rounds, round_id: str) -> Published | None:
    """Publishes a round. One that too few contributed to is given up: None."""
    try:
        return rounds.publish(round_id)
    except Refused as e:
        if e.code != _TOO_SMALL:
            raise
        log.warning("round %s is given up and the model stays as it was: %s", round_id, e)
        rounds.abandon(round_id)
        return None


def told(published: Published) -> dict[str, float]:
    """What is told of a round with the training's metrics, and in the log. The epsilon that
    the account has spent after it in all its rounds with noise has a name that says between
    what it is: spent-epsilon-add-remove, a contribution more or less, weights being public.
    To replace one doubles the sensitivity. Without noise there is none."""
    metrics: dict[str, float] = {"contributions": published.count, "expected-error": published.error}
    text = f"{published.count} contributions; their mean is expected to be off by {published.error:.2g} of clip_l2"
    if published.epsilon:
        metrics[f"spent-epsilon-{published.adjacency}"] = published.epsilon
        text += f"; the account has spent an epsilon of {published.epsilon:.4g} at delta {published.delta:g} ({published.adjacency})"
    log.info("%s", text)
    return metrics


class AnchorholdFedAvg(FedAvg):
    """FedAvg that opens a round for each training, and adds its published mean to the
    model. Each contribution has the weight of its examples, up to the round's max_weight;
    a client without examples has none.

    kwargs are FedAvg's. Training metrics gain contributions, the mean's
    expected-error as a part of the round's clip_l2 and, where rounds of the account had
    noise, the epsilon that it has spent in all of them."""

    def __init__(self, rounds: Rounds, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if self.weighted_by_key != records.WEIGHT_KEY:
            raise ValueError(f"replies are weighted by {records.WEIGHT_KEY!r}, not by {self.weighted_by_key!r}")
        self.rounds = rounds
        self._arrays: ArrayRecord = ArrayRecord()
        self._round = ""

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid) -> Iterable[Message]:
        """Opens the round once there are nodes to train, and names it to them."""
        messages = list(super().configure_train(server_round, arrays, config, grid))
        if not messages:
            return []
        self._arrays = arrays
        self._round = self.rounds.open(sum(a.numpy().size for a in arrays.values()))
        for message in messages:
            message.content.config_records[self.configrecord_key][records.ROUND_KEY] = self._round
        return messages

    def aggregate_train(self, server_round: int, replies: Iterable[Message]) -> tuple[ArrayRecord | None, MetricRecord | None]:
        """Publishes the round. A reply that carries an update is an error."""
        if not self._round:
            return None, None
        name, self._round = self._round, ""
        valid, _ = self._check_and_log_replies(list(replies), is_train=True, validate=False)
        outcomes = [records.outcome_of(m.content) for m in valid]
        if None in outcomes:
            self.rounds.abandon(name)
            raise UpdateInTheClear("a client answered without anchorhold_mod: its update came in the clear, if it sent one")
        published = publish(self.rounds, name)
        if published is None:
            return None, None
        model = records.add([a.numpy() for a in self._arrays.values()], np.frombuffer(published.mean, np.float32))
        metrics = self._average(valid, self.train_metrics_aggr_fn) or MetricRecord()
        metrics.update(told(published))
        return records.to_record(list(self._arrays), model), metrics

    def aggregate_evaluate(self, server_round: int, replies: Iterable[Message]) -> MetricRecord | None:
        """Averages the metrics that the nodes let through."""
        valid, _ = self._check_and_log_replies(list(replies), is_train=False, validate=False)
        return self._average(valid, self.evaluate_metrics_aggr_fn)

    def _average(self, replies: list[Message], average: Any) -> MetricRecord | None:
        """Over the replies that have a weight: FedAvg divides by the sum of the weights.
        Metrics that not all of them have are left out."""
        weighed = [r for m in replies if (r := _metrics(m)) and _above_zero(r.get(records.WEIGHT_KEY))]
        if not weighed:
            return None
        common = set.intersection(*(set(r) for r in weighed))
        same = [RecordDict({"metrics": MetricRecord({k: v for k, v in r.items() if k in common})}) for r in weighed]
        out: MetricRecord = average(same, records.WEIGHT_KEY)
        return out


def _metrics(reply: Message) -> MetricRecord | None:
    return next(iter(reply.content.metric_records.values()), None)


def _above_zero(weight: object) -> bool:
    return isinstance(weight, (int, float)) and weight > 0
