"""Flows: bijections of the latent space whose parameters or context an encoder gives for each example, or of data."""

from curvae.flows.additive import Additive
from curvae.flows.autoregressive import Autoregressive
from curvae.flows.composed import Composed
from curvae.flows.continuous import Continuous
from curvae.flows.core_shell import CoreShell
from curvae.flows.flow import Flow, HasJacobian, InvertibleFlow, Transformed
from curvae.flows.planar import Planar
from curvae.flows.radial import Radial
from curvae.flows.univariate import Univariate, affine, gated, spline
from curvae.flows.whitening import Whitening
from curvae.flows.zuko_flow import ZukoFlow
from curvae.renamed import renamed

__all__ = [
    "Additive",
    "Autoregressive",
    "Composed",
    "Continuous",
    "CoreShell",
    "Flow",
    "HasJacobian",
    "InvertibleFlow",
    "Planar",
    "Radial",
    "Transformed",
    "Univariate",
    "Whitening",
    "ZukoFlow",
    "affine",
    "gated",
    "spline",
]

__getattr__ = renamed(__name__, {"Image": "curvae.flows.Transformed"})
