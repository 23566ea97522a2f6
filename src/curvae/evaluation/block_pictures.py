"""Pictures of what blocks of latents do: traversals of each level, and the clusters of each mixture."""

from itertools import accumulate, pairwise

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Generator, Tensor

from curvae.data import ArrayTable
from curvae.evaluation.estimate import Scores
from curvae.latents import traverse_each_latent
from curvae.model import LatentVariableModel
from curvae.priors import Layered, assignments, mixtures_of
from curvae.systems import Parts, System
from curvae.systems.device import batch_to_system, device_and_dtype

STEPS = 9
"""Values of a latent."""
LATENTS = 3
"""Most latents of a block."""
DRAWS = 2000
ROWS = 500
"""Data that are sorted by cluster."""
MEMBERS = 7
"""Of them, shown for each cluster."""


def block_pictures(
    system: System, parts: Parts, table: ArrayTable, scores: Scores, generator: Generator
) -> dict[str, NDArray]:
    """Of pictures (C, H, W) whose latents are in several blocks, or have a mixture for a prior; float32, data units.

    ``blocks`` (L,): their sizes. ``traversals`` (R * 9, *event): the decoder's mean as one latent moves between the
    2.5 % and the 97.5 % quantile of its prior, all others at the posterior mean of the first datum; row r moves the
    latent ``traversal_latent[r]``, of each block up to 3 whose posterior mean varies most over the data.
    ``clusters`` (K * C * 8, *event): of each component of each mixture first the mean at its center, the other blocks
    there too, then the first 7 data of it, NaN where there are fewer; ``cluster_shares`` (K, C): share of 500 data.
    ``cluster_blocks`` (K,): which block each mixture is of.

    Nothing for layers that reach the decoder only through the ones below.
    """
    model = parts.model
    if table.raw.ndim != 4 or model.autoregressive or isinstance(model.prior, Layered):
        return {}
    found: dict[str, NDArray] = {"blocks": np.array(model.prior.blocks)}
    base = torch.as_tensor(scores["mean"][0]).to(*device_and_dtype(system))
    if len(model.prior.blocks) > 1:
        latents = _chosen(model.prior.blocks, scores["mean"])
        found["traversals"] = _pictures(model, _moved(model, base, latents, generator), table)
        found["traversal_latent"] = np.array(latents)
    if mixtures_of(model.prior):
        found |= _clusters(system, parts, table, base, generator)
    return found if len(found) > 1 else {}


def _chosen(blocks: tuple[int, ...], means: NDArray) -> list[int]:
    """Those of each block that vary most, in the order of z."""
    ends = [0, *accumulate(blocks)]
    spread = means.var(0)
    each = [low + np.argsort(-spread[low:high])[:LATENTS] for low, high in pairwise(ends)]
    return [int(d) for block in each for d in np.sort(block)]


def _moved(
    model: LatentVariableModel, base: Float[Tensor, " D"], latents: list[int], generator: Generator
) -> Float[Tensor, "N D"]:
    return traverse_each_latent(base, model.prior.sample(DRAWS, generator), latents, STEPS).flatten(0, 1)


def _clusters(
    system: System, parts: Parts, table: ArrayTable, base: Float[Tensor, " D"], generator: Generator
) -> dict[str, NDArray]:
    prior = parts.model.prior
    batch = table.batch(torch.arange(min(ROWS, len(table))))
    of = assignments(prior, parts.infer(batch_to_system(system, batch)).posterior, generator).argmax(-1).cpu()
    mixtures, ends = mixtures_of(prior), [0, *accumulate(prior.blocks)]
    most = max(len(each.logits) for each in mixtures.values())
    x = table.transform.inverse(batch.x).reshape(-1, *table.raw.shape[1:])
    sheets, shares = [], np.zeros((len(mixtures), most))
    for k, (block, mixture) in enumerate(mixtures.items()):
        z = base.expand(len(mixture.logits), -1).clone()
        z[:, ends[block] : ends[block + 1]] = mixture.laws.loc
        centers = torch.from_numpy(_pictures(parts.model, z, table))
        for c in range(most):
            members = x[of[:, k] == c][:MEMBERS]
            shares[k, c] = float((of[:, k] == c).double().mean())
            sheet = x.new_full((1 + MEMBERS, *x.shape[1:]), torch.nan)
            sheet[1 : 1 + len(members)] = members
            if c < len(centers):
                sheet[0] = centers[c]
            sheets.append(sheet)
    return {
        "clusters": torch.cat(sheets).float().numpy(),
        "cluster_shares": shares,
        "cluster_blocks": np.array([*mixtures]),
    }


def _pictures(model: LatentVariableModel, z: Float[Tensor, "N D"], table: ArrayTable) -> NDArray:
    mean = model.reference().mean(z).cpu().float().reshape(-1, *table.raw.shape[1:])
    return table.transform.inverse(mean).float().numpy()
