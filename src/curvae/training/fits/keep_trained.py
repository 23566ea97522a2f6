"""The folder of a run whose system was trained elsewhere."""

import functools
from pathlib import Path
from typing import Any

import torch

from curvae.data import Data
from curvae.systems import System
from curvae.systems.device import batch_to_system, evaluating
from curvae.training.fits.fit import check_run, configuration, folder_for
from curvae.training.run import files, latent_axes, layout, weights
from curvae.training.run.claim import claimed
from curvae.training.run.environment import environment
from curvae.training.run.metrics import MetricsWriter, Row
from curvae.training.run.run_folder import RunFolder, write_about
from curvae.training.setup.recommended import recommended
from curvae.training.setup.settings import TrainingSettings

JUDGED = 1000
"""Validation rows, at most, whose bound is the one row of metrics.csv."""


def keep_trained(system: System, data: Data, out: str | Path | None = None, **about: Any) -> RunFolder:
    """Leave the run folder of a system as it is: no update is made.

    Its metrics have one row, with the bound of validation rows. Training can go on from there: ``train_on``,
    ``fit_from``.

    Args:
        system: trained elsewhere.
        data: what it is evaluated on.
        out: the run folder; by default ``runs/<system>-<data>-<number>``.
        about: what config.yaml says beside.

    Raises:
        RunError: ``out`` holds something else or a finished run, or the disk is full.
        ValueError: a system made for data of another shape, or a network that does not fit.

    Example:
        >>> import curvae, tempfile
        >>> data = curvae.data.load("digits")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = keep_trained(curvae.systems.vae(data.spec, latent=2, hidden=8), data, f"{folder}/run")
        ...     run.state, run.metrics()["epoch"]
        ('finished', [0])
    """
    settings = recommended(TrainingSettings(), system, data)
    config = configuration(system, data, settings) | about
    check_run(system, data, settings)
    path = folder_for(out, config, settings)
    system.trained = True
    bound = _bound(system, data)
    with claimed(
        path, config, environment(settings, data), functools.partial(write_about, recorded=config["system"], data=data)
    ):
        weights.write_weights(path, weights.snapshot(system))
        MetricsWriter(path).write(Row("kept", validation_bound=bound, validation_surrogate=bound))
        latent_axes.write_axes(path, system, data)
        status = {"state": "finished", "stage": 0, "epoch": 0, "step": 0, "reason": None}
        files.write_json(path / layout.STATUS, status)
    return RunFolder(path, data, system)


def _bound(system: System, data: Data) -> float:
    """The mean bound of validation rows."""
    rows = torch.arange(min(len(data.validation), JUDGED))
    with evaluating(system), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        parts = [batch_to_system(system, data.validation.batch(some)) for some in rows.split(128)]
        return float(torch.cat([system.bound(part).value for part in parts]).mean())
