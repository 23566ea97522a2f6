"""A decoder that never gives two latents the same output: convex gradients around a matrix of full rank."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.argument_checks import check_least
from curvae.linalg import soft_bound, soft_unbound
from curvae.networks.brenier import LEAST, BrenierMap

FAINT = 1e-2
"""Size of a column that a linear model leaves empty, relative to its others."""


class FullRank(nn.Module):
    """``B = Q R``, (P, K): full column rank for every value of the parameters.

    Q has K orthonormal columns, as the product of K Householder reflections of any vectors; R is upper triangular, its
    diagonal ``+-exp(.)`` with exponents softly bounded to [-7, 7], so no entry of it is 0. By the QR decomposition
    every matrix of full column rank is such a product, as far as its scale lies within these bounds.

    Args:
        rows: P.
        columns: K, at most P.

    Raises:
        ValueError: K below 1 or above P.

    Example:
        >>> int(torch.linalg.matrix_rank(FullRank(5, 3).weight))
        3
    """

    sign: Tensor

    def __init__(self, rows: int, columns: int):
        super().__init__()
        check_least("FullRank", 1, columns=columns)
        if columns > rows:
            raise ValueError(f"FullRank: expected at most {rows} columns, as many as rows; got {columns}.")
        self.vectors = nn.Parameter(torch.randn(rows, columns))
        self.log_diagonal = nn.Parameter(torch.zeros(columns))
        self.above = nn.Parameter(torch.zeros(columns, columns))
        self.register_buffer("sign", torch.ones(columns))

    @property
    def frame(self) -> Float[Tensor, "P K"]:
        """Q."""
        wide = torch.promote_types(self.vectors.dtype, torch.float32)
        vectors = self.vectors.to(wide).tril(-1) + torch.eye(*self.vectors.shape, dtype=wide, device=self.above.device)
        return torch.linalg.householder_product(vectors, 2 / vectors.square().sum(0)).to(self.above)

    @property
    def triangle(self) -> Float[Tensor, "K K"]:
        """R."""
        return self.above.triu(1) + torch.diag(self.sign * soft_bound(self.log_diagonal).exp())

    @property
    def weight(self) -> Float[Tensor, "P K"]:
        """B."""
        return self.frame @ self.triangle

    def forward(self, h: Float[Tensor, "*B K"]) -> Float[Tensor, "*B P"]:
        return h @ self.weight.mT

    @torch.no_grad()
    def start_from(self, weight: Float[Tensor, "P K"]) -> None:
        """Become this matrix, or one of full rank near it."""
        self.vectors.copy_(torch.geqrf(weight).a)
        triangle = self.frame.to(weight).mT @ weight
        self.sign.copy_(torch.where(triangle.diagonal() < 0, -1.0, 1.0))
        self.log_diagonal.copy_(soft_unbound(triangle.diagonal().abs().clamp(min=1e-12).log()))
        self.above.copy_(triangle)


class ReferenceCategory(nn.Module):
    """Logits of C categories an element from C - 1 of them: that of the first is 0.

    Probabilities are the same for logits moved by a constant, so C free ones are told apart by nothing.

    Args:
        categories: C.

    Example:
        >>> ReferenceCategory(3)(torch.tensor([[1.0, 2.0, 3.0, 4.0]])).tolist()
        [[0.0, 1.0, 2.0, 0.0, 3.0, 4.0]]
    """

    def __init__(self, categories: int):
        super().__init__()
        self.categories = categories

    def forward(self, free: Float[Tensor, "*B Q"]) -> Float[Tensor, "*B P"]:
        each = free.unflatten(-1, (-1, self.categories - 1))
        return torch.nn.functional.pad(each, (1, 0)).flatten(-2)

    def inverse(self, eta: Float[Tensor, "*B P"]) -> Float[Tensor, "*B Q"]:
        """The free logits of the same probabilities."""
        each = eta.unflatten(-1, (-1, self.categories))
        return (each[..., 1:] - each[..., :1]).flatten(-2)


class IdentifiableDecoder(nn.Module):
    """``eta = link(c g2(B g1(z)))``: two latents never give the same eta, and ``d eta / dz`` has rank K everywhere.

    g1 and g2 are :class:`BrenierMap`, bijections whose Jacobians are at least ``least I``, and B is a
    :class:`FullRank`: a step dz moves ``c g2(B g1(z))`` by at least ``c least^2 s |dz|``, s the smallest singular value
    of B. c > 0 is the scale of the data where it starts at a linear model of them, and else 1; c g2 is a gradient, too.
    It goes with every prior, likelihood and posterior: ``vlae(spec, latent=4, decoder=IdentifiableDecoder(4, 64,
    [128]))``.

    Reference: Wang, Blei and Cunningham, *Posterior Collapse and Latent Variable Non-identifiability*, NeurIPS 2021.

    Args:
        latent: K.
        outputs: number of free values that the likelihood takes, K or more.
        hidden: widths of the layers of both convex networks.
        categories: of a categorical likelihood; then ``outputs`` counts C - 1 an element, and eta has C.
        least: the smallest slope of g1 and g2.

    Raises:
        ValueError: more latents than outputs, or what :class:`BrenierMap` raises.

    Example:
        >>> decoder = IdentifiableDecoder(2, 10, [16]).double()
        >>> z = torch.randn(5, 2, dtype=torch.float64)
        >>> bool((decoder.inverse(decoder(z)) - z).abs().max() < 1e-9)
        True
    """

    scale: Tensor

    def __init__(
        self, latent: int, outputs: int, hidden: Sequence[int], categories: int | None = None, least: float = LEAST
    ):
        super().__init__()
        self.latent = latent
        self.first = BrenierMap(latent, hidden, least)
        self.matrix = FullRank(outputs, latent)
        self.second = BrenierMap(outputs, hidden, least)
        self.register_buffer("scale", torch.ones(()))
        self.link = None if categories is None else ReferenceCategory(categories)

    def forward(self, z: Float[Tensor, "N K"]) -> Float[Tensor, "N P"]:
        free = self.scale * self.second(self.matrix(self.first(z)))
        return free if self.link is None else self.link(free)

    @torch.no_grad()
    def inverse(self, eta: Float[Tensor, "N P"]) -> Float[Tensor, "N K"]:
        """The z of an eta that the decoder gave, by Newton's method, exact to rounding."""
        free = eta if self.link is None else self.link.inverse(eta)
        inner = self.second.inverse(free / self.scale) @ self.matrix.frame
        return self.first.inverse(torch.linalg.solve_triangular(self.matrix.triangle, inner.mT, upper=True).mT)

    @torch.no_grad()
    def start_from(self, weight: Float[Tensor, "P K"], bias: Float[Tensor, " P"]) -> None:
        """Become ``weight z + bias``, to first order around ``z = 0``; a column of zeros becomes a faint one."""
        weight, bias = (part.to(self.matrix.above) for part in (weight, bias))
        free = (weight, bias) if self.link is None else (self.link.inverse(weight.mT).mT, self.link.inverse(bias))
        self.scale.copy_(free[0].square().sum(1).mean().sqrt().clamp(min=1e-6))
        free = free[0] / self.scale, free[1] / self.scale
        origin, middle = torch.zeros_like(free[0][:1]), torch.zeros_like(free[1].unsqueeze(0))
        self.first.shift -= self.first(origin)[0]
        self.second.shift += free[1] - self.second(middle)[0]
        inner = torch.linalg.solve(self.second.jacobian(middle)[0], _filled(free[0]))
        self.matrix.start_from(torch.linalg.solve(self.first.jacobian(origin)[0], inner, left=False))


def _filled(weight: Float[Tensor, "P K"]) -> Float[Tensor, "P K"]:
    size = weight.norm(dim=0)
    noise = torch.randn_like(weight) * FAINT * size.max().clamp(min=1e-6) / len(weight) ** 0.5
    return torch.where(size > FAINT * size.max() / 10, weight, noise)
