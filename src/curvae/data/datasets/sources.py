"""What a known data set is before it is split and transformed, and the one that is here already."""

from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import numpy as np

from curvae.data.datasets.fetch import Files


class Part(NamedTuple):
    """Images ``(N, C, H, W)``, grey levels in uint8 or pixels in [0, 1] in float32, or texts ``(N, T)``, codes of a
    vocabulary in uint8; and labels ``(N,)``."""

    x: np.ndarray
    label: np.ndarray | None = None


class PublishedSet(NamedTuple):
    """A data set as published: ``None`` where it has no such part of its own."""

    name: str
    train: Part
    test: Part | None = None
    validation: Part | None = None
    levels: int | None = 256
    """Number of grey levels, 2 = binary; None = pixels are already in [0, 1]."""
    vocabulary: tuple[str, ...] | None = None
    """Of text, what its codes stand for."""


def digits(files: Files) -> PublishedSet:
    """1,797 handwritten digits of 8 x 8 pixels with grey levels 0..16, which scikit-learn ships."""
    table = np.loadtxt(files_of("sklearn") / "datasets" / "data" / "digits.csv.gz", delimiter=",", dtype=np.int64)
    return PublishedSet("digits", Part(table[:, :-1].astype(np.uint8).reshape(-1, 1, 8, 8), table[:, -1]), levels=17)


def files_of(package: str) -> Path:
    """The folder of an installed package, which is not imported: scikit-learn takes a second."""
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    return Path(spec.origin).parent
