"""Training systems, and the folders that training leaves."""

from curvae.training.errors import RunError
from curvae.training.fit import fit
from curvae.training.run.folder import RunFolder, load

__all__ = ["RunError", "RunFolder", "fit", "load"]
