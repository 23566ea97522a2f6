"""Sequences from their data to the page of a run: moving digits, arrays with ragged ends, strips, lines, refusals."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import curvae
from command_line import fails, says
from curvae.baselines import fit_system_baselines
from curvae.data import from_array
from curvae.data.datasets.moving_digits import rolled_pictures
from curvae.report.pictures import shows_as_movie
from curvae.report.roll_outs import frames_of_movies, strips_of
from curvae.report.style import gif_bytes
from curvae.systems import td_vae, vrnn

SHORT = ["--hidden", "8", "--latent", "2", "--gates", "8", "--epochs", "1", "--no-progress"]


def walks(rows: int = 60, steps: int = 6) -> np.ndarray:
    """Random walks of two columns of other units, every third of which ends early."""
    x = np.random.default_rng(0).normal(size=(rows, steps, 2)).cumsum(1) * [1, 100] + [0, 1000]
    x[::3, -2:] = np.nan
    return x


def test_digits_go_around_a_pixel_a_frame():
    data, still = (curvae.data.load(name, binarize="static") for name in ("moving-digits", "digits"))
    assert data.spec.event == (20, 8, 8)
    assert data.spec.support == "binary"
    assert torch.equal(data.test.raw[:, 0], still.test.raw[:, 0]), "the first frame is the digit itself"
    raw = data.train.raw
    assert torch.equal(raw[:, 8], raw[:, 0])
    right = [torch.equal(row[t + 1], row[t].roll(1, -1)) for row in raw[:50] for t in range(19)]
    left = [torch.equal(row[t + 1], row[t].roll(-1, -1)) for row in raw[:50] for t in range(19)]
    assert all(one or other for one, other in zip(right, left, strict=True))
    assert 200 < sum(right) < 750
    assert torch.equal(raw, curvae.data.load("moving-digits").train.raw)
    picture = np.arange(6).reshape(1, 2, 3)
    assert rolled_pictures(picture, np.array([1]), 2)[0, 1].tolist() == [[2, 0, 1], [5, 3, 4]]


def test_columns_of_sequences_are_standardized_over_all_steps():
    data = from_array(walks(), event=(6, 2), missing="mask")
    assert data.spec.noise == "element"
    seen = data.train.x[data.train.mask].reshape(-1, 2)
    torch.testing.assert_close(seen.mean(0), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen.std(0, unbiased=False), torch.ones(2), atol=1e-5, rtol=0)
    assert (data.transform.scale[0] == data.transform.scale[-1]).all()


def test_a_linear_state_space_model_stands_beside_systems_of_sequences():
    data = from_array(walks(200), event=(6, 2), missing="mask")
    system = vrnn(data.spec, latent=2, hidden=8)
    found = {each.name: each for each in fit_system_baselines(system, data.train, data.spec)}
    assert found.keys() == {"ppca", "factor_analysis", "state_space"}
    ours, theirs = (found[name].log_prob(data.test.x, data.test.mask) for name in ("state_space", "ppca"))
    assert (ours - theirs).mean() > 0.5
    binary = from_array((np.random.default_rng(0).random((40, 5, 4)) < 0.5).astype(float), event=(5, 4))
    (left_out,) = (
        each
        for each in fit_system_baselines(td_vae(binary.spec, hidden=8), binary.train, binary.spec)
        if each.name == "state_space"
    )
    assert left_out.note == "left out: it is of real numbers, not of Bernoulli data"


def test_strips_and_moving_pictures(tmp_path: Path):
    movies = np.random.default_rng(0).random((3, 5, 8, 8))
    assert shows_as_movie(movies)
    assert not shows_as_movie(movies[:, :3])
    strip = strips_of(movies, (0, 1), movies)
    assert strip.shape[1] == 5 * (88 + 4) - 4
    frames = frames_of_movies(movies, (0, 1), movies)
    assert len(frames) == 5
    np.testing.assert_array_equal(frames[2][0, 0], np.full(3, movies[0, 2, 0, 0]))
    path = tmp_path / "moving.gif"
    path.write_bytes(gif_bytes(frames))
    with Image.open(path) as picture:
        assert (picture.n_frames, picture.info["loop"]) == (5, 0)


def test_movies_from_the_command_line(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("movies.npy", (np.random.default_rng(0).random((60, 8, 5, 5)) < 0.4).astype(np.float32))
    says(capsys, "fit", "td-vae", "movies.npy", "--event", "8,5,5", *SHORT, "--belief", "8", "--out", "run")
    out = says(capsys, "evaluate", "run", "--samples", "4", "--no-progress")
    assert "no bound of log p(x): it is not reported" in out
    assert "linear state space" in out
    says(capsys, "report", "run")
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert 'id="roll-outs"' in page
    assert "data:image/gif;base64," in page
    assert "The system sees the first 2 frames" in page
    says(capsys, "sample", "run", "--n", "3", "--to", "s.gif")
    with Image.open("s.gif") as picture:
        assert picture.n_frames == 8
    fails(capsys, ["sample", "run", "--to", "folder"], 2, "--to: expected .gif, .png, .npz or .csv for sequences")
    says(capsys, "encode", "run", "test", "--to", "z.npz")
    with np.load("z.npz") as encoded:
        assert encoded["mean"].shape == (9, 4)
        assert (encoded["lower"] < encoded["upper"]).all()
    fails(capsys, ["gaps", "run"], 1, "(HasModel), got SequenceSystem, which lacks the method parts")


def test_arrays_with_ragged_ends_from_the_command_line(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("walks.npy", walks())
    flags = ["--event", "6,2", "--missing", "mask", *SHORT, "--out", "run"]
    said = says(capsys, "fit", "vrnn", "walks.npy", *flags)
    assert "linear state space, 2 latents" in said
    out = says(capsys, "evaluate", "run", "--samples", "8", "--no-progress")
    assert re.search(r"log p\(x\), nats +-\d", out)
    says(capsys, "report", "run")
    page = Path("run/report.html").read_text(encoding="utf-8")
    assert "Original sequences (gray) and their roll-outs (blue)" in page
    assert "nan" not in re.sub(r"<[^>]*>", "", page)
    loaded = curvae.load("run")
    assert loaded.sample(4).shape == (4, 6, 2)
    assert loaded.encode(walks()).mean.shape == (60, 2)
    assert np.isfinite(loaded.reconstruct(walks())).all()
    assert loaded.score(walks()[:5], samples=30).log_likelihood.shape == (5,)
    with pytest.raises(ValueError, match="refine: expected a posterior with parameters"):
        loaded.posterior(walks(), refine=2)
