"""The posterior of a row with holes as that of its completions."""

from functools import partial

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

from curvae.inference.gibbs_chains import GibbsChains, Kernel
from curvae.inference.inference import Continued, Inference, Inferred, prefixed
from curvae.model import LatentVariableModel
from curvae.posteriors import DensityPosterior, Mixture
from curvae.typing import Batch


class MixtureOfCompletions(Continued):
    """``q(z | x_o) = 1/K sum_k q(z | x_o, x_m^k)``, over K imputations of what is missing.

    So an encoder sees whole rows alone. Chains move by their own conditionals, or else by the model: z ~ q(z | x), then
    all of x_m ~ p(x_m | z), not corrected (pseudo-Gibbs). A row without holes has the encoder's own posterior.

    Args:
        start: an encoder whose posterior has a density.
        chains: of imputations.

    Raises:
        ValueError: in use, a posterior without a density.

    Reference: Simkus and Gutmann, *Improving Variational Autoencoder Estimation from Incomplete Data with Mixture
    Variational Families*, TMLR 2024, for the mixture; chains after Simkus, Rhodes and Gutmann, JMLR 2023.

    Example:
        >>> from curvae.inference import AmortizedGaussian
        >>> from curvae.networks import ConditionalRegressions
        >>> chains = GibbsChains((5,), 3, ConditionalRegressions(5, [8]))
        >>> inference = MixtureOfCompletions(AmortizedGaussian(torch.nn.Linear(5, 4)), chains)
        >>> x = torch.randn(4, 5)
        >>> len(inference(None, Batch.of(torch.where(x > 0, x, 0), x > 0)).posterior.components)
        3
    """

    def __init__(self, start: Inference, chains: GibbsChains):
        super().__init__(start)
        self.chains = chains

    def forward(self, model: LatentVariableModel | None, batch: Batch) -> Inferred:
        if batch.mask is None:
            found = self.start(model, batch)
            return found._replace(state=prefixed("start", found.state))
        completed = self.chains.moved(batch, 0, self.kernel(model))
        each = [self.start(model, Batch.of(x)).posterior for x in completed]
        densities = tuple(q for q in each if isinstance(q, DensityPosterior))
        if len(densities) < len(each):
            raise ValueError(
                f"MixtureOfCompletions: expects an encoder whose posterior has a density; got {type(each[0]).__name__}."
            )
        return Inferred(Mixture(densities, densities[0].center.new_zeros(len(batch.x), len(each))))

    def kernel(self, model: LatentVariableModel | None) -> Kernel | None:
        """What moves the chains; None = their conditionals."""
        return None if self.chains.conditionals is not None else partial(block_update, model, self.start)


@torch.no_grad()
def block_update(
    model: LatentVariableModel | None, encoder: Inference, x: Shaped[Tensor, "R *event"], mask: Bool[Tensor, "R *event"]
) -> Shaped[Tensor, "R *event"]:
    """One update of all that is missing: ``z ~ q(z | x)``, then ``x_m ~ p(x_m | z)``."""
    assert model is not None
    z = encoder(model, Batch.of(x)).posterior.draw(1).z[0]
    drawn = model.likelihood.sample(model.decode(z))
    return torch.where(mask, x, drawn.reshape(x.shape).to(x.dtype))
