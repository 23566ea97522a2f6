"""``curvae fit --continue RUN``: one more cycle of training of a finished run."""

from collections.abc import Sequence
from pathlib import Path

from curvae.cli.fit_summary import print_fit_summary
from curvae.cli.parsing import command
from curvae.cli.resolve import open_run


@command(
    "--continue RUN [flags]",
    "curvae fit --continue runs/stars --epochs 60",
    "curvae fit --continue runs/stars --minutes 5 --learning-rate 1e-3",
)
def fit(
    run: Path,
    epochs: int | None = None,
    max_updates: int | None = None,
    minutes: float | None = None,
    learning_rate: float | None = None,
    progress: bool = True,
    logger: str | None = None,
    trust: Sequence[str] | None = None,
) -> None:
    """One more cycle of training of a finished run, in its folder: from its weights, the schedule from its start.

    Args:
        run: the folder of a finished run, or of one that was cut off in a later cycle.
        epochs: length of the cycle; by default that of the cycle before.
        max_updates: the same in updates of the weights.
        minutes: the same in time.
        learning_rate: the highest; by default that of the cycle before.
        logger: beside metrics.csv: tensorboard, wandb or mlflow.
    """
    from curvae.training import train_on

    said = {"epochs": epochs, "max_updates": max_updates, "minutes": minutes, "learning_rate": learning_rate}
    changes = {name: value for name, value in said.items() if value is not None}
    found = train_on(open_run(run, trust or ()), progress=progress, logger=logger, **changes)
    print_fit_summary(found)
