"""Annealed importance sampling of log p(x): a second opinion that does not depend on any proposal near the posterior.

Measured on VAEs at equal numbers of gradients, as the spread of the log weights (root mean square of the standard
deviation over 16 chains, 40 data, 300 gradients): MNIST (D = 16, 256 hidden units, Gaussian) 2.1 nats with a fresh
momentum at each temperature, 1.6 with 0.7 of it kept and a target acceptance of 0.8, 2.0 with two leapfrog steps, 2.1
with the posterior's mean information as the inverse mass; 8x8 digits (D = 8, 128 hidden units) 0.61, and 0.54 with 0.6
kept. ``b_k = (k / K)^2`` is as good as ``(k / K)^3``, better than ``(k / K)^4``, a sigmoid and even spacing.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Generator, Tensor

from curvae.argument_checks import check_counts, check_least
from curvae.curvature import Gram
from curvae.data import ArrayTable
from curvae.dynamics import Annealed, GeometricPath, anneal, tune_step_sizes
from curvae.evaluation.draws import seeded_evaluation
from curvae.evaluation.estimate import Scores
from curvae.evaluation.likelihood.diagnostics import chi2_quantile
from curvae.evaluation.likelihood.estimation import scores_named
from curvae.evaluation.likelihood.importance import bytes_per_draw, estimates, exact
from curvae.evaluation.likelihood.weighted_draws import concatenate_scores, measure_each_at_its_effort, rows_of_batch
from curvae.evaluation.settings import MEMORY
from curvae.model import BatchModel, LatentVariableModel, require_continuous, require_unconditional
from curvae.systems import HasModel, System, Weights, require
from curvae.systems.device import batch_to_system
from curvae.typing import Batch

CHAINS = 16
"""Independent chains for each example."""
PERSISTENCE = 0.7
"""Share of the momentum that a transition takes over from the last one."""
ACCEPTANCE = 0.8
"""What steps are tuned to."""
SPREAD = 0.5
"""Standard deviation of the log weights over chains that an example is to have, nats; their mean then errs by 0.13."""
MOST = 16
"""An example gets up to so many times the temperatures for it."""
WORTH = 2.0
"""Nats below the median weight at which a chain is as good as worthless."""
SPREAD_BAD = 1.0
"""Above it neither the estimate of an example nor its error can be trusted."""


class AnnealingPath(NamedTuple):
    """A path from the prior to the posterior of each example of a batch, with steps that were tuned on other noise.

    Example:
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.priors import StandardNormal
        >>> state = torch.manual_seed(0)
        >>> model = LatentVariableModel(StandardNormal(2), torch.nn.Linear(2, 3), Gaussian(3))
        >>> with torch.no_grad():
        ...     x, z = model.sample(200)
        ...     path = AnnealingPath.to(model, Batch(x, torch.arange(200)), 20, generator=torch.Generator())
        ...     below, above = path.forward(8).log_weight, -path.backward(z.expand(8, -1, -1)).log_weight
        >>> below.shape, bool((below.mean() < above.mean()))
        (torch.Size([8, 200]), True)
    """

    model: LatentVariableModel
    batch: Batch
    betas: Float[Tensor, " K1"]
    step: Float[Tensor, "K B 1"]
    spread: NDArray[np.float64]
    """Of the log weights over the chains of the tuning run, nats, ``(B,)``; it falls as ``1 / sqrt(K)``."""

    @classmethod
    def to(
        cls,
        model: LatentVariableModel,
        batch: Batch,
        temperatures: int,
        chains: int = CHAINS,
        generator: Generator | None = None,
    ) -> "AnnealingPath":
        """The path of K temperatures ``(k / K)^2``, tuned by a first run of so many chains."""
        z = begin(model, batch, chains, generator)
        betas = temperature_schedule(temperatures, z)
        tuned = tune_step_sizes(prior_to_joint_path(model, batch), z, betas, 1, generator, ACCEPTANCE, PERSISTENCE)
        return cls(model, batch, betas, tuned.step, spread(exact(tuned.log_weight).numpy()))

    def forward(self, chains: int = CHAINS, generator: Generator | None = None) -> Annealed:
        """From draws of the prior: ``E[exp(log_weight)] = p(x)``, so its mean is a lower bound of log p(x)."""
        z = begin(self.model, self.batch, chains, generator)
        found = prior_to_joint_path(self.model, self.batch)
        return anneal(found, z, self.betas, self.step, 1, generator, persistence=PERSISTENCE)

    def backward(self, z: Float[Tensor, "S B D"], generator: Generator | None = None) -> Annealed:
        """From exact draws of the posterior, known where the model made the data: ``E[exp(log_weight)] = 1 / p(x)``.

        So minus its mean is an upper bound of log p(x): bidirectional Monte Carlo (Grosse et al., 2015).
        """
        step, found = torch.cat([self.step[:-1].flip(0), self.step[:1]]), prior_to_joint_path(self.model, self.batch)
        return anneal(found, z, self.betas.flip(0), step, 1, generator, persistence=PERSISTENCE)

    def factors(self) -> NDArray[np.int64]:
        """How many times the temperatures each example needs for a spread of half a nat: 1, 2, 4 ... 16, ``(B,)``.

        Seen from the tuning run, whose draws are in no estimate; so these stay unbiased.
        """
        with np.errstate(all="ignore"):
            needed = np.log2(np.square(self.spread / SPREAD))
        highest = int(math.log2(MOST))
        return 2 ** np.ceil(np.clip(np.nan_to_num(needed, nan=highest), 0, highest)).astype(np.int64)

    def finer(self, rows: NDArray[np.int64], times: int) -> "AnnealingPath":
        """The path of some data at so many times the temperatures; the steps are those of the coarser one."""
        kept = torch.from_numpy(rows)
        step = self.step[:, kept.to(self.step.device)].repeat_interleave(times, 0)
        betas = temperature_schedule(len(step), self.betas)
        return AnnealingPath(self.model, rows_of_batch(self.batch, kept), betas, step, self.spread[rows])

    def each(self, measure: Callable[["AnnealingPath", NDArray[np.int64]], Scores]) -> Scores:
        """What is measured on the path of each example, as fine as it needs; in the order of the batch."""
        return measure_each_at_its_effort(self.factors(), lambda times, rows: measure(self.finer(rows, times), rows))


def temperature_schedule(temperatures: int, like: Tensor) -> Float[Tensor, " K1"]:
    """``(k / K)^2``, more of them where the prior is near."""
    return torch.linspace(0, 1, temperatures + 1, dtype=like.dtype, device=like.device).square()


def prior_to_joint_path(model: LatentVariableModel, batch: Batch) -> GeometricPath:
    """``p(z) p(x | z)^b``; by the Gram matrix of the decoder's last layer, at half the price, where that is exact."""
    if Gram.fits(model, batch):
        near = Gram.of(model, batch, batch.x.new_zeros(len(batch.x), sum(model.prior.blocks)))
        model = BatchModel(model, near.log_likelihood)
    return GeometricPath(model.prior.log_prob, lambda z: model.log_joint(batch.x, z, batch.mask))


