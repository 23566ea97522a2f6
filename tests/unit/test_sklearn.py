"""The scikit-learn estimator: its own checks, what its users do with it, and log p(x) against a closed form."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas
import pytest
import torch
from numpy.typing import NDArray
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import chance
import curvae
import sklearn_checks
from curvae.evaluation import row_evidence
from curvae.likelihoods import Gaussian
from curvae.objectives import monte_carlo_elbo
from curvae.sklearn import LatentVariables
from curvae.systems import LatentSystem

Array = NDArray[np.float64]
QUICK = {"max_updates": 2, "draws": 10}


def quick(system: str = "vae", latent: int | None = 2, **changes) -> LatentVariables:
    return LatentVariables(system, latent=latent, **{"options": {"hidden": 4}, **QUICK, **changes})


@pytest.fixture
def x(rng: np.random.Generator) -> Array:
    return rng.normal([1000, -50, 3], [10, 1, 2], size=(60, 3))


@parametrize_with_checks([quick(missing="mask", options={"hidden": 4, "start": "random"})])
def test_scikit_learns_own_checks(estimator, check):
    sklearn_checks.run(estimator, check)


def test_nan_is_refused_where_it_is_not_declared(x: Array):
    x[3, 1] = np.nan
    with pytest.raises(ValueError, match="contains NaN"):
        quick().fit(x)
    found = quick(missing="mask").fit(x)
    assert np.isfinite(found.transform(x)).all()
    assert np.isfinite(found.score_samples(x)).all()


@pytest.mark.statistical
def test_a_linear_model_has_its_exact_density():
    """Weights lie between 0 and ``2 width^(D/2) p(x)`` as Laplace is exact: Hoeffding's bound of 8,000 of them."""
    x = torch.randn(50, 4, dtype=torch.float64) * torch.tensor([5.0, 1.0, 1.0, 0.1]) + 7
    data, decoder = curvae.data.from_array(x), torch.nn.Linear(2, 4)
    system = curvae.systems.vae(data.spec, latent=2, hidden=8, decoder=decoder, likelihood=Gaussian(4, scale=0.5))
    found = row_evidence(system.double(), data.train, samples=4000)
    weight, bias = decoder.weight.detach(), decoder.bias.detach()
    law = torch.distributions.MultivariateNormal(bias, weight @ weight.mT + 0.25 * torch.eye(4))
    scale = data.train.raw.std(0, correction=0)
    exact = law.log_prob((data.train.raw - data.train.raw.mean(0)) / scale) - scale.log().sum()
    rate = len(found) * 2 * np.exp(-2 * 8000 * 0.1**2 / (2 * 1.3) ** 2)
    chance.within("relative error of p(x)", np.abs(np.expm1(found - exact.numpy())), 0.1, rate=rate)


def test_a_row_has_one_number_wherever_it_stands(x: Array):
    """Also of a system with a Laplace posterior of its own, and of one with an exact density."""
    for model in (quick("vlae"), quick("nice", latent=None)):
        found = model.fit(x).score_samples(x)[:9]
        alone = np.concatenate([model.score_samples(row[None]) for row in x[8::-1]])
        np.testing.assert_allclose(found, alone[::-1], rtol=0, atol=1e-9)


def test_draws_are_few_or_many(x: Array):
    model = quick(draws=50).fit(x)
    few = model.score_samples(x)
    assert np.abs(few - model.set_params(draws=4000).score_samples(x)).max() < 0.5
    assert not np.array_equal(few, quick(draws=50, random_state=1).fit(x).score_samples(x))


def test_outliers_are_the_share_that_was_said(x: Array):
    model = quick(contamination=0.25).fit(x)
    assert (model.predict(x) == -1).sum() == 15
    assert model.predict(x.mean(0, keepdims=True) + np.array([0, 40, 0])).tolist() == [-1]
    assert (model.fit_predict(x) == model.predict(x)).all()


def test_frames_come_out_where_they_are_asked_for(x: Array):
    frame = pandas.DataFrame(x, columns=["u", "g", "r"], index=np.arange(60) + 7)
    model = quick().set_output(transform="pandas").fit(frame)
    z = model.transform(frame)
    assert list(z.columns) == ["z0", "z1"] == list(model.get_feature_names_out())
    assert list(z.index) == list(frame.index)
    assert type(clone(quick()).set_output(transform="polars").fit(frame).transform(frame)).__module__.startswith(
        "polars"
    )
    assert list(model.feature_names_in_) == ["u", "g", "r"] == list(model.fitted_.schema.names)
    assert np.array_equal(z.to_numpy(), quick().fit(x).transform(x))
    with pytest.raises(ValueError, match="feature names should match"):
        model.transform(frame[["g", "u", "r"]])


def test_polars_frames_go_in(x: Array):
    polars = pytest.importorskip("polars")
    model = quick().fit(polars.DataFrame(x, schema=["u", "g", "r"]))
    assert list(model.feature_names_in_) == ["u", "g", "r"]


