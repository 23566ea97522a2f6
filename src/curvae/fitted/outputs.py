"""Results of rows: by name, in a frame where one came in."""

from collections.abc import Iterator, Mapping
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from curvae.data import Schema
from curvae.data.restoring import by_name
from curvae.data.tables.columnar import named_as
from curvae.latents import Axes
from curvae.posteriors import Posterior, rotated

Arrays = Mapping[str, NDArray[Any]]


def described(q: Posterior, level: float, axes: Axes | None = None) -> dict[str, Tensor]:
    """Moments and interval of a posterior, in other axes where there are some."""
    q = q if axes is None else rotated(q, axes.rotation)
    lower, upper = q.interval(level)
    return {"mean": q.mean, "covariance": q.covariance, "lower": lower, "upper": upper}


def latent_columns(arrays: Arrays) -> Iterator[tuple[str, NDArray[Any]]]:
    """Mean and interval of one latent dimension after the other."""
    for d in range(arrays["mean"].shape[1]):
        yield from ((f"z{d}_{name}", arrays[name][:, d]) for name in ("mean", "lower", "upper"))


def label_of(schema: Schema) -> str:
    """What the labels of a run are called."""
    return "label" if schema.label is None else schema.label.name


def frame(columns: Mapping[Any, NDArray[Any]], index: Any = None) -> Any:
    """A pandas frame of these columns."""
    import pandas

    return pandas.DataFrame(dict(columns), index=index)


def like(given: Any, schema: Schema, values: NDArray[Any]) -> Any:
    """Restored rows as a frame with the index and the names of the one they came in."""
    columns = by_name(schema, values)
    theirs = {named_as(name): name for name in given.columns}
    if len(theirs) == len(columns) and not theirs.keys() & columns.keys():
        theirs = dict(zip(columns, given.columns, strict=True))
    made = frame(columns, given.index)
    made.columns = [theirs.get(name, name) for name in columns]
    return made
