"""Flows: bijections of the latent space whose parameters or context an encoder gives for each datum."""

from curvae.flows.flow import Flow, Image, InvertibleFlow
from curvae.flows.planar import Planar
from curvae.flows.radial import Radial

__all__ = ["Flow", "Image", "InvertibleFlow", "Planar", "Radial"]
