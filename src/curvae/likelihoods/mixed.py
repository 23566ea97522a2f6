"""Columns of different kinds: each of them under a likelihood of its own, one decoder for all."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from curvae.likelihoods.categorical import Categorical
from curvae.likelihoods.likelihood import HasNoise, InformationKind, Likelihood, StartsAtLinear
from curvae.linear import LinearGaussian, factor_analysis, ppca

LEAST = 1e-4
"""Variance of the noise of a feature, at least, where networks start."""


class Mixed(Likelihood):
    r"""``p(x | eta) = prod_g p_g(x_g | eta_g)`` over groups g of columns; eta is flat, group after group.

    Args:
        parts: the likelihood of each group, which is of one dimension, and the columns it is for.

    Raises:
        ValueError: columns that are not each of 0 .. E - 1 once, or as many as a likelihood has elements.

    Example:
        >>> import torch
        >>> from curvae.likelihoods import Bernoulli, Gaussian
        >>> likelihood = Mixed([(Gaussian(2), [0, 2]), (Bernoulli(1), [1])])
        >>> f"{likelihood.log_prob(torch.zeros(1, 3), torch.zeros(1, 3)).item():.4f}"   # -log(2 pi) - log 2
        '-2.5310'
    """

    def __init__(self, parts: Sequence[tuple[Likelihood, Sequence[int]]]):
        columns = [column for _, some in parts for column in some]
        if not parts or sorted(columns) != list(range(len(columns))):
            raise ValueError(f"Mixed: expected each of the columns 0 .. E - 1 once; got {columns}.")
        for part, some in parts:
            if part.event != (len(some),):
                name = type(part).__name__
                raise ValueError(f"Mixed: expected a likelihood of {len(some)} columns; got {name} of {part.event}.")
        super().__init__(len(columns))
        self.parts = nn.ModuleList([part for part, _ in parts])
        self.columns = [list(some) for _, some in parts]
        self.sizes = [part.size for part, _ in parts]
        self.size = sum(self.sizes)
        self.nominal = [column for part, some in parts for column in some if isinstance(part, Categorical)]
        self.information = _least({part.information for part, _ in parts})

    def log_prob(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> Tensor:
        values = [part.log_prob(*of) for part, of in self._groups(x, eta, mask)]
        return torch.stack(torch.broadcast_tensors(*values)).sum(0)

    def score(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> Tensor:
        return torch.cat([part.score(*of) for part, of in self._groups(x, eta, mask)], -1)

    def root(self, eta: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        etas, vs = eta.split(self.sizes, -1), v.split(self.sizes, -1)
        groups = zip(self._each(), etas, vs, self._masks(mask), strict=True)
        return torch.cat([part.root(*of) for part, *of in groups], -1)  # pyright: ignore[reportArgumentType]

    def mean(self, eta: Tensor) -> Tensor:
        """(*L, E); of a categorical column its most probable category."""
        means = [part.mean(of) for part, of in zip(self._each(), eta.split(self.sizes, -1), strict=True)]
        flat = [mean.argmax(-1).to(eta.dtype) if mean.ndim > eta.ndim else mean for mean in means]
        return self._joined(flat)

    def sample(self, eta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        groups = zip(self._each(), eta.split(self.sizes, -1), strict=True)
        return self._joined([part.sample(of, generator).to(eta.dtype) for part, of in groups])

    def initialize(self, x: Tensor, mask: Tensor | None = None) -> None:
        """Every part that has parameters of its own."""
        for part, columns, of in zip(self._each(), self.columns, self._masks(mask), strict=True):
            if isinstance(part, HasNoise):
                part.initialize(x[..., columns], of)

    def maximize(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> None:
        """Every part that has parameters of its own."""
        for part, of in self._groups(x, eta, mask):
            if isinstance(part, HasNoise):
                part.maximize(*of)

    def linear_features(self, x: Tensor) -> Tensor:
        """Those of the parts, part after part; of one that has none the values."""
        x = self.flat(x)
        return torch.cat([_features(part, x[..., columns]) for part, columns in self.parted()], -1)

    def linear_fits(self, x: Tensor, latent: int, mask: Tensor | None = None) -> tuple[LinearGaussian, ...]:
        """Factor analysis of all features together, as each has a unit of its own; PPCA where values are missing."""
        features = self.linear_features(x)
        if mask is None:
            return (factor_analysis(features, latent, LEAST),)
        counts = [len(_features(part, x[:1, columns])[0]) // len(columns) for part, columns in self.parted()]
        seen = [mask[:, some].repeat_interleave(n, -1) for some, n in zip(self.columns, counts, strict=True)]
        return (ppca(features, latent, torch.cat(seen, -1), LEAST),)

    @torch.no_grad()
    def start_from(self, model: LinearGaussian) -> tuple[Tensor, Tensor]:
        """Each part at its rows of the model; one that cannot, with nothing of z."""
        found, begin = [], 0
        for part, columns in self.parted():
            rows = slice(begin, begin + len(_features(part, model.mean.new_ones(1, len(columns)))[0]))
            begin = rows.stop
            if isinstance(part, StartsAtLinear):
                found.append(part.start_from(LinearGaussian(model.mean[rows], model.weight[rows], model.noise[rows])))
            else:
                found.append(
                    (model.weight.new_zeros(part.size, model.weight.shape[1]), model.mean.new_zeros(part.size))
                )
        weights, biases = zip(*found, strict=True)
        return torch.cat(weights), torch.cat(biases)

    def parted(self) -> list[tuple[Likelihood, list[int]]]:
        """The likelihood of each group, and its columns."""
        return list(zip(self._each(), self.columns, strict=True))

    def _each(self) -> list[Likelihood]:
        return list(self.parts)  # pyright: ignore[reportReturnType]

    def _groups(self, x: Tensor, eta: Tensor, mask: Tensor | None) -> list[tuple[Likelihood, tuple]]:
        etas, masks = eta.split(self.sizes, -1), self._masks(mask)
        return [
            (part, (x[..., columns], *of))
            for part, columns, *of in zip(self._each(), self.columns, etas, masks, strict=True)
        ]

    def _masks(self, mask: Tensor | None) -> list[Tensor | None]:
        return [None if mask is None else mask[..., columns] for columns in self.columns]

    def _joined(self, values: list[Tensor]) -> Tensor:
        """Columns in their own order."""
        order = torch.tensor([column for some in self.columns for column in some])
        return torch.cat(values, -1)[..., order.argsort().to(values[0].device)]


def _features(part: Likelihood, x: Tensor) -> Tensor:
    return part.linear_features(x) if isinstance(part, StartsAtLinear) else x.double()


def _least(kinds: set[InformationKind]) -> InformationKind:
    """What is true of all groups together."""
    if "block" in kinds:
        return "block"
    return "constant" if kinds == {"constant"} else "diagonal"


def nominal_columns(likelihood: Likelihood) -> list[int]:
    """Columns of mixed data whose numbers are no quantities, but codes of categories."""
    return likelihood.nominal if isinstance(likelihood, Mixed) else []
