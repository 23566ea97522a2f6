"""Predictive coding: the states of all layers descend the energy of their prediction errors."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.inference.energy_descent import Energy, descended
from curvae.inference.inference import Inference, Inferred
from curvae.model import LatentVariableModel
from curvae.objectives import energies
from curvae.posteriors import ProductPosterior
from curvae.priors import Layered, Prior, layered
from curvae.typing import Batch, PerDatum


class PredictiveCoding(Inference):
    """``phi <- phi - rate dF/dphi`` from ``phi_k`` = prediction of the layer above: parameters of each layer's q_k.

    ``F = sum_k KL(q_k || p_k) - log p(x | mean)`` is that of :class:`curvae.objectives.PredictiveEnergy`, which belongs
    with it: no gradient flows through the steps, the model learns from F at their end. For fixed normals F is the sum
    of squared prediction errors. A step that would raise an example's F is not taken and halves its rate; each
    other one lets it grow by a fifth.

    Incremental, each call in training takes *one* step from where the last one left the example, and the model learns
    from F where that step began: both move at once. States and rates are kept in buffers (:meth:`remember`), and begin
    anew at every ``steps``-th call for an example, so ``Stage.repeat`` is to be ``steps``. In evaluation, and for data
    that are not in the training table, all steps are taken.

    q is independent over layers and knows nothing of the decoder's curvature: judge the model by importance sampling
    around its center, ``Laplace(PredictiveCoding(...), steps=0)`` or more steps, as the evaluation does.

    Reference: Pinchetti et al., *Predictive Coding beyond Gaussian Distributions*, NeurIPS 2022, arXiv:2211.03481;
    incremental: Salvatori et al., *Incremental Predictive Coding*, arXiv:2212.00720.

    Differences: rates adapt to each example, so that F never rises.

    Args:
        steps: number T of steps.
        rate: of the first step.
        incremental: whether model and states move together.

    Info: ``energy`` (T+1, B), before each step and at the end; incremental, before and after the one step.

    Raises:
        ValueError: fewer than 1 step, a rate that is not positive; in use, a prior without layers.

    Example:
        >>> import torch
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(3), torch.nn.Linear(3, 10), Gaussian(10))
        >>> found = PredictiveCoding(steps=5)(model, Batch(torch.randn(8, 10), torch.arange(8)))
        >>> found.posterior.mean.shape, found.info["energy"].shape
        (torch.Size([8, 3]), torch.Size([6, 8]))
    """

    per_example: ClassVar[tuple[str, ...]] = ("states", "rates", "calls")
    states: Float[Tensor, "N Q"]
    rates: Float[Tensor, " N"]
    calls: Tensor

    def __init__(self, steps: int = 20, rate: float = 0.1, incremental: bool = False):
        super().__init__()
        if steps < 1 or not rate > 0:
            raise ValueError(f"PredictiveCoding: steps must be >= 1 and rate > 0; got steps={steps}, rate={rate}.")
        self.steps = steps
        self.rate = rate
        self.incremental = incremental
        self.register_buffer("states", torch.empty(0, 0))
        self.register_buffer("rates", torch.empty(0))
        self.register_buffer("calls", torch.empty(0))

    def remember(self, rows: int, prior: Prior) -> None:
        """Keep the states of ``rows`` training data; none is known yet."""
        prior = layered(prior)
        self.states = torch.zeros(rows, sum(prior.widths)).to(prior.top)
        self.rates = torch.zeros(rows).to(prior.top)
        self.calls = torch.full((rows,), self.steps).to(prior.top)

    @torch.no_grad()
    def forward(self, model: LatentVariableModel, batch: Batch) -> Inferred:
        prior = layered(model.prior)
        phi = prior.prediction(len(batch.x))
        rate = torch.full_like(phi[:, 0], self.rate)
        if self.incremental and self.training and len(self.states):
            return self._one(model, batch, prior, phi, rate)
        q = ProductPosterior(prior.families, phi)
        energy = energy_of(model, batch, q)
        seen: list[PerDatum] = []
        for _ in range(self.steps):
            step = descended(energy, phi, rate)
            phi, rate = step.phi, step.rate
            seen = [*seen[:-1], step.before, step.after]
        return Inferred(q.with_tensors({"parameters": phi}), {"energy": torch.stack(seen)})

    def _one(
        self, model: LatentVariableModel, batch: Batch, prior: Layered, phi: Float[Tensor, "B Q"], rate: PerDatum
    ) -> Inferred:
        """The state as it is, and, as new values of the buffers, where one step leads it."""
        row = batch.index.clamp(min=0)
        anew = (batch.index < 0) | (self.calls[row] >= self.steps)
        phi = torch.where(anew.unsqueeze(-1), phi, self.states[row])
        rate = torch.where(anew, rate, self.rates[row])
        calls = torch.where(anew, 0, self.calls[row]) + 1
        q = ProductPosterior(prior.families, phi)
        step = descended(energy_of(model, batch, q), phi, rate)
        state = {"states": step.phi, "rates": step.rate, "calls": calls}
        return Inferred(q, {"energy": torch.stack([step.before, step.after])}, state=state)


def energy_of(model: LatentVariableModel, batch: Batch, q: ProductPosterior) -> Energy:
    """F of each example, by the parameters of a law of the kind of q."""
    return lambda phi: (energies(model, q.with_tensors({"parameters": phi}), batch).sum(-1), phi)
