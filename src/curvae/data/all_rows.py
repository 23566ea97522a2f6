"""Data whose validation and test rows are trained on, too: for the last fit, when others have been judged."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from curvae.data.array_table import ArrayTable
from curvae.data.data import Data
from curvae.data.errors import DataError
from curvae.data.stored import StoredRows
from curvae.typing import Context

KEY = "refit"
"""In a recipe: the checksum of the data whose rows these all are."""


def on_all_rows(data: Data) -> Data:
    """The same data, in the same units, with all rows in the training table; none is held out any more.

    Validation and test tables stay as they are, and are no measure of what the model does on new rows.

    Raises:
        DataError: they are trained on already, or stay in two files.

    Example:
        >>> from curvae.data import from_array
        >>> data = from_array(torch.randn(100, 3))
        >>> every = on_all_rows(data)
        >>> data.held_out, len(data.train), every.held_out, len(every.train), every.transform is data.transform
        (True, 70, False, 100, True)
    """
    if not data.held_out:
        raise DataError(f"{data.spec.name}: expected data of which some are held out, got all in training already.")
    train = _together((data.train, data.validation, data.test))
    digest = hashlib.sha256(f"all rows of {data.checksum}".encode()).hexdigest()
    recipe = {**data.recipe, KEY: data.checksum}
    return replace(data, train=train, recipe=recipe, checksum=digest, schema=replace(data.schema, checksum=digest))


def _together(tables: Sequence[ArrayTable]) -> ArrayTable:
    """The rows of all tables as those of the first: of a file in its order, else one table after the other."""
    first, stored = tables[0], [table.raw for table in tables if isinstance(table.raw, StoredRows)]
    if stored and (len(stored) < len(tables) or len({id(raw.source) for raw in stored}) > 1):
        raise DataError("refit: expected rows in memory or in one file, got a test part in another; join the files.")
    order = slice(None)
    if stored:
        order = torch.cat([torch.arange(len(raw)) if raw.row is None else raw.row for raw in stored]).argsort()
    names = ("raw", "label", "mask", "row")
    parts = {name: _joined([getattr(table, name) for table in tables], order) for name in names}
    known = [table.context for table in tables if table.context is not None]
    return replace(first, **parts, context=_contexts(known, order) if known else None)


def _joined(parts: Sequence[Any], order: Tensor | slice) -> Any:
    if parts[0] is None:
        return None
    if isinstance(parts[0], StoredRows):
        rows = torch.cat([part.row for part in parts])
        return replace(parts[0], row=rows[order])
    return torch.cat(list(parts))[order]


def _contexts(parts: Sequence[Context], order: Tensor | slice) -> Context:
    names = [name for name in ("errors", "exposure", "covariates", "weight") if getattr(parts[0], name) is not None]
    return Context(**{name: torch.cat([getattr(part, name) for part in parts])[order] for name in names})
