"""``curvae sample``, ``encode``, ``refine`` and ``calibrate``."""

import errno
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import curvae
from command_line import fails, says
from curvae.evaluation import Calibration


def test_sample(run: Path, capsys: pytest.CaptureFixture[str]):
    assert says(capsys, "sample", str(run), "--n", "5") == "5 samples of shape (1, 8, 8): samples.npz\n"
    says(capsys, "sample", str(run), "--n", "5", "--to", "samples.csv")
    with np.load("samples.npz") as found:
        x = found["x"]
    assert x.shape == (5, 1, 8, 8)
    np.testing.assert_allclose(np.loadtxt("samples.csv", delimiter=",", skiprows=1), x.reshape(5, -1), rtol=1e-6)


def test_an_existing_file_is_not_overwritten(run: Path, capsys: pytest.CaptureFixture[str]):
    Path("mine.npz").write_bytes(b"precious")
    fails(capsys, ["sample", str(run), "--to", "mine.npz"], 1, "mine.npz: expected nothing there", "--force")
    fails(capsys, ["encode", str(run), "test", "--to", "mine.npz"], 1, "--force writes over it")
    assert Path("mine.npz").read_bytes() == b"precious"
    says(capsys, "sample", str(run), "--to", "mine.npz", "--force")
    assert Path("mine.npz").read_bytes() != b"precious"


def test_encode_to_npz_and_csv(run: Path, capsys: pytest.CaptureFixture[str]):
    import curvae

    assert says(capsys, "encode", str(run), "test") == "359 data in 2 latent dimensions: latents.npz\n"
    says(capsys, "encode", str(run), "digits", "--to", "latents.csv", "--level", "0.5")
    data = curvae.data.load("digits")
    q = curvae.load(run).posterior(data.test.raw)
    with np.load("latents.npz") as found:
        torch.testing.assert_close(torch.from_numpy(found["mean"]), q.mean)
        torch.testing.assert_close(torch.from_numpy(found["covariance"]), q.covariance)
        assert (found["label"] == data.test.label.numpy()).all()
    text = Path("latents.csv").read_text().splitlines()
    assert text[0] == "row,z0_mean,z0_lower,z0_upper,z1_mean,z1_lower,z1_upper,label"
    table = torch.from_numpy(np.loadtxt("latents.csv", delimiter=",", skiprows=1)).float()
    expected = torch.stack([q.mean, *q.interval(0.5)], 2).flatten(1)
    torch.testing.assert_close(table[:, 1:7], expected, rtol=1e-4, atol=1e-5)


def test_encode_a_file_is_transformed_as_the_run(run: Path, capsys: pytest.CaptureFixture[str]):
    from sklearn.datasets import load_digits

    images = load_digits().images.astype(np.uint8)
    np.save("one.npy", images[:1])
    np.save("flat.npy", images[:9].reshape(9, 64))
    assert "1 data" in says(capsys, "encode", str(run), "one.npy", "--to", "one.npz")
    says(capsys, "encode", str(run), "flat.npy", "--to", "flat.npz")
    says(capsys, "encode", str(run), "train", "--to", "train.npz")
    with np.load("one.npz") as one, np.load("flat.npz") as flat, np.load("train.npz") as train:
        np.testing.assert_allclose(one["mean"][0], flat["mean"][0], rtol=1e-4, atol=1e-5)
        assert np.abs(train["mean"] - one["mean"]).sum(1).min() < 1e-3 or len(train["mean"]) == 1198


def test_refine_improves_the_posterior_of_every_datum(run: Path, capsys: pytest.CaptureFixture[str]):
    """The line says what the file holds; the error is that of the differences, paired by datum."""
    import curvae

    out = says(capsys, "refine", str(run), "--steps", "5")
    with np.load("refined.npz") as found:
        gain = found["elbo_after"] - found["elbo_before"]
        mean, after = found["mean"], found["elbo_after"]
        assert found["covariance"].shape == (359, 2, 2)
    pair = f"{gain.mean():+.3f} ± {gain.std(ddof=1) / 359**0.5:.3f}"
    assert pair in out
    assert f"-> {after.mean():.3f}" in out
    assert gain.mean() > 5 * gain.std() / 359**0.5
    test = curvae.data.load("digits").test
    q = curvae.load(run).posterior(test.raw, refine=5)
    torch.testing.assert_close(torch.from_numpy(mean), q.mean)


def test_refine_by_averaged_curvature(run: Path, capsys: pytest.CaptureFixture[str]):
    """What is taken where the posterior is Gaussian: more than 20 gradient steps gain, and no datum below the mode."""
    assert "359 data, 8 rounds: mean ELBO" in says(capsys, "refine", str(run))
    says(capsys, "refine", str(run), "--steps", "20", "--to", "steps.npz")
    with np.load("refined.npz") as rounds, np.load("steps.npz") as steps:
        gain = rounds["elbo_after"] - rounds["elbo_before"]
        assert (gain > -0.3).all()
        assert rounds["elbo_after"].mean() > steps["elbo_after"].mean()
        np.testing.assert_allclose(rounds["elbo_before"], steps["elbo_before"])


