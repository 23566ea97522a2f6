"""Where a run was made: versions, device, data, revision."""

import platform
import subprocess
from importlib import metadata
from typing import Any

import torch

from curvae.curvature import native
from curvae.data import Data
from curvae.training.setup.devices import resolve_device
from curvae.training.setup.settings import TrainingSettings

PACKAGES = ("curvae", "torch", "lightning", "numpy")


def environment(settings: TrainingSettings, data: Data) -> dict[str, Any]:
    """All that can change a run's numbers and is not in its configuration."""
    device = resolve_device(settings.device, settings.devices)
    return {
        "python": platform.python_version(),
        "platform": platform.platform(),
        **{name: version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "devices": settings.devices,
        "threads": torch.get_num_threads(),
        "curvature": native.kernel_in_use(),
        "seed": settings.seed,
        "data_checksum": data.checksum,
        "git": revision(),
    }


def version(package: str) -> str | None:
    """Version of an installed package."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def revision() -> str | None:
    """Git revision of the current folder, with "+" where it has changes; None outside of a repository."""
    commit = _git("rev-parse", "HEAD")
    return commit and commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
