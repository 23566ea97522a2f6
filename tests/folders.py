"""A run folder in tests, made without training."""

from dataclasses import dataclass
from pathlib import Path

from curvae.data import Data
from curvae.systems import System


@dataclass(frozen=True)
class Folder:
    """A run, as far as an evaluation knows one."""

    path: Path
    made: System
    given: Data

    def system(self) -> System:
        return self.made

    def data(self) -> Data:
        return self.given
