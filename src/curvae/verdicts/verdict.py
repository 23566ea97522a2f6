"""What a verdict is."""

from dataclasses import dataclass
from typing import Literal

Kind = Literal["rising", "overfits", "baseline", "estimates", "collapsed"]


@dataclass(frozen=True)
class Verdict:
    """Something that a user should know before using a model.

    Args:
        kind: still rising; overfits; not better than a baseline; estimates not to be trusted; latents that
            say nothing.
        text: a sentence with the numbers behind it, and how to mend it.
    """

    kind: Kind
    text: str

    def __str__(self) -> str:
        return self.text
