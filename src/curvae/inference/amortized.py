"""Amortized posteriors: one encoder pass gives the parameters of a law."""

import torch
from torch import nn

from curvae.distributions import (
    FixedNormal,
    FullGaussian,
    LearnedNormal,
    OneHot,
    PairwiseBinary,
    RankOneGaussian,
    transformed,
)
from curvae.flows import Flow
from curvae.inference.encoder_start import last_layer, outputs, writable, write_posterior
from curvae.inference.inference import AffinePosterior, Amortized, Inferred
from curvae.linalg import soft_bound
from curvae.model import LatentVariableModel
from curvae.networks import run_encoder
from curvae.priors import UniformCategorical
from curvae.typing import Batch


class AmortizedGaussian(Amortized):
    """``q(z | x) = N(m(x), diag(s(x)^2))`` with ``(m, log s) = encoder(x)`` (Kingma and Welling, 2014).

    The encoder gives 2 D values: means, then log-scales.

    Args:
        encoder: the network.
        bounded: log-scales are softly bounded to ``[-7, 7]``; False takes them as they are, those of an encoder that
            was trained so elsewhere.

    Example:
        >>> import torch
        >>> from curvae.inference import AmortizedGaussian
        >>> from curvae.typing import Batch
        >>> inference = AmortizedGaussian(torch.nn.Linear(5, 2 * 3))
        >>> inference(None, Batch(torch.zeros(4, 5), torch.arange(4))).posterior.mean.shape
        torch.Size([4, 3])
    """

    def __init__(self, encoder: nn.Module, bounded: bool = True):
        super().__init__(encoder)
        self.bounded = bounded

    def forward(self, model: LatentVariableModel | None, batch: Batch) -> Inferred:
        out = run_encoder(self.encoder, batch)
        if out.shape[-1] % 2:
            raise ValueError(
                f"AmortizedGaussian: the encoder must give 2 D values (means, log-scales); got {out.shape[-1]}, an odd "
                "number. Change its last layer."
            )
        return Inferred(LearnedNormal(out.shape[-1] // 2, self.bounded)(out))

    def start_from(self, posterior: AffinePosterior) -> bool:
        """Where its log-scales are bounded: others are of an encoder that has been trained."""
        return self.bounded and write_posterior(self.encoder, posterior, outputs(self.encoder) // 2)


class AmortizedMean(Amortized):
    """``q(z | x) = N(encoder(x), I)``: the encoder gives D means and no scales, half of the usual outputs.

    A scale of 1 is no restriction among constant ones where the prior is free to be wider: the encoder's last layer
    and the decoder's first take it up.

    Example:
        >>> import torch
        >>> from curvae.inference import AmortizedMean
        >>> from curvae.typing import Batch
        >>> inference = AmortizedMean(torch.nn.Linear(5, 3))
        >>> inference(None, Batch(torch.zeros(4, 5), torch.arange(4))).posterior.variance[0].tolist()
        [1.0, 1.0, 1.0]
    """

    def forward(self, model: LatentVariableModel | None, batch: Batch) -> Inferred:
        mean = run_encoder(self.encoder, batch)
        return Inferred(FixedNormal(mean.shape[-1])(mean))

    def start_from(self, posterior: AffinePosterior) -> bool:
        """Where its scales are 1."""
        ours = bool((posterior.log_scale.abs() < 1e-9).all())
        return ours and write_posterior(self.encoder, posterior, outputs(self.encoder), scales=False)


class AmortizedFullGaussian(Amortized):
    """``q(z | x) = N(m(x), C(x) C(x)')``, C lower triangular, all from one encoder pass.

    The encoder gives ``D + D (D + 1) / 2`` values: means, log-diagonal of C, and what stands below it, by rows.

    Args:
        encoder: the network.
        size: number of latent dimensions D.

    Example:
        >>> import torch
        >>> from curvae.inference import AmortizedFullGaussian
        >>> from curvae.typing import Batch
        >>> inference = AmortizedFullGaussian(torch.nn.Linear(5, 3 + 6), size=3)
        >>> inference(None, Batch(torch.zeros(4, 5), torch.arange(4))).posterior.covariance.shape
        torch.Size([4, 3, 3])
    """

    def __init__(self, encoder: nn.Module, size: int):
        super().__init__(encoder)
        self.size = size

    def forward(self, model: LatentVariableModel | None, batch: Batch) -> Inferred:
        size, pairs = self.size, self.size * (self.size - 1) // 2
        out = self.encoded(batch, 2 * size + pairs, "D + D (D + 1) / 2")
        mean, log_diagonal, below = out.split([size, size, pairs], dim=-1)
        rows, columns = torch.tril_indices(size, size, -1, device=out.device)
        count = torch.arange(len(out), device=out.device)
        packed = torch.diag_embed(soft_bound(log_diagonal)).index_put((count[:, None], rows, columns), below)
        return Inferred(FullGaussian(mean, packed))

    def start_from(self, posterior: AffinePosterior) -> bool:
        return write_posterior(self.encoder, posterior, self.size, zeros=self.size * (self.size - 1) // 2)


class AmortizedRankOne(Amortized):
    """``q(z | x) = prod_l N(z_l; m_l, (diag(s_l)^-2 + u_l u_l')^-1)``, all from one encoder pass.

    The encoder gives 3 D values: means, log-scales, directions u. What it gives for u is multiplied by ``tilt``, so
    that q starts near a diagonal Gaussian; at u = 0 itself the ELBO has no slope in u.

    Reference: Rezende, Mohamed and Wierstra, *Stochastic Backpropagation and Approximate Inference in Deep Generative
    Models*, ICML 2014.

    Args:
        encoder: the network.
        blocks: sizes of the layers of z; correlations are within a layer.
        tilt: factor on the directions.

    Raises:
        ValueError: tilt not positive; in use, an encoder that does not give 3 D values.

    Example:
        >>> import torch
        >>> from curvae.inference import AmortizedRankOne
        >>> from curvae.typing import Batch
        >>> inference = AmortizedRankOne(torch.nn.Linear(5, 3 * 4), blocks=(1, 3))
        >>> inference(None, Batch(torch.zeros(4, 5), torch.arange(4))).posterior.covariance.shape
        torch.Size([4, 4, 4])
    """

    def __init__(self, encoder: nn.Module, blocks: tuple[int, ...], tilt: float = 0.1):
        super().__init__(encoder)
        if not tilt > 0:
            raise ValueError(f"AmortizedRankOne: tilt must be positive; got {tilt}.")
        self.blocks = blocks
        self.tilt = tilt

    def forward(self, model: LatentVariableModel | None, batch: Batch) -> Inferred:
        mean, log_scale, direction = self.encoded(batch, 3 * sum(self.blocks), "3 D").chunk(3, dim=-1)
        return Inferred(RankOneGaussian(mean, soft_bound(log_scale), self.tilt * direction, self.blocks))

    def start_from(self, posterior: AffinePosterior) -> bool:
        return write_posterior(self.encoder, posterior, sum(self.blocks))


class AmortizedFlow(Amortized):
    """``z = f(m(x) + s(x) e; c(x))`` with ``(m, log s, c) = encoder(x)``.

    The encoder gives 2 D + C values: means, log-scales, and the flow's context; for planar and radial flows these are
    all of the flow's parameters, so that every example has its own.

    Reference: Rezende and Mohamed, *Variational Inference with Normalizing Flows*, ICML 2015.

    Args:
        encoder: the network.
        flow: f.
        bounded: of the log-scales, as in :class:`AmortizedGaussian`.

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

    def __init__(self, encoder: nn.Module, flow: Flow, bounded: bool = True):
        super().__init__(encoder)
        self.flow = flow
        self.bounded = bounded

    def forward(self, model: LatentVariableModel | None, batch: Batch) -> Inferred:
        size, count = self.flow.size, self.flow.context
        out = self.encoded(batch, 2 * size + count, "2 D + C (means, log-scales, context)")
        phi, context = out.split([2 * size, count], dim=-1)
        return Inferred(transformed(LearnedNormal(size, self.bounded)(phi), self.flow, context if count else None))

    def start_from(self, posterior: AffinePosterior) -> bool:
        """The flow starts at a multiple of the identity, the Gaussian before it at the posterior divided by that."""
        size = self.flow.size
        if not (self.bounded and writable(self.encoder, posterior)) or (last := last_layer(self.encoder)) is None:
            return False
        stretch = self.flow.start_at_identity(last.weight[2 * size :], last.bias[2 * size :])
        return write_posterior(self.encoder, posterior, size, stretch=stretch)


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

    alone = False

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

    alone = False

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
