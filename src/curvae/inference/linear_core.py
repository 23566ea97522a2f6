"""A linear map of the data beside them: what takes its place in an autoencoder within flows."""

import torch
from torch import Tensor, nn

from curvae.inference.code_point import decoder_of
from curvae.inference.encoder_start import outputs, write_posterior
from curvae.inference.inference import AffinePosterior, Amortized, Inferred
from curvae.linalg import soft_bound
from curvae.model import LatentVariableModel
from curvae.posteriors import DiagonalGaussian, transformed
from curvae.typing import Batch


class LinearCore(Amortized):
    """``w ~ N(A x, tau^2 I)``, ``z = m(x) + s(x) w``, ``u = f(z)``: where the marginal of ``(x, w)`` is sampled.

    A density of (x, w), with w for the core and all of x for the shell, has ``p(x) = int p(x, w) dw``, which draws of w
    around A x estimate. Seen from z it is a model ``p(z) p(x | z)``, and this its posterior; f is the decoder's flow.
    s is softly bounded at exp(7), tau is a buffer.

    Reference: Silvestri, Roos and Ambrogioni, ICLR 2023 (arXiv:2205.09546), the variant for any data.

    Args:
        encoder: from a batch of data to 2 D values, m and log s.
        inputs: elements of an example, flat.
        latent: D.

    Example:
        >>> from curvae.flows import Whitening
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.networks import FlowDecoder
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(2), FlowDecoder(Whitening(2, 0), nn.Linear(2, 5)), Gaussian(5))
        >>> LinearCore(nn.Linear(5, 4), 5, 2)(model, Batch.of(torch.zeros(3, 5))).posterior.draw(7).log_q.shape
        torch.Size([7, 3])
    """

    log_width: Tensor

    def __init__(self, encoder: nn.Module, inputs: int, latent: int):
        super().__init__(encoder)
        self.map = nn.Linear(inputs, latent, bias=False)
        self.register_buffer("log_width", torch.zeros(()))

    def forward(self, model: LatentVariableModel, batch: Batch) -> Inferred:
        mean, log_s = self.encoded(batch, 2 * self.map.out_features, "2 D").chunk(2, -1)
        log_s = soft_bound(log_s)
        code = mean + log_s.exp() * self.map(batch.x.flatten(1))
        return Inferred(transformed(DiagonalGaussian(code, log_s + self.log_width), decoder_of(model).flow))

    @torch.no_grad()
    def start_from(self, posterior: AffinePosterior) -> bool:
        """``tau = 1``, ``s`` the deviation of the posterior, and A what its mean takes of x in units of s."""
        still = AffinePosterior(torch.zeros_like(posterior.inward), posterior.offset, posterior.log_scale)
        if not write_posterior(self.encoder, still, outputs(self.encoder) // 2):
            return False
        self.log_width.zero_()
        self.map.weight.zero_()
        scaled = posterior.inward / posterior.log_scale.exp().unsqueeze(1)
        self.map.weight[: len(scaled)] = scaled.to(self.map.weight)
        return True
