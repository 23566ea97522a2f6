"""Baselines in an evaluation: on exactly its rows, in its files, and in the words of compare and of the report."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

from curvae.baselines import fit
from curvae.data import ArrayTable, Data, from_array
from curvae.evaluation import BaselineResult, Comparison, Estimate, Evaluation, compare, evaluate, read_evaluation
from curvae.evaluation.likelihood.baselines import summarize_baselines
from curvae.likelihoods import Gaussian
from curvae.linear import ppca
from curvae.report import write_report
from curvae.systems import vae
from curvae.training import RunError, RunFolder
from folders import folder, reseal, rewrite


@pytest.fixture
def data() -> Data:
    return from_array(torch.randn(300, 2) @ torch.randn(2, 6) + torch.randn(300, 6))


def made(path: Path, data: Data, latent: int = 2, learn: str = "element") -> RunFolder:
    return folder(
        path, vae(data.spec, latent=latent, hidden=8, likelihood=Gaussian(data.spec.event, learn=learn)), data
    )


@pytest.fixture
def run(tmp_path: Path, data: Data) -> RunFolder:
    return made(tmp_path / "run", data)


def test_baselines_are_those_of_the_rows_that_were_evaluated(run: RunFolder, data: Data):
    result = evaluate(run, samples=30, limit=20, progress=False)
    arrays = read_evaluation(run.path).arrays
    assert [each.label for each in result.baselines] == ["PPCA, 2 latents", "factor analysis, 2 latents"]
    fitted = ppca(data.train.x, 2, floor=1e-6)
    expected = stats.multivariate_normal.logpdf(data.test.x[:20].double(), fitted.mean, fitted.covariance)
    np.testing.assert_allclose(arrays["baseline_ppca"], expected, atol=1e-9)
    for each in result.baselines:
        theirs, ours = arrays[each.array], arrays["log_likelihood"]
        assert each.log_likelihood == Estimate.of(theirs)
        assert each.difference.value == pytest.approx((ours - theirs).mean())
        assert each.difference.stderr == pytest.approx((ours - theirs).std(ddof=1) / np.sqrt(20))
        assert each.difference.monte_carlo == result.log_likelihood.monte_carlo


def test_the_difference_of_an_exact_baseline_from_itself_is_none(run: RunFolder):
    """The same rows in the same units: a system that is the baseline is 0 above it, and its error is 0."""
    evaluate(run, samples=30, progress=False)
    values = read_evaluation(run.path).arrays["baseline_ppca"]
    rewrite(run.path, log_likelihood=values)
    over = compare([run]).over_baselines[0]
    assert (over.against, over.value, over.stderr) == ("PPCA, 2 latents", 0, 0)


def test_files_hold_them_and_give_them_back(run: RunFolder):
    result = evaluate(run, samples=5, progress=False)
    found = read_evaluation(run.path)
    assert found.result.baselines == result.baselines
    assert Evaluation.from_dict(json.loads(json.dumps(result.to_dict(), allow_nan=False))) == found.result
    again = evaluate(run, samples=5, progress=False)
    assert again.baselines == result.baselines


def test_means_are_over_the_same_data_as_all_others():
    scores = {"log_likelihood": np.array([-1.0, np.nan, -3.0, -4.0]), "elbo": np.zeros(4), "log_det": np.zeros(4)}
    scores["khat_best"], scores["stderr_best"] = np.array([0.1, 0.1, 0.9, 0.1]), np.full(4, 0.1)
    table = ArrayTable(torch.randn(30, 2))
    baseline = fit(table, Gaussian(2, learn="element"))[0]
    (found,) = summarize_baselines([baseline], {"baseline_independent": np.array([-2.0, -9.0, -2.0, -2.0])}, scores)
    assert found.log_likelihood.value == -2
    assert found.difference.value == pytest.approx(np.mean([1, -1, -2]))
    assert found.trusted.value == pytest.approx(np.mean([1, -2]))
    del scores["log_likelihood"]
    (found,) = summarize_baselines([baseline], {"baseline_independent": np.full(4, -2.0)}, scores)
    assert (found.difference, found.trusted) == (None, None)


def test_damage_is_one_line(run: RunFolder):
    evaluate(run, samples=5, progress=False)
    whole = (run.path / "evaluation.npz").read_bytes()
    with np.load(run.path / "evaluation.npz", allow_pickle=False) as found:
        arrays = dict(found)
    np.savez_compressed(run.path / "evaluation.npz", **{**arrays, "baseline_ppca": arrays["baseline_ppca"] + 1})
    with pytest.raises(RunError, match=r"evaluation.npz: expected the arrays that evaluation.json names") as error:
        read_evaluation(run.path)
    assert "\n" not in str(error.value)
    (run.path / "evaluation.npz").write_bytes(whole)
    rewrite(run.path, baseline_ppca=None)
    with pytest.raises(
        RunError, match=r"expected arrays of one evaluation, got no baseline_ppca; run `curvae evaluate"
    ):
        read_evaluation(run.path)


@pytest.mark.parametrize("bad", [np.zeros(3), np.zeros((45, 1)), np.zeros(45, dtype=int)])
def test_arrays_of_another_kind_are_refused(run: RunFolder, bad: np.ndarray):
    evaluate(run, samples=5, progress=False)
    rewrite(run.path, baseline_ppca=bad)
    with pytest.raises(RunError, match="expected arrays of one evaluation, got baseline_ppca: "):
        read_evaluation(run.path)


@pytest.mark.parametrize("change", [{"name": "pca"}, {"latent": -1}, {"log_likelihood": 3.0}])
def test_what_is_said_of_one_is_checked(run: RunFolder, change: dict):
    evaluate(run, samples=5, progress=False)
    values = json.loads((run.path / "evaluation.json").read_text())
    reseal(run.path / "evaluation.json", {"baselines": [{**values["baselines"][0], **change}]})
    with pytest.raises(RunError, match=rf"evaluation.json: .*baselines.0.{next(iter(change))}"):
        read_evaluation(run.path)


def older(run: RunFolder) -> RunFolder:
    """An evaluation as an older curvae wrote it."""
    evaluate(run, samples=5, progress=False)
    rewrite(run.path, {"baselines": None}, baseline_ppca=None, baseline_factor_analysis=None)
    values = json.loads((run.path / "evaluation.json").read_text())
    del values["baselines"], values["seal"]
    (run.path / "evaluation.json").write_text("{}")
    reseal(run.path / "evaluation.json", values)
    return run


def test_older_evaluations_load_and_say_that_they_have_none(tmp_path: Path, data: Data):
    one, other = older(made(tmp_path / "old", data)), made(tmp_path / "new", data)
    assert read_evaluation(one.path).result.baselines is None
    evaluate(other, samples=5, progress=False)
    found = compare([one, other])
    assert [row.name for row in found.baselines] == ["PPCA, 2 latents", "factor analysis, 2 latents"]
    assert {d.name for d in found.over_baselines} == {"new"}
    assert f"old: no baselines: an older curvae evaluated it; run `curvae evaluate {one.path}` again." in found.notes
    page = write_report(one.path).read_text()
    assert "It has no baselines: an older curvae wrote it; run <code>curvae evaluate old</code> again." in page
    assert "no baselines" not in write_report(other.path).read_text()


def test_compare_begins_with_each_baseline_once(tmp_path: Path, data: Data):
    runs = [made(tmp_path / name, data, latent) for name, latent in (("a", 2), ("b", 2), ("c", 1))]
    for run in runs:
        evaluate(run, samples=30, progress=False)
    found = compare(runs)
    kinds = ("PPCA", "factor analysis")
    assert [row.name for row in found.baselines] == [
        f"{kind}, {n}" for n in ("2 latents", "1 latent") for kind in kinds
    ]
    assert [row.name for row in found.rows] == ["a", "b", "c"]
    pairs = [(d.name, d.against) for d in found.over_baselines]
    assert pairs == [
        (run, f"{kind}, {n}")
        for run, n in zip("abc", ("2 latents",) * 2 + ("1 latent",), strict=True)
        for kind in kinds
    ]
    last, arrays = found.over_baselines[-1], read_evaluation(runs[2].path).arrays
    difference = arrays["log_likelihood"] - arrays["baseline_factor_analysis"]
    assert last.value == pytest.approx(difference.mean())
    assert last.stderr == pytest.approx(difference.std(ddof=1) / np.sqrt(45))
    assert last.p_holm >= last.p_value
    shown(found)
    rows = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert rows["baselines"][0]["name"] == "PPCA, 2 latents"
    assert rows["over_baselines"][0]["against"] == "PPCA, 2 latents"


def shown(found: Comparison) -> None:
    """Baselines stand above the runs, each difference says from what."""
    lines = [line.split("  ")[0].strip() for line in found.to_text().splitlines()]
    assert lines.index("PPCA, 2 latents") < lines.index("factor analysis, 1 latent") < lines.index("a")
    text = found.to_text()
    assert "Difference from the baselines, paired by datum" in text
    assert "Difference from a, paired by datum" in text


def test_baselines_that_differ_say_whose_they_are(tmp_path: Path, data: Data):
    runs = [made(tmp_path / name, data) for name in "ab"]
    for run in runs:
        evaluate(run, samples=30, progress=False)
    rewrite(runs[1].path, baseline_ppca=read_evaluation(runs[1].path).arrays["baseline_ppca"] - 1)
    found = compare(runs)
    names = ["PPCA, 2 latents (a)", "factor analysis, 2 latents", "PPCA, 2 latents (b)"]
    assert [row.name for row in found.baselines] == names
    assert [d.against for d in found.over_baselines] == [names[0], names[1], names[1], names[2]]


def test_left_out_is_said_everywhere(tmp_path: Path):
    data = from_array(torch.cat([torch.randn(300, 3), torch.zeros(300, 2)], 1), standardize=False)
    runs = [made(tmp_path / name, data, learn="shared") for name in "ab"]
    for run in runs:
        assert evaluate(run, samples=5, progress=False).baselines[1].note == (
            "left out: 2 elements never vary in training"
        )
    assert "a, b: factor analysis: left out: 2 elements never vary in training." in compare(runs).notes
    assert compare(runs).over_baselines[0].against == "PPCA, 2 latents"
    assert "Difference from PPCA, 2 latents, paired by datum" in compare(runs).to_text()
    page = write_report(runs[0].path).read_text()
    assert (
        page.index("PPCA, 2 latents") < page.index("Left out: 2 elements never vary") < page.index("<td>log p(x)</td>")
    )


def test_other_data_are_scored_by_baselines_of_the_training_rows(run: RunFolder, data: Data, tmp_path: Path):
    other = data.test
    new = Data(other, other, other, data.spec, data.transform, {"name": "new"}, "feed", data.schema)
    result = evaluate(run, samples=5, data=new, progress=False)
    own = evaluate(run, samples=5, progress=False)
    assert result.baselines == own.baselines


def test_without_the_training_rows_the_reason_is_given(run: RunFolder, data: Data):
    new = from_array(torch.randn(60, 6))
    (found,) = evaluate(RunFolder(run.path, None, run.trained), samples=5, data=new, progress=False).baselines
    assert (found.label, found.log_likelihood) == ("no baseline", None)
    assert found.note.startswith("the training data are not at hand (")
    (found,) = evaluate(run, samples=5, data=new, progress=False).baselines
    assert found.note == "the data evaluated are in other units than the training data"
    other = RunFolder(run.path, from_array(torch.randn(50, 6)), run.trained)
    (found,) = evaluate(other, samples=5, data=new, progress=False).baselines
    assert found.note == "the data at hand are not those that the run was trained on"


def test_missing_values_are_left_out_of_both(tmp_path: Path):
    x = torch.randn(300, 2) @ torch.randn(2, 6) + torch.randn(300, 6)
    x[torch.rand(300, 6) < 0.1] = torch.nan
    data = from_array(x, missing="mask")
    run = made(tmp_path / "run", data)
    _, factors = evaluate(run, samples=30, progress=False).baselines
    assert factors.note == "left out: values are missing in training"
    fitted = ppca(data.train.x.double(), 2, data.train.mask)
    values = read_evaluation(run.path).arrays["baseline_ppca"]
    for value, row, seen in zip(values, data.test.x.double(), data.test.mask, strict=True):
        normal = stats.multivariate_normal(fitted.mean[seen], fitted.covariance[seen][:, seen])
        assert value == pytest.approx(normal.logpdf(row[seen]), abs=1e-8)


def test_every_result_has_a_label():
    assert [BaselineResult(name).label for name in ("independent", "none")] == ["independent columns", "no baseline"]
