"""Training systems, and the folders that training leaves."""

from curvae.training.errors import RunError
from curvae.training.fit import fit
from curvae.training.run.folder import Run, load

__all__ = ["Run", "RunError", "fit", "load"]
