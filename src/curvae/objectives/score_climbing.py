"""Transport score climbing: the inclusive divergence KL(p || q) by chains that persist and move in q's own space."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.distributions import GaussianPosterior, Posterior, TransformedDensity, transport
from curvae.dynamics import HMCState, transition
from curvae.model import LatentVariableModel
from curvae.objectives.importance import iwae
from curvae.objectives.objective import Bound, Kind
from curvae.priors import Prior
from curvae.typing import Batch


class ScoreClimbing(nn.Module):
    r"""Model and posterior learn from the state z of a chain for each example: ``log p(x, z) + log q(z | x)``, z fixed.

    So the posterior descends ``KL(p(z|x) || q(z|x))``, and the model climbs log p(x), as far as the chains are at
    ``p(z | x)``. At each visit of an example its chain takes one Hamiltonian transition in the space of the noise that
    q makes its draws from, on ``log p(x, T(e)) + log |det dT/de|``: the better q, the rounder that target. States are
    kept as z, so that they stay what they are while T learns. Data that are not in the training table, and the first
    visit, begin at a draw of q.

    The step follows the acceptance: 0.5 % longer where that is above the target, else shorter. Both are state: forward
    is pure, the trainer writes ``states`` and ``step``.

    It is no bound. What is reported is the importance-weighted bound of draws of q.

    Args:
        leapfrogs: leapfrog steps in a transition.
        step: their length to begin with.
        target: mean acceptance that the step is steered to.
        warped: move in the space of q's noise; in that of z itself otherwise (Markovian score climbing).

    Raises:
        ValueError: an argument out of its range; in use, a posterior that is neither a Gaussian nor an invertible flow
            from one.

    Reference: Zhang, Blei and Naesseth, *Transport Score Climbing: Variational Inference Using Forward KL and Adaptive
    Neural Transport*, TMLR 2023, arXiv:2202.01841; unwarped after Naesseth, Lindsten and Blei, NeurIPS 2020.

    Differences: the number of leapfrog steps is fixed, where their code takes ``min(1 / step + 1, 4)``.

    Example:
        >>> from curvae.priors import StandardNormal
        >>> objective = ScoreClimbing()
        >>> objective.remember(1000, StandardNormal(16))
        >>> objective.kind, objective.states.shape
        ('none', torch.Size([1000, 16]))
    """

    kind: ClassVar[Kind] = "none"
    per_example: ClassVar[tuple[str, ...]] = ("states",)
    states: Float[Tensor, "N D"]
    step: Float[Tensor, ""]

    def __init__(self, leapfrogs: int = 4, step: float = 0.25, target: float = 0.67, warped: bool = True):
        super().__init__()
        if leapfrogs < 1 or not step > 0 or not 0 < target < 1:
            raise ValueError(
                "ScoreClimbing: expects leapfrogs >= 1, step > 0 and a target in (0, 1); got "
                f"{leapfrogs}, {step} and {target}."
            )
        self.leapfrogs = leapfrogs
        self.target = target
        self.warped = warped
        self.register_buffer("step", torch.tensor(float(step)))
        self.register_buffer("states", torch.empty(0, 0))

    def remember(self, rows: int, prior: Prior) -> None:
        """Keep a chain for each of ``rows`` training data; none has begun yet."""
        self.states = torch.full((rows, sum(prior.blocks)), torch.nan, device=self.states.device)

    def forward(self, model: LatentVariableModel, posterior: Posterior, batch: Batch, samples: int = 1) -> Bound:
        q = transport(posterior)
        with torch.no_grad():
            value = iwae(model, q, batch, samples).value
            with model.evaluating():
                z, acceptance = self._moved(model, q, batch)
        climbed = (model.log_joint(batch.x, z, batch.mask) + q.log_prob(z)).squeeze(0)
        rate = torch.where(acceptance.mean() > self.target, 1.005, 0.995).to(self.step)
        state = {"step": self.step * rate, **({"states": z[0]} if len(self.states) else {})}
        return Bound(value, climbed, {"acceptance": acceptance[0]}, state)

    def _moved(
        self, model: LatentVariableModel, q: GaussianPosterior | TransformedDensity, batch: Batch
    ) -> tuple[Float[Tensor, "1 B D"], Float[Tensor, "1 B"]]:
        """The next state of each chain, and the acceptance probability of its proposal."""

        def in_noise(e: Float[Tensor, "S B D"]) -> Float[Tensor, "S B"]:
            image = q.push(e)
            return model.log_joint(batch.x, image.z, batch.mask) + image.log_det

        def in_z(z: Float[Tensor, "S B D"]) -> Float[Tensor, "S B"]:
            return model.log_joint(batch.x, z, batch.mask)

        z = self._begin(q, batch)
        target = in_noise if self.warped else in_z
        begin = HMCState.at(target, q.pull(z) if self.warped else z)
        end, info = transition(target, begin, self.step.to(z), self.leapfrogs)
        return q.push(end.z).z if self.warped else end.z, info.acceptance

    def _begin(self, posterior: Posterior, batch: Batch) -> Float[Tensor, "1 B D"]:
        fresh = posterior.draw(1).z
        if len(self.states) == 0:
            return fresh
        known = self.states[batch.index.clamp(min=0)].to(fresh)
        usable = (batch.index >= 0) & known.isfinite().all(-1)
        return torch.where(usable.unsqueeze(-1), known, fresh)
