"""Unknown inputs, all scores of them at once: from a run folder and rows to what was found."""

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch

from curvae.argument_checks import check_counts
from curvae.data import ArrayTable
from curvae.data.data import checksum
from curvae.evaluation.evaluate import about, device_for, on_device
from curvae.evaluation.io import write_findings
from curvae.evaluation.likelihood.estimation import flagged
from curvae.evaluation.likelihood.scores import score
from curvae.evaluation.ood.likelihood_matrix import likelihood_matrices
from curvae.evaluation.ood.scored_rows import OodSettings, ScoredRows
from curvae.evaluation.ood.unknown_results import ScoreFound, UnknownInputs
from curvae.evaluation.ood.unknown_scores import SCORES, UnknownnessScore
from curvae.evaluation.settings import with_options
from curvae.noise import keep_random_states
from curvae.systems import DrawsModels, System
from curvae.training.run import layout
from curvae.training.run.run_folder import RunFolder

SPREAD = "deviation_over_models"
FEWEST = 0.5
"""Share of rows in which the deviation over models must be above its noise for it to be told at all."""
Report = Callable[[int, int, str], None]
"""Called with what is done, of how much, and what comes next."""


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
    one :class:`LikelihoodMatrix`; another one is told what it would take.

    Args:
        run: the run folder; it stays as it is.
        rows: that may be unknown.
        against: rows that are known, to tell them from.
        settings: how.
        scores: which, by default all.
        report: called as it goes.
        options: single settings by name, as ``models=10``.

    Raises:
        ValueError: a setting out of its range, no rows, or a run without validation rows.
        RunError: the folder cannot be read.
    """
    how, started = with_options(settings, OodSettings, options, "unknown_inputs"), time.perf_counter()
    check_counts("unknown_inputs", models=how.models, samples=how.samples, steps=how.steps, reference=how.reference)
    check_counts("unknown_inputs", limit=how.limit)
    system, known = run.model().system, NamedTable("validation", run.data().validation)
    tables = {"known": _first(known, how.reference), "rows": _first(rows, how.limit)}
    tables |= {} if against is None else {"against": _first(against, how.limit)}
    with on_device(system, device_for(how.device)):
        seen = _measured(system, tables, how, report)
        found, left_out = _scored(scores, seen, how)
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
        values={name: values["rows"] for name, (_, values) in found.items()},
        values_against={name: values["against"] for name, (_, values) in found.items() if "against" in values},
        **_reliability(seen),
        undefined=sum(int(np.isnan(each).sum()) for _, values in found.values() for each in values.values()),
    )
    return replace(result, seconds=time.perf_counter() - started)


def write_unknown_inputs(run: RunFolder, found: UnknownInputs, *tables: NamedTable) -> None:
    """Write ``ood.json`` into a run, with the digest of its weights and what the rows were.

    Raises:
        RunError: it cannot be written; what stood there stays.
    """
    system, sha256 = run.model()
    told = [{"name": each.name, "checksum": checksum(each.table.raw)} for each in tables]
    write_findings(run.path, layout.OOD, found.to_dict() | about(run, system, run.data()) | {"tables": told}, sha256)


def _first(rows: NamedTable, limit: int | None) -> ArrayTable:
    """The first of the rows, in memory."""
    table = rows.table
    if not len(table):
        raise ValueError(f"unknown_inputs: {rows.name}: expected 1 row or more, got none.")
    return table.take(torch.arange(min(len(table), limit or len(table))))


def _measured(
    system: System, tables: dict[str, ArrayTable], how: OodSettings, report: Report | None
) -> dict[str, ScoredRows]:
    """Log p(x) and codes of all rows, and the likelihood matrix where there are several models."""
    measured, several = {}, isinstance(system, DrawsModels)
    total = len(tables) + how.models * several

    def told(done: int, what: str) -> None:
        if report is not None:
            report(done, total, what)

    for done, (name, table) in enumerate(tables.items()):
        told(done, "log p(x)")
        measured[name] = score(system, table, samples=how.samples, seed=how.seed, memory=how.memory, chains=False)
    matrices = dict.fromkeys(tables)
    if several:
        place = (how.models, how.samples, how.seed, how.memory)
        found = likelihood_matrices(
            system, list(tables.values()), *place, report=lambda done: told(len(tables) + done, "models")
        )
        matrices = dict(zip(tables, found, strict=True))
    return {name: ScoredRows(system, tables[name], measured[name], matrices[name], how) for name in tables}


def _scored(
    scores: Sequence[UnknownnessScore], seen: dict[str, ScoredRows], how: OodSettings
) -> tuple[dict[str, tuple[ScoreFound, dict[str, Any]]], dict[str, str]]:
    """Every score that can be had with its values, and why the others cannot."""
    found, left_out = {}, {}
    withheld = _withheld(seen)
    for each in scores:
        values = {which: each.of(rows, seen["known"]) for which, rows in seen.items()}
        told = {which: value for which, value in values.items() if value is not None}
        if len(told) < len(seen) or (each.name == SPREAD and withheld):
            left_out[each.title] = withheld if len(told) == len(seen) else each.needs
            continue
        noise = each.noise(seen["rows"], seen["known"])
        found[each.name] = (ScoreFound.of(each.name, each.title, told, noise, how.seed), told)
    return found, left_out


def _withheld(seen: dict[str, ScoredRows]) -> str:
    """Why the deviation over models is not told; "" where it is."""
    share = _reliability(seen)["above_noise"]
    if share is None or share >= FEWEST:
        return ""
    return f"above the noise of importance sampling in {share:.0%} of the rows only; take more samples, or models"


def _reliability(seen: dict[str, ScoredRows]) -> dict[str, Any]:
    """How far log p(x) of the rows, and the deviation over models of all that are told apart, can be trusted."""
    told = [rows for which, rows in seen.items() if which != "known" or len(seen) == 1]
    matrices = [rows.matrix for rows in told if rows.matrix is not None]
    bad = flagged(seen["rows"].measured)
    return {
        "flagged": float(np.mean(bad)) if len(bad) else 0.0,
        "noise_floor": float(np.median(np.concatenate([each.noise for each in matrices]))) if matrices else None,
        "above_noise": float(np.concatenate([each.above_noise for each in matrices]).mean()) if matrices else None,
    }
