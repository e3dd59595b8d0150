"""What a node lets its apps send, from the configuration of its SuperNode.

    flower-supernode ... --node-config node.toml

    anchorhold-socket = "/run/anchorhold/agent.sock"
    anchorhold-metrics = "accuracy=0:1:0.01,loss=0:10:0.01"
    anchorhold-timeout = 3600

It is the node's and not the app's or the server's, which both come from elsewhere.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from anchorhold_fed import DEFAULT_SOCKET, Agent

MAX_METRICS = 16
MAX_LEVELS = 1 << 16

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,63}")


@dataclass(frozen=True)
class Metric:
    """A number that may reach the server: clamped to low..high and rounded to a multiple
    of step from low. It has 65,536 levels at most, so that it tells 16 bits at most."""

    low: float
    high: float
    step: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(x) for x in (self.low, self.high, self.step)) or self.step <= 0 or self.high <= self.low:
            raise ValueError(f"a metric is LOW:HIGH:STEP with LOW below HIGH and STEP above 0, not {self.low}:{self.high}:{self.step}")
        if self.levels > MAX_LEVELS:
            raise ValueError(f"{self.low}:{self.high}:{self.step} has {self.levels} levels; {MAX_LEVELS} are the most: take a larger STEP")

    @property
    def levels(self) -> int:
        """How many values it can have."""
        return math.floor((self.high - self.low) / self.step + 1e-9) + 1

    def released(self, value: float) -> float:
        """The value as the server gets it."""
        level = round((min(max(value, self.low), self.high) - self.low) / self.step)
        # Twelve digits hide where the sum of two doubles is not the decimal that it means.
        return float(f"{self.low + min(level, self.levels - 1) * self.step:.12g}")


def parse_metrics(text: str) -> dict[str, Metric]:
    """Reads NAME=LOW:HIGH:STEP,...; an empty text names none."""
    out: dict[str, Metric] = {}
    for part in filter(None, (p.strip() for p in text.split(","))):
        name, equals, bounds = part.partition("=")
        numbers = bounds.split(":")
        if not equals or len(numbers) != 3 or not _NAME.fullmatch(name):
            raise ValueError(f"{part!r} is no metric: write NAME=LOW:HIGH:STEP, as accuracy=0:1:0.01")
        if name in out:
            raise ValueError(f"metric {name!r} is named twice")
        try:
            low, high, step = (float(n) for n in numbers)
        except ValueError:
            raise ValueError(f"{part!r}: LOW, HIGH and STEP are numbers") from None
        out[name] = Metric(low, high, step)
    if len(out) > MAX_METRICS:
        raise ValueError(f"{len(out)} metrics are named; {MAX_METRICS} are the most")
    return out


@dataclass(frozen=True)
class Settings:
    """The agent that takes the updates, the metrics that may be sent, and how long an
    upload may take in seconds."""

    agent: Agent = field(default_factory=Agent)
    metrics: Mapping[str, Metric] = field(default_factory=dict)
    timeout: float = 3600

    @classmethod
    def of_node(cls, node_config: Mapping[str, object]) -> Settings:
        """Reads a SuperNode's configuration. Unknown names that begin with anchorhold-
        are an error: one that is misspelt must not mean the default."""
        ours = {k.removeprefix("anchorhold-"): v for k, v in node_config.items() if k.startswith("anchorhold-")}
        path, text, timeout = ours.pop("socket", DEFAULT_SOCKET), ours.pop("metrics", ""), ours.pop("timeout", 3600)
        if ours:
            raise ValueError(f"node configuration: anchorhold-{min(ours)} is not known: anchorhold-socket, -metrics and -timeout are")
        if not isinstance(path, str) or not isinstance(text, str):
            raise ValueError("node configuration: anchorhold-socket and anchorhold-metrics are strings")
        if isinstance(timeout, bool) or not isinstance(timeout, (int, float)) or not 0 < timeout < math.inf:
            raise ValueError("node configuration: anchorhold-timeout is a number of seconds above 0")
        return cls(Agent(path), parse_metrics(text), float(timeout))
