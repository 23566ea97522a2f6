"""``curvae denoise``: files in the data's own units, ways to say the noise, and what is refused."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import curvae
from command_line import fails, says

NOISY = """id,class,g,u,u_err,r
a,STAR,0.25,1.0,0.5,-0.125
b,STAR,-1.5,0.5,0.1,2.0
"""


@pytest.fixture
def noisy() -> Path:
    Path("noisy.csv").write_text(NOISY)
    return Path("noisy.csv")


def test_rows_of_a_table(table_run: Path, noisy: Path, capsys: pytest.CaptureFixture[str]):
    words = [
        "denoise",
        str(table_run),
        str(noisy),
        "--draws",
        "50",
        "--noise",
        "u=u_err,g=0.2,r=0.3",
        "--to",
        "clean.csv",
    ]
    out = says(capsys, *words, noting="ignored 'id', 'u_err'")
    assert out.startswith("2 rows cleaned: clean.csv")
    found = pd.read_csv("clean.csv")
    assert list(found) == ["row", "u", "g", "r", "u_deviation", "g_deviation", "r_deviation", "flagged", "class"]
    noise = {"u": np.array([0.5, 0.1]), "g": 0.2, "r": 0.3}
    frame = pd.read_csv(noisy)[["u", "g", "r"]]
    known = curvae.load(table_run).denoised(frame, noise, draws=50)
    np.testing.assert_allclose(found[["u", "g", "r"]], known.cleaned)
    np.testing.assert_allclose(found[["u_deviation", "g_deviation", "r_deviation"]], known.deviation)
    says(capsys, "denoise", str(table_run), str(noisy), "--noise", "0.3", "--by", "mode", noting="ignored")
    with np.load("cleaned.npz") as arrays:
        assert set(arrays) == {"row", "x", "deviation", "effective_draws", "flagged", "label"}
        assert arrays["x"].shape == arrays["deviation"].shape == (2, 3)


def test_a_file_of_noise(run: Path, capsys: pytest.CaptureFixture[str]):
    """Pictures with more noise at one side."""
    x = curvae.data.load("digits").test.raw[:4].numpy() + np.random.default_rng(0).normal(size=(4, 1, 8, 8))
    np.save("x.npy", x)
    np.save("noise.npy", np.broadcast_to(np.linspace(0.1, 3, 8), x.shape))
    words = ["denoise", str(run), "x.npy", "--draws", "50", "--to", "c.npz"]
    says(capsys, *words, "--noise", "noise.npy")
    with np.load("c.npz") as arrays:
        moved = np.abs(arrays["deviation"]).mean((0, 1, 2))
        assert arrays["x"].shape == x.shape
    assert moved[0] < 0.11
    assert moved[-1] > moved[0]


BAD = [
    (["--noise", "0"], 1, "noise: expected positive finite standard deviations, got 0."),
    ([], 1, "noise: expected a positive number, or one of each value, got none."),
    (["--noise", "u=1"], 1, "noise: expected that of each of u, g, r; 'g' is not among both."),
    (["--noise", "u=1,2"], 2, "--noise: expected column=number or column=column, got '2'."),
    (["--noise", "much"], 2, "--noise: expected a number, column=number, or a .npy file, got 'much'."),
    (["--noise", "nowhere.npy"], 1, "nowhere.npy"),
    (
        ["--noise", "u=v,g=1,r=1"],
        1,
        "noise: expected a number or a column among id, class, g, u, u_err, r for 'u', got 'v'.",
    ),
]


@pytest.mark.parametrize(("words", "code", "message"), BAD)
def test_noise_that_is_none(table_run: Path, noisy: Path, words, code, message, recwarn, capsys):
    capsys.readouterr()
    from curvae.cli import main

    assert main(["denoise", str(table_run), str(noisy), *words]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert not Path("cleaned.npz").exists()


def test_what_cannot(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from curvae.cli import main

    x = np.random.default_rng(0).integers(0, 2, size=(60, 4))
    np.save("bits.npy", x)
    assert main(["fit", "vae", "bits.npy", "--latent", "1", "--hidden", "4", "--max-updates", "1", "--out", "r"]) == 0
    fails(capsys, ["denoise", "r", "test", "--noise", "1"], 1, "expected real numbers with a Gaussian likelihood")
