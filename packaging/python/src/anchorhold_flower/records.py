"""Flower's records, of the Message API and of its older clients, read and made.

Replies are made anew, from what was checked: nothing of what an app returned is
forwarded as it was.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from flwr.app import Array, ArrayRecord, ConfigRecord, MetricRecord, RecordDict
from flwr.common import Code, EvaluateRes, FitRes, Parameters, Status
from flwr.compat.common import recorddict_compat as compat

from .settings import Metric

ROUND_KEY = "anchorhold-round"
"""Where the server's configuration names the round of a training message."""

OUTCOME_KEY = "anchorhold-outcome"
SUBMITTED = "submitted"
NO_EXAMPLES = "no-examples"
WEIGHT_KEY = "num-examples"

NDArray = npt.NDArray[Any]

_ROUND = re.compile(r"[0-9a-f]{32}")


CODES = frozenset({
    "message-type-not-protected", "round-not-named", "round-mismatch", "request-invalid", "reply-not-protectable", "reply-invalid",
    "arrays-invalid", "num-examples-invalid", "metrics-not-named", "metric-invalid", "configuration-invalid", "client-exception",
    "client-error", "agent-unreachable", "agent-timeout", "agent-refused",
})
"""The codes of this package. An app can raise Withheld too: no other code of it leaves."""


class Withheld(Exception):
    """Why a reply did not leave the client. code is stable and all that the server is
    told; message is for the client's own log."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True)
class Training:
    """What a training message asks: the round that takes the update, and the model."""

    round_id: str
    record: str
    names: tuple[str, ...]
    arrays: tuple[NDArray, ...]
    legacy: bool

    @property
    def length(self) -> int:
        """Values of the model."""
        return sum(a.size for a in self.arrays)


@dataclass(frozen=True)
class Trained:
    """What an app returned: the difference to the model that it was sent, the number of
    its examples, and its metrics as they were."""

    difference: npt.NDArray[np.float32]
    examples: int
    metrics: Mapping[str, object]


def is_legacy(content: RecordDict, kind: str) -> bool:
    """Whether a message is one of NumPyClient's, which have records of fixed names."""
    return f"{kind}.parameters" in content.array_records


def read_training(content: RecordDict) -> Training:
    """Reads a training message; its arrays are copied, for apps may change theirs."""
    legacy = is_legacy(content, "fitins")
    if len(content.array_records) != 1:
        raise Withheld("request-invalid", f"the message has {len(content.array_records)} array records; an update is the difference to one")
    [(record, arrays)] = content.array_records.items()
    named = [str(c[ROUND_KEY]) for c in content.config_records.values() if ROUND_KEY in c]
    if len(named) != 1 or not _ROUND.fullmatch(named[0]):
        raise Withheld("round-not-named", f"the message's configuration names no round ({ROUND_KEY}): does the server use AnchorholdFedAvg?")
    return Training(named[0], record, tuple(arrays), tuple(_numbers(a) for a in _arrays(arrays)), legacy)


def _arrays(record: ArrayRecord) -> list[NDArray]:
    try:
        return [np.asarray(a.numpy()) for a in record.values()]  # no method of an app's own class is called later
    except Exception as e:
        raise Withheld("arrays-invalid", "an array is not one that numpy.save wrote") from e


def _numbers(a: NDArray) -> NDArray:
    if a.dtype.kind not in "fiu":
        raise Withheld("arrays-invalid", f"an array holds {a.dtype}: only real numbers can be added in a round")
    return a


def read_trained(content: RecordDict, asked: Training) -> Trained:
    """Reads what an app returned to a training message. What a round cannot carry is
    refused, not dropped: another set of arrays, bytes, text."""
    if asked.legacy:
        return _read_fitres(content, asked)
    if len(content.array_records) != 1 or asked.record not in content.array_records:
        raise Withheld("reply-not-protectable", f"the reply's array records are {_list(content.array_records)}; only {asked.record!r}, which the message had, can be protected")
    if content.config_records:
        raise Withheld("reply-not-protectable", f"the reply has configuration records {_list(content.config_records)}, which cannot be protected")
    arrays = content.array_records[asked.record]
    if tuple(arrays) != asked.names:
        raise Withheld("reply-not-protectable", "the reply's arrays have other names than the message's, or another order")
    metrics = read_metrics(content)
    return Trained(_difference(_arrays(arrays), asked), _examples(metrics.get(WEIGHT_KEY)), metrics)


def _read_fitres(content: RecordDict, asked: Training) -> Trained:
    try:
        result = compat.recorddict_to_fitres(content, keep_input=False)
    except (KeyError, TypeError, ValueError) as e:
        raise Withheld("reply-invalid", "the client returned no FitRes") from e
    _ok(result.status)
    examples = _examples(result.num_examples)
    return Trained(_difference(_legacy_arrays(result.parameters), asked), examples, {**result.metrics, WEIGHT_KEY: examples})


def _legacy_arrays(parameters: Parameters) -> list[NDArray]:
    return _arrays(compat.parameters_to_arrayrecord(parameters, keep_input=True)) if parameters.tensors else []


def _ok(status: Status) -> None:
    if status.code != Code.OK:
        raise Withheld("client-error", f"the client returned status {status.code.name}: {status.message}")


