"""What stands before decimals: from cells that leave no doubt, else asked."""

from dataclasses import replace
from typing import Any

import numpy as np

from curvae.data.dialect import Dialect
from curvae.data.errors import DataError
from curvae.data.text.body import Plan
from curvae.data.text.cells import Frame
from curvae.data.text.delimiters import Separators
from curvae.data.text.numbers import Decimal, DecimalEvidence, decimal_evidence, form
from curvae.io.reading import Reading

MOST = 20_000
"""So many different cells of a column are looked at."""


def decimal_of(what: str, seen: DecimalEvidence, by: Separators, reading: Reading, prior: Dialect | None) -> Decimal:
    """The sign before decimals.

    Raises:
        DataError: the cells contradict each other, or may be read in two ways.
    """
    if reading.decimal is not None:
        return reading.decimal
    if seen.comma and seen.point:
        got = f"{seen.comma.strip()!r} and {seen.point.strip()!r}"
        raise DataError(f"{what}: expected one sign before decimals, got {got}; say decimal=',' or decimal='.'.")
    if seen.comma or seen.point or not seen.either:
        return "," if seen.comma else "."
    if prior is not None:
        return prior.decimal
    if seen.grouped or by.delimiter == ",":
        return "."
    told = f"got {seen.either.strip()!r} in every row, which may be thousands or decimals"
    raise DataError(f"{what}: expected numbers, {told}; say decimal='.' or decimal=','.")


def decided_again(plan: Plan, frame: Frame, reading: Reading, prior: Dialect | None) -> tuple[Plan, Frame]:
    """The table by all of its cells, where some rows of it have said too little."""
    words = [frame[place] for place in frame if getattr(frame[place].dtype, "kind", "O") not in "biuf"]
    seen = decimal_evidence(cells for series in words if has_numbers(cells := _different(series)))
    if _has_fractions(frame):
        seen = replace(seen, **{"point" if plan.decimal == "." else "comma": f"1{plan.decimal}5"})
    if seen == DecimalEvidence():
        return plan, frame
    decimal = decimal_of(plan.what, seen, plan.by, reading, prior)
    if decimal == plan.decimal:
        return plan, frame
    plan = plan._replace(decimal=decimal)
    return plan, plan.read()


def _different(series: Any) -> list[str]:
    return [str(each) for each in series.dropna().unique()[:MOST]]


def has_numbers(cells: list[str]) -> bool:
    """Whether half of the cells or more are numbers."""
    forms = [form(cell) for cell in cells]
    numbers = sum(each in ("whole", "decimal") for each in forms)
    return numbers > 0 and numbers >= sum(each in ("word", "date") for each in forms)


def _has_fractions(frame: Frame) -> bool:
    """Whether pandas has found decimals by the sign that it was told."""
    for place in frame:
        if getattr(frame[place].dtype, "kind", "O") == "f":
            values = frame[place].to_numpy()[:MOST]
            if ((values != np.floor(values)) & np.isfinite(values)).any():
                return True
    return False
