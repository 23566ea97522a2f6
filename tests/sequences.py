"""Oracles of sequences: linear-Gaussian state-space models, and systems whose every part is exact for one of them."""

import dataclasses
from collections.abc import Callable

import torch
from torch import Tensor, nn

from curvae.likelihoods import Gaussian
from curvae.linalg import soft_unbound
from curvae.linear import StateSpace
from curvae.sequences import LayeredNormal, TemporalDifference, VariationalRecurrent


def random_state_space(seed: int, latent: int, size: int) -> StateSpace:
    """One in float64 whose states neither die out nor explode."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    rotation = torch.linalg.qr(normal(latent, latent))[0]
    root = 0.3 * normal(latent, latent) + 0.7 * torch.eye(latent, dtype=torch.float64)
    return StateSpace(
        normal(latent),
        torch.eye(latent, dtype=torch.float64) + 0.2,
        0.9 * rotation,
        root @ root.mT,
        normal(size, latent),
        normal(size),
        0.2 + torch.rand(size, generator=generator, dtype=torch.float64),
    )


class KalmanBelief(nn.Module):
    """b_t = mean and lower factor of the covariance of ``p(z_t | x_<=t)``; of b_0 those of the state before the first.

    The state-space model is one of states from the step before the first frame on.
    """

    def __init__(self, model: StateSpace):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        model, size = self.model, len(self.model.start)
        mean, covariance = model.start.expand(len(x), -1), model.spread.expand(len(x), -1, -1)
        found = [(mean, covariance)]
        if x.shape[1]:
            first = dataclasses.replace(model, start=model.transition @ model.start, spread=one_step(model))
            states = first.filter(x).states
            found += zip(states.mean.unbind(1), states.covariance.unbind(1), strict=True)
        packed = [torch.cat([m, torch.linalg.cholesky(c).flatten(1).expand(len(m), -1)], -1) for m, c in found]
        assert packed[0].shape[-1] == size + size**2
        return torch.stack(packed, 1)


def one_step(model: StateSpace) -> Tensor:
    """The covariance of a state after the one at the start."""
    return model.transition @ model.spread @ model.transition.mT + model.process


class Rule(nn.Module):
    """A function as a module."""

    def __init__(self, function: Callable[..., Tensor]):
        super().__init__()
        self.function = function

    def forward(self, *inputs: Tensor) -> Tensor:
        return self.function(*inputs)


def layered(law: Callable[[Tensor], tuple[Tensor, Tensor]], size: int, context: int) -> LayeredNormal:
    """``N(mean, covariance)`` of a context, as a layer for each dimension: exact, whatever the covariance."""

    def layer(number: int) -> Rule:
        def rule(inputs: Tensor) -> Tensor:
            above = inputs[..., context:]
            mean, covariance = law(inputs[..., :context])
            root = torch.linalg.cholesky(covariance)
            loc = mean[..., number : number + 1]
            if number:
                rows = root[..., :number, :number]
                eps = torch.linalg.solve_triangular(rows, (above - mean[..., :number]).unsqueeze(-1), upper=False)
                loc = loc + (root[..., number, :number].unsqueeze(-2) @ eps).squeeze(-1)
            scale = soft_unbound(root[..., number, number].log())
            return torch.cat([loc, scale.unsqueeze(-1).expand_as(loc)], -1)

        return Rule(rule)

    return LayeredNormal([layer(number) for number in range(size)], [1] * size)


def oracle_td(model: StateSpace, jump: int = 3, widened: float = 1.0) -> TemporalDifference:
    """Kalman beliefs, exact jumps of any length, and the exact smoother of a single step, or a wider one."""
    size = len(model.start)
    believed = size + size**2

    def belief(b: Tensor) -> tuple[Tensor, Tensor]:
        root = b[..., size:believed].unflatten(-1, (size, size))
        return b[..., :size], root @ root.mT

    def moved(context: Tensor) -> tuple[Tensor, Tensor]:
        z, steps = context.split([size, jump], -1)
        powers, noises = [torch.eye(size, dtype=z.dtype)], [torch.zeros(size, size, dtype=z.dtype)]
        for _ in range(jump):
            noises.append(model.transition @ noises[-1] @ model.transition.mT + model.process)
            powers.append(model.transition @ powers[-1])
        power, noise = (torch.einsum("...j,jde->...de", steps, torch.stack(each[1:])) for each in (powers, noises))
        return (power @ z.unsqueeze(-1)).squeeze(-1), noise

    def smoothed(context: Tensor) -> tuple[Tensor, Tensor]:
        z2, then, _, _ = context.split([size, believed, believed, jump], -1)
        mean, covariance = belief(then)
        wide = model.transition @ covariance @ model.transition.mT + model.process
        gain = torch.linalg.solve(wide, model.transition @ covariance).mT
        off = z2 - mean @ model.transition.mT
        return mean + (gain @ off.unsqueeze(-1)).squeeze(-1), widened * (covariance - gain @ wide @ gain.mT)

    decoder = Rule(lambda z: z @ model.emission.mT + model.offset)
    return TemporalDifference(
        KalmanBelief(model),
        layered(belief, size, believed),
        layered(moved, size, size + jump),
        layered(smoothed, size, size + 2 * believed + jump),
        decoder,
        frame_noise(model),
        jump,
    ).double()


def frame_noise(model: StateSpace) -> Gaussian:
    """The law of a frame given its mean."""
    likelihood = Gaussian(len(model.offset), learn="element").double()
    with torch.no_grad():
        likelihood.log_variance.copy_((model.noise - likelihood.floor**2).log())
    return likelihood


def oracle_vrnn(model: StateSpace, widened: float = 1.0) -> VariationalRecurrent:
    """h = the law of the next state given all frames; posteriors are exact where they are not widened."""
    size, count = len(model.start), len(model.offset)
    believed = size + size**2

    def packed(mean: Tensor, covariance: Tensor) -> Tensor:
        return torch.cat([mean, torch.linalg.cholesky(covariance).flatten(1)], -1)

    def belief(h: Tensor) -> tuple[Tensor, Tensor]:
        root = h[..., size:].unflatten(-1, (size, size))
        return h[..., :size], root @ root.mT

    def updated(context: Tensor) -> tuple[Tensor, Tensor]:
        x, h = context.split([count, believed], -1)
        mean, covariance = belief(h.flatten(0, -2))
        flat = x.flatten(0, -2)
        after, narrowed, _ = model._update(mean, covariance, flat, torch.ones_like(flat))
        return after.unflatten(0, x.shape[:-1]), narrowed.unflatten(0, x.shape[:-1])

    def posterior(context: Tensor) -> tuple[Tensor, Tensor]:
        mean, covariance = updated(context)
        return mean, widened * covariance

    def cell(x: Tensor, z: Tensor, h: Tensor) -> Tensor:
        return packed(*model.predict(*updated(torch.cat([x, h], -1))))

    found = VariationalRecurrent(
        nn.Flatten(),
        Rule(cell),
        layered(belief, size, believed),
        layered(posterior, size, count + believed),
        Rule(lambda c: c[:, :size] @ model.emission.mT + model.offset),
        frame_noise(model),
        believed,
    ).double()
    with torch.no_grad():
        found.first.copy_(packed(model.start[None], model.spread[None])[0])
    return found
