"""Which way to its derivatives a decoder needs; one that has none is refused in a line that names the layer."""

from collections.abc import Callable
from contextlib import suppress
from itertools import product
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from curvae.curvature.routes import layers
from curvae.curvature.routes.decoder_jacobians import (
    WAYS,
    Decoding,
    DerivativeMethod,
    Map,
    Taking,
    each,
    jvp,
    vector_products,
)
from curvae.model import LatentVariableModel
from curvae.networks import run_network

ROWS = 2
CLOSE = (1e-3, 1e-1)
"""Relative difference of what is the same but for rounding: in single precision, and where a decoder takes less."""

NOISY = ("one function of z in evaluation mode", "another output each time", "draw noise in training mode alone")
CUT = ("an output that follows z smoothly", "no slope", "leave out detach, no_grad, rounding and argmax")
MIXED = (
    "rows that do not depend on one another",
    "the slope of one row in another",
    "normalize within a row (LayerNorm, GroupNorm), or by running statistics",
)

_known: WeakKeyDictionary[nn.Module, dict[tuple[Any, ...], DerivativeMethod]] = WeakKeyDictionary()


class UnfitDecoderError(Exception):
    """What a function lacks: what was expected of it, what came, and the remedy."""

    def __init__(self, expected: str, got: str, remedy: str):
        super().__init__(expected, got, remedy)
        self.expected, self.got, self.remedy = expected, got, remedy


class Asked(NamedTuple):
    """What is asked of a decoder beside its Jacobian."""

    gradient: bool
    """That a gradient flows through it."""
    products: bool
    """Products J v without J."""


def decoding(model: LatentVariableModel, x: Tensor | None, z: Tensor, products: bool = False) -> Decoding:
    """``z -> eta`` of some data, in the precision of z, with the way to its derivatives.

    The way is found when a decoder is first seen, in evaluation mode and on two rows; chains of layers need no trial.

    Args:
        model: whose decoder it is.
        x: the data, for a decoder that is given them.
        z: like the points that will be asked for, (B, D).
        products: J v is needed without J.

    Raises:
        ValueError: the decoder is noisy, mixes rows or has no derivatives.
    """

    def decode(point: Tensor) -> Tensor:
        return model.decode(point, x, precise=True).to(point.dtype)

    if torch.compiler.is_compiling():
        return Decoding(decode, WAYS[0])
    gradient = torch.is_grad_enabled()
    seen, key = _known.setdefault(model.decoder, {}), (gradient, z.dtype, z.device, model.by_latents_alone)
    way = seen.get(key)
    if way is None or (way.taking is Taking.ROWS and products):
        way = seen[key] = _found(model, x, z, Asked(gradient, products))
    return Decoding(decode, way)


def _found(model: LatentVariableModel, x: Tensor | None, z: Tensor, asked: Asked) -> DerivativeMethod:
    if model.by_latents_alone and layers.chain(model.decoder):
        return WAYS[0]
    rows = torch.randn(ROWS, z.shape[-1], generator=torch.Generator().manual_seed(0)).to(z.device, z.dtype)
    given, pair = (x[:1].repeat_interleave(ROWS, 0),) if x is not None else (), model.of_first(ROWS)

    def decode(point: Tensor) -> Tensor:
        return pair.decode(point, *given, precise=True).to(point.dtype)

    with model.evaluating(), torch.inference_mode(False):
        try:
            return find_derivative_method(decode, model.decoder, rows, asked)
        except UnfitDecoderError as unfit:
            layer = _blamed(model.decoder, lambda: decode(rows), unfit, asked)
            raise ValueError(
                f"decoder: expected {unfit.expected}, got {unfit.got} from {layer}; {unfit.remedy}."
            ) from None


def find_derivative_method(function: Map, owner: nn.Module, z: Tensor, asked: Asked) -> DerivativeMethod:
    """The first way to the derivatives of a function of rows, tried at z.

    Raises:
        UnfitDecoderError: there is none.
    """
    _check(function, z)
    reason = ""
    for close, way in [*product(CLOSE, WAYS[:-1]), (CLOSE[-1], WAYS[-1])]:
        rows = way.taking is Taking.ROWS
        failure = _failure(Decoding(function, way), owner, z, asked.gradient and not rows, close)
        if failure is None:
            if rows and any(asked):
                raise _without("twice", reason, asked)
            return way
        reason = reason if rows else failure
    raise _without("once", reason, asked)


def _without(order: str, reason: str, asked: Asked) -> UnfitDecoderError:
    other = "take an inference without curvature (AmortizedGaussian)"
    if order == "twice":
        other = (
            "hold the posterior constant (Laplace(constant=True))" if asked.gradient else "take Laplace, which forms J"
        )
    remedy = f"write it in other operations of torch, or {other}"
    return UnfitDecoderError(f"layers that can be differentiated {order}", f"'{reason}'", remedy)


