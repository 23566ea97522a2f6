"""``fit`` and ``load``: from words, rows and files to a trained system that knows its data."""

import copy
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from difflib import get_close_matches
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import torch

from curvae import registry
from curvae.argument_checks import check_seed
from curvae.data import Data, Earlier, Options, Reading, from_array, from_file, like_array, like_file, like_set
from curvae.data import load as load_set
from curvae.data.datasets.known_sets import known
from curvae.fitted.fitted import Fitted
from curvae.noise import keep_random_states
from curvae.systems import System

RENAMED = {"split_seed": "seed", "data_name": "name"}
"""The run has a seed and a name of its own."""


class Readers(NamedTuple):
    """What makes data of rows, of a file and of the name of a known set."""

    array: Callable[..., Data] = from_array
    file: Callable[..., Data] = from_file
    known: Callable[..., Data] = load_set

    @classmethod
    def like(cls, earlier: Earlier) -> "Readers":
        """As the data of an earlier run were read."""
        return cls(*(functools.partial(each, earlier) for each in (like_array, like_file, like_set)))


FRESH = Readers()


def fit(
    system: System | str | Fitted,
    data: Any,
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
    *,
    label: Any = None,
    restarts: int = 1,
    **options: Any,
) -> Fitted:
    """Train a system on data; what comes back takes rows in their own units, its run folder holds all that is known.

    The same call again takes up a run that was cut off, with the same final numbers. The caller's random states are
    afterwards as they were.

    Args:
        system: the name of a system, whose weights are then drawn from ``seed`` whatever was drawn before; or a system,
            which is trained in place from the weights that it has; or what an earlier fit gave, whose recipe is
            trained anew from its weights, see :func:`curvae.training.fit_from`. Then data are read as its data were:
            columns by name, in its units and under its transform. They are split anew.
        data: :class:`curvae.data.Data`, an array, a tensor, a sparse matrix, a frame (pandas, polars, Arrow), a path
            of a file or of a folder of pictures, or the name of a known data set.
        epochs: in all, divided among the stages; or say ``max_updates`` or ``minutes``.
        batch_size: rows of a batch, over all devices; by default 128, of more than 10,000 rows 256.
        learning_rate: the highest, of stages without an optimizer of their own; by default by network and data.
        seed: of first weights, order, noise and preparation.
        out: the run folder; by default ``runs/<system>-<data>-<number>``.
        device: "auto" (CUDA, else MPS, else CPU), "cpu", "cuda" or "mps".
        precision: "32-true", "tf32" (rounded factors of products) or "bf16-mixed" (networks).
        patience: epochs, or a share of the stage, without a better bound that end it; 0 = never.
        max_skipped: steps in a row that stop the run, skipped as their loss or gradient is not finite.
        devices: number of processes; the script is started anew for each, and all run what follows.
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
        label: the column of labels by its name, or labels one a row; for evaluation only.
        restarts: fits of a named system that differ in their seeds alone, ``seed``, ``seed + 1``, ...; the one with the
            best validation bound of its last stage is kept, see :func:`curvae.training.fit_restarts`. With
            ``start="linear"`` they differ in order, noise and the weights that the linear model does not use.
        options: arguments of the named system (``latent=2``), and of the data: those of
            :func:`curvae.data.from_array`, :func:`curvae.data.from_file` or :func:`curvae.data.load`, whose ``seed``
            and ``name`` are called ``split_seed`` and ``data_name`` here.

    Raises:
        ValueError: an option that neither the system nor the data take, an argument out of its range.
        DataError: data that cannot be used as given.
        RunError: ``out`` holds something else or a finished run, the disk is full, too many steps were skipped.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     fitted = fit("vae", "digits", epochs=1, latent=2, hidden=8, out=f"{folder}/run", progress=False)
        ...     fitted.encode("test").mean.shape
        (359, 2)
    """
    training = {
        "epochs": epochs, "batch_size": batch_size, "learning_rate": learning_rate, "seed": seed, "out": out,
        "device": device, "precision": precision, "patience": patience, "max_skipped": max_skipped, "devices": devices,
        "compile": compile, "average": average, "schedule": schedule, "clip": clip,
        "max_updates": max_updates, "minutes": minutes, "weight_decay": weight_decay, "progress": progress,
        "logger": logger, "callbacks": callbacks,
    }  # fmt: skip
    check_seed(seed)
    _check_system(system)
    with keep_random_states():
        from curvae.training import fit as train  # Lightning draws a number when it is imported
        from curvae.training import fit_from, fit_restarts

        readers = Readers.like(system.run.earlier()) if isinstance(system, Fitted) else FRESH
        ours, theirs = split_options(system, data, options, readers)
        table = as_data(data, label, theirs, readers)
        if isinstance(system, str):
            drawn = functools.partial(_drawn, system, table)
            if restarts != 1:
                return Fitted(fit_restarts(lambda s: drawn(copy.deepcopy(ours), s), table, restarts, **training))
            system = drawn(ours, seed)
        if restarts != 1:
            raise ValueError(f"restarts: expected 1 with a system that has its weights, got {restarts}; name a system.")
        if isinstance(system, Fitted):
            return Fitted(fit_from(system.run, table, **training))
        return Fitted(train(system, table, **training))


