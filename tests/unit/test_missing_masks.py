"""Masks of what is missing: exact rates, exact probabilities, and what each kind may depend on."""

import math

import numpy as np
import pytest
from scipy.special import expit, logit

from chance import deviates
from curvae.data.missing import _drawn, _shares, mar_mask, mcar_mask, mnar_mask

N, D = 101, 5


@pytest.fixture
def x(rng):
    return rng.normal(size=(N, D)) @ rng.normal(size=(D, D)) + 3


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.37, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_rates_are_exact_in_every_column(x, rate, seed):
    count = round(rate * N)
    assert (~mcar_mask(x, rate, seed)).sum(0).tolist() == [count] * D
    assert (~mar_mask(x, rate, seed)).sum(0).tolist() == [0, 0, 0, count, count]
    assert (~mar_mask(x, rate, seed, drivers=[-1])).sum(0).tolist() == [count] * 4 + [0]
    for slope in (3.0, -3.0, math.inf, 300.0):
        assert (~mnar_mask(x, rate, seed, slope=slope)).sum(0).tolist() == [count] * D
    assert (~mnar_mask(x, rate, seed, columns=[1])).sum(0).tolist() == [0, count, 0, 0, 0]


@pytest.mark.parametrize("slope", [0.0, 2.0, -40.0])
def test_probabilities_are_logistic_and_sum_to_the_count(rng, slope):
    score = rng.normal(size=N)
    shares = _shares(score, 30, slope)
    assert shares.sum() == pytest.approx(30, abs=1e-9)
    inner = (shares > 1e-9) & (shares < 1 - 1e-9)
    offsets = logit(shares[inner]) - slope * score[inner]
    assert np.ptp(offsets) < 1e-5
    np.testing.assert_allclose(shares, expit(np.median(offsets) + slope * score), atol=1e-6)


@pytest.mark.statistical
def test_each_cell_goes_with_its_probability(rng):
    """12 shares of 20,000 draws: 12 binomial deviates."""
    shares = _shares(rng.normal(size=12), 5, 1.0)
    drawn = np.stack([_drawn(shares, rng) for _ in range(20_000)])
    assert (drawn.sum(1) == 5).all()
    deviates("share", (drawn.mean(0) - shares) / np.sqrt(shares * (1 - shares) / len(drawn)))


def test_what_each_kind_depends_on(x, rng):
    """MCAR on no value, MAR on no value that may be missing, MNAR on the column's own alone."""
    other = x.copy()
    other[:, 3:] = rng.normal(size=(N, 2))
    assert np.array_equal(mcar_mask(x, 0.4), mcar_mask(rng.normal(size=x.shape), 0.4))
    assert np.array_equal(mar_mask(x, 0.4), mar_mask(other, 0.4))
    assert not np.array_equal(mar_mask(x, 0.4), mar_mask(x[::-1], 0.4))
    assert np.array_equal(mnar_mask(x, 0.4)[:, :3], mnar_mask(other, 0.4)[:, :3])
    assert np.array_equal(mnar_mask(x, 0.4), mnar_mask(100 * x - 7, 0.4))
    gone = ~mnar_mask(x, 0.4, slope=math.inf)
    assert all(x[gone[:, j], j].min() > x[~gone[:, j], j].max() for j in range(D))
    gone = ~mnar_mask(x, 0.4, slope=-math.inf)
    assert all(x[gone[:, j], j].max() < x[~gone[:, j], j].min() for j in range(D))
    assert not np.array_equal(mcar_mask(x, 0.4), mcar_mask(x, 0.4, seed=1))


def test_a_constant_column_loses_as_many(x):
    x[:, 4] = 0.1
    assert (~mnar_mask(x, 0.3)).sum(0).tolist() == [30] * D
    assert (~mar_mask(x, 0.3, drivers=[4])).sum(0).tolist() == [30] * 4 + [0]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: mcar_mask(x, 1.5), r"rate: expected a share in \[0, 1\]; got 1.5"),
        (lambda x: mcar_mask(x[0], 0.5), r"expected rows and columns, \(N, D\); got an array of shape \(5,\)"),
        (lambda x: mnar_mask(np.where(x > 3, np.nan, x), 0.5), "expected finite numbers"),
        (lambda x: mnar_mask(x, 0.5, slope=math.nan), "slope: expected a number, got NaN"),
        (
            lambda x: mar_mask(x, 0.5, drivers=[]),
            r"drivers: expected some of 5 columns, not none and not all; got \[\]",
        ),
        (lambda x: mar_mask(x[:, :1], 0.5), r"drivers: expected some of 1 columns, not none and not all; got \[0\]"),
        (lambda x: mar_mask(x, 0.5, drivers=[5]), "drivers: expected numbers of columns from 0 to 4; got 5"),
        (lambda x: mnar_mask(x, 0.5, columns=[-6]), "columns: expected numbers of columns from 0 to 4; got -6"),
    ],
)
def test_what_has_no_answer_is_refused(x, call, message):
    with pytest.raises(ValueError, match=message):
        call(x)
