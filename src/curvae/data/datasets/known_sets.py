"""Opening a known data set: files to parts, parts to splits, splits to tables."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import torch

from curvae.argument_checks import check_seed
from curvae.data.data import Data, Rows, build_data, part_size
from curvae.data.datasets import cifar_svhn, mnist, moving_digits, omniglot, topics
from curvae.data.datasets.fetch import Files
from curvae.data.datasets.sources import Part, PublishedSet, digits
from curvae.data.errors import DataError
from curvae.data.schema import BESIDE, Column, Schema
from curvae.data.transforms import Identity, Transform
from curvae.data.transforms.images import image_transform
from curvae.typing import DataSpec

SOURCES: Mapping[str, Callable[[Files], PublishedSet]] = {
    "digits": digits,
    "mnist": mnist.mnist,
    "fashion_mnist": mnist.fashion_mnist,
    "binarized_mnist": mnist.binarized_mnist,
    "omniglot": omniglot.omniglot,
    "omniglot-area28": omniglot.omniglot_area28,
    "cifar10": cifar_svhn.cifar10,
    "cifar10-jpeg": cifar_svhn.cifar10_jpeg,
    "svhn": cifar_svhn.svhn,
    "moving-digits": moving_digits.moving_digits,
    "moving-digits28": moving_digits.moving_digits28,
    "python-topics": topics.python_topics,
}
"""Every known data set: name to the function that opens it."""
VALIDATION_SHARE = 1 / 6
"""Of the training part, where there is no official validation part: 10,000 of MNIST's 60,000."""
TEST_SHARE = 0.2
"""Of all, where there is no official test part."""


def names() -> list[str]:
    """The data sets that :func:`load` knows.

    >>> names()[:4]
    ['digits', 'mnist', 'fashion_mnist', 'binarized_mnist']
    """
    return list(SOURCES)


def load(
    name: str,
    data_dir: str | Path | None = None,
    transform: Transform | str | None = None,
    binarize: str | None = None,
    dequantize: bool = False,
    logit: bool = False,
    standardize: bool = False,
    validation: float | int | None = None,
    seed: int = 0,
) -> Data:
    """Open a known data set; official parts are kept, the rest is split by seed.

    By default images are pixels in [0, 1] minus the training mean of each, real-valued, not dequantized, as in
    the Variational Laplace Autoencoder paper; binary images stay as they are, and so does text, an element of which is
    the code of a character.

    Args:
        name: one of :func:`names`, with hyphens or underscores.
        data_dir: a folder with the files, in the layout of the originals; None = download into the cache.
        transform: used instead of what the switches below choose; its place in the recipe stays empty.
        binarize: ``"static"`` (above 1/2) or ``"dynamic"`` (a fresh Bernoulli draw in every training batch).
        dequantize: add uniform noise to the integer grey levels.
        logit: map the unit interval to the real line.
        standardize: also divide by the training standard deviation.
        validation: fraction or number of training rows to hold out; by default a sixth.
        seed: of the split.

    Raises:
        DataError: an unknown name, a missing or broken file, switches that exclude each other.

    >>> load("digits")
    Data(digits: 1,198 + 240 + 359 x (1, 8, 8), real, pixels in [0,1], not dequantized)
    """
    name = spelled(name)
    check_seed(seed, DataError)
    if isinstance(transform, str):
        raise DataError(f"transform: expected an object, got {transform!r}; pass the one that was used again.")
    folder = None if data_dir is None else Path(data_dir).expanduser().absolute()
    source = SOURCES[name](Files(folder))
    parts = _split(source, validation, seed)
    switches = {"binarize": binarize, "dequantize": dequantize, "logit": logit, "standardize": standardize}
    recipe = {"name": source.name, "data_dir": folder and str(folder), **switches}
    recipe |= {"validation": validation, "seed": seed, "transform": transform and "own"}
    fitted = transform or _transform(source, parts[0], switches)
    event, words = tuple(parts[0].raw.shape[1:]), source.vocabulary or ()
    support = "category" if words else "binary" if source.levels == 2 or binarize else "real"
    spec = DataSpec(event, support, max(2, len(words)), name=source.name)
    label = () if parts[0].label is None else (Column("label", "label", "int64", BESIDE),)
    text = [Column(f"c{place}", "category", "int64", place, vocabulary=words) for place in range(event[0]) if words]
    dtype = str(parts[0].raw.dtype).removeprefix("torch.")
    schema = Schema(spec, (*text, *label), named=False, dtype=dtype, holder="set")
    return build_data(parts, fitted, recipe, schema)


def _transform(source: PublishedSet, train: Rows, switches: Mapping[str, Any]) -> Transform:
    """That of pictures, as the switches say; text has none."""
    if source.vocabulary is None:
        return image_transform(train.raw, source.levels, **switches)
    if asked := [name for name, value in switches.items() if value]:
        raise DataError(f"{asked[0]}: expected none for text, got one; leave it out.")
    return Identity()


def spelled(name: str) -> str:
    """The name of a known data set as it is written here, whether with hyphens or underscores.

    Raises:
        DataError: no such data set.

    >>> spelled("fashion-mnist"), spelled("omniglot_area28")
    ('fashion_mnist', 'omniglot-area28')
    >>> spelled("fashon-mnist")
    Traceback (most recent call last):
    ...
    curvae.data.errors.DataError: name: expected one of digits, ..., got 'fashon-mnist'; did you mean 'fashion-mnist'?
    """
    every = {_plain(each): each for each in SOURCES}
    if (found := every.get(_plain(name))) is not None:
        return found
    near = get_close_matches(_plain(name), every, n=1, cutoff=0.6)
    mend = f"did you mean {near[0]!r}?" if near else "own data: from_array or from_file."
    raise DataError(f"name: expected one of {', '.join(every)}, got {name!r}; {mend}")


def known(word: str) -> str | None:
    """The known data set that a word names; None if it names a file.

    Raises:
        DataError: it is neither.
    """
    if Path(word).suffix or Path(word).exists():
        return next((name for name in names() if _plain(name) == _plain(word)), None)
    return spelled(word)


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")


def _split(source: PublishedSet, validation: float | int | None, seed: int) -> tuple[Rows, Rows, Rows]:
    """Training, validation and test rows; what is not official is cut from training, test first."""
    if source.validation is not None and validation is not None:
        held_out = len(source.validation.x)
        raise DataError(f"validation: expected None as {source.name} has {held_out:,} official rows, got {validation}.")
    train, test = _rows(source.train), source.test and _rows(source.test)
    if test is None:
        train, test = train.cut(part_size("test", TEST_SHARE, len(train.raw)), seed)
    if source.validation is not None:
        return train, _rows(source.validation), test
    size = part_size("validation", VALIDATION_SHARE if validation is None else validation, len(train.raw))
    return *train.cut(size, seed), test


def _rows(part: Part) -> Rows:
    label = None if part.label is None else torch.as_tensor(np.array(part.label, dtype=np.int64))
    return Rows(torch.as_tensor(np.array(part.x)), label).numbered()
