"""Three exact ways to the gradient and the precision of log p(x, z) at a point z.

All give ``Lam = (J'R)(J'R)' + prior.precision(z)`` with ``J = d eta / dz`` and ``R R'`` the expected information of the
likelihood. A route is built for one batch and answers for as many points as wanted.

- ``Gram``: the decoder ends in a linear layer W from H to P > H values, and the information is constant, ``F``. With
  ``G = W'FW``, H by H, and the expansion of the (quadratic) log-likelihood around one point, everything else is free of
  P: ``log p(x | h) = l0 + c'(h - h0) - 1/2 (h - h0)' G (h - h0)``.
- ``Layerwise``: any chain of linear and elementwise layers; J by plain matrix products in row layout (B, D, H).
- ``Generic``: any decoder whose rows are independent; J by batched Jacobian-vector products, in chunks of the batch.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from curvae import linalg
from curvae.curvature import kernel, layers
from curvae.model import LatentVariableModel
from curvae.typing import Batch, Matrix, PerDatum

MEMORY = 2**28
"""Bytes that the Jacobians of the generic route may take at a time."""


class Local(NamedTuple):
    """log p(x, z) near a point."""

    log_joint: PerDatum
    grad: Float[Tensor, "B D"]
    precision: Matrix


class Route(ABC):
    """The log joint of one batch, its gradient and its precision, as functions of z (B, D)."""

    model: LatentVariableModel

    def __init__(self, model: LatentVariableModel):
        self.model = model

    @property
    def locally_constant(self) -> bool:
        """Whether Lam does not change within a linear piece of the decoder."""
        return False

    @classmethod
    @abstractmethod
    def fits(cls, model: LatentVariableModel, batch: Batch) -> bool:
        """Whether this route is exact for this decoder, likelihood and batch."""

    @classmethod
    @abstractmethod
    def at(cls, model: LatentVariableModel, batch: Batch, z: Float[Tensor, "B D"]) -> "Route":
        """Built for a batch; ``z`` is near the points that will be asked for."""

    @abstractmethod
    def take(self, rows: Int[Tensor, " n"]) -> "Route":
        """The same for some of the data."""

    @abstractmethod
    def log_likelihood(self, z: Float[Tensor, "B D"]) -> PerDatum:
        """``log p(x | z)``."""

    @abstractmethod
    def likelihood_part(self, z: Float[Tensor, "B D"]) -> Local:
        """``log p(x | z)``, its gradient and its expected information about z."""

    @abstractmethod
    def likelihood_residual(self, z: Float[Tensor, "B D"], step: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """``J'(score - F J step)``: the likelihood's share of the residual."""

    def likelihood_slope(self, z: Float[Tensor, "B D"]) -> tuple[PerDatum, Float[Tensor, "B D"]]:
        """``log p(x | z)`` and its gradient; a route that knows a shorter way to it takes that."""
        level, pull = torch.func.vjp(self.log_likelihood, z)[:2]
        return level, pull(torch.ones_like(level))[0]

    def slope(self, z: Float[Tensor, "B D"]) -> tuple[PerDatum, Float[Tensor, "B D"]]:
        """``log p(x, z)`` and its gradient."""
        level, slope = self.likelihood_slope(z)
        log_prior, pull = self._prior(z)
        return level + log_prior, slope + pull

    def log_joint(self, z: Float[Tensor, "B D"]) -> PerDatum:
        """``log p(x, z)``, for a line search."""
        return self.log_likelihood(z) + self.model.prior.log_prob(z)

    def local(self, z: Float[Tensor, "B D"]) -> Local:
        """``log p(x, z)``, its gradient and its precision."""
        log_prior, slope = self._prior(z)
        part = self.likelihood_part(z)
        return Local(part.log_joint + log_prior, part.grad + slope, part.precision + self.model.prior.precision(z))

    def residual(self, z: Float[Tensor, "B D"], step: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        """``grad log p(x, z) - Lam(z) step`` by vector products alone: nothing of size D x D or D x P is formed.

        It is 0 at the Newton step, and its derivative there, solved with Lam, is that of the step.
        """
        _, slope = self._prior(z)
        bend = (self.model.prior.precision(z) @ step.unsqueeze(-1)).squeeze(-1)
        return self.likelihood_residual(z, step) + slope - bend

    def _prior(self, z: Float[Tensor, "B D"]) -> tuple[PerDatum, Float[Tensor, "B D"]]:
        """``log p(z)`` and its gradient."""
        log_prior, pull = torch.func.vjp(self.model.prior.log_prob, z)[:2]
        return log_prior, pull(torch.ones_like(log_prior))[0]


class Gram(Route):
    """Nothing of size P for each point: see the module's docstring."""

    hidden: list[nn.Module]
    origin: Float[Tensor, "B H"]
    level: PerDatum
    pitch: Float[Tensor, "B H"]
    gram: Float[Tensor, "H H"]

    @classmethod
    def fits(cls, model: LatentVariableModel, batch: Batch) -> bool:
        parts = None if model.autoregressive else layers.chain(model.decoder)
        return (
            bool(parts)
            and batch.mask is None
            and model.likelihood.information == "constant"
            and isinstance(parts[-1], nn.Linear)
            and parts[-1].out_features > parts[-1].in_features
        )

    @classmethod
    def at(cls, model: LatentVariableModel, batch: Batch, z: Float[Tensor, "B D"]) -> "Gram":
        route = cls(model)
        *route.hidden, last = layers.chain(model.decoder) or []
        assert isinstance(last, nn.Linear)
        off = last.bias if last.bias is not None else z.new_zeros(last.out_features)
        eta = off.expand(len(z), -1)
        level, slope = model.likelihood.log_prob(batch.x, eta), model.likelihood.score(batch.x, eta) @ last.weight
        route.gram = linalg.gram(model.likelihood.root(eta[:1], last.weight.mT))
        # moved from 0 to near z, where differences are small; exact around any fixed point, so it needs no gradient
        with torch.no_grad():
            route.origin = layers.forward(route.hidden, z)
        bend = route.origin @ route.gram
        route.level, route.pitch = level + (route.origin * (slope - 0.5 * bend)).sum(-1), slope - bend
        return route

    @property
    def locally_constant(self) -> bool:
        return all(isinstance(layer, (nn.Linear, *layers.PIECEWISE_LINEAR)) for layer in self.hidden)

    def take(self, rows: Int[Tensor, " n"]) -> "Gram":
        part = Gram(self.model)
        part.hidden, part.gram = self.hidden, self.gram
        part.origin, part.level, part.pitch = self.origin[rows], self.level[rows], self.pitch[rows]
        return part

    def log_likelihood(self, z: Float[Tensor, "B D"]) -> PerDatum:
        return self._quadratic(layers.forward(self.hidden, z))[0]

    def likelihood_slope(self, z: Float[Tensor, "B D"]) -> tuple[PerDatum, Float[Tensor, "B D"]]:
        value, slopes = layers.linearize(self.hidden, z)
        level, slope = self._quadratic(value)
        return level, layers.pull(self.hidden, slopes, slope)

    def likelihood_part(self, z: Float[Tensor, "B D"]) -> Local:
        value, slopes = layers.linearize(self.hidden, z)
        level, slope = self._quadratic(value)
        return Local(level, layers.pull(self.hidden, slopes, slope), self._precision(slopes, z))

    def _precision(self, slopes: layers.Slopes, z: Float[Tensor, "B D"]) -> Matrix:
        """``M'GM`` with M the Jacobian of the hidden layers: over active units alone where the kernel can."""
        if layers.is_relu_chain(self.hidden) and kernel.usable(self.gram):
            weights = [layer.weight for layer in self.hidden if isinstance(layer, nn.Linear)]
            return kernel.relu_precision(weights, [mask for mask in slopes if mask is not None], self.gram)
        rows = layers.rows(self.hidden, slopes, z)
        return rows @ self.gram @ rows.mT

    def likelihood_residual(self, z: Float[Tensor, "B D"], step: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        value, slopes = layers.linearize(self.hidden, z)
        bend = layers.push(self.hidden, slopes, step) @ self.gram
        return layers.pull(self.hidden, slopes, self._quadratic(value)[1] - bend)

    def _quadratic(self, value: Float[Tensor, "B H"]) -> tuple[PerDatum, Float[Tensor, "B H"]]:
        offset = value - self.origin
        bend = offset @ self.gram
        return self.level + (offset * (self.pitch - 0.5 * bend)).sum(-1), self.pitch - bend


class Layerwise(Route):
    """J layer by layer, for a chain of linear and elementwise layers."""

    @classmethod
    def fits(cls, model: LatentVariableModel, batch: Batch) -> bool:
        return not model.autoregressive and bool(layers.chain(model.decoder))

    @classmethod
    def at(cls, model: LatentVariableModel, batch: Batch, z: Float[Tensor, "B D"]) -> "Layerwise":
        return cls(model, batch)

    def __init__(self, model: LatentVariableModel, batch: Batch):
        super().__init__(model)
        self.batch = batch

    def take(self, rows: Int[Tensor, " n"]) -> "Layerwise":
        return Layerwise(self.model, _chosen(self.batch, rows))

    def log_likelihood(self, z: Float[Tensor, "B D"]) -> PerDatum:
        return self.model.log_likelihood(self.batch.x, z, self.batch.mask)

    def likelihood_part(self, z: Float[Tensor, "B D"]) -> Local:
        eta, slopes = layers.linearize(self.parts, z)
        return _assemble(self.model, self.batch, eta, layers.rows(self.parts, slopes, z))

    def likelihood_residual(self, z: Float[Tensor, "B D"], step: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        eta, slopes = layers.linearize(self.parts, z)
        missed = _missed(self.model, self.batch, eta, layers.push(self.parts, slopes, step))
        return layers.pull(self.parts, slopes, missed)

    @property
    def parts(self) -> list[nn.Module]:
        """The layers of the decoder."""
        return layers.chain(self.model.decoder) or []


class Generic(Route):
    """J by D Jacobian-vector products at once, for any decoder; chunks of the batch keep it within ``memory`` bytes."""

    memory: int = MEMORY

    @classmethod
    def fits(cls, model: LatentVariableModel, batch: Batch) -> bool:
        return True

    @classmethod
    def at(cls, model: LatentVariableModel, batch: Batch, z: Float[Tensor, "B D"]) -> "Generic":
        return cls(model, batch)

    def __init__(self, model: LatentVariableModel, batch: Batch):
        super().__init__(model)
        self.batch = batch

    def take(self, rows: Int[Tensor, " n"]) -> "Generic":
        return Generic(self.model, _chosen(self.batch, rows))

    def log_likelihood(self, z: Float[Tensor, "B D"]) -> PerDatum:
        return self.model.log_likelihood(self.batch.x, z, self.batch.mask)

    def likelihood_part(self, z: Float[Tensor, "B D"]) -> Local:
        # a Jacobian, its product with the root of the information, and what forward mode keeps
        bytes_each = 4 * self.model.likelihood.size * z.shape[-1] * z.element_size()
        size = max(1, self.memory // bytes_each)
        parts = [self._chunk(z[start : start + size], slice(start, start + size)) for start in range(0, len(z), size)]
        return Local(*(torch.cat(values) for values in zip(*parts, strict=True)))

    def likelihood_residual(self, z: Float[Tensor, "B D"], step: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        def decode(point: Tensor) -> Tensor:
            return self.model.decode(point, self.batch.x)

        eta, pull = torch.func.vjp(decode, z)[:2]
        tangent = torch.func.jvp(decode, (z,), (step,))[1]
        return pull(_missed(self.model, self.batch, eta, tangent))[0]

    def _chunk(self, z: Float[Tensor, "B D"], rows_of: slice) -> Local:
        part = _chosen(self.batch, rows_of)
        eye = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)

        def decode(point: Tensor) -> Tensor:
            return self.model.decode(point, part.x)

        def along(direction: Tensor) -> Tensor:
            return torch.func.jvp(decode, (z,), (direction.expand_as(z),))[1]

        columns = torch.func.vmap(along)(eye)
        return _assemble(self.model, part, decode(z), columns.transpose(0, 1))


def _chosen(batch: Batch, rows: Tensor | slice) -> Batch:
    return Batch(batch.x[rows], batch.index[rows], None if batch.mask is None else batch.mask[rows])


def _assemble(
    model: LatentVariableModel, batch: Batch, eta: Float[Tensor, "B P"], rows: Float[Tensor, "B D P"]
) -> Local:
    """The likelihood's part from eta and its transposed Jacobian."""
    mask = batch.mask
    level = model.likelihood.log_prob(batch.x, eta, mask)
    score = model.likelihood.score(batch.x, eta, mask)
    root = model.likelihood.root(eta.unsqueeze(1), rows, None if mask is None else mask.unsqueeze(1))
    return Local(level, torch.einsum("bdp,bp->bd", rows, score), root @ root.mT)


def _missed(
    model: LatentVariableModel, batch: Batch, eta: Float[Tensor, "B P"], tangent: Float[Tensor, "B P"]
) -> Float[Tensor, "B P"]:
    """``score - F tangent``, with ``F v = R (R'v)``."""
    root, transposed = torch.func.vjp(lambda v: model.likelihood.root(eta, v, batch.mask), tangent)[:2]
    return model.likelihood.score(batch.x, eta, batch.mask) - transposed(root)[0]


ROUTES: tuple[type[Route], ...] = (Gram, Layerwise, Generic)
"""Cheapest first."""
