"""What training does where it is not told: batch size, learning rate and length by the size of network and data."""

from typing import Any

from torch import nn

from curvae.data import Data
from curvae.systems import System
from curvae.training.setup.settings import CompleteSettings, TrainingSettings

MANY, WIDE = 10_000, 256
"""Training rows, and units of a layer, up to which one batch size and learning rate serve. See docs/fits.md."""


def recommended(settings: TrainingSettings, system: System, data: Data) -> CompleteSettings:
    """The settings with all that was left open filled in.

    - ``batch_size``: 128, of more than 10,000 rows 256.
    - ``learning_rate``: ``2e-3``, of more than 10,000 rows ``4e-3``; times ``sqrt(batch_size / 128)``, and times
      ``256 / width`` where the widest layer has more than 256 units.
    - ``max_updates``, where no length is said: ``100 sqrt(rows)``, from 1,000 to 30,000.
    """
    filled: dict[str, Any] = dict(vars(settings))
    rows = len(data.train)
    size = filled["batch_size"] = settings.batch_size or (256 if rows > MANY else 128)
    filled["learning_rate"] = settings.learning_rate or _rate(rows, size, system)
    if not settings.said:
        filled["max_updates"] = _updates(rows)
    return CompleteSettings(**filled)


def _rate(rows: int, size: int, system: System) -> float:
    return (4e-3 if rows > MANY else 2e-3) * (size / 128) ** 0.5 * min(1.0, WIDE / width(system))


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
