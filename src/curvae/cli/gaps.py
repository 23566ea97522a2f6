"""``curvae gaps``: where the ELBO's distance to log p(x) comes from, and what a better posterior would buy."""

from collections.abc import Sequence
from pathlib import Path

from curvae import evaluation
from curvae.cli.flags import Source
from curvae.cli.opening import open_run
from curvae.cli.output import show, warn
from curvae.cli.parsing import command
from curvae.evaluation import GapSettings


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
    warn(found.warnings)
