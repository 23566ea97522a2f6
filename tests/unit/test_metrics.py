"""Metrics of one's own: computed by evaluate, kept in its files, printed, warned of and reported from them."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from curvae.data import from_array
from curvae.evaluation import (
    STANDARD,
    Evaluation,
    Finding,
    Measured,
    Metric,
    Section,
    Settings,
    Subject,
    evaluate,
    gaps,
    read_evaluation,
    score,
)
from curvae.evaluation.settings import with_options
from curvae.report import write_report
from curvae.systems import System, vae
from curvae.training import RunFolder
from folders import folder


@dataclass(frozen=True)
class Surprise:
    """How many rows lie more than so many nats below the mean."""

    nats: float = 1.0
    name: str = "surprise"

    def check(self, system: System) -> None:
        if system.evidence == "none":
            raise ValueError("surprise: expected a system that gives evidence.")

    def compute(self, subject: Subject) -> Measured:
        values = subject.scores["log_likelihood"]
        far = values < values.mean() - self.nats
        section = Section(
            "surprise", "Surprises", ("Quantity", "Rows"), (("beyond", f"{far.sum()}"),), "Rows <b> & so."
        )
        rows = (("surprising rows", f"{far.sum()} of {len(far)}"),)
        finding = Finding({"count": int(far.sum()), "mean": values.mean()}, rows, ("Rows surprise.",), section)
        return Measured(finding, {"surprise": far})


class Wrong(Surprise):
    def compute(self, subject: Subject) -> Measured:
        return Measured(3.0)


class Short(Surprise):
    def compute(self, subject: Subject) -> Measured:
        return Measured(Finding(), {"surprise": np.zeros((len(subject.scores["log_likelihood"]), 2))})


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    data = from_array(torch.randn(300, 6))
    return folder(tmp_path / "vae", vae(data.spec, latent=2, hidden=8), data)


def test_a_metric_is_computed_kept_printed_warned_of_and_reported(run: RunFolder):
    result = evaluate(run, [*STANDARD, Surprise(0.5)], samples=30, progress=False)
    values, arrays, _, again, _ = read_evaluation(run.path)
    scores = arrays["log_likelihood"]
    far = scores < scores.mean() - 0.5
    assert 0 < far.sum() < len(far)
    assert again == result == Evaluation.from_dict(values)
    assert values["metrics"]["surprise"]["values"] == {"count": far.sum(), "mean": pytest.approx(scores.mean())}
    np.testing.assert_array_equal(arrays["surprise"], far)
    assert dict(again.rows())["surprising rows"] == f"{far.sum()} of {len(far)}"
    assert result.warnings[-1] == "Rows surprise."
    page = write_report(run.path).read_text(encoding="utf-8")
    assert '<section id="surprise"><h2>Surprises</h2>' in page
    assert f'<td>beyond</td><td class="number">{far.sum()}</td>' in page
    assert "<p>Rows &lt;b&gt; &amp; so.</p>" in page


def test_metrics_are_chosen_and_nothing_else_changes(run: RunFolder):
    whole = evaluate(run, samples=30, progress=False)
    assert whole.metrics.keys() == {"identifiability"}
    assert whole.baselines
    assert whole.information
    bare = evaluate(run, [], Settings(samples=30), progress=False)
    assert "metrics" not in json.loads((run.path / "evaluation.json").read_text())
    assert (bare.baselines, bare.information) == (None, None)
    assert bare.log_likelihood == whole.log_likelihood
    assert evaluate(run, [], Settings(samples=99, limit=7), progress=False, samples=30).count == 7


def test_files_without_metrics_are_read(run: RunFolder):
    result = evaluate(run, [Surprise()], samples=30, progress=False)
    values = {name: value for name, value in result.to_dict().items() if name != "metrics"}
    assert Evaluation.from_dict(values).metrics == {}


@pytest.mark.parametrize(
    ("metrics", "error", "message"),
    [
        ([Surprise(), Surprise(2.0)], ValueError, "evaluate: expected each metric once, got 'surprise' twice."),
        ([Wrong()], TypeError, "evaluate: metric 'surprise': expected a Finding, got float."),
    ],
)
def test_misuse(run: RunFolder, metrics: Iterable[Metric], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        evaluate(run, list(metrics), samples=30, progress=False)
    assert run.evaluation is None


def test_what_cannot_be_measured_is_said_before_anything_is(run: RunFolder):
    assert run.trained is not None
    run.trained.evidence = "none"
    with pytest.raises(ValueError, match="surprise: expected a system that gives evidence"):
        evaluate(run, [Surprise()], samples=0, progress=False)


def test_a_setting_that_is_none_is_named(run: RunFolder):
    with pytest.raises(TypeError, match="evaluate: there is no setting 'draws'; expected one of samples, split, seed"):
        evaluate(run, draws=30)
    assert run.trained is not None
    table = run.data().test
    with pytest.raises(TypeError, match="evaluate: expected Settings, or settings by name as samples=500; got 500"):
        with_options(500, Settings, {})
    with pytest.raises(TypeError, match="score: split is a setting of evaluate alone"):
        score(run.trained, table, split="train")
    with pytest.raises(TypeError, match="gaps: there is no setting 'limit'; expected one of data, steps, samples"):
        gaps(run, limit=3)


def test_arrays_have_one_value_a_row(run: RunFolder):
    told = r"metric 'surprise': surprise: expected 45 values, one a row, got shape \(45, 2\)"
    with pytest.raises(ValueError, match=told):
        evaluate(run, [Short()], samples=30, progress=False)
    assert run.evaluation is None
