"""Continuous flows: points move along a velocity that a network gives, for a unit of time."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from curvae.argument_checks import check_least
from curvae.flows.flow import InvertibleFlow, Transformed

REFINED = 3
"""Newton steps of the way back, which begins with an error of the fourth order in the length of a step."""
TIMES = 3
"""Cosines and sines of time that the network sees."""


class Continuous(InvertibleFlow):
    r"""``z(1)``, where ``dz/dt = v(z, t, c)`` and ``z(0) = z``: K steps of the classical Runge-Kutta method.

    The map of these K steps is the flow, and the derivative of each is carried along, ``T <- dstep/dz T`` from
    ``T = I``: so ``log |det| = log |det T|`` is exact for what is drawn, however coarse the steps. The way back takes
    the steps with their signs turned, and then Newton's method on the map itself, to rounding.

    Cost: 4 K passes of the network for z and D columns of T; a factor of ``1 + D`` over a pass, and ``D^3`` once.

    Reference: Chen, Rubanova, Bettencourt and Duvenaud, *Neural Ordinary Differential Equations*, NeurIPS 2018;
    Grathwohl, Chen, Bettencourt, Sutskever and Duvenaud, *FFJORD*, ICLR 2019.

    Differences: steps of one length, so that an example alone has the numbers that it has in a batch; the determinant
    of the discrete map in the place of the integral of the trace, which theirs estimates by random probes (Hutchinson):
    weights of such draws are not those of a density.

    Args:
        size: number of dimensions D.
        context: number of values of each example that the network sees; 0 for one flow of all examples.
        steps: K.
        hidden: widths of the network's hidden layers (tanh).

    Raises:
        ValueError: size or steps below 1, or a negative context.

    Example:
        >>> flow = Continuous(size=3, context=8, steps=2, hidden=[16])
        >>> context = torch.randn(4, 8)
        >>> moved = flow(z := torch.randn(5, 4, 3), context)
        >>> bool(torch.allclose(flow.inverse(moved.z, context).z, z, atol=1e-5))
        True
    """

    def __init__(self, size: int, context: int, steps: int = 4, hidden: Sequence[int] = (64, 64)):
        super().__init__()
        check_least("Continuous", 1, size=size, steps=steps)
        check_least("Continuous", 0, context=context)
        self.size = size
        self.context = context
        self.steps = steps
        self.cheap = "both"
        widths = [size + context + 2 * TIMES, *hidden, size]
        self.layers = nn.ModuleList(nn.Linear(*each) for each in pairwise(widths))

    def forward(self, z: Float[Tensor, "S B D"], context: Float[Tensor, "B C"] | None = None) -> Transformed:
        end, slope = self._moved(z, context)
        return Transformed(end, torch.linalg.slogdet(slope)[1])

    def inverse(self, z: Float[Tensor, "S B D"], context: Float[Tensor, "B C"] | None = None) -> Transformed:
        begin = self._moved(z, context, back=True)[0]
        for _ in range(REFINED):
            end, slope = self._moved(begin, context)
            begin = begin + torch.linalg.solve(slope.mT, (z - end).unsqueeze(-1)).squeeze(-1)
        return Transformed(begin, -torch.linalg.slogdet(self._moved(begin, context)[1])[1])

    @torch.no_grad()
    def start_at_identity(self, weight: Float[Tensor, "C H"], bias: Float[Tensor, " C"]) -> float:
        """The velocity is 0."""
        for value in self.layers[-1].parameters():
            value.zero_()
        return 0.0

    def jacobian(
        self, z: Float[Tensor, "S B D"], context: Float[Tensor, "B C"] | None = None
    ) -> Float[Tensor, "S B D D"]:
        """``df_i/dz_j``."""
        return self._moved(z, context)[1].mT

    def _moved(
        self, z: Float[Tensor, "S B D"], context: Float[Tensor, "B C"] | None, back: bool = False
    ) -> tuple[Float[Tensor, "S B D"], Float[Tensor, "S B D D"]]:
        """The end of K steps, and its derivative, a row for each ``z_j``."""
        step, time = (-1 / self.steps, 1.0) if back else (1 / self.steps, 0.0)
        slope = torch.eye(self.size, dtype=z.dtype, device=z.device).expand(*z.shape, self.size)
        for _ in range(self.steps):
            first = self._velocity(z, slope, time, context)
            second = self._velocity(*_ahead(z, slope, first, step / 2), time + step / 2, context)
            third = self._velocity(*_ahead(z, slope, second, step / 2), time + step / 2, context)
            fourth = self._velocity(*_ahead(z, slope, third, step), time + step, context)
            parts = zip(first, second, third, fourth, strict=True)
            z_rate, slope_rate = ((one + 2 * two + 2 * three + four) / 6 for one, two, three, four in parts)
            z, slope = _ahead(z, slope, (z_rate, slope_rate), step)
            time = time + step
        return z, slope

    def _velocity(self, z: Tensor, slope: Tensor, time: float, context: Tensor | None) -> tuple[Tensor, Tensor]:
        """``v(z, t, c)`` and the rows of ``dv/dz T``, layer by layer."""
        first, *others = (each for each in self.layers if isinstance(each, nn.Linear))
        turns = torch.pi * time * torch.arange(1, TIMES + 1, dtype=z.dtype, device=z.device)
        known = torch.cat([turns.cos(), turns.sin()]).expand(*z.shape[:-1], -1)
        given = [] if context is None or not self.context else [context.expand(*z.shape[:-1], -1)]
        h, moved = first(torch.cat([z, known, *given], -1)), linear(slope, first.weight[:, : self.size])
        for layer in others:
            h = h.tanh()
            moved = linear((1 - h.square()).unsqueeze(-2) * moved, layer.weight)
            h = layer(h)
        return h, moved


def _ahead(z: Tensor, slope: Tensor, rate: tuple[Tensor, Tensor], step: float) -> tuple[Tensor, Tensor]:
    return z + step * rate[0], slope + step * rate[1]
