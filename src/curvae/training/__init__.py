"""Training systems, and the folders that training leaves."""

from curvae.training.cycles import train_on
from curvae.training.errors import RunError
from curvae.training.fit import fit
from curvae.training.restarts import fit_restarts
from curvae.training.run.run_folder import RunFolder, load
from curvae.training.warm import fit_from

__all__ = ["RunError", "RunFolder", "fit", "fit_from", "fit_restarts", "load", "train_on"]