def test_refine_of_other_data_to_csv(table_run: Path, capsys: pytest.CaptureFixture[str]):
    Path("two.csv").write_text("u,g,r\n1,2,3\n4,,6\n")
    words = ["refine", str(table_run), "--data", "two.csv", "--missing", "mask", "--to", "two.csv"]
    fails(capsys, words, 1, "--force")
    says(capsys, *words[:-1], "refined.csv")
    header = Path("refined.csv").read_text().splitlines()[0]
    assert header == "row,z0_mean,z0_lower,z0_upper,z1_mean,z1_lower,z1_upper,elbo_before,elbo_after"


def test_calibrate(copy: Path, capsys: pytest.CaptureFixture[str]):
    run = copy
    told = says(capsys, "calibrate", str(run), "--count", "200", "--draws", "19", "--to", "c.json", "--figure", "c.svg")
    assert "intervals of 90%" in told
    assert "All ranks together: p = " in told
    values = json.loads(Path("c.json").read_text())
    assert (values["count"], values["draws"]) == (200, 19)
    kept = json.loads((run / "calibration.json").read_text())
    facts = {name: kept.pop(name) for name in ("format", "seed", "weights", "seal")}
    assert kept == values
    assert (facts["format"], facts["seed"]) == (2, 0)
    assert facts["weights"] == hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()
    assert Path("c.svg").read_text().startswith("<?xml")
    fails(
        capsys,
        ["calibrate", str(run), "--count", "0"],
        2,
        "--count: expected a whole number from 1 to 1,000,000,000, got 0",
    )


def test_calibrate_of_given_rows(copy: Path, capsys: pytest.CaptureFixture[str]):
    words = ["--count", "100", "--draws", "19", "--rows", "test", "--limit", "7", "--to", "rows.json"]
    told = says(capsys, "calibrate", str(copy), *words)
    assert "posteriors of 7 rows of test" in told
    assert "Rows of test: they" in told
    kept = Calibration.from_dict(json.loads((copy / "calibration.json").read_text())).given
    assert kept is not None
    assert kept == Calibration.from_dict(json.loads(Path("rows.json").read_text())).given
    again = curvae.load(copy).check(curvae.data.load("digits").test.raw[:7], count=200)
    assert (kept.local, kept.predictive) == (again.local, again.predictive)
    assert len(kept.local.p_values) == 7
    fails(capsys, ["calibrate", str(copy), "--rows", "tset"], 2, "DATA: expected a known data set or a .npy")


def test_bounds_of_data_from_the_model(run: Path, capsys: pytest.CaptureFixture[str]):
    words = ("--temperatures", "20", "--data", "6", "--chains", "4", "--samples", "40", "--no-progress")
    told = says(capsys, "bracket", str(run), *words, "--to", "bracket.json")
    assert "lower bound, nats" in told
    assert "estimates between them" in told
    found = json.loads(Path("bracket.json").read_text())
    assert len(found["lower"]) == len(found["upper"]) == len(found["sampled"]) == 6
    fails(capsys, ["bracket", str(run), "--to", "bracket.json"], 1, "--force writes over it")
    fails(capsys, ["bracket", str(run), "--temperatures", "0"], 2, "--temperatures: expected a whole number from 1")


def test_encode_of_the_wrong_width(run: Path, capsys: pytest.CaptureFixture[str]):
    np.save("x.npy", np.zeros((4, 5)))
    words = ["encode", str(run), "x.npy"]
    fails(capsys, words, 1, "x.npy: expected data of shape (1, 8, 8), as those of the run, got (5,).")
    assert not Path("latents.npz").exists()


def test_encode_reads_a_file_as_the_run_did(table_run: Path, capsys: pytest.CaptureFixture[str]):
    Path("labeled.csv").write_text("u,g,r,class\n1,2,3,STAR\n4,5,6,STAR\n")
    Path("plain.csv").write_text("u,g,r\n1,2,3\n4,5,6\n")
    for name in ("labeled", "plain"):
        says(capsys, "encode", str(table_run), f"{name}.csv", "--to", f"{name}.npz")
    with np.load("labeled.npz") as labeled, np.load("plain.npz") as plain:
        np.testing.assert_array_equal(labeled["mean"], plain["mean"])
        assert "label" in labeled
        assert "label" not in plain
    Path("hole.csv").write_text("u,g,r\n1,,3\n")
    fails(
        capsys, ["encode", str(table_run), "hole.csv", "--to", "hole.npz"], 1, "hole.csv: expected finite", "--missing"
    )
    says(capsys, "encode", str(table_run), "hole.csv", "--to", "hole.npz", "--missing", "mask")


def test_full_disk_while_encoding(run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "latents.npz")

    monkeypatch.setattr(np, "savez", full)
    fails(capsys, ["encode", str(run), "test"], 1, "latents.npz: the disk is full; free some space")
    assert list(Path().iterdir()) == []
