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
from curvae.training.run.metrics import Log
from curvae.training.run.run_folder import RunFolder, write_about
from curvae.training.run.serialization import as_json, custom_parts, qualified_name, record
from curvae.training.setup import devices as machine
from curvae.training.setup.check import check_networks
from curvae.training.setup.length import lengths
from curvae.training.setup.monitoring import Monitoring, check_logger
from curvae.training.setup.recommended import recommended
from curvae.training.setup.settings import Chosen, TrainingSettings


def fit(
    system: System,
    data: Data,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
    seed: int = 0,
    out: str | Path | None = None,
    device: str = "auto",
    precision: str = "32-true",
    patience: float | int = 0.5,
    max_skipped: int = 20,
    devices: int = 1,
    compile: bool = False,
    average: float = 0.0,
    schedule: str = "cosine",
    clip: float | None = 50.0,
    max_updates: int | None = None,
    minutes: float | None = None,
    weight_decay: float = 0.0,
    progress: bool = True,
    logger: str | Any = None,
    callbacks: Sequence[Any] = (),
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
        epochs: in all, divided among the stages; or say ``max_updates`` or ``minutes``.
        batch_size: rows of a batch, over all devices together; by default 128, of more than 10,000 rows 256.
        learning_rate: the highest, of stages without an optimizer of their own; by default by network and data.
        seed: of order, noise and preparation.
        out: the run folder; by default ``runs/<system>-<data>-<number>``.
        device: "auto" (CUDA, else MPS, else CPU), "cpu", "cuda" or "mps".
        precision: "32-true", "tf32" (rounded factors of products) or "bf16-mixed" (networks).
        patience: epochs, or a share of the stage, without a better bound that end it; 0 = never.
        max_skipped: steps in a row that stop the run, skipped as their loss or gradient is not finite.
        devices: number of processes, which the script is started anew for; they all run what follows.
        compile: a training step as one compiled graph, where that works; for small networks on a GPU.
        average: share of an epoch's last steps whose mean weights are kept; 0 takes no mean.
        schedule: of the learning rate: cosine (a short rise, then down to 0), or constant.
        clip: largest norm of the gradient, of stages without their own; None = as it is.
        max_updates: length in updates of the weights; by default by the size of the data.
        minutes: length in time.
        weight_decay: of the weights of layers, each step by this times the learning rate.
        progress: show how it goes on stderr: a bar, or a line every 30 s without a terminal.
        logger: beside metrics.csv: tensorboard, wandb or mlflow; in Python also a Logger of Lightning.
        callbacks: of Lightning (``lightning.pytorch.Callback``). They go through all stages; ``trainer.should_stop``
            ends a stage. Their states (``state_dict``) are saved with a run that is cut off; config.yaml has the names
            of their classes, and does not say that the run can be replayed.

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
    settings = TrainingSettings(
        epochs, batch_size, learning_rate, seed, device, precision, patience, max_skipped, devices, compile, average,
        schedule, clip, max_updates, minutes, weight_decay,
    )  # fmt: skip
    settings = recommended(settings, system, data)
    config = configuration(system, data, settings)
    monitoring = Monitoring(progress, callbacks, logger)
    return carry_out(system, data, settings, config, folder_for(out, config, settings), monitoring)


def carry_out(
    system: System, data: Data, settings: Chosen, config: Mapping[str, Any], path: Path, monitoring: Monitoring
) -> RunFolder:
    """Train in a folder that is new, or that of this very run, whose configuration that is."""
    _check(system, data, settings)
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
        session = Session(system, path, Log(path), first, monitoring.callbacks)
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


def _check(system: System, data: Data, settings: Chosen) -> None:
    machine.resolve_device(settings.device, settings.devices)
    lengths(settings.length, system.stages())
    spec = system.recipe and system.recipe.arguments.get("spec")
    if spec is not None and spec.event != data.spec.event:
        raise ValueError(f"system: made for data of shape {spec.event}, got data of shape {data.spec.event}.")
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
