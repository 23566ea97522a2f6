"""``curvae sample`` and ``curvae encode``: from a run's model and posterior to arrays in a file."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from curvae.cli.failures import UsageError
from curvae.cli.files import fresh
from curvae.cli.flags import Source
from curvae.cli.opening import open_rows, open_run, read_spec, set_name
from curvae.cli.parsing import carry_out

if TYPE_CHECKING:
    from torch import Tensor

    from curvae.data import ArrayTable
    from curvae.posteriors import Posterior
    from curvae.training import RunFolder
    from curvae.typing import Batch

Arrays = dict[str, np.ndarray]
SPLITS = ("train", "validation", "test")
CHUNK = 256
"""Rows that are encoded at a time."""


def sample(words: Sequence[str]) -> None:
    """Draw new data from the model of a run, in the units of its data."""
    examples = ["curvae sample runs/digits-vlae --n 100 --to samples.npz"]
    carry_out(sample, "RUN [flags]", examples, words, _sample)


def encode(words: Sequence[str]) -> None:
    """Encode data by the posterior of a run; the data are transformed as those of the run were.

    A .npz file holds mean (N, D), covariance (N, D, D), lower and upper (N, D); a .csv file the mean and the
    interval of every latent dimension, one row a datum. Either also holds the labels, where there are any.
    """
    examples = [
        "curvae encode runs/digits-vlae test --to latents.npz",
        "curvae encode runs/stars new.csv --level 0.9 --to latents.csv",
    ]
    carry_out(encode, "RUN DATA [flags]", examples, words, _encode, options=Source("a file", how_to_read))


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
    check(to, at_least_one={"n": n})
    import torch

    from curvae.systems import CanSample, require

    with fresh(to, force) as target:
        opened = open_run(run, trust or ())
        with torch.no_grad():
            y = require(opened.system(), CanSample, "sample").sample(n, torch.Generator().manual_seed(seed))
        x = opened.transform().inverse(y).numpy()
        write(target, {"x": x}, {f"x{i}": column for i, column in enumerate(x.reshape(n, -1).T)})
    print(f"{n} samples of shape {tuple(x.shape[1:])}: {to}")


def _encode(
    run: Path,
    data: str,
    to: Path = Path("latents.npz"),
    level: float = 0.9,
    force: bool = False,
    trust: Sequence[str] | None = None,
    *,
    options: Mapping[str, Any],
) -> None:
    """Encode.

    Args:
        run: folder of a run.
        data: train, validation or test (the run's own), a file, or a known set (its test part).
        to: file to write, .npz or .csv.
        level: probability that an interval holds.
        force: write over an existing file.
        trust: modules of your own that the run has parts of.
        options: what :func:`how_to_read` gives.
    """
    check(to, level=level)
    from curvae.systems import HasPosterior, require

    with fresh(to, force) as target:
        opened = open_run(run, trust or ())
        system = require(opened.system(), HasPosterior, "encode")
        table = rows_of(data, opened, options)
        arrays = gathered(table, lambda batch: described(system.posterior(batch.x, batch.mask), level))
        write(target, arrays, dict(columns_of(arrays)))
    print(f"{len(table)} data in {arrays['mean'].shape[1]} latent dimensions: {to}")


def how_to_read(
    columns: Sequence[str | int] | None = None,
    label: str | int | None = None,
    key: str | None = None,
    header: bool | None = None,
    missing: Literal["error", "mask"] | None = None,
    data_dir: Path | None = None,
) -> dict[str, Any]:
    """How a file is read that is none of the run's own.

    Args:
        columns: of a file, the features by name or number; by default as in the run.
        label: of a file, the column with the labels; by default as in the run.
        key: which array of a .npz; by default as in the run.
        header: whether a text file starts with names; by default as in the run.
        missing: what a missing value is; by default as in the run.
        data_dir: a folder with the files of a known set.
    """
    read = {"columns": columns, "label": label, "key": key, "header": header, "missing": missing}
    return read | {"data_dir": data_dir}


def rows_of(data: str, run: "RunFolder", options: Mapping[str, Any]) -> "ArrayTable":
    if data in SPLITS:
        return getattr(run.data(), data)
    if set_name(data) == run.config["data"].get("name") and options["data_dir"] is None:
        return run.data().test
    return open_rows(data, run, read_spec(run), options)


def gathered(table: "ArrayTable", see: "Callable[[Batch], Mapping[str, Tensor]]") -> Arrays:
    """What is seen of each batch, for all rows of a table, and their labels."""
    import torch

    parts = [see(table.batch(rows)) for rows in torch.arange(len(table)).split(CHUNK)]
    found = {name: torch.cat([part[name] for part in parts]).detach().numpy() for name in parts[0]}
    return found if table.label is None else found | {"label": table.label.numpy()}


def described(q: "Posterior", level: float) -> "dict[str, Tensor]":
    """Moments and interval of a posterior."""
    lower, upper = q.interval(level)
    return {"mean": q.mean, "covariance": q.covariance, "lower": lower, "upper": upper}


def columns_of(arrays: Arrays) -> Iterator[tuple[str, np.ndarray]]:
    """Columns of a text file: mean and interval of one dimension after the other, then what there is one of a datum."""
    for d in range(arrays["mean"].shape[1]):
        yield from ((f"z{d}_{name}", arrays[name][:, d]) for name in ("mean", "lower", "upper"))
    yield from ((name, array) for name, array in arrays.items() if array.ndim == 1)


def check(to: Path, at_least_one: Mapping[str, int] | None = None, level: float = 0.5) -> None:
    """Complain of flags out of their range."""
    if not 0 < level < 1:
        raise UsageError(f"--level: expected a probability in (0, 1), got {level}.")
    if to.suffix not in (".npz", ".csv"):
        raise UsageError(f"--to: expected a file name that ends in .npz or .csv, got {to}.")
    for name, value in (at_least_one or {}).items():
        if value < 1:
            raise UsageError(f"--{name}: expected 1 or more, got {value}.")


def write(target: Path | None, arrays: Arrays, columns: Arrays) -> None:
    """Arrays to a .npz file, or columns to a .csv file."""
    assert target is not None
    if target.suffix == ".npz":
        np.savez(target, allow_pickle=False, **arrays)
        return
    table = np.stack([column.astype(np.float64) for column in columns.values()], 1)
    np.savetxt(target, table, fmt="%.9g", delimiter=",", header=",".join(columns), comments="")
