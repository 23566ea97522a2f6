"""An autoencoder with a posterior over all of its weights, and how it is trained with draws of them."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn
from torch.func import functional_call

from curvae.argument_checks import check_least
from curvae.inference import decoder_of, prefixed
from curvae.objectives import Bound
from curvae.systems.capabilities import Parts
from curvae.systems.codes import DECODER, ENCODER, CodeSystem, held_out_noise, reconstruction_bound, two_stages
from curvae.systems.stages import Maximized, Stage
from curvae.typing import Batch, Tables
from curvae.weights import (
    AveragedModel,
    OnlineLaplace,
    check_weights,
    load_weights,
    named_weights,
    network_diagonal,
    weight_vector,
    with_weights,
)
from curvae.weights.diagonal_curvature import Way


class LaplacianSystem(CodeSystem):
    """A code system whose encoder and decoder have a posterior over all their weights: codes and reconstructions vary.

    Its model in evaluation mode is averaged over decoders, as that of a :class:`curvae.systems.BayesianSystem`; each of
    :meth:`models` has an encoder of its own, too.

    Args:
        base: the autoencoder.
        weights: q, of its encoder's weights and then its decoder's.
        stages: in which both are trained.
        draws: M.

    Raises:
        ValueError: fewer than 1 draw, or networks that have no posterior over weights.
    """

    def __init__(self, base: CodeSystem, weights: OnlineLaplace, stages: tuple[Stage, ...], draws: int = 20):
        super().__init__(base.model, base.inference, base.objective, base.samples, stages)
        check_least("LaplacianSystem", 1, draws=draws)
        self.weights = weights
        self.draws = draws
        check_weights(self.autoencoder)

    @property
    def autoencoder(self) -> nn.Sequential:
        """X -> eta: the encoder, then the decoder."""
        return nn.Sequential(self.codes.encoder, decoder_of(self.model).network)

    def parts(self) -> Parts:
        """The averaged model in evaluation mode, that of the center in training."""
        plain = super().parts()
        if self.training:
            return plain
        members = [each.model for each in self.models(self.draws, torch.Generator().manual_seed(0))]
        return plain._replace(model=AveragedModel(plain.model, members))

    def models(self, count: int, generator: Generator | None = None) -> Iterator[CodeSystem]:
        """Autoencoders with drawn weights, one after the other.

        Raises:
            ValueError: fewer than 1.
        """
        check_least("models", 1, count=count)
        for vector in self.weights.draw(weight_vector(self.autoencoder).detach(), count, generator):
            drawn = CodeSystem(*deepcopy((self.model, self.inference)), self.objective, self.samples)
            load_weights(nn.Sequential(drawn.codes.encoder, decoder_of(drawn.model).network), vector)
            yield drawn.train(self.training)

    @torch.no_grad()
    def redrawn(
        self, x: Float[Tensor, "B *event"], count: int, generator: Generator | None = None
    ) -> tuple[Float[Tensor, "M B D"], Float[Tensor, "M B *event"]]:
        """Codes and reconstructions ``D(E(x))`` by drawn weights: how certain the autoencoder is of each example."""
        codes, means = [], []
        for drawn in self.models(count, generator):
            codes.append(drawn.codes.code(Batch.of(x)))
            means.append(drawn.model.likelihood.mean(decoder_of(drawn.model).network(codes[-1]).flatten(1)))
        return torch.stack(codes), torch.stack(means)

    def maximized(self, bound: Maximized, batch: Batch) -> Bound:
        """What a stage maximizes with the weights that the networks have now."""
        return bound(self, batch)


@dataclass(frozen=True)
class OnlineBound:
    """``log p(x | D(E(x)))`` at drawn weights, whose gradient is applied to the mean; the curvature there updates q.

    The prior of the weights joins it at the mean, a share of it for each row.

    Args:
        way: of the curvature, see :func:`curvae.weights.network_diagonal`.
    """

    way: Way = "approximate"

    def __call__(self, system: LaplacianSystem, batch: Batch) -> Bound:
        weights, network = system.weights, system.autoencoder
        center = weight_vector(network)
        drawn = next(weights.draw(center, 1))
        bound = functional_call(system, _by_path(network, drawn), ("maximized", reconstruction_bound, batch))
        rows = weights.rows.clamp(min=1)
        there = with_weights(network, drawn.detach())
        curvature = network_diagonal(there, batch.x, system.model.likelihood, batch.mask, self.way)
        prior = -0.5 * weights.prior_precision * center.square().sum() / rows
        seen = prefixed("weights", weights.moved(curvature * rows / len(batch.x))) if len(weights.curvature) else {}
        return Bound(bound.value, bound.surrogate + prior, state=seen)


def begin_online(system: Any, data: Tables) -> None:
    """The noise is that of the start; the posterior makes room for its curvature."""
    held_out_noise(system, data)
    system.weights.begin(weight_vector(system.autoencoder).detach(), data.train.total)


def online_stages(start: str, way: Way, *own: nn.Module | None) -> tuple[Stage, ...]:
    """Reconstruct by drawn weights; then the density of codes, and the noise of the validation data.

    Raises:
        ValueError: no such word for a start.
    """
    first, last = two_stages(start, 0, *own)
    trained = (ENCODER, DECODER, "model.likelihood")
    online = replace(first, trained=trained, bound=OnlineBound(way), prepare=(begin_online,))
    return replace(online, judged=reconstruction_bound), last


def _by_path(network: nn.Module, vector: Tensor) -> dict[str, Tensor]:
    """Parameters by their names in the system."""
    paths = {"0": ENCODER, "1": DECODER}
    return {paths[name[0]] + name[1:]: value for name, value in named_weights(network, vector).items()}
