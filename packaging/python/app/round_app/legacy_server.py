"""Federated averaging with the older API."""

from __future__ import annotations

from flwr.app import Context
from flwr.common import Parameters, Scalar, ndarrays_to_parameters
from flwr.server import ServerApp, ServerAppComponents, ServerConfig

from anchorhold_flower.legacy import AnchorholdFedAvg

from . import task
from .rounds import rounds_of


class Reporting(AnchorholdFedAvg):
    """Says what each round came to, for the log that flwr run shows."""

    def aggregate_fit(self, server_round: int, results, failures):  # type: ignore[no-untyped-def]
        out: tuple[Parameters | None, dict[str, Scalar]] = super().aggregate_fit(server_round, results, failures)
        print(f"TRAINED round={server_round} contributions={int(out[1].get('contributions', 0))} failures={len(failures)}", flush=True)
        return out

    def aggregate_evaluate(self, server_round: int, results, failures):  # type: ignore[no-untyped-def]
        out: tuple[float | None, dict[str, Scalar]] = super().aggregate_evaluate(server_round, results, failures)
        print(f"EVALUATED round={server_round} loss={out[0]} failures={len(failures)}", flush=True)
        return out


def server_fn(context: Context) -> ServerAppComponents:
    strategy = Reporting(
        rounds_of(context), initial_parameters=ndarrays_to_parameters(list(task.initial())), min_fit_clients=2, min_evaluate_clients=2, min_available_clients=2)
    return ServerAppComponents(strategy=strategy, config=ServerConfig(num_rounds=int(context.run_config["num-rounds"]), round_timeout=1200))


app = ServerApp(server_fn=server_fn)
