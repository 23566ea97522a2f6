"""OMNIGLOT: Burda et al.'s 28 x 28 version, and one averaged from the original drawings."""

import numpy as np

from curvae.data.datasets.fetch import Files, Remote
from curvae.data.datasets.sources import Part, PublishedSet
from curvae.data.readers import read_mat, read_packed

BURDA_SITE = "https://github.com/yburda/iwae/raw/78a6075484bd7dd6f47a4bb9880d2295bc7a5220/datasets/OMNIGLOT"
BURDA = Remote(f"{BURDA_SITE}/chardata.mat", "git:016a3536ffe5e1d38e42563a18d7a78bfaf643ec")
BURDA_FILES = ("omniglot/chardata.mat", "OMNIGLOT/chardata.mat", "chardata.mat")
DRAWINGS = "omniglot/omniglot105_packed.npy"
DRAWINGS_PER_CHARACTER = 20
BACKGROUND_CHARACTERS = 964


def omniglot(files: Files) -> PublishedSet:
    """Burda et al.'s version, 24,345 + 8,070; ``omniglot-area28`` if a given folder has only the drawings."""
    if files.find(*BURDA_FILES) is None and files.find(DRAWINGS) is not None:
        return omniglot_area28(files)
    path = files.need("omniglot", *BURDA_FILES, remote=BURDA)
    x, label, test, test_label = read_mat(path, "data", "target", "testdata", "testtarget")
    return PublishedSet("omniglot", _burda(x, label), _burda(test, test_label), levels=None)


def omniglot_area28(files: Files) -> PublishedSet:
    """The 105 x 105 drawings averaged over the areas of 28 x 28 pixels; likelihoods do not compare with Burda's.

    The background alphabets (19,280 drawings) are for training, the evaluation alphabets (13,180) for testing;
    labels are the numbers of the characters.
    """
    x = area_average(read_packed(files.need("omniglot-area28", DRAWINGS), 105), 28)[:, None]
    label = np.arange(len(x)) // DRAWINGS_PER_CHARACTER
    cut = BACKGROUND_CHARACTERS * DRAWINGS_PER_CHARACTER
    return PublishedSet("omniglot-area28", Part(x[:cut], label[:cut]), Part(x[cut:], label[cut:]), levels=None)


def area_average(x: np.ndarray, size: int) -> np.ndarray:
    """Square pictures ``(N, n, n)`` to ``(N, size, size)``, every new pixel the exact mean over its area.

    >>> area_average(np.array([[[1, 0, 0], [0, 0, 0], [0, 0, 1]]]), 2)[0].round(3)
    array([[0.444, 0.   ],
           [0.   , 0.444]], dtype=float32)
    """
    weights = _overlap(x.shape[-1], size).astype(np.float32)
    blocks = np.array_split(x, max(1, len(x) // 2048))
    return np.concatenate([weights @ block.astype(np.float32) @ weights.T for block in blocks])


def _overlap(old: int, new: int) -> np.ndarray:
    """Share of every old pixel in every new one along an axis, ``(new, old)``, rows summing to 1."""
    edges, left = np.arange(new + 1)[:, None] * old / new, np.arange(old)
    return np.clip(np.minimum(edges[1:], left + 1) - np.maximum(edges[:-1], left), 0, None) * new / old


def _burda(x: np.ndarray, target: np.ndarray) -> Part:
    """Columns of pixels, first the first column of a picture, to ``(N, 1, 28, 28)``; one-hot alphabets to codes."""
    return Part(x.T.reshape(-1, 1, 28, 28).swapaxes(2, 3).astype(np.float32), target.argmax(0))
