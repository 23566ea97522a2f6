"""Features for comparing samples with data that need no download: fixed random convolutions, or whitened columns."""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn import functional

Features = Callable[[Float[Tensor, "N *event"]], Float[Tensor, "N F"]]

KEPT = 64
"""Most principal components."""
CHANNELS = (32, 64)
SMALLEST = 8
"""Pixels of the shorter side of what counts as an image."""
FLAT = 1e-3
"""Share of the largest variance below which a direction of a table is left out."""


def is_image(x: Float[Tensor, "N *event"]) -> bool:
    """Whether data are images (N, C, H, W) of 8 pixels or more."""
    return x.ndim == 4 and min(x.shape[2:]) >= SMALLEST


def fit_features(x: Float[Tensor, "N *event"]) -> tuple[Features, str]:
    """Features for data like these, and what they are in words.

    Images: two layers of 3 x 3 convolutions with fixed random weights (32 and 64 channels, stride 2, ReLU), averaged to
    4 x 4 places, then the first 64 principal components, scaled together to a mean square of 1. Tables: principal
    components, each of variance 1, without those below a thousandth of the largest variance.

    Example:
        >>> features, words = fit_features(torch.randn(50, 3))
        >>> features(torch.randn(7, 3)).shape, words
        (torch.Size([7, 3]), 'whitened columns')
    """
    if not is_image(x):
        return _principal(x.flatten(1), whiten=True), "whitened columns"
    center, scale = x.mean(), x.std().clamp(min=1e-12)

    def seen(images: Tensor) -> Tensor:
        return torch.cat([_convolved(part) for part in ((images - center) / scale).split(500)])

    project = _principal(seen(x), whiten=False)
    return lambda images: project(seen(images)), "random convolutional features"


def _convolved(images: Float[Tensor, "N C H W"]) -> Float[Tensor, "N F"]:
    generator = Generator().manual_seed(0)
    for channels in CHANNELS:
        fan = images.shape[1] * 9
        weight = torch.randn(channels, images.shape[1], 3, 3, generator=generator) * math.sqrt(2 / fan)
        images = functional.conv2d(images, weight, stride=2, padding=1).relu()
    return functional.adaptive_avg_pool2d(images, min(4, *images.shape[2:])).flatten(1)


def _principal(x: Float[Tensor, "N F"], whiten: bool) -> Features:
    mean = x.mean(0)
    _, s, axes = torch.linalg.svd((x - mean).double(), full_matrices=False)
    kept = min(KEPT, int((s**2 > FLAT * s[0] ** 2).sum())) if whiten else min(KEPT, len(s))
    scale = s[:kept] if whiten else s[:kept].square().mean().sqrt()
    turn = axes[:kept].mT / scale * math.sqrt(len(x) - 1)
    return lambda points: (points.flatten(1) - mean).double() @ turn
