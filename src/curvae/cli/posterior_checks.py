"""``curvae gaps``, ``calibrate`` and ``bracket``: is the posterior of a run right, and log p(x)?"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from curvae import evaluation
from curvae.argument_checks import check_counts
from curvae.cli.flags import Source
from curvae.cli.latents import named_rows
from curvae.cli.output import fresh, print_warnings, show, write_values
from curvae.cli.parsing import command
from curvae.cli.resolve import open_run
from curvae.evaluation import GapSettings, RowChecks
from curvae.evaluation.io import write_findings
from curvae.evaluation.likelihood.scores import bar
from curvae.io.reading import Reading
from curvae.training.run.layout import CALIBRATION
from curvae.training.run.run_folder import RunFolder


@command(
    "RUN [flags]",
    "curvae gaps runs/digits-vae",
    "curvae gaps runs/digits-vae --data 500 --steps 400",
    settings=Source("flags", GapSettings),
)
def gaps(run: Path, progress: bool = True, trust: Sequence[str] | None = None, *, settings: GapSettings) -> None:
    """Split log p(x) - ELBO of a run into what its posterior's family costs and what one encoder for all data costs.

    Also says what other families would reach on the same decoder, at their best for each example. The decoder stays as
    it is; gaps.json is written into the run's folder.
    """
    found = evaluation.gaps(open_run(run, trust or ()), settings, progress)
    title = f"{run}: {found.count:,} {found.split} data, {found.steps} steps each; nats per datum ± standard error"
    show(title, ["", ""], found.rows())
    show("Posteriors on this decoder", ["", "ELBO", "below log p(x)", "gain"], found.member_rows(), numbers=True)
    print_warnings(found.warnings)


def _given(rows: str | None = None, limit: int = 100) -> tuple[str | None, int]:
    """Rows that are not the model's own.

    Args:
        rows: also ask of given rows whether their posterior is right (L-C2ST), and whether they look like data of the
            model: train, validation or test (the run's own), a file, or a known set.
        limit: the first so many of them only.
    """
    check_counts("calibrate", limit=limit)
    return rows, limit


def _checked(given: tuple[str | None, int], run: RunFolder, count: int, seed: int) -> RowChecks | None:
    """Both tests of the first rows that a word names."""
    word, limit = given
    if word is None:
        return None
    table = named_rows(word, run, Reading()).table
    batch = table.batch(torch.arange(min(limit, len(table))))
    return evaluation.check_rows(run.system(), batch.x, batch.mask, word, count, seed)


@command(
    "RUN [flags]",
    "curvae calibrate runs/digits-vlae",
    "curvae calibrate runs/digits-vlae --count 5000 --figure calibration.png",
    "curvae calibrate runs/digits-vlae --rows test --limit 50",
    given=Source("words and flags", _given),
)
def calibrate(
    run: Path,
    count: int = 1000,
    draws: int = 99,
    seed: int = 0,
    to: Path | None = None,
    figure: Path | None = None,
    force: bool = False,
    trust: Sequence[str] | None = None,
    *,
    given: tuple[str | None, int],
) -> None:
    """Test the posterior of a run on data drawn from its model, whose true latents are known.

    If the posterior is right, the true value of each latent is like one more draw from it, and an interval of 90 %
    holds it for 90 % of the data. A small p-value says that it is not. Written into calibration.json of the run.

    Args:
        count: data drawn from the model.
        draws: from the posterior of each of them.
        seed: of everything drawn.
        to: also write ranks, p-values and coverage into this file (.json), beside the run's calibration.json.
        figure: also draw them into this file (.png, .svg, .pdf).
    """
    with fresh(to, force) as numbers, fresh(figure, force) as picture:
        opened = open_run(run, trust or ())
        sha256 = opened.digest()
        checked = _checked(given, opened, 2 * count, seed)
        found = replace(evaluation.calibrate(opened.system(), count, draws, seed), given=checked)
        write_findings(opened.path, CALIBRATION, {**found.to_dict(), "seed": seed}, sha256)
        write_values(numbers, found.to_dict())
        if picture is not None:
            found.figure(picture)
    title = f"{run}: {len(found.ranks):,} data drawn from the model, {found.draws} draws each"
    show(title, ["", ""], found.rows())
    print(found.verdict)


def _path(
    temperatures: int = 300, data: int = 50, chains: int = 16, samples: int = 500, seed: int = 0
) -> dict[str, int]:
    """How the bounds are made.

    Args:
        temperatures: of the path from prior to posterior; more of them bring the bounds together.
        data: number of data drawn from the model.
        chains: in each direction, for each of them.
        samples: draws for the estimate by importance sampling.
        seed: of everything drawn.
    """
    return {"temperatures": temperatures, "count": data, "chains": chains, "samples": samples, "seed": seed}


@command(
    "RUN [flags]",
    "curvae bracket runs/digits-vlae --temperatures 300 --data 50",
    "curvae bracket runs/digits-vlae --temperatures 3000 --data 20 --to bracket.json",
    path=Source("words and flags", _path),
)
def bracket(
    run: Path,
    to: Path | None = None,
    force: bool = False,
    progress: bool = True,
    trust: Sequence[str] | None = None,
    *,
    path: Mapping[str, int],
) -> None:
    """Enclose log p(x) of data drawn from the model of a run, and see whether its estimates lie between the bounds.

    Annealed importance sampling bounds log p(x) from below, and from above where an exact draw of the posterior is
    known, as it is for data that the model made. Bounds that are near one another say how good an estimate is.

    Args:
        to: also write the bounds of each example into this file (.json).
    """
    with fresh(to, force) as numbers, bar(path["count"], progress) as report:
        found = evaluation.bracket(open_run(run, trust or ()).system(), **path, report=report)
        write_values(numbers, found.to_dict())
    show(f"{run}: {found.title}", ["", ""], found.rows())
    print(found.verdict)
