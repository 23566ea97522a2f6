"""``curvae fit --refit RUN``: the recipe of a run on all its rows."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from curvae.cli.fit_summary import interruptible
from curvae.cli.parsing import command
from curvae.cli.resolve import open_run

if TYPE_CHECKING:
    from curvae.training import RunFolder


@command("--refit RUN [flags]", "curvae fit --refit runs/stars --out runs/stars-all")
def fit(
    run: Path,
    out: Path | None = None,
    progress: bool = True,
    logger: str | None = None,
    trust: Sequence[str] | None = None,
) -> None:
    """The recipe of a finished run trained anew on all its rows, for as many updates as it took to its best.

    Nothing is held out: how well the model does on new rows is what the first run says.

    Args:
        run: the folder of a finished run; it stays as it is.
        out: the folder of the new run; by default runs/<system>-<data>-<number>.
        logger: beside metrics.csv: tensorboard, wandb or mlflow.
    """
    from curvae.training import refit
    from curvae.training.run.claim import next_name

    earlier = open_run(run, trust or ())
    place = out or next_name(f"{earlier.config['system'].get('name', 'run')}-{earlier.schema.spec.name}")
    with interruptible(f"curvae fit --refit {run} --out {place}"):
        print_refit_summary(refit(earlier, out=place, progress=progress, logger=logger), earlier)


def print_refit_summary(run: "RunFolder", earlier: "RunFolder") -> None:
    """What was trained on, and where it is said how well that does."""
    rows, updates = len(run.data().train), run.config["training"]["max_updates"]
    print(f"refit on all {rows:,} rows, {updates:,} updates; what it does on new rows: curvae evaluate {earlier.path}")
    print(f"run: {run.path}\nnext: curvae report {run.path}")
