"""Trained systems that know their data. ``fitted.py`` is the idea, ``doors.py`` how one comes by it."""

from curvae.fitted.doors import fit, load
from curvae.fitted.fitted import Encoding, Fitted, Score

__all__ = ["Encoding", "Fitted", "Score", "fit", "load"]
