"""Results of rows: named, or by name in a frame where one came in."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curvae.data import Schema
from curvae.data.own_units import columns_by_name
from curvae.data.tables.frames import FrameColumns, framed, library_of, named_as
from curvae.latents import Axes
from curvae.posteriors import Posterior, rotated
from curvae.systems import CanReconstruct, HasClusters, System
from curvae.typing import Batch

Array = NDArray[Any]
Arrays = Mapping[str, Array]
DRAWN = 12
"""Bytes of a drawn value: in the model's units, and in the data's own."""


class Encoding(NamedTuple):
    """Posteriors of rows that came in an array."""

    mean: Array
    """(N, D)"""
    covariance: Array
    """(N, D, D)"""
    lower: Array
    """Lower end of each latent's interval, (N, D)."""
    upper: Array
    label: Array | None = None
    """(N,), in words or numbers as they came; None where there are none."""
    clusters: Array | None = None
    """``q(y | x)``, (N, K, C): of each of K blocks of latents whose prior is a mixture, the probabilities of its C
    components; None where there is no such block."""


class Score(NamedTuple):
    """Log p(x) of rows that came in an array, (N,) each."""

    log_likelihood: Array
    """Nats, a density of the rows in the *model's* units, as ``curvae evaluate`` states it."""
    stderr: Array
    """Its Monte Carlo error, nats; 0 where it is exact."""
    flagged: Array
    """True where it is not to be trusted: a Pareto k-hat above 0.7, or not finite."""
    log_det: Array
    """Nats: ``log_likelihood + log_det`` is a density of the rows in their own units."""
    code_log_prob: Array | None = None
    """Nats: how usual the code of each row is, where a system has a density of codes; no density of the row."""


def moments_of(q: Posterior, level: float, axes: Axes | None = None) -> dict[str, Tensor]:
    """Moments and interval of a posterior, in other axes where there are some."""
    q = q if axes is None else rotated(q, axes.rotation)
    lower, upper = q.interval(level)
    return {"mean": q.mean, "covariance": q.covariance, "lower": lower, "upper": upper}


def clusters_of(system: System, batch: Batch, q: Posterior) -> dict[str, Tensor]:
    """``q(y | x)`` of a batch, where its system has clusters."""
    if not (isinstance(system, HasClusters) and system.cluster_counts):
        return {}
    return {"clusters": system.cluster_probabilities(batch, q, torch.Generator(q.center.device).manual_seed(0))}


def latent_columns(arrays: Arrays) -> Iterator[tuple[str, NDArray[Any]]]:
    """Mean and interval of one latent dimension after the other; then the most probable cluster, and how probable."""
    for d in range(arrays["mean"].shape[1]):
        yield from ((f"z{d}_{name}", arrays[name][:, d]) for name in ("mean", "lower", "upper"))
    found = arrays.get("clusters", np.zeros((0, 0, 0)))
    for k in range(found.shape[1]):
        name = "cluster" if found.shape[1] == 1 else f"cluster{k}"
        yield from ((name, found[:, k].argmax(-1)), (f"{name}_probability", found[:, k].max(-1)))


def label_of(schema: Schema) -> str:
    """What the labels of a run are called."""
    return "label" if schema.label is None else schema.label.name


def named_values(schema: Schema, values: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """A value for each element of a row, by its name."""
    flat = values.reshape(len(values), -1)
    names = schema.names or [f"x{j}" for j in range(flat.shape[1])]
    return dict(zip(names, flat.T, strict=True))


def like_frame(given: Any, columns: Mapping[Any, NDArray[Any]]) -> Any:
    """These columns as a frame of the library of the given one; of pandas with its index."""
    return framed(library_of(given), columns, getattr(given, "index", None))


def as_trained(schema: Schema, values: NDArray[Any]) -> Any:
    """Restored rows as a frame of its library where the run was trained on a frame, else as they are."""
    return framed(schema.frame, columns_by_name(schema, values)) if schema.holder == "frame" else values


def as_given(given: Any, schema: Schema, values: NDArray[Any], exact: bool = False) -> Any:
    """Restored rows as a frame with the index and the names of the one they came in.

    Args:
        given: the frame.
        schema: of the run.
        values: (N, *event).
        exact: as they are; else each column in its own type.
    """
    columns = named_values(schema, values) if exact else columns_by_name(schema, values)
    names = FrameColumns("x", given).names
    theirs = {named_as(name): name for name in names}
    if len(theirs) == len(columns) and not theirs.keys() & columns.keys():
        theirs = dict(zip(columns, names, strict=True))
    return like_frame(given, {theirs.get(name, name): values for name, values in columns.items()})


def loadings_frame(axes: Axes, schema: Schema, standardized: bool) -> Any:
    """A frame of those of named columns, a row for each of them, else an array."""
    if not len(axes.loadings):
        raise ValueError("loadings: expected a decoder with a mean for each column, got one of categories.")
    found = (axes.standardized if standardized else axes.loadings).numpy()
    if not schema.is_table:
        return found
    return framed("pandas", {f"z{d}": column for d, column in enumerate(found.T)}, list(schema.names))


def context_of(batch: Batch) -> dict[str, Any]:
    """What a model is given of the rows of a batch, as an argument; of one that is given nothing none."""
    return {} if batch.given is None else {"context": batch.given}


def rebuilt_rows(system: CanReconstruct, batch: Batch) -> Tensor:
    """The reconstructions of a batch."""
    return system.reconstruct(batch.x, batch.mask, **context_of(batch))
