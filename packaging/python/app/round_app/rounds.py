"""The server's rounds, from the run's configuration."""

from __future__ import annotations

from flwr.app import Context

from anchorhold_fed import Agent, Operator, Rounds, Terms


def rounds_of(context: Context) -> Rounds:
    config = {k: str(v) for k, v in context.run_config.items()}
    operator = Operator(config["broker"], [config["aggregator"]], program=config["program"])
    terms: Terms = {
        "model": "flower", "clip_l2": 50.0, "clip_linf": 5.0, "minimum": 2, "maximum": 2, "max_weight": 100, "duration": "2h",
        "contributor_policy": config["policy"], "decryptor_policy": config["policy"],
    }
    return Rounds(operator, Agent(config["decryptor"]), terms, timeout=300)
