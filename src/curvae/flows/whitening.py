"""A linear map that is set in closed form: what takes the mean and the covariance of data off."""

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.flows.flow import InvertibleFlow, Transformed
from curvae.linear import LinearGaussian


class Whitening(InvertibleFlow):
    """``h = (I + U diag(1 / stretch - 1) U') (x - mean) / scale``: what a linear-Gaussian model says is N(0, I).

    ``log |det dh/dx| = -sum log scale - sum log stretch``, the same everywhere. With
    ``W / sqrt(noise) = U diag(s) V'`` and ``stretch = sqrt(1 + s^2)`` it whitens the covariance ``W W' + diag(noise)``,
    and nothing of size D x D is formed. Its numbers are buffers, which training leaves as they are; at first it is the
    identity.

    Args:
        size: number of dimensions D.
        rank: of U.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> model = LinearGaussian.rotated(torch.zeros(3), torch.randn(3, 1), torch.ones(3))
        >>> flow = Whitening(3, 1)
        >>> flow.start_from(model)
        >>> h = flow(x := torch.randn(1, 4, 3))
        >>> normal = torch.distributions.Normal(0.0, 1.0)
        >>> bool(torch.allclose(normal.log_prob(h.z).sum(-1) + h.log_det, model.log_prob(x[0])))
        True
    """

    mean: Tensor
    scale: Tensor
    directions: Tensor
    stretch: Tensor

    def __init__(self, size: int, rank: int):
        super().__init__()
        self.size = size
        self.context = 0
        self.cheap = "both"
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))
        self.register_buffer("directions", torch.zeros(size, rank))
        self.register_buffer("stretch", torch.ones(rank))

    def start_from(self, model: LinearGaussian) -> None:
        """Become this model; of more latents than there is room for, of the strongest."""
        rank = min(model.weight.shape[1], len(self.stretch))
        self.start_at_identity(self.mean, self.mean)
        self.mean.copy_(model.mean)
        self.scale.copy_(model.noise.sqrt())
        strength = model.gains.sqrt()[:rank]
        used = strength > 0
        within = model.weight[:, :rank] / model.noise.sqrt().unsqueeze(1) / torch.where(used, strength, 1.0)
        self.directions[:, :rank] = torch.where(used, within, 0.0).to(self.directions)
        self.stretch[:rank] = (1 + strength.square()).sqrt().to(self.stretch)

    def forward(self, z: Float[Tensor, "S B D"], context: Tensor | None = None) -> Transformed:
        h = (z - self.mean) / self.scale
        h = h + h @ self.directions * (1 / self.stretch - 1) @ self.directions.mT
        return Transformed(h, -self._log_volume.expand(z.shape[:-1]))

    def inverse(self, z: Float[Tensor, "S B D"], context: Tensor | None = None) -> Transformed:
        x = self.mean + self.scale * (z + z @ self.directions * (self.stretch - 1) @ self.directions.mT)
        return Transformed(x, self._log_volume.expand(z.shape[:-1]))

    @property
    def _log_volume(self) -> Float[Tensor, ""]:
        return self.scale.log().sum() + self.stretch.log().sum()

    @torch.no_grad()
    def start_at_identity(self, weight: Tensor, bias: Tensor) -> float:
        """No shift, no scale, no direction."""
        for part in (self.mean, self.directions):
            part.zero_()
        for part in (self.scale, self.stretch):
            part.fill_(1)
        return 0.0
