"""The shared route: the true log joint and gradient, with one information for all data in place of each one's own."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from curvae.curvature.linearization import take_rows
from curvae.curvature.routes.last_linear_route import LastLayerLinearization
from curvae.likelihoods import HasBound, Likelihood
from curvae.model import LatentVariableModel
from curvae.typing import Batch


class SharedInformation(ABC):
    """An information F0 about eta that is the same for all data."""

    @abstractmethod
    def serves(self, likelihood: Likelihood) -> bool:
        """Whether it is known for this likelihood."""

    @abstractmethod
    def gram(self, model: LatentVariableModel, weight: Float[Tensor, "P H"]) -> Float[Tensor, "H H"]:
        """``W'F0 W``."""


@dataclass(frozen=True)
class Majorizer(SharedInformation):
    """``F0 >= -d2 log p(x | eta) / d eta2`` at every eta: a Bernoulli's 1/4, a categorical's ``1/2 (I - 1 1'/K)``.

    Böhning and Lindsay, *Monotonicity of quadratic-approximation algorithms*, 1988; Böhning, *Multinomial logistic
    regression algorithm*, 1992.
    """

    def serves(self, likelihood: Likelihood) -> bool:
        return isinstance(likelihood, HasBound)

    def gram(self, model: LatentVariableModel, weight: Float[Tensor, "P H"]) -> Float[Tensor, "H H"]:
        assert isinstance(model.likelihood, HasBound)
        root = model.likelihood.bound(weight.mT)
        return root @ root.mT


@dataclass(frozen=True)
class MeanInformation(SharedInformation):
    """The mean information over ``draws`` draws of the prior, the same ones every time.

    Where the model is sure of most elements this is far below the bound, and the steps are longer. They may be too
    long: a step rule has to look.
    """

    draws: int = 32

    def serves(self, likelihood: Likelihood) -> bool:
        return likelihood.information == "diagonal"

    def gram(self, model: LatentVariableModel, weight: Float[Tensor, "P H"]) -> Float[Tensor, "H H"]:
        z = model.prior.sample(self.draws, torch.Generator(weight.device).manual_seed(0)).to(weight)
        diagonal = model.likelihood.diagonal(model.decode(z))
        assert diagonal is not None
        return (weight.mT * diagonal.mean(0)) @ weight


@dataclass(frozen=True, eq=False)
class SharedInformationFrame:
    """A batch with one information for all its data."""

    model: LatentVariableModel
    hidden: list[nn.Module]
    last: nn.Linear
    gram: Float[Tensor, "H H"]
    batch: Batch
    variance: Float[Tensor, "B D"] | None = None

    def outer(self, value: Float[Tensor, "*S B H"]) -> tuple[Float[Tensor, "*S B"], Float[Tensor, "*S B H"]]:
        """``log p(x | h)`` and its slope."""
        eta, batch, likelihood = self.last(value), self.batch, self.model.likelihood
        slope = likelihood.score(batch.x, eta, batch.mask) @ self.last.weight
        return likelihood.log_prob(batch.x, eta, batch.mask), slope

    def take(self, rows: Int[Tensor, " n"]) -> "SharedInformationFrame":
        return replace(self, batch=take_rows(self.batch, rows))


class Shared(LastLayerLinearization):
    """``Lam0 = M'GM + prior precision`` with ``G = W'F0 W``, W the decoder's last layer, M the Jacobian before it.

    Not the precision of the posterior: for the search alone. With a bound of the information, the parabola with the
    true value and slope at z and this Lam0 lies below log p(x, z) as far as the linear piece of the decoder goes: the
    step to its top climbs by what it promises or more. Missing elements only add to that.
    """

    locally_constant = False
    frame: SharedInformationFrame

    @classmethod
    def fits(cls, model: LatentVariableModel, batch: Batch) -> bool:
        return cls.split(model) is not None and isinstance(model.likelihood, HasBound)

    @classmethod
    def of(cls, model: LatentVariableModel, batch: Batch, z: Float[Tensor, "B D"]) -> "Shared":
        found = cls.by(Majorizer(), model, batch, z)
        assert found is not None
        return found

    @classmethod
    def by(
        cls, information: SharedInformation, model: LatentVariableModel, batch: Batch, z: Float[Tensor, "B D"]
    ) -> "Shared | None":
        """With an information; None where it or the decoder does not fit."""
        parts = cls.split(model)
        if parts is None or not information.serves(model.likelihood):
            return None
        hidden, last = parts
        return cls(SharedInformationFrame(model, hidden, last, information.gram(model, last.weight), batch), z)
