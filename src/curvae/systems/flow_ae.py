"""The autoencoder within flows."""

from math import prod
from typing import Literal

from curvae.networks import MLP
from curvae.systems.base import LatentSystem, register
from curvae.systems.core_shell import CoreShellDensity, core_places, core_shell, start_core
from curvae.systems.flow_density import latents_for, real_event
from curvae.systems.linear_core import linear_core
from curvae.systems.stages import single
from curvae.typing import DataSpec


@register("flow-ae", "density", own_prior=True)
def flow_ae(
    spec: DataSpec,
    latent: int | None = None,
    hidden: int = 256,
    depth: int = 2,
    flows: int = 4,
    core: Literal["center", "corners", "linear"] = "center",
    start: str = "linear",
) -> CoreShellDensity | LatentSystem:
    """Autoencoder within flows: encoder and decoder are couplings of one bijection, so that log p(x) is exact.

    Reference: Silvestri, Roos and Ambrogioni, *Deterministic training of generative autoencoders using invertible
    layers*, arXiv:2205.09546, ICLR 2023.

    Differences: see :class:`curvae.flows.CoreShell`; coupling flows of core and code, where the authors have masked
    autoregressive ones; fully connected networks. Their noise of the shell, one for each element, is ours. With
    ``core="linear"`` the code flow has splines, and the core none; the width of the proposal is found as training goes
    on, where theirs is set by hand; and log K is part of the estimate, which their program leaves out.

    Args:
        latent: d; a quarter of the elements, at most 16, if not given.
        flows: coupling steps before the encoder (of the core), and as many after it (of the code).
        core: of pictures, which elements are encoded; of a table they are spread evenly. "linear": d linear features
            beside the data; then log p(x) is estimated, as a VAE's is.
        start: "linear": the density of principal components (or factors); "random".

    Example:
        >>> system = flow_ae(DataSpec((64,)), latent=2, hidden=32)
        >>> system.evidence, system.sample(3).shape
        ('exact', torch.Size([3, 64]))
    """
    size = prod(real_event("flow-ae", spec))
    count = latents_for("flow-ae", size, latent)
    if core == "linear":
        return linear_core(spec, count, hidden, depth, flows, start)
    encoder = MLP(size - count, [hidden] * depth, 2 * count)
    decoder = MLP(count, [hidden] * depth, size - count)
    flow = core_shell(core_places(spec.event, count, core), size, encoder, decoder, flows)
    return CoreShellDensity(spec.event, flow, single(start_core(start, spec)))