def begin(
    model: LatentVariableModel, batch: Batch, chains: int, generator: Generator | None = None
) -> Float[Tensor, "S B D"]:
    """Draws of the prior."""
    z = model.prior.sample(chains * len(batch.x), generator)
    return z.reshape(chains, len(batch.x), -1)


def annealed_importance_sampling(
    system: System,
    table: ArrayTable,
    temperatures: int,
    count: int = 100,
    chains: int = CHAINS,
    seed: int = 0,
    memory: int = MEMORY,
    report: Callable[[int, float], None] | None = None,
) -> Scores:
    """``log_likelihood_ais``, its errors ``stderr_ais`` and ``limit_ais``, and more of the first ``count`` data.

    These are ``ess_ais``, ``acceptance_ais``, ``spread_ais``, the standard deviation of the log weights over chains,
    nats (see :func:`spread`), and ``temperatures_ais``: an example whose spread was above half a nat in the tuning run
    gets 2, 4 ... 16 times the temperatures.

    Args:
        system: with a model of continuous latents.
        table: the data.
        temperatures: K; an example costs 2 K gradients of log p(x, z) for each chain, tuning included, and up to 17 K
            where it gets more temperatures.
        count: number of data.
        chains: S, independent ones for each example; a single one has no error.
        seed: of the draws.
        memory: bytes that the chains of a batch may take at a time.
        report: called with the number of data done and the mean so far, nats.

    Raises:
        ValueError: fewer than 1 temperature, example, chain or byte; or a system without a model (HasModel), without
            evidence or with discrete latents.

    Reference: Neal, *Annealed importance sampling*, Statistics and Computing 2001. Steps of one leapfrog each, tuned to
    an acceptance of 0.8; 0.7 of the momentum is kept from one to the next.
    """
    check_least("ais", 1, memory=memory)
    model = require_annealable(system, temperatures=temperatures, data=count, chains=chains).parts().model
    parts: list[Scores] = []
    with seeded_evaluation(system, seed) as generator:
        first = batch_to_system(system, table.batch(torch.arange(1)))
        rows = rows_to_anneal(model, first, temperatures, chains, memory)
        for index in torch.arange(min(count, len(table))).split(rows):
            batch = batch_to_system(system, table.batch(index))
            path = AnnealingPath.to(model, batch, temperatures, chains, generator)
            found = path.each(lambda finer, _: _scores(finer, finer.forward(chains, generator)))
            parts.append({"index_ais": index.numpy(), **found})
            if report is not None:
                done = np.concatenate([part["log_likelihood_ais"] for part in parts])
                report(int(index[-1]) + 1, float(done.mean()))
    return concatenate_scores(parts)


