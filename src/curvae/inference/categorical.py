"""Amortized posteriors of discrete latents."""

import torch

from curvae.distributions import OneHot, PairwiseBinary
from curvae.inference.inference import Amortized, Inferred
from curvae.model import LatentVariableModel
from curvae.priors import UniformCategorical
from curvae.typing import Batch


class AmortizedCategorical(Amortized):
    """``q(z | x) = prod_i softmax(logits_i(x))``: N independent K-way variables from one encoder pass.

    Args:
        encoder: the network, from a batch of data to N K values.

    Raises:
        ValueError: in use, a prior that is not over categories, or an encoder that does not give N K values.

    Example:
        >>> import torch
        >>> from curvae.likelihoods import Gaussian
        >>> model = LatentVariableModel(UniformCategorical(2, 3), torch.nn.Linear(6, 5), Gaussian(5))
        >>> inference = AmortizedCategorical(torch.nn.Linear(5, 6))
        >>> inference(model, Batch(torch.zeros(4, 5), torch.arange(4))).posterior.draw(7).z.shape
        torch.Size([7, 4, 6])
    """

    def forward(self, model: LatentVariableModel, batch: Batch) -> Inferred:
        prior = categories_of(model, "AmortizedCategorical")
        law = OneHot(prior.variables, prior.categories)
        return Inferred(law(self.encoded(batch, prior.size, "N K")))


class AmortizedPairwise(Amortized):
    """``PairwiseBinary`` from one encoder pass: N fields, then ``N (N - 1) / 2`` couplings.

    Args:
        encoder: the network, from a batch of data to ``N (N + 1) / 2`` values.

    Raises:
        ValueError: in use, a prior that is not over binary variables, or an encoder that gives another number.

    Example:
        >>> import torch
        >>> from curvae.likelihoods import Gaussian
        >>> model = LatentVariableModel(UniformCategorical(4, 2), torch.nn.Linear(8, 5), Gaussian(5))
        >>> inference = AmortizedPairwise(torch.nn.Linear(5, 10))
        >>> inference(model, Batch(torch.zeros(3, 5), torch.arange(3))).posterior.draw(7).z.shape
        torch.Size([7, 3, 8])
    """

    def forward(self, model: LatentVariableModel, batch: Batch) -> Inferred:
        prior = categories_of(model, "AmortizedPairwise")
        if prior.categories != 2:
            raise ValueError(f"AmortizedPairwise: expects variables of 2 categories; got {prior.categories}.")
        count = prior.variables
        out = self.encoded(batch, count * (count + 1) // 2, "N (N + 1) / 2")
        return Inferred(PairwiseBinary(*torch.tensor_split(out, [count], dim=1)))


def categories_of(model: LatentVariableModel, who: str) -> UniformCategorical:
    """The prior of a model whose latents are categories.

    Raises:
        ValueError: another prior.
    """
    if not isinstance(model.prior, UniformCategorical):
        raise ValueError(f"{who}: expects a UniformCategorical prior; got {type(model.prior).__name__}.")
    return model.prior
