"""log p(x) between two bounds, on data that the model itself made: bidirectional Monte Carlo."""

import math
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import logsumexp
from torch import Generator

from curvae.argument_checks import check_least
from curvae.evaluation.draws import seeded_evaluation
from curvae.evaluation.estimate import Estimate, Scores, to_plain_json
from curvae.evaluation.likelihood.annealing import (
    CHAINS,
    AnnealingPath,
    log_normal_limit,
    require_annealable,
    rows_to_anneal,
)
from curvae.evaluation.likelihood.importance import exact
from curvae.evaluation.likelihood.proposal_selection import KHAT_BAD
from curvae.evaluation.likelihood.scores import score_by_proposals
from curvae.evaluation.likelihood.weighted_draws import Sampling, concatenate_scores
from curvae.evaluation.settings import MEMORY
from curvae.systems import HasModel, System
from curvae.typing import Batch, Latent

NARROW = 0.5
"""Nats between the bounds below which they say something about an estimate."""


@dataclass(frozen=True)
class Bracket:
    """Bounds of log p(x) of each simulated example, in nats, and the evaluator's estimate beside them."""

    lower: NDArray
    lower_stderr: NDArray
    upper: NDArray
    upper_stderr: NDArray
    """Over the chains, which all begin at the same z: that of another z is not in it. The three errors are the upper
    ends of their 95 % confidence intervals."""
    sampled: NDArray
    """log p(x) by importance sampling from the best proposal."""
    sampled_stderr: NDArray
    flagged: NDArray
    """Whose k-hat is above 0.7 there, or whose estimate is not finite."""
    temperatures: int
    chains: int

    @property
    def width(self) -> Estimate:
        """Mean of ``upper - lower`` over the data, nats."""
        return Estimate.of(self.upper - self.lower, np.hypot(self.upper_stderr, self.lower_stderr))

    @property
    def narrow(self) -> float:
        """Share of data whose bounds are less than half a nat apart."""
        return float((self.upper - self.lower < NARROW).mean())

    @property
    def inside(self) -> float:
        """Share of the data not flagged whose estimate is above neither bound by two joint standard errors, nor below.

        ``lower - 2 sqrt(s_lower^2 + s^2) <= estimate <= upper + 2 sqrt(s_upper^2 + s^2)``; NaN where all are flagged.
        """
        above = self.sampled - self.lower + 2 * np.hypot(self.sampled_stderr, self.lower_stderr)
        below = self.upper - self.sampled + 2 * np.hypot(self.sampled_stderr, self.upper_stderr)
        kept = ((above >= 0) & (below >= 0))[~self.flagged]
        return float(kept.mean()) if len(kept) else math.nan

    @property
    def title(self) -> str:
        """Of the printed table."""
        count = len(self.lower)
        return f"{count:,} data drawn from the model, {self.chains} chains, {self.temperatures} temperatures"

    @property
    def verdict(self) -> str:
        """What the width says."""
        if self.width.value > NARROW:
            return "The bounds are too far apart to say much: take more --temperatures."
        return "The bounds are near one another: estimates between them can be trusted for such data."

    def rows(self) -> Iterator[tuple[str, str]]:
        """Of the printed table."""
        inside = f"{self.inside:.0%} of those not flagged, within two standard errors"
        yield "lower bound, nats", str(Estimate.of(self.lower))
        yield "importance sampling, nats", f"{Estimate.of(self.sampled)} ({self.flagged.sum()} flagged)"
        yield "upper bound, nats", str(Estimate.of(self.upper))
        yield "between the bounds, nats", f"{self.width:.3f}; under 0.5 for {self.narrow:.0%}"
        yield "estimates between them", "not known: all are flagged" if self.flagged.all() else inside

    def to_dict(self) -> dict[str, Any]:
        """Only what JSON has: each example, and the summary."""
        said = {"width": asdict(self.width), "narrow": self.narrow, "inside": self.inside}
        each = asdict(self).items()
        return to_plain_json(
            {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in each} | said
        )


