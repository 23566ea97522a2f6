"""``curvae calibrate``: whether the posterior of a run is right where its model puts data."""

from collections.abc import Sequence
from pathlib import Path

from curvae.cli.opening import open_run
from curvae.cli.output import fresh, show, write_json
from curvae.cli.parsing import command


@command(
    "RUN [flags]",
    "curvae calibrate runs/digits-vlae",
    "curvae calibrate runs/digits-vlae --count 5000 --figure calibration.png",
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
    from curvae import evaluation
    from curvae.evaluation.io import write_findings
    from curvae.training.run.layout import CALIBRATION

    with fresh(to, force) as numbers, fresh(figure, force) as picture:
        opened = open_run(run, trust or ())
        sha256 = opened.digest()
        found = evaluation.calibrate(opened.system(), count, draws, seed)
        write_findings(opened.path, CALIBRATION, {**found.to_dict(), "seed": seed}, sha256)
        write_json(numbers, found.to_dict())
        if picture is not None:
            found.figure(picture)
    title = f"{run}: {len(found.ranks):,} data drawn from the model, {found.draws} draws each"
    show(title, ["", ""], found.rows())
    print(found.verdict)
