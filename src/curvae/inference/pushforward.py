"""Amortized Gaussians whose covariance is the data's noise, pushed through the encoder's Jacobian."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae import linalg
from curvae.argument_checks import check_least
from curvae.curvature import Status
from curvae.curvature.routes import layers
from curvae.distributions.gaussian import pack
from curvae.inference.encoder_start import outputs, write_posterior
from curvae.inference.inference import AffinePosterior, Amortized, Inferred, as_precise
from curvae.linalg import soft_bound
from curvae.model import LatentVariableModel
from curvae.posteriors import FullGaussian
from curvae.typing import Batch, Matrix

NOISE = 0.1
"""Standard deviation of the pushed noise where no linear model says another."""
LEAST = 1e-12
"""The smallest variance of the encoder's own part, as its soft bound has it."""


class PushforwardGaussian(Amortized):
    r"""``q(z | x) = N(f(x), J N J' + diag(t(x)^2))`` with ``J = df/dx`` (D, P) and ``N = diag(noise)`` learned.

    The encoder f is given ``x + e`` with ``e ~ N(0, N)``; to first order in e its mean is then distributed as
    ``N(f(x), J N J')``: a full covariance from the Jacobian of an encoder that gives no more than a diagonal one's.

    What first order leaves out is known where f is the mode of p(z | x) under a piecewise linear decoder g with noise N
    and z is N(0, I) a priori. There ``J_g' N^-1 (x - g) = z``, so ``J = S J_g' N^-1`` with the Laplace covariance
    ``S = (J_g' N^-1 J_g + I)^-1``, and ``J N J' = S (S^-1 - I) S = S - S^2``. The rest ``S^2``, of the order of N^2, is
    the prior's share, and ``t(x)^2`` stands for its diagonal. It keeps q proper where J is of a lower rank. On a
    linear-Gaussian model with its latents rotated so that S is diagonal, q is the exact posterior.

    The encoder gives 2 D values: means and ``r = 1/2 log t``, softly bounded; ``exp(r)`` is a diagonal posterior's
    scale where that share is ``S^2``, so that networks start as those of :class:`AmortizedGaussian`.

    The gradient is exact, second derivatives of f included. For a chain of linear and elementwise layers
    ``J = R W_1``, and ``R (W_1 N W_1') R'`` forms nothing of size P for each example.

    A free-form estimator takes the decoder's Jacobian for the inverse in the gradient of the entropy: at the f above
    ``S^-1 J N = J_g'``, so ``1/2 d log det S = tr(J_g dJ) + ...``, and ``v' dJ J_g v`` with one random direction v is
    an estimate of that. It takes one product with each Jacobian, and is right at that f alone. What became of it:
    ``docs/studies/rivals.md``.

    Reference: after Sorrenson, Luhrs, Olischlager and Kothe, *Beyond Diagonal Covariance: Flexible Posterior VAEs via
    Free-Form Injective Flows*, arXiv:2506.01522, 2025; Sorrenson et al., *Lifting Architectural Constraints of
    Injective Flows*, arXiv:2306.01843, have the estimator.

    Differences: known to us is that a regularized free-form injective flow is a VAE with an implicit posterior, as good
    as one of full covariance. That q is this Gaussian, its noise for each element of x, the part t and the exact
    gradient are ours.

    Args:
        encoder: the network, from a batch of data to 2 D values.
        inputs: number of values of an example, P.

    Info: ``status`` (B,): whether the covariance could be factored as it is.

    Raises:
        ValueError: fewer than 1 input; in use, data of another size, or an encoder that gives an odd number of values.

    Example:
        >>> inference = PushforwardGaussian(torch.nn.Linear(5, 2 * 3), inputs=5)
        >>> inference(None, Batch(torch.zeros(4, 5), torch.arange(4))).posterior.covariance.shape
        torch.Size([4, 3, 3])
    """

    def __init__(self, encoder: nn.Module, inputs: int):
        super().__init__(encoder)
        check_least("PushforwardGaussian", 1, inputs=inputs)
        self.log_noise = nn.Parameter(torch.full((inputs,), NOISE).log())

    def forward(self, model: LatentVariableModel | None, batch: Batch) -> Inferred:
        x, noise = batch.x, (2 * self.log_noise).exp()
        if x[0].numel() != len(noise):
            raise ValueError(f"PushforwardGaussian: expected {len(noise)} values of an example; got {x[0].numel()}.")
        with torch.autocast(x.device.type, enabled=False):
            out, pushed = pushforward(self.encoder, as_precise(x, batch), noise, batch.mask)
            mean, log_root = out.chunk(2, dim=-1)
            own = torch.diag_embed((4 * soft_bound(log_root)).exp())
            factor, ok = linalg.cholesky(pushed + own)
        status = torch.where(ok, Status.OK, Status.NOT_PSD)
        status = torch.where(factor.isfinite().flatten(1).all(1) & mean.isfinite().all(1), status, Status.NONFINITE)
        return Inferred(FullGaussian(mean, pack(factor)), {"status": status})

    @torch.no_grad()
    def start_from(self, posterior: AffinePosterior) -> bool:
        """The noise starts as the linear model's, the encoder's own part at what that leaves of the variances."""
        variance, gain = (2 * posterior.log_scale).exp(), posterior.inward.square()
        noise = posterior.noise
        if noise is None:  # one of x as a whole, that takes half of a variance at most
            noise = (0.5 * variance / gain.sum(1)).min().clamp(max=NOISE**2).expand(gain.shape[1])
        left = (variance - gain @ noise).clamp(min=LEAST)
        if not write_posterior(
            self.encoder, posterior._replace(log_scale=0.25 * left.log()), outputs(self.encoder) // 2
        ):
            return False
        self.log_noise.copy_(0.5 * noise.log())
        return True


