"""The bound by which a mixture is trained one component after another."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.model import LatentVariableModel, log_joint_by_target
from curvae.objectives.objective import Bound, Kind
from curvae.posteriors import DensityPosterior, Mixture, Posterior, detached
from curvae.typing import Batch, PerDatum


@dataclass(frozen=True)
class RecursiveElbo:
    r"""The stratified ELBO of a mixture, whose components learn what those before them leave out.

    With ``Q_m = (1 - e_m) Q_{m-1} + e_m q_m`` and ``Q_0 = q_0``, the value is that of the whole mixture,
    ``sum_k pi_k E_k[log p(x, z) - log Q(z | x)]``. In the surrogate, each from the same draws:

    - component m climbs ``ELBO(q_m) + strength min(KL(q_m || Q_{m-1}), cap)``, with ``Q_{m-1}`` held fixed: the
      functional gradient of the mixture's own bound asks for the sum, and the cap keeps it from running away;
    - the share ``e_m`` climbs ``ELBO(Q_m)``, components and earlier shares held fixed;
    - the model climbs ``ELBO(Q)``.

    A posterior that is no mixture is a mixture of one: this is then the ELBO.

    Args:
        strength: weight of the divergence; 0 lets equal components stay equal, and at 1 a component aims beyond the
            mode, at the greatest ``p / Q_{m-1}``, as long as the divergence is below the cap.
        cap: nats beyond which the divergence counts no more.

    Raises:
        ValueError: negative strength or cap; in use, components without path gradients.

    Reference: after Kim and Pavlovic, *Recursive Inference for Variational Autoencoders*, NeurIPS 2020. The weighting
    of examples and the form of the bounded divergence in the paper are not known to us; here strength and cap are
    constants.

    Example:
        >>> import torch
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.posteriors import DiagonalGaussian
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(2), torch.nn.Linear(2, 3), Gaussian(3))
        >>> parts = tuple(DiagonalGaussian(torch.full((4, 2), m), torch.zeros(4, 2)) for m in (-1.0, 1.0))
        >>> batch = Batch(torch.zeros(4, 3), torch.arange(4))
        >>> RecursiveElbo()(model, Mixture(parts, torch.zeros(4, 2)), batch, 5).value.shape
        torch.Size([4])
    """

    strength: float = 0.5
    cap: float = 20.0
    kind: ClassVar[Kind] = "lower"

    def __post_init__(self) -> None:
        if self.strength < 0 or self.cap < 0:
            raise ValueError(f"RecursiveElbo: strength and cap must be 0 or more; got {self.strength} and {self.cap}.")

    def __call__(self, model: LatentVariableModel, posterior: Posterior, batch: Batch, samples: int = 1) -> Bound:
        q = posterior if isinstance(posterior, Mixture) else _of_one(posterior)
        draws = [component.draw(samples) for component in q.components]
        if any(part.score is not None for part in draws):
            raise ValueError("RecursiveElbo: expects components with path gradients. Use monte_carlo_elbo.")
        z = torch.cat([part.z for part in draws])
        shape = (len(draws), samples)
        down, up = (level.unflatten(0, shape) for level in log_joint_by_target(model, batch.x, z, batch.mask))
        log_q = torch.stack([part.log_q for part in draws])
        seen = _Seen(q, z, shape)
        value = seen.elbo(up).detach()
        gradients = [_carried(seen.share(down).sum(0))]
        gradients += [_carried(part) for part in self._components(up, log_q, seen)]
        gradients += [_carried(part) for part in _shares(q.logits.mT, up.detach(), seen)]
        return Bound(value, value + sum(gradients))

    def _components(self, up: Tensor, log_q: Tensor, seen: "_Seen") -> list[PerDatum]:
        """``ELBO(q_m) + strength min(KL(q_m || Q_{m-1}), cap)`` for each m."""
        own = (up - log_q).mean(1)
        apart = [(log_q[m] - seen.partial[m - 1, m]).mean(0).clamp(max=self.cap) for m in range(1, len(own))]
        return [own[0], *(own[m] + self.strength * apart[m - 1] for m in range(1, len(own)))]


class _Seen:
    """Densities of all components at all draws, reached by gradients through the draws alone."""

    def __init__(self, q: Mixture, z: Float[Tensor, "S B D"], shape: tuple[int, int]):
        fixed = detached(q)
        self.log_weights = fixed.log_weights
        each = torch.stack([component.log_prob(z).unflatten(0, shape) for component in fixed.components])
        self.each: Float[Tensor, "K K n B"] = each
        """``log q_j`` at the draws of component k."""
        total = torch.logcumsumexp(self.log_weights[:, None, None] + each, 0)
        self.partial: Float[Tensor, "K K n B"] = total - torch.logcumsumexp(self.log_weights, 0)[:, None, None]
        """``log Q_m`` at the draws of component k."""

    def share(self, term: Float[Tensor, "K n B"]) -> Float[Tensor, "K B"]:
        """``pi_k E_k[term]``."""
        return self.log_weights.exp() * term.mean(1)

    def elbo(self, level: Float[Tensor, "K n B"]) -> PerDatum:
        return self.share(level - self.partial[-1]).sum(0)


def _shares(logits: Float[Tensor, "K B"], level: Float[Tensor, "K n B"], seen: _Seen) -> list[PerDatum]:
    """``ELBO(Q_m) = (1 - e_m) E_{Q_{m-1}}[log p - log Q_m] + e_m E_m[log p - log Q_m]`` as a function of e_m."""
    found = []
    for m in range(1, len(logits)):
        odds = logits[m] - torch.logsumexp(logits[:m].detach(), 0)
        log_e, log_rest = torch.nn.functional.logsigmoid(odds), torch.nn.functional.logsigmoid(-odds)
        old, new = seen.partial[m - 1, : m + 1].detach(), seen.each[m, : m + 1].detach()
        term = (level[: m + 1] - torch.logaddexp(log_rest + old, log_e + new)).mean(1)
        before = seen.log_weights[:m].softmax(0)
        found.append(log_rest.exp() * (before * term[:m]).sum(0) + log_e.exp() * term[m])
    return found


def _carried(term: PerDatum) -> PerDatum:
    """The value 0 with the gradient of the term."""
    return term - term.detach()


def _of_one(posterior: Posterior) -> Mixture:
    if not isinstance(posterior, DensityPosterior):
        raise ValueError(f"RecursiveElbo: expects a posterior with a density; got {type(posterior).__name__}.")
    parts: Sequence[DensityPosterior] = (posterior,)
    return Mixture(parts, posterior.center.new_zeros(len(posterior.center), 1))
