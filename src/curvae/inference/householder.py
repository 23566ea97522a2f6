"""Amortized Gaussians with a full covariance by Householder reflections."""

import torch
from torch import nn

from curvae.argument_checks import check_least
from curvae.distributions.householder import reflect
from curvae.inference.encoder_start import write_posterior
from curvae.inference.inference import AffinePosterior, Amortized, Inferred
from curvae.linalg import soft_bound
from curvae.model import LatentVariableModel
from curvae.posteriors import HouseholderGaussian
from curvae.typing import Batch

START = 3.0
"""Standard deviation of the constant part of v_1 at the start, against about 1 of what the encoder adds."""


class AmortizedHouseholder(Amortized):
    """``z = H_T ... H_1 (m(x) + s(x) e)``, ``H_t = I - 2 v_t v_t' / |v_t|^2``, ``v_t = A_t v_{t-1} + a_t``.

    The encoder gives 3 D values: means, log-scales, and v_1 up to a learned constant a_1. So q is the Gaussian
    ``N(H m, H diag(s^2) H')``, and its divergence from a standard normal is known in closed form.

    Reference: Tomczak and Welling, *Improving Variational Auto-Encoders using Householder Flow*, arXiv:1611.09630.

    Differences: the divergence is not sampled, which lowers the variance of the gradient; it is that of the diagonal
    Gaussian, which no reflection changes. The constant a_1 starts long, so that all data are turned nearly alike at
    first; without it the means of neighbors are turned apart before they are learned, and training stalls.

    Args:
        encoder: the network.
        size: number of latent dimensions D.
        reflections: their number T; D - 1 reach every covariance.

    Raises:
        ValueError: fewer than 1 reflection; in use, an encoder that gives another number of values.

    Example:
        >>> inference = AmortizedHouseholder(torch.nn.Linear(5, 9), size=3, reflections=2)
        >>> inference(None, Batch(torch.zeros(4, 5), torch.arange(4))).posterior.covariance.shape
        torch.Size([4, 3, 3])
    """

    def __init__(self, encoder: nn.Module, size: int, reflections: int = 1):
        super().__init__(encoder)
        check_least("AmortizedHouseholder", 1, reflections=reflections)
        self.size = size
        self.first = nn.Parameter(START * torch.randn(size))
        self.chain = nn.ModuleList(nn.Linear(size, size) for _ in range(reflections - 1))

    def forward(self, model: LatentVariableModel | None, batch: Batch) -> Inferred:
        mean, log_scale, vector = self.encoded(batch, 3 * self.size, "3 D").chunk(3, dim=-1)
        found = [vector + self.first]
        for layer in self.chain:
            found.append(layer(found[-1]))
        vectors = torch.stack(found, dim=1)
        return Inferred(HouseholderGaussian(reflect(vectors, mean), soft_bound(log_scale), vectors))

    @torch.no_grad()
    def start_from(self, posterior: AffinePosterior) -> bool:
        """Reflections start along the axes, as changes of sign that the means undo.

        ``v_1`` starts along the first axis for all data, and ``A_t`` takes each axis to the next: so reflections in
        turn can tilt every axis, and what the encoder comes to add to v_1 reaches all of them.
        """
        axes = torch.eye(self.size).to(posterior.inward)
        vectors = axes[torch.arange(len(self.chain) + 1) % self.size]
        signs = reflect(vectors.unsqueeze(0), axes.sum(0, keepdim=True))[0, : len(posterior.inward)]
        undone = posterior._replace(inward=signs.unsqueeze(1) * posterior.inward, offset=signs * posterior.offset)
        if not write_posterior(self.encoder, undone, self.size, zeros=self.size):
            return False
        self.first.copy_(START * self.size**0.5 * vectors[0])
        for weight, bias in (layer.parameters() for layer in self.chain):
            weight.copy_(axes.roll(1, 0))
            bias.zero_()
        return True