def test_columns_of_words_are_categories(x: Array):
    frame = pandas.DataFrame(x, columns=["u", "g", "r"]).assign(sex=np.resize(["M", "F", "I"], 60))
    model = quick().fit(frame)
    z = model.transform(frame)
    with pytest.raises(ValueError, match="feature names should match"):
        model.transform(frame[["sex", "r", "g", "u"]])
    assert set(model.inverse_transform(z)["sex"]) <= {"M", "F", "I"}
    assert set(model.sample(20)["sex"]) <= {"M", "F", "I"}
    assert model.score_samples(frame).shape == (60,)


def test_latents_lead_back_to_the_units_of_the_data(x: Array):
    model = LatentVariables("vae", latent=3, max_updates=200, options={"hidden": 8}).fit(x)
    back = model.inverse_transform(model.transform(x))
    assert (np.abs(back.mean(0) - x.mean(0)) < 0.2 * x.std(0)).all()
    assert np.corrcoef(back[:, 0], x[:, 0])[0, 1] > 0.5
    assert model.inverse_transform(model.transform(x.astype(np.float32))).dtype == np.float32


def test_it_stands_in_pipelines_and_searches(x: Array):
    pipeline = make_pipeline(StandardScaler(), quick())
    search = GridSearchCV(pipeline, {"latentvariables__latent": [1, 2]}, cv=2, n_jobs=2).fit(x)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert np.isfinite(cross_val_score(quick(), x, cv=2)).all()
    assert clone(quick(options={"hidden": 3})).options == {"hidden": 3}


def test_a_pickle_is_complete(x: Array, tmp_path: Path):
    model = quick().fit(x)
    file, rows = tmp_path / "model.pickle", tmp_path / "x.npy"
    file.write_bytes(pickle.dumps(model))
    np.save(rows, x)
    code = "import pickle, sys, numpy as np; m = pickle.load(open(sys.argv[1], 'rb')); x = np.load(sys.argv[2]);"
    code += "print(repr(m.score(x)), m.transform(x).sum())"
    told = subprocess.run([sys.executable, "-c", code, file, rows], capture_output=True, text=True, check=True).stdout
    assert told.split() == [repr(model.score(x)), str(model.transform(x).sum())]


def test_own_networks_and_systems_stay_as_they_are(x: Array):
    decoder = torch.nn.Linear(2, 3)
    before = decoder.weight.clone()
    model = quick(options={"hidden": 4, "decoder": decoder}).fit(x)
    assert torch.equal(decoder.weight, before)
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.transform(x), model.transform(x))
    system = curvae.systems.vae(curvae.data.from_array(x).spec, latent=2, hidden=4)
    weights = {name: value.clone() for name, value in system.state_dict().items()}
    model = quick(system, latent=None, options=None).fit(x)
    assert all(torch.equal(value, weights[name]) for name, value in system.state_dict().items())
    moved = model.fitted_.system.named_parameters()
    assert any(not torch.equal(value.float(), weights[name]) for name, value in moved)


def test_the_same_state_gives_the_same_estimator(x: Array):
    one, two = (quick(random_state=3).fit(x).transform(x) for _ in range(2))
    assert np.array_equal(one, two)
    quick(random_state=np.random.RandomState(0)).fit(x)
    quick(random_state=None).fit(x)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"contamination": 0.6}, r"contamination: expected a share of the rows in (0, 0.5], got 0.6."),
        ({"contamination": 0}, r"contamination: expected a share of the rows in (0, 0.5], got 0."),
        ({"validation": 1.0}, r"validation: expected a share of the rows in (0, 1), got 1.0."),
        ({"draws": 0}, "LatentVariables: draws must be 1 or more; got 0."),
        ({"options": {"out": "here"}}, "options: expected none that the estimator has itself, got 'out'."),
        ({"options": {"split": (1, 0, 0)}}, "options: expected none that the estimator has itself, got 'split'."),
        ({"random_state": -1}, "seed: expected an integer in [0, 2^32), got -1."),
        ({"max_updates": 0}, "max_updates: expected 1 or more, got 0."),
    ],
)  # fmt: skip
def test_what_is_out_of_range_is_named(x: Array, changes: dict, line: str):
    with pytest.raises(ValueError) as told:  # noqa: PT011
        quick(**changes).fit(x)
    assert str(told.value) == line


def test_a_system_without_evidence_has_no_score(x: Array):
    parts = curvae.systems.vae(curvae.data.from_array(x).spec, latent=2, hidden=4).parts()
    system = LatentSystem(
        parts.model, parts.inference, monte_carlo_elbo
    )  # of parts put together by hand, as one without weights would be
    system.evidence = "none"
    model = quick(system, latent=None, options=None).fit(x)
    assert model.transform(x).shape == (60, 2)
    assert not hasattr(model, "offset_")
    with pytest.raises(ValueError, match="gives no evidence"):
        model.score(x)


def test_nothing_is_known_before_fit(x: Array):
    for ask in (lambda m: m.transform(x), lambda m: m.sample(), lambda m: m.fitted_, lambda m: m.inverse_transform(x)):
        with pytest.raises(NotFittedError):
            ask(quick())
