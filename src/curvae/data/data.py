"""A data set ready for use: three tables, what they are, how they came about."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Generator, Tensor

from curvae.data.array_table import ArrayTable
from curvae.data.context import in_model_units
from curvae.data.errors import DataError
from curvae.data.schema import Schema
from curvae.data.stored import Mask, Raw, StoredRows
from curvae.data.transforms import Transform
from curvae.data.transforms.base import ROWS
from curvae.notebook import html_table
from curvae.typing import Context, DataSpec


@dataclass(frozen=True, eq=False)
class Data:
    """Training, validation and test tables with one transform, fitted on the training table only.

    ``recipe`` are the JSON-able arguments with which :func:`curvae.data.reopen` builds the same data again;
    ``checksum`` is the SHA-256 of the three raw arrays; ``schema`` says what later rows are read by.
    """

    train: ArrayTable
    validation: ArrayTable
    test: ArrayTable
    spec: DataSpec
    transform: Transform
    recipe: Mapping[str, Any]
    checksum: str
    schema: Schema

    @property
    def held_out(self) -> bool:
        """Whether validation and test rows are not trained on; see :func:`curvae.data.on_all_rows`."""
        return "refit" not in self.recipe

    @property
    def sample(self) -> "Data":
        """Data whose rows stay in a file with some of them in memory: what starts and closed forms go by."""
        return self._with_tables(lambda table: table.sample)

    def to(self, device: torch.device | str) -> "Data":
        """The same data on another device."""
        return self._with_tables(lambda table: table.to(device))

    def _with_tables(self, change: Callable[[ArrayTable], ArrayTable]) -> "Data":
        return replace(self, **{name: change(getattr(self, name)) for name in ("train", "validation", "test")})

    def __repr__(self) -> str:
        counts = " + ".join(f"{len(table):,}" for table in (self.train, self.validation, self.test))
        return f"Data({self.spec.name}: {counts} x {self.spec.event}, {self.spec.support}, {self.transform.unit})"

    def _repr_html_(self) -> str:
        """Columns with their kinds; of pictures their shape."""
        columns = [(each.name, each.kind, each.dtype) for each in self.schema.columns]
        if not columns:
            return html_table(repr(self), [])
        return html_table(repr(self), columns, ("column", "kind", "type"))


class Rows(NamedTuple):
    """Raw data ``(N, *event)`` with labels, mask and context, before a transform; ``row`` is each one's place."""

    raw: Raw
    label: Tensor | None = None
    mask: Mask | None = None
    row: Tensor | None = None
    context: Context | None = None
    """What is known of each, in its own units."""

    def numbered(self) -> "Rows":
        """With their places, as they stand now."""
        return self._replace(row=torch.arange(len(self.raw)))

    def take(self, index: Tensor) -> "Rows":
        """The rows at ``index``, in that order."""
        taken = Rows(*(None if part is None else _taken(part, index) for part in self))  # pyright: ignore[reportArgumentType]
        return taken._replace(row=taken.raw.row) if isinstance(taken.raw, StoredRows) else taken

    def cut(self, size: int, seed: int) -> tuple["Rows", "Rows"]:
        """All but ``size`` rows, and these, chosen by seed; both in their old order."""
        order = torch.randperm(len(self.raw), generator=Generator().manual_seed(seed))
        chosen = np.zeros(len(order), dtype=bool)
        chosen[order[:size].numpy()] = True
        kept, held = (torch.from_numpy(np.flatnonzero(each)) for each in (~chosen, chosen))
        return self.take(kept), self.take(held)


def _taken(part: Raw | Context, index: Tensor) -> Raw | Context:
    if isinstance(part, Tensor):
        return part.index_select(0, index)
    return part.take(index) if isinstance(part, StoredRows) else part[index]


def build_data(rows: tuple[Rows, Rows, Rows], transform: Transform, recipe: Mapping[str, Any], schema: Schema) -> Data:
    """The data of training, validation and test rows under a fitted transform."""
    train, validation, test = (
        ArrayTable(
            part.raw,
            transform,
            part.label,
            part.mask,
            training=part is rows[0],
            row=part.row,
            context=in_model_units(part.context, schema.columns, transform),
        )
        for part in rows
    )
    digest = checksum(*(part.raw for part in rows), *(each for part in rows for each in _known(part)))
    known = replace(schema, unit=transform.unit, checksum=digest)
    return Data(train, validation, test, schema.spec, transform, recipe, digest, known)


def _known(rows: Rows) -> list[Tensor]:
    """The arrays of what is known of rows."""
    found: list[Tensor] = []
    if rows.context is not None:
        rows.context.map(lambda part: found.append(part) or part)
    return found


def checksum(*arrays: Raw) -> str:
    """SHA-256 of the arrays' types, shapes and values, in hexadecimal."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype}{tuple(array.shape)}".encode())
        for part in array.split(ROWS):
            digest.update(part.contiguous().cpu().numpy().data)
    return digest.hexdigest()


def part_size(what: str, wanted: float | int, count: int) -> int:
    """How many of ``count`` rows a part takes that is given as a fraction (below 1) or a number of rows."""
    size = round(wanted * count) if wanted < 1 else int(wanted)
    if not 0 < size < count or (wanted >= 1 and wanted != size):
        raise DataError(f"{what}: expected a fraction in (0, 1) or a count in 1..{count - 1}, got {wanted}.")
    return size
