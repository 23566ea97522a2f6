"""Steps that were not finite, counted on the device."""

import torch
from jaxtyping import Bool
from torch import Tensor


class Skips:
    """Counts what the host will ask for later, so that no step waits for the device.

    Args:
        in_a_row: steps skipped just before.
        device: where the steps run.

    Example:
        >>> skips = Skips(1, torch.device("cpu"))
        >>> for finite in (False, True, False): skips.add(torch.tensor(finite))
        >>> skips.read()   # in all, the most in a row, in a row now
        (2, 2, 1)
    """

    def __init__(self, in_a_row: int, device: torch.device):
        self._counts = torch.tensor([0, in_a_row, in_a_row], device=device)

    def add(self, finite: Bool[Tensor, ""]) -> None:
        """Book a step."""
        total, most, now = self._counts.unbind()
        bad = finite.logical_not().long()
        now = (now + 1) * bad
        self._counts = torch.stack([total + bad, torch.maximum(most, now), now])

    def read(self) -> tuple[int, int, int]:
        """Skipped in all, the most in a row, and in a row up to now; this waits for the device."""
        total, most, now = self._counts.tolist()
        return total, most, now
