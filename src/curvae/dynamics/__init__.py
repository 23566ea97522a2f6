"""Moving latents along a log-density: leapfrog, Hamiltonian transitions, annealing. No models, no posteriors."""

from curvae.dynamics.annealing import Annealed, GeometricPath, Tuned, anneal, tune_step_sizes
from curvae.dynamics.completion import Completions, complete, linear_completions, noisy_ascent
from curvae.dynamics.hamiltonian import DualAveraging, HMCInfo, HMCState, transition
from curvae.dynamics.leapfrog import LogDensity, leapfrog, tempered_leapfrog, value_and_grad
from curvae.renamed import renamed

__all__ = [
    "Annealed",
    "Completions",
    "DualAveraging",
    "GeometricPath",
    "HMCInfo",
    "HMCState",
    "LogDensity",
    "Tuned",
    "anneal",
    "complete",
    "leapfrog",
    "linear_completions",
    "noisy_ascent",
    "tempered_leapfrog",
    "transition",
    "tune_step_sizes",
    "value_and_grad",
]

_BEFORE = {
    "tune": "curvae.dynamics.tune_step_sizes",
    "value_and_slope": "curvae.dynamics.value_and_grad",
    "Bridge": "curvae.dynamics.GeometricPath",
    "Point": "curvae.dynamics.HMCState",
    "cooled": "curvae.dynamics.tempered_leapfrog",
}
__getattr__ = renamed(__name__, _BEFORE)
