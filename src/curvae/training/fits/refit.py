"""The last fit of a recipe: on all rows, as long as an earlier one took to its best."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from curvae.data import Data, on_all_rows
from curvae.systems import System
from curvae.training.errors import RunError
from curvae.training.fits.fit import start_run
from curvae.training.run.run_folder import RunFolder
from curvae.training.setup.monitoring import Monitoring
from curvae.training.setup.settings import UNITS


def refit(
    run: RunFolder | str | Path,
    data: Data | None = None,
    system: System | None = None,
    out: str | Path | None = None,
    progress: bool = True,
    logger: str | Any = None,
    callbacks: Sequence[Any] = (),
) -> RunFolder:
    """The recipe of a finished run trained anew on all its rows, those of validation and test among them.

    It begins at the run's seed, takes as many updates as the run had taken at its best, and keeps its last weights, as
    there are no rows left to choose by: bounds on validation rows are those of rows that it has seen. How well the
    model does on new rows is what ``run`` says; evaluation of the new run on its own data is refused. Units and columns
    stay those of ``run``. ``config.yaml`` says which run it was and the digest of its weights; called again, it takes
    up what was cut off.

    Args:
        run: a finished run; it stays as it is.
        data: of the run, where they cannot be opened again (an array in memory).
        system: a new one of its recipe, where the folder cannot tell how to make it.
        out: the folder of the new run; by default ``runs/<system>-<data>-<number>``.
        progress: show how it goes on stderr.
        logger: see :func:`curvae.fit`.
        callbacks: likewise.

    Raises:
        RunError: a run that is not finished, never became better than its start, or was trained on all rows itself.
        DataError: its rows stay in two files.

    Example:
        >>> import curvae.training, tempfile
        >>> data = curvae.data.load("digits")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     words = {"epochs": 2, "progress": False, "latent": 2, "hidden": 8}
        ...     first = curvae.fit("vae", "digits", out=f"{folder}/a", **words)
        ...     last = refit(first.run, out=f"{folder}/b", progress=False)
        ...     len(last.data().train) == sum(map(len, (data.train, data.validation, data.test)))
        True
    """
    run = RunFolder.open(run, data)
    if run.state != "finished":
        raise RunError(f"{run.path}: expected a finished run to refit, got one that is {run.state}; finish it first.")
    data = run.data()
    if not data.held_out:
        raise RunError(f"{run.path}: expected a run with held-out rows, got one that was refit; refit that before it.")
    training = {name: value for name, value in run.config["training"].items() if name not in UNITS}
    training["max_updates"] = updates_at_best(run)
    origin = {"run": str(run.path.absolute()), "weights": run.model().sha256}
    made = run.untrained() if system is None else system
    monitoring = Monitoring(progress, callbacks, logger)
    return start_run(made, on_all_rows(data), training, out, monitoring, refit=origin, replayable=False)


def updates_at_best(run: RunFolder) -> int:
    """Updates that a run had taken when the bound that its last stage is judged by was best.

    Raises:
        RunError: it was best before the first.
    """
    rows, stage = run.metrics(), run.system().stages()[-1]
    column = rows["validation_bound" if stage.monitor == "value" else "validation_surrogate"]
    steps, first = [0, *rows["step"]], rows["stage"].index(rows["stage"][-1]) if rows["stage"] else 0
    bounds = np.nan_to_num(column[first:], nan=-np.inf)
    highest = float(bounds.max(initial=-np.inf))
    at_start = run.status.get("best", -np.inf) > highest + 1e-6 * abs(highest)
    best = first if at_start else first + 1 + int(bounds.argmax())
    best = best if stage.keep == "best" else len(steps) - 1
    if steps[best] == 0:
        raise RunError(f"{run.path}: expected a run that training made better than its start, got none; train longer.")
    return int(steps[best])
