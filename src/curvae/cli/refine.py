"""``curvae refine``: posteriors after gradient steps on their ELBO, and what the steps were worth."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curvae.cli.failures import UsageError
from curvae.cli.flags import Source
from curvae.cli.latents import DESCRIBED, FILE, Arrays, Described, check_counts, check_file, rows_of, write_latents
from curvae.cli.opening import open_run
from curvae.cli.output import fresh
from curvae.cli.parsing import command

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from curvae.inference import Refiner
    from curvae.latents import Axes
    from curvae.model import LatentVariableModel
    from curvae.systems import HasPosterior
    from curvae.typing import Batch

DRAWS = 256
"""Draws for each ELBO that is compared."""


def _refiner(steps: int = 20, rate: float = 0.05, samples: int = 8) -> Any:
    """What refines.

    Args:
        steps: gradient steps for each example.
        rate: length of the first step of each parameter of a posterior; it falls to 0.
        samples: draws in each step.
    """
    check_counts(steps=steps, samples=samples)
    if rate <= 0:
        raise UsageError(f"--rate: expected a number above 0, got {rate}.")
    from curvae.inference import at_test_time

    return at_test_time(steps, rate, samples)


@command(
    "RUN [flags]",
    "curvae refine runs/digits-vae --steps 20",
    "curvae refine runs/stars --data new.csv --steps 50 --to refined.csv",
    refiner=Source("words and flags", _refiner),
    how=DESCRIBED,
    options=FILE,
)
def refine(
    run: Path,
    data: str = "test",
    to: Path = Path("refined.npz"),
    force: bool = False,
    trust: Sequence[str] | None = None,
    *,
    refiner: Any,
    how: Described,
    options: Mapping[str, Any],
) -> None:
    """Refine the posterior of every example by gradient steps on its ELBO; works for any run, which is left as it is.

    The file holds what that of ``curvae encode`` does, after the steps, and the ELBO of every example before and after.

    Args:
        data: train, validation or test (the run's own), a file, or a known set (its test part).
        to: file to write, .npz or .csv.
    """
    check_file(to)
    import torch

    from curvae.fitted import Fitted
    from curvae.fitted.rows import gathered
    from curvae.systems import HasModel, HasPosterior, require

    generator = torch.Generator().manual_seed(2)
    with fresh(to, force) as target:
        fitted = Fitted(open_run(run, trust or ()))
        system = require(fitted.system, HasPosterior, "refine")
        model, rows = require(system, HasModel, "refine").parts().model, rows_of(data, fitted.run, options)
        axes = fitted.axes_for(how.rotate)
        arrays = gathered(
            fitted.system, rows.table, lambda batch: _refined(system, model, refiner, batch, how.level, generator, axes)
        )
        worth = {name: arrays[name] for name in ("elbo_before", "elbo_after")}
        write_latents(target, rows, fitted, arrays, **worth)
    print(_worth(arrays, refiner.steps), f"means and covariances: {to}", sep="\n")


def _refined(
    system: "HasPosterior",
    model: "LatentVariableModel",
    refiner: "Refiner",
    batch: "Batch",
    level: float,
    generator: "Generator",
    axes: "Axes | None",
) -> "dict[str, Tensor]":
    """The posteriors after refinement, and both ELBOs from the same draws."""
    import torch

    from curvae.fitted.outputs import described
    from curvae.objectives import elbo

    start, end = (system.posterior(batch.x, batch.mask, steps) for steps in (0, refiner))
    again = generator.clone_state()
    with torch.no_grad():
        before = elbo(model, start, batch, DRAWS, generator=generator).value
        after = elbo(model, end, batch, DRAWS, generator=again).value
    return described(end, level, axes) | {"elbo_before": before, "elbo_after": after}


def _worth(arrays: Arrays, steps: int) -> str:
    from curvae.evaluation import Estimate

    before, after = arrays["elbo_before"].astype(np.float64), arrays["elbo_after"].astype(np.float64)
    kept, done = np.isfinite(after - before), f"{len(before)} data, {steps} steps:"
    if not kept.any():
        return f"{done} no ELBO is finite"
    gain = Estimate.of((after - before)[kept])
    paired = " (standard error, paired by datum)" if len(before[kept]) > 1 else ""
    lost = "" if kept.all() else f"; {(~kept).sum()} not finite, left out"
    return f"{done} mean ELBO {before[kept].mean():.3f} -> {after[kept].mean():.3f} nats, {gain:+.3f}{paired}{lost}"
