"""What the formulas say that the engine costs: floating-point operations and bytes per datum, counted, not fitted.

A decoder D-H-H-P and an encoder P-H-H-2D, ReLU, Gaussian output; 2 operations per multiply-add, 4 bytes per number.
Elementwise work is not counted. Half of the units of a layer are on; only curvae's kernel makes use of it.
"""

from typing import NamedTuple

from curvae.curvature import Solver
from curvae.curvature.routes.generic import MEMORY


class Size(NamedTuple):
    """Outputs, hidden width, latents, batch and steps."""

    P: int
    H: int
    D: int
    B: int
    T: int


def _hidden(s: Size) -> float:
    """The hidden layers of the decoder, for one vector, forward or back."""
    return 2 * (s.D * s.H + s.H**2)


def _vae(s: Size) -> float:
    """Encoder and decoder, forward and backward; the data need no gradient."""
    encoder = 2 * (s.P * s.H + s.H**2 + 2 * s.H * s.D)
    return 3 * (encoder + _hidden(s) + 2 * s.H * s.P) - 2 * s.P * s.H


def _slope(s: Size) -> float:
    """The log joint and its gradient on the Gram route: the hidden layers, a product with G, and back."""
    return 2 * _hidden(s) + 2 * s.H**2


def _lam(s: Size) -> float:
    """``M_2``, the triangle of ``G M``, ``M' (G M)``, and a Cholesky factor."""
    on = s.H / 2
    return 3 * on**2 * s.D + 2 * on * s.D**2


def _lam_backward(s: Size) -> float:
    """The other half of ``G M``, in the forward pass; ``M A``, ``G M A``, the triangle of dG, ``dW`` and ``dM_1``."""
    on = s.H / 2
    return 6 * on**2 * s.D + 4 * on * s.D**2


def _building(s: Size) -> float:
    """G once a batch, ``W'(x - b)`` for each datum, forward and backward."""
    return 4 * s.P * s.H**2 / s.B + 6 * s.P * s.H + 6 * s.H**2


def gram_flops(s: Size) -> float:
    """Log joint, gradient and Lam at one point, G given."""
    return _slope(s) + _lam(s)


def layerwise_flops(s: Size) -> float:
    """The decoder and back; ``M_2``, J from what is on there, and ``J'FJ``."""
    on = s.H / 2
    return 2 * _hidden(s) + 4 * s.H * s.P + 2 * on**2 * s.D + 2 * on * s.P * s.D + 2 * s.P * s.D**2


def generic_flops(s: Size) -> float:
    """D tangents through all layers, ``J'FJ``; eta is computed once more beside them."""
    return (2 + s.D) * (_hidden(s) + 2 * s.H * s.P) + 2 * s.P * s.D * (s.D + 1)


def search_flops(s: Size, solver: Solver) -> float:
    """Laplace inference and its ELBO, forward and backward, if no datum runs_to_convergence early."""
    visits = solver.visits(s.T - 1) + 1
    factors = s.T * s.D**3 / 3 + 4 * s.D**3 + visits * 4 * s.D**2
    return _vae(s) + _building(s) + s.T * _lam(s) + (visits + 3) * _slope(s) + _lam_backward(s) + factors


def unrolled_flops(s: Size) -> float:
    """T differentiated steps, each by its residual, and Lam at the end."""
    residual = 3 * _hidden(s) + 4 * s.H**2
    factors = (s.T + 1) * s.D**3 / 3 + 4 * s.D**3
    steps = (s.T + 1) * (_lam(s) + _slope(s)) + s.T * (_slope(s) + 3 * residual)
    return _vae(s) + _building(s) + steps + 2 * _slope(s) + _lam_backward(s) + factors


def gram_bytes(s: Size) -> float:
    """Activations, slopes and pitch; then Lam without and with the prior's share."""
    return 4 * max(6 * s.H, 2 * s.D**2)


def layerwise_bytes(s: Size) -> float:
    """Three vectors of size P, which of P units are on (all of them), three of size H, and Lam; or Lam twice. No J."""
    return 4 * max(3.25 * s.P + 3 * s.H + s.D**2, 2 * s.D**2)


def generic_bytes(s: Size) -> float:
    """The tangents, J and its product with the root, for as many data at once as the route's limit allows."""
    together = min(s.B, max(1, MEMORY // (16 * s.P * s.D)))
    return 4 * (3 * s.D * s.P + s.D * s.H) * together / s.B + 8 * s.P


def _kept_bytes(s: Size) -> float:
    """What the forward pass keeps, and per datum what a batch has once: gradients of the weights, G, its adjoints.

    ``M_2`` and ``G M`` are H / 2 rows each.
    """
    weights = 2 * s.P * s.H + 2 * s.H**2 + 3 * s.H * s.D
    return 4 * ((weights + 3 * s.H**2) / s.B + 7 * s.P + 11 * s.H + 5 * s.D**2 + s.H * s.D)


def search_bytes(s: Size) -> float:
    """As if all that is kept were alive at once; what a line search tries is not counted."""
    return _kept_bytes(s)


def unrolled_bytes(s: Size) -> float:
    """And for each step seven vectors of size H and a factor."""
    return _kept_bytes(s) + 4 * s.T * (7 * s.H + s.D**2)
