"""A run folder as a value, and loading the model in it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors.torch

from curvae import registry
from curvae.data import Data, Transform, reopen
from curvae.data.transforms import restore as restore_transform
from curvae.systems import System
from curvae.training.errors import RunError
from curvae.training.run import files, weights
from curvae.training.run import metrics as log
from curvae.training.run.config import custom_parts


@dataclass(frozen=True)
class Run:
    """A folder that :func:`curvae.fit` made; what it holds is read when asked for.

    Args:
        path: the folder.
        memory: the data, where they are at hand.
        trained: the system, where it is at hand; used only if the folder cannot tell how to make it.
    """

    path: Path
    memory: Data | None = field(default=None, repr=False, compare=False)
    trained: System | None = field(default=None, repr=False, compare=False)

    @classmethod
    def open(cls, path: "str | Path | Run", data: Data | None = None) -> "Run":
        """The run in a folder.

        Args:
            path: the folder, or a run, which is returned as it is.
            data: needed where they cannot be opened again (an array in memory).

        Raises:
            RunError: no such folder, not a run, or of an unknown format.
        """
        if isinstance(path, Run):
            return path if data is None else cls(path.path, data, path.trained)
        folder = Path(path).expanduser()
        if not folder.is_dir():
            raise RunError(f"{folder}: expected the folder of a run, found none.")
        files.check_format(folder / "config.yaml", files.read_yaml(folder / "config.yaml"))
        return cls(folder, data)

    @property
    def config(self) -> Mapping[str, Any]:
        """What was run: system, data, training arguments (config.yaml)."""
        return files.read_yaml(self.path / "config.yaml")

    @property
    def environment(self) -> Mapping[str, Any]:
        """Where it was run: versions, device, checksum (environment.json)."""
        return files.read_json(self.path / "environment.json")

    @property
    def status(self) -> Mapping[str, Any]:
        """state, stage, epoch, step, reason (status.json)."""
        return files.read_json(self.path / "status.json")

    @property
    def state(self) -> str:
        """ "running" (also: killed), "finished" or "stopped"."""
        return str(self.status["state"])

    def metrics(self) -> dict[str, list[Any]]:
        """Columns of metrics.csv by name, a value for each epoch; NaN where a number does not exist."""
        return log.read(self.path / "metrics.csv")

    def system(self) -> System:
        """A new system with the run's best weights, in eval mode, on the CPU.

        Raises:
            RunError: see :func:`curvae.load`.
        """
        return load(self.path, self.trained)

    def data(self) -> Data:
        """The data given to fit, or the same opened again, under the transform of then.

        Raises:
            RunError: they were an array in memory.
            DataError: the files are missing or have changed.
        """
        if self.memory is not None:
            return self.memory
        recipe = self.config["data"]
        if recipe.get("name") == "array" and "path" not in recipe:
            raise RunError(f"{self.path}: was trained on an array in memory; pass it, Run.open(path, data=...).")
        return reopen(recipe, self.transform(), self.environment["data_checksum"])

    def transform(self) -> Transform:
        """The data's transform as it was fitted then."""
        numbers = files.read_json(self.path / "transform.json")
        files.check_format(self.path / "transform.json", numbers)
        return restore_transform(numbers["transform"], weights.read(self.path / "transform.safetensors"))


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
    folder = _folder(Path(path).expanduser())
    tensors = weights.read(folder / "model.safetensors")
    about = files.read_json(folder / "model.json")
    files.check_format(folder / "model.json", about)
    made = system if system is not None else _build(folder, about)
    weights.restore(made, tensors, folder / "model.safetensors")
    return made.cpu().eval()


def _folder(path: Path) -> Path:
    if path.is_dir():
        return path
    if not path.exists():
        raise RunError(f"{path}: expected the folder of a run, found none.")
    weights.read(path)
    return path.parent


def _build(folder: Path, about: Mapping[str, Any]) -> System:
    recorded = about["system"]
    if custom := custom_parts(recorded):
        raise RunError(
            f"{folder}: has parts that a file cannot describe ({', '.join(custom)}); make the system as you did then "
            "and pass it, curvae.load(path, system=...)."
        )
    try:
        return registry.build(recorded["name"], recorded["arguments"], about["spec"])
    except (ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder / 'model.json'}: {error}") from None


def write_about(folder: Path, recorded: Mapping[str, Any], data: Data) -> None:
    """The files beside the weights: what the system is, and the data's transform."""
    about = {"format": files.FORMAT, "system": recorded, "spec": data.spec._asdict()}
    files.write_json(folder / "model.json", about)
    numbers, tensors = data.transform.state()
    files.write(folder / "transform.safetensors", safetensors.torch.save(tensors))
    files.write_json(folder / "transform.json", {"format": files.FORMAT, "transform": numbers})
