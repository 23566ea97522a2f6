"""Text that every Python brings along: the topics of its help, in characters."""

import re
from importlib import import_module
from itertools import groupby

import numpy as np

from curvae.data.datasets.fetch import Files
from curvae.data.datasets.sources import Part, PublishedSet
from curvae.data.errors import DataError

LENGTH = 64
"""Characters of a row."""
CHARACTERS = tuple(map(chr, range(32, 127)))
"""Those of a text, fixed beforehand: what is printed of ASCII."""
PLAIN = str.maketrans({"‘": "'", "’": "'", "“": '"', "”": '"', "–": "-", "—": "-", "…": "."})
TEST_EVERY = 5
"""Of this many topics one is for testing."""


def python_topics(files: Files) -> PublishedSet:
    """Rows of 64 characters of ``pydoc_data.topics``, some 5,400 of Python 3.11; labels are numbers of topics.

    A paragraph that several topics have belongs to the shortest of them, and whole topics are for training or for
    testing, so that no paragraph is in both. Spaces and line breaks are one space, lines of stars or dashes are left
    out. Other versions of Python have other texts.

    Raises:
        DataError: a Python without its topics.
    """
    try:
        topics: dict[str, str] = import_module("pydoc_data.topics").topics
    except ImportError:
        raise DataError("python-topics: expected a Python with pydoc_data.topics, got one without.") from None
    texts = own_paragraphs(topics)
    every = [(number, texts[name]) for number, name in enumerate(sorted(texts))]
    train, test = (_rows([each for each in every if (each[0] % TEST_EVERY == 0) == held]) for held in (False, True))
    return PublishedSet("python-topics", train, test, vocabulary=CHARACTERS)


def own_paragraphs(topics: dict[str, str]) -> dict[str, str]:
    r"""Each text without the paragraphs that a shorter one has, as one line.

    >>> own_paragraphs({"long": "One.\n\nTwo,\n  on two lines.\n\nThree.", "short": "One.\n****\n\nFour."})
    {'short': 'One. Four.', 'long': 'Two, on two lines. Three.'}
    """
    seen, found = set[str](), dict[str, str]()
    for name in sorted(topics, key=lambda name: (len(topics[name]), name)):
        every = [plain(paragraph) for paragraph in re.split(r"\n\s*\n", topics[name])]
        found[name] = " ".join(paragraph for paragraph in every if paragraph and paragraph not in seen)
        seen.update(every)
    return found


def plain(text: str) -> str:
    r"""Printed characters of ASCII on one line; a run of four or more of one sign is left out.

    >>> plain("a  “b”\n===== c")
    'a "b" c'
    """
    signs = ((sign, len(list(run))) for sign, run in groupby(text.translate(PLAIN)))
    kept = "".join(sign * count for sign, count in signs if count < 4 or sign.isalnum() or sign.isspace())
    return "".join(sign if sign in CHARACTERS else "?" for sign in re.sub(r"\s+", " ", kept).strip())


def _rows(texts: list[tuple[int, str]]) -> Part:
    """The texts in pieces, without the rest of each, and the number of each piece's text."""
    codes = [np.frombuffer(text.encode("ascii"), np.uint8) - ord(CHARACTERS[0]) for _, text in texts]
    pieces = [code[: len(code) // LENGTH * LENGTH].reshape(-1, LENGTH) for code in codes]
    label = np.repeat([number for number, _ in texts], [len(piece) for piece in pieces])
    return Part(np.concatenate(pieces), label)
