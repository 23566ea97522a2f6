"""Training a system: stages one after the other, in a folder that can be taken up again."""

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from curvae.data import Data
from curvae.systems import System
from curvae.training.loop.checkpoint import Session
from curvae.training.run import files, latent_axes
from curvae.training.run.claim import claimed, next_name
from curvae.training.run.environment import environment, version
from curvae.training.run.metrics import MetricsWriter
from curvae.training.run.run_folder import RunFolder, write_about
from curvae.training.run.serialization import as_json, custom_parts, qualified_name, record
from curvae.training.setup import devices as machine
from curvae.training.setup.length import lengths
from curvae.training.setup.monitoring import Monitoring, check_logger
from curvae.training.setup.network_checks import check_batches, check_networks
from curvae.training.setup.recommended import recommended
from curvae.training.setup.settings import CompleteSettings, TrainingSettings


def fit(
    system: System,
    data: Data,
    *,
    out: str | Path | None = None,
    progress: bool = True,
    logger: str | Any = None,
    callbacks: Sequence[Any] = (),
    **training: Any,
) -> RunFolder:
    """Train a system and leave a folder with all that is known of the run.

    The system's stages are trained in order, each from the best weights of the one before (best by the bound on the
    validation part); at the end the system holds the best weights of the last. The same call again takes up a run that
    was cut off, with the same final numbers.

    Randomness follows from ``seed`` and the epoch; the system's first weights are drawn where it is made, so seed that
    too (``torch.manual_seed``). On a GPU some kernels of PyTorch add in changing order, so that numbers repeat to
    rounding only. With several ``devices`` each process takes its part of each batch and draws its own noise.

    Args:
        system: what to train.
        data: trained on ``data.train``, judged on ``data.validation``.
        out: the run folder; by default ``runs/<system>-<data>-<number>``.
        progress: show how it goes on stderr: a bar, or a line every 30 s without a terminal.
        logger: see :func:`curvae.fit`.
        callbacks: likewise.
        training: other arguments of :func:`curvae.fit` by name: ``epochs``, ``learning_rate``, ``seed``, ``device`` ...

    Raises:
        RunError: ``out`` holds something else or a finished run, the device or the logger's package is not there, the
            disk is full, too many steps were skipped.
        ValueError: an argument out of its range, a system made for data of another shape, a network that does not fit.

    Example:
        >>> import curvae, tempfile, torch
        >>> from curvae.systems import vae
        >>> _ = torch.manual_seed(0)
        >>> data = curvae.data.load("digits")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     run = fit(vae(data.spec, latent=2, hidden=32), data, epochs=2, out=f"{folder}/run", progress=False)
        ...     bounds = run.metrics()["validation_bound"]
        >>> len(bounds), bounds[1] > bounds[0]
        (2, True)
    """
    return start_run(system, data, training, out, Monitoring(progress, callbacks, logger))


def start_run(
    system: System,
    data: Data,
    training: Mapping[str, Any],
    out: str | Path | None,
    monitoring: Monitoring,
    **about: Any,
) -> RunFolder:
    """Train by these arguments, in a folder whose config.yaml also says what else there is to say about the run."""
    settings = recommended(TrainingSettings(**training), system, data)
    config = configuration(system, data, settings) | about
    return carry_out(system, data, settings, config, folder_for(out, config, settings), monitoring)


def carry_out(
    system: System,
    data: Data,
    settings: CompleteSettings,
    config: Mapping[str, Any],
    path: Path,
    monitoring: Monitoring,
) -> RunFolder:
    """Train in a folder that is new, or that of this very run, whose configuration that is."""
    check_run(system, data, settings)
    check_logger(monitoring.logger)
    if monitoring.callbacks:
        called = sorted({qualified_name(each) for each in monitoring.callbacks})
        config = {**config, "callbacks": called, "replayable": False}
    from curvae.training.loop import loggers  # Lightning takes seconds: what is refused does not wait for it
    from curvae.training.loop.stages import Training

    with ExitStack() as stack:
        if first := machine.is_first():
            about = functools.partial(write_about, recorded=config["system"], data=data)
            stack.enter_context(claimed(path, config, environment(settings, data), about))
        session = Session(system, path, MetricsWriter(path), first, monitoring.callbacks)
        stack.enter_context(_booked(session, functools.partial(latent_axes.write_axes, path, system, data)))
        session.resume()
        logger = stack.enter_context(loggers.open_logger(monitoring.logger, session))
        Training(system, data, settings, session, monitoring.progress and first, logger).run()
    return RunFolder(path, data, system)


def configuration(system: System, data: Data, settings: TrainingSettings) -> dict[str, Any]:
    """What config.yaml says: all that a run needs to be made again."""
    settings = recommended(settings, system, data)
    recorded = record(system)
    return {
        "format": files.FORMAT,
        "curvae": version("curvae"),
        "system": recorded,
        "data": as_json(data.recipe),
        "training": dataclasses.asdict(settings),
        "replayable": not custom_parts(recorded),
    }


def check_run(system: System, data: Data, settings: CompleteSettings) -> None:
    """What can be refused before a folder is made.

    Raises:
        RunError: a device that is not there.
        ValueError: a length too short for the stages, data of another shape, networks that do not fit.
    """
    machine.resolve_device(settings.device, settings.devices)
    lengths(settings.length, system.stages())
    spec = system.recipe and system.recipe.arguments.get("spec")
    if spec is not None and spec.event != data.spec.event:
        raise ValueError(f"system: made for data of shape {spec.event}, got data of shape {data.spec.event}.")
    check_batches(system, len(data.train), settings.batch_size)
    check_networks(system, data)


def folder_for(out: str | Path | None, config: Mapping[str, Any], settings: TrainingSettings) -> Path:
    """The folder of a run: as it is said, else the next that is free.

    Raises:
        ValueError: not said, where several processes must know it, or without a name.
    """
    if out is not None:
        path = Path(out).expanduser()
        if not path.name:
            raise ValueError(f"out: expected the name of a folder, got {str(out)!r}; give it a folder of its own.")
        return path
    if settings.devices > 1:
        raise ValueError("out: expected a folder where devices > 1, got None; every process must know it.")
    kind = config["system"].get("name") or config["system"]["custom"].rpartition(".")[2].lower()
    return next_name(f"{kind}-{config['data'].get('name', 'data')}")


@contextmanager
def _booked(session: Session, describe: Callable[[], None]) -> Iterator[None]:
    """Whatever ends training, the folder says so."""
    try:
        yield
        session.finish(describe)
    except KeyboardInterrupt:
        session.stop("interrupted")
        raise
    except BaseException as error:
        session.stop(str(error) or type(error).__name__)
        raise
