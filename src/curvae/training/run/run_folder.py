"""A run folder as a value, and loading the model in it."""

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

from curvae import registry
from curvae.data import Data, DataError, Earlier, Schema, Transform, reopen
from curvae.data.transforms import restore as restore_transform
from curvae.io import FileError, regular
from curvae.io.errors import parsing
from curvae.latents import Axes
from curvae.noise import keep_random_states
from curvae.systems import System
from curvae.training.errors import RunError
from curvae.training.run import files, latent_axes, layout, weights
from curvae.training.run import metrics as log
from curvae.training.run.layout import MEND
from curvae.training.run.serialization import custom_parts
from curvae.typing import DataSpec

if TYPE_CHECKING:
    from curvae.evaluation.io import EvaluationFiles


class LoadedSystem(NamedTuple):
    """A trained system, and the digest of the weights that it has."""

    system: System
    sha256: str


@dataclass(frozen=True)
class RunFolder:
    """A folder that :func:`curvae.fit` made; what it holds is read when asked for, and checked.

    Args:
        path: the folder.
        memory: the data, where they are at hand.
        trained: the system, where it is at hand; used only if the folder cannot tell how to make it.
    """

    path: Path
    memory: Data | None = field(default=None, repr=False, compare=False)
    trained: System | None = field(default=None, repr=False, compare=False)

    @classmethod
    def open(cls, path: "str | Path | RunFolder", data: Data | None = None) -> "RunFolder":
        """The run in a folder.

        Args:
            path: the folder, or a run, which is returned as it is.
            data: needed where they cannot be opened again (an array in memory).

        Raises:
            RunError: no such folder, not a run, or of an unknown format.
        """
        if isinstance(path, RunFolder):
            return path if data is None else cls(path.path, data, path.trained)
        folder = Path(path).expanduser()
        if not folder.is_dir():
            raise RunError(f"{folder}: expected the folder of a run, found none.")
        run = cls(folder, data)
        _ = run.config
        return run

    @property
    def config(self) -> layout.WrittenConfig:
        """What was run: system, data, training arguments (config.yaml)."""
        return layout.read_document(self.path, layout.CONFIG)

    @property
    def environment(self) -> layout.Environment:
        """Where it was run: versions, device, checksum (environment.json)."""
        return layout.read_document(self.path, layout.ENVIRONMENT)

    @property
    def status(self) -> layout.WrittenStatus:
        """state, stage, epoch, step, reason (status.json)."""
        return layout.read_document(self.path, layout.STATUS)

    @property
    def state(self) -> str:
        """ "running" (also: killed), "finished" or "stopped"."""
        return self.status["state"]

    def metrics(self) -> dict[str, list[Any]]:
        """Columns of metrics.csv by name, a value for each epoch; NaN where a number does not exist."""
        return log.read_metrics(self.path / layout.METRICS)

    @property
    def restarts(self) -> dict[int, float]:
        """What each start reached, by its seed: its best validation bound, nats; minus infinity where it diverged.

        Of a single fit nothing.

        Raises:
            RunError: the file is damaged.
        """
        if not (self.path / layout.RESTARTS).exists():
            return {}
        starts = layout.read_document(self.path, layout.RESTARTS)["starts"]
        return {each["seed"]: -math.inf if each["bound"] is None else each["bound"] for each in starts}

    def system(self) -> System:
        """A new system with the run's best weights, in eval mode, on the CPU.

        Raises:
            RunError: see :func:`curvae.load`.
        """
        return self.model().system

    def untrained(self) -> System:
        """A new system of the run's recipe, its weights drawn from the run's seed.

        Raises:
            RunError: a file cannot describe it; see :func:`curvae.load`.
        """
        with keep_random_states():
            torch.manual_seed(int(self.config["training"]["seed"]))  # pyright: ignore[reportArgumentType]
            return _build(self.path, layout.read_document(self.path, layout.MODEL))

    def model(self) -> LoadedSystem:
        """The same, and the digest of its weights: training may go on meanwhile.

        Raises:
            RunError: see :func:`curvae.load`.
        """
        return _loaded(self.path, self.trained)

    def snapshots(self) -> Iterator[System]:
        """Systems with the weights of each epoch, in their order, where the stage kept them.

        Raises:
            RunError: see :func:`curvae.load`.
        """
        about = layout.read_document(self.path, layout.MODEL)
        for path in sorted((self.path / layout.SNAPSHOTS).glob("*.safetensors")):
            yield _made(self.path, weights.Loaded(about, weights.read_sealed(path), ""), copy.deepcopy(self.trained))

    def digest(self) -> str | None:
        """SHA-256 of the weights that are there; None if none are."""
        return weights.digest_of_weights(self.path)

    @property
    def schema(self) -> Schema:
        """What is known of the data: columns and their kinds, labels, where the files were.

        Raises:
            RunError: the file is damaged. A run of curvae 0.1.0 has none: its columns go by their place.
        """
        path = self.path / layout.SCHEMA
        if not path.exists():
            recipe, spec = (
                self.config["data"],
                DataSpec.from_dict(layout.read_document(self.path, layout.MODEL)["spec"]),
            )
            return Schema.bare(spec, recipe.get("label"), recipe.get("columns"))
        with files.telling(path, MEND), parsing(path, "the schema of a run"):
            return Schema.from_dict(layout.read_document(self.path, layout.SCHEMA))

    def earlier(self) -> Earlier:
        """What new data are read by, so that the run's weights keep their meaning.

        Raises:
            RunError: its files are missing or damaged.
        """
        return Earlier(self.schema, self.transform(), self.config["data"])

    def data(self, data_dir: Path | None = None) -> Data:
        """The data given to fit, or the same opened again, under the transform of then.

        Args:
            data_dir: the folder in which the files are now; by default they are looked for beside the run as they were
                then, and where they were then.

        Raises:
            RunError: they were an array in memory.
            DataError: the files are missing or have changed.
        """
        if self.memory is not None:
            return self.memory
        recipe = self.config["data"]
        if recipe.get("name") == "array" and "path" not in recipe:
            raise RunError(f"{self.path}: was trained on an array in memory; pass it, RunFolder.open(path, data=...).")
        transform, checksum = self.transform(), self.environment["data_checksum"]
        path = self.path / layout.CONFIG
        with files.telling(path, MEND), parsing(path, "arguments that the data take", DataError):
            return reopen(recipe, transform, checksum, self.schema, self.path, data_dir)

    def transform(self) -> Transform:
        """The data's transform as it was fitted then.

        Raises:
            RunError: its files are missing, damaged, or not those of the run.
        """
        known = layout.read_document(self.path, layout.MODEL).get("files", {})
        path = self.path / layout.TRANSFORM
        numbers = layout.read_document(self.path, layout.TRANSFORM)["transform"]
        tensors = weights.read_tensors(self.path / layout.TRANSFORM_TENSORS)
        for name in (layout.TRANSFORM, layout.TRANSFORM_TENSORS):
            _check_digest(self.path / name, known.get(name))
        with files.telling(path, MEND), parsing(path, "a transform"):
            return restore_transform(numbers, tensors)

    @property
    def axes(self) -> Axes | None:
        """Those in which latents are reported, where they are not those of training: of tables, once training is done.

        Raises:
            RunError: the file is damaged.
        """
        found = latent_axes.read_axes(self.path)
        return found if isinstance(found, Axes) else None

    @property
    def evaluation(self) -> "EvaluationFiles | None":
        """What `curvae evaluate` found of the run's own test data; None before it was asked to.

        Raises:
            RunError: its files are damaged, or not of one evaluation.
        """
        from curvae.evaluation import io  # the evaluation of a run starts from its folder

        return io.read_evaluation(self.path) if (self.path / layout.EVALUATION).exists() else None

    def evaluations(self) -> "dict[str, EvaluationFiles]":
        """Those of other data and of other splits, by the name of their folder."""
        from curvae.evaluation import io

        folders: Sequence[Path] = sorted((self.path / layout.EVALUATIONS).glob("*/" + layout.EVALUATION))
        return {each.parent.name: io.read_evaluation(each.parent) for each in folders}


