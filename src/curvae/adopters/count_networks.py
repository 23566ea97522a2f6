"""Networks of counts as scvi-tools has them: layers with batch normalization, categories beside every layer."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.typing import Context

LEAST_VARIANCE = 1e-4
"""Of q, which is added to what the encoder gives."""


class CoveredLayers(nn.Module):
    """Linear layers with normalization and ReLU; covariates stand beside the input of the first, or of each.

    Args:
        inputs: size of the input.
        hidden: width of the layers.
        depth: their number.
        covariates: C, how many numbers stand beside.
        everywhere: before each layer, or the first alone.
        batch_norm: whether each is normalized by running statistics.
        layer_norm: whether each is normalized by itself.

    Example:
        >>> CoveredLayers(3, 8, 2, covariates=4)(torch.zeros(5, 3), torch.zeros(5, 4)).shape
        torch.Size([5, 8])
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        depth: int,
        covariates: int = 0,
        everywhere: bool = True,
        batch_norm: bool = True,
        layer_norm: bool = False,
    ):
        super().__init__()
        self.beside = [covariates if everywhere or not number else 0 for number in range(depth)]
        sizes = [inputs, *[hidden] * (depth - 1)]
        self.linear = nn.ModuleList(nn.Linear(s + c, hidden) for s, c in zip(sizes, self.beside, strict=True))
        norms = [nn.BatchNorm1d(hidden, eps=0.001, momentum=0.01) if batch_norm else nn.Identity() for _ in sizes]
        self.norm = nn.ModuleList(norms)
        own = [nn.LayerNorm(hidden, elementwise_affine=False) if layer_norm else nn.Identity() for _ in sizes]
        self.layer_norm = nn.ModuleList(own)

    def forward(self, x: Float[Tensor, "N I"], covariates: Tensor | None = None) -> Float[Tensor, "N H"]:
        for count, linear, norm, own in zip(self.beside, self.linear, self.norm, self.layer_norm, strict=True):
            if count and covariates is not None:
                x = torch.cat([x, covariates.to(x)], -1)
            x = own(norm(linear(x))).relu()
        return x


class CountEncoder(nn.Module):
    """Means and log-scales (B, 2 D) of counts: ``log s = 1/2 log(exp(v) + 1e-4)`` of log(1 + x).

    Args:
        genes: E.
        latent: D.
        hidden: width of the layers.
        depth: their number.
        covariates: C that stand beside, 0 for none.
        everywhere: as in :class:`CoveredLayers`.
        batch_norm: likewise.
        layer_norm: likewise.
        logarithm: the layers see log(1 + x), and not x.

    Example:
        >>> CountEncoder(5, 2, 8, 1)(torch.ones(4, 5), None).shape
        torch.Size([4, 4])
    """

    sees_context = True

    def __init__(
        self,
        genes: int,
        latent: int,
        hidden: int,
        depth: int,
        covariates: int = 0,
        everywhere: bool = True,
        batch_norm: bool = True,
        layer_norm: bool = False,
        logarithm: bool = True,
    ):
        super().__init__()
        self.covariates, self.logarithm = covariates, logarithm
        self.layers = CoveredLayers(genes, hidden, depth, covariates, everywhere, batch_norm, layer_norm)
        self.mean, self.variance = nn.Linear(hidden, latent), nn.Linear(hidden, latent)

    def forward(self, x: Float[Tensor, "B E"], context: Context | None) -> Float[Tensor, "B Q"]:
        known = None if context is None or not self.covariates else context.covariates
        hidden = self.layers(x.log1p() if self.logarithm else x, known)
        return torch.cat([self.mean(hidden), 0.5 * (self.variance(hidden).exp() + LEAST_VARIANCE).log()], 1)


class CountDecoder(nn.Module):
    """Logarithms of the mean of each gene, ``log_unit + log softmax``; with zero inflation also logits of zeros.

    The means are in proportion to the exposure, which is added later: shares of it, in units of ``exp(log_unit)``.

    Args:
        genes: E.
        latent: D.
        hidden: width of the layers.
        depth: their number.
        covariates: C that stand beside, 0 for none.
        everywhere: as in :class:`CoveredLayers`.
        batch_norm: likewise.
        layer_norm: likewise.
        inflated: gene by gene (log-mean, logit of a zero), and not the log-mean alone.
        log_unit: logarithm of the exposure that counts as 1.

    Example:
        >>> CountDecoder(5, 2, 8, 1, inflated=True)(torch.ones(4, 2)).shape
        torch.Size([4, 10])
    """

    def __init__(
        self,
        genes: int,
        latent: int,
        hidden: int,
        depth: int,
        covariates: int = 0,
        everywhere: bool = True,
        batch_norm: bool = True,
        layer_norm: bool = False,
        inflated: bool = False,
        log_unit: float = 0.0,
    ):
        super().__init__()
        self.inflated, self.log_unit = inflated, log_unit
        self.layers = CoveredLayers(latent, hidden, depth, covariates, everywhere, batch_norm, layer_norm)
        self.share, self.zero = nn.Linear(hidden, genes), nn.Linear(hidden, genes)

    def forward(self, z: Float[Tensor, "N D"], covariates: Tensor | None = None) -> Float[Tensor, "N P"]:
        hidden = self.layers(z, covariates)
        level = self.share(hidden).log_softmax(-1) + self.log_unit
        if not self.inflated:
            return level
        return torch.stack([level, self.zero(hidden)], -1).flatten(-2)


def state_of_layers(state: dict[str, Tensor], prefix: str, order: Sequence[int], beside: int) -> dict[str, Tensor]:
    """The weights of layers of scvi-tools under the names of :class:`CoveredLayers`.

    Args:
        state: of scvi-tools' module.
        prefix: of the layers in it.
        order: of our covariates, which of theirs each is.
        beside: C, the number of theirs.
    """
    found: dict[str, Tensor] = {}
    for name, value in state.items():
        if not name.startswith(prefix):
            continue
        layer, position, what = name.removeprefix(prefix).split(".", 2)
        number = int(layer.removeprefix("Layer "))
        if position == "0" and what == "weight" and beside and value.shape[1] >= beside and order:
            value = _reordered(value, order, beside)
        found[f"{'linear' if position == '0' else 'norm'}.{number}.{what}"] = value
    return found


def _reordered(weight: Float[Tensor, "O I"], order: Sequence[int], beside: int) -> Float[Tensor, "O J"]:
    """Columns of covariates, the last ones, in another order."""
    inputs = weight.shape[1] - beside
    return torch.cat([weight[:, :inputs], weight[:, inputs:][:, list(order)]], 1)
