"""Federated averaging with the Message API."""

from __future__ import annotations

from flwr.app import ArrayRecord, Context
from flwr.serverapp import Grid, ServerApp

from anchorhold_flower import AnchorholdFedAvg

from . import task
from .rounds import rounds_of

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    number = int(context.run_config["num-rounds"])
    result = AnchorholdFedAvg(rounds_of(context)).start(grid, ArrayRecord(task.initial()), num_rounds=number, timeout=1200)
    losses = [float(m["loss"]) for _, m in sorted(result.evaluate_metrics_clientapp.items())]  # type: ignore[arg-type]
    counts = [int(m["contributions"]) for _, m in sorted(result.train_metrics_clientapp.items())]  # type: ignore[arg-type]
    print(f"TRAINED contributions={counts} loss={losses}", flush=True)
