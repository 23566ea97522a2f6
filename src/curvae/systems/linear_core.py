"""The variant of the autoencoder within flows whose core is a linear map of the data."""

from math import prod
from typing import Any

import torch

from curvae.inference import LinearCore
from curvae.objectives import AugmentedDensity, iwae
from curvae.systems.base import LatentSystem
from curvae.systems.codes import code_decoder
from curvae.systems.parts import standard_encoder, standard_generative_model
from curvae.systems.stages import Stage
from curvae.systems.starts import start_for
from curvae.typing import Batch, DataSpec, Tables

ROWS, DRAWS = 64, 32
"""Training rows, and draws of each, that a width is judged by."""
FACTORS = (0.25, 0.5, 0.8, 1.0, 1.25, 2.0, 4.0)
"""Widths that are tried, in units of the last one."""
SAMPLES = 16
"""Draws of the bound that is reported in training."""


def linear_core(spec: DataSpec, latent: int, hidden: int, depth: int, flows: int, start: str) -> LatentSystem:
    """A model whose latents are the noise of the flow of codes, trained by the density of data and core together."""
    model = standard_generative_model(spec, latent, hidden, depth)
    model.decoder = code_decoder(latent, model.decoder, flows)
    inference = LinearCore(standard_encoder(spec, latent, hidden, depth), prod(spec.event), latent)
    stage = Stage("train", start=start_for(start), finish=(tune_width,))
    return LatentSystem(model, inference, AugmentedDensity(), SAMPLES, (stage,))


@torch.no_grad()
def tune_width(system: Any, data: Tables) -> None:
    """The width tau with the highest bound on some training rows, of a few around the last one.

    The density that is trained says nothing of it: it is the width of a proposal.
    """
    inference, table = system.inference, data.train
    rows = torch.linspace(0, len(table) - 1, min(len(table), ROWS)).long()
    place = inference.map.weight
    batch = Batch.of(table.x[rows].to(place), None if table.mask is None else table.mask[rows].to(place.device))
    widths = [inference.log_width + torch.tensor(factor).log().to(place) for factor in FACTORS]
    bounds = []
    for width in widths:
        inference.log_width.copy_(width)
        bounds.append(float(iwae(system.model, inference(system.model, batch).posterior, batch, DRAWS).value.mean()))
    known = [bound if bound == bound else float("-inf") for bound in bounds]
    inference.log_width.copy_(widths[known.index(max(known))])
