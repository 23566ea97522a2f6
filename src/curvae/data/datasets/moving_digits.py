"""Moving digits: pictures of digits that go around, a pixel to the left or to the right a frame; made when opened."""

import numpy as np

from curvae.data.datasets.fetch import Files
from curvae.data.datasets.mnist import mnist
from curvae.data.datasets.sources import Part, PublishedSet, digits

FRAMES = 20
LARGE = 5_000, 1_000
"""Training and test sequences of the large digits: 94 MB in all."""


def moving_digits(files: Files) -> PublishedSet:
    """1,797 sequences (20, 8, 8) of the handwritten digits that scikit-learn ships, grey levels 0..16."""
    source = digits(files)
    return PublishedSet("moving-digits", _rolled_part(source.train, 0), levels=source.levels)


def moving_digits28(files: Files) -> PublishedSet:
    """5,000 + 1,000 sequences (20, 28, 28) of the first digits of MNIST, training and test."""
    source = mnist(files)
    assert source.test is not None
    first, second = (_head(part, count) for part, count in zip((source.train, source.test), LARGE, strict=True))
    return PublishedSet("moving-digits28", _rolled_part(first, 0), _rolled_part(second, 1))


def _head(part: Part, count: int) -> Part:
    return Part(part.x[:count], None if part.label is None else part.label[:count])


def _rolled_part(part: Part, seed: int) -> Part:
    """The pictures of a part in motion, each in a direction by chance, the same every time."""
    signs = 2 * np.random.default_rng(seed).integers(0, 2, len(part.x)) - 1
    return Part(rolled_pictures(part.x[:, 0], signs, FRAMES), part.label)


def rolled_pictures(pictures: np.ndarray, signs: np.ndarray, frames: int) -> np.ndarray:
    """Pictures ``(N, H, W)`` to sequences ``(N, T, H, W)``: frame t is t pixels to the right times the sign, wrapped.

    >>> rolled_pictures(np.array([[[7, 0, 0]]]), np.array([-1]), 3)[0, :, 0].tolist()
    [[7, 0, 0], [0, 0, 7], [0, 7, 0]]
    """
    width = pictures.shape[-1]
    shift = np.arange(frames) * signs[:, None]
    columns = (np.arange(width) - shift[..., None]) % width
    return np.take_along_axis(pictures[:, None], columns[:, :, None], axis=-1)
