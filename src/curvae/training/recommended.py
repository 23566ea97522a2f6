"""What training does where it is not told: batch size, learning rate and length by the size of network and data."""

from typing import Any

from torch import nn

from curvae.data import Data
from curvae.systems import System
from curvae.training.settings import Chosen, Settings

BATCH, WIDE, MANY = 128, 256, 10_000
"""Rows of a batch; units of a layer, and training rows, up to which one learning rate serves. See docs/fits.md."""


def recommended(settings: Settings, system: System, data: Data) -> Chosen:
    """The settings with all that was left open filled in.

    - ``batch_size``: 128.
    - ``learning_rate``: ``2e-3``, of more than 10,000 rows ``4e-3``; times ``256 / width`` where the widest layer has
      more than 256 units.
    - ``max_updates``, where no length is said: ``100 sqrt(rows)``, from 1,000 to 30,000.
    """
    filled: dict[str, Any] = dict(vars(settings))
    filled["batch_size"] = settings.batch_size or BATCH
    filled["learning_rate"] = settings.learning_rate or _rate(len(data.train), system)
    if settings.length is None:
        filled["max_updates"] = _updates(len(data.train))
    return Chosen(**filled)


def _rate(rows: int, system: System) -> float:
    return (4e-3 if rows > MANY else 2e-3) * min(1.0, WIDE / width(system))


def _updates(rows: int) -> int:
    return round(min(30_000, max(1_000, 100 * rows**0.5)))


def width(system: nn.Module) -> int:
    """Units of the widest layer: the largest of the smaller sides of its weights, with a convolution's kernel in one.

    Example:
        >>> width(nn.Sequential(nn.Linear(784, 500), nn.ReLU(), nn.Linear(500, 20)))
        500
    """
    matrices = [each.flatten(1) for each in system.parameters() if each.ndim >= 2]
    return max((min(each.shape) for each in matrices), default=1)
