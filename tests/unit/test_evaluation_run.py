"""What evaluate leaves in a run folder, and what compare makes of two of them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from curvae.data import Data, from_array
from curvae.evaluation import Evaluation, compare, evaluate, read_evaluation
from curvae.evaluation.evaluate import device_for, split_table
from curvae.systems import vae, vlae
from curvae.training import RunError, RunFolder
from folders import folder, rewrite


@pytest.fixture
def data() -> Data:
    return from_array(torch.randn(300, 6), labels=torch.arange(300) % 3)


@pytest.fixture
def run(tmp_path: Path, data: Data) -> RunFolder:
    return folder(tmp_path / "vlae", vlae(data.spec, latent=2, hidden=8), data)


def test_files_say_what_the_result_says(run: RunFolder):
    folder_of_fit = list(run.path.iterdir())
    result = evaluate(run, samples=40, progress=False)
    values, arrays, *_ = read_evaluation(run.path)
    assert values["format"] == 2
    assert values["weights"] == run.digest()
    assert Evaluation.from_dict(values) == result
    assert result.headline is result.best
    assert result.ess == result.best.ess
    assert result.khat == result.best.khat
    assert values["data"]["checksum"] == run.data().checksum
    count = len(run.data().test)
    assert result.count == count
    for name in ("log_likelihood", "stderr", "limit", "ess", "khat"):
        for proposal in ("own", "laplace", "defensive", "best"):
            assert arrays[f"{name}_{proposal}"].shape == (count,)
    for name in ("index", "elbo", "status", "log_det", "label"):
        assert arrays[name].shape == (count,)
    assert result.log_likelihood.value == pytest.approx(arrays["log_likelihood"].mean())
    assert arrays["flagged"].sum() == result.flagged
    names = {path.name for path in run.path.iterdir()} - {path.name for path in folder_of_fit}
    assert names == {"evaluation.json", "evaluation.npz", "pictures.npz"}


def test_pictures_need_no_pickle(run: RunFolder):
    evaluate(run, samples=5, progress=False)
    with np.load(run.path / "pictures.npz", allow_pickle=False) as shown:
        shapes = {name: shown[name].shape for name in shown.files}
    assert shapes == {
        "id": (),
        "originals": (24, 6),
        "reconstructions": (24, 6),
        "samples": (48, 6),
        "latent_mean": (45, 2),
        "latent_covariance": (45, 2, 2),
        "covariances": (8, 2, 2),
        "labels": (45,),
        "trace_log_joint": (7, 45),
        "trace_grad_norm": (7, 45),
    }


def test_the_same_command_gives_the_same_numbers(run: RunFolder):
    state = torch.get_rng_state()
    first = evaluate(run, samples=30, progress=False)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(5)
    again = evaluate(run, samples=30, progress=False)
    assert replace(first, seconds=0) == replace(again, seconds=0)


def test_few_draws_are_said_to_be_few(run: RunFolder):
    result = evaluate(run, samples=10, split="validation", limit=7, progress=False)
    assert (result.count, result.split) == (7, "validation")
    assert result.khat.median != result.khat.median
    assert any("it needs 25 draws a datum or more, not 10" in warning for warning in result.warnings)
    (place,) = (run.path / "evaluations").iterdir()
    assert json.loads((place / "evaluation.json").read_text())["own"]["khat"]["median"] is None
    again = read_evaluation(place).result
    assert again.khat.median != again.khat.median


def test_a_failed_write_leaves_what_was_there(run: RunFolder, monkeypatch: pytest.MonkeyPatch):
    evaluate(run, samples=5, progress=False)
    before = {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()}

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(RunError, match="No space left"):
        evaluate(run, samples=6, progress=False)
    assert {path.name: path.read_bytes() for path in run.path.iterdir() if path.is_file()} == before


def test_misuse_is_named(run: RunFolder):
    with pytest.raises(ValueError, match="expected 'train', 'validation' or 'test'; got 'tset'"):
        split_table(run.data(), "tset")
    with pytest.raises(ValueError, match="device: 'toaster' is not usable"):
        device_for("toaster")


def test_a_comparison_is_paired_by_datum(run: RunFolder, tmp_path: Path, data: Data):
    other = folder(tmp_path / "vae", vae(data.spec, latent=2, hidden=8), data)
    third = folder(tmp_path / "third", vae(data.spec, latent=3, hidden=8), data)
    for each in (run, other, third):
        evaluate(each, samples=30, progress=False)
    (run.path / "metrics.csv").write_text("stage,epoch,seconds\nvae,1,3.5\nlaplace,2,12.25\n")
    found = compare([run.path, other, str(third.path)])
    ours, theirs = (read_evaluation(each.path)[1]["log_likelihood"] for each in (other, run))
    difference = found.differences[0]
    assert (difference.name, difference.against, difference.count) == ("vae", "vlae", len(data.test))
    assert difference.value == pytest.approx((ours - theirs).mean())
    assert difference.stderr == pytest.approx((ours - theirs).std(ddof=1) / np.sqrt(len(ours)))
    assert difference.stderrs == pytest.approx(difference.value / difference.stderr)
    assert [row.seconds for row in found.rows] == [12.25, None, None]
    assert found.rows[0].gap == pytest.approx(found.rows[0].log_likelihood.value - found.rows[0].elbo.value)
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["differences"][1]["name"] == "third"
    text = found.to_text(100)
    assert "paired" in text
    assert all(name in text for name in ("vlae", "vae", "third"))
    for suffix in ("png", "svg"):
        assert found.figure(tmp_path / f"figure.{suffix}").stat().st_size > 1000


def test_data_that_are_not_finite_in_either_are_left_out(run: RunFolder, tmp_path: Path, data: Data):
    other = folder(tmp_path / "vae", vae(data.spec, latent=2, hidden=8), data)
    for each, row in ((run, 3), (other, 5)):
        evaluate(each, samples=30, progress=False)
        values = read_evaluation(each.path).arrays["log_likelihood"].copy()
        values[row] = np.nan
        rewrite(each.path, log_likelihood=values)
    assert compare([run, other]).differences[0].count == len(data.test) - 2


def test_what_cannot_be_compared_is_refused(run: RunFolder, tmp_path: Path, data: Data):
    other = folder(tmp_path / "vae", vae(data.spec, latent=2, hidden=8), data)
    evaluate(run, samples=5, progress=False)
    with pytest.raises(RunError, match=r"vae has no evaluation.json: run `curvae evaluate"):
        compare([run, other])
    evaluate(other, samples=5, split="validation", progress=False)
    (validation,) = (other.path / "evaluations").iterdir()
    with pytest.raises(ValueError, match=r"vlae and array-validation-\w{8} differ in split .test; validation."):
        compare([run, validation])
    evaluate(other, samples=5, limit=4, progress=False)
    with pytest.raises(ValueError, match=r"differ in count .45; 4."):
        compare([run, other])
    evaluate(other, samples=5, data=from_array(torch.randn(300, 6)), progress=False)
    (another,) = (other.path / "evaluations").glob("array-test-*")
    with pytest.raises(ValueError, match="differ in data"):
        compare([run, another])
    with pytest.raises(ValueError, match="given twice"):
        compare([run, run.path])
    with pytest.raises(ValueError, match="expected one run or more"):
        compare([])
    with pytest.raises(ValueError, match="no difference to draw"):
        compare([run]).figure(tmp_path / "none.png")


def test_broken_files_are_one_line(run: RunFolder):
    evaluate(run, samples=5, progress=False)
    text = (run.path / "evaluation.json").read_text()
    changed = text.replace('"count": 45', '"count": 44')
    for broken, words in (
        (text[:50], "expected JSON"),
        (text.replace('"format": 2', '"format": 9'), "got 9"),
        (changed, "changed since"),
    ):
        assert broken != text
        (run.path / "evaluation.json").write_text(broken)
        with pytest.raises(RunError, match=words):
            read_evaluation(run.path)
    (run.path / "evaluation.json").write_text(text)
    (run.path / "evaluation.npz").write_bytes(b"PK")
    with pytest.raises(RunError, match="those of another evaluation"):
        read_evaluation(run.path)