def _check_system(system: Any) -> None:
    """
    Raises:
        ValueError: a run, or its folder, in the place of a system.
    """
    place = Path(system) if isinstance(system, str) and system not in registry.systems() else None
    if not isinstance(system, System | str | Fitted) or (place is not None and place.is_dir()):
        got = f"the folder {place}" if place else f"a {type(system).__name__}"
        raise ValueError(
            f"system: expected one, its name, or what fit or load gave; got {got}. curvae.load(folder) opens a run."
        )


def _drawn(name: str, data: Data, arguments: Mapping[str, Any], seed: int) -> System:
    """A named system with weights drawn from the seed; parts that were given keep theirs."""
    torch.manual_seed(seed)
    return registry.system(name)(data.spec, **arguments)


def load(path: str | PathLike[str], system: System | None = None, data: Data | None = None) -> Fitted:
    """The trained system of a run. Reads safetensors and JSON only, never a pickle.

    Args:
        path: the run folder, or the model.safetensors in it.
        system: gets the weights; needed where the run's system has parts that a file cannot describe.
        data: of the run, where they cannot be opened again (an array in memory).

    Raises:
        RunError: missing, pickled, truncated or otherwise damaged files, an unknown format version, weights of another
            system.

    Example:
        >>> load("nowhere")
        Traceback (most recent call last):
        ...
        curvae.training.errors.RunError: nowhere: expected the folder of a run, found none.
    """
    with keep_random_states():
        from curvae.training import RunFolder
        from curvae.training import load as load_system

        made = load_system(Path(path), system)
    folder = Path(path).expanduser()
    fitted = Fitted(RunFolder(folder if folder.is_dir() else folder.parent, data, system))
    fitted.__dict__["system"] = made  # a cached property: it was read already
    return fitted


def as_data(data: Any, label: Any = None, options: Mapping[str, Any] | None = None, readers: Readers = FRESH) -> Data:
    """Data of whatever holds them; see :func:`fit`."""
    options = options or {}
    if isinstance(data, Data):
        if readers is not FRESH:
            raise ValueError("data: expected rows, a file or a known set, read as those of the run, got made ones.")
        if label is not None or options:
            said = ", ".join([*(["label"] if label is not None else []), *options])
            raise ValueError(f"{said}: expected none with data that are made already; say it where they are made.")
        return data
    if not isinstance(data, str | PathLike):
        return readers.array(data, label, **options)
    if name := known(str(data)):
        if label is not None:
            raise ValueError(f"label: expected none with the known set {name}, which has its own.")
        return readers.known(name, **options)
    return readers.file(Path(data), label=label, **options)


def split_options(
    system: System | str | Fitted, data: Any, options: Mapping[str, Any], readers: Readers = FRESH
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Options of the system, and those of the data.

    Raises:
        ValueError: one that neither takes.
    """
    builder = registry.system(system) if isinstance(system, str) else None
    ours = set() if builder is None else set(inspect.signature(builder).parameters) - {"spec"}
    for name in options:
        if name not in ours and name not in (allowed := options_of_data(data, readers)):
            near = get_close_matches(name, [*ours, *allowed], n=1)
            mend = f"did you mean {near[0]}?" if near else f"it takes {', '.join(sorted(ours | allowed))}."
            raise ValueError(f"fit: expected an option of the system or the data, got {name!r}; {mend}")
    theirs = {RENAMED.get(name, name): value for name, value in options.items() if name not in ours}
    return {name: value for name, value in options.items() if name in ours}, theirs


def options_of_data(data: Any, readers: Readers = FRESH) -> set[str]:
    """Names of the arguments that say how data are read."""
    if isinstance(data, Data):
        return set()
    named = isinstance(data, str | PathLike)
    function = readers.array if not named else readers.known if known(str(data)) else readers.file
    return accepted(function) - {"x", "path", "labels", "label", "seed", "name"} | RENAMED.keys()


def accepted(function: Callable[..., Data]) -> set[str]:
    """Names of the arguments of a reader, single ones of its dataclasses among them."""
    found = inspect.signature(function).parameters
    parts = {"reading": Reading, "options": Options}
    single = {each.name for name in found.keys() & parts.keys() for each in fields(parts[name])}
    return set(found) - {"single"} | single
