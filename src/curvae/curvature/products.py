"""The Gauss-Newton precision by its products: ``Lam v = J'F(J v) + P v`` needs J only along one vector.

The decoder is run once, ``u -> J'u`` is its reverse pass, and ``v -> J v`` is the reverse pass of that (which is linear
in u), so that neither repeats the decoder. A product costs what two decoder passes do.
"""

from collections.abc import Callable
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from curvae import linalg
from curvae.curvature.route import Product, prior_product
from curvae.model import LatentVariableModel, require_continuous
from curvae.priors import StandardNormal
from curvae.typing import Batch, Latent, Matrix, PerDatum

MEMORY = 2**24
"""Bytes that several products may take at once; one is always let through."""


class Products:
    """log p(x, z) at a point z, its gradient, and products with ``Lam = J'F J + prior precision`` there.

    The decoder is run once, here. Everything is differentiable where gradients are on.

    Args:
        model: its decoder may be any whose rows do not depend on one another (BatchNorm in evaluation mode).
        batch: the data.
        z: the point.

    Raises:
        ValueError: discrete latents.

    Example:
        >>> import torch
        >>> from curvae.likelihoods import Gaussian
        >>> decoder = torch.nn.Linear(1, 2)
        >>> torch.nn.init.ones_(decoder.weight)
        Parameter containing: ...
        >>> model = LatentVariableModel(StandardNormal(1), decoder, Gaussian(2))
        >>> with torch.no_grad():
        ...     near = Products(model, Batch(torch.ones(4, 2), torch.arange(4)), torch.zeros(4, 1))
        ...     near(torch.ones(4, 1))[0].item()   # J'J + 1
        3.0
    """

    def __init__(self, model: LatentVariableModel, batch: Batch, z: Float[Tensor, "B D"]):
        require_continuous(model, "curvature")
        self.model = model
        self.batch = batch
        self.z = z
        self.eta, self._pull = torch.func.vjp(lambda point: model.decode(point, batch.x), z)[:2]
        bytes_each = 4 * self.eta.numel() * self.eta.element_size()
        self.at_once = max(1, MEMORY // max(1, bytes_each))

    @cached_property
    def log_likelihood(self) -> PerDatum:
        """``log p(x | z)``."""
        return self.model.likelihood.log_prob(self.batch.x, self.eta, self.batch.mask)

    @cached_property
    def log_joint(self) -> PerDatum:
        """``log p(x, z)``."""
        return self.log_likelihood + self.model.prior.log_prob(self.z)

    @cached_property
    def likelihood_grad(self) -> Float[Tensor, "B D"]:
        """``d log p(x | z) / dz``."""
        return self._pull(self.model.likelihood.score(self.batch.x, self.eta, self.batch.mask))[0]

    @cached_property
    def grad(self) -> Float[Tensor, "B D"]:
        """``d log p(x, z) / dz``."""
        log_prior, pull = torch.func.vjp(self.model.prior.log_prob, self.z)[:2]
        return self.likelihood_grad + pull(torch.ones_like(log_prior))[0]

    def __call__(self, v: Latent) -> Latent:
        """``Lam v`` for any number of vectors of each datum."""
        return self.likelihood_product(v) + self.prior_product(v)

    def likelihood_product(self, v: Latent) -> Latent:
        """``J'F(J v)``."""
        return self._each(lambda one: self._pull(self._unroot(self._root(self._push(one)[0]))[0])[0], v)

    @cached_property
    def prior_product(self) -> Product:
        """``v -> P v`` with the prior's precision P; for a standard normal that is v."""
        return prior_product(self.model.prior, self.z)

    def likelihood_matrix(self) -> Matrix:
        """``J'FJ``, formed by D products, several at a time where memory allows."""
        eye = torch.eye(self.z.shape[-1], dtype=self.z.dtype, device=self.z.device)
        columns = self.likelihood_product(eye.unsqueeze(1).expand(-1, *self.z.shape))
        matrix = columns.permute(1, 2, 0)
        return 0.5 * (matrix + matrix.mT)

    def matrix(self) -> Matrix:
        """Lam, formed by D products."""
        return self.likelihood_matrix() + self.model.prior.precision(self.z)

    def perturbation(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n B D"]:
        """``J'R e1 + P^1/2 e2`` with standard normal e1 and e2: n draws of N(0, Lam) for each datum."""
        width = self._root(self.eta).shape[-1]
        parts = []
        for start in range(0, n, self.at_once):
            count = min(self.at_once, n - start)
            noise = self._noise((count, len(self.eta), width), generator)
            parts.append(self._each(lambda one: self._pull(self._unroot(one)[0])[0], noise))
        noise = self._noise((n, *self.z.shape), generator)
        if not isinstance(self.model.prior, StandardNormal):
            factor, _ = linalg.cholesky(self.model.prior.precision(self.z))
            noise = torch.einsum("bij,sbj->sbi", factor, noise)
        return torch.cat(parts) + noise

    def _root(self, v: Tensor) -> Tensor:
        """``R'v``."""
        return self.model.likelihood.root(self.eta, v, self.batch.mask)

    @cached_property
    def _unroot(self) -> Callable[[Tensor], tuple[Tensor]]:
        """``u -> R u``."""
        return torch.func.vjp(self._root, torch.zeros_like(self.eta))[1]

    @cached_property
    def _push(self) -> Callable[[Tensor], tuple[Tensor]]:
        """``v -> J v``: the reverse pass of the reverse pass."""
        return torch.func.vjp(lambda u: self._pull(u)[0], torch.zeros_like(self.eta))[1]

    def _each(self, function: Callable[[Tensor], Tensor], v: Tensor) -> Tensor:
        """``function``, of one vector of each datum, over all leading dimensions, ``at_once`` of them together."""
        if v.ndim == 2:
            return function(v)
        flat = v.reshape(-1, *v.shape[-2:])
        if self.at_once == 1:
            out = torch.stack([function(one) for one in flat])
        else:
            _ = self._push, self._unroot  # built outside vmap
            out = torch.func.vmap(function, chunk_size=self.at_once)(flat)
        return out.unflatten(0, v.shape[:-2])

    def _noise(self, shape: tuple[int, ...], generator: torch.Generator | None) -> Tensor:
        return torch.randn(shape, generator=generator, device=self.z.device, dtype=self.z.dtype)
