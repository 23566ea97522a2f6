"""The shortest curve between two codes, and what the decoder makes of it."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from curvae.fitted.rows import evaluation_mode
from curvae.latents import geodesics, mean_decoder
from curvae.systems import HasModel, require
from curvae.systems.device import device_and_dtype

if TYPE_CHECKING:
    from curvae.fitted.fitted import Fitted


class Geodesic(NamedTuple):
    """A curve of N segments between two codes."""

    z: NDArray[Any]
    """(N + 1, D), as codes are reported."""
    x: NDArray[Any]
    """(N + 1, *event), ``E[x | z]``, in own units."""
    length: float
    """In the model's units: how far the decoder moves along it, root mean square over draws of its weights."""
    straight_length: float
    """The same along the straight line."""


def shortest_curve(fitted: "Fitted", start: Any, end: Any, segments: int = 32, rotate: bool | None = None) -> Geodesic:
    """What :meth:`curvae.Fitted.geodesic` gives.

    Raises:
        ValueError: codes of another size, or a system whose latents have no metric.
    """
    model, axes = require(fitted.system, HasModel, "geodesic").parts().model, fitted.axes_for(rotate)
    place = device_and_dtype(fitted.system)
    ends = [_code(name, value, model.prior.size) for name, value in (("start", start), ("end", end))]
    own = [(each if axes is None else each @ axes.rotation.double()).to(*place).unsqueeze(0) for each in ends]
    with evaluation_mode(fitted.system, 0):
        found = geodesics(mean_decoder(model), own[0], own[1], segments)
    z = found.points[0].cpu().double()
    z = (z if axes is None else z @ axes.rotation.double().mT).numpy()
    return Geodesic(z, fitted.decoded(z, rotate), float(found.length[0]), float(found.straight_length[0]))


def _code(name: str, value: Any, size: int) -> Tensor:
    found = torch.from_numpy(np.array(value, dtype=np.float64))
    if found.shape != (size,):
        raise ValueError(f"geodesic: {name}: expected {size} numbers, got shape {tuple(found.shape)}.")
    return found
