"""Rows for a trained run: its own parts, files, known sets, arrays and frames, read as its data were."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curvae.argument_checks import check_seed
from curvae.data import ArrayTable, Reading, Schema, load, match
from curvae.data.context import in_model_units
from curvae.data.datasets.known_sets import known as known_set
from curvae.data.tables.columnar import Columnar
from curvae.data.tables.files import match_file
from curvae.data.tables.frames import in_memory, is_frame
from curvae.data.tables.matching import AS_THE_RUN, Matched
from curvae.data.text.table import TextTable
from curvae.noise import keep_random_states
from curvae.systems import System
from curvae.systems.device import batch_to_system
from curvae.typing import Batch

if TYPE_CHECKING:
    from curvae.training import RunFolder

PARTS = ("train", "validation", "test")
CHUNK = 256
"""Rows that are encoded at a time."""


class TransformedRows(NamedTuple):
    """Rows under the transform of a run."""

    table: ArrayTable
    labels: NDArray[Any] | None
    """In words or numbers, as they came."""
    frame: Any = None
    """The frame that they came in."""
    source: Columnar | None = None
    """The table of the file that they came in."""
    sequences: NDArray[Any] | None = None
    """What each is called, where they are sequences of a long table."""

    @property
    def keys(self) -> dict[str, NDArray[Any]]:
        """What each row is known by: its number, and its name in a text file that has names of rows."""
        named = {} if self.sequences is None else {"sequence": self.sequences}
        return {
            "row": self.number,
            **named,
            **({"name" if name == "" else name: names for name, names in self.names.items()}),
        }

    @property
    def names(self) -> dict[str, NDArray[Any]]:
        """Names of rows by the name of their column, where a text file has them."""
        if not isinstance(self.source, TextTable) or self.source.row_names is None:
            return {}
        return {self.source.dialect.row_names or "": np.array(self.source.row_names, dtype=object)}

    @property
    def number(self) -> NDArray[Any]:
        """Of each row the row of the file or array that it came from, from 0."""
        return np.arange(len(self.table)) if self.table.row is None else self.table.row.numpy()


def rows_of(
    run: "RunFolder", x: Any, labels: Any = None, mask: Any = None, reading: Reading = AS_THE_RUN
) -> TransformedRows:
    """Rows as the run's data were read.

    Args:
        run: whose schema and transform.
        x: "train", "validation" or "test" for the run's own; a path of a file; a known data set (its test part); or an
            array, a tensor or a frame.
        labels: one a row, of an array or a frame; or the column of a frame.
        mask: of the shape of x, True = observed.
        reading: what is to be read otherwise than in the run.

    Raises:
        DataError: rows that do not fit, in one line.
    """
    if isinstance(x, str) and x in PARTS:
        return _own(run, x, reading)
    if isinstance(x, str | PathLike):
        return _named(run, str(x), reading)
    if reading.key is None and "key" in (run.config.get("data") or {}):
        reading = replace(reading, key=run.config["data"]["key"])
    found = match(run.schema, "x", x, labels, mask, reading)
    return _rows(run, found, in_memory(x) if is_frame(x) else None)


def _own(run: "RunFolder", part: str, reading: Reading) -> TransformedRows:
    table: ArrayTable = getattr(run.data(reading.data_dir), part).in_memory()
    return TransformedRows(table, spoken(run.schema, table.label))


def _named(run: "RunFolder", word: str, reading: Reading) -> TransformedRows:
    if (name := known_set(word)) is None:
        recipe = run.config["data"]
        said = {each: recipe.get(each) for each in ("key", "header", "transpose") if getattr(reading, each) is None}
        reading = replace(reading, **said)
        return _rows(run, match_file(run.schema, Path(word).expanduser(), reading))
    if name == run.config["data"].get("name"):
        return _own(run, "test", reading)
    table = load(name, reading.data_dir, run.transform()).test
    return _rows(run, match(run.schema, word, table.raw, table.label, table.mask))


def _rows(run: "RunFolder", found: Matched, frame: Any = None) -> TransformedRows:
    raw, label, mask, row, known = found.rows
    frame = None if found.sequences is not None else frame
    transform = run.transform()
    context = in_model_units(known, run.schema.columns, transform)
    table = ArrayTable(raw, transform, label, mask, row=row, context=context)
    return TransformedRows(table, found.labels, frame, found.table, found.sequences)


def spoken(schema: Schema, codes: Tensor | None) -> NDArray[Any] | None:
    """Labels in words, or numbers where they are numbers; none where a code has no word."""
    if codes is None or schema.vocabulary is None:
        return None if codes is None else codes.cpu().numpy()
    known = np.array([*schema.vocabulary, ""])
    return known[codes.cpu().numpy()]


@contextmanager
def evaluation_mode(system: System, seed: int) -> Iterator[None]:
    """Evaluation mode, no gradients, a fixed seed; the caller's random states are afterwards as they were.

    Raises:
        ValueError: a seed outside [0, 2^32).
    """
    check_seed(seed)
    with keep_random_states(), torch.no_grad():
        torch.manual_seed(seed)
        system.eval()
        yield


def batches(system: System, table: ArrayTable, most: int | None = None) -> Iterator[Batch]:
    """All rows in their order, or the first of them, where the system is and in its precision."""
    index = None if most is None else torch.arange(min(most, len(table)))
    return (batch_to_system(system, batch) for batch in table.batches(CHUNK, index))


def map_batches(
    system: System, table: ArrayTable, see: Callable[[Batch], Mapping[str, Tensor]]
) -> dict[str, NDArray[Any]]:
    """What is seen of each batch, for all rows of a table."""
    parts = [see(batch) for batch in batches(system, table)]
    return {name: torch.cat([part[name] for part in parts]).detach().cpu().numpy() for name in parts[0]}
