"""Encoders that see what is missing."""

import torch

from curvae.inference.inference import Continued, Inferred, prefixed
from curvae.model import LatentVariableModel
from curvae.typing import Batch


class SeesMask(Continued):
    """Another method, whose encoder is given the values and, behind them, 1 where one is missing and 0 elsewhere.

    So it takes rows of 2 E numbers; :class:`curvae.networks.FrontWithGaps` says what becomes of them.

    Args:
        start: a method that begins with an encoder and asks for no model.

    Reference: Mattei and Frellsen, *MIWAE: Deep Generative Modelling and Imputation of Incomplete Data Sets*, ICML
    2019; the mask beside the values as in Ipsen, Mattei and Frellsen, ICLR 2021.

    Example:
        >>> from curvae.inference import AmortizedGaussian
        >>> from curvae.networks import MLP, FrontWithGaps
        >>> front = FrontWithGaps(5)
        >>> inference = SeesMask(AmortizedGaussian(MLP(front.size, [8], 2 * 3, front=front)))
        >>> x = torch.randn(4, 5)
        >>> inference(None, Batch.of(torch.where(x > 0, x, 0), x > 0)).posterior.mean.shape
        torch.Size([4, 3])
    """

    alone = True

    def forward(self, model: LatentVariableModel | None, batch: Batch) -> Inferred:
        values = batch.x.flatten(1)
        missing = torch.zeros_like(values) if batch.mask is None else (~batch.mask).flatten(1).to(values.dtype)
        seen = batch._replace(x=torch.cat([values, missing], 1))
        found = self.start(model, seen)
        return found._replace(state=prefixed("start", found.state))
