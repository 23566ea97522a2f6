"""The flows of pythae's VAE_IAF and VAE_LinNF: the same for all examples, with parameters of their own."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear, softplus

from curvae.argument_checks import check_least
from curvae.flows import Flow, InvertibleFlow, Transformed

STEPS = ("Planar", "Radial")


class MaskedLayer(nn.Linear):
    """A linear layer of which a mask leaves some weights out.

    Args:
        inputs: number of inputs.
        outputs: number of outputs.

    Example:
        >>> MaskedLayer(3, 2).mask.shape
        torch.Size([2, 3])
    """

    mask: Tensor

    def __init__(self, inputs: int, outputs: int):
        super().__init__(inputs, outputs)
        self.register_buffer("mask", torch.zeros(outputs, inputs))

    def forward(self, input: Float[Tensor, "*N I"]) -> Float[Tensor, "*N O"]:
        return linear(input, self.mask * self.weight, self.bias)


class MaskedFlow(InvertibleFlow):
    """``y = flip(z)``, ``z <- y exp(s(y)) + m(y)``, K times; m_i and s_i see y_<i, so ``log |det| = sum_i s_i``.

    Draws take one pass of each network, the density at another z takes D. The last network comes first. Weights and
    masks come from a model that was trained: the flow is made without any.

    Args:
        size: number of dimensions D.
        steps: their number K.
        hidden: widths of the hidden layers of each network.

    Raises:
        ValueError: size or steps below 1.

    Example:
        >>> flow = MaskedFlow(2, 1, [4])
        >>> flow(torch.zeros(5, 3, 2)).log_det.shape
        torch.Size([5, 3])
    """

    def __init__(self, size: int, steps: int, hidden: Sequence[int]):
        super().__init__()
        check_least("MaskedFlow", 1, size=size, steps=steps)
        self.size, self.context, self.cheap = size, 0, "forward"
        self.steps, self.hidden = steps, list(hidden)
        self.networks = nn.ModuleList(_masked_network([size, *hidden, 2 * size]) for _ in range(steps))

    def forward(self, z: Float[Tensor, "S B D"], context: Tensor | None = None) -> Transformed:
        log_det = torch.zeros_like(z[..., 0])
        for network in reversed([*self.networks]):
            y = z.flip(-1)
            mean, log_slope = network(y).chunk(2, -1)
            z = y * log_slope.exp() + mean
            log_det = log_det + log_slope.sum(-1)
        return Transformed(z, log_det)

    def inverse(self, z: Float[Tensor, "S B D"], context: Tensor | None = None) -> Transformed:
        log_det = torch.zeros_like(z[..., 0])
        for network in self.networks:
            y, log_slope = torch.zeros_like(z), torch.zeros_like(z)
            for _ in range(self.size):  # each pass makes one dimension more right
                mean, log_slope = network(y).chunk(2, -1)
                y = (z - mean) * (-log_slope).exp()
            z, log_det = y.flip(-1), log_det - log_slope.sum(-1)
        return Transformed(z, log_det)

    @torch.no_grad()
    def start_at_identity(self, weight: Tensor, bias: Tensor) -> float:
        """The networks say 0; of an odd number of steps the order of the dimensions stays reversed."""
        for network in self.networks:
            for each in [*network.parameters()][-2:]:  # pyright: ignore[reportAttributeAccessIssue]
                each.zero_()
        return 0.0


def _masked_network(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [MaskedLayer(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class PlanarRadialFlow(Flow):
    r"""Planar and radial steps, one after the other, whose parameters are the same for all examples.

    Planar: ``z <- z + u tanh(w'z + b)``, ``log |det| = log |1 + (1 - tanh^2) w'u|``; a bijection where ``w'u > -1``,
    which nothing ensures: :attr:`bijective`. Radial: ``z <- z + beta h (z - c)``, ``h = 1 / (alpha + |z - c|)``, with
    ``beta = softplus(b) - alpha > -alpha``, always one.

    Args:
        size: number of dimensions D.
        kinds: of the steps, "Planar" or "Radial".
        floor: added to the determinant of a planar step within its logarithm: 1e-4 in pythae, where it is none of a
            density. Ours is 0.

    Raises:
        ValueError: size below 1, or no such kind.

    Example:
        >>> flow = PlanarRadialFlow(2, ["Planar", "Radial"])
        >>> flow(torch.zeros(5, 3, 2)).log_det.shape, flow.bijective
        (torch.Size([5, 3]), True)
    """

    def __init__(self, size: int, kinds: Sequence[str], floor: float = 0.0):
        super().__init__()
        check_least("PlanarRadialFlow", 1, size=size)
        if bad := [kind for kind in kinds if kind not in STEPS]:
            raise ValueError(f"PlanarRadialFlow: expected steps that are Planar or Radial; got {bad[0]!r}.")
        self.size, self.context, self.cheap = size, 0, "forward"
        self.kinds, self.floor = list(kinds), floor
        self.parts = nn.ModuleList(_parameters(kind, size) for kind in kinds)

    @property
    def bijective(self) -> bool:
        """Whether every step is a bijection."""
        steps = zip(self.kinds, self.parts, strict=True)
        planar: list[nn.ParameterDict] = [part for kind, part in steps if kind == "Planar"]  # pyright: ignore[reportAssignmentType]
        return all(float((part["w"] * part["u"]).detach().sum()) > -1 for part in planar)

    def forward(self, z: Float[Tensor, "S B D"], context: Tensor | None = None) -> Transformed:
        log_det = torch.zeros_like(z[..., 0])
        for kind, part in zip(self.kinds, self.parts, strict=True):
            step = self._planar(z, part) if kind == "Planar" else self._radial(z, part)
            z, log_det = step.z, log_det + step.log_det
        return Transformed(z, log_det)

    def _planar(self, z: Tensor, part: Any) -> Transformed:
        w, u = part.w, part.u
        bend = torch.tanh((z * w).sum(-1, keepdim=True) + part.b)
        slope = 1 + (1 - bend.square()).squeeze(-1) * (w * u).sum()
        return Transformed(z + u * bend, (slope.abs() + self.floor).log())

    def _radial(self, z: Tensor, part: Any) -> Transformed:
        alpha, offset = part.log_alpha.exp(), z - part.x0
        beta = softplus(part.beta) - alpha
        r = offset.square().sum(-1, keepdim=True).clamp_min(torch.finfo(z.dtype).tiny).sqrt()
        h = 1 / (alpha + r)
        along = 1 + beta * h - beta * r * h.square()
        return Transformed(z + beta * h * offset, ((self.size - 1) * (1 + beta * h).log() + along.log()).squeeze(-1))

    @torch.no_grad()
    def start_at_identity(self, weight: Tensor, bias: Tensor) -> float:
        """``u = 0``, and ``beta = 0`` by an alpha that is softplus(b)."""
        for kind, part in zip(self.kinds, self.parts, strict=True):
            if kind == "Planar":
                part.u.zero_()  # pyright: ignore[reportCallIssue]
            else:
                part.log_alpha.copy_(softplus(part.beta).log())  # pyright: ignore[reportCallIssue, reportArgumentType]
        return 0.0


def _parameters(kind: str, size: int) -> nn.ParameterDict:
    """Those of one step, at the identity."""
    if kind == "Planar":
        return nn.ParameterDict({"w": torch.zeros(1, size), "u": torch.zeros(1, size), "b": torch.zeros(1)})
    level = torch.full((1,), math.log(math.log(2)))  # softplus(0) = log 2
    return nn.ParameterDict({"x0": torch.zeros(1, size), "log_alpha": level, "beta": torch.zeros(1)})


class FlowCenter(nn.Module):
    """The image (B, D) of the means of an encoder under a flow: where a search begins whose flow gives no density.

    Args:
        encoder: to means and log-scales.
        flow: of all examples.

    Example:
        >>> FlowCenter(nn.Linear(3, 4), PlanarRadialFlow(2, ["Planar"]))(torch.zeros(5, 3)).shape
        torch.Size([5, 2])
    """

    def __init__(self, encoder: nn.Module, flow: Flow):
        super().__init__()
        self.encoder = encoder
        self.flow = flow

    def forward(self, x: Float[Tensor, "B *event"]) -> Float[Tensor, "B D"]:
        mean = self.encoder(x).chunk(2, 1)[0]
        return self.flow(mean.unsqueeze(0)).z.squeeze(0)
