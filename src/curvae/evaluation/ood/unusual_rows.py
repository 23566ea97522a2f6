"""The least likely rows of a table, and what is unusual in them, in words and in the data's own units."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtri

from curvae.data import ArrayTable, Schema
from curvae.data.own_units import columns_by_name
from curvae.data.stored import rows_in_memory
from curvae.evaluation.formatting import format_estimate, format_number
from curvae.evaluation.metric import Finding, Measured, Section, Subject
from curvae.evaluation.ood.column_scores import ColumnScores, column_scores
from curvae.evaluation.results import Estimate
from curvae.systems import HasModel, System
from curvae.systems.device import batch_to_system

TITLE = "The most unusual rows"
ROWS = 10
"""That are shown."""
WIDEST = 200
"""Columns of a table that are looked at one by one."""
UNUSUAL = 2.0
"""Standard deviations from which a column is a reason; of categories, a probability as small as that."""
NAMED = 3
"""Reasons of a row."""
SHORT = 10
"""Letters of a number that is told to its last digit."""


class Reason(NamedTuple):
    """Why a row is unusual: one of its columns."""

    size: float
    """In standard deviations, also of a category by its probability."""
    text: str


@dataclass(frozen=True)
class UnusualRows:
    """The ten least likely rows of a table, and which of their columns are off what the others say, and how far.

    Of each column its law given the other columns (:func:`curvae.evaluation.ood.column_scores`): a number is told with
    what was expected and by how many standard deviations it is off, a category with its probability. Nothing is found
    of pictures, of tables of more than 200 columns, without log p(x), or without a decoder of latents alone.
    """

    name = "unusual_rows"

    def check(self, system: System) -> None:
        """Of any system; one without a model says nothing of columns."""

    def compute(self, subject: Subject) -> Measured:
        schema, found = subject.run.schema, subject.scores.get("log_likelihood")
        if found is None or not schema.is_table or len(schema.names) > WIDEST or not _able(subject.system):
            return Measured(None)
        chosen = np.argsort(np.where(np.isfinite(found), found, np.inf), kind="stable")[:ROWS]
        table = subject.table.take(torch.from_numpy(chosen).to(subject.table.raw.device))
        batch = batch_to_system(subject.system, table.batch(torch.arange(len(table))))
        scores = column_scores(subject.system, batch.x, batch.mask, seed=subject.settings.seed, context=batch.given)
        errors = subject.scores.get("stderr_best", np.zeros_like(found))
        levels = [Estimate(float(found[i]), float(errors[i])) for i in chosen]
        return Measured(_told(table, levels, reasons_of(schema, table, scores), _labels(schema, table), len(found)))


def _able(system: System) -> bool:
    return isinstance(system, HasModel) and not system.parts().model.autoregressive


def reasons_of(schema: Schema, table: ArrayTable, scores: ColumnScores) -> list[list[Reason]]:
    """Of each row its most unusual columns, the most unusual first."""
    given = columns_by_name(schema, rows_in_memory(table.raw).cpu().numpy())
    expected = table.transform.inverse(scores.expected.cpu()).numpy()
    deviations, log_prob = scores.deviations.cpu().numpy(), scores.log_prob.cpu().numpy()
    found: list[list[Reason]] = [[] for _ in range(len(table))]
    for j, (name, values) in enumerate(given.items()):
        for i, value in enumerate(values.tolist()):
            if np.isfinite(deviations[i, j]):
                reason = _of_number(name, value, float(expected[i, j]), float(deviations[i, j]))
            else:
                reason = _of_category(name, value, float(log_prob[i, j]))
            found[i].append(reason)
    ordered = (sorted(each, key=lambda reason: -reason.size) for each in found)
    return [[reason for reason in each if reason.size >= UNUSUAL][:NAMED] for each in ordered]


def _of_number(name: str, value: float, expected: float, deviation: float) -> Reason:
    """A number that is off what was expected.

    >>> _of_number("u", 17.25, 18.5, -4.17).text
    'u 17.25, expected 18.50 ± 0.30 (-4.2)'
    >>> _of_number("seconds", 1.7e9 + 1 / 3, 1.7e9, 2.0).text
    'seconds 1700000000.333, expected 1700000000.00 ± 0.17 (+2.0)'
    """
    scale = abs((value - expected) / deviation) if deviation else 0.0
    digits = min(12, max(0, 1 - math.floor(math.log10(scale)))) if scale > 0 and math.isfinite(scale) else 4
    told = f"{value}" if len(f"{value}") < SHORT else f"{value:.{digits + 1}f}"
    return Reason(
        abs(deviation), f"{name} {told}, expected {expected:.{digits}f} ± {scale:.{digits}f} ({deviation:+.1f})"
    )


def _of_category(name: str, value: object, log_prob: float) -> Reason:
    """A category that was not expected.

    >>> _of_category("class", "QSO", -7.0).text, _of_category("class", "QSO", float("nan")).size
    ('class QSO, probability 0.00091', 0.0)
    """
    if not log_prob <= 0:
        return Reason(0.0, "")
    probability = math.exp(log_prob)
    return Reason(float(-ndtri(max(probability, 1e-300) / 2)), f"{name} {value}, probability {probability:.2g}")


def _labels(schema: Schema, table: ArrayTable) -> list[str]:
    """In words, where rows have them."""
    if table.label is None:
        return [""] * len(table)
    known, codes = schema.vocabulary, table.label.cpu().tolist()
    if known is None:
        return [f" ({code:g})" for code in codes]
    return [f" ({known[int(code)]})" if code >= 0 else "" for code in codes]


def _told(
    table: ArrayTable,
    levels: Sequence[Estimate],
    reasons: Sequence[Sequence[Reason]],
    labels: Sequence[str],
    count: int,
) -> Finding:
    numbers: NDArray[np.int64] = np.arange(len(table)) if table.row is None else table.row.cpu().numpy()
    said = ["; ".join(reason.text for reason in each) or "no column by itself" for each in reasons]
    named = [f"row {row}{label}" for row, label in zip(numbers.tolist(), labels, strict=True)]
    shown = zip(named, map(format_estimate, levels), said, strict=True)
    note = (
        f"The least likely of {count:,} rows, by log p(x) in nats; rows are counted from 0 in the file or table that "
        "they came from. In brackets by how many standard deviations a column is off what the other columns of its row "
        f"say, from {format_number(UNUSUAL, figures=1)} on, and categories that are as improbable. `curvae score` has "
        "it of every row."
    )
    values = {"rows": numbers.tolist(), "log_likelihood": [each.value for each in levels], "reasons": list(said)}
    first = (("least likely row", f"{named[0]}: {said[0]}"),)
    return Finding(values, first, (), Section("unusual", TITLE, ("Row", "log p(x)", "What it is"), tuple(shown), note))
