"""The maximum-likelihood fit of a linear-Gaussian state-space model, by expectation maximization."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from curvae.linear.ppca import ppca
from curvae.linear.state_space import Filtered, States, StateSpace

JITTER = 1e-6
"""Least variance of a state's noise, relative to the variance of the states at the start, which is 1."""


def fit_state_space(
    x: Shaped[Tensor, "N T F"],
    latent: int,
    mask: Bool[Tensor, "N T F"] | None = None,
    shared: bool = False,
    floor: float = 1e-6,
    rounds: int = 50,
    tolerance: float = 1e-4,
) -> StateSpace:
    """EM from principal components of the frames, until a round gains less than ``tolerance`` nats a sequence.

    Reference: Shumway and Stoffer, *An Approach to Time Series Smoothing and Forecasting Using the EM Algorithm*,
    J. Time Series Analysis 1982; Ghahramani and Hinton, CRG-TR-96-2, 1996.

    Args:
        x: the sequences; what stands where ``mask`` is False is not looked at.
        latent: D.
        mask: True = observed.
        shared: whether all elements of a frame have one variance of the noise.
        floor: the least variance of the noise.
        rounds: of EM, at most.
        tolerance: in nats a sequence.

    Raises:
        ValueError: fewer than 2 frames, which say nothing of a transition, or fewer than 1 latent.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> walk = torch.randn(40, 12, 1).cumsum(1) + 0.1 * torch.randn(40, 12, 1)
        >>> f"{fit_state_space(walk, 1).transition.item():.1f}"
        '1.0'
    """
    if x.shape[1] < 2 or latent < 1:
        raise ValueError(f"fit_state_space: expected 2 frames and 1 latent or more; got {x.shape[1]} and {latent}.")
    seen = None if mask is None or bool(mask.all()) else mask
    x = x.double() if seen is None else torch.where(seen, x.double(), 0)
    model, before = started(x, seen, latent, floor), -torch.inf
    for _ in range(rounds):
        filtered = model.filter(x, seen)
        after = float(filtered.log_prob.sum(1).mean())
        if after - before < tolerance:
            break
        model, before = maximized(model, filtered, x, seen, shared, floor), after
    return model


def started(x: Float[Tensor, "N T F"], seen: Bool[Tensor, "N T F"] | None, latent: int, floor: float) -> StateSpace:
    """States are principal components of the frames, of variance 1; each follows the one before by least squares.

    Latents beyond as many as frames have elements begin as noise of their own.
    """
    seen = torch.ones_like(x, dtype=torch.bool) if seen is None else seen
    frames, whole = x.flatten(0, 1), seen.flatten(0, 1)
    rows = whole.any(1)
    size = frames.shape[1]
    mean = frames.sum(0) / whole.sum(0).clamp(min=1)
    filled = torch.where(whole, frames, mean)
    fitted = ppca(filled[rows], min(latent, size - 1), floor=floor) if size > 1 else None
    scale = filled[rows].std(0)
    weight = scale.reshape(1, 1) if fitted is None else fitted.weight
    noise = (0.1 * scale**2 if fitted is None else fitted.noise).clamp(min=floor)
    more = 0.1 * torch.randn(size, latent, generator=torch.Generator().manual_seed(0), dtype=x.dtype) * scale[:, None]
    weight = torch.cat([weight, more], 1)[:, :latent]
    z = (filled - mean) @ torch.linalg.pinv(weight).mT
    z = z.unflatten(0, x.shape[:2])
    both = seen[:, 1:].any(2) & seen[:, :-1].any(2)
    one, two = z[:, :-1][both], z[:, 1:][both]
    eye = torch.eye(latent, dtype=x.dtype)
    transition = torch.linalg.solve(one.mT @ one + eye, one.mT @ two).mT
    return StateSpace(0 * eye[0], eye, transition, 0.5 * eye, weight, mean, noise)


def maximized(
    model: StateSpace,
    filtered: Filtered,
    x: Float[Tensor, "N T F"],
    seen: Bool[Tensor, "N T F"] | None,
    shared: bool = False,
    floor: float = 1e-6,
) -> StateSpace:
    """One round: moments of the states given the sequences, then the likeliest model given these.

    ``A = (sum E z_t+1 z_t')(sum E z_t z_t')^-1``, ``Q`` the mean of what it leaves, (C, offset) of each element a least
    squares fit to (z, 1) over its observed frames, and the noise what that leaves.
    """
    smoothed = model.smooth(filtered)
    mean, covariance = smoothed.states
    second = covariance + mean.unsqueeze(-1) * mean.unsqueeze(-2)
    cross = (smoothed.between + mean[:, 1:].unsqueeze(-1) * mean[:, :-1].unsqueeze(-2)).sum((0, 1))
    before, after = second[:, :-1].sum((0, 1)), second[:, 1:].sum((0, 1))
    transition = torch.linalg.solve(before, cross.mT).mT
    eye = torch.eye(len(model.start), dtype=x.dtype)
    process = (after - transition @ cross.mT) / (len(x) * (x.shape[1] - 1))
    start = mean[:, 0].mean(0)
    spread = second[:, 0].mean(0) - start.outer(start)
    dynamics = replace(
        model,
        start=start,
        spread=_symmetric(spread) + JITTER * eye,
        transition=transition,
        process=_symmetric(process) + JITTER * eye,
    )
    return _emission(dynamics, smoothed.states, x, seen, shared, floor)


def _emission(
    model: StateSpace, states: States, x: Tensor, seen: Tensor | None, shared: bool, floor: float
) -> StateSpace:
    """With the likeliest emission and noise; of whole sequences the moments of states serve all elements."""
    size, width = len(model.start), x.shape[2]
    z = torch.cat([states.mean, torch.ones_like(states.mean[..., :1])], -1)
    if seen is None:
        values, count = x.flatten(0, 1), torch.full((width,), float(len(x) * x.shape[1])).to(x)
        gram = torch.einsum("ntd,nte->de", z, z)
        gram[:size, :size] += len(x) / len(states.covariance) * states.covariance.sum((0, 1))
        gram = gram.expand(width, -1, -1)
    else:
        on, values = seen.to(x.dtype).flatten(0, 1), torch.where(seen, x, 0).flatten(0, 1)
        second = z.unsqueeze(3) * z.unsqueeze(2)
        second[..., :size, :size] += states.covariance
        gram = (on.mT @ second.flatten(0, 1).flatten(1)).unflatten(1, (size + 1, size + 1))
        count = on.sum(0)
    cross = values.mT @ z.flatten(0, 1)
    fit = torch.linalg.solve(gram, cross)
    left = values.square().sum(0) - 2 * (fit * cross).sum(1) + torch.einsum("pd,pde,pe->p", fit, gram, fit)
    noise = (left.sum() / count.sum()).expand(len(left)) if shared else left / count
    return replace(model, emission=fit[:, :size], offset=fit[:, size], noise=noise.clamp(min=floor).clone())


def _symmetric(matrix: Float[Tensor, "D D"]) -> Float[Tensor, "D D"]:
    return 0.5 * (matrix + matrix.mT)
