"""Laws of a state in layers: each is a diagonal Gaussian given a context and the layers above it."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from curvae.distributions import DiagonalGaussian, LearnedNormal
from curvae.linalg import standard_normal_log_prob
from curvae.memory import require_memory
from curvae.noise import noise


class GatedMap(nn.Module):
    """``W (tanh(U c) * sigmoid(V c)) + b``: the D-block of the temporal-difference VAE, of any leading dimensions.

    Example:
        >>> GatedMap(3, 8, 4)(torch.zeros(5, 2, 3)).shape
        torch.Size([5, 2, 4])
    """

    def __init__(self, inputs: int, hidden: int, outputs: int):
        super().__init__()
        require_memory(hidden * (2 * inputs + outputs), "GatedMap")
        self.both = nn.Linear(inputs, 2 * hidden)
        self.last = nn.Linear(hidden, outputs)

    def forward(self, context: Float[Tensor, "*B C"]) -> Float[Tensor, "*B Q"]:
        signal, gate = self.both(context).chunk(2, -1)
        return self.last(signal.tanh() * gate.sigmoid())


class LayeredNormal(nn.Module):
    """``p(z | c) = N(z_1; f_1(c)) N(z_2; f_2(c, z_1)) ...``, the top layer first.

    Args:
        networks: f, each from the context and the layers above, (..., C + D_above), to mean and log standard deviation.
        sizes: D_l of each layer.

    Example:
        >>> law = LayeredNormal.standard(3, [2, 2], hidden=8)
        >>> z, log_prob = law.draw(torch.zeros(6, 5, 3))
        >>> z.shape, torch.allclose(log_prob, law.log_prob(z, torch.zeros(6, 5, 3)), atol=1e-5)
        (torch.Size([6, 5, 4]), True)
    """

    def __init__(self, networks: Sequence[nn.Module], sizes: Sequence[int]):
        super().__init__()
        self.networks = nn.ModuleList(networks)
        self.sizes = tuple(sizes)

    @classmethod
    def standard(cls, context: int, sizes: Sequence[int], hidden: int) -> "LayeredNormal":
        """With gated networks of one hidden layer."""
        networks = [
            GatedMap(context + sum(sizes[:layer]), hidden, LearnedNormal(size).parameters)
            for layer, size in enumerate(sizes)
        ]
        return cls(networks, sizes)

    def draw(
        self, context: Float[Tensor, "S B *T C"], generator: Generator | None = None
    ) -> tuple[Float[Tensor, "S B *T D"], Float[Tensor, "S B *T"]]:
        """One draw for each context, and ``log p`` of it."""
        above, total = context, context.new_zeros(context.shape[:-1])
        layers = []
        for network, size in zip(self.networks, self.sizes, strict=True):
            law = LearnedNormal(size)(network(above))
            eps = noise(len(law.loc), law.loc.flatten(2)[0], generator).reshape(law.loc.shape)
            layers.append(law.from_noise(eps))
            total = total + standard_normal_log_prob(eps) - law.half_log_det
            above = torch.cat([above, layers[-1]], -1)
        return torch.cat(layers, -1), total

    def log_prob(self, z: Float[Tensor, "*B D"], context: Float[Tensor, "*B C"]) -> Float[Tensor, "*B"]:
        """``log p(z | c)``, nats: every layer given those above it *of this z*."""
        above, total = context, z.new_zeros(z.shape[:-1])
        for network, layer in zip(self.networks, z.split(self.sizes, -1), strict=True):
            law: DiagonalGaussian = LearnedNormal(layer.shape[-1])(network(above))
            total = total + law.log_prob(layer)
            above = torch.cat([above, layer], -1)
        return total

    def center(self, context: Float[Tensor, "*B C"]) -> Float[Tensor, "*B D"]:
        """The mean of each layer at the means of those above it."""
        above, layers = context, []
        for network, size in zip(self.networks, self.sizes, strict=True):
            layers.append(LearnedNormal(size)(network(above)).loc)
            above = torch.cat([above, layers[-1]], -1)
        return torch.cat(layers, -1)
