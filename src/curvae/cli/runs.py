"""``curvae evaluate``, ``report`` and ``compare``: what finished runs are worth."""

import math
from collections.abc import Iterator, Sequence
from inspect import getdoc
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from curvae.cli.failures import Refused
from curvae.cli.files import fresh
from curvae.cli.flags import Source
from curvae.cli.opening import existing, open_run, other_data
from curvae.cli.parsing import carry_out, parse, parser, spoken
from curvae.cli.tables import show

if TYPE_CHECKING:
    from curvae.data import Data
    from curvae.evaluation import Evaluation, ProposalResult
    from curvae.training import RunFolder

Row = tuple[str, str]


def evaluate(words: Sequence[str]) -> None:
    """Estimate the log-likelihood of a run's data, with errors and warnings; written into its folder."""
    from curvae import evaluation

    examples = [
        "curvae evaluate runs/digits-vlae",
        "curvae evaluate runs/digits-vlae --samples 5000 --limit 100",
        "curvae evaluate runs/digits-vlae --stderr 0.1",
        "curvae evaluate runs/digits-vlae --ais 300",
    ]
    flags, measured = Source("flags", evaluation.Settings), Source("flags", _metrics)
    shown = Source("flags", evaluation.evaluate, skip=frozenset({"run", "data"}))
    sources = [Source("words and flags", _on), flags, measured, shown]
    made = parser("evaluate", "RUN [flags]", getdoc(evaluate) or "", examples, sources)
    chosen = parse(made, words)
    run, data, folder = chosen["run"], chosen["data"], chosen["data_dir"]
    with spoken(made):
        opened = open_run(run, chosen["trust"] or ())
        other = other_data(opened, data, folder)
        settings, metrics = evaluation.Settings(**flags.arguments(chosen)), _metrics(**measured.arguments(chosen))
        result = evaluation.evaluate(opened, metrics, settings, other, chosen["progress"])
    drawn = f", {result.samples} draws each" if result.headline else ""
    show(f"{run}: {result.count:,} {result.split} data{drawn}", ["", ""], facts(result))
    if found := result.quality:
        from curvae.evaluation.samples.quality import SHARES

        title = f"Against {found.count:,} held-out data, by {found.features}"
        show(title, ["", *SHARES, "kernel distance"], found.rows_printed(), numbers=True)
    print("\n".join(f"warning: {line}" for line in result.warnings) or "No warnings.")
    _judge(opened, result)
    print(_next(opened, other, result.split))


def _judge(run: "RunFolder", result: "Evaluation") -> None:
    """Verdicts, and in one sentence whether the model is worth using."""
    from curvae.verdicts import conclusion, of_evaluation, of_training

    training = of_training(run.metrics(), f"curvae fit --continue {run.path}")
    for each in (*of_evaluation(result), *training):
        print(f"verdict: {each}")
    print(conclusion(result, training))


def _next(run: "RunFolder", other: "Data | None", split: str) -> str:
    """Where an evaluation of other data lies; of its own, what comes next."""
    from curvae.evaluation.evaluate import place_of

    if other is None and split == "test":
        return f"next: curvae report {run.path}"
    return f"written: {place_of(run, run.data() if other is None else other, split)}"


def report(words: Sequence[str]) -> None:
    """Write report.html into a run's folder: one page, no network needed."""
    carry_out(report, "RUN", ["curvae report runs/digits-vlae"], words, _report)


def compare(words: Sequence[str]) -> None:
    """Put evaluated runs side by side: one table, and their differences paired by datum."""
    examples = ["curvae compare runs/digits-vae runs/digits-vlae --figure compare.png"]
    carry_out(compare, "RUN RUN ... [flags]", examples, words, _compare)


def facts(result: "Evaluation") -> Iterator[Row]:
    """An evaluation in rows of a table: only what is known, what is to be beaten first."""
    for baseline in result.baselines or ():
        yield from baseline.rows()
    nats = {"log p(x), nats": result.log_likelihood, "ELBO, nats": result.elbo, "KL(q || prior), nats": result.kl}
    yield from ((name, str(found)) for name, found in nats.items() if found)
    if found := result.bits_per_dim:
        yield "bits per dimension", f"{found:.4f}"
    yield from _sampling(result)
    if found := result.ais:
        yield from found.rows()
    if result.activity is not None:
        yield "active latent dimensions", f"{result.active_units} of {len(result.activity)}"
    if found := result.information:
        yield from found.rows()
    if result.reconstruction_error is not None:
        yield "reconstruction error (RMS)", f"{result.reconstruction_error:.4g}"
    if result.unit and result.log_likelihood:
        yield "a density of", f"{result.unit}, with {result.log_det:+,.2f} nats for the transform beside log p(x)"
    for finding in result.metrics.values():
        yield from ((name, value) for name, value in finding.rows)
    yield "time", f"{result.seconds:.1f} s"


