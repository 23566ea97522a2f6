"""Cells of a column to numbers, every different one looked at once."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from curvae.data.text.numbers import TRUTH, affix, clean, is_missing_cell, value

Frame = Any
"""A frame of pandas, which is imported where a table is read."""
Column = Any
"""A column of one."""


@dataclass(frozen=True)
class Numbers:
    """The numbers of a column, and what is none."""

    values: NDArray[np.float64]
    """NaN where a value is missing or no number."""
    dtype: str = "float64"
    wrong: NDArray[np.bool_] | None = None
    """Rows that hold something else; None = none."""
    unit: str = ""
    """The sign of percent or currency at each of them."""

    @property
    def are_numbers(self) -> bool:
        """Whether most of what is there is a number."""
        if self.wrong is None:
            return True
        return bool(np.isfinite(self.values).sum() > self.wrong.sum())


def numbers_of(series: Column, decimal: str, missing: Sequence[str]) -> Numbers:
    """The numbers in a column as pandas read it."""
    kind = getattr(series.dtype, "kind", "O")
    if kind in "biuf":
        dtype = "bool" if kind == "b" else "int64" if kind in "iu" else "float64"
        return Numbers(series.to_numpy(dtype=np.float64), dtype)
    declared = {float(each) for each in missing if value(each, ".") is not None}
    codes, uniques = series.factorize()
    cells = [str(each) for each in uniques]
    if (truth := _truth(cells, missing)) is not None:
        return Numbers(_taken(truth, codes), "bool")
    found = [np.nan if each in declared else each for each in (value(cell, decimal, missing) for cell in cells)]
    unit, mixed = _unit(cells, found, codes)
    wrong = np.array([each is None for each in found] + [False]) | np.array([*mixed, False])
    values = np.array([np.nan if each is None else each for each in found])
    whole = all(
        _is_whole(cell, decimal) for cell, each in zip(cells, found, strict=True) if each == each and each is not None
    )
    rows = wrong[codes]
    return Numbers(
        _taken(np.where(wrong[:-1], np.nan, values), codes),
        "int64" if whole else "float64",
        rows if rows.any() else None,
        unit,
    )


def _taken(values: NDArray[np.float64], codes: NDArray[Any]) -> NDArray[np.float64]:
    return np.append(values, np.nan)[codes]


def _truth(cells: Sequence[str], missing: Sequence[str]) -> NDArray[np.float64] | None:
    """TRUE and FALSE as 1 and 0, if there is nothing else."""
    words = [cell.strip().lower() for cell in cells]
    if not TRUTH.keys() & set(words):
        return None
    if not all(word in TRUTH or is_missing_cell(word, missing) for word in words):
        return None
    return np.array([TRUTH.get(word, np.nan) for word in words])


def _unit(cells: Sequence[str], found: Sequence[float | None], codes: NDArray[Any]) -> tuple[str, list[bool]]:
    """The sign at most of the numbers, and which numbers have another one or none."""
    signs = [
        affix(cell) if each is not None and each == each else None for cell, each in zip(cells, found, strict=True)
    ]
    if not any(signs):
        return "", [False] * len(cells)
    counts = np.bincount(codes[codes >= 0], minlength=len(cells))
    totals: dict[str, int] = {}
    for sign, count in zip(signs, counts, strict=True):
        if sign is not None:
            totals[sign] = totals.get(sign, 0) + int(count)
    unit = max(totals, key=lambda sign: totals[sign])
    return unit, [sign is not None and sign != unit for sign in signs]


def _is_whole(cell: str, decimal: str) -> bool:
    """Whether a number is written without decimals and power."""
    return re.search(r"[eEdDn]", cell) is None and decimal not in clean(cell)
