"""Conventions in which a pair of networks may differ from what was said of them, each tried by name."""

import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.adopters.faithful import Elbo, Suspect
from curvae.adopters.reading import LOG_SCALE, gaussian_pair, output_of
from curvae.likelihoods import Bernoulli, Gaussian, Likelihood
from curvae.linalg import LOG_2PI, standard_normal_log_prob


@dataclass(frozen=True)
class Convention:
    """One way to read a pair of networks."""

    spread: str = "log-variance"
    probabilities: bool = False
    """The decoder gives those of ones, and not logits."""
    mean_over_elements: bool = False
    constant: bool = True
    """Of the density of a Gaussian."""
    squared: bool = False
    """The reconstruction term is the sum of squared errors."""
    scaling: float = 1.0
    """Factor on latents before they are decoded."""
    training: bool = False
    pixels: tuple[float, float] = (1.0, 0.0)
    """Factor and offset of what the networks are given."""
    order: tuple[int, ...] | None = None
    """Of the dimensions of a picture, as the networks read them."""
    closed: bool = True
    """The divergence is in closed form."""


class Change(NamedTuple):
    """What may be otherwise, in words behind "equal if"."""

    words: str
    to: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Networks:
    """A pair in float64, its likelihood, and the shapes that they take."""

    encoder: nn.Module
    decoder: nn.Module
    likelihood: Likelihood
    event: tuple[int, ...] | None = None
    latents: tuple[int, ...] | None = None
    trained: tuple[nn.Module, nn.Module] | None = field(default=None)
    """The same in train mode."""

    @classmethod
    def of(cls, encoder: nn.Module, decoder: nn.Module, likelihood: Likelihood, **shapes: Any) -> "Networks":
        """Copies of them, in float64."""
        one, other = (copy.deepcopy(each).double().eval() for each in (encoder, decoder))
        trained = copy.deepcopy(one).train(), copy.deepcopy(other).train()
        return cls(one, other, copy.deepcopy(likelihood).double(), **shapes, trained=trained)

    def elbo(
        self, reading: Convention, x: Float[Tensor, "B *event"], noise: Float[Tensor, "B D"]
    ) -> Float[Tensor, " B"]:
        """The ELBO of one draw, so read."""
        pair = self.trained if reading.training and self.trained else (self.encoder, self.decoder)
        encoder, decoder = copy.deepcopy(pair) if reading.training else pair
        seen = self.seen(reading, x)
        mean, spread = gaussian_pair(encoder(seen if self.event is None else seen.reshape(len(x), *self.event)))
        mean, log_scale = mean.flatten(1), LOG_SCALE[reading.spread](spread.flatten(1))
        z = mean + log_scale.exp() * noise
        at = reading.scaling * z
        out = output_of(decoder(at if self.latents is None else at.reshape(len(at), *self.latents))).flatten(1)
        fit = self._fit(reading, seen, out)
        if reading.closed:
            return fit - 0.5 * (mean.square() + (2 * log_scale).exp() - 1 - 2 * log_scale).sum(1)
        return fit + standard_normal_log_prob(z) - standard_normal_log_prob(noise) + log_scale.sum(1)

    def seen(self, reading: Convention, x: Float[Tensor, "B *event"]) -> Float[Tensor, "B *event"]:
        """What the networks are given of these rows."""
        factor, offset = reading.pixels
        x = factor * x + offset
        if reading.order is None:
            return x
        return x.permute(0, *(1 + axis for axis in reading.order)).reshape(x.shape)

    def mean(self, reading: Convention, x: Float[Tensor, "B *event"]) -> Float[Tensor, "B P"]:
        """``E[x | z]`` at the means of the posteriors, flat."""
        seen = self.seen(reading, x)
        mean, _ = gaussian_pair(self.encoder(seen if self.event is None else seen.reshape(len(x), *self.event)))
        at = mean.flatten(1)
        out = output_of(self.decoder(at if self.latents is None else at.reshape(len(at), *self.latents))).flatten(1)
        return self.likelihood.mean(_logits(out) if reading.probabilities else out).flatten(1)

    def _fit(self, reading: Convention, x: Tensor, out: Tensor) -> Float[Tensor, " B"]:
        count, eta = out.shape[1], _logits(out) if reading.probabilities else out
        if reading.squared:
            fit = -(x.flatten(1) - eta).square().sum(1)
        else:
            fit = self.likelihood.log_prob(x.reshape(len(x), *self.likelihood.event), eta)
        if not (reading.constant or reading.squared) and isinstance(self.likelihood, Gaussian):
            variance = self.likelihood.variance
            fit = fit + 0.5 * (variance.log() + LOG_2PI).expand(count).sum()
        return fit / count if reading.mean_over_elements else fit


