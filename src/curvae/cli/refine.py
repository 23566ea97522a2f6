"""``curvae refine``: posteriors with a higher ELBO, and what that was worth."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from curvae.cli.errors import UsageError
from curvae.cli.flags import Source
from curvae.cli.latents import (
    DESCRIBED,
    FILE,
    Arrays,
    Description,
    check_file,
    check_flag_ranges,
    named_rows,
    write_latents,
)
from curvae.cli.output import fresh
from curvae.cli.parsing import command
from curvae.cli.resolve import open_run
from curvae.io.reading import Reading

if TYPE_CHECKING:
    from torch import Generator, Tensor

    from curvae.inference import Refine
    from curvae.latents import Axes
    from curvae.model import LatentVariableModel
    from curvae.posteriors import Posterior
    from curvae.systems import HasPosterior
    from curvae.typing import Batch

DRAWS = 256
"""Draws for each ELBO that is compared."""
ROUNDS, STEPS = 8, 20
"""Of either way, by default."""


def _way(rounds: int | None = None, steps: int | None = None, rate: float = 0.05, samples: int = 8) -> Any:
    """From the posterior of one example to what refines all of them, and to words for that.

    Args:
        rounds: of averaged curvature for each example, whose posterior must be Gaussian; 8 where neither is given.
        steps: gradient steps for each example; 20 where neither is given and the posterior is no Gaussian.
        rate: length of the first gradient step of each parameter of a posterior; it falls to 0.
        samples: draws in each gradient step.
    """
    counts = {"rounds": rounds, "steps": steps, "samples": samples}
    check_flag_ranges(**{name: count for name, count in counts.items() if count is not None})
    if rate <= 0:
        raise UsageError(f"--rate: expected a number above 0, got {rate}.")
    if rounds and steps:
        raise UsageError("--rounds and --steps: two ways to refine; choose one of them.")
    from curvae.inference import averaged_curvature_refiner, refiner_at_test_time
    from curvae.posteriors import GaussianPosterior

    def way(posterior: "Posterior") -> "tuple[Refine, str]":
        gaussian = isinstance(posterior, GaussianPosterior)
        if rounds and not gaussian:
            kind = type(posterior).__name__
            raise UsageError(f"--rounds: expected a run whose posterior is Gaussian, got {kind}. Take --steps.")
        if gaussian and not steps:
            count = rounds or ROUNDS
            return averaged_curvature_refiner(posterior.loc.shape[-1], count), f"{count} rounds"
        return refiner_at_test_time(steps or STEPS, rate, samples), f"{steps or STEPS} steps"

    return way


@command(
    "RUN [flags]",
    "curvae refine runs/digits-vae",
    "curvae refine runs/stars --data new.csv --steps 50 --to refined.csv",
    way=Source("words and flags", _way),
    how=DESCRIBED,
    reading=FILE,
)
def refine(
    run: Path,
    data: str = "test",
    to: Path = Path("refined.npz"),
    force: bool = False,
    trust: Sequence[str] | None = None,
    *,
    way: Any,
    how: Description,
    reading: Reading,
) -> None:
    """Refine the posterior of every example towards a higher ELBO; works for any run, which is left as it is.

    A Gaussian posterior goes to the mode by Newton steps and on, by rounds of averaged curvature, towards the best
    Gaussian, of full covariance; any other one, or with --steps, takes gradient steps within its own family. The file
    holds what that of ``curvae encode`` does, refined, and the ELBO of every example before and after.

    Args:
        data: train, validation or test (the run's own), a file, or a known set (its test part).
        to: file to write, .npz or .csv.
    """
    check_file(to)
    import torch

    from curvae.curvature import take_rows
    from curvae.fitted import Fitted
    from curvae.fitted.outputs import context_of
    from curvae.fitted.rows import batches, map_batches
    from curvae.systems import HasModel, HasPosterior, require

    generator = torch.Generator().manual_seed(2)
    with fresh(to, force) as target:
        fitted = Fitted(open_run(run, trust or ()))
        system = require(fitted.system, HasPosterior, "refine")
        model, rows = require(system, HasModel, "refine").parts().model, named_rows(data, fitted.run, reading)
        axes, first = fitted.axes_for(how.rotate), take_rows(next(iter(batches(fitted.system, rows.table))), slice(1))
        refine, done = way(system.posterior(first.x, first.mask, **context_of(first)))
        arrays = map_batches(
            fitted.system, rows.table, lambda batch: _refined(system, model, refine, batch, how.level, generator, axes)
        )
        worth = {name: arrays[name] for name in ("elbo_before", "elbo_after")}
        write_latents(target, rows, fitted, arrays, **worth)
    print(_worth(arrays, done), f"means and covariances: {to}", sep="\n")


def _refined(
    system: "HasPosterior",
    model: "LatentVariableModel",
    refine: "Refine",
    batch: "Batch",
    level: float,
    generator: "Generator",
    axes: "Axes | None",
) -> "dict[str, Tensor]":
    """The posteriors after refinement, and both ELBOs from the same draws."""
    import torch

    from curvae.fitted.outputs import context_of, moments_of
    from curvae.objectives import elbo

    start, end = (system.posterior(batch.x, batch.mask, steps, **context_of(batch)) for steps in (0, refine))
    again, model = generator.clone_state(), model.given(batch.context)
    with torch.no_grad():
        before = elbo(model, start, batch, DRAWS, generator=generator).value
        after = elbo(model, end, batch, DRAWS, generator=again).value
    return moments_of(end, level, axes) | {"elbo_before": before, "elbo_after": after}


def _worth(arrays: Arrays, done: str) -> str:
    from curvae.evaluation import Estimate

    before, after = arrays["elbo_before"].astype(np.float64), arrays["elbo_after"].astype(np.float64)
    kept, done = np.isfinite(after - before), f"{len(before)} data, {done}:"
    if not kept.any():
        return f"{done} no ELBO is finite"
    gain = Estimate.of((after - before)[kept])
    paired = " (standard error, paired by datum)" if len(before[kept]) > 1 else ""
    lost = "" if kept.all() else f"; {(~kept).sum()} not finite, left out"
    return f"{done} mean ELBO {before[kept].mean():.3f} -> {after[kept].mean():.3f} nats, {gain:+.3f}{paired}{lost}"
