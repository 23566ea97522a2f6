"""``curvae calibrate``: whether the posterior of a run is right where its model puts data."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from curvae.cli.files import fresh
from curvae.cli.opening import open_run
from curvae.cli.parsing import carry_out
from curvae.cli.tables import show

if TYPE_CHECKING:
    from curvae.evaluation import Calibration


def calibrate(words: Sequence[str]) -> None:
    """Test the posterior of a run on data drawn from its model, whose true latents are known.

    If the posterior is right, the true value of each latent is like one more draw from it, and an interval of 90 %
    holds it for 90 % of the data. A small p-value says that it is not. Written into calibration.json of the run.
    """
    examples = [
        "curvae calibrate runs/digits-vlae",
        "curvae calibrate runs/digits-vlae --count 5000 --figure calibration.png",
    ]
    carry_out(calibrate, "RUN [flags]", examples, words, _calibrate)


def _calibrate(
    run: Path,
    count: int = 1000,
    draws: int = 99,
    seed: int = 0,
    to: Path | None = None,
    figure: Path | None = None,
    force: bool = False,
    trust: Sequence[str] | None = None,
) -> None:
    """Calibrate.

    Args:
        run: folder of a run.
        count: data drawn from the model.
        draws: from the posterior of each of them.
        seed: of everything drawn.
        to: also write ranks, p-values and coverage into this file (.json), beside the run's calibration.json.
        figure: also draw them into this file (.png, .svg, .pdf).
        force: write over an existing file.
        trust: modules of your own that the run has parts of.
    """
    from curvae import evaluation
    from curvae.evaluation.io import write_findings
    from curvae.training.run.layout import CALIBRATION

    with fresh(to, force) as numbers, fresh(figure, force) as picture:
        opened = open_run(run, trust or ())
        sha256 = opened.digest()
        found = evaluation.calibrate(opened.system(), count, draws, seed)
        write_findings(opened.path, CALIBRATION, {**found.to_dict(), "seed": seed}, sha256)
        if numbers is not None:
            numbers.write_text(json.dumps(found.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")
        if picture is not None:
            found.figure(picture)
    _show(run, found)


def _show(run: Path, found: "Calibration") -> None:
    from curvae.evaluation import Estimate

    title = f"{run}: {len(found.ranks):,} data drawn from the model, {found.draws} draws each"
    ranks = [(f"ranks of {name}", f"p = {p:.2g}") for name, p in zip(found.names, found.p_values, strict=True)]
    cover = [
        (f"intervals of {level:.0%}", f"hold {Estimate(100 * share.value, 100 * share.stderr):.1f} %")
        for level, share in found.coverage.items()
    ]
    show(title, ["", ""], [*ranks, *cover])
    print(f"All ranks together: p = {found.p_value:.2g}.", _verdict(found.p_value))


def _verdict(p: float) -> str:
    if p < 0.01:
        return "The posterior is not right: an exact one looks as bad less than once in a hundred times."
    return "Nothing is seen against the posterior."
