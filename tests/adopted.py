"""Adopted models in tests: small networks whose conventions are known, and every command on a run."""

import json
import math
import shutil
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from command_line import says
from curvae.cli import main
from curvae.linear import ppca

SMALL = {
    "evaluate": ["--samples", "20", "--limit", "6", "--no-progress"],
    "gaps": ["--data", "2", "--steps", "2", "--samples", "10", "--no-progress"],
    "calibrate": ["--count", "20", "--draws", "9"],
    "score": ["test", "--samples", "10", "--to", "scores.csv"],
    "ood": ["test", "--models", "1", "--samples", "3", "--steps", "1", "--limit", "6", "--reference", "6"],
    "refine": ["--rounds", "1", "--to", "refined.npz"],
    "encode": ["test", "--to", "latents.npz"],
    "sample": ["--n", "3", "--to", "drawn.npz"],
    "report": [],
}
"""Every command that reads a run, with flags that make it fast."""


def use(run: Path, capsys: pytest.CaptureFixture[str], without: tuple[str, ...] = (), **flags: list[str]) -> None:
    """Every command on a run; ``flags`` take the place of those above."""
    for name, given in (SMALL | flags).items():
        if name not in without:
            data, words = given[:1] if given[:1] == ["test"] else [], [w for w in given if w != "test"]
            capsys.readouterr()
            assert main([name, str(run), *data, *words]) == 0, (name, capsys.readouterr().err)
    other = shutil.copytree(run, run.with_name(f"{run.name}-again"))
    assert "log p(x)" in says(capsys, "compare", str(run), str(other))
    assert (run / "report.html").stat().st_size > 10_000


def pictures(count: int = 200, event: tuple[int, ...] = (3, 5, 5), noise: float = 0.05) -> torch.Tensor:
    """Pixels in [0, 1] that a linear model of 3 latents explains."""
    generator = torch.Generator().manual_seed(3)
    size = math.prod(event)
    weight = torch.randn(3, size, generator=generator)
    x = torch.randn(count, 3, generator=generator) @ weight + noise * torch.randn(count, size, generator=generator)
    return (0.5 + 0.1 * x).clamp(0, 1).reshape(count, *event)


def linear_pair(x: torch.Tensor, latent: int = 3, noise: float = 0.05) -> tuple[nn.Module, nn.Module]:
    """An encoder and a decoder that are probabilistic PCA of these rows; log-variances come out of the encoder."""
    fitted = ppca(x.flatten(1), latent, noise=noise**2)
    size = x[0].numel()
    encoder, decoder = nn.Sequential(nn.Flatten(), nn.Linear(size, 2 * latent)), nn.Sequential(nn.Linear(latent, size))
    with torch.no_grad():
        last = encoder[1]
        last.weight.zero_()
        last.weight[:latent] = fitted.posterior_map
        last.bias[:latent] = -fitted.posterior_map @ fitted.mean
        last.bias[latent:] = fitted.posterior_variance.log()
        decoder[0].weight.copy_(fitted.weight)
        decoder[0].bias.copy_(fitted.mean)
    return encoder, decoder


def saved(x: torch.Tensor, folder: Path) -> Path:
    """Rows in a file, so that a run on them can be opened again."""
    path = folder / "rows.npy"
    np.save(path, x.numpy())
    return path


OPTIONS = {
    "VAE": {},
    "BetaVAE": {"beta": 4.0},
    "IWAE": {"number_samples": 3},
    "VAE_LinNF": {"flows": ["Planar", "Radial", "Planar"]},
    "VAE_IAF": {"n_made_blocks": 2, "n_hidden_in_made": 2, "hidden_size": 16},
    "VAMP": {"number_components": 7},
    "WAE_MMD": {},
    "RAE_L2": {},
}
"""The eight models of pythae, and what their configuration says beside."""
HIDDEN = 512


def pythae_folder(
    path: Path, name: str, event: tuple[int, ...] = (1, 5, 5), latent: int = 3, loss: str = "bce"
) -> Path:
    """What pythae's ``model.save`` leaves of an untrained model, written without it."""
    generator, latent = torch.Generator().manual_seed(5), 3
    size, gaussian = math.prod(event), name not in ("WAE_MMD", "RAE_L2")

    def layer(prefix: str, inputs: int, outputs: int, scale: float = 1.0) -> dict[str, torch.Tensor]:
        weight = torch.randn(outputs, inputs, generator=generator) * scale / inputs**0.5
        return {f"{prefix}.weight": weight, f"{prefix}.bias": 0.1 * torch.randn(outputs, generator=generator)}

    state = layer("encoder.layers.0.0", size, HIDDEN) | layer("encoder.embedding", HIDDEN, latent)
    state |= layer("encoder.log_var", HIDDEN, latent) if gaussian else {}
    state |= layer("decoder.layers.0.0", latent, HIDDEN) | layer("decoder.layers.1.0", HIDDEN, size)
    if name == "VAMP":
        state |= layer("pseudo_inputs.0", OPTIONS[name]["number_components"], size)
    if name == "VAE_LinNF":
        for number, kind in enumerate(OPTIONS[name]["flows"]):
            names = {"w": (1, latent), "u": (1, latent), "b": (1,)}
            names = names if kind == "Planar" else {"x0": (1, latent), "log_alpha": (1,), "beta": (1,)}
            state |= {
                f"net.{number}.{key}": 0.3 * torch.randn(shape, generator=generator) for key, shape in names.items()
            }
    if name == "VAE_IAF":
        state |= _masked(latent, OPTIONS[name], layer)
    path.mkdir(parents=True)
    default = {
        "input_dim": list(event),
        "latent_dim": latent,
        "uses_default_encoder": True,
        "uses_default_decoder": True,
    }
    words = {"name": f"{name}_Config" if "_" in name else f"{name}Config", **default, **OPTIONS[name]}
    words |= {"reconstruction_loss": loss} if gaussian else {}
    (path / "model_config.json").write_text(json.dumps(words))
    torch.save({"model_state_dict": state}, path / "model.pt")
    return path


def _masked(
    latent: int, options: dict[str, Any], layer: Callable[..., dict[str, torch.Tensor]]
) -> dict[str, torch.Tensor]:
    """Masked networks, by the degrees of their units."""
    state, width = {}, options["hidden_size"]
    degrees = [torch.arange(latent), *[torch.arange(width) % (latent - 1)] * options["n_hidden_in_made"]]
    for block in range(options["n_made_blocks"]):
        prefix = f"iaf_flow.net.{block}.net"
        for number, (before, after) in enumerate(pairwise(degrees)):
            state |= layer(f"{prefix}.{2 * number}", len(before), len(after))
            state[f"{prefix}.{2 * number}.mask"] = (after.unsqueeze(1) >= before).float()
        last = f"{prefix}.{2 * (len(degrees) - 1)}"
        state |= layer(last, width, 2 * latent, 0.5)
        state[f"{last}.mask"] = (degrees[-1] < degrees[0].unsqueeze(1)).float().repeat(2, 1)
    return state
