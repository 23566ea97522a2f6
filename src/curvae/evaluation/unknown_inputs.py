"""Unknown inputs, all scores of them at once: from a run folder and rows to what was found."""

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch

from curvae.argument_checks import check_counts
from curvae.data import ArrayTable
from curvae.data.data import checksum
from curvae.evaluation.evaluate import about, device_for, on_device
from curvae.evaluation.io import write_findings
from curvae.evaluation.likelihood.estimation import flagged
from curvae.evaluation.ood.likelihood_matrix import likelihood_matrices
from curvae.evaluation.ood.scored_rows import OodSettings, ScoredRows
from curvae.evaluation.ood.unknown_results import ScoreFound, UnknownInputs
from curvae.evaluation.ood.unknown_scores import SCORES, UnknownnessScore
from curvae.evaluation.settings import with_options
from curvae.noise import keep_random_states
from curvae.systems import DrawsModels, System
from curvae.training.run import layout
from curvae.training.run.run_folder import RunFolder

SPREAD, LIKELIHOOD = "deviation_over_models", "negative_log_likelihood"
FEWEST = 0.5
"""Share of rows in which the deviation over models must be above its noise for it to be told at all."""
Report = Callable[[int, int, str], None]
"""Called with what is done, of how much, and what comes next, or has come."""


class NamedTable(NamedTuple):
    """Rows under the transform of a run, and what they are called."""

    name: str
    table: ArrayTable


@keep_random_states()
def unknown_inputs(
    run: RunFolder,
    rows: NamedTable,
    against: NamedTable | None = None,
    settings: OodSettings | None = None,
    scores: Sequence[UnknownnessScore] = SCORES,
    report: Report | None = None,
    **options: Any,
) -> UnknownInputs:
    """How little rows look like those that a run was trained on, by every score that it can have.

    Every score is in one direction: the larger, the less known. What is known is said by validation rows of the run;
    where ``against`` are other rows, usually test rows of the run, each score also says how well it tells the two
    apart. A run with a posterior over weights (DrawsModels) has scores of how much its models differ, too, all from
    one :class:`LikelihoodMatrix`; another one is told what it would take. Written into ``ood.json``, in the place of
    what was found of other rows before.

    Args:
        run: the run folder.
        rows: that may be unknown.
        against: rows that are known, to tell them from.
        settings: how.
        scores: which, by default all.
        report: called as it goes.
        options: single settings by name, as ``models=10``.

    Raises:
        ValueError: a setting out of its range, no rows, or a run without validation rows.
        RunError: the folder cannot be read or written.
    """
    how, started = with_options(settings, OodSettings, options, "unknown_inputs"), time.perf_counter()
    check_counts("unknown_inputs", models=how.models, samples=how.samples, steps=how.steps, reference=how.reference)
    check_counts("unknown_inputs", limit=how.limit)
    data, (system, sha256) = run.data(), run.model()
    named = {"known": NamedTable("validation", data.validation), "rows": rows}
    named |= {} if against is None else {"against": against}
    tables = {which: _first(each, how.reference if which == "known" else how.limit) for which, each in named.items()}
    total = how.models * isinstance(system, DrawsModels) + len(scores)

    def told(done: int, what: str) -> None:
        if report is not None:
            report(done, total, what)

    with on_device(system, device_for(how.device)):
        seen = _seen(system, tables, how, told)
        found, left_out = _scored(scores, seen, lambda done, what: told(total - len(scores) + done, what))
        trust = _reliability(seen) | {"flagged": _flagged(seen) if LIKELIHOOD in found else 0.0}
    values = {name: each for name, (_, each) in found.items()}
    result = UnknownInputs(
        rows.name,
        len(tables["rows"]),
        len(tables["known"]),
        tuple(each for each, _ in found.values()),
        None if against is None else against.name,
        len(tables.get("against", ())),
        how.models if isinstance(system, DrawsModels) else 0,
        how.samples,
        left_out,
        seed=how.seed,
        seconds=time.perf_counter() - started,
        undefined=sum(int(np.isnan(part).sum()) for each in values.values() for part in each.values()),
        values={name: each["rows"] for name, each in values.items()},
        values_against={name: each["against"] for name, each in values.items() if "against" in each},
        **trust,
    )
    about_rows = {which: {"name": each.name, "checksum": checksum(each.table.raw)} for which, each in named.items()}
    write_findings(run.path, layout.OOD, result.to_dict() | about(run, system, data) | {"tables": about_rows}, sha256)
    return result


def _first(rows: NamedTable, limit: int | None) -> ArrayTable:
    """The first of the rows, in memory."""
    table = rows.table
    if not len(table):
        raise ValueError(f"unknown_inputs: {rows.name}: expected 1 row or more, got none.")
    return table.take(torch.arange(min(len(table), limit or len(table))))


def _seen(
    system: System, tables: dict[str, ArrayTable], how: OodSettings, told: Callable[[int, str], None]
) -> dict[str, ScoredRows]:
    """All rows, with the likelihood matrix where there are several models."""
    if not isinstance(system, DrawsModels):
        return {name: ScoredRows(system, table, None, how) for name, table in tables.items()}
    place = (how.models, how.samples, how.seed, how.memory)
    matrices = likelihood_matrices(system, list(tables.values()), *place, report=lambda done: told(done, "models"))
    each = zip(tables.items(), matrices, strict=True)
    return {name: ScoredRows(system, table, matrix, how) for (name, table), matrix in each}


def _scored(
    scores: Sequence[UnknownnessScore], seen: dict[str, ScoredRows], told: Callable[[int, str], None]
) -> tuple[dict[str, tuple[ScoreFound, dict[str, Any]]], dict[str, str]]:
    """Every score that can be had with its values, and why the others cannot."""
    found, left_out = {}, {}
    withheld = _withheld(seen)
    for done, each in enumerate(scores):
        told(done, each.title)
        values = {which: each.of(rows, seen["known"]) for which, rows in seen.items()}
        kept = {which: value for which, value in values.items() if value is not None}
        if len(kept) < len(seen) or (each.name == SPREAD and withheld):
            left_out[each.title] = withheld if len(kept) == len(seen) else each.needs
            continue
        noise = each.noise(seen["rows"], seen["known"])
        found[each.name] = (ScoreFound.of(each.name, each.title, kept, noise, seen["rows"].settings.seed), kept)
    return found, left_out


def _withheld(seen: dict[str, ScoredRows]) -> str:
    """Why the deviation over models is not told; "" where it is."""
    share = _reliability(seen)["above_noise"]
    if share is None or share >= FEWEST:
        return ""
    return f"above the noise of importance sampling in {share:.0%} of the rows only; take more samples, or models"


def _reliability(seen: dict[str, ScoredRows]) -> dict[str, Any]:
    """How far the deviation over models is above its noise, of all rows that are told apart."""
    told = [rows for which, rows in seen.items() if which != "known"]
    matrices = [rows.matrix for rows in told if rows.matrix is not None]
    return {
        "noise_floor": float(np.median(np.concatenate([each.noise for each in matrices]))) if matrices else None,
        "above_noise": float(np.concatenate([each.above_noise for each in matrices]).mean()) if matrices else None,
    }


def _flagged(seen: dict[str, ScoredRows]) -> float:
    """Share of rows whose log p(x) cannot be trusted."""
    return float(flagged(seen["rows"].measured).mean())
