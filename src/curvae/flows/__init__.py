"""Flows: bijections of the latent space whose parameters or context an encoder gives for each example."""

from curvae.flows.autoregressive import Autoregressive
from curvae.flows.flow import Flow, InvertibleFlow, Transformed
from curvae.flows.planar import Planar
from curvae.flows.radial import Radial
from curvae.flows.univariate import Univariate, affine, gated, spline
from curvae.renamed import renamed

__all__ = [
    "Autoregressive",
    "Flow",
    "InvertibleFlow",
    "Planar",
    "Radial",
    "Transformed",
    "Univariate",
    "affine",
    "gated",
    "spline",
]

__getattr__ = renamed(__name__, {"Image": "curvae.flows.Transformed"})
