"""The best Gaussian: mean and precision from slope and curvature of log p(x, z) averaged over the posterior itself."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from curvae import linalg
from curvae.argument_checks import check_least
from curvae.curvature import Linearization, linearize
from curvae.inference.inference import Continued, Inference, Inferred, prefixed
from curvae.inference.laplace import Laplace
from curvae.inference.nodes import Antithetic, GaussHermite, NodeRule, Nodes, OrthogonalFrames
from curvae.inference.refiner import elbo_is_lower, posterior_where
from curvae.model import LatentVariableModel
from curvae.posteriors import GaussianPosterior, Posterior, PrecisionGaussian, detached, kl
from curvae.typing import Batch, Matrix, PerDatum

MEMORY = 2**27
"""Bytes that the precisions of several nodes may take at once; those of one are always let through."""


@dataclass(frozen=True)
class AveragedCurvature:
    r"""Towards the Gaussian with the greatest ELBO, ``E_q[d log p] = 0`` and ``Lam = E_q[-d2 log p]``, by a few rounds.

    At nodes ``z_k = mu + L'^-1 e_k`` of ``q = N(mu, (L L')^-1)`` a round takes

    ``Lam <- (1 - r) Lam + r sum_k w_k Lam(z_k)``, ``mu <- mu + r Lam^-1 sum_k w_k grad log p(x, z_k)``,

    r = 1 first, then 1/2: natural-gradient steps of the ELBO. ``Lam(z) = J'FJ + prior precision`` is that of the
    curvature engine. Where the nodes have the second moments of N(0, I), as a frame or a grid has, the mean Hessian
    comes from gradients instead, exactly: ``E_q[-d2 log p] = -E[L e (grad log p)']``, symmetrized (Stein, Price).

    A round is judged for each example by its own nodes, common to q before and after it: ``log p(x, z) + 1/2 (z - mu)'
    Lam (z - mu)`` is averaged over them, and what was added has its expectation in closed form, with the Lam that the
    round proposes. So a quadratic log p is judged exactly. An example whose ELBO would fall keeps its q; its next r is
    half as long, and twice as long again, up to 1/2, after a success.

    No gradient flows through the rounds: at the best Gaussian the ELBO has no slope in q.

    Args:
        rounds: number T of rounds; 0 leaves the posterior as it is.
        nodes: where slope and curvature are evaluated: ``Antithetic`` draws, ``OrthogonalFrames`` frames or a
            ``GaussHermite`` grid.
        steps: Newton steps before them, to the Laplace posterior at the mode: for a posterior that is not near it.
        guard: draws, common to start and end and none of the nodes, by which an example's start is kept where the end
            has a lower ELBO; 0 keeps every end.
        route: a route of the curvature engine; the cheapest that fits if not given.

    Info: ``elbo`` (T, B), before each round, from its nodes, and ``accepted`` (T, B); with a guard ``kept`` (B,), True
    where the start was kept.

    Raises:
        ValueError: negative rounds or guard.
        TypeError: in use, a posterior that is not a Gaussian.

    Reference: Opper and Archambeau, *The variational Gaussian approximation revisited*, Neural Computation 2009; Khan
    and Rue, *The Bayesian learning rule*, JMLR 2023, section 4.

    Differences: with draws the Hessian is replaced by the Gauss-Newton matrix, which is never indefinite and of which
    two draws are enough. It leaves out the residual's part, ``E_q[sum_i s_i d2 eta_i]`` with s the slope of the
    likelihood in eta: so the fixed point is the best Gaussian where that vanishes, else near it. For a ReLU decoder
    that part is what its kinks have: within a linear piece Lam is the exact Hessian, but a mean over draws never meets
    the jump of the slope between two pieces. ``docs/studies/averaged-curvature.md`` has what it costs.

    Example:
        >>> import torch
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.posteriors import DiagonalGaussian
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(2), torch.nn.Linear(2, 3), Gaussian(3))
        >>> q = DiagonalGaussian(torch.zeros(4, 2), torch.zeros(4, 2))
        >>> found = AveragedCurvature(rounds=1)(model, q, Batch(torch.ones(4, 3), torch.arange(4)))
        >>> exact = torch.eye(2) + model.decoder.weight.mT @ model.decoder.weight
        >>> torch.allclose(found.posterior.precision, exact, atol=1e-5), found.info["elbo"].shape
        (True, torch.Size([1, 4]))
    """

    rounds: int = 2
    nodes: NodeRule = field(default_factory=Antithetic)
    steps: int = 0
    guard: int = 0
    route: type[Linearization] | None = None

    def __post_init__(self) -> None:
        check_least("AveragedCurvature", 0, rounds=self.rounds, steps=self.steps, guard=self.guard)

    @torch.no_grad()
    def __call__(self, model: LatentVariableModel, posterior: Posterior, batch: Batch) -> Inferred:
        start = end = to_precision_gaussian(posterior)
        if self.steps:
            end = to_precision_gaussian(
                Laplace(GivenPosterior(start), self.steps, route=self.route)(model, batch).posterior
            )
        end, info = self._carried_out(model, end, batch) if self.rounds else (end, {})
        if self.guard == 0:
            return Inferred(end, info)
        kept = elbo_is_lower(model, start, end, batch, self.guard)
        return Inferred(posterior_where(kept, start, end), {**info, "kept": kept})

    def _carried_out(
        self, model: LatentVariableModel, q: PrecisionGaussian, batch: Batch
    ) -> tuple[PrecisionGaussian, dict[str, Tensor]]:
        """All rounds."""
        with torch.autocast(q.loc.device.type, enabled=False), model.evaluating():
            near, rate, seen = linearize(model, batch, q.loc, self.route), torch.ones_like(q.loc[:, 0]), []
            for nodes, _ in zip(self.nodes.rounds(q.loc.shape[1]), range(self.rounds), strict=False):
                here = Spread.of(near, q, Nodes(*(part.to(q.loc) for part in nodes)))
                q, before, accepted = _round(here, q, rate, self.nodes.exact)
                near = here.near
                rate = torch.where(accepted, (2 * rate).clamp(max=0.5), 0.5 * rate)
                seen.append((before, accepted))
        elbo, accepted = map(torch.stack, zip(*seen, strict=True))
        return q, {"elbo": elbo, "accepted": accepted}


class AveragedLaplace(Continued):
    """``q(z | x) = N(mu, Lam^-1)`` near the best Gaussian: rounds of :class:`AveragedCurvature` after another method.

    From the Laplace posterior, which has slope 0 and the curvature at one point, the rounds lead to slope and curvature
    averaged over q: a few of them gain most of what the best Gaussian has over it, at a small part of the price of
    gradient steps.

    q is held constant for the gradient. The encoder learns from ``start``'s ``encoder_bound`` or, where that has none,
    from ``-KL(q_0 || q)``, q_0 the posterior of ``start`` and q held fixed.

    Args:
        start: the inference that the rounds begin with; its posterior must be a Gaussian.
        average: the rounds.

    Info: that of ``start`` and of the rounds.

    Raises:
        TypeError: in use, a start that gives no Gaussian.

    Example:
        >>> import torch
        >>> from curvae.inference import AmortizedGaussian, Laplace
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(3), torch.nn.Linear(3, 10), Gaussian(10, scale=0.3))
        >>> inference = AveragedLaplace(Laplace(AmortizedGaussian(torch.nn.Linear(10, 6))))
        >>> inference(model, Batch(torch.randn(8, 10), torch.arange(8))).posterior.covariance.shape
        torch.Size([8, 3, 3])
    """

    def __init__(self, start: Inference, average: AveragedCurvature | None = None):
        super().__init__(start)
        self.average = average or AveragedCurvature()

    def forward(self, model: LatentVariableModel, batch: Batch) -> Inferred:
        begin: Inferred = self.start(model, batch)
        found = self.average(model, detached(begin.posterior), batch)
        bound = begin.encoder_bound
        if bound is None:
            bound = _missed(begin.posterior, found.posterior)
        info, state = {**begin.info, **found.info}, prefixed("start", begin.state)
        return begin._replace(posterior=found.posterior, info=info, encoder_bound=bound, state=state)


def averaged_curvature_refiner(size: int, rounds: int = 8) -> AveragedCurvature:
    """The rounds for a trained system with D latents: from the mode, by the exact mean Hessian, no example made worse.

    Example:
        >>> averaged_curvature_refiner(2).nodes, averaged_curvature_refiner(16).nodes
        (GaussHermite(order=4), OrthogonalFrames(seed=0))
    """
    nodes = GaussHermite(order=4) if size <= 2 else OrthogonalFrames()
    return AveragedCurvature(rounds, nodes, steps=8, guard=64)


class GivenPosterior(Inference):
    """A posterior that is there already, as an inference method."""

    def __init__(self, posterior: Posterior):
        super().__init__()
        self.posterior = posterior

    def forward(self, model: LatentVariableModel, batch: Batch) -> Inferred:
        return Inferred(self.posterior)


class Spread(NamedTuple):
    """log p(x, z) at the nodes of a Gaussian ``N(mu, (L L')^-1)``."""

    near: Linearization
    """For the nodes of all examples: those of the first node first."""
    nodes: Nodes

    @classmethod
    def of(cls, near: Linearization, q: PrecisionGaussian, nodes: Nodes) -> "Spread":
        """``near`` is that of the data, or of the nodes of another round."""
        if len(near.z) == len(q.loc):
            near = near.take(torch.arange(len(q.loc), device=q.loc.device).repeat(len(nodes.e)))
        return cls(near, nodes).at(q)

    def at(self, q: PrecisionGaussian) -> "Spread":
        """At those of another Gaussian."""
        z = q.from_noise(self.nodes.e.unsqueeze(1).expand(-1, *q.loc.shape))
        return self._replace(near=self.near.at(z.reshape(-1, z.shape[-1])))

    def mean(self, value: Float[Tensor, "KB ..."]) -> Float[Tensor, "B ..."]:
        """``sum_k w_k v_k``."""
        return torch.tensordot(self.nodes.weight, self.each(value), 1)

    def each(self, value: Float[Tensor, "KB ..."]) -> Float[Tensor, "K B ..."]:
        return value.unflatten(0, (len(self.nodes.e), -1))

    def slope_and_curvature(self, exact: bool, factor: Matrix) -> tuple[Float[Tensor, "B D"], Matrix]:
        """``E_q[grad]``, and ``L^-1 E_q[-Hessian] L'^-1``: by Stein's identity, or the mean of the precisions."""
        if not exact:
            grad, precision = self._locals()
            return grad, _solved(factor, _solved(factor, precision).mT)
        grad, (e, weight) = self.near.grad(), self.nodes
        along = _solved(factor, self.each(grad).permute(1, 2, 0))
        product = along @ (weight.unsqueeze(-1) * e)
        return self.mean(grad), -0.5 * (product + product.mT)

    def _locals(self) -> tuple[Float[Tensor, "B D"], Matrix]:
        """Mean slope and precision, of as many nodes at once as memory allows."""
        count = len(self.near.z) // len(self.nodes.e)
        size = self.near.z[0].numel() ** 2 * self.near.z.element_size()
        several = max(1, MEMORY // (count * size))
        if several >= len(self.nodes.e):
            local = self.near.local()
            return self.mean(local.grad), self.mean(local.precision)
        rows = torch.arange(len(self.near.z), device=self.near.z.device).split(several * count)
        weights = self.nodes.weight.split(several)
        parts = [
            Spread(self.near.take(some), Nodes(self.nodes.e[: len(weight)], weight))._locals()
            for some, weight in zip(rows, weights, strict=True)
        ]
        grads, precisions = zip(*parts, strict=True)
        return torch.stack(grads).sum(0), torch.stack(precisions).sum(0)


def to_precision_gaussian(posterior: Posterior) -> PrecisionGaussian:
    """The same Gaussian, by the factor of its precision.

    Raises:
        TypeError: a posterior that is not a Gaussian.
    """
    if isinstance(posterior, PrecisionGaussian):
        return posterior
    if not isinstance(posterior, GaussianPosterior):
        raise TypeError(f"AveragedCurvature: expects a Gaussian posterior; got {type(posterior).__name__}.")
    precision = torch.cholesky_inverse(linalg.cholesky(posterior.covariance)[0])
    return PrecisionGaussian(posterior.mean, linalg.cholesky(precision)[0])


def _round(
    here: Spread, q: PrecisionGaussian, rate: PerDatum, exact: bool
) -> tuple[PrecisionGaussian, PerDatum, Bool[Tensor, " B"]]:
    """After a round, the ELBO before it, and whether the round was accepted."""
    grad, curvature = here.slope_and_curvature(exact, q.factor)
    r = rate[:, None, None]
    eye = torch.eye(q.loc.shape[1], dtype=q.loc.dtype, device=q.loc.device)
    proposed = (1 - r) * eye + r * curvature  # L^-1 Lam L'^-1
    root, failure = torch.linalg.cholesky_ex(proposed)
    sound = (failure == 0) & root.isfinite().all(-1).all(-1)
    factor = q.factor @ torch.where(sound[:, None, None], root, eye)
    there = PrecisionGaussian(q.loc + rate.unsqueeze(-1) * linalg.solve_spd(factor, grad), factor)
    before = _judged(here, q, proposed)
    after = _judged(here.at(there), there, eye)
    slack = 8 * torch.finfo(before.dtype).eps * before.abs()
    accepted = sound & (after >= before - slack)
    loc = torch.where(accepted.unsqueeze(-1), there.loc, q.loc)
    return PrecisionGaussian(loc, torch.where(accepted[:, None, None], there.factor, q.factor)), before, accepted


def _judged(spread: Spread, q: PrecisionGaussian, curvature: Float[Tensor, "*B D D"]) -> PerDatum:
    """The ELBO of q from its nodes, the part of log p with this curvature, ``L^-1 Lam L'^-1``, in closed form."""
    e, weight = spread.nodes
    moments = (weight * e.mT) @ e - torch.eye(e.shape[1], dtype=e.dtype, device=e.device)
    entropy = q.half_log_det + 0.5 * e.shape[1] * (1 + linalg.LOG_2PI)
    return spread.mean(spread.near.log_joint) + 0.5 * (curvature * moments).sum((-2, -1)) + entropy


def _solved(factor: Matrix, right: Float[Tensor, "B D K"]) -> Float[Tensor, "B D K"]:
    """``L^-1 R``; no graph is made here."""
    return torch.linalg.solve_triangular(factor, right, upper=False)


def _missed(start: Posterior, end: Posterior) -> PerDatum | None:
    """``-KL(q_0 || q)``."""
    divergence = kl(start, end)
    return None if divergence is None else -divergence.sum(-1)
