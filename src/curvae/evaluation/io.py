"""An evaluation's files: written under one id, read only together; plain JSON and NumPy arrays, never pickled.

``evaluation.json`` says which arrays belong to it (their SHA-256) and which weights they are of. Its renaming is the
moment at which a new evaluation takes the place of the old one: until the arrays have been moved too, they are found
under the evaluation's id. So a process killed anywhere leaves the old evaluation or the new one.
"""

import contextlib
import io
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from curvae.baselines import NAMES
from curvae.evaluation.estimate import to_plain_json
from curvae.evaluation.likelihood.baselines import PREFIX
from curvae.evaluation.results import Evaluation
from curvae.io import atomic, formats, regular
from curvae.io.errors import parsing
from curvae.training.errors import RunError
from curvae.training.run import files, layout, weights
from curvae.training.run.layout import ARRAYS, EVALUATION, PICTURES

Arrays = Mapping[str, NDArray]
Found = TypeVar("Found")
KINDS = {"index": "iu", "index_ais": "iu", "proposal": "iu", "flagged": "b", "finite": "b"}
KINDS |= {PREFIX + name: "f" for name in NAMES}
"""Of values, where any number will not do."""
LARGEST = 1e150
"""Of finite values in magnitude: the squares of larger ones overflow."""
SHAPES = {
    "originals": ("shown", "*"),
    "reconstructions": ("rebuilt", "*"),
    "redrawn": ("rebuilt", "*"),
    "samples": ("sampled", "*"),
    "draws": ("drawn", "*"),
    "hidden": ("masked", "*"),
    "completed": ("filled", "*"),
    "rolled": ("continued", "*"),
    "frames_seen": ("one",),
    "latent_mean": ("scattered", "D"),
    "labels": ("labeled",),
    "latent_covariance": ("spread", "D", "D"),
    "covariances": ("framed", "D", "D"),
    "geodesics": ("paths", "stations", "D"),
    "geodesic_length": ("paths",),
    "straight_length": ("paths",),
    "plane_spread": ("high", "wide"),
    "plane_range": ("ends",),
    "trace_log_joint": ("steps", "traced"),
    "trace_grad_norm": ("norms", "normed"),
    "blocks": ("blocks",),
    "traversals": ("moved", "*"),
    "traversal_latent": ("latents",),
    "clusters": ("members", "*"),
    "cluster_shares": ("mixtures", "components"),
    "cluster_blocks": ("mixtures",),
}
"""Of pictures; equal words are equal sizes, ``*`` is the event's shape."""


class EvaluationFiles(NamedTuple):
    """An evaluation as its files have it."""

    values: Mapping[str, Any]
    """All that evaluation.json says."""
    arrays: Arrays
    """A value for each row."""
    pictures: Arrays
    result: Evaluation
    stale: bool | None
    """Whether the run has other weights by now; None where it does not say of which it is (format 1)."""


def write_evaluation(folder: Path, values: Mapping[str, Any], arrays: Arrays, pictures: Arrays) -> None:
    """Put an evaluation in the place of the one before.

    Raises:
        RunError: the folder cannot be written; the evaluation that stood there stays.
    """
    with files.writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    made = secrets.token_hex(16)
    packed = {name: _packed(folder / name, made, part) for name, part in {ARRAYS: arrays, PICTURES: pictures}.items()}
    digests = {name: files.digest(content) for name, content in packed.items()}
    with files.writing(folder), _alone(folder):
        for name, content in packed.items():
            files.write_file(_waiting(folder / name, made), content)
        files.write_sealed(folder / EVALUATION, {**to_plain_json(values), "id": made, "files": digests})
        for name in packed:
            _waiting(folder / name, made).replace(folder / name)
        _tidy(folder)


def write_findings(folder: Path, name: str, values: Mapping[str, Any], sha256: str | None) -> None:
    """Write ``gaps.json`` or ``calibration.json``, with the digest of the weights that were measured.

    Raises:
        RunError: it cannot be written; what stood there stays.
    """
    atomic.remove_stale(folder)
    files.write_sealed(folder / name, {**to_plain_json(values), **({} if sha256 is None else {"weights": sha256})})


def read_evaluation(folder: Path) -> EvaluationFiles:
    """The evaluation in a run folder, or in a folder of its ``evaluations``.

    Raises:
        RunError: it has not been evaluated, or its files are damaged, of an unknown format, or not of one evaluation.
    """
    if not (folder / EVALUATION).exists():
        raise RunError(f"{folder} has no {EVALUATION}: run `curvae evaluate {folder}` first.")
    values = layout.read_document(folder, EVALUATION)
    while True:
        try:
            return _together(folder, values)
        except RunError:
            before, values = values, layout.read_document(folder, EVALUATION)
            if before == values:  # else another evaluation came in between
                raise


