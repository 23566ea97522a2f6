"""Autoregressive flows: each dimension is mapped by what masked networks say of those before it, and of the example."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from zuko.flows import MaskedAutoregressiveTransform
from zuko.utils import unpack

from curvae.argument_checks import check_least
from curvae.flows.flow import InvertibleFlow, Transformed
from curvae.flows.univariate import Univariate, gated


class Autoregressive(InvertibleFlow):
    """``z_i <- g(z_i; a_i(z_<i, c))``, K times, the order of the dimensions reversed from one step to the next.

    g is increasing, a a masked network, so ``log |det| = sum_i log g'(z_i)``. One pass of the networks maps all
    dimensions: draws are cheap, and they know their density. The way back, for the density at another z, takes
    ``passes`` of them. With D passes and :func:`gated` maps this is inverse autoregressive flow; with 2 passes it is a
    coupling flow, cheap both ways: one half of the dimensions is mapped by c, the other by c and the first half.

    Reference: Kingma, Salimans, Jozefowicz, Chen, Sutskever and Welling, *Improved Variational Inference with Inverse
    Autoregressive Flow*, NIPS 2016; Dinh, Sohl-Dickstein and Bengio, *Density Estimation Using Real NVP*, ICLR 2017.

    Differences: in a coupling step the half that conditions is itself mapped, by c alone, instead of copied.

    Args:
        size: number of dimensions D.
        context: number of values of each example that the networks see; 0 for one flow of all examples.
        steps: number K of maps.
        hidden: widths of each network's hidden layers.
        univariate: the family of g.
        passes: groups that the dimensions are split into; D if None.

    Raises:
        ValueError: size, steps or passes below 1, or a negative context.

    Example:
        >>> flow = Autoregressive(size=3, context=8, steps=2, hidden=[16])
        >>> moved = flow(torch.randn(5, 4, 3), torch.randn(4, 8))
        >>> moved.z.shape, moved.log_det.shape, bool((moved.log_det <= 0).all())
        (torch.Size([5, 4, 3]), torch.Size([5, 4]), True)
    """

    def __init__(
        self,
        size: int,
        context: int,
        steps: int = 2,
        hidden: Sequence[int] = (128, 128),
        univariate: Univariate | None = None,
        passes: int | None = None,
    ):
        super().__init__()
        check_least("Autoregressive", 1, size=size, steps=steps, passes=passes)
        check_least("Autoregressive", 0, context=context)
        self.size = size
        self.context = context
        self.passes = min(passes or size, size)
        self.cheap = "both" if passes is not None and passes <= 2 else "forward"
        make, shapes, self.slope = univariate or gated()
        network: dict[str, Any] = {"hidden_features": hidden, "activation": nn.ELU}
        order: list[Any] = [torch.arange(size), torch.arange(size).flip(0)]
        self.steps = nn.ModuleList(
            MaskedAutoregressiveTransform(size, context, passes, order[k % 2], None, make, shapes, **network)
            for k in range(steps)
        )

    def forward(self, z: Float[Tensor, "S B D"], context: Float[Tensor, "B C"] | None = None) -> Transformed:
        log_det = torch.zeros_like(z[..., 0])
        for step in self.steps:
            z, stretch = step(context).call_and_ladj(z)
            log_det = log_det + stretch
        return Transformed(z, log_det)

    @torch.no_grad()
    def start_at_identity(self, weight: Float[Tensor, "C H"], bias: Float[Tensor, " C"]) -> float:
        """The networks say 0; where there are none (one dimension without a context), so do the numbers themselves."""
        for step in self.steps:
            *_, last = dict(step.named_children()).get("hyper", nn.Sequential(step)).children()
            for each in last.parameters():
                each.zero_()
        return len(self.steps) * self.slope

    def jacobian(
        self, z: Float[Tensor, "S B D"], context: Float[Tensor, "B C"] | None = None
    ) -> Float[Tensor, "S B D D"]:
        """``df/dz`` at each z: the networks' slopes by hand, over what depends on something, not by D derivatives."""
        product = torch.eye(self.size, dtype=z.dtype, device=z.device).expand(*z.shape, self.size)
        for number, step in enumerate(self.steps):
            z, slope = self._moved(step, z, context, self._dependent(number))
            product = slope @ product
        return product

    def _dependent(self, number: int) -> tuple[slice, slice]:
        """The dimensions whose maps a step's network decides, and those that it sees."""
        size, first = self.size, -(-self.size // self.passes)
        last = size - first * ((size - 1) // first)
        if number % 2:
            return slice(0, size - first), slice(last, size)
        return slice(first, size), slice(0, size - last)

    def _moved(
        self, step: nn.Module, z: Float[Tensor, "S B D"], context: Tensor | None, dependent: tuple[slice, slice]
    ) -> tuple[Tensor, Float[Tensor, "S B D D"]]:
        """Where a step moves z, and its Jacobian: ``dg_i/dz_i`` on the diagonal and ``dg_i/da_i da_i/dz`` beside it."""
        if not isinstance(step, MaskedAutoregressiveTransform):  # a single dimension, which its map alone moves
            image, stretch = step(context).call_and_ladj(z)
            return image, stretch.exp()[..., None, None]
        values = [z if context is None else torch.cat([z, context.expand(*z.shape[:-1], -1)], -1)]
        for layer in step.hyper:
            values.append(layer(values[-1]))
        a = values[-1].unflatten(-1, (self.size, -1))
        image, pull = torch.func.vjp(lambda at, said: step.univariate(*unpack(said, step.shapes))(at), z, a)[:2]
        own, through = pull(torch.ones_like(image))  # each g_i is of z_i and a_i alone: these are all its slopes
        return image, torch.diag_embed(own) + _pulled(step.hyper, values, through, *dependent)

    def inverse(self, z: Float[Tensor, "S B D"], context: Float[Tensor, "B C"] | None = None) -> Transformed:
        log_det = torch.zeros_like(z[..., 0])
        for number, step in reversed([*enumerate(self.steps)]):
            z, stretch = self._undone(number, step, z, context)
            log_det = log_det - stretch
        return Transformed(z, log_det)

    def _undone(
        self, number: int, step: Any, y: Float[Tensor, "S B D"], context: Tensor | None
    ) -> tuple[Float[Tensor, "S B D"], Float[Tensor, "S B"]]:
        """Where a step came from and its log-determinant there: group by group, each by what those before it say."""
        if not isinstance(step, MaskedAutoregressiveTransform):
            law = step(context)
            return (z := law.inv(y)), law.call_and_ladj(z)[1]
        z, total, first = torch.zeros_like(y), torch.zeros_like(y[..., 0]), -(-self.size // self.passes)
        for begin in range(0, self.size, first):
            group = slice(begin, min(begin + first, self.size))
            place = slice(self.size - group.stop, self.size - group.start) if number % 2 else group
            seen = z if begin or context is not None else z[:1, :1]  # the first group sees the context alone
            law: Any = step.univariate(*unpack(_said(step.hyper, seen, context, place, self.size), step.shapes))
            part = law.inv(y[..., place])
            z = z + nn.functional.pad(part, (place.start, self.size - place.stop))
            total = total + law.call_and_ladj(part)[1].sum(-1)
        return z, total


def _said(
    network: Any, z: Float[Tensor, "S B D"], context: Tensor | None, place: slice, size: int
) -> Float[Tensor, "S B d T"]:
    """What a step's network says of some of the dimensions: of its last layer only their rows are computed."""
    *layers, last = network
    value = z if context is None else torch.cat([z, context.expand(*z.shape[:-1], -1)], -1)
    for layer in layers:
        value = layer(value)
    rows = slice(*(end * (last.out_features // size) for end in (place.start, place.stop)))
    return nn.functional.linear(value, _masked(last)[rows], last.bias[rows]).unflatten(
        -1, (place.stop - place.start, -1)
    )


def _pulled(
    network: nn.Sequential,
    values: list[Float[Tensor, "S B _H"]],
    through: Float[Tensor, "S B D T"],
    of: slice,
    by: slice,
) -> Float[Tensor, "S B D D"]:
    """``sum_t through_it da_it/dz_j`` for the i and j that depend, by what the layers gave; else 0."""
    (first, *hidden, last), (size, count) = network, through.shape[-2:]
    weight = _masked(last).unflatten(0, (size, count))
    shape, rows = through.shape[:-2], through[..., of, :].flatten(0, -3).movedim(0, 1) @ weight[of]  # (D, N, H)
    for layer, value in zip(reversed(hidden), reversed(values[2:-1]), strict=True):
        if isinstance(layer, nn.ELU):
            rows = rows * torch.where(value > 0, 1.0, value + 1).flatten(0, -2)
        else:
            rows = rows @ _masked(layer)
    part = (rows @ _masked(first)[:, by]).movedim(0, 1).unflatten(0, shape)
    return nn.functional.pad(part, (by.start, size - by.stop, of.start, size - of.stop))


def _masked(layer: Any) -> Float[Tensor, "_out _in"]:
    return layer.mask * layer.weight
