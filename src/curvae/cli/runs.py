"""``curvae evaluate``, ``report`` and ``compare``: what finished runs are worth."""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from curvae import evaluation
from curvae.cli.errors import CommandError, UsageError
from curvae.cli.flags import Source
from curvae.cli.output import fresh, print_warnings, show
from curvae.cli.parsing import command
from curvae.cli.resolve import existing, import_from_here, open_run, other_data
from curvae.evaluation import STANDARD, Annealing, Evaluation, Metric, SampleQuality, Settings

if TYPE_CHECKING:
    from curvae.data import Data
    from curvae.training import RunFolder


def _metrics(ais: int = 0, ais_data: int = 100, quality: bool = False, metrics: Sequence[str] = ()) -> list[Metric]:
    """What is measured beside log p(x) and the use of the latents.

    Args:
        ais: temperatures of annealed importance sampling, beside it; 300 are a beginning, 0 is none. Data whose weights
            spread get up to 16 times as many.
        ais_data: number of data, the first ones, that it is done for.
        quality: also compare samples and reconstructions with held-out data, see :func:`curvae.evaluation.quality`.
        metrics: also those of your own, classes in modules of this folder: my_module.Spread.
    """
    asked: list[Metric] = [Annealing(ais, ais_data)] if ais else []
    return [*asked, *([SampleQuality()] if quality else []), *STANDARD, *map(_own, metrics)]


def _own(path: str) -> Metric:
    """A metric of the user's, imported as the command line names it."""
    import_from_here()
    module, _, name = path.rpartition(".")
    try:
        found = getattr(import_module(module), name)()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise UsageError(
            f"--metrics: expected module.Class, a class without arguments, got {path!r}: {error}"
        ) from None
    if not isinstance(found, Metric):
        raise UsageError(
            f"--metrics: expected a curvae.evaluation.Metric, got {path!r}: it has name, check and compute."
        )
    return found


@command(
    "RUN [flags]",
    "curvae evaluate runs/digits-vlae",
    "curvae evaluate runs/digits-vlae --samples 5000 --limit 100",
    "curvae evaluate runs/digits-vlae --stderr 0.1",
    "curvae evaluate runs/digits-vlae --ais 300",
    settings=Source("flags", Settings),
    metrics=Source("flags", _metrics),
)
def evaluate(
    run: Path,
    data: str | None = None,
    data_dir: Path | None = None,
    progress: bool = True,
    trust: Sequence[str] | None = None,
    *,
    settings: Settings,
    metrics: Sequence[Metric],
) -> None:
    """Estimate the log-likelihood of a run's data, with errors and warnings; written into its folder.

    Args:
        data: other data than those of the run: a file, or a known set.
        data_dir: a folder with the files of a known set, where they have moved.
    """
    opened = open_run(run, trust or ())
    other = other_data(opened, data, data_dir)
    result = evaluation.evaluate(opened, metrics, settings, other, progress)
    drawn = f", {result.samples} draws each" if result.headline else ""
    show(f"{run}: {result.count:,} {result.split} data{drawn}", ["", ""], result.rows())
    if found := result.quality:
        from curvae.evaluation.samples.quality import SHARES

        title = f"Against {found.count:,} held-out data, by {found.features}"
        show(title, ["", *SHARES, "kernel distance"], found.rows_printed(), numbers=True)
    print_warnings(result.warnings)
    _judge(opened, result)
    print(_next(opened, other, result.split))


def _judge(run: "RunFolder", result: Evaluation) -> None:
    """Verdicts, and in one sentence whether the model is worth using."""
    from curvae.verdicts import conclusion, evaluation_verdicts, training_verdicts

    training = training_verdicts(run.metrics(), f"curvae fit --continue {run.path}")
    for each in (*evaluation_verdicts(result), *training):
        print(f"verdict: {each}")
    print(conclusion(result, training))


def _next(run: "RunFolder", other: "Data | None", split: str) -> str:
    """Where an evaluation of other data lies; of its own, what comes next."""
    from curvae.evaluation.evaluate import place_of

    if other is None and split == "test":
        return f"next: curvae report {run.path}"
    return f"written: {place_of(run, run.data() if other is None else other, split)}"


@command("RUN", "curvae report runs/digits-vlae")
def report(run: Path) -> None:
    """Write report.html into a run's folder: one page, no network needed."""
    from curvae.report import write_report

    print(write_report(existing(run)))


@command("RUN RUN ... [flags]", "curvae compare runs/digits-vae runs/digits-vlae --figure compare.png")
def compare(
    runs: Sequence[str],
    proposal: Literal["best", "laplace", "defensive", "own"] = "best",
    figure: Path | None = None,
    force: bool = False,
) -> None:
    """Put evaluated runs side by side: one table, and their differences paired by example.

    Args:
        runs: folders of evaluated runs, or of their evaluations of other data (RUN/evaluations/...).
        proposal: whose estimates of log p(x): the best of each example, or one proposal for all.
        figure: also draw the comparison into this file (.png, .svg, .pdf).
    """
    folders = [_evaluated(run) for run in runs]
    if len(folders) < 2:
        raise CommandError(f"compare: expected two runs or more, got {len(folders)}.")
    with fresh(figure, force) as target:
        comparison: Any = evaluation.compare(folders, proposal)
        print(comparison.to_text())
        if target is not None:
            comparison.figure(target)
            print(f"figure: {figure}")


def _evaluated(folder: str) -> Path:
    """The folder of a run, or of one of its evaluations."""
    from curvae.training.run.layout import EVALUATION

    return Path(folder) if (Path(folder) / EVALUATION).is_file() else existing(folder)
