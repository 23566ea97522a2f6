"""NICE, autoencoders within flows and the probabilistic autoencoder on digits, from the command line alone."""

from pathlib import Path

import numpy as np
import pytest

from command_line import fails, says
from curvae.cli import main
from curvae.evaluation import picture_arrays

SHORT = ["--hidden", "16", "--no-progress", "--dequantize"]
FITS = {
    "vae": ["vae", "--epochs", "1", "--latent", "2"],
    "nice": ["nice", "--epochs", "1", "--couplings", "2"],
    "flow-ae": ["flow-ae", "--epochs", "1", "--latent", "2", "--flows", "1"],
    "linear": ["flow-ae", "--epochs", "1", "--latent", "2", "--flows", "1", "--core", "linear"],
    "probabilistic-ae": ["probabilistic-ae", "--epochs", "2", "--latent", "2", "--flows", "1"],
}
EXACT = ("nice", "flow-ae")
CODED = ("linear", "probabilistic-ae")
"""Beside the exact ones: log p(x) is estimated, and there are latents."""


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of each; what is written beside one is of a single test."""
    folder = tmp_path_factory.mktemp("exact")
    for name, (system, *flags) in FITS.items():
        assert main(["fit", system, "digits", *flags, *SHORT, "--out", str(folder / name)]) == 0
    return folder


def test_all_stand_in_one_table_in_the_same_units(
    fitted: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(picture_arrays, "_completes", lambda *_: False)  # chains: no part of this, and the dearest
    for name in FITS:
        out = says(capsys, "evaluate", str(fitted / name), "--samples", "25", "--limit", "25", "--no-progress")
        assert "dequantized with uniform noise" in " ".join(out.split())
        assert ("k-hat" in out) == (name not in EXACT)
    said = says(capsys, "compare", *(str(fitted / name) for name in FITS))
    table, paired = said.split("Difference from")[0], said.split("Difference from vae")[1].split("Difference from")[0]
    for name in FITS:
        (line,) = [line for line in table.splitlines() if line.split()[:1] == [name]]
        assert ("exact" in line) == (name in EXACT)
        assert (name in paired.split()[1:]) == (name != "vae"), "all against the first"


@pytest.mark.parametrize("name", [*EXACT, *CODED])
def test_each_draws_pictures(name: str, fitted: Path, capsys: pytest.CaptureFixture[str]):
    assert "9 samples of shape (1, 8, 8)" in says(capsys, "sample", str(fitted / name), "--n", "9", "--to", "s.npz")
    drawn = np.load("s.npz")["x"]
    assert drawn.shape == (9, 1, 8, 8)
    assert np.isfinite(drawn).all()
    assert drawn.std(0).max() > 0


@pytest.mark.parametrize("name", CODED)
def test_where_there_are_latents_rows_are_encoded(name: str, fitted: Path, capsys: pytest.CaptureFixture[str]):
    assert "359 data in 2 latent dimensions" in says(capsys, "encode", str(fitted / name), "test", "--to", "z.npz")
    assert np.load("z.npz")["mean"].shape == (359, 2)


@pytest.mark.parametrize("name", EXACT)
def test_where_there_are_none_one_line_says_so(name: str, fitted: Path, capsys: pytest.CaptureFixture[str]):
    for words in (["encode", str(fitted / name), "test"], ["refine", str(fitted / name)]):
        fails(capsys, words, 1, f"{words[0]}: expected a system with a posterior over latents (HasPosterior), got")
    assert not list(Path().iterdir())