def load(path: str | Path, system: System | None = None) -> System:
    """The trained system of a run, in eval mode, on the CPU. Reads safetensors and JSON only, never a pickle.

    Args:
        path: the run folder, or the model.safetensors in it.
        system: gets the weights; needed where the run's system has parts that a file cannot describe.

    Raises:
        RunError: missing, pickled, truncated or otherwise damaged files, an unknown format version, weights of
            another system.

    Example:
        >>> load("nowhere")
        Traceback (most recent call last):
        ...
        curvae.training.errors.RunError: nowhere: expected the folder of a run, found none.
    """
    return _loaded(_folder(Path(path).expanduser()), system).system


def _loaded(folder: Path, system: System | None) -> LoadedSystem:
    found = weights.read_weights(folder)
    return LoadedSystem(_made(folder, found, system), found.sha256)


def _made(folder: Path, found: weights.Loaded, system: System | None) -> System:
    with keep_random_states():
        made = system if system is not None else _build(folder, found.about)
    weights.load_into(made, found.tensors, folder / layout.WEIGHTS)
    made.trained = True
    return made.cpu().eval()


def _folder(path: Path) -> Path:
    if path.is_dir():
        return path
    if not path.exists():
        raise RunError(f"{path}: expected the folder of a run, found none.")
    weights.read_tensors(path)
    return path.parent


def _build(folder: Path, about: layout.WrittenModel) -> System:
    recorded, path = about["system"], folder / layout.MODEL
    if custom := custom_parts(recorded):
        raise RunError(
            f"{folder}: has parts that a file cannot describe ({', '.join(custom)}); make the system as you did then "
            "and pass it, curvae.load(path, system=...)."
        )
    try:
        with files.telling(path, MEND), parsing(path, "a system", ValueError):
            return registry.build(recorded.get("name", ""), recorded.get("arguments", {}), about["spec"])
    except RunError:
        raise
    except ValueError as error:
        raise RunError(f"{path}: {' '.join(str(error).split())}") from None


def _check_digest(path: Path, known: str | None) -> None:
    with files.telling(path, MEND):
        if known is not None and files.digest(regular.read_regular(path)) != known:
            raise FileError(f"{path}: expected what the run wrote, got something else (another SHA-256)")


def write_about(folder: Path, recorded: Mapping[str, Any], data: Data) -> None:
    """The files beside the weights: what the system is, and the data's transform."""
    numbers, tensors = data.transform.state()
    files.write_file(folder / layout.TRANSFORM_TENSORS, weights.to_safetensors(tensors))
    files.write_sealed(folder / layout.TRANSFORM, {"transform": numbers})
    files.write_sealed(folder / layout.SCHEMA, data.schema.beside(folder).to_dict())
    digests = {
        name: files.digest(regular.read_regular(folder / name)) for name in (layout.TRANSFORM, layout.TRANSFORM_TENSORS)
    }
    about = {"system": recorded, "spec": data.spec.to_dict(), "weights": [], "files": digests}
    files.write_sealed(folder / layout.MODEL, about)