def _difference(after: Sequence[NDArray], asked: Training) -> npt.NDArray[np.float32]:
    if [a.shape for a in after] != [b.shape for b in asked.arrays]:
        raise Withheld("reply-not-protectable", "the reply's arrays have other shapes than the message's")
    with np.errstate(all="ignore"):  # the agent refuses what is not finite, as vector-invalid
        parts = [(_numbers(a).astype(np.float64) - b.astype(np.float64)).ravel() for a, b in zip(after, asked.arrays, strict=True)]
        return np.concatenate(parts).astype(np.float32) if parts else np.empty(0, np.float32)


def _examples(value: object) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Withheld("num-examples-invalid", f"the reply needs {WEIGHT_KEY!r}, a whole number from 0: it is the update's weight")
    return value


def _list(records: Mapping[str, object]) -> str:
    return ", ".join(map(repr, records)) or "none"


def read_metrics(content: RecordDict) -> dict[str, object]:
    """All metrics of a reply."""
    out: dict[str, object] = {}
    for record in content.metric_records.values():
        for name, value in record.items():
            if name in out:
                raise Withheld("metric-invalid", f"metric {name!r} is in two records")
            out[name] = value
    return out


@dataclass(frozen=True)
class Evaluated:
    """What an app returned to an evaluation."""

    examples: int
    metrics: Mapping[str, object]


def read_evaluated(content: RecordDict, legacy: bool) -> Evaluated:
    """Reads what an app returned to an evaluation; arrays and text are refused."""
    if legacy:
        try:
            result = compat.recorddict_to_evaluateres(content)
        except (KeyError, TypeError, ValueError) as e:
            raise Withheld("reply-invalid", "the client returned no EvaluateRes") from e
        _ok(result.status)
        examples = _examples(result.num_examples)
        return Evaluated(examples, {**result.metrics, "loss": result.loss, WEIGHT_KEY: examples})
    if content.array_records or content.config_records:
        raise Withheld("reply-not-protectable", "the reply to an evaluation has records besides metrics")
    metrics = read_metrics(content)
    return Evaluated(_examples(metrics.get(WEIGHT_KEY)), metrics)


def release(metrics: Mapping[str, object], named: Mapping[str, Metric]) -> dict[str, float]:
    """The metrics that the configuration names, clamped and rounded. One that is named
    and is no finite number is refused."""
    out: dict[str, float] = {}
    for name, rule in named.items():
        if name not in metrics:
            continue
        value = metrics[name]
        if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)) or not np.isfinite(value):
            raise Withheld("metric-invalid", f"metric {name!r} is no finite number")
        out[name] = rule.released(float(value))
    return out


def trained_reply(legacy: bool, outcome: str, released: Mapping[str, float]) -> RecordDict:
    """The reply to a training message. Its weight says whether there is a contribution,
    not how many examples are in it, unless the configuration names that number."""
    weight = _weight(outcome == SUBMITTED, released)
    if legacy:
        metrics: dict[str, Any] = {**{k: v for k, v in released.items() if k != WEIGHT_KEY}, OUTCOME_KEY: outcome}
        result = FitRes(Status(Code.OK, ""), Parameters([], "numpy.ndarray"), int(weight), metrics)
        return compat.fitres_to_recorddict(result, keep_input=False)
    return RecordDict(
        {"metrics": MetricRecord({**released, WEIGHT_KEY: weight}), "anchorhold": ConfigRecord({OUTCOME_KEY: outcome})}
    )


def evaluated_reply(legacy: bool, any_examples: bool, released: Mapping[str, float]) -> RecordDict:
    """The reply to an evaluation."""
    weight = _weight(any_examples, released)
    if legacy:
        rest: dict[str, Any] = {k: v for k, v in released.items() if k not in ("loss", WEIGHT_KEY)}
        return compat.evaluateres_to_recorddict(EvaluateRes(Status(Code.OK, ""), released["loss"], int(weight), rest))
    return RecordDict({"metrics": MetricRecord({**released, WEIGHT_KEY: weight})})


def _weight(counts: bool, released: Mapping[str, float]) -> float | int:
    return released.get(WEIGHT_KEY, 1) if counts else 0


def outcome_of(content: RecordDict) -> str | None:
    """What a reply to a training message says became of the update; None if the reply
    is not one of anchorhold_mod."""
    if content.array_records:
        return None
    for record in content.config_records.values():
        if record.get(OUTCOME_KEY) in (SUBMITTED, NO_EXAMPLES):
            return str(record[OUTCOME_KEY])
    return None


def add(arrays: Sequence[NDArray], mean: npt.NDArray[np.float32]) -> list[NDArray]:
    """A model with a round's mean added to it, in the types that it had."""
    if mean.size != sum(a.size for a in arrays):
        raise ValueError(f"the round has {mean.size} values, the model {sum(a.size for a in arrays)}")
    out, at = [], 0
    for a in arrays:
        new = a.astype(np.float64) + mean[at : at + a.size].reshape(a.shape).astype(np.float64)
        out.append((np.rint(new) if a.dtype.kind in "iu" else new).astype(a.dtype))
        at += a.size
    return out


def to_record(names: Sequence[str], arrays: Sequence[NDArray]) -> ArrayRecord:
    """Arrays under their names."""
    return ArrayRecord({n: Array(np.ascontiguousarray(a)) if a.ndim else Array(np.asarray(a)) for n, a in zip(names, arrays, strict=True)})
