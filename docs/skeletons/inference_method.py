"""Skeleton of an inference method: copy it to ``src/curvae/inference/<idea>.py`` and replace the idea.

It works as it stands: the encoder's Gaussian, its mean moved uphill on the log joint by a few gradient steps.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.inference import Inference, Inferred, prefixed
from curvae.model import LatentVariableModel
from curvae.posteriors import GaussianPosterior
from curvae.typing import Batch, PerDatum


class GradientRefined(Inference):
    """``q(z | x) = N(mu_T, C)``: C is the encoder's, mu climbs on ``log p(x, z)`` from the encoder's mean.

    ``mu_{t+1} = mu_t + a_t grad log p(x, mu_t)``; ``a_t`` is halved, for each example by itself, when a step would
    lower the log joint, and then that step is not taken.

    Args:
        start: gives the Gaussian to start from.
        steps: number T of gradient steps.
        rate: length a_0 of the first.

    Info: ``log_joint`` and ``grad_norm`` (T+1, B): before each step, and at the end.

    Raises:
        ValueError: negative steps, a rate that is not positive, or a start that is not Gaussian.

    Reference: name the paper and the section here. What differs from it stands under "Differences".

    Example:
        >>> import torch
        >>> from curvae.inference import AmortizedGaussian
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(3), torch.nn.Linear(3, 10), Gaussian(10))
        >>> inference = GradientRefined(AmortizedGaussian(torch.nn.Linear(10, 6)), steps=4)
        >>> inferred = inference(model, Batch(torch.randn(8, 10), torch.arange(8)))
        >>> inferred.posterior.mean.shape, inferred.info["log_joint"].shape
        (torch.Size([8, 3]), torch.Size([5, 8]))
    """

    def __init__(self, start: Inference, steps: int = 5, rate: float = 0.1):
        super().__init__()
        if steps < 0 or rate <= 0:
            raise ValueError(f"GradientRefined: steps must be >= 0 and rate > 0; got steps={steps}, rate={rate}.")
        self.start = start
        self.steps = steps
        self.rate = rate

    def forward(self, model: LatentVariableModel, batch: Batch) -> Inferred:
        begin = self.start(model, batch)
        q = begin.posterior
        if not isinstance(q, GaussianPosterior):
            raise ValueError(f"GradientRefined: start must give a Gaussian posterior; got {type(q).__name__}.")
        mu, log_joint, grad_norm = _climb(model, batch, q.loc.detach(), self.steps, self.rate)
        # The value is the refined mean; the gradient goes straight through to the encoder's.
        posterior = q.with_tensors({**q.tensors, "loc": q.loc + (mu - q.loc).detach()})
        info = {**begin.info, "log_joint": log_joint, "grad_norm": grad_norm}
        return Inferred(posterior, info, begin.encoder_bound, prefixed("start", begin.state))


def _climb(
    model: LatentVariableModel, batch: Batch, mu: Float[Tensor, "B D"], steps: int, rate: float
) -> tuple[Tensor, Tensor, Tensor]:
    """The point reached, and the log joint and the norm of its gradient on the way, each (T+1, B)."""
    log_joint, grad = _value_and_grad(model, batch, mu)
    length = torch.full_like(log_joint, rate)
    seen = [(log_joint, grad.norm(dim=-1))]
    for _ in range(steps):
        tried = mu + length.unsqueeze(-1) * grad
        new_log_joint, new_grad = _value_and_grad(model, batch, tried)
        up = new_log_joint >= log_joint
        mu = torch.where(up.unsqueeze(-1), tried, mu)
        grad = torch.where(up.unsqueeze(-1), new_grad, grad)
        log_joint = torch.where(up, new_log_joint, log_joint)
        length = torch.where(up, length, length / 2)
        seen.append((log_joint, grad.norm(dim=-1)))
    values, norms = zip(*seen, strict=True)
    return mu, torch.stack(values), torch.stack(norms)


def _value_and_grad(
    model: LatentVariableModel, batch: Batch, z: Float[Tensor, "B D"]
) -> tuple[PerDatum, Float[Tensor, "B D"]]:
    """``log p(x, z)`` and its gradient in z, by ``torch.func``: it works under ``inference_mode`` too."""
    value, pull = torch.func.vjp(lambda at: model.log_joint(batch.x, at.unsqueeze(0), batch.mask).squeeze(0), z)
    (grad,) = pull(torch.ones_like(value))
    return value.detach(), grad.detach()
