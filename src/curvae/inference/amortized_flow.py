"""Amortized flows: one encoder pass gives a Gaussian, and what a flow takes of the example to move its draws."""

from torch import nn

from curvae.distributions import LearnedNormal, transformed
from curvae.flows import Flow
from curvae.inference.inference import AffinePosterior, Amortized, Inferred
from curvae.inference.start import last_layer, writable, write_posterior
from curvae.model import LatentVariableModel
from curvae.typing import Batch


class AmortizedFlow(Amortized):
    """``z = f(m(x) + s(x) e; c(x))`` with ``(m, log s, c) = encoder(x)``.

    The encoder gives 2 D + C values: means, log-scales, and the flow's context; for planar and radial flows these are
    all of the flow's parameters, so that every example has its own.

    Reference: Rezende and Mohamed, *Variational Inference with Normalizing Flows*, ICML 2015.

    Args:
        encoder: the network.
        flow: f.

    Raises:
        ValueError: in use, an encoder that gives another number of values.

    Example:
        >>> import torch
        >>> from curvae.flows import Planar
        >>> flow = Planar(size=3, steps=4)
        >>> inference = AmortizedFlow(torch.nn.Linear(5, 2 * 3 + flow.context), flow)
        >>> inference(None, Batch(torch.zeros(4, 5), torch.arange(4))).posterior.draw(2).z.shape
        torch.Size([2, 4, 3])
    """

    def __init__(self, encoder: nn.Module, flow: Flow):
        super().__init__(encoder)
        self.flow = flow

    def forward(self, model: LatentVariableModel | None, batch: Batch) -> Inferred:
        size, context = self.flow.size, self.flow.context
        out = self.encoded(batch, 2 * size + context, "2 D + C (means, log-scales, context)")
        start = LearnedNormal(size)(out[:, : 2 * size])
        return Inferred(transformed(start, self.flow, out[:, 2 * size :] if context else None))

    def start_from(self, posterior: AffinePosterior) -> bool:
        """The flow starts at a multiple of the identity, the Gaussian before it at the posterior divided by that."""
        size = self.flow.size
        if not writable(self.encoder, posterior) or (last := last_layer(self.encoder)) is None:
            return False
        stretch = self.flow.start_at_identity(last.weight[2 * size :], last.bias[2 * size :])
        return write_posterior(self.encoder, posterior, size, stretch=stretch)
