"""``latents.json``: the rotation in which a run reports its latents, and their loadings; runs on tables have one."""

from pathlib import Path
from typing import Any

from curvae.data import Data
from curvae.io.errors import parsing
from curvae.latents import Axes, latent_axes
from curvae.systems import System
from curvae.training.run import files, layout, weights


def write_axes(folder: Path, system: System, data: Data) -> None:
    """Say how the latents of the weights that are there are reported, or in one line why they are left as trained.

    Only runs on tables report theirs in other axes than they were trained in; of other data nothing is written.

    Raises:
        RunError: the file cannot be written.
    """
    if not data.schema.is_table:
        return
    found: dict[str, Any]
    try:
        found = {"axes": latent_axes(system, data).to_dict()}
    except ValueError as error:
        found = {"reason": str(error).removeprefix("rotate: ")}
    files.write_sealed(folder / layout.LATENTS, {**found, "weights": weights.digest_of_weights(folder)})


def read_axes(folder: Path) -> Axes | str | None:
    """The axes of a run's latents, or why they are reported as trained; None where nothing is said of these weights.

    Raises:
        RunError: the file is damaged.
    """
    if not (folder / layout.LATENTS).exists():
        return None
    values, path = layout.read_document(folder, layout.LATENTS), folder / layout.LATENTS
    if values.get("weights") != weights.digest_of_weights(folder):
        return None
    if "axes" not in values:
        return values.get("reason")
    with files.telling(path, layout.MEND), parsing(path, "axes of latents"):
        return Axes.from_dict(values["axes"])
