"""Shortest curves between two codes, in the metric that decoders give the latent space."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.argument_checks import check_least
from curvae.model import LatentVariableModel, require_continuous
from curvae.weights import AveragedModel

Decode = Callable[[Float[Tensor, "N D"]], Float[Tensor, "M N P"]]
"""What M decoders, drawn from a posterior over weights, make of codes; of a single one M is 1."""
COARSEST = 4
"""Segments of the first curve that is found; then their number doubles."""


class Geodesics(NamedTuple):
    """Curves of N segments between B pairs of codes; lengths are in the units of what the decoders give."""

    points: Float[Tensor, "B S D"]
    """N + 1 on each curve, about equally far from one another in the metric."""
    length: Float[Tensor, " B"]
    energy: Float[Tensor, " B"]
    """At least ``length^2``, and that where the points are equally far apart."""
    straight_length: Float[Tensor, " B"]
    """Of the straight line between the codes."""
    straight_energy: Float[Tensor, " B"]


def geodesics(
    decode: Decode,
    start: Float[Tensor, "B D"],
    end: Float[Tensor, "B D"],
    segments: int = 32,
    steps: int = 100,
) -> Geodesics:
    r"""Curves of least energy under the expected pull-back metric ``G(z) = E[J'J]``, over draws of the decoder.

    ``energy = int c' G(c) c' dt``, of a curve c in N segments ``N sum_i E |f(c_i+1) - f(c_i)|^2``, with the same draws
    f at both ends of each; ``length = sum_i sqrt(E |f(c_i+1) - f(c_i)|^2)``, short of the integral by ``O(1 / N^2)``.
    Where draws disagree the metric is large, so that curves keep to where the data are. L-BFGS moves the inner points,
    first of 4 segments from the straight line, then of twice as many each time. Where that ends above the energy of the
    straight line, they set out from this line with all segments; a curve that is still no better is the line.
    What is found is a local minimum.

    Args:
        decode: f, differentiable.
        start: codes.
        end: codes.
        segments: N, a power of two times 4.
        steps: of L-BFGS, for each number of segments.

    Raises:
        ValueError: another number of segments, or fewer than 1 step.

    Reference: Miani et al., *Laplacian Autoencoders for Learning Stochastic Representations*, NeurIPS 2022, with
    Tosi, Hauberg, Vellido and Lawrence, *Metrics for Probabilistic Geometries*, UAI 2014, for the expected metric.

    Example:
        >>> flat = lambda z: (2 * z).unsqueeze(0)
        >>> found = geodesics(flat, torch.zeros(1, 2), torch.tensor([[3.0, 4.0]]))
        >>> round(found.length.item(), 4), found.points.shape
        (10.0, torch.Size([1, 33, 2]))
    """
    check_least("geodesics", 1, steps=steps)
    if segments < COARSEST or (segments & (segments - 1)) or segments % COARSEST:
        raise ValueError(f"geodesics: segments: expected 4, 8, 16, 32, ...; got {segments}.")
    start, end = start.detach(), end.detach()
    points, size = _straight(start, end, COARSEST), COARSEST
    while True:
        points = _relaxed(decode, points, steps)
        if size >= segments:
            break
        points, size = _halved(points), 2 * size
    straight = _straight(start, end, segments)
    found = _better(decode, points, straight)
    worse = (found == straight).all(-1).all(-1)
    if bool(worse.any()):
        found[worse] = _better(decode, _relaxed(decode, straight[worse], steps), straight[worse])
    with torch.no_grad():
        squares = [_squares(decode, each) for each in (found, straight)]
    energy, length = ([each(value) for value in squares] for each in (lambda v: segments * v.sum(1), _length))
    return Geodesics(found, length[0], energy[0], length[1], energy[1])


def mean_decoder(model: LatentVariableModel) -> Decode:
    """Means of x given codes, flat: by each of the draws that a model averages over, or by the one decoder there is.

    Raises:
        ValueError: discrete latents, or a decoder that also sees x.
    """
    require_continuous(model, "geodesics")
    if model.autoregressive:
        raise ValueError("geodesics: expected a decoder of latents alone, got one that also sees x.")
    members = list(model.members) if isinstance(model, AveragedModel) else [model]
    each = [member.reference() for member in members if isinstance(member, LatentVariableModel)]
    return lambda z: torch.stack([member.expectation(z).flatten(1) for member in each])


def decoded_spread(decode: Decode, z: Float[Tensor, "N D"]) -> Float[Tensor, " N"]:
    """How much draws of the decoder disagree: the root of the mean variance of what they give."""
    return decode(z).var(0, correction=0).mean(-1).sqrt()


@torch.no_grad()
def _better(decode: Decode, points: Float[Tensor, "B S D"], straight: Float[Tensor, "B S D"]) -> Float[Tensor, "B S D"]:
    """Each curve whose energy is below that of the straight line, else the line."""
    energy, line = (_squares(decode, each).sum(1) for each in (points, straight))
    return torch.where((energy < line)[:, None, None], points, straight)


def _length(squares: Float[Tensor, "B N"]) -> Float[Tensor, " B"]:
    return squares.sqrt().sum(1)


def _straight(start: Tensor, end: Tensor, segments: int) -> Float[Tensor, "B S D"]:
    share = torch.linspace(0, 1, segments + 1).to(start).reshape(1, -1, 1)
    return torch.lerp(start.unsqueeze(1), end.unsqueeze(1), share)


def _halved(points: Float[Tensor, "B S D"]) -> Float[Tensor, "B T D"]:
    """With a point between each two."""
    middle = (points[:, 1:] + points[:, :-1]) / 2
    return torch.cat([torch.stack([points[:, :-1], middle], 2).flatten(1, 2), points[:, -1:]], 1)


def _squares(decode: Decode, points: Float[Tensor, "B S D"]) -> Float[Tensor, "B N"]:
    """``E |f(c_i+1) - f(c_i)|^2`` of each segment."""
    found = decode(points.flatten(0, 1)).unflatten(1, points.shape[:2])
    return found.diff(dim=2).square().sum(-1).mean(0)


def _relaxed(decode: Decode, points: Float[Tensor, "B S D"], steps: int) -> Float[Tensor, "B S D"]:
    """The inner points where the energy is least, near where they were."""
    with torch.enable_grad():
        inner = points[:, 1:-1].clone(memory_format=torch.contiguous_format).requires_grad_(True)
        scale = float(_squares(decode, points).sum().detach()) or 1.0
        search = torch.optim.LBFGS(
            [inner], max_iter=steps, tolerance_grad=1e-9, tolerance_change=1e-12, line_search_fn="strong_wolfe"
        )

        def energy() -> Tensor:
            whole = torch.cat([points[:, :1], inner, points[:, -1:]], 1)
            value = _squares(decode, whole).sum() / scale
            inner.grad = torch.autograd.grad(value, inner)[0].contiguous()
            return value.detach()

        search.step(energy)  # pyright: ignore[reportArgumentType]
    found = torch.cat([points[:, :1], inner.detach(), points[:, -1:]], 1)
    return torch.where(found.isfinite().all(), found, points)
