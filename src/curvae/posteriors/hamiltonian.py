"""The posterior of a Hamiltonian VAE: draws of an encoder carried along by tempered Hamiltonian dynamics."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from curvae.distributions.posterior import Draws, Posterior
from curvae.dynamics import tempered_leapfrog
from curvae.linalg import standard_normal_log_prob
from curvae.model import LatentVariableModel
from curvae.noise import noise
from curvae.posteriors.simulated import SimulatedPosterior


@dataclass(frozen=True, eq=False)
class HamiltonianPosterior(SimulatedPosterior):
    r"""K leapfrog steps on ``log p(x, z)`` from ``z_0 ~ q_0``, with a momentum ``r_0 ~ N(0, T_0)`` that is cooled.

    After step k it is multiplied by ``a_k = sqrt(T_k / T_{k-1})``, ``T_K = 1``. All is deterministic given
    (z_0, r_0), and the volume shrinks by ``prod a_k^D = T_0^(-D/2)``, so the weight on the extended space is known:

    ``log w = log p(x, z_K) + log N(r_K; 0, 1) - log q_0(z_0) - log N(r_0 / sqrt(T_0); 0, 1)``.

    Every draw is differentiable in the encoder, the model, the step sizes and the temperatures.

    Args:
        start: q_0.
        model: p(x, z).
        x: the data.
        log_step: logarithm of the leapfrog steps, one for each step and dimension.
        log_temperature: ``log T_0 ... log T_{K-1}``.
        mask: which of the data are observed; None for all.

    Reference: Caterini, Doucet and Sejdinovic, *Hamiltonian Variational Auto-Encoder*, NeurIPS 2018.

    Example:
        >>> import torch
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.posteriors import DiagonalGaussian
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(2), torch.nn.Linear(2, 3), Gaussian(3))
        >>> x, q = torch.zeros(4, 3), DiagonalGaussian(torch.zeros(4, 2), torch.zeros(4, 2))
        >>> moved = HamiltonianPosterior(q, model, x, torch.full((4, 5, 2), -2.0), torch.zeros(4, 5))
        >>> moved.draw(7).z.shape, moved.mean.shape
        (torch.Size([7, 4, 2]), torch.Size([4, 2]))
    """

    names = ("log_step", "log_temperature")
    start: Posterior
    model: LatentVariableModel
    x: Shaped[Tensor, "B *event"]
    log_step: Float[Tensor, "B K D"]
    log_temperature: Float[Tensor, "B K"]
    mask: Shaped[Tensor, "B *event"] | None = None

    def draw(self, n: int, generator: torch.Generator | None = None) -> Draws:
        begin = self.start.draw(n, generator)
        rest = noise(len(begin.z), begin.z[0], generator)
        temperature = torch.nn.functional.pad(self.log_temperature, (0, 1)).mT.exp()
        z, momentum = tempered_leapfrog(
            self.log_joint,
            begin.z,
            rest * temperature[0].sqrt().unsqueeze(-1),
            self.log_step.transpose(0, 1).exp(),
            (temperature[1:] / temperature[:-1]).sqrt(),
        )
        log_q = begin.log_q + standard_normal_log_prob(rest) - standard_normal_log_prob(momentum)
        return begin._replace(z=z, log_q=log_q)
