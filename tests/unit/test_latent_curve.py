"""A held-out curve over the number of latents: against models in closed form, taken up again, refused."""

import csv
import functools
from pathlib import Path
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import torch

import curvae
from command_line import fails, says
from curvae import training
from curvae.cli import main
from curvae.data import Data, from_array
from curvae.evaluation import LatentCurve, LatentCurvePoint
from curvae.evaluation.comparison.latent_curve import measure_curve, sizes_of
from curvae.linear import factor_analysis, ppca
from curvae.training import RunError, RunFolder

FIXED: dict[str, Any] = {"hidden": 16, "epochs": 1, "learning_rate": 1e-12, "start": "linear", "device": "cpu"}
"""What stays at the linear model where it begins."""


def data_of(rows: int = 400) -> Data:
    """Two latents, six columns."""
    generator = torch.Generator().manual_seed(0)
    z, noise = (torch.randn(rows, size, generator=generator) for size in (2, 6))
    return from_array(z @ torch.randn(2, 6, generator=generator) + 0.3 * noise)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("curve") / "runs"


@pytest.fixture(scope="module")
def curve(folder: Path) -> LatentCurve:
    return curvae.latent_curve("vae", data_of(), "1:4", folder, samples=20, progress=False, **FIXED)


def better(train: torch.Tensor, latent: int, x: torch.Tensor) -> torch.Tensor:
    """log p(x) of the linear model that is the likelier one."""
    found = [fit(train, latent, floor=2e-6).log_prob(x) for fit in (ppca, factor_analysis)]
    return max(found, key=lambda each: float(each.mean()))


def test_it_is_that_of_linear_models(curve: LatentCurve):
    """Where the networks are linear the ELBO is log p(x); the headline's draws are of a wider proposal, hence 6 errors.

    Failure rate below 1e-5.
    """
    data = data_of()
    x = data.validation.x.double()
    exact = {latent: better(data.train.x, latent, x) for latent in (1, 2, 3, 4)}
    best = max(exact, key=lambda latent: float(exact[latent].mean()))
    for size in curve.sizes:
        drawn = 6 * size.monte_carlo + 1e-3
        assert size.log_likelihood == pytest.approx(float(exact[size.latent].mean()), abs=drawn)
        assert size.elbo == pytest.approx(float(exact[size.latent].mean()), abs=1e-3)
        paired = exact[size.latent] - exact[best]
        assert size.difference == pytest.approx(float(paired.mean()), abs=2 * drawn)
        assert size.difference_stderr == pytest.approx(float(paired.std()) / len(paired) ** 0.5, abs=2 * drawn)
    assert curve.fewest > 1
    assert curve.count == len(data.validation)