def pushforward(
    encoder: nn.Module, x: Float[Tensor, "B *event"], noise: Float[Tensor, " P"], mask: Tensor | None = None
) -> tuple[Float[Tensor, "B Q"], Matrix]:
    """What an encoder gives, and ``J diag(noise) J'`` with J the Jacobian of the first half of it, differentiable.

    Where values are missing (False in ``mask``) there is no noise.

    Raises:
        ValueError: the encoder gives an odd number of values.
    """
    out, rows, weight = _linearized(encoder, x)
    if weight is not None and mask is None and weight.shape[1] > weight.shape[0]:
        return out, rows @ ((weight * noise) @ weight.mT) @ rows.mT
    jacobian = rows if weight is None else rows @ weight
    seen = noise if mask is None else noise * mask.flatten(1).unsqueeze(1)
    return out, (jacobian * seen) @ jacobian.mT


def _linearized(encoder: nn.Module, x: Tensor) -> tuple[Tensor, Float[Tensor, "B D R"], Tensor | None]:
    """What it gives, and R and W_1 of the Jacobian ``R W_1``; the Jacobian and None if it is not a chain."""
    chain = layers.chain(encoder) or []
    if len(chain) > 1 and isinstance(chain[0], nn.Linear) and isinstance(chain[-1], nn.Linear):
        out, slopes = layers.forward_with_slopes(chain, x.flatten(1))
        last = chain[-1].weight[: _half(out)].expand(len(x), -1, -1)
        return out, layers.pull(chain[1:-1], slopes[1:-1], last), chain[0].weight
    out, pull = torch.func.vjp(encoder, x)[:2]
    axes = torch.eye(out.shape[-1], dtype=out.dtype, device=out.device)[: _half(out)]
    rows = torch.func.vmap(lambda axis: pull(axis.expand_as(out))[0])(axes)
    return out, rows.movedim(0, 1).flatten(2), None


def _half(out: Tensor) -> int:
    if out.shape[-1] % 2:
        raise ValueError(
            f"PushforwardGaussian: the encoder must give 2 D values (means, half log-deviations); got {out.shape[-1]}, "
            "an odd number. Change its last layer."
        )
    return out.shape[-1] // 2
