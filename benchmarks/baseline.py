"""The published VLAE step, written out: explicit Jacobians, an inverse, everything unrolled. A baseline, not a model.

Park, Kim and Kim, ICML 2019: ``mu <- mu + a_t Lam^-1 (J'(x - g(mu)) / s^2 - mu)`` with ``a_t = 0.5 / (t + 1)``, then
``q = N(mu_T, Lam(mu_T)^-1)`` by the Cholesky factor of an inverse, and one draw.
"""

import math

import torch
from torch import Tensor, nn


class Published(nn.Module):
    """Encoder P-H-H-2D, decoder D-H-H-P, ReLU, Gaussian output with one learned variance."""

    def __init__(self, outputs: int, hidden: int, latent: int, steps: int = 4):
        super().__init__()
        self.encoder = _mlp(outputs, hidden, 2 * latent)
        self.decoder = _mlp(latent, hidden, outputs)
        self.log_variance = nn.Parameter(torch.zeros(1))
        self.steps = steps

    def local(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """g(z) (B, P) and its Jacobian (B, P, D)."""
        first, _, second, _, last = self.decoder
        a = first(z)
        jacobian = (a > 0).to(z.dtype).unsqueeze(-1) * first.weight
        b = second(a.relu())
        jacobian = (b > 0).to(z.dtype).unsqueeze(-1) * (second.weight @ jacobian)
        return last(b.relu()), last.weight @ jacobian

    def infer(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Posterior mean (B, D) and covariance (B, D, D)."""
        mu = self.encoder(x).chunk(2, dim=-1)[0]
        eye = torch.eye(mu.shape[-1], dtype=x.dtype, device=x.device)
        precision_x = (-self.log_variance).exp()
        for t in range(self.steps):
            mean, jacobian = self.local(mu)
            bias = mean - (jacobian @ mu.unsqueeze(-1)).squeeze(-1)
            covariance = torch.inverse(precision_x * jacobian.mT @ jacobian + eye)
            target = covariance @ (precision_x * jacobian.mT @ (x - bias).unsqueeze(-1))
            a = 0.5 / (t + 1)
            mu = (1 - a) * mu + a * target.squeeze(-1)
        _, jacobian = self.local(mu)
        return mu, torch.inverse(precision_x * jacobian.mT @ jacobian + eye)

    def loss(self, x: Tensor, noise: Tensor) -> Tensor:
        """Minus the one-draw ELBO, averaged over the batch; ``noise`` (B, D) colors the draw."""
        mu, covariance = self.infer(x)
        factor = torch.linalg.cholesky(covariance)
        z = mu + (factor @ noise.unsqueeze(-1)).squeeze(-1)
        error = (x - self.decoder(z)).square() * (-self.log_variance).exp() + self.log_variance + math.log(2 * math.pi)
        log_q = -0.5 * noise.square().sum(-1) - factor.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return (0.5 * error.sum(-1) + 0.5 * z.square().sum(-1) + log_q).mean()


def _mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, hidden), nn.ReLU(), nn.Linear(hidden, outputs)
    )