def test_files_and_words(curve: LatentCurve, folder: Path):
    assert sorted(each.name for each in folder.iterdir()) == [
        "latent-1",
        "latent-2",
        "latent-3",
        "latent-4",
        "latent-curve.csv",
        "latent-curve.png",
    ]
    with (folder / "latent-curve.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["log_likelihood"]) for row in rows] == [size.log_likelihood for size in curve.sizes]
    assert [row["run"] for row in rows] == [f"latent-{size.latent}" for size in curve.sizes]
    assert matplotlib.image.imread(folder / "latent-curve.png")[..., :3].std() > 0.01
    text = curve.to_text()
    assert curve.sentence.split(".")[0] in text
    assert text.count("best") >= 2


def test_finished_runs_and_their_evaluations_are_left_alone(curve: LatentCurve, folder: Path):
    kept = ["latent-2/model.safetensors", "latent-2/metrics.csv", *map(str, (folder / "latent-2").rglob("*.npz"))]
    before = {name: (folder / name).stat().st_mtime_ns for name in kept}
    again = curvae.latent_curve("vae", data_of(), [1, 2, 3, 4, 5], folder, samples=20, progress=False, **FIXED)
    assert {name: (folder / name).stat().st_mtime_ns for name in kept} == before
    assert [size.latent for size in again.sizes] == [1, 2, 3, 4, 5]
    same = {size.latent: size.log_likelihood for size in again.sizes}
    assert all(same[size.latent] == size.log_likelihood for size in curve.sizes)
    other = measure_curve({1: RunFolder(folder / "latent-1", data_of())}, samples=30, progress=False)
    assert other.sizes[0].difference == 0
    with pytest.raises(RunError, match="another configuration"):
        curvae.latent_curve("vae", data_of(), [1], folder, progress=False, **{**FIXED, "seed": 1})


def size(latent: int, value: float, difference: float, error: float) -> LatentCurvePoint:
    return LatentCurvePoint(latent, value, 0.1, 0.0, value, 0.1, difference, error, 0.0, 1.0, f"latent-{latent}")


def test_the_fewest_within_one_paired_error():
    sizes = size(1, -5, -2, 0.3), size(2, -3.1, -0.1, 0.12), size(4, -3, 0, 0), size(8, -3.2, -0.2, 0.3)
    curve = LatentCurve(sizes, 30)
    assert (curve.best, curve.fewest) == (4, 2)
    with pytest.warns(DeprecationWarning, match="LatentCurve.chosen is now fewest"):
        assert curve.chosen == 2
    assert curve.sentence.startswith("2 latents are the fewest within one paired standard error of the best, 4: -0.10")
    rising = LatentCurve(sizes[:3], 30)
    assert "The best is the largest that was tried: try more than 4." in rising.sentence
    alone = LatentCurve((sizes[0], size(2, -3, 0, 0), size(3, -4, -1, 0.1)), 30)
    assert alone.sentence.startswith("2 latents are best; all fewer are more than one paired error below it.")
    assert LatentCurve((size(1, -3, 0, 0), size(2, -4, -1, 0.1)), 9).sentence.startswith("1 latent is best.")


WRONG = ["3:1", "0:2", "1:x", "1,1", "1,,2", "1:2:3", ":", "", "1:", "-1:2", "1.5,2", [], [1, 1], [0, 1]]


@pytest.mark.parametrize("latent", WRONG)
def test_what_is_no_range_is_refused(latent: Any):
    with pytest.raises(
        ValueError, match=r"^latent: expected 1:8 \(both ends\) or 1,2,4,8, each 1 or more and once; got"
    ):
        sizes_of(latent)


def test_too_many_are_refused():
    with pytest.raises(ValueError, match="at most 100 numbers of latents"):
        sizes_of("1:1000000000000")


def test_systems_and_options_are_refused_before_anything_is_trained(tmp_path: Path):
    data = data_of()
    with pytest.raises(ValueError, match="expected a system with this argument, got 'direct-vae'"):
        curvae.latent_curve("direct-vae", data, "1:2", tmp_path / "runs")
    with pytest.raises(ValueError, match="expected an option of the system or the data, got 'hiden'"):
        curvae.latent_curve("vae", data, "1:2", tmp_path / "runs", hiden=3)
    assert not list(tmp_path.iterdir())


def test_cut_off_it_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    @functools.wraps(training.fit)
    def stop(*args: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("curvae.training.fit", stop)
    assert main(["fit", "vae", "digits", "--latent", "1:2", "--no-progress"]) == 130
    again = "curvae fit vae digits --latent 1:2 --no-progress --out runs/vae-digits-latents-1 goes on from here."
    assert again in capsys.readouterr().err


@pytest.mark.parametrize("word", ["3:1", "1,1", "1:x"])
def test_the_command_line_says_so_in_one_line(word: str, capsys: pytest.CaptureFixture[str]):
    fails(capsys, ["fit", "vae", "digits", "--latent", word], 2, "--latent: expected 1:8 (both ends) or 1,2,4,8", word)


def test_nothing_else_takes_a_range(capsys: pytest.CaptureFixture[str]):
    fails(capsys, ["fit", "vae", "digits", "--hidden", "1:8"], 2, "--hidden: expected a whole number, got '1:8'")
    fails(capsys, ["fit", "vae", "digits", "--hidden=8,16"], 2, "--hidden: expected a whole number, got '8,16'")


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Each run is the one that its own command would make; the second time nothing is trained."""
    monkeypatch.chdir(tmp_path)
    x = np.random.default_rng(0).normal(size=(120, 2)) @ np.random.default_rng(1).normal(size=(2, 4))
    np.savetxt("rows.csv", x, delimiter=",", header="a,b,c,d", comments="")
    words = ["fit", "vae", "rows.csv", "--hidden", "8", "--epochs", "2", "--no-progress"]
    out = says(capsys, *words, "--latent=1,3", "--out", "runs")
    assert "latents are" in out or "latent is" in out
    assert out.splitlines()[-1].startswith("next: curvae evaluate runs/latent-")
    says(capsys, *words, "--latent", "3", "--out", "single")
    one, two = (curvae.load(Path(folder)).system.state_dict() for folder in ("single", "runs/latent-3"))
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert says(capsys, *words, "--latent=1,3", "--out", "runs") == out
    printed = says(capsys, *words, "--latent", "1:2", "--print_config")
    assert printed.count("latent: 1") == printed.count("latent: 2") == printed.count("---\n") == 1
    assert "runs/vae-rows-latents-1" in says(capsys, *words, "--latent", "1,2")
