"""The code of an autoencoder, in the noise of the flow that models it."""

from jaxtyping import Float
from torch import Tensor

from curvae.distributions import FixedNormal
from curvae.inference.inference import Amortized, Inferred
from curvae.linalg import standard_normal_log_prob
from curvae.model import LatentVariableModel
from curvae.networks import FlowDecoder
from curvae.typing import Batch, PerDatum


class CodePoint(Amortized):
    """``q(u | x) = N(f(E(x)), I)``: a point for a search to start at; E gives codes, f is the flow of the decoder.

    The scale of 1 is that of the prior, and says nothing of x: Laplace inference finds the right one.

    Example:
        >>> import torch
        >>> from curvae.flows import Whitening
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.priors import StandardNormal
        >>> decoder = FlowDecoder(Whitening(2, 0), torch.nn.Linear(2, 10))
        >>> model = LatentVariableModel(StandardNormal(2), decoder, Gaussian(10))
        >>> inference = CodePoint(torch.nn.Linear(10, 2))
        >>> inference(model, Batch.of(torch.zeros(5, 10))).posterior.center.shape
        torch.Size([5, 2])
    """

    def forward(self, model: LatentVariableModel, batch: Batch) -> Inferred:
        noise = decoder_of(model).to_noise(self.encoded(batch, model.prior.size, "D")).z[0]
        return Inferred(FixedNormal(model.prior.size)(noise))

    def code(self, batch: Batch) -> Float[Tensor, "B D"]:
        """``E(x)``."""
        return self.encoder(batch.x)

    def log_prob(self, model: LatentVariableModel, batch: Batch) -> PerDatum:
        """``log p(z)`` of the code ``z = E(x)``, nats: how usual it is, by change of variables."""
        u, log_det = decoder_of(model).to_noise(self.encoded(batch, model.prior.size, "D"))
        return (standard_normal_log_prob(u) + log_det)[0]

    def decoded(self, model: LatentVariableModel, batch: Batch) -> Float[Tensor, "B P"]:
        """``D(E(x))``: the autoencoder, without its flow."""
        return decoder_of(model).network(self.encoded(batch, model.prior.size, "D")).flatten(1)


def decoder_of(model: LatentVariableModel) -> FlowDecoder:
    """The decoder of a model, seen from the noise of a flow.

    Raises:
        ValueError: it is another one.
    """
    if not isinstance(model.decoder, FlowDecoder):
        raise ValueError(f"CodePoint: expects a decoder with a flow of its codes; got {type(model.decoder).__name__}.")
    return model.decoder