def rows_to_anneal(model: LatentVariableModel, batch: Batch, temperatures: int, chains: int, memory: int) -> int:
    """Data at a time: what a gradient takes for each chain, and the acceptance that is kept of each transition."""
    return max(1, memory // (chains * (4 * bytes_per_draw(model, batch) + 8 * MOST * temperatures)))


def _scores(path: AnnealingPath, found: Annealed) -> Scores:
    log_w = exact(found.log_weight)
    weights = estimates(Weights(log_w, torch.full_like(log_w, -np.log(len(log_w)))))
    return {
        **scores_named("ais", weights._replace(limit=log_normal_limit(log_w.numpy()))),
        "acceptance_ais": exact(found.acceptance).mean((0, 1)).numpy(),
        "spread_ais": spread(log_w.numpy()),
        "temperatures_ais": np.full(log_w.shape[1], len(path.step)),
    }


def spread(log_w: NDArray) -> NDArray:
    """Standard deviation of log weights ``(S, B)`` over chains, nats; NaN of a single one.

    A chain that got stuck, worth less than ``e^-2`` of the median weight, counts as one of that worth: however little
    it is worth hardly matters to the mean.
    """
    with np.errstate(all="ignore"):
        least = np.median(log_w, axis=0) - WORTH
        return np.maximum(log_w, least).std(0, ddof=1) if len(log_w) > 1 else np.full(log_w.shape[1], np.nan)


def log_normal_limit(log_w: NDArray) -> NDArray:
    r"""Upper end of the error of the logarithm of the mean of few weights ``(S, B)``: ``(B,)``, nats.

    Annealing sums up many small changes, so its log weights are nearly normal. With their variance at the upper end of
    its 95 % confidence interval, ``v = (S - 1) s^2 / chi2_{0.05}(S - 1)``, the mean of S weights has the relative error
    ``sqrt((e^v - 1) / S)``. The usual error, sd(w) / (sqrt(S) mean(w)), is too small where a large weight is missing,
    which of 16 skewed ones it mostly is: twice that covers the truth for 94 to 83 % of normal log weights of spread 0.1
    to 1.3, twice this one for 99 % of all of them (20,000 repetitions), its single for 83 to 89 %.

    Example:
        >>> log_w = np.random.default_rng(0).normal(size=(16, 1000))
        >>> error = np.logaddexp.reduce(log_w, 0) - np.log(16) - 0.5                  # E[w] = exp(1/2)
        >>> float((abs(error) < 2 * log_normal_limit(log_w)).mean().round(2))
        0.99
    """
    count = len(log_w)
    with np.errstate(all="ignore"):
        most = np.square(spread(log_w)) * (count - 1) / chi2_quantile(0.05, count - 1)
        return np.sqrt(np.expm1(most) / count)


def require_annealable(system: System, what: str = "ais", /, **counts: int) -> HasModel:
    """The system, if annealing can be done.

    Raises:
        ValueError: as :func:`annealed_importance_sampling`.
    """
    check_counts(what, **counts)
    latent = require(system, HasModel, what)
    if system.evidence == "none":
        raise ValueError(
            f"{what}: needs a system with a latent-variable model that gives evidence; got {type(system).__name__} "
            f"with evidence 'none'." + (" Leave out ais." if what == "ais" else "")
        )
    require_continuous(latent.parts().model, what)
    require_unconditional(latent.parts().model, what)
    return latent
