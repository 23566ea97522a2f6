"""Systems whose log p(x) is exact: a bijection takes x to independent noise."""

import logging
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Generator, Tensor, nn

from curvae.conditioning import Conditioning
from curvae.dynamics import complete, linear_completions
from curvae.flows import InvertibleFlow, Whitening
from curvae.inference import CodePoint
from curvae.likelihoods import Gaussian, GaussianErrors
from curvae.linear import LinearGaussian
from curvae.model import LatentVariableModel
from curvae.networks import FlowDecoder
from curvae.objectives import Bound
from curvae.priors import Prior
from curvae.systems.base import Evidence, System
from curvae.systems.capabilities import Parts
from curvae.systems.stages import Prepared, Stage
from curvae.systems.starts import likeliest_model
from curvae.typing import Batch, Conditions, DataSpec, Noise, PerDatum, Table, Tables

log = logging.getLogger("curvae")

RANKS = (4, 16, 64, 256)
"""Numbers of latents of the linear models that a density may start at, beside all but one of few elements."""
FULL = 128
"""Elements up to which that is tried."""
ATOM = 0.2
"""Share of rows with one and the same value from which a density there is spoken of."""
ROWS = 2000
"""That are looked at for it."""
DRAWS = 1000
"""Of x, at least, from which completions are begun."""
NUMBERS = 2**24
"""In matrices of completions at a time."""


