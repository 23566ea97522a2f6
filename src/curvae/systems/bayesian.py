"""A latent-variable model with a posterior over its decoder's weights."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Generator, nn

from curvae.argument_checks import check_least
from curvae.objectives import Bound
from curvae.systems.base import LatentSystem
from curvae.systems.capabilities import Parts
from curvae.systems.stages import Maximized, Stage
from curvae.typing import Batch
from curvae.weights import AveragedModel, WeightPosterior, check_weights


class BayesianSystem(LatentSystem):
    r"""A system whose decoder has a posterior q(theta) over its weights, and which predicts with draws of it.

    In evaluation mode its model is ``p(x, z) = p(z) 1/M sum_m p(x | z, theta_m)``, theta_m ~ q by a seed of its own: so
    ``log p(x) = log 1/M sum_m p(x | theta_m)``, E[x | z] is the mean over draws, and a sample is one of any of them. In
    training mode, and wherever eta alone is asked for, it is that of the weights at the center. Inference is by these.

    Args:
        base: the system.
        weights: q, of ``base.model.decoder``.
        stages: in which both are trained.
        draws: M.

    Raises:
        ValueError: fewer than 1 draw, or a decoder that has no posterior over weights.
    """

    def __init__(self, base: LatentSystem, weights: WeightPosterior, stages: tuple[Stage, ...], draws: int = 8):
        super().__init__(base.model, base.inference, base.objective, base.samples, stages)
        check_least("BayesianSystem", 1, draws=draws)
        check_weights(base.model.decoder)
        self.weights = weights
        self.draws = draws

    def parts(self) -> Parts:
        """The averaged model in evaluation mode, that of the center in training."""
        plain = super().parts()
        if self.training:
            return plain
        generator = torch.Generator().manual_seed(0)
        members = [self._model_by(network) for network in self._networks(self.draws, generator)]
        return plain._replace(model=AveragedModel(plain.model, members))

    def models(self, count: int, generator: Generator | None = None) -> Iterator[LatentSystem]:
        """Systems with drawn decoders and everything else in common, one after the other.

        Raises:
            ValueError: fewer than 1.
        """
        check_least("models", 1, count=count)
        for network in self._networks(count, generator):
            drawn = LatentSystem(self._model_by(network), self.inference, self.objective, self.samples)
            drawn.evidence = self.evidence
            yield drawn.train(self.training)

    def maximized(self, bound: Maximized | None, batch: Batch) -> Bound:
        """What a stage maximizes with the weights that the decoder has now."""
        return self.bound(batch) if bound is None else bound(self, batch)

    def _networks(self, count: int, generator: Generator | None) -> Iterator[nn.Module]:
        return self.weights.networks(self.model.decoder, count, generator)

    def _model_by(self, network: nn.Module) -> Any:
        return self.model.decoding_by(network).train(self.training)
