"""The command line with a run: everything that is done with its folder, and everything that can be wrong with it."""

import errno
import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from curvae.cli import main

TINY = ["--latent", "2", "--hidden", "16", "--epochs", "2"]
DECODER = """
import torch

class Decoder(torch.nn.Linear):
    '''Own.

    Args:
        latent: number of latent dimensions.
    '''

    def __init__(self, latent: int = 2, outputs: int = 64):
        super().__init__(latent, outputs)
"""


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on digits; read, never written."""
    folder = tmp_path_factory.mktemp("cli") / "run"
    assert main(["fit", "vae", "digits", *TINY, "--out", str(folder), "--no-progress"]) == 0
    return folder


@pytest.fixture(scope="session")
def table_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on a CSV file with a label; the file is beside it."""
    folder = tmp_path_factory.mktemp("cli-table")
    rows = np.random.default_rng(0).normal(size=(60, 3))
    lines = ["u,g,r,class", *(",".join(f"{value:.4f}" for value in row) + ",STAR" for row in rows)]
    (folder / "stars.csv").write_text("\n".join(lines) + "\n")
    words = ["fit", "vae", str(folder / "stars.csv"), "--label", "class", *TINY, "--out", str(folder / "run")]
    assert main(words) == 0
    return folder / "run"


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """A copy of the run to be written into, or spoiled."""
    return Path(shutil.copytree(run, tmp_path / "copy"))


