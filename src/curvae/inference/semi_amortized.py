"""Semi-amortized inference: the encoder's posterior, refined by a few gradient steps on its own ELBO."""

from dataclasses import replace

import torch
from torch import Tensor

from curvae.inference.inference import Continued, Inference, Inferred, prefixed
from curvae.inference.refiner import Refiner, elbo_gradient, free
from curvae.model import LatentVariableModel
from curvae.posteriors import DiagonalGaussian, Posterior, detached, kl
from curvae.typing import Batch, PerDatum

GUARD = 16
"""Draws, in evaluation, by which an example's start is kept where refinement has lowered its ELBO."""


class SemiAmortized(Continued):
    """``q(z | x) = q(z; lambda_K)``: lambda_0 from the start, then K gradient steps on ``ELBO(lambda, x)``.

    Unrolled, model and encoder get the exact gradient of the outer bound at lambda_K, second derivatives of the inner
    one included. The three ablations of the paper (section 4): ``SVI`` starts at :class:`ConstantGaussian`; ``VAE+SVI``
    is ``unroll=False``, where the encoder learns from its own ELBO and the model from lambda_K; ``VAE+SVI+KL`` adds
    ``-kl_weight * KL(q_lambda0 || q_lambdaK)`` to what the encoder learns from.

    In training the steps use fresh draws. In evaluation their draws repeat and are common to all data, so that q
    depends on x alone, and an example whose ELBO was lowered keeps lambda_0.

    Reference: Kim, Wiseman, Miller, Sontag and Rush, *Semi-Amortized Variational Autoencoders*, ICML 2018.

    Differences: steps are those of each example's own ELBO, not of the batch mean, so that their length does not depend
    on the batch (the published rate of 1 at 50 data a batch is 0.02 here); clipping is per example, and differentiated
    as it is done; second derivatives are exact instead of finite differences; the inner ELBO is never annealed.

    Args:
        start: gives lambda_0, a posterior of any kind.
        refiner: the steps.
        unroll: differentiate through the steps.
        kl_weight: weight of the divergence from lambda_K in what the encoder learns from; only without ``unroll``, and
            for Gaussians.

    Info: what the refiner says.

    Raises:
        ValueError: negative ``kl_weight``, or one beside ``unroll``; in use, one with a posterior not Gaussian.

    Example:
        >>> import torch
        >>> from curvae.inference import AmortizedGaussian
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(3), torch.nn.Linear(3, 10), Gaussian(10))
        >>> inference = SemiAmortized(AmortizedGaussian(torch.nn.Linear(10, 6)), Refiner(steps=4))
        >>> inference(model, Batch(torch.randn(8, 10), torch.arange(8))).posterior.mean.shape
        torch.Size([8, 3])
    """

    def __init__(self, start: Inference, refiner: Refiner | None = None, unroll: bool = True, kl_weight: float = 0.0):
        super().__init__(start)
        if kl_weight < 0 or (unroll and kl_weight):
            raise ValueError(f"SemiAmortized: kl_weight must be 0, or > 0 with unroll=False; got {kl_weight}.")
        self.refiner = refiner or Refiner()
        self.unroll = unroll
        self.kl_weight = kl_weight

    def forward(self, model: LatentVariableModel, batch: Batch) -> Inferred:
        begin = self.start(model, batch)
        refiner = self.refiner if self.training else replace(self.refiner, seed=0, guard=self.refiner.guard or GUARD)
        if self.unroll:
            found, bound = refiner(model, begin.posterior, batch), begin.encoder_bound
        else:
            with torch.no_grad():
                found = refiner(model, detached(begin.posterior), batch)
            own = self._own_bound(model, begin.posterior, found.posterior, batch)
            bound = own if begin.encoder_bound is None else own + begin.encoder_bound
        info = {**begin.info, **found.info}
        return Inferred(found.posterior, info, bound, prefixed("start", begin.state))

    def _own_bound(self, model: LatentVariableModel, start: Posterior, end: Posterior, batch: Batch) -> PerDatum:
        """0, with the gradient of ``ELBO(lambda_0) - kl_weight KL(q_lambda0 || q_lambdaK)`` in lambda_0 alone."""
        with torch.no_grad():
            grad, _ = elbo_gradient(model, start, batch, self.refiner.samples)
            if self.kl_weight:
                away = _divergence_slope(start, end)
                grad = {name: value - self.kl_weight * away[name] for name, value in grad.items()}
        pairs = ((value, grad[name]) for name, value in free(start).items())
        return torch.stack([((value - value.detach()) * g).flatten(1).sum(1) for value, g in pairs]).sum(0)


def _divergence_slope(start: Posterior, end: Posterior) -> dict[str, Tensor]:
    """Gradient of ``KL(start || end)`` in the tensors of ``start``."""

    def total(at: dict[str, Tensor]) -> Tensor:
        divergence = kl(start.with_tensors({**start.tensors, **at}), end)
        if divergence is None:
            raise ValueError(
                f"SemiAmortized: kl_weight needs a Gaussian posterior; got {type(end).__name__}. Use kl_weight=0."
            )
        return divergence.sum()

    return torch.func.grad(total)(free(start))


class ConstantGaussian(Inference):
    """``q(z | x) = N(0, I)`` for every example: where refinement starts without an encoder (SVI).

    Args:
        size: number of latent dimensions D.

    Example:
        >>> import torch
        >>> ConstantGaussian(3)(None, Batch(torch.zeros(4, 5), torch.arange(4))).posterior.mean.shape
        torch.Size([4, 3])
    """

    def __init__(self, size: int):
        super().__init__()
        self.size = size

    def forward(self, model: LatentVariableModel | None, batch: Batch) -> Inferred:
        dtype = batch.x.dtype if batch.x.is_floating_point() else None
        nothing = torch.zeros(len(batch.x), self.size, dtype=dtype, device=batch.x.device)
        return Inferred(DiagonalGaussian(nothing, nothing))
