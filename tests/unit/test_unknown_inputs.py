"""Unknown inputs from a run folder: what is found, what is left out and why, the file, and the page."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import curvae
from curvae.data import ArrayTable, Data, from_array
from curvae.evaluation import NamedTable, UnknownInputs, unknown_inputs
from curvae.evaluation.ood import MODELS, SCORES, SINGLE, ScoreFound, likelihood_matrices
from curvae.report import write_report
from curvae.systems import vae
from curvae.training import RunFolder
from curvae.training.run.layout import read_document
from folders import folder
from weight_toys import BayesianLinear

SMALL = {"models": 4, "samples": 6, "steps": 2, "reference": 20, "limit": 30}


def data_of(system: BayesianLinear, count: int = 150) -> Data:
    torch.manual_seed(0)
    return from_array(system.marginal().sample((count,)), standardize=False, split=(0.5, 0.25, 0.25))


def far(data: Data, times: float = 3.0) -> NamedTable:
    return NamedTable("far", ArrayTable(times * data.test.x, data.transform))


def run_of(path: Path, **options: float | bool) -> tuple[RunFolder, Data]:
    system = BayesianLinear(**options)  # pyright: ignore[reportArgumentType]
    data = data_of(system)
    return folder(path, system, data), data


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunFolder, UnknownInputs, Data]:
    """Rows three times as far as usual ones, told from test rows."""
    run, data = run_of(tmp_path_factory.mktemp("ood") / "run", exact=False)
    return run, unknown_inputs(run, far(data), NamedTable("test", data.test), **SMALL), data


def test_every_score_that_a_table_can_have(found: tuple[RunFolder, UnknownInputs, Data]):
    _, result, _ = found
    assert {each.title for each in result.scores} | set(result.left_out) == {each.title for each in SCORES}
    assert set(result.left_out) == {"log p(code)", "input complexity ratio", "compressed length"}
    assert (result.models, result.count, result.others, result.known) == (4, 30, 30, 20)
    for each in result.scores:
        assert result.values[each.name].shape == result.values_against[each.name].shape == (30,)
        assert each.detection is not None
        assert each.detection.auroc.value > 0.5, each.title
        assert each.median > each.median_known
        assert sum(each.histogram.rows) == pytest.approx(1.0)
    assert result.seconds > 0


def test_scores_are_of_the_matrix_of_the_seed(found: tuple[RunFolder, UnknownInputs, Data]):
    run, result, data = found
    tables = [far(data).table.take(torch.arange(30))]
    (matrix,) = likelihood_matrices(run.system(), tables, models=4, samples=6)
    expected = -np.log(np.exp(matrix.values).mean(0))
    np.testing.assert_allclose(result.values["negative_expected_log_likelihood"], expected, rtol=1e-6)


def test_a_file_of_the_run_holds_it_with_the_digest_of_its_weights(found: tuple[RunFolder, UnknownInputs, Data]):
    run, result, _ = found
    values = read_document(run.path, "ood.json")
    assert UnknownInputs.from_dict(values) == result
    assert values["weights"] == run.digest()
    assert values["tables"]["rows"]["name"] == "far"
    assert "values" not in values
    assert len(json.dumps(values)) < 30_000


def test_the_report_shows_it_until_weights_change(found: tuple[RunFolder, UnknownInputs, Data]):
    run, result, _ = found
    page = write_report(run.path).read_text()
    assert 'id="unknown"' in page
    assert result.title in page
    assert str(result.scores[0].detection.auroc) in page  # pyright: ignore[reportOptionalMemberAccess]
    assert "Histograms of each score of far and of test." in page
    weights, kept = run.path / "model.safetensors", (run.path / "model.safetensors").read_bytes()
    weights.write_bytes(kept[:-1] + b"!")
    page = write_report(run.path).read_text()
    weights.write_bytes(kept)
    assert "run `curvae ood run DATA` again" in page.replace("<code>", "`").replace("</code>", "`")
    assert result.title not in page


def test_without_others_rows_are_ranked_among_validation_rows(tmp_path: Path):
    run, data = run_of(tmp_path / "run")
    result = unknown_inputs(run, far(data), scores=MODELS[:1] + SINGLE[:1], **SMALL)
    known = -run.system().exact_matrix(data.validation.x[:20], 4).exp().mean(0).log().numpy()
    limit = np.quantile(known, 0.95, method="higher")
    assert result.scores[0].unusual == pytest.approx((result.values[result.scores[0].name] > limit).mean())
    assert all(each.detection is None for each in result.scores)
    assert [len(row) for row in result.table()] == [5, 5]
    assert result.header[1] == "Median"
    assert not result.values_against


def test_one_set_of_weights_has_the_other_scores_and_is_told_how_to_have_more(tmp_path: Path):
    data = from_array(torch.randn(80, 5), split=(0.5, 0.25, 0.25))
    run = folder(tmp_path / "run", vae(data.spec, latent=2, hidden=8), data)
    result = unknown_inputs(run, NamedTable("validation", data.validation), **SMALL)
    assert {each.title for each in result.scores} < {each.title for each in SINGLE}
    assert result.models == 0
    (told,) = (line for line in result.remarks() if "WAIC" in line)
    assert "curvae fit bayesian-vae" in told


def test_a_deviation_that_is_noise_is_not_told(tmp_path: Path):
    """Models that do not differ, whose importance sampling has an error."""
    run, data = run_of(tmp_path / "run", spread=0.0, exact=False)
    result = unknown_inputs(run, far(data), scores=MODELS, **SMALL)
    assert result.left_out["deviation over models"].startswith("above the noise of importance sampling in 0%")
    assert "deviation_over_models" not in result.values
    np.testing.assert_allclose(result.values["negative_effective_models"], -4)
    np.testing.assert_allclose(result.values["negative_entropy_over_models"], -np.log(4))


def test_a_score_that_is_nan_is_left_out_of_areas():
    values = {"rows": np.array([3.0, np.nan, 4.0]), "known": np.array([1.0, np.nan]), "against": np.array([1.0, 2.0])}
    found = ScoreFound.of("x", "x", values, None)
    assert found.detection is not None
    assert found.detection.auroc.value == 1
    assert (found.median, found.median_known) == (3.5, 1.0)


def test_the_caller_and_the_system_stay_as_they_are(tmp_path: Path):
    run, data = run_of(tmp_path / "run")
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = unknown_inputs(run, far(data), scores=MODELS, **SMALL)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    again = unknown_inputs(run, far(data), scores=MODELS, **SMALL)
    for name, values in first.values.items():
        np.testing.assert_array_equal(values, again.values[name])


@pytest.mark.parametrize("options", [{"models": 0}, {"samples": 0}, {"reference": 0}, {"limit": 0}, {"steps": 0}])
def test_settings_out_of_range(tmp_path: Path, options: dict[str, int]):
    run, data = run_of(tmp_path / "run")
    with pytest.raises(ValueError, match=f"unknown_inputs: {next(iter(options))}"):
        unknown_inputs(run, far(data), **options)


def test_rows_in_their_own_units(tmp_path: Path):
    """As arrays, by the same numbers as the run's own table; any one option by name."""
    x = np.random.default_rng(0).normal([100, -5, 3], [10, 1, 2], (60, 3))
    fitted = curvae.fit("vae", x, latent=1, hidden=8, max_updates=5, out=tmp_path / "run", progress=False)
    found = fitted.unknown(10 * x, against="test", samples=4, steps=1, limit=10, reference=10)
    assert found.rows == "x"
    assert found.against == "test"
    assert all(values.shape == (10,) for values in found.values.values())
    assert found.scores[0].detection is not None
    assert found.scores[0].detection.auroc.value > 0.8
