"""``curvae sample`` and ``curvae encode``: from a run's model and posterior to arrays in a file."""

from collections.abc import Iterator, Mapping, Sequence
from inspect import getdoc
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from curvae.cli.failures import Refused, UsageError
from curvae.cli.files import fresh
from curvae.cli.flags import Source
from curvae.cli.opening import open_rows, open_run, read_spec, set_name
from curvae.cli.parsing import parse, parser, spoken

if TYPE_CHECKING:
    from curvae.data import ArrayTable
    from curvae.training import Run

Arrays = dict[str, np.ndarray]
SPLITS = ("train", "validation", "test")
CHUNK = 256
"""Rows that are encoded at a time."""


def sample(words: Sequence[str]) -> None:
    """Draw new data from the model of a run, in the units of its data."""
    examples = ["curvae sample runs/digits-vlae --n 100 --to samples.npz"]
    source = Source("words and flags", _sample)
    chosen = parse(parser("sample", "RUN [flags]", getdoc(sample) or "", examples, [source]), words)
    _sample(**source.arguments(chosen))


def encode(words: Sequence[str]) -> None:
    """Encode data by the posterior of a run; the data are transformed as those of the run were.

    A .npz file holds mean (N, D), covariance (N, D, D), lower and upper (N, D); a .csv file the mean and the
    interval of every latent dimension, one row a datum. Either also holds the labels, where there are any.
    """
    examples = [
        "curvae encode runs/digits-vlae test --to latents.npz",
        "curvae encode runs/stars new.csv --level 0.9 --to latents.csv",
    ]
    source = Source("words and flags", _encode)
    made = parser("encode", "RUN DATA [flags]", getdoc(encode) or "", examples, [source])
    chosen = parse(made, words)
    with spoken(made):
        _encode(**source.arguments(chosen))


def _sample(
    run: Path,
    n: int = 64,
    seed: int = 0,
    to: Path = Path("samples.npz"),
    force: bool = False,
    trust: Sequence[str] | None = None,
) -> None:
    """Sample.

    Args:
        run: folder of a run.
        n: number of data to draw.
        seed: of the draws.
        to: file to write: .npz (array x) or .csv (one row a datum).
        force: write over an existing file.
        trust: modules of your own that the run has parts of.
    """
    _check(to, at_least_one={"n": n})
    import torch

    with fresh(to, force) as target:
        opened = open_run(run, trust or ())
        with torch.no_grad():
            y = opened.system().sample(n, torch.Generator().manual_seed(seed))
        x = opened.transform().inverse(y).numpy()
        _write(target, {"x": x}, {f"x{i}": column for i, column in enumerate(x.reshape(n, -1).T)})
    print(f"{n} samples of shape {tuple(x.shape[1:])}: {to}")


def _encode(
    run: Path,
    data: str,
    to: Path = Path("latents.npz"),
    level: float = 0.9,
    columns: Sequence[str | int] | None = None,
    label: str | int | None = None,
    key: str | None = None,
    header: bool | None = None,
    missing: Literal["error", "mask"] | None = None,
    data_dir: Path | None = None,
    force: bool = False,
    trust: Sequence[str] | None = None,
) -> None:
    """Encode.

    Args:
        run: folder of a run.
        data: train, validation or test (the run's own), a file, or a known set (its test part).
        to: file to write, .npz or .csv.
        level: probability that an interval holds.
        columns: of a file, the features by name or number; by default as in the run.
        label: of a file, the column with the labels; by default as in the run.
        key: which array of a .npz; by default as in the run.
        header: whether a text file starts with names; by default as in the run.
        missing: what a missing value is; by default as in the run.
        data_dir: a folder with the files of a known set.
        force: write over an existing file.
        trust: modules of your own that the run has parts of.
    """
    _check(to)
    if not 0 < level < 1:
        raise UsageError(f"--level: expected a probability in (0, 1), got {level}.")
    options = {"columns": columns, "label": label, "key": key, "header": header, "missing": missing}
    with fresh(to, force) as target:
        opened = open_run(run, trust or ())
        table = _rows(data, opened, options | {"data_dir": data_dir})
        arrays = _encoded(opened, table, level)
        _write(target, arrays, dict(_columns(arrays)))
    print(f"{len(table)} data in {arrays['mean'].shape[1]} latent dimensions: {to}")


def _rows(data: str, run: "Run", options: Mapping[str, Any]) -> "ArrayTable":
    if data in SPLITS:
        return getattr(run.data(), data)
    if set_name(data) == run.config["data"].get("name") and options["data_dir"] is None:
        return run.data().test
    return open_rows(data, run, read_spec(run), options)


def _encoded(run: "Run", table: "ArrayTable", level: float) -> Arrays:
    import torch

    from curvae.systems import LatentSystem

    system = run.system()
    if not isinstance(system, LatentSystem):
        raise Refused(f"{run.path}: expected a system with a posterior over latents, got {type(system).__name__}.")
    parts: dict[str, list[Any]] = {"mean": [], "covariance": [], "lower": [], "upper": []}
    for rows in torch.arange(len(table)).split(CHUNK):
        batch = table.batch(rows)
        q = system.posterior(batch.x, batch.mask)
        for name, value in zip(parts, (q.mean, q.covariance, *q.interval(level)), strict=True):
            parts[name].append(value.detach())
    found = {name: torch.cat(values).numpy() for name, values in parts.items()}
    return found if table.label is None else found | {"label": table.label.numpy()}


def _columns(arrays: Arrays) -> Iterator[tuple[str, np.ndarray]]:
    """Columns of a text file: mean and interval of one dimension after the other."""
    for d in range(arrays["mean"].shape[1]):
        yield from ((f"z{d}_{name}", arrays[name][:, d]) for name in ("mean", "lower", "upper"))
    if "label" in arrays:
        yield "label", arrays["label"]


def _check(to: Path, at_least_one: Mapping[str, int] | None = None) -> None:
    if to.suffix not in (".npz", ".csv"):
        raise UsageError(f"--to: expected a file name that ends in .npz or .csv, got {to}.")
    for name, value in (at_least_one or {}).items():
        if value < 1:
            raise UsageError(f"--{name}: expected 1 or more, got {value}.")


def _write(target: Path | None, arrays: Arrays, columns: Arrays) -> None:
    """Arrays to a .npz file, or columns to a .csv file."""
    assert target is not None
    if target.suffix == ".npz":
        np.savez(target, allow_pickle=False, **arrays)
        return
    table = np.stack([column.astype(np.float64) for column in columns.values()], 1)
    np.savetxt(target, table, fmt="%.9g", delimiter=",", header=",".join(columns), comments="")
