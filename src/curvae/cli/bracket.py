"""``curvae bracket``: log p(x) between two bounds, on data that the model of a run makes."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from curvae.cli.files import fresh
from curvae.cli.opening import open_run
from curvae.cli.parsing import carry_out
from curvae.cli.tables import show

if TYPE_CHECKING:
    from curvae.evaluation import Bracket


def bracket(words: Sequence[str]) -> None:
    """Enclose log p(x) of data drawn from the model of a run, and see whether its estimates lie between the bounds.

    Annealed importance sampling bounds log p(x) from below, and from above where an exact draw of the posterior is
    known, as it is for data that the model made. Bounds that are near one another say how good an estimate is.
    """
    examples = [
        "curvae bracket runs/digits-vlae --temperatures 300 --data 50",
        "curvae bracket runs/digits-vlae --temperatures 3000 --data 20 --to bracket.json",
    ]
    carry_out(bracket, "RUN [flags]", examples, words, _bracket)


def _bracket(
    run: Path,
    temperatures: int = 300,
    data: int = 50,
    chains: int = 16,
    samples: int = 500,
    seed: int = 0,
    to: Path | None = None,
    force: bool = False,
    progress: bool = True,
    trust: Sequence[str] | None = None,
) -> None:
    """Bracket.

    Args:
        run: folder of a run.
        temperatures: of the path from prior to posterior; more of them bring the bounds together.
        data: number of data drawn from the model.
        chains: in each direction, for each of them.
        samples: draws for the estimate by importance sampling.
        seed: of everything drawn.
        to: also write the bounds of each datum into this file (.json).
        force: write over an existing file.
        progress: show how it goes on stderr: a bar, or a line every 30 s without a terminal.
        trust: modules of your own that the run has parts of.
    """
    from curvae import evaluation
    from curvae.evaluation.progress import bar

    with fresh(to, force) as numbers, bar(data, progress) as report:
        system = open_run(run, trust or ()).system()
        found = evaluation.bracket(system, temperatures, data, chains, samples, seed, report=report)
        if numbers is not None:
            numbers.write_text(json.dumps(found.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
    _show(run, found)


def _show(run: Path, found: "Bracket") -> None:
    from curvae.evaluation import Estimate

    count, width = len(found.lower), found.width
    title = f"{run}: {count:,} data drawn from the model, {found.chains} chains, {found.temperatures} temperatures"
    inside = f"{found.inside:.0%} of those not flagged, within two standard errors"
    inside = "not known: all are flagged" if found.flagged.all() else inside
    rows = [
        ("lower bound, nats", str(Estimate.of(found.lower))),
        ("importance sampling, nats", f"{Estimate.of(found.sampled)} ({found.flagged.sum()} flagged)"),
        ("upper bound, nats", str(Estimate.of(found.upper))),
        ("between the bounds, nats", f"{width:.3f}; under 0.5 for {found.narrow:.0%}"),
        ("estimates between them", inside),
    ]
    show(title, ["", ""], rows)
    print(_verdict(width.value))


def _verdict(width: float) -> str:
    if width > 0.5:
        return "The bounds are too far apart to say much: take more --temperatures."
    return "The bounds are near one another: estimates between them can be trusted for such data."