def _logits(probabilities: Tensor) -> Tensor:
    return torch.logit(probabilities, eps=torch.finfo(probabilities.dtype).eps)


def suspects_of(
    networks: Networks, said: Convention, event: tuple[int, ...], scaling: float = 1.0
) -> Iterator[Suspect]:
    """Other readings, one change at a time, then two; the commonest mistakes first.

    Args:
        networks: the pair.
        said: how it was said to be read.
        event: shape of the data.
        scaling: a factor on latents that users of this model know.
    """
    changes = [*changes_of(networks.likelihood, said, event, scaling)]
    for number, one in enumerate(changes):
        yield from _both_divergences(networks, replace(said, **one.to), one.words)
        for other in changes[:number]:
            if not one.to.keys() & other.to.keys():
                reading = replace(said, **one.to, **other.to)
                yield from _both_divergences(networks, reading, f"{other.words}, and {one.words}")


def changes_of(
    likelihood: Likelihood, said: Convention, event: tuple[int, ...], scaling: float = 1.0
) -> Iterator[Change]:
    """What may be otherwise than was said."""
    for spread in LOG_SCALE:
        if spread != said.spread:
            yield Change(f"the encoder gives a {spread}: pass spread={spread!r}", {"spread": spread})
    if isinstance(likelihood, Bernoulli):
        kind, word = ("logits", "natural") if said.probabilities else ("probabilities, a sigmoid's", "probabilities")
        yield Change(f"the decoder gives {kind}: pass outputs={word!r}", {"probabilities": not said.probabilities})
    if isinstance(likelihood, Gaussian):
        yield Change(
            "its ELBO leaves out the constant of the density, log(2 pi s^2) / 2 an element", {"constant": False}
        )
        yield Change(
            "its squared errors are not halved: the noise is sqrt(1/2), pass noise=0.5**0.5", {"squared": True}
        )
    count = torch.Size(event).numel()
    words = f"its reconstruction term is a mean over the {count} elements of a row, and not their sum"
    yield Change(words, {"mean_over_elements": True})
    words = "it was in train mode, which normalizes by the batch: call .eval() on its networks"
    yield Change(words, {"training": True})
    if scaling != 1.0:
        for factor in (scaling, 1 / scaling):
            words = f"it multiplies latents by {factor:.6g}, a scaling factor that is no part of the autoencoder"
            yield Change(words, {"scaling": factor})
    yield from data_changes(event)


def data_changes(event: tuple[int, ...]) -> Iterator[Change]:
    """Other rows than are given: of another range, or with their channels elsewhere."""
    ranges = {"x / 255": (1 / 255, 0.0), "2 x - 1": (2.0, -1.0), "(x + 1) / 2": (0.5, 0.5), "255 x": (255.0, 0.0)}
    for formula, pixels in ranges.items():
        yield Change(f"its networks see {formula}, pixels of another range: pass data in that", {"pixels": pixels})
    if len(event) == 3:
        yield Change("its networks see channels last: pass data in that order", {"order": (1, 2, 0)})
        yield Change("its networks see channels first: pass data in that order", {"order": (2, 0, 1)})


def _both_divergences(networks: Networks, reading: Convention, words: str) -> Iterator[Suspect]:
    for closed in (True, False):
        yield Suspect(words, _elbo(networks, replace(reading, closed=closed)))


def _elbo(networks: Networks, reading: Convention) -> Elbo:
    return lambda batch, noise: networks.elbo(reading, batch.x, noise)
