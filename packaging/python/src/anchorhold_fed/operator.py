"""Opening and closing rounds.

The rules of a round (which contributions count, over which sum it closes) are those of
the command line anchorhold, which this module runs; they are written once. Whether this
process may operate the broker is the broker's decision for every request, by the user
at the other end of its socket (operator_uids in its configuration).
"""

from __future__ import annotations

import array
import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .agent import Agent, Refused, named

DEFAULT_BROKER = "/run/anchorhold-broker/operator.sock"
DEFAULT_AGGREGATOR = "/run/anchorhold-aggregator/admin.sock"

Terms = Mapping[str, str | int | float | bool | Sequence[str]]
"""A round's terms by the names of the command's options, with _ for -: clip_l2,
epsilon, contributor_tenant. True is an option without a value, a sequence one that is
repeated."""

_OPTION = re.compile(r"[a-z][a-z0-9_]*")
_REFUSED = 3  # exit status of a refusal


class Operator:
    """The broker's operator and its aggregators, by their sockets. program is the
    command anchorhold, timeout in seconds of one command."""

    def __init__(
        self,
        broker: str = DEFAULT_BROKER,
        aggregators: Sequence[str] = (DEFAULT_AGGREGATOR,),
        program: str = "anchorhold",
        timeout: float = 600,
    ) -> None:
        if isinstance(aggregators, str) or not aggregators:
            raise ValueError("aggregators is a list of one socket or more, of shards in their order")
        self.broker, self.aggregators, self.program, self.timeout = broker, list(aggregators), program, timeout

    def open_round(self, **terms: str | int | float | bool | Sequence[str]) -> dict[str, Any]:
        """Opens a round and hands it to the aggregators; returns its statement. The
        terms are the options of `anchorhold fed round open`; model, length, clip_l2 and
        who contributes and decrypts are needed."""
        return self._round("open", *_options(terms), aggregators=True)

    def status(self, round_id: str) -> dict[str, Any]:
        """The round as the broker has it."""
        return self._round("status", named(round_id))

    def close_round(self, round_id: str) -> dict[str, Any]:
        """Admits what is complete, adds it and closes the round over it for ever. Called
        again after an interruption, it goes on where it stopped."""
        return self._round("close", named(round_id), aggregators=True)

    def finish_round(self, round_id: str) -> dict[str, Any]:
        """Hands the published result to the broker, which destroys the round's key."""
        return self._round("finish", named(round_id), aggregators=True)

    def abandon_round(self, round_id: str) -> dict[str, Any]:
        """Ends an open round: its key is destroyed, nothing is charged."""
        return self._round("abandon", named(round_id))

    def _round(self, command: str, *args: str, aggregators: bool = False) -> dict[str, Any]:
        line = [self.program, "fed", "round", command, *args, "--json", f"--broker={self.broker}"]
        if aggregators:
            line += [f"--aggregator={socket}" for socket in self.aggregators]
        try:
            done = subprocess.run(line, capture_output=True, text=True, timeout=self.timeout, stdin=subprocess.DEVNULL, check=False)
        except FileNotFoundError as e:
            raise FileNotFoundError(f"no command {self.program!r}: install anchorhold, or name it (program=)") from e
        if done.returncode == 0:
            answer = json.loads(done.stdout)
            if not isinstance(answer, dict):
                raise ValueError(f"anchorhold fed round {command} answered with {type(answer).__name__}, not an object")
            return answer
        raise _failure(done.returncode, done.stdout, done.stderr.strip())


def _options(terms: Terms) -> list[str]:
    """Every value stands in the argument of its option, so that none can be another option."""
    out: list[str] = []
    for name, value in terms.items():
        if not _OPTION.fullmatch(name) or name in ("json", "broker", "aggregator"):
            raise ValueError(f"{name!r} is no term of a round: see anchorhold fed round open --help")
        option = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            out.append(f"{option}={str(value).lower()}")
        elif isinstance(value, (str, int, float)):
            out.append(f"{option}={value}")
        else:
            out += [f"{option}={part}" for part in value]
    return out


def _failure(status: int, answer: str, said: str) -> Exception:
    """Reads {"error": {"reason", "message"}}. What is no refusal is an error of this
    machine or of the call."""
    try:
        error = json.loads(answer)["error"]
        reason, message = str(error["reason"]), str(error["message"])
    except (ValueError, KeyError, TypeError):  # it did not come as far as an answer
        reason, message = "refused", said
    if status == _REFUSED:
        return Refused(reason, message)
    return RuntimeError(f"anchorhold ended with status {status}: {message}")


@dataclass(frozen=True)
class Published:
    """What a round published: contributions and the weighted mean; and the epsilon, at
    delta, that the round's account has spent after it in all its rounds with noise (0 if
    there were none; rounds without noise are not in it, and have no epsilon). adjacency
    names what epsilon tells apart: "add-remove" is a contribution more or less, weights
    being public; to replace one doubles the sensitivity. error is how far the mean is
    expected to be off, as a part of the round's clip_l2: it grows as max_weight divided by
    the mean weight of the contributions."""

    count: int
    epsilon: float
    delta: float
    adjacency: str
    error: float
    mean: array.array[float]


class Rounds:
    """Rounds of one training: opened with the same terms, closed, decrypted and read.

    decryptor is the agent of a guest that the terms let decrypt; reader, by default the
    same, is the agent that verifies and hands out the mean. length comes with each round.
    """

    def __init__(self, operator: Operator, decryptor: Agent, terms: Terms, reader: Agent | None = None, timeout: float = 3600) -> None:
        if "length" in terms:
            raise ValueError("length is not among the terms: it is the model's")
        self.operator, self.decryptor, self.reader = operator, decryptor, reader or decryptor
        self.terms, self.timeout = dict(terms), timeout

    def open(self, length: int) -> str:
        """Opens a round of vectors with length values and returns its id."""
        return named(str(self.operator.open_round(**self.terms, length=length)["round"]))

    def publish(self, round_id: str) -> Published:
        """Closes the round over what is complete, has it decrypted once, and has the
        broker destroy its key. Raises Refused (cohort-too-small and others)."""
        self.operator.close_round(round_id)
        self.decryptor.wait(self.decryptor.decrypt(round_id), self.timeout)
        self.operator.finish_round(round_id)
        result = self.reader.result(round_id)
        return Published(
            count=int(result["count"]),
            epsilon=float(result["spent_epsilon"]),
            delta=float(result["delta"]),
            adjacency=str(result["adjacency"]),
            error=float(result["expected_error"]["relative"]),
            mean=self.reader.values(round_id),
        )

    def abandon(self, round_id: str) -> None:
        """Gives up a round that is open; nothing is charged."""
        self.operator.abandon_round(round_id)