def _check(function: Map, z: Tensor) -> None:
    """Whether it is one function of z, with a slope, each row a function of its own z.

    Raises:
        UnfitDecoderError: it is not.
    """
    with torch.no_grad():
        function(z)  # what fails here is no matter of derivatives
    try:
        eta, again, slope = _slope(function, z)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise _without("once", _told(error), Asked(False, False)) from None
    if not _alike(eta, again, CLOSE[-1]):
        raise UnfitDecoderError(*NOISY)
    if slope is None:
        raise UnfitDecoderError(*CUT)
    if len(eta) == len(z) == ROWS and bool(slope[1].abs().max() > 1e-4 * slope.abs().max()):
        raise UnfitDecoderError(*MIXED)


@torch.enable_grad()
def _slope(function: Map, z: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
    """The value, the value again, and the slope of a number made of the first row."""
    point = z.detach().clone().requires_grad_()
    eta, again = function(point), function(point)
    weights = torch.arange(1.0, 1 + eta[0].numel(), device=eta.device).cos().view_as(eta[0])
    first = (eta[0] * weights).sum()
    slope = torch.autograd.grad(first, point, allow_unused=True)[0] if first.requires_grad else None
    return eta.detach(), again.detach(), slope


def _failure(decode: Decoding, owner: nn.Module, z: Tensor, gradient: bool, close: float) -> str | None:
    """What keeps a way from giving J'u, J v and their gradient; None where nothing does."""
    point = z.detach().clone().requires_grad_(gradient)
    try:
        with torch.set_grad_enabled(gradient):
            numbers = _numbers(decode, point)
        found = [one.detach() for one in numbers]
        if gradient:
            found += [_gradient(one.sum(), [point, *owner.parameters()]) for one in numbers]
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        return _told(error)
    count = len(numbers)
    values, gradients = found[:count], found[count:]
    same = all((values[0] - other).abs().max() <= close for other in values[1:])
    same = same and all(_alike(gradients[0], other, close) for other in gradients[1:])
    return None if same else "derivatives that are not those of its values"


def _numbers(decode: Decoding, z: Tensor) -> list[Tensor]:
    """``u'J v`` by each of the ways to it that are used: from J'u, and from J v by one pass or another.

    In units of ``|J'u| |v|``, the most that it can be: where it nearly vanishes, rounding may be all that is left.
    """
    near = vector_products(decode, z)
    u, v = (torch.stack([like, 1 + like.sin()]).detach() for like in (near.eta, z))
    slope = each(decode, near.pull, u)
    most = _dots(slope.detach(), slope.detach()).sqrt() * _dots(v, v).sqrt()
    numbers = [_dots(slope, v)]
    if decode.way.taking is not Taking.ROWS:
        _ = near.transposed
        numbers.append(_dots(u, each(decode, near.push, v)))
    if decode.way.taking is Taking.FORWARD:
        numbers.append(_dots(u, each(decode, lambda one: jvp(decode, z, one), v)))
    return [number / most.clamp(min=torch.finfo(most.dtype).tiny) for number in numbers]


def _dots(some: Tensor, others: Tensor) -> Tensor:
    """The inner product of each pair."""
    return (some * others).flatten(1).sum(1)


def _gradient(total: Tensor, at: list[Tensor]) -> Tensor:
    """In one row, with respect to what has one."""
    at = [one for one in at if one.requires_grad]
    if not total.requires_grad:
        return torch.zeros(sum(one.numel() for one in at), device=total.device)
    found = torch.autograd.grad(total, at, retain_graph=True, materialize_grads=True)
    return torch.cat([one.flatten().float() for one in found])


def _alike(one: Tensor, other: Tensor, close: float) -> bool:
    return not bool((one - other).abs().max() > close * one.abs().max())


def _told(error: Exception) -> str:
    return " ".join(str(error).split())[:120].rstrip(".;, ")


def _blamed(decoder: nn.Module, run: Callable[[], Tensor], unfit: UnfitDecoderError, asked: Asked) -> str:
    """The first layer that lacks the same by itself, a part before its whole; else the decoder."""
    for name, layer, (given, *others) in _calls(decoder, run):
        if isinstance(given, Tensor) and given.is_floating_point():

            def alone(h: Tensor, layer: nn.Module = layer, others: Any = others) -> Tensor:
                out = run_network(layer, h, *others, precise=True)
                return next(one for one in tree_leaves(out) if isinstance(one, Tensor) and one.is_floating_point())

            with suppress(Exception):
                try:
                    find_derivative_method(alone, layer, given, asked)
                except UnfitDecoderError as own:
                    if own.expected == unfit.expected:
                        unfit.got = own.got
                        return f"layer {name!r} ({type(layer).__name__})"
    return type(decoder).__name__


def _calls(decoder: nn.Module, run: Callable[[], Tensor]) -> list[tuple[str, nn.Module, tuple[Any, ...]]]:
    """The layers in the order in which they end, and what they were given."""
    calls, handles = [], []
    for name, layer in decoder.named_modules():
        if name and not isinstance(layer, torch.jit.ScriptModule):

            def seen(layer: nn.Module, given: tuple[Any, ...], out: Any, name: str = name) -> None:
                calls.append((name, layer, given or (None,)))

            handles.append(layer.register_forward_hook(seen))
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    return calls
