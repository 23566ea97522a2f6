"""What a cell of a text table means: a number in some style, nothing, a date, or a word."""

import functools
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import inf, nan
from typing import Literal

MISSING = frozenset({"", "?", "na", "n/a", "nan", "null", "none"})
"""Cells that stand for a missing value everywhere, in lower case."""
ALSO_MISSING = frozenset(
    {"-", "--", "---", ".", "..", "...", ":", "*", "missing", "<na>", "#n/a", "#na", "n.a.", "nd", "n.d.", "#div/0!"}
    | {"#value!", "#num!", "#ref!", "#null!", "-nan", "+nan", "1.#qnan", "-1.#ind", "1.#ind", "-1.#qnan", "nil", "n/d"}
)
"""Cells that do so in a column of numbers."""
PANDAS = sorted(
    {each for word in MISSING | {"<na>", "#n/a", "-nan", "+nan"} for each in (word, word.upper())} | {"NaN"}
)
"""Those that pandas looks for."""

MINUS = str.maketrans(
    {"\u2212": "-", "\u2013": "-", "\uff0d": "-", "\ufe63": "-", "\u00a0": " ", "\u202f": " ", "\u2009": " "}
)
SPACED = r"['\u2019 _]"
EXPONENT = r"(?:[eEdD][+-]?\d+)?"
PLAIN = {
    ".": re.compile(rf"[+-]?(?:\d+\.?\d*|\.\d+){EXPONENT}\Z"),
    ",": re.compile(rf"[+-]?(?:\d+,?\d*|,\d+){EXPONENT}\Z"),
}
GROUPED = {
    ".": re.compile(rf"[+-]?[1-9]\d{{0,2}}(?:(,|{SPACED})\d{{3}})(?:\1\d{{3}})*(?:\.\d*)?\Z"),
    ",": re.compile(rf"[+-]?[1-9]\d{{0,2}}(?:(\.|{SPACED})\d{{3}})(?:\1\d{{3}})*(?:,\d*)?\Z"),
}
AFFIX = re.compile(r"([+-]?)([$€£¥]?) ?([+-]?[\d.,][^%‰$€£¥]*?) ?([%‰$€£¥]?)\Z")
INFINITE = {"inf": inf, "+inf": inf, "-inf": -inf, "infinity": inf, "-infinity": -inf, "1.#inf": inf, "-1.#inf": -inf}
TRUTH = {"true": 1.0, "false": 0.0}
DATE = re.compile(
    r"(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{2,4})"
    r"(?:[T ]\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?\S*)?\Z"
    r"|\d{1,2}:\d{2}(?::\d{2}(?:[.,]\d+)?)?\Z|\d{1,2}[- ][A-Za-z]{3}[- ]\d{2,4}\Z"
)
Decimal = Literal[".", ","]


def clean(cell: str) -> str:
    """A cell with one kind of minus and of space, none around it."""
    return cell.strip() if cell.isascii() else cell.translate(MINUS).strip()


def parse_number(cell: str, decimal: str = ".") -> float | None:
    """The number in a cell; None where it is none.

    >>> parse_number("1,234.5"), parse_number("1.234,5", ","), parse_number("1,5")
    (1234.5, 1234.5, None)
    >>> parse_number("\\u22122"), parse_number("12 %"), parse_number("1D-3")
    (-2.0, 12.0, 0.001)
    """
    text = clean(cell)
    if PLAIN[decimal].match(text):
        return float(text.replace(",", ".").replace("d", "e").replace("D", "e"))
    if GROUPED[decimal].match(text):
        return float(re.sub(rf"{SPACED}|\{'.' if decimal == ',' else ','}", "", text).replace(",", "."))
    if (found := AFFIX.match(text)) and (found[2] or found[4]) and not (found[1] and found[3][0] in "+-"):
        return parse_number(found[1] + found[3], decimal)
    return INFINITE.get(text.lower())


def affix(cell: str) -> str:
    """The sign of percent or currency at a number, "" where there is none."""
    found = AFFIX.match(clean(cell))
    return found[2] or found[4] if found else ""


def is_missing_cell(cell: str, more: Sequence[str] = ()) -> bool:
    """Whether a cell stands for no value wherever it is."""
    text = cell.strip()
    return text.lower() in MISSING or text in more


def value(cell: str, decimal: str, more: Sequence[str] = ()) -> float | None:
    """The number in a cell of a column of numbers, NaN where it is missing; None for a word."""
    text = clean(cell)
    if is_missing_cell(text, more) or text.lower() in ALSO_MISSING:
        return nan
    return parse_number(text.partition(" #")[0].rstrip(), decimal)


def is_number(cell: str) -> bool:
    """Whether it is a number in any style."""
    return parse_number(cell) is not None or parse_number(cell, ",") is not None


@functools.lru_cache(2**15)
def form(cell: str) -> str:
    """What a cell looks like: ``missing``, ``whole``, ``decimal``, ``date`` or ``word``."""
    if PLAIN["."].match(text := cell.strip()):
        return "whole" if text.lstrip("+-").isdecimal() else "decimal"
    text = clean(cell)
    if is_missing_cell(text) or text.lower() in ALSO_MISSING:
        return "missing"
    if is_number(text):
        return "whole" if text.lstrip("+-").isdecimal() else "decimal"
    return "date" if DATE.match(text) else "word"


@dataclass(frozen=True)
class DecimalEvidence:
    """Evidence of many cells for what stands before decimals."""

    comma: str | None = None
    """A cell that has a decimal comma for certain."""
    point: str | None = None
    """A cell that has a decimal point for certain."""
    either: str | None = None
    """A cell of one comma and three digits, which may be both."""
    grouped: bool = False
    """Whether cells without a comma speak for thousands."""


def decimal_evidence(columns: Iterable[Iterable[str]]) -> DecimalEvidence:
    """What the cells of columns of numbers say of decimals.

    >>> decimal_evidence([["1,5", "2"]]).comma, decimal_evidence([["1.5", "1,234"]]).point
    ('1,5', '1.5')
    >>> decimal_evidence([["1,234", "999"]])
    DecimalEvidence(comma=None, point=None, either='1,234', grouped=True)
    """
    comma = point = either = None
    grouped = False
    for cells in map(list, columns):
        found: dict[str, str] = {}
        commas = any("," in cell for cell in cells)
        for cell in cells:
            found.setdefault(_speaks(clean(cell)), cell)
            if not commas and "point" in found:
                break
        comma, point = comma or found.get("comma"), point or found.get("point")
        either = either or found.get("either")
        grouped = grouped or ("either" in found and "short" in found and "long" not in found)
    return DecimalEvidence(comma, point, either, grouped)


def _speaks(text: str) -> str:
    """What one cell says of decimals."""
    text = text.strip("%‰$€£¥ ")
    if "," not in text and "." not in text:
        digits = text.lstrip("+-")
        return "" if not digits.isdecimal() else "short" if len(digits) < 4 else "long"
    as_comma, as_point = parse_number(text, ",") is not None, parse_number(text) is not None
    if as_comma and as_point:
        return "either" if "," in text and "." not in text else ""
    return "comma" if as_comma else "point" if as_point else ""
