"""What ``resume.pt`` holds: where training stands, in numbers and tensors."""

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.serialization import get_unsafe_globals_in_checkpoint

from curvae.io import FileError, regular
from curvae.io.errors import parsing
from curvae.training.errors import RunError
from curvae.training.run import files, layout
from curvae.training.run.claim import held
from curvae.training.run.run_folder import RunFolder

HEADER, ZIP = f"curvae resume {files.FORMAT} ".encode(), b"PK"
"""How ``resume.pt`` begins, and how it did in format 1."""


@dataclass
class Position:
    """Where training stands, in numbers."""

    stage: int = 0
    begun: bool = False
    """The stage has been prepared."""
    done: bool = False
    """The stage has come to its end."""
    rounds: int = 0
    """Looks at the validation data in all: an epoch each, or more where an epoch has few updates."""
    stage_epoch: int = 0
    """Epochs finished in this stage; a last one that was cut short counts."""
    epoch: int = 0
    """Epochs finished in all."""
    stage_step: int = 0
    """Optimizer steps tried in this stage, skipped ones included."""
    step: int = 0
    """The same in all."""
    began: float = 0.0
    """Seconds before this stage."""
    seconds: float = 0.0
    taken: int = 0
    """Steps of this stage that were not skipped."""
    counted: int = 0
    """Steps tried up to the last epoch booked."""
    in_a_row: int = 0
    """Steps skipped since the last good one."""
    best: float | None = None
    """The best monitored bound of this stage."""
    best_epoch: int = 0
    """Epochs finished when that was seen, in all."""
    peak: float | None = None
    """The best of the rounds alone, without where the stage starts: a high rate falls below that before it rises."""
    peak_epoch: int = 0
    """Epochs finished when that was seen, in all."""
    peak_done: float = 0.0
    """Share of the stage that was done then."""
    stale: int = 0
    """Rounds since then."""
    finite: int = 0
    """Rounds of this stage whose bound was finite."""


class Saved(NamedTuple):
    """What ``resume.pt`` holds."""

    position: Position
    best: dict[str, Tensor] | None
    model: dict[str, Tensor]
    optimizer: Mapping[str, Any] | None
    callbacks: Mapping[str, Any] = {}
    """What Lightning's callbacks say of themselves, by their ``state_key``."""


def encoded(saved: Saved) -> bytes:
    """A line that names the format and the digest of what follows, which torch reads without running code.

    Raises:
        RunError: a callback's state holds objects that cannot be read so.
    """
    buffer = io.BytesIO()
    torch.save(saved._asdict() | {"position": asdict(saved.position)}, buffer)
    content = buffer.getvalue()
    if saved.callbacks and (foreign := get_unsafe_globals_in_checkpoint(io.BytesIO(content))):
        told = ", ".join(sorted(foreign))
        raise RunError(f"callbacks: expected states of numbers, text, tensors and containers of them, got {told}.")
    return HEADER + files.digest(content).encode() + b"\n" + content


def read_resume(path: Path) -> Saved:
    with files.telling(path, "delete it to start this run anew"):
        content = regular.read_regular(path)
        if content.startswith(ZIP):
            raise FileError(
                f"{path}: expected resume format {files.FORMAT}, got that of an earlier curvae; go on there"
            )
        digest, _, rest = content.removeprefix(HEADER).partition(b"\n")
        if not content.startswith(HEADER) or digest.decode("latin-1") != files.digest(rest):
            raise FileError(f"{path}: expected what training saved, got a damaged file")
        with parsing(path, "what training saved"):
            saved = torch.load(io.BytesIO(rest), map_location="cpu", weights_only=True)
            return Saved(**saved | {"position": Position(**saved["position"])})


def reopen_run(run: RunFolder, system: nn.Module, config: Mapping[str, Any]) -> None:
    """Turn a finished run into one that was cut off before the first step of another cycle of training.

    What training goes on from is written first, the state of the run last: killed in between, it is still finished.

    Raises:
        RunError: another process trains there.
    """
    rows = run.metrics()
    last = {name: rows[name][-1] for name in ("epoch", "step", "seconds")} if rows["epoch"] else {}
    beside = {"counted": last.get("step", 0), "began": last.get("seconds", 0.0), "best_epoch": last.get("epoch", 0)}
    beside["peak_epoch"] = beside["best_epoch"]
    here = Position(rounds=len(rows["epoch"]), **beside, **last)
    with held(run.path):
        saved = Saved(here, None, dict(system.state_dict()), None)
        files.write_file(run.path / layout.RESUME, encoded(saved))
        files.write_yaml(run.path / layout.CONFIG, config)
        files.write_json(run.path / layout.STATUS, {**run.status, "state": "running", "stage": 0})