def read_findings(folder: Path, name: str, make: Callable[[Mapping[str, Any]], Found]) -> tuple[Found, bool | None]:
    """What ``gaps.json`` or ``calibration.json`` says, and whether it is of other weights than the run has now.

    Raises:
        RunError: there is no such file, or it is damaged.
    """
    values = layout.read_document(folder, name)
    with files.telling(folder / name, layout.how_to_mend(folder, name)), parsing(folder / name, "what curvae writes"):
        return make(values), _stale(folder, values)


def _together(folder: Path, values: layout.Findings) -> EvaluationFiles:
    mend = layout.how_to_mend(folder, EVALUATION)
    result = files.conform_to(folder / EVALUATION, values, Evaluation, mend)
    arrays, pictures = (_unpacked(folder / name, values, mend) for name in (ARRAYS, PICTURES))
    for path, part in {folder / ARRAYS: arrays, folder / PICTURES: pictures}.items():
        with files.telling(path, mend), parsing(path, "arrays of one evaluation"):
            _check_kinds(part, result) if path.name == ARRAYS else _check_shapes(part)
    return EvaluationFiles(values, arrays, pictures, result, _stale(folder, values))


def _packed(path: Path, made: str, arrays: Arrays) -> bytes:
    buffer = io.BytesIO()
    with files.writing(path):
        np.savez_compressed(buffer, allow_pickle=False, **{**arrays, "id": np.array(made)})
    return buffer.getvalue()


def _unpacked(path: Path, values: layout.Findings, mend: str) -> dict[str, NDArray]:
    """The arrays that belong to these values; pictures may be missing."""
    if (known := values.get("files", {}).get(path.name)) is None and values["format"] > 1:
        raise RunError(f"{path}: expected {EVALUATION} to name its digest, got none; {mend}.")
    places = [path] if known is None else [path, _waiting(path, values.get("id", ""))]
    there = [each for each in places if each.exists()]
    if not there and path.name == PICTURES:
        return {}
    with files.telling(path, mend):
        for each in there or [path]:
            content = regular.read_regular(each)
            if known in (None, files.digest(content)):
                arrays = formats.read_npz(each, content=content)
                return {name: part for name, part in arrays.items() if name != "id"}
    raise RunError(f"{path}: expected the arrays that {EVALUATION} names, got those of another evaluation; {mend}.")


def _check_kinds(arrays: Arrays, result: Evaluation) -> None:
    """A value for each row that was evaluated, or was annealed; all that there must be."""
    count = result.count
    annealed = {len(part) for name, part in arrays.items() if name.endswith("_ais") and part.ndim}
    for name, part in arrays.items():
        rows = annealed if name.endswith("_ais") else {count}
        if part.dtype.kind not in KINDS.get(name, "biuf") or part.ndim != 1 or {len(part)} != rows:
            raise ValueError(f"{name}: {part.dtype} {part.shape} for {count} rows")
        if part.dtype.kind == "f" and (np.abs(part[np.isfinite(part)].astype(float)) > LARGEST).any():
            raise ValueError(f"{name}: a value beyond {LARGEST:g}")
    baselines = {each.array for each in result.baselines or () if each.log_likelihood is not None}
    if missing := ({"index", "finite", "flagged"} | baselines) - arrays.keys():
        raise ValueError(f"no {min(missing)}")


def _check_shapes(arrays: Arrays) -> None:
    sizes: dict[str, Any] = {}
    for name, part in arrays.items():
        words = SHAPES.get(name)
        if words is None or part.dtype.kind not in "biuf" or part.ndim < len(words):
            raise ValueError(f"{name}: {part.dtype} {part.shape}")
        shape = (part.shape[0], part.shape[1:]) if words[-1] == "*" else part.shape
        if len(shape) != len(words) or any(sizes.setdefault(w, s) != s for w, s in zip(words, shape, strict=True)):
            raise ValueError(f"{name}: shape {part.shape}")


def _stale(folder: Path, values: Mapping[str, Any]) -> bool | None:
    """Whether the run has other weights than those that were measured; not known where either is not there."""
    run = folder if (folder / layout.CONFIG).exists() else folder.parent.parent
    there = weights.digest_of_weights(run)
    return None if "weights" not in values or there is None else values["weights"] != there


def _waiting(path: Path, made: str) -> Path:
    """Where arrays lie until the evaluation that names them is in place."""
    return path.with_name(f".{made}.{path.name}")


def _tidy(folder: Path) -> None:
    """Remove what evaluations left that were killed before their turn."""
    atomic.remove_stale(folder)
    for each in folder.iterdir():
        if re.fullmatch(rf"\.[0-9a-f]{{32}}\.({ARRAYS}|{PICTURES})", each.name):
            with contextlib.suppress(OSError):
                each.unlink()


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let no other evaluation write the same files; the lock of a run's folder itself is training's."""
    config = folder / layout.CONFIG
    handle = atomic.lock(config if config.exists() else folder, wait=True)
    try:
        yield
    finally:
        atomic.unlock(handle)
