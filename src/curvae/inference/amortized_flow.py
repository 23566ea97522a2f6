"""Amortized flows: one encoder pass gives a Gaussian, and what a flow takes of the datum to move its draws."""

from torch import nn

from curvae.flows import Flow
from curvae.inference.inference import AffinePosterior, Inference, Inferred
from curvae.inference.start import last_layer, writable, write_posterior
from curvae.linalg import soft_bound
from curvae.model import LatentVariableModel
from curvae.posteriors import DiagonalGaussian, transformed
from curvae.typing import Batch


class AmortizedFlow(Inference):
    """``z = f(m(x) + s(x) e; c(x))`` with ``(m, log s, c) = encoder(x)``.

    The encoder gives 2 D + C values: means, log-scales, and the flow's context; for planar and radial flows these are
    all of the flow's parameters, so that every datum has its own.

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
        super().__init__()
        self.encoder = encoder
        self.flow = flow

    def forward(self, model: LatentVariableModel | None, batch: Batch) -> Inferred:
        out, size = self.encoder(batch.x), self.flow.size
        expected = 2 * size + self.flow.context
        if out.shape[-1] != expected:
            raise ValueError(
                f"AmortizedFlow: for {type(self.flow).__name__} in {size} dimensions the encoder must give 2 D + C = "
                f"{expected} values (means, log-scales, context); got {out.shape[-1]}. Change its last layer."
            )
        mean, log_scale, context = out.split([size, size, self.flow.context], dim=-1)
        return Inferred(
            transformed(
                DiagonalGaussian(mean, soft_bound(log_scale)), self.flow, context if self.flow.context else None
            )
        )

    def start_from(self, posterior: AffinePosterior) -> bool:
        """The flow starts at a multiple of the identity, the Gaussian before it at the posterior divided by that."""
        size = self.flow.size
        if not writable(self.encoder, posterior) or (last := last_layer(self.encoder)) is None:
            return False
        stretch = self.flow.start_at_identity(last.weight[2 * size :], last.bias[2 * size :])
        return write_posterior(self.encoder, posterior, size, stretch=stretch)
