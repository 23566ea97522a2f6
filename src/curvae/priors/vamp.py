"""The variational mixture of posteriors: a prior of the encoder's own posteriors at inputs that are learned."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.argument_checks import check_least
from curvae.distributions.gaussian import DiagonalGaussian, GaussianPosterior
from curvae.distributions.mixture import Mixture
from curvae.distributions.posterior import Posterior
from curvae.distributions.transformed import PushforwardPosterior
from curvae.linalg import LOG_2PI
from curvae.priors.prior import Prior

Weighted = tuple[GaussianPosterior, Float[Tensor, " K"]]
"""K Gaussians, and the logarithms of their weights."""


class VampPrior(Prior):
    """``p(z) = 1/K sum_k q(z | u_k)``: the posteriors of K pseudo-inputs u, which are learned.

    q is the system's own encoder, which the prior refers to and does not own: :meth:`join`. Its Gaussians are taken: of
    a mixture all of them, of a flow the one before it. The precision is ``sum_k r_k Lam_k`` with the responsibilities
    r, never below the Hessian of ``-log p(z)``.

    Reference: Tomczak and Welling, *VAE with a VampPrior*, AISTATS 2018.

    Differences: pseudo-inputs start at rows of the data, and are not kept within their range.

    Args:
        size: number of latent dimensions D.
        event: shape of an input.
        components: number K of pseudo-inputs.

    Raises:
        ValueError: components below 1; in use, no encoder, or one that does not give Gaussians.

    Example:
        >>> prior = VampPrior(2, event=(5,), components=3)
        >>> network = nn.Linear(5, 4)
        >>> prior.join(lambda u: DiagonalGaussian(*network(u).chunk(2, -1)))
        >>> prior.log_prob(torch.zeros(7, 2)).shape, prior.sample(4).shape
        (torch.Size([7]), torch.Size([4, 2]))
    """

    def __init__(self, size: int, event: tuple[int, ...], components: int = 100):
        super().__init__()
        check_least("VampPrior", 1, size=size, components=components)
        self.blocks = (size,)
        self.inputs = nn.Parameter(torch.randn(components, *event))
        self._encode: Callable[[Tensor], Posterior] | None = None

    def join(self, encode: Callable[[Tensor], Posterior]) -> None:
        """Take an encoder, from inputs to their posteriors; its parameters stay those of its owner."""
        self._encode = encode

    @torch.no_grad()
    def start_at(self, x: Float[Tensor, "N *event"], q: DiagonalGaussian) -> None:
        """Pseudo-inputs at rows of the data, evenly spread; as many of them as there are rows."""
        rows = torch.linspace(0, len(x) - 1, min(len(self.inputs), len(x))).long()
        self.inputs[: len(rows)] = x[rows].to(self.inputs)

    def log_prob(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B"]:
        return torch.logsumexp(self._joint(self._gaussians(), z), -1)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n D"]:
        with torch.no_grad():
            parts = self._gaussians()
            every = torch.cat([weight for _, weight in parts]).exp()
            which = torch.multinomial(every, n, replacement=True, generator=generator)
            noise = torch.randn(n, 1, self.size, generator=generator, device=every.device, dtype=every.dtype)
            counts = [len(weight) for _, weight in parts]
            images = [q.from_noise(noise.expand(-1, count, -1)) for (q, _), count in zip(parts, counts, strict=True)]
        return torch.cat(images, 1)[torch.arange(n, device=every.device), which]

    def score(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """``sum_k r_k Lam_k (m_k - z)``."""
        parts = self._gaussians()
        r, (loc, precision) = self._joint(parts, z).softmax(-1), _moments(parts)
        toward = torch.einsum("kij,kj->ki", precision, loc)
        return r @ toward - torch.einsum("...k,kij,...j->...i", r, precision, z)

    def precision(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D D"]:
        parts = self._gaussians()
        return torch.einsum("...k,kij->...ij", self._joint(parts, z).softmax(-1), _moments(parts)[1])

    def _gaussians(self) -> list[Weighted]:
        if self._encode is None:
            raise ValueError("VampPrior: expects an encoder; call join(encode) first, or make it with its system.")
        level = torch.full_like(self.inputs.flatten(1)[:, 0], -math.log(len(self.inputs)))
        return list(_parts(self._encode(self.inputs), level))

    def _joint(self, parts: list[Weighted], z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B M"]:
        """Log of the weight of each component times its density."""
        rows = z.reshape(-1, self.size)
        each = [weight + _densities(q, rows) for q, weight in parts]
        return torch.cat(each, -1).reshape(*z.shape[:-1], -1)


def _densities(q: GaussianPosterior, z: Float[Tensor, "N D"]) -> Float[Tensor, "N K"]:
    """``log q_k(z_n)`` of every row under every Gaussian.

    Of diagonal ones ``1/2 sum_d (z - m)^2 / s^2`` is multiplied out, so that nothing is of size N x K x D: three
    products of matrices, in float64 as their terms cancel.
    """
    if not isinstance(q, DiagonalGaussian) or z.device.type == "mps":  # which has no float64
        return q.log_prob(z.unsqueeze(1).expand(-1, len(q.loc), -1))
    loc, log_scale, at = q.loc.double(), q.log_scale.double(), z.double()
    inverse = (-2 * log_scale).exp()
    constant = 0.5 * (inverse * loc.square()).sum(-1) + log_scale.sum(-1) + 0.5 * z.shape[-1] * LOG_2PI
    return (at @ (inverse * loc).mT - 0.5 * at.square() @ inverse.mT - constant).to(z)


def _parts(q: Posterior, level: Float[Tensor, " K"]) -> list[Weighted]:
    """The Gaussians that a posterior is made of.

    Raises:
        ValueError: it is made of something else.
    """
    match q:
        case GaussianPosterior():
            return [(q, level)]
        case PushforwardPosterior():
            return _parts(q.start, level)
        case Mixture():
            pairs = zip(q.components, q.log_weights, strict=True)
            return [each for part, weight in pairs for each in _parts(part, level + weight)]
        case _:
            raise ValueError(f"VampPrior: expects an encoder that gives Gaussians; got {type(q).__name__}.")


def _moments(parts: list[Weighted]) -> tuple[Float[Tensor, "K D"], Float[Tensor, "K D D"]]:
    """Means and precisions of all Gaussians: ``Lam = W'W``, W what whitens."""
    loc = torch.cat([q.loc for q, _ in parts])
    axes = torch.eye(loc.shape[-1], dtype=loc.dtype, device=loc.device).unsqueeze(1)
    columns = torch.cat([q.whiten(axes.expand(-1, len(q.loc), -1)) for q, _ in parts], 1).movedim(1, 0)
    return loc, columns @ columns.mT
