"""Training that begins at the weights of another run, on other data."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from curvae.data import Data
from curvae.training.fits.fit import start_run
from curvae.training.run.run_folder import RunFolder
from curvae.training.setup.monitoring import Monitoring
from curvae.typing import Remembers


def fit_from(
    run: RunFolder,
    data: Data,
    out: str | Path | None = None,
    progress: bool = True,
    logger: str | Any = None,
    callbacks: Sequence[Any] = (),
    **training: Any,
) -> RunFolder:
    """A new run of a run's recipe, which begins at its weights in place of a start of its own.

    What is kept for each training example begins anew. ``config.yaml`` says which run it was and the digest of its
    weights. The same call again takes up what was cut off.

    Args:
        run: whose recipe and weights; it stays as it is.
        data: to train on, in the units of that run: see :func:`curvae.data.like_array`.
        out: the folder of the new run; by default ``runs/<system>-<data>-<number>``.
        progress: show how it goes on stderr.
        logger: see :func:`curvae.fit`.
        callbacks: likewise.
        training: see :func:`curvae.training.fit`.

    Raises:
        RunError: the run has no weights, or cannot be loaded; see :func:`curvae.training.fit`.
        ValueError: an argument out of its range, data of another shape.

    Example:
        >>> import curvae.training, tempfile
        >>> data = curvae.data.load("digits")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     system, quiet = curvae.systems.vae(data.spec, latent=2, hidden=8), {"epochs": 1, "progress": False}
        ...     run = curvae.training.fit(system, data, out=f"{folder}/a", **quiet)
        ...     fit_from(run, data, out=f"{folder}/b", **quiet).config["warm_start"]["weights"] == run.digest()
        True
    """
    model = run.model()
    system = copy.deepcopy(model.system)
    _forget(system)
    monitoring = Monitoring(progress, callbacks, logger)
    start = {"run": str(run.path.absolute()), "weights": model.sha256}
    return start_run(system, data, training, out, monitoring, warm_start=start, replayable=False)


def _forget(system: nn.Module) -> None:
    """States with a row for each training example are empty again, as they are in a system that was just made."""
    for module in system.modules():
        for name in module.per_example if isinstance(module, Remembers) else ():
            table = module.get_buffer(name)
            setattr(module, name, table.new_empty((0,) * table.ndim))