def bracket(
    system: System,
    temperatures: int = 300,
    count: int = 50,
    chains: int = CHAINS,
    samples: int = 500,
    seed: int = 0,
    memory: int = MEMORY,
    report: Callable[[int, float], None] | None = None,
) -> Bracket:
    r"""Enclose log p(x) of data drawn from the model, whose z is then an exact draw of their posterior.

    Annealed importance sampling from the prior to the posterior has weights ``E[w] = p(x)``, so the logarithm of their
    mean over chains errs low; run backward from the exact draw, ``E[w] = 1 / p(x)``, so minus the logarithm of their
    mean errs high. Each is a stochastic bound: it holds on average over the draws, and for one example up to its error.
    The path is tuned on other noise, and an example whose weights spread by more than half a nat there gets up to 16
    times the temperatures. More temperatures bring the bounds together, about as 1 / K.

    It tells whether *the evaluator* can be trusted for this model, on data that are like the model's own.

    Args:
        system: with a model of continuous latents.
        temperatures: K; an example costs 3 K gradients of log p(x, z) for each chain, and up to 33 K where it gets
            more.
        count: number of data to draw.
        chains: independent chains in each direction.
        samples: draws of each proposal for the estimate by importance sampling.
        seed: of everything drawn.
        memory: bytes that chains and draws of a batch may take at a time.
        report: called with the number of data done and the mean of the lower bound, nats.

    Raises:
        ValueError: fewer than 1 temperature, example, chain, draw or byte; or a system without a model (HasModel),
            without evidence or with discrete latents.

    Reference: Grosse, Ghahramani and Adams, *Sandwiching the marginal likelihood using bidirectional Monte Carlo*,
    2015.

    Example:
        >>> from curvae.data import from_array
        >>> from curvae.systems import vae
        >>> data = from_array(torch.randn(40, 5))
        >>> found = bracket(vae(data.spec, latent=2, hidden=8), temperatures=50, count=20, samples=100)
        >>> found.lower.shape, bool(abs(found.width.value) < 0.5)
        ((20,), True)
    """
    check_least("bracket", 1, memory=memory)
    latent = require_annealable(
        system, "bracket", temperatures=temperatures, data=count, chains=chains, samples=samples
    )
    parts: list[Scores] = []
    with seeded_evaluation(system, seed) as generator:
        model = latent.parts().model
        x, z = model.sample(count, generator)
        rows = rows_to_anneal(model, Batch.of(x[:1]), temperatures, chains, memory)
        for some in torch.arange(count, device=x.device).split(rows):
            batch = Batch.of(x[some])
            path = AnnealingPath.to(model, batch, temperatures, chains, generator)
            found = path.each(partial(_bounds, z=z[some], chains=chains, generator=generator))
            parts.append(found | _sampled(latent, batch, Sampling(samples, memory, generator)))
            if report is not None:
                done = np.concatenate([part["lower"] for part in parts])
                report(len(done), float(done.mean()))
    return Bracket(**concatenate_scores(parts), temperatures=temperatures, chains=chains)


def _bounds(path: AnnealingPath, rows: NDArray[np.int64], z: Latent, chains: int, generator: Generator) -> Scores:
    """Both ends, from as many chains in each direction."""
    start = z[torch.from_numpy(rows).to(z.device)].expand(chains, -1, -1)
    low = exact(path.forward(chains, generator).log_weight).numpy()
    high = exact(path.backward(start, generator).log_weight).numpy()
    return {
        "lower": log_mean(low),
        "lower_stderr": log_normal_limit(low),
        "upper": -log_mean(high),
        "upper_stderr": log_normal_limit(high),
    }


def log_mean(log_w: NDArray) -> NDArray:
    """Logarithm of the mean weight over chains."""
    return logsumexp(log_w, axis=0) - math.log(len(log_w))


def _sampled(system: HasModel, batch: Batch, sampling: Sampling) -> Scores:
    """What the evaluator says of the same data."""
    found = score_by_proposals(system, system.parts().infer(batch), batch, sampling)
    value = found["log_likelihood"]
    flagged = ~np.isfinite(value) | (found["khat_best"] > KHAT_BAD)
    return {"sampled": value, "sampled_stderr": found["limit_best"], "flagged": flagged}
