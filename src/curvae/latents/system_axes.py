"""The axes of a trained system: from its decoder, at the posterior means of its training rows."""

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from curvae.curvature.routes.decoder_jacobians import jacobian
from curvae.curvature.routes.differentiable import decoding
from curvae.data import ArrayTable, Data, Transform
from curvae.data.transforms.elementwise import column_moments
from curvae.latents.axes import Axes, principal_rotation
from curvae.model import LatentVariableModel
from curvae.noise import keep_random_states
from curvae.posteriors import GaussianPosterior, ImplicitGaussian, Mixture
from curvae.priors import StandardNormal
from curvae.systems import HasModel, HasPosterior, System
from curvae.systems.device import batch_to_system, evaluating

ROWS = 1024
"""Training rows whose posterior means are taken, evenly spread, in chunks that are evenly spread too."""
CHUNK = 128
"""Rows at a time; a posterior whose mean has no closed form is asked for the first of these alone."""
CORNERS = 256
"""Of them, where the variance along each latent is taken."""
NODES = 8
"""Of Gauss-Hermite quadrature: exact for decoders that are polynomials of degree 7."""
NUMBERS = 2**24
"""Of a Jacobian at a time."""


def latent_axes(system: System, data: Data) -> Axes:
    """The axes of a system's latents, and what they do to the columns of its data.

    The same system and data give the same axes; a system whose latents were rotated by hand gives the same latents.

    Raises:
        ValueError: its latents cannot be rotated: it has none, discrete ones, another prior than N(0, I), a decoder
            that also sees x, or one without a finite derivative.

    Example:
        >>> from curvae.data import from_array
        >>> from curvae.systems import vae
        >>> data = from_array(torch.randn(100, 5) @ torch.randn(5, 5))
        >>> axes = latent_axes(vae(data.spec, latent=2, hidden=8), data)
        >>> axes.loadings.shape, bool(axes.gains[0] >= axes.gains[1])
        (torch.Size([5, 2]), True)
    """
    model = _model(system)
    with evaluating(system), keep_random_states():
        torch.manual_seed(0)
        z = _means(system, data.train)
        information, slopes, own = _derivatives(model, z, data.transform, data.spec.event)
        if not bool(information.isfinite().all() and slopes.isfinite().all() and own.isfinite().all()):
            raise ValueError("rotate: expected a decoder with finite derivatives, got some that are not.")
        rotation, gains = principal_rotation(information, slopes)
        explained = _explained(model, z[:CORNERS], rotation, data.transform, data.spec.event)
    deviations = _deviations(data.train)[: len(own)]
    return Axes(rotation, gains, len(data.train), own @ rotation.mT, deviations, explained)


def _model(system: System) -> LatentVariableModel:
    """The model of a system whose latents can be rotated."""
    expected = "rotate: expected continuous latents under one standard normal prior"
    if not (isinstance(system, HasModel) and isinstance(system, HasPosterior)):
        raise ValueError(f"{expected}, got {type(system).__name__}, which has no such model.")
    model = system.parts().model
    prior = model.prior
    if not isinstance(prior, StandardNormal) or len(prior.blocks) > 1:
        layers = f" of {len(prior.blocks)} layers" if len(prior.blocks) > 1 else ""
        raise ValueError(f"{expected}, got {type(prior).__name__}{layers}: they are reported as they were trained.")
    if model.autoregressive:
        raise ValueError(f"{expected}, got a decoder that also sees x: they are reported as they were trained.")
    return model.reference()


def _means(system: Any, table: ArrayTable) -> Float[Tensor, "N D"]:
    """Posterior means of training rows."""
    rows = torch.linspace(0, len(table) - 1, min(len(table), ROWS)).long()
    count, parts = math.ceil(len(rows) / CHUNK), []
    for first in range(count):
        batch = batch_to_system(system, table.batch(rows[first::count]))
        q = system.parts().infer(batch).posterior
        parts.append(q.mean)
        if not isinstance(q, GaussianPosterior | ImplicitGaussian | Mixture):
            break
    return torch.cat(parts)


def _derivatives(
    model: LatentVariableModel, z: Float[Tensor, "N D"], transform: Transform, event: tuple[int, ...]
) -> tuple[Float[Tensor, "D D"], Float[Tensor, "Q D"], Float[Tensor, "P D"]]:
    """G, and the mean slopes of E[x | z] in the model's units and in the data's own; the last ones may be missing."""

    def means(eta: Tensor) -> tuple[Tensor, Tensor]:
        mean = model.likelihood.mean(eta)
        return mean.flatten(1), _own(mean, transform, event)

    total: list[Tensor] = []
    for part in z.split(max(1, NUMBERS // (z.shape[1] * model.likelihood.size))):
        eta, rows = jacobian(decoding(model, None, part), part)

        def along(direction: Tensor, eta: Tensor = eta) -> tuple[Tensor, Tensor]:
            return torch.func.jvp(means, (eta,), (direction,))[1]

        mean, own = torch.func.vmap(along, in_dims=1, out_dims=1)(rows)
        root = model.likelihood.root(eta.unsqueeze(1), rows).double()
        found = [(root @ root.mT).sum(0), mean.double().sum(0).mT, own.double().sum(0).mT]
        total = found if not total else [one + two for one, two in zip(total, found, strict=True)]
    information, slopes, own = (value.cpu() / len(z) for value in total)
    return information, slopes, own


def _own(mean: Float[Tensor, "N ..."], transform: Transform, event: tuple[int, ...]) -> Float[Tensor, "N P"]:
    """Means in own units; (N, 0) where they are not one number an element."""
    if mean[0].numel() != math.prod(event):
        return mean.flatten(1)[:, :0].double()
    return transform.inverse(mean.reshape(len(mean), *event)).flatten(1)


def _explained(
    model: LatentVariableModel,
    z: Float[Tensor, "N D"],
    rotation: Float[Tensor, "D D"],
    transform: Transform,
    event: tuple[int, ...],
) -> Float[Tensor, "P D"]:
    """``E[Var(E[x | z] | all latents but one)]`` for each of them, that one under its prior, by quadrature."""
    nodes, weights = (torch.from_numpy(each) for each in np.polynomial.hermite_e.hermegauss(NODES))
    turn, weights = rotation.to(z), (weights / weights.sum()).to(z.device)
    found = []
    for latent in range(z.shape[1]):
        total = torch.zeros((), dtype=torch.float64, device=z.device)
        for part in (z @ turn.mT).split(max(1, NUMBERS // (NODES * model.likelihood.size))):
            points = part.unsqueeze(1).repeat(1, NODES, 1)
            points[..., latent] = nodes.to(part)
            mean = model.likelihood.mean(model.decode((points @ turn).flatten(0, 1)))
            x = _own(mean, transform, event).double().unflatten(0, (len(part), NODES))
            offset = x - torch.einsum("q,nqp->np", weights, x).unsqueeze(1)
            total = total + torch.einsum("q,nqp->p", weights, offset.square())
        found.append(total.cpu() / len(z))
    return torch.stack(found, 1)


def _deviations(table: ArrayTable) -> Float[Tensor, " P"]:
    """Of each element over the rows where it was observed."""
    mean, variance = column_moments(table.raw, table.mask)
    return torch.where(variance <= (1e-12 * mean).square(), 0.0, variance).flatten().sqrt().cpu()
