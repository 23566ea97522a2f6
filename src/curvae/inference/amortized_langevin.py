"""Amortized Langevin dynamics: chains on the last layer of an encoder, so that its output is a posterior draw."""

import math

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from curvae.argument_checks import check_least
from curvae.dynamics import HMCState, LogDensity, transition
from curvae.inference.inference import Inference, Inferred
from curvae.model import LatentVariableModel
from curvae.posteriors import Chains, DiagonalGaussian
from curvae.typing import Batch


class AmortizedLangevin(Inference):
    r"""``z = W g(x)``: W is not learned but moved by Langevin dynamics on the log joint of the whole batch.

    With ``V(W) = -sum_b log p(x_b, W g(x_b))``, ``W' = W - (h / B) grad V + sqrt(2 h / B) noise``, and Metropolis'
    choice for W as a whole. Where the features of the batch have full rank (M >= B), the z of a *fixed* batch are
    draws of their exact posteriors in the limit. Over changing batches they are not: the chain of an example is moved
    by others too, and with M < B no W can move all z freely.

    In training a forward takes ``steps`` transitions, gives the new W as state, and the posterior is that of the last
    one; g learns through it. The posterior is ``N(W g(x), scale^2)``, of a width set by hand: its ELBO and weights are
    valid, and say little of how good the dynamics are.

    Args:
        features: g, the network from a batch of data to M values.
        size: number D of latents.
        count: number M of features.
        steps: transitions at each visit of a batch.
        step: h, the step for a mean over data.
        metropolis: accept or refuse; without it Langevin dynamics have a bias that grows with the step.
        scale: standard deviation of the posterior that is reported.

    Raises:
        ValueError: a number out of its range; in use, features of another number.

    Reference: Taniguchi, Iwasawa, Kumagai and Matsuo, *Langevin Autoencoders for Learning Deep Latent Variable
    Models*, NeurIPS 2022, arXiv:2209.07036, Theorem 1.

    Differences: networks learn from the last state of a visit, where the published code averages over two.

    Example:
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(3), torch.nn.Linear(3, 10), Gaussian(10))
        >>> inference = AmortizedLangevin(torch.nn.Linear(10, 16), size=3, count=16)
        >>> found = inference(model, Batch(torch.randn(8, 10), torch.arange(8)))
        >>> found.posterior.mean.shape, found.state["weight"].shape
        (torch.Size([8, 3]), torch.Size([3, 16]))
    """

    weight: Float[Tensor, "D M"]

    def __init__(
        self,
        features: nn.Module,
        size: int,
        count: int,
        steps: int = 3,
        step: float = 1e-4,
        metropolis: bool = True,
        scale: float = 0.05,
    ):
        super().__init__()
        check_least("AmortizedLangevin", 1, size=size, count=count, steps=steps)
        if not (step > 0 and scale > 0):
            raise ValueError(f"AmortizedLangevin: step and scale must be positive; got {step} and {scale}.")
        self.features = features
        self.steps = steps
        self.step = step
        self.metropolis = metropolis
        self.scale = scale
        self.register_buffer("weight", torch.randn(size, count) / count**0.5)

    def forward(self, model: LatentVariableModel, batch: Batch) -> Inferred:
        seen = self._features(batch)
        if not self.training:
            return Inferred(self._around(seen, self.weight))
        moved, acceptance = self._moved(model, batch, seen.detach(), self.steps)
        return Inferred(self._around(seen, moved[-1]), {"acceptance": acceptance}, state={"weight": moved[-1]})

    def chains(
        self,
        model: LatentVariableModel,
        batch: Batch,
        samples: int = 1000,
        warmup: int = 1000,
        generator: Generator | None = None,
    ) -> Inferred:
        """A run on one batch that stays: the states ``W_t g(x)`` after a warm-up, and the share accepted.

        Raises:
            ValueError: fewer than 4 samples, or a negative warm-up.
        """
        if samples < 4 or warmup < 0:
            raise ValueError(f"chains: expects samples >= 4 and warmup >= 0; got {samples} and {warmup}.")
        with torch.no_grad():
            seen = self._features(batch)
            moved, acceptance = self._moved(model, batch, seen, warmup + samples, generator)
            states = torch.einsum("tdm,bm->btd", moved[warmup:], seen).unsqueeze(1)
        return Inferred(Chains(states), {"acceptance": acceptance})

    def _features(self, batch: Batch) -> Float[Tensor, "B M"]:
        seen, count = self.features(batch.x), self.weight.shape[1]
        if seen.shape[-1] != count:
            raise ValueError(
                f"AmortizedLangevin: features must give {count} values; got {seen.shape[-1]}. Give count the same."
            )
        return seen

    def _around(self, seen: Float[Tensor, "B M"], weight: Float[Tensor, "D M"]) -> DiagonalGaussian:
        mean = seen @ weight.to(seen).mT
        return DiagonalGaussian(mean, torch.full_like(mean, math.log(self.scale)))

    @torch.no_grad()
    def _moved(
        self,
        model: LatentVariableModel,
        batch: Batch,
        seen: Float[Tensor, "B M"],
        count: int,
        generator: Generator | None = None,
    ) -> tuple[Float[Tensor, "T D M"], Float[Tensor, ""]]:
        """W after each of ``count`` transitions, and the mean probability of acceptance."""
        target = _joint_of(model, batch, seen, self.weight.shape)
        length = torch.as_tensor((2 * self.step / len(seen)) ** 0.5).to(seen)
        moved, accepted = [], []
        with model.evaluating():
            state = HMCState.at(target, self.weight.to(seen).reshape(1, 1, -1))
            for _ in range(count):
                state, info = transition(target, state, length, 1, generator, self.metropolis)
                moved.append(state.z)
                accepted.append(info.acceptance.mean())
        return torch.cat(moved).reshape(count, *self.weight.shape), torch.stack(accepted).mean()


def _joint_of(model: LatentVariableModel, batch: Batch, seen: Float[Tensor, "B M"], shape: torch.Size) -> LogDensity:
    """``W -> sum_b log p(x_b, W g(x_b))``, W as one vector of one chain."""

    def target(weight: Float[Tensor, "S 1 DM"]) -> Float[Tensor, "S 1"]:
        z = torch.einsum("sdm,bm->sbd", weight.reshape(len(weight), *shape), seen)
        return model.log_joint(batch.x, z, batch.mask).sum(-1, keepdim=True)

    return target
