"""Densities of a core and a shell: their flow, and where it starts."""

import logging
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from curvae.flows import Autoregressive, Composed, CoreShell, InvertibleFlow, Whitening, affine
from curvae.inference import AffinePosterior
from curvae.inference.encoder_start import write_posterior
from curvae.likelihoods import Gaussian
from curvae.linear import LinearGaussian
from curvae.networks import linear_capacity, write_affine
from curvae.priors import StandardNormal
from curvae.systems.flow_density import FlowDensity, check_density, whitening_at
from curvae.systems.stages import Prepared, Stage
from curvae.systems.starts import likeliest_model
from curvae.typing import DataSpec, Noise, Tables

log = logging.getLogger("curvae")

HIDDEN = (64, 64)
"""Widths in the couplings of core and code."""


class CoreShellDensity(FlowDensity):
    """An exact density with a code of each example, and a way back from it.

    Args:
        event: shape of one example.
        flow: from x to noise.
        stages: phases of training.
    """

    flow: CoreShell

    def __init__(self, event: tuple[int, ...], flow: CoreShell, stages: tuple[Stage, ...]):
        super().__init__(event, flow, StandardNormal(flow.size), stages)

    @torch.no_grad()
    def reconstruct(self, x: Float[Tensor, "B *event"], mask: Tensor | None = None) -> Tensor:
        """What the decoder says at the code of x: the way back with no noise of the shell."""
        h = self.flow(x.flatten(1).unsqueeze(1)).z
        u, r = h.split([len(self.flow.core), len(self.flow.shell)], -1)
        return self.flow.inverse(torch.cat([u, torch.zeros_like(r)], -1)).z.reshape(x.shape)


def core_shell(core: Tensor, size: int, encoder: nn.Module, decoder: nn.Module, steps: int) -> CoreShell:
    """The flow of both, with coupling steps of core and code that start at the identity."""
    count = len(core)
    inner, outer = couplings(count, steps), couplings(count, steps)
    whole = Composed([Whitening(count, count), *inner])
    return CoreShell(core, size, encoder, decoder, whole, Composed(outer or [Whitening(count, 0)]))


def couplings(size: int, steps: int) -> list[InvertibleFlow]:
    """So many affine coupling steps in one flow that starts at the identity; none of fewer than 1."""
    if steps < 1:
        return []
    flow = Autoregressive(size, 0, steps, HIDDEN, affine(), min(2, size))
    flow.start_at_identity(torch.zeros(0, 0), torch.zeros(0))
    return [flow]


def core_places(event: tuple[int, ...], count: int, where: Literal["center", "corners"]) -> Int[Tensor, " D"]:
    """Places of the core in a flat example, in their order.

    >>> core_places((1, 4, 4), 4, "center").tolist(), core_places((1, 4, 4), 4, "corners").tolist()
    ([5, 6, 9, 10], [0, 3, 12, 15])
    >>> core_places((7,), 3, "center").tolist()
    [0, 3, 6]
    """
    size = torch.Size(event).numel()
    if len(event) < 3:
        return torch.linspace(0, size - 1, count).round().long() if count > 1 else torch.tensor([size // 2])
    axes = [torch.arange(length) - (length - 1) / 2 for length in event[-2:]]
    distance = (axes[0].unsqueeze(1).square() + axes[1].square()).expand(event).flatten()
    order = distance.argsort(stable=True, descending=where == "corners")
    return order[:count].sort().values


def start_core(word: str, spec: DataSpec) -> Prepared:
    """What a word of a system's signature stands for.

    Raises:
        ValueError: no such word.
    """
    if word not in ("linear", "random"):
        raise ValueError(f"start: expected linear or random; got {word!r}.")
    return CoreStart(spec.noise, word == "linear")


@dataclass(frozen=True)
class CoreStart:
    """``log p(x)`` before the first step is that of probabilistic PCA or factor analysis with d latents.

    Of two, the one that is likelier on the validation data. With ``x = W z + mean + noise``: the shell is decoded
    by its rows of W; ``z | shell ~ N(V (shell - mean), diag(v))`` in the latents' axes where that is diagonal; and the
    core given the shell is normal with a covariance Q, so that ``z = E[z | shell] + sqrt(v) Q^-1/2 (core - E[core |
    shell])`` has that law, and is linear in core and shell.

    Where the networks are too narrow for that, or at "random", core and shell start at their means and deviations.

    Args:
        noise: "shared" or "element".
        linear: whether at the linear model.
    """

    noise: Noise
    linear: bool = True

    def __call__(self, system: Any, data: Tables) -> None:
        name, flow, x = system.recipe.name if system.recipe else type(system).__name__, system.flow, data.train.x
        check_density(name, data.train)
        count = len(flow.core)
        room = min(linear_capacity(flow.encoder), linear_capacity(flow.decoder)) >= count
        if self.linear and not room:
            log.info("%s starts at random: its networks are too narrow for a linear model.", name)
        linear = self.linear and room
        likelihood = Gaussian(tuple(x.shape[1:]), learn=self.noise if linear else "element")
        fits = likelihood.linear_fits(x.float(), count if linear else 0)
        model = likeliest_model(fits if linear else fits[-1:], likelihood, data.validation)
        start_at_core(flow, model, linear)


@torch.no_grad()
def start_at_core(flow: CoreShell, model: LinearGaussian, networks: bool = True) -> None:
    """Make the density of a flow that of a linear model; without ``networks`` only noise and core."""
    latent = model.weight.shape[1]
    core, shell = (LinearGaussian(*(part[rows] for part in _parts(model))) for rows in (flow.core, flow.shell))
    turn = torch.linalg.svd(shell.weight / shell.noise.sqrt().unsqueeze(1), full_matrices=False)[2].mT
    weight, across = shell.weight @ turn, core.weight @ turn
    seen = LinearGaussian(shell.mean, weight, shell.noise)
    spread = across * seen.posterior_variance @ across.mT + torch.diag(core.noise)
    flow.log_variance.copy_((shell.noise - 1e-6).clamp(min=1e-12).log())
    whitening = whitening_at(flow.inner, "flows.0")
    whitening.start_from(LinearGaussian.of(core.mean, spread))
    if not networks:
        return
    size = len(flow.core)
    scale = torch.cat([seen.posterior_variance.sqrt(), weight.new_ones(size - latent)])
    root = _map_of(whitening, core.mean)
    inward = -scale.unsqueeze(1) * (root @ across @ seen.posterior_map)
    inward[:latent] += seen.posterior_map
    write_posterior(flow.encoder, AffinePosterior(inward, -inward @ shell.mean, scale.log()), size)
    outward = torch.cat([weight, weight.new_zeros(len(weight), size - latent)], 1)
    write_affine(flow.decoder, torch.eye(size).to(weight), weight.new_zeros(size), outward, shell.mean)


def _parts(model: LinearGaussian) -> tuple[Tensor, Tensor, Tensor]:
    return model.mean, model.weight, model.noise


def _map_of(flow: Whitening, mean: Float[Tensor, " D"]) -> Float[Tensor, "D D"]:
    """The matrix of a linear flow."""
    moved = flow((torch.eye(len(mean)) + mean).to(flow.mean).unsqueeze(1)).z.squeeze(1).mT
    return moved.to(mean)
