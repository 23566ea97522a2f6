"""A trained system in memory: the files of its run, which no folder on disk needs to outlive."""

import copy
import shutil
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from curvae.fitted import Fitted, load
from curvae.systems import System
from curvae.training.run.layout import LAYOUT, RESUME

KEPT = tuple(name for name, file in LAYOUT.items() if file.by == "fit" and name != RESUME)
"""What training wrote, but for what it goes on from."""


@dataclass(frozen=True, eq=False)
class Held:
    """The files of a run, by name. A pickle of it is all there is to keep; the folder is made anew where it is opened.

    Args:
        files: their contents.
        trained: the system, where the files cannot describe it (networks of the user's own).

    Example:
        >>> import curvae, numpy as np, pickle
        >>> from tempfile import TemporaryDirectory
        >>> x = np.random.default_rng(0).normal(size=(50, 3))
        >>> with TemporaryDirectory() as folder:
        ...     held = Held.of(curvae.fit("vae", x, latent=1, hidden=8, epochs=1, out=f"{folder}/run", progress=False))
        >>> pickle.loads(pickle.dumps(held)).fitted.encode(x).mean.shape
        (50, 1)
    """

    files: Mapping[str, bytes]
    trained: System | None = None

    @classmethod
    def of(cls, fitted: Fitted) -> "Held":
        """What is in the folder of a run now."""
        paths = {name: fitted.path / name for name in KEPT}
        own = None if fitted.run.config.get("replayable") else copy.deepcopy(fitted.run.trained)
        return cls({name: path.read_bytes() for name, path in paths.items() if path.is_file()}, own)

    @cached_property
    def fitted(self) -> Fitted:
        """Opened, in float64: a row's results do not depend, to rounding, on the rows that are asked for with it."""
        path = Path(mkdtemp(prefix="curvae-"))
        for name, content in self.files.items():
            (path / name).write_bytes(content)
        found = load(path, copy.deepcopy(self.trained))
        found.system.double()
        weakref.finalize(found, shutil.rmtree, path, ignore_errors=True)
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {"files": self.files, "trained": self.trained}

    def __setstate__(self, state: Mapping[str, Any]) -> None:
        self.__dict__.update(state)
