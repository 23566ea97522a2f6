"""The imputer of scikit-learn's kind: its checks, what stays, and what is filled in."""

import pickle

import numpy as np
import pandas
import pytest
from sklearn.impute import SimpleImputer
from sklearn.utils.estimator_checks import parametrize_with_checks

import sklearn_checks
from curvae.sklearn import Imputer

QUICK = {"max_updates": 2, "options": {"hidden": 4}}


@parametrize_with_checks([Imputer("vae", latent=1, max_updates=2, options={"hidden": 4, "start": "random"})])
def test_scikit_learns_own_checks(estimator, check):
    sklearn_checks.run(estimator, check)


@pytest.fixture
def table(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Columns that say the same but for noise, whole and with gaps."""
    x = rng.normal(size=(300, 1)) * [10.0, 2.0, -1.0, 5.0] + [100, 0, 3, -7] + 0.3 * rng.normal(size=(300, 4))
    holes = np.where(rng.random(x.shape) < 0.15, np.nan, x)
    return x, holes


def test_it_is_better_than_the_mean(table: tuple[np.ndarray, np.ndarray]):
    x, holes = table
    model = Imputer("vae", latent=1, max_updates=400, options={"hidden": 16})
    filled, gaps = model.fit_transform(holes), np.isnan(holes)
    assert np.array_equal(filled[~gaps], x[~gaps])
    error, of_mean = (np.abs(each - x)[gaps].mean() for each in (filled, SimpleImputer().fit_transform(holes)))
    assert error < 0.5 * of_mean
    again = pickle.loads(pickle.dumps(model))
    assert np.array_equal(again.transform(holes), filled)


def test_draws_are_spread(table: tuple[np.ndarray, np.ndarray]):
    _, holes = table
    drawn = Imputer("vae", latent=1, sample_posterior=True, **QUICK).fit(holes).transform(holes)
    assert np.isfinite(drawn).all()
    assert not np.array_equal(drawn, Imputer("vae", latent=1, **QUICK).fit(holes).transform(holes))


def test_the_engine_is_a_parameter(table: tuple[np.ndarray, np.ndarray]):
    model = Imputer("vae", latent=1, by="encoder", **QUICK).fit(table[1])
    assert np.isfinite(model.transform(table[1])).all()
    with pytest.raises(ValueError, match="by: expected one of modes, encoder, chains; got 'mode'"):
        model.set_params(by="mode").transform(table[1])


def test_frames_keep_their_names_and_words(table: tuple[np.ndarray, np.ndarray]):
    frame = pandas.DataFrame(table[1], columns=list("ugri")).assign(sex=np.resize(["M", "F", None], 300))
    filled = Imputer("vae", latent=1, **QUICK).fit(frame).transform(frame)
    assert set(filled["sex"]) == {"M", "F"}
    numbers = Imputer("vae", latent=1, **QUICK).set_output(transform="pandas").fit_transform(frame[list("ugri")])
    assert list(numbers.columns) == list("ugri")
    assert np.isfinite(numbers.to_numpy()).all()