@pytest.fixture(autouse=True)
def _in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def says(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    capsys.readouterr()
    assert main(words) == 0, capsys.readouterr().err
    out, err = capsys.readouterr()
    assert err == ""
    return out


def fails(capsys: pytest.CaptureFixture[str], words: Sequence[str], code: int, *parts: str) -> None:
    capsys.readouterr()
    assert main(words) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("curvae: error: ")
    assert err.count("\n") == 1, err
    for part in parts:
        assert part in err


def numbers(run: Path) -> list[list[str]]:
    """The metrics without the seconds."""
    rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    place = rows[0].index("seconds")
    return [row[:place] + row[place + 1 :] for row in rows]


# --- fit ------------------------------------------------------------------------------------------


def test_fit_says_where_the_run_lies_and_what_is_next(capsys: pytest.CaptureFixture[str]):
    assert (
        says(capsys, "fit", "vae", "digits", *TINY)
        == "run: runs/vae-digits-1\nnext: curvae evaluate runs/vae-digits-1\n"
    )


def test_replay_gives_the_same_numbers(run: Path, capsys: pytest.CaptureFixture[str]):
    says(capsys, "fit", "--config", str(run / "config.yaml"), "--out", "again")
    assert numbers(Path("again")) == numbers(run)
    assert (Path("again") / "config.yaml").read_bytes() == (run / "config.yaml").read_bytes()
    assert (Path("again") / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


def test_flags_override_a_configuration(run: Path, capsys: pytest.CaptureFixture[str]):
    printed = yaml.safe_load(
        says(capsys, "fit", "--config", str(run), "--latent", "3", "--seed", "5", "--print-config")
    )
    expected = yaml.safe_load((run / "config.yaml").read_text())
    expected["system"]["arguments"]["latent"] = 3
    expected["training"]["seed"] = 5
    assert printed == expected


def test_replay_of_a_file(table_run: Path, capsys: pytest.CaptureFixture[str]):
    says(capsys, "fit", "--config", str(table_run), "--out", "again")
    assert (Path("again") / "config.yaml").read_bytes() == (table_run / "config.yaml").read_bytes()
    assert numbers(Path("again")) == numbers(table_run)


def test_a_finished_run_is_left_alone(copy: Path, capsys: pytest.CaptureFixture[str]):
    before = contents(copy)
    fails(capsys, ["fit", "vae", "digits", *TINY, "--out", str(copy)], 1, "--out: the run in", "is finished already")
    assert contents(copy) == before


def test_a_run_of_another_configuration_is_left_alone(copy: Path, capsys: pytest.CaptureFixture[str]):
    before = contents(copy)
    fails(capsys, ["fit", "vae", "digits", "--out", str(copy)], 1, "another configuration", "Choose another out.")
    assert contents(copy) == before


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    fails(capsys, ["fit", "vae", "digits", *TINY, "--out", "mine"], 1, "--out: mine holds something", "untouched")
    assert contents(tmp_path / "mine") == {"thesis.tex": b"years of work"}


def test_ctrl_c_and_the_command_that_goes_on(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    from curvae.training.session import Session

    finish = Session.finish_epoch

    def stop(self: Session, *args: object, **kwargs: object) -> None:
        finish(self, *args, **kwargs)  # pyright: ignore[reportArgumentType]
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Session, "finish_epoch", stop)
        assert main(["fit", "vae", "digits", *TINY, "--out", "cut"]) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "\ncurvae: interrupted: curvae fit --config cut --out cut goes on from here.\n"
    says(capsys, "fit", "--config", "cut", "--out", "cut")
    assert numbers(Path("cut")) == numbers(run)


def test_full_disk(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    from curvae.training import files

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "replace", full)
    fails(capsys, ["fit", "vae", "digits", *TINY, "--out", "run"], 1, "No space left on device", "make room")
    assert not Path("run").exists()


def test_full_disk_while_encoding(run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    def full(*args: object, **kwargs: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "latents.npz")

    monkeypatch.setattr(np, "savez", full)
    fails(capsys, ["encode", str(run), "test"], 1, "latents.npz: the disk is full; free some space")
    assert list(Path().iterdir()) == []


# --- own modules ----------------------------------------------------------------------------------


def test_own_module(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "our_nets.py").write_text(DECODER)
    monkeypatch.syspath_prepend(str(tmp_path))
    says(
        capsys, "fit", "vae", "digits", *TINY, "--decoder", "our_nets.Decoder", "--decoder.latent", "2", "--out", "own"
    )
    decoder = yaml.safe_load(Path("own/config.yaml").read_text())["system"]["arguments"]["decoder"]
    assert decoder == {"class_path": "our_nets.Decoder", "init_args": {"latent": 2, "outputs": 64}}
    fails(capsys, ["sample", "own"], 1, "has a part of your own, our_nets.Decoder; --trust our_nets")
    says(capsys, "sample", "own", "--trust", "our_nets")
    says(capsys, "fit", "--config", "own", "--out", "again")
    assert numbers(Path("again")) == numbers(Path("own"))


# --- evaluate, report, compare --------------------------------------------------------------------


def test_evaluate_report_compare(copy: Path, table_run: Path, capsys: pytest.CaptureFixture[str]):
    out = says(capsys, "evaluate", str(copy), "--samples", "30", "--limit", "20")
    for part in ("20 test data, 30 draws each", "log p(x), nats", "ELBO, nats", "k-hat", "active latent dimensions"):
        assert part in out
    assert out.endswith(f"next: curvae report {copy}\n")
    assert json.loads((copy / "evaluation.json").read_text())["samples"] == 30
    assert says(capsys, "report", str(copy)) == f"{copy / 'report.html'}\n"
    other = shutil.copytree(copy, copy.parent / "other")
    out = says(capsys, "compare", str(copy), str(other), "--figure", "compare.png")
    assert "paired" in out
    assert "figure: compare.png" in out
    assert Path("compare.png").read_bytes().startswith(b"\x89PNG")
    fails(capsys, ["compare", str(copy), str(other), "--figure", "compare.png"], 1, "--force writes over it")
    fails(capsys, ["compare", str(copy)], 1, "expected two runs or more, got 1")
    fails(capsys, ["compare", str(copy), str(table_run)], 1, "has no evaluation.json", f"curvae evaluate {table_run}")


def test_evaluate_on_other_data(copy: Path, capsys: pytest.CaptureFixture[str]):
    np.save("x.npy", np.random.default_rng(0).integers(0, 17, size=(7, 8, 8)).astype(np.uint8))
    assert "7 test data" in says(capsys, "evaluate", str(copy), "--data", "x.npy", "--samples", "30")
    assert "4 test data" in says(capsys, "evaluate", str(copy), "--data", "digits", "--samples", "30", "--limit", "4")


@pytest.mark.parametrize("command", ["evaluate", "report", "sample"])
def test_no_run(command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    fails(capsys, [command, "nowhere"], 1, "nowhere: expected the folder of a run, got none there")
    fails(capsys, [command, str(tmp_path)], 1, "expected the folder of a run, got one without config.yaml")


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "truncated or damaged"),
        (b"\x00" * 100, "truncated or damaged"),
        (b"PK\x03\x04 a torch.save file", "got a pickle"),
        (b"\x80\x04 a pickle", "got a pickle"),
    ],
)
def test_bad_checkpoints(content: bytes, part: str, copy: Path, capsys: pytest.CaptureFixture[str]):
    (copy / "model.safetensors").write_bytes(content)
    before = contents(copy)
    fails(capsys, ["evaluate", str(copy)], 1, "model.safetensors: expected safetensors", part)
    fails(capsys, ["encode", str(copy), "test"], 1, part)
    assert contents(copy) == before
    assert [path.name for path in Path().iterdir()] == ["copy"]


def test_truncated_checkpoint(copy: Path, capsys: pytest.CaptureFixture[str]):
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    fails(capsys, ["sample", str(copy)], 1, "truncated or damaged")


def test_missing_checkpoint(copy: Path, capsys: pytest.CaptureFixture[str]):
    (copy / "model.safetensors").unlink()
    fails(capsys, ["sample", str(copy)], 1, "model.safetensors: expected a safetensors file, found none")


# --- sample and encode ----------------------------------------------------------------------------


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
    q = curvae.load(run).posterior(data.test.x)
    with np.load("latents.npz") as found:
        torch.testing.assert_close(torch.from_numpy(found["mean"]), q.mean)
        torch.testing.assert_close(torch.from_numpy(found["covariance"]), q.covariance)
        assert (found["label"] == data.test.label.numpy()).all()
    text = Path("latents.csv").read_text().splitlines()
    assert text[0] == "z0_mean,z0_lower,z0_upper,z1_mean,z1_lower,z1_upper,label"
    table = torch.from_numpy(np.loadtxt("latents.csv", delimiter=",", skiprows=1)).float()
    expected = torch.stack([q.mean, *q.interval(0.5)], 2).flatten(1)
    torch.testing.assert_close(table[:, :6], expected, rtol=1e-4, atol=1e-5)


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
    pair = f"{gain.mean():+.3f} +- {gain.std(ddof=1) / 359**0.5:.3f}"
    assert pair in out
    assert f"-> {after.mean():.3f}" in out
    assert gain.mean() > 5 * gain.std() / 359**0.5
    test = curvae.data.load("digits").test
    q = curvae.load(run).posterior(test.x, refine=5)
    torch.testing.assert_close(torch.from_numpy(mean), q.mean)


def test_refine_of_other_data_to_csv(table_run: Path, capsys: pytest.CaptureFixture[str]):
    Path("two.csv").write_text("u,g,r\n1,2,3\n4,,6\n")
    words = ["refine", str(table_run), "--data", "two.csv", "--missing", "mask", "--to", "two.csv"]
    fails(capsys, words, 1, "--force")
    says(capsys, *words[:-1], "refined.csv")
    header = Path("refined.csv").read_text().splitlines()[0]
    assert header == "z0_mean,z0_lower,z0_upper,z1_mean,z1_lower,z1_upper,elbo_before,elbo_after"


def test_calibrate(run: Path, capsys: pytest.CaptureFixture[str]):
    told = says(capsys, "calibrate", str(run), "--count", "200", "--draws", "19", "--to", "c.json", "--figure", "c.svg")
    assert "intervals of 90%" in told
    assert "All ranks together: p = " in told
    values = json.loads(Path("c.json").read_text())
    assert (values["count"], values["draws"]) == (200, 19)
    assert Path("c.svg").read_text().startswith("<?xml")
    fails(capsys, ["calibrate", str(run), "--count", "50"], 1, "needs 200 data or more with 99 draws; got --count 50")


def test_encode_of_the_wrong_width(run: Path, capsys: pytest.CaptureFixture[str]):
    np.save("x.npy", np.zeros((4, 5)))
    words = ["encode", str(run), "x.npy"]
    fails(capsys, words, 1, "x.npy: expected data of shape (1, 8, 8), as those of the run, got (5,).")
    assert not Path("latents.npz").exists()


def test_encode_reads_a_file_as_the_run_did(table_run: Path, capsys: pytest.CaptureFixture[str]):
    Path("labeled.csv").write_text("u,g,r,class\n1,2,3,STAR\n4,5,6,QSO\n")
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
