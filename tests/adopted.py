"""Adopted models in tests: small networks whose conventions are known, and every command on a run."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from command_line import says
from curvae.linear import ppca

SMALL = {
    "evaluate": ["--samples", "20", "--limit", "6", "--no-progress"],
    "gaps": ["--data", "2", "--steps", "2", "--samples", "10", "--no-progress"],
    "calibrate": ["--count", "20", "--draws", "9"],
    "score": ["test", "--samples", "10", "--to", "scores.csv"],
    "ood": [
        "test",
        *["--models", "1", "--samples", "3", "--steps", "1", "--limit", "6", "--reference", "6", "--to", "unknown.csv"],
    ],
    "refine": ["--rounds", "1", "--to", "refined.npz"],
    "encode": ["--to", "latents.npz"],
    "sample": ["--n", "3", "--to", "drawn.npy"],
    "report": [],
}
"""Every command that reads a run, with flags that make it fast."""


def use(run: Path, capsys: pytest.CaptureFixture[str], without: tuple[str, ...] = (), **flags: list[str]) -> None:
    """Every command on a run; ``flags`` take the place of those above."""
    for name, given in (SMALL | flags).items():
        if name not in without:
            data, words = given[:1] if given[:1] == ["test"] else [], [w for w in given if w != "test"]
            capsys.readouterr()
            from curvae.cli import main

            assert main([name, str(run), *data, *words]) == 0, (name, capsys.readouterr().err)
    assert "log p(x)" in says(capsys, "compare", str(run), str(run))
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
