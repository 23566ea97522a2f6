"""What the complexity of a picture alone says, and log p(x) without it."""

import zlib
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, UInt8
from numpy.typing import NDArray

from curvae.data import ArrayTable
from curvae.evaluation.ood.likelihood_matrix import PerRow

GREY = 255
"""Levels of a picture above 0, as it is compressed."""


def compressed_nats(pictures: UInt8[NDArray[np.uint8], "N C H W"]) -> PerRow:
    """The length of each picture without loss, in nats: the shortest of three of PNG's filters before DEFLATE.

    Example:
        >>> flat, noise = np.zeros((1, 1, 28, 28)), np.random.default_rng(0).integers(0, 256, (1, 1, 28, 28))
        >>> lengths = compressed_nats(np.concatenate([flat, noise]).astype(np.uint8))
        >>> bool(lengths[0] < 150), bool(lengths[1] > 4300)
        (True, True)
    """
    return np.array([min(len(zlib.compress(each, 9)) for each in _filtered(p)) for p in pictures]) * 8 * np.log(2)


def _filtered(picture: UInt8[NDArray[np.uint8], "C H W"]) -> Iterator[bytes]:
    """As it is, and less the pixel to the left, or the one above."""
    yield picture.tobytes()
    yield np.diff(picture, axis=2, prepend=np.uint8(0)).astype(np.uint8).tobytes()
    yield np.diff(picture, axis=1, prepend=np.uint8(0)).astype(np.uint8).tobytes()


def complexity_of(table: ArrayTable) -> PerRow | None:
    """The compressed length of each row as the model sees it, nats; None of rows that are no whole pictures."""
    if table.raw.ndim < 3 or table.mask is not None or not (table.transform.peak is not None or _binary(table)):
        return None
    grey = (table.transform.picture(table.x).cpu() * GREY).round().numpy().astype(np.uint8)
    return compressed_nats(grey.reshape(len(grey), -1, *grey.shape[-2:]))


def _binary(table: ArrayTable) -> bool:
    """Whether the model sees 0 and 1 alone."""
    return bool(((table.x == 0) | (table.x == 1)).all())


def complexity_ratio(log_density: PerRow, complexity: PerRow) -> PerRow:
    """``-log p(x) - L(x)``, L the compressed length: how much better a compressor is than the model, nats.

    High where a row is not known. A likelihood ratio against a universal model: that Fashion-MNIST's model finds digits
    likely, which are simple, falls out.

    Reference: Serrà, Álvarez, Gómez, Slizovskaia, Núñez and Luque, *Input Complexity and Out-of-Distribution Detection
    with Likelihood-Based Generative Models*, ICLR 2020.

    Args:
        log_density: of rows in grey levels, nats.
        complexity: of :func:`compressed_nats`.
    """
    return -log_density - complexity


def levels_per_element(table: ArrayTable) -> float:
    """Grey levels, as they are compressed, within 1 of the unit of a picture's density; 1 of black and white ones."""
    peak = table.transform.peak
    return 1.0 if peak is None or _binary(table) else table.transform.levels_per_unit * GREY / peak


def complexity_distance(complexity: PerRow, known: Float[NDArray[np.float64], " R"]) -> PerRow:
    """``|L(x) - mean L of known rows|``, nats, by no model at all: what any other score has to beat.

    Example:
        >>> complexity_distance(np.array([10.0, 40.0]), np.array([20.0, 40.0])).tolist()
        [20.0, 10.0]
    """
    return np.abs(complexity - known.mean())
