"""Training systems, and the folders that training leaves.

Begin at ``fits``, the ways to train. ``setup`` is what is settled before the first step, ``loop`` the steps, ``run``
the folder that all of it is kept in; imports go from the first to the last, ``loop`` before ``setup``.
"""

from curvae.training.errors import RunError
from curvae.training.fits.fit import fit
from curvae.training.fits.keep_trained import keep_trained
from curvae.training.fits.refit import refit
from curvae.training.fits.restarts import fit_restarts
from curvae.training.fits.train_on import train_on
from curvae.training.fits.warm_start import fit_from
from curvae.training.run.run_folder import RunFolder, load

__all__ = ["RunError", "RunFolder", "fit", "fit_from", "fit_restarts", "keep_trained", "load", "refit", "train_on"]
