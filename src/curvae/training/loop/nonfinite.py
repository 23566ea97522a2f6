"""Steps that were not finite, counted on the device, and the part of the system that is to blame."""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from curvae.data import ArrayTable
from curvae.objectives import Bound
from curvae.systems import LatentSystem, System
from curvae.training.loop.state import several
from curvae.typing import Batch

SURROGATE = "Bound.surrogate"
PROBES = 64
"""Draws of the prior, and rows of data, on which modules are tried."""


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


def runs_ahead(device: torch.device, optimizer: torch.optim.Optimizer) -> bool:
    """Whether steps are judged on the device: a fused optimizer leaves out those that were not finite."""
    return device.type == "cuda" and getattr(optimizer, "_step_supports_amp_scaling", False) and not several()


def first_not_finite(system: nn.Module, bound: Bound) -> str:
    """Which tensor is to blame, in words: a parameter, else the bound, else a gradient."""
    parameters = dict(system.named_parameters())
    suspects: dict[str, Tensor] = {f"the parameter {name}": value for name, value in parameters.items()}
    suspects[SURROGATE] = bound.surrogate
    suspects |= {f"the gradient of {name}": each.grad for name, each in parameters.items() if each.grad is not None}
    elsewhere = "in another process" if several() else "a tensor that is finite again"
    return next((name for name, value in suspects.items() if _bad(value)), elsewhere)


def faulty_module(system: System, table: ArrayTable) -> str:
    """The first module whose output is not finite though its input is: on draws of the prior, then on data; "" if none.

    Moves running statistics and takes the bound's random numbers: for a run that is given up.
    """
    rows = table.batch(torch.arange(min(PROBES, len(table))))
    return (_first_faulty(system, lambda: _decode(system, rows)) if isinstance(system, LatentSystem) else "") or (
        _first_faulty(system, lambda: system.bound(rows))
    )


def _decode(system: LatentSystem, rows: Batch) -> Tensor:
    return system.model.given(rows.context).decode(system.model.prior.sample(len(rows.x)), rows.x)


def _first_faulty(system: nn.Module, run: Callable[[], Any]) -> str:
    found: list[str] = []

    def look(name: str, module: nn.Module, inputs: Any, output: Any) -> None:
        if not found and isinstance(output, Tensor) and _bad(output) and not any(map(_bad, inputs)):
            columns = (~output.detach().flatten(1).isfinite()).any(0).nonzero().flatten().tolist()
            which = f"column {columns[0]} of {output.flatten(1).shape[1]}" if columns else "not finite"
            found.append(f"the output of {name} ({type(module).__name__}), {which}")

    hooks = [
        module.register_forward_hook(lambda m, i, o, name=name: look(name, m, i, o))
        for name, module in system.named_modules()
        if name
    ]
    try:
        with torch.no_grad(), suppress(Exception):  # what fails otherwise is not looked for here
            run()
    finally:
        for hook in hooks:
            hook.remove()
    return found[0] if found else ""


def _bad(value: Any) -> bool:
    """Whether a tensor of numbers is not finite; inside of torch.func this cannot be asked."""
    with suppress(RuntimeError):
        return isinstance(value, Tensor) and value.is_floating_point() and not bool(value.isfinite().all())
    return False
