"""Sequences as frames: an event (T, ...) is T frames, and a mask says where each ends."""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from curvae.typing import Batch

CHANNELS = (1, 3, 4)
"""First dimension of an event of three that is a picture, not a sequence."""


class Frames(NamedTuple):
    """Sequences of a batch."""

    x: Shaped[Tensor, "B T *frame"]
    mask: Bool[Tensor, "B T *frame"] | None
    length: Int[Tensor, " B"]
    """Frames up to the last of which anything was observed."""

    @property
    def there(self) -> Bool[Tensor, "B T"]:
        """Which frames are no later than the last."""
        return torch.arange(self.x.shape[1], device=self.x.device) < self.length.unsqueeze(1)

    def first(self, count: int) -> "Frames":
        """The first frames alone."""
        mask = None if self.mask is None else self.mask[:, :count]
        return Frames(self.x[:, :count], mask, self.length.clamp(max=count))


def frame_shape(event: tuple[int, ...]) -> tuple[int, ...]:
    """Shape of one frame of sequences of this shape; numbers are frames of one element.

    Raises:
        ValueError: a picture, or fewer than 2 frames.

    Example:
        >>> frame_shape((20, 3)), frame_shape((20,)), frame_shape((20, 8, 8))
        ((3,), (1,), (8, 8))
    """
    if event[0] < 2 or (len(event) == 3 and event[0] in CHANNELS):
        raise ValueError(
            f"sequences: expected examples of shape (T, ...), of 2 frames or more; got {tuple(event)}. Say "
            "event=(T, F)."
        )
    return event[1:] or (1,)


def frames_of(batch: Batch, frame: tuple[int, ...]) -> Frames:
    """The sequences of a batch (B, T, ...) with what was observed of them.

    >>> mask = torch.tensor([[True, True, True], [True, False, False]])
    >>> frames_of(Batch.of(torch.zeros(2, 3), mask), (1,)).length.tolist()
    [3, 1]
    """
    x = batch.x.reshape(len(batch.x), -1, *frame)
    if batch.mask is None:
        return Frames(x, None, torch.full((len(x),), x.shape[1], device=x.device))
    mask = batch.mask.reshape(x.shape)
    steps = torch.arange(1, x.shape[1] + 1, device=x.device)
    length = (mask.flatten(2).any(2) * steps).amax(1)
    return Frames(torch.where(mask, x, torch.zeros_like(x)), mask, length)
