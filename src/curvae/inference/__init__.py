"""Inference methods: (model, batch) -> posterior."""

from curvae.inference.amortized import AmortizedFullGaussian, AmortizedGaussian
from curvae.inference.inference import Inference, Inferred, prefixed
from curvae.inference.laplace import Laplace
from curvae.inference.matrix_free_laplace import MatrixFreeLaplace

__all__ = [
    "AmortizedFullGaussian",
    "AmortizedGaussian",
    "Inference",
    "Inferred",
    "Laplace",
    "MatrixFreeLaplace",
    "prefixed",
]
