"""Moving latents along a log-density: leapfrog, Hamiltonian transitions, annealing. No models, no posteriors."""

from curvae.dynamics.annealing import Annealed, Bridge, Tuned, anneal, tune
from curvae.dynamics.hamiltonian import DualAveraging, Moved, Point, transition
from curvae.dynamics.leapfrog import LogDensity, cooled, leapfrog, value_and_slope

__all__ = [
    "Annealed",
    "Bridge",
    "DualAveraging",
    "LogDensity",
    "Moved",
    "Point",
    "Tuned",
    "anneal",
    "cooled",
    "leapfrog",
    "transition",
    "tune",
    "value_and_slope",
]