class FlowDensity(System):
    """``log p(x) = log p(h) + log |det dh/dx|``, ``h = f(x)``: exact, and as cheap as f.

    Args:
        event: shape of one example.
        flow: f, from x, flat, to h.
        prior: p(h).
        stages: phases of training.

    Raises:
        ValueError: by everything that takes a mask, where it leaves anything out: the density of a part of an example
            has no closed form.

    Example:
        >>> from curvae.flows import Whitening
        >>> from curvae.priors import StandardNormal
        >>> system = FlowDensity((2, 2), Whitening(4, 0), StandardNormal(4), (Stage("train"),))
        >>> system.log_prob(torch.zeros(5, 2, 2)).shape, system.sample(3).shape
        (torch.Size([5]), torch.Size([3, 2, 2]))
    """

    evidence: Evidence = "exact"

    def __init__(self, event: tuple[int, ...], flow: InvertibleFlow, prior: Prior, stages: tuple[Stage, ...]):
        super().__init__()
        self.event = event
        self.flow = flow
        self.prior = prior
        self._stages = stages

    def bound(self, batch: Batch) -> Bound:
        value = self.log_prob(batch.x, batch.mask)
        return Bound(value, value)

    def log_prob(self, x: Float[Tensor, "B *event"], mask: Tensor | None = None) -> PerDatum:
        """``log p(x)`` in nats; a mask must be True everywhere."""
        _refuse_holes(type(self).__name__, mask)
        h, log_det = self.flow(x.flatten(1).unsqueeze(1))
        return (self.prior.log_prob(h) + log_det).squeeze(1)

    def sample(self, n: int, generator: Generator | None = None) -> Shaped[Tensor, "n *event"]:
        """Draw x: ``f^-1(h)``, ``h ~ p(h)``; exact."""
        return self.flow.inverse(self.prior.sample(n, generator).unsqueeze(1)).z.reshape(n, *self.event)

    def base(self) -> Parts:
        """The same density as a model whose latents are the noise h, ``x = f^-1(h)``: for rows with known errors."""
        model = LatentVariableModel(
            self.prior,
            FlowDecoder(self.flow, nn.Identity()),
            GaussianErrors(self.event, 0.0, None),
            conditioning=Conditioning(Conditions(errors=True), self.event),
        )
        return Parts(model, CodePoint(nn.Flatten()))

    @torch.no_grad()
    def impute(
        self, x: Float[Tensor, "B *event"], mask: Tensor, n: int, generator: Generator | None = None
    ) -> Shaped[Tensor, "n B *event"]:
        """Draw x_missing from ``p(x_missing | x_observed)``, n chains each; see :func:`curvae.dynamics.complete`."""
        size = x[0].numel()
        drawn = self.sample(max(DRAWS, 4 * size), generator).flatten(1)
        rows = torch.arange(len(x), device=x.device).split(max(1, NUMBERS // (size * (size + n))))
        flat, seen = x.flatten(1), mask.flatten(1)
        parts = [self._completed(drawn, flat[part], seen[part], n, generator) for part in rows]
        return torch.cat(parts, 1).reshape(n, *x.shape)

    def _completed(self, drawn: Tensor, x: Tensor, mask: Tensor, n: int, generator: Generator | None) -> Tensor:
        return complete(self.log_prob, linear_completions(drawn, x, mask, n, generator), mask, generator)


def real_event(name: str, spec: DataSpec) -> tuple[int, ...]:
    """The shape of an example of real numbers, several of them.

    Raises:
        ValueError: discrete data, or a single element.
    """
    if spec.support != "real":
        raise ValueError(
            f"{name} expects data that are real numbers; got support {spec.support!r}. Choose another system."
        )
    if torch.Size(spec.event).numel() < 2:
        raise ValueError(f"{name} expects examples of 2 elements or more; got 1.")
    return spec.event


def latents_for(name: str, size: int, latent: int | None) -> int:
    """The number of latents that was asked for, or a quarter of the elements, at most 16.

    Raises:
        ValueError: fewer than 1, or more than half of the elements.

    Example:
        >>> latents_for("flow-ae", 13, None), latents_for("flow-ae", 784, None)
        (3, 16)
    """
    count = max(1, min(16, size // 4)) if latent is None else latent
    if not 1 <= count <= size // 2:
        raise ValueError(f"{name}: latent must be from 1 to {size // 2}, half of the elements; got {count}.")
    return count


def rank_for(size: int) -> int:
    """The most latents of a linear model that examples of this size start at.

    >>> rank_for(13), rank_for(64), rank_for(784)
    (12, 63, 256)
    """
    return ranks(size)[-1]


def ranks(size: int) -> list[int]:
    """Numbers of latents that are tried.

    >>> ranks(2), ranks(13), ranks(784)
    ([1], [4, 12], [4, 16, 64, 256])
    """
    some = [rank for rank in RANKS if rank < size - 1]
    return [*some, size - 1] if size <= FULL else some


@dataclass(frozen=True)
class WhiteStart:
    """The first flow of a density starts at a linear model of the training data; all that follows, at the identity.

    Probabilistic PCA and, where elements have a noise each, factor analysis, of several numbers of latents: what is
    likeliest on the validation data. Under a normal prior ``log p(x)`` is then that model's before the first step.

    Args:
        path: of the :class:`curvae.flows.Whitening`.
        noise: "shared" or "element".
        linear: or else each element by itself.
        deviation: of the prior of h.
    """

    path: str
    noise: Noise
    linear: bool = True
    deviation: float = 1.0

    def __call__(self, system: Any, data: Tables) -> None:
        name = system.recipe.name if system.recipe else type(system).__name__
        check_density(name, data.train)
        likelihood = Gaussian(tuple(data.train.x.shape[1:]), learn=self.noise if self.linear else "element")
        sizes = ranks(likelihood.size) if self.linear else [0]
        fits = tuple(fit for size in sizes for fit in likelihood.linear_fits(data.train.x.float(), size))
        chosen = likeliest_model(fits if self.linear else fits[-1:], likelihood, data.validation)
        unit = LinearGaussian(chosen.mean, chosen.weight / self.deviation, chosen.noise / self.deviation**2)
        whitening_at(system, self.path).start_from(unit)


def whitening_at(module: nn.Module, path: str) -> Whitening:
    """The linear map at a path."""
    found = module.get_submodule(path)
    assert isinstance(found, Whitening)
    return found


def start_white(word: str, path: str, spec: DataSpec, deviation: float = 1.0) -> Prepared:
    """What a word of a system's signature stands for.

    Raises:
        ValueError: no such word.
    """
    if word not in ("linear", "columns"):
        raise ValueError(f"start: expected linear or columns; got {word!r}.")
    return WhiteStart(path, spec.noise, word == "linear", deviation)


def check_density(name: str, train: Table) -> None:
    """Training data must be whole; where one value has a share of its own, a line of the log says what that means.

    Raises:
        ValueError: values are missing.
    """
    _refuse_holes(name, train.mask)
    x = train.x[:: max(1, len(train) // ROWS)].flatten(1)
    share = (x == x.mode(0).values).float().mean(0)
    if count := int((share > ATOM).sum()):
        log.warning(
            "%s: %s of %s elements have one and the same value in more than a fifth of the rows: a density rises there "
            "as far as it can, and log p(x) with it, whatever it knows of the rest. %s",
            *(name, f"{count:,}", f"{x.shape[1]:,}"),
            "Dequantize pictures." if train.x.ndim > 3 else "Leave out columns of a few values, as classes are.",
        )


def _refuse_holes(name: str, mask: Tensor | None) -> None:
    if mask is not None and not bool(mask.all()):
        raise ValueError(
            f"{name}: expected data without missing values, got {int((~mask).sum()):,}: a part of an example has no "
            "density in closed form. Fill them in, or take a system with latents."
        )