def _sampling(result: "Evaluation") -> Iterator[Row]:
    """What stands behind log p(x): flagged data, each proposal, and the draws they took."""
    if result.best is not None and result.flagged:
        share = f"{result.flagged:,} of {result.count:,} data flagged"
        yield "  over the data not flagged", f"{result.trusted or 'none is left'} ({share})"
    if result.smoothed is not None:
        yield "  by smoothed weights", str(result.smoothed)
    proposals = {"its own posterior": "own", "the common proposal": "laplace", "both together": "defensive"}
    for words, name in proposals.items():
        if (proposal := getattr(result, name)) is not None:
            chosen = f"; best for {result.chosen.get(name, 0):.0%}" if len(result.chosen) > 1 else ""
            yield f"  from {words}", _proposal(proposal) + chosen
    if (draws := result.draws) is not None:
        yield "  draws", f"{draws.median:,.0f}, most {draws.worst:,.0f}; not enough for {draws.flagged:.1%}"


def _proposal(found: "ProposalResult") -> str:
    worst = f"k-hat {found.khat.median:.2f}, worst {found.khat.worst:.2f}"
    known = "k-hat not known" if math.isnan(found.khat.median) else worst
    return f"{found.log_likelihood} (effective draws {found.ess.median:.0f}, worst {found.ess.worst:.0f}; {known})"


def _on(run: Path, data: str | None = None, data_dir: Path | None = None, trust: Sequence[str] | None = None) -> None:
    """What a run is evaluated on.

    Args:
        run: folder of a run, as --out named it.
        data: other data than those of the run: a file, or a known set.
        data_dir: a folder with the files of a known set, where they have moved.
        trust: modules of your own that the run has parts of.
    """


def _metrics(ais: int = 0, ais_data: int = 100, quality: bool = False) -> Any:
    """What is measured beside log p(x) and the use of the latents.

    Args:
        ais: temperatures of annealed importance sampling, beside it; 300 are a beginning, 0 is none. Data whose weights
            spread too much in a first run get up to 16 times as many.
        ais_data: number of data, the first ones, that it is done for.
        quality: also compare samples and reconstructions with held-out data, see :func:`curvae.evaluation.quality`.
    """
    from curvae.evaluation import STANDARD, Annealing, SampleQuality

    asked = [Annealing(ais, ais_data)] if ais else []
    return [*asked, *([SampleQuality()] if quality else []), *STANDARD]


def _report(run: Path) -> None:
    """Report.

    Args:
        run: folder of a run, as --out named it.
    """
    folder = existing(run)
    from curvae.report import write

    print(write(folder))


def _compare(
    runs: Sequence[str],
    proposal: Literal["best", "laplace", "defensive", "own"] = "best",
    figure: Path | None = None,
    force: bool = False,
) -> None:
    """Compare.

    Args:
        runs: folders of evaluated runs, or of their evaluations of other data (RUN/evaluations/...).
        proposal: whose estimates of log p(x): the best of each datum, or one proposal for all.
        figure: also draw the comparison into this file (.png, .svg, .pdf).
        force: write over an existing file.
    """
    folders = [_evaluated(run) for run in runs]
    if len(folders) < 2:
        raise Refused(f"compare: expected two runs or more, got {len(folders)}.")
    from curvae.evaluation import compare

    with fresh(figure, force) as target:
        comparison: Any = compare(folders, proposal)
        print(comparison.to_text())
        if target is not None:
            comparison.figure(target)
            print(f"figure: {figure}")


def _evaluated(folder: str) -> Path:
    """The folder of a run, or of one of its evaluations."""
    from curvae.training.run.layout import EVALUATION

    return Path(folder) if (Path(folder) / EVALUATION).is_file() else existing(folder)
