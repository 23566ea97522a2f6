"""Training that goes on after it was finished."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from curvae.data import Data
from curvae.systems import System
from curvae.training.errors import RunError
from curvae.training.fits.fit import carry_out
from curvae.training.loop.resume import reopen_run
from curvae.training.run.run_folder import RunFolder, load
from curvae.training.setup.monitoring import Monitoring
from curvae.training.setup.recommended import recommended
from curvae.training.setup.settings import UNITS, TrainingSettings


def train_on(
    run: RunFolder | str | Path,
    data: Data | None = None,
    system: System | None = None,
    progress: bool = True,
    logger: str | Any = None,
    callbacks: Sequence[Any] = (),
    **changes: Any,
) -> RunFolder:
    """One more cycle of training of a finished run, in its folder: from its weights, with the schedule from its start.

    What the run has written stays, and its metrics go on. All stages follow one another again; the best of each is
    looked for from where the cycle starts it, so a system of one stage never falls behind its earlier weights. Called
    again on a run that was cut off in such a cycle, it goes on from there.

    Args:
        run: a finished run, or one that was cut off in a later cycle.
        data: of the run, where they cannot be opened again (an array in memory).
        system: of the run, where its folder cannot tell how to make it.
        progress: show how it goes on stderr.
        logger: see :func:`curvae.fit`; a run that it knows goes on there.
        callbacks: likewise; a new cycle starts them as they are.
        changes: arguments of :func:`curvae.fit` that differ from those of the cycle before: ``epochs``, ``max_updates``
            or ``minutes``, ``learning_rate`` and others.

    Raises:
        RunError: not the folder of a run, a run that never finished, or its data or system are not at hand.
        ValueError: an argument out of its range.

    Example:
        >>> import curvae.training, tempfile
        >>> data = curvae.data.load("digits")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     system = curvae.systems.vae(data.spec, latent=2, hidden=32)
        ...     run = curvae.training.fit(system, data, epochs=2, out=f"{folder}/run", progress=False)
        ...     train_on(run, epochs=3, progress=False).metrics()["epoch"]
        [1, 2, 3, 4, 5]
    """
    run = RunFolder.open(run, data)
    system = load(run.path, system)
    config = {**run.config}
    earlier, cycles = dict(config["training"]), list(config.get("cycles", []))
    data = run.data()
    if run.state == "finished":
        settings = recommended(_changed(earlier, changes), system, data)
        config |= {"training": dataclasses.asdict(settings), "cycles": [*cycles, earlier]}
        reopen_run(run, system, config)
    elif not cycles or changes:
        mend = "the command that began it goes on with it" if not cycles else "leave out what should change"
        raise RunError(f"{run.path}: expected a finished run to continue, got one that is {run.state}; {mend}.")
    else:
        settings = recommended(TrainingSettings(**earlier), system, data)
    return carry_out(system, data, settings, config, run.path, Monitoring(progress, callbacks, logger))


def _changed(earlier: dict[str, Any], changes: Mapping[str, Any]) -> TrainingSettings:
    """The settings of the cycle before with these changes; a new length takes the place of the old one."""
    if any(changes.get(unit) is not None for unit in UNITS):
        earlier = {name: value for name, value in earlier.items() if name not in UNITS}
    return TrainingSettings(**{**earlier, **changes})
