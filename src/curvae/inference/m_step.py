"""What a likelihood's own parameters should be, given a posterior: the M-step of EM where it has a closed form."""

import torch

from curvae.inference.inference import Inference
from curvae.likelihoods import HasNoise
from curvae.model import LatentVariableModel
from curvae.typing import Batch

DRAWS = 4
"""For each example."""


@torch.no_grad()
def m_step(model: LatentVariableModel, inference: Inference, batch: Batch, steps: int | None = None) -> None:
    """Give the likelihood the parameters of its own that maximize ``sum_i E_{q_i} log p(x_i | z)``, where it can.

    A decoder trained with a poor posterior has learned an output noise that makes up for it; with the posterior that
    it will be used with the noise is smaller, and the log-likelihood higher. One scalar needs few data.

    Args:
        model: its likelihood's :meth:`~curvae.likelihoods.HasNoise.maximize` is called; one without is left as it is.
        inference: gives the q_i.
        batch: the data.
        steps: of refinement, where the inference takes another number than its own.

    Example:
        >>> from curvae.inference import AmortizedGaussian, Laplace
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.priors import StandardNormal
        >>> _ = torch.manual_seed(0)
        >>> model = LatentVariableModel(StandardNormal(2), torch.nn.Linear(2, 50), Gaussian(50, learn="shared"))
        >>> x = model.decoder(torch.randn(200, 2)).detach() + 0.1 * torch.randn(200, 50)
        >>> m_step(model, Laplace(AmortizedGaussian(torch.nn.Linear(50, 4))), Batch.of(x))
        >>> round(float(model.likelihood.variance.detach().sqrt()), 1)   # from 1.0
        0.2
    """
    if not isinstance(likelihood := model.likelihood, HasNoise):
        return
    model = model.given(batch.context)
    inferred = inference(model, batch) if steps is None else inference(model, batch, steps)
    z = inferred.posterior.draw(DRAWS).z
    with model.evaluating():
        likelihood.maximize(batch.x, model.decode(z, batch.x), batch.mask)
