"""Several fits of one recipe that differ in their seeds; the best of them is kept."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from curvae.argument_checks import check_counts, check_seed
from curvae.data import Data
from curvae.progress import say
from curvae.systems import System
from curvae.training.errors import DivergedError, FinishedError, RunError
from curvae.training.fits.fit import configuration, fit, folder_for
from curvae.training.run import files, layout
from curvae.training.run.claim import discard, held, move_run, require_free, start_of, starts_of
from curvae.training.run.run_folder import RunFolder
from curvae.training.setup.monitoring import check_logger
from curvae.training.setup.settings import TrainingSettings

MOST = 1000
"""More starts are a slip of the hand."""


def fit_restarts(
    build: Callable[[int], System],
    data: Data,
    restarts: int,
    seed: int = 0,
    out: str | Path | None = None,
    progress: bool = True,
    callbacks: Sequence[Any] = (),
    logger: str | Any = None,
    **training: Any,
) -> RunFolder:
    """The fit with the best validation bound of its last stage, of several that differ in their seeds alone.

    The starts are runs in ``<out>.starts/seed-<seed>`` until all are finished; then the best becomes ``out``, where
    ``restarts.json`` says what every start reached, and the others are removed. Each is made again by its seed. The
    same call again takes up starts that were cut off, and leaves finished ones as they are.

    With ``start="linear"`` all starts begin at the same linear model: they differ in the order of the rows, in noise
    and in the weights that the linear model does not use.

    Args:
        build: makes the system from a seed, its weights drawn from that.
        data: of all starts, so that their bounds are on the same rows.
        restarts: number of starts, with the seeds ``seed``, ``seed + 1``, ...
        seed: of the first start.
        out: the run folder.
        progress: show how it goes on stderr.
        callbacks: of Lightning, each start with copies of them.
        logger: see :func:`curvae.fit`.
        training: see :func:`curvae.training.fit`.

    Raises:
        RunError: see :func:`curvae.training.fit`. A start that diverges is passed over, unless all do.
        ValueError: an argument out of its range, or more than one device.

    Example:
        >>> import curvae, tempfile, torch
        >>> data = curvae.data.load("digits")
        >>> def build(seed):
        ...     torch.manual_seed(seed)
        ...     return curvae.systems.vae(data.spec, latent=2, hidden=8)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = fit_restarts(build, data, 2, epochs=1, out=f"{folder}/run", progress=False)
        ...     sorted(run.restarts), max(run.restarts.values()) == run.status["best"]
        ([0, 1], True)
    """
    check_counts("fit", restarts=restarts)
    if restarts > MOST:
        raise ValueError(f"restarts: expected {MOST:,} or fewer, got {restarts:,}.")
    check_seed(seed + restarts - 1)
    check_logger(logger)
    settings = TrainingSettings(seed=seed, **training)
    if settings.devices > 1:
        raise ValueError(f"restarts: expected 1 with several devices, got {restarts}; leave one of them out.")
    path = folder_for(out, configuration(build(seed), data, settings), settings)
    starts = starts_of(path)
    require_free(path)
    with files.writing(starts):
        starts.mkdir(parents=True, exist_ok=True)
    with held(starts):
        runs: dict[int, RunFolder | None] = {}
        for number in range(restarts):
            if progress:
                say(f"start {number + 1}/{restarts}: seed {seed + number}")
            options = {**training, "seed": seed + number, "out": start_of(path, seed + number), "progress": progress}
            options |= {"callbacks": copy.deepcopy(callbacks), "logger": logger}
            runs[seed + number] = _started(build, data, options)
        return _kept(runs, path, data)


def _started(build: Callable[[int], System], data: Data, options: dict[str, Any]) -> RunFolder | None:
    """One start, trained unless it is already; None where it diverged."""
    system = build(options["seed"])
    try:
        return fit(system, data, **options)
    except FinishedError:
        return RunFolder(options["out"], data, system)
    except DivergedError as error:
        say(f"start with seed {options['seed']} is passed over: {error}")
        return None


def _kept(runs: dict[int, RunFolder | None], path: Path, data: Data) -> RunFolder:
    """The best start in its place, the others gone; killed anywhere in it, the same call ends it."""
    ended = {seed: run for seed, run in runs.items() if run is not None}
    if not ended:
        raise DivergedError(
            f"restarts: expected one of {len(runs)} starts to end, got none; the lines above say why. They are kept in "
            f"{starts_of(path)}; lower the learning rate, and choose another out."
        )
    bounds = {seed: _best(run) for seed, run in ended.items()}
    kept = max(bounds, key=lambda seed: bounds[seed])
    folder = ended[kept].path
    starts = [{"seed": seed, "bound": bounds.get(seed)} for seed in runs]
    files.write_sealed(folder / layout.RESTARTS, {"kept": kept, "starts": starts})
    files.write_sealed(folder / layout.SCHEMA, data.schema.beside(path).to_dict())
    move_run(folder, path)
    discard(path, runs)
    return RunFolder(path, data, ended[kept].trained)


def _best(run: RunFolder) -> float:
    found = run.status.get("best")
    if found is None:
        raise RunError(f"{run.path}: expected the best validation bound in status.json, got none; train it again.")
    return found
