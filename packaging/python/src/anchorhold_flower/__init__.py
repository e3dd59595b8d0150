"""Flower with Anchorhold's rounds: no update reaches the server outside a round.

A client's update leaves its guest through the attested agent, encrypted; Flower's
server is told that it was submitted, and goes on with the published mean. Every other
reply carries the numbers that the node's own configuration names, or is refused with a
reason code. Tested with flwr 1.42, with the Message API and with NumPyClient.

On the client, named in pyproject.toml in place of the app that it protects:

    app = protect("my_app.client_app:app")      # or protect(ClientApp(...))

On the server:

    rounds = Rounds(Operator(broker, [aggregator]), Agent(decryptor), terms)
    AnchorholdFedAvg(rounds).start(grid, initial_arrays, num_rounds=3)

What it cannot do: the app is what the SuperLink delivers. An app without protect()
sends what it likes; SuperNodes started with --trusted-entities run signed apps only.
"""

from .guard import anchorhold_mod, protect
from .records import ROUND_KEY, Withheld
from .settings import Metric, Settings, parse_metrics
from .strategy import AnchorholdFedAvg, UpdateInTheClear

__all__ = [
    "ROUND_KEY",
    "AnchorholdFedAvg",
    "Metric",
    "Settings",
    "UpdateInTheClear",
    "Withheld",
    "anchorhold_mod",
    "parse_metrics",
    "protect",
]
