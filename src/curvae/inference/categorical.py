"""Amortized posteriors of discrete latents."""

import torch
from torch import nn

from curvae.inference.inference import Inference, Inferred
from curvae.model import LatentVariableModel
from curvae.posteriors import IndependentCategorical, PairwiseBinary
from curvae.priors import UniformCategorical
from curvae.typing import Batch


class AmortizedCategorical(Inference):
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

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, model: LatentVariableModel, batch: Batch) -> Inferred:
        prior = categories_of(model, "AmortizedCategorical")
        out = self.encoder(batch.x)
        if out.shape[1:] != (prior.size,):
            raise ValueError(
                f"AmortizedCategorical: the encoder must give N K = {prior.size} values; got {tuple(out.shape[1:])}. "
                "Change its last layer."
            )
        return Inferred(IndependentCategorical(out.unflatten(1, (prior.variables, prior.categories))))


class AmortizedPairwise(Inference):
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

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, model: LatentVariableModel, batch: Batch) -> Inferred:
        prior = categories_of(model, "AmortizedPairwise")
        if prior.categories != 2:
            raise ValueError(f"AmortizedPairwise: expects variables of 2 categories; got {prior.categories}.")
        out, count = self.encoder(batch.x), prior.variables
        expected = count * (count + 1) // 2
        if out.shape[1:] != (expected,):
            raise ValueError(
                f"AmortizedPairwise: the encoder must give N (N + 1) / 2 = {expected} values; got "
                f"{tuple(out.shape[1:])}. Change its last layer."
            )
        return Inferred(PairwiseBinary(*torch.tensor_split(out, [count], dim=1)))


def categories_of(model: LatentVariableModel, who: str) -> UniformCategorical:
    """The prior of a model whose latents are categories.

    Raises:
        ValueError: another prior.
    """
    if not isinstance(model.prior, UniformCategorical):
        raise ValueError(f"{who}: expects a UniformCategorical prior; got {type(model.prior).__name__}.")
    return model.prior
