"""Bands of ranks: exact at every rank at once, and of one mind with the p-value."""

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import chance
from curvae.evaluation.calibration.bands import Band, holds, rank_band, rank_p_value
from fuzz import examples

SMALL = [(4, 2), (3, 4), (5, 1), (1, 3)]


def counts(ranks: np.ndarray, draws: int) -> np.ndarray:
    """At or below 0 .. draws - 1."""
    return np.bincount(ranks, minlength=draws + 1).cumsum()[:-1]


def stays(band: Band, ranks: np.ndarray, draws: int) -> bool:
    seen = counts(ranks, draws)
    return bool(((band.low <= seen) & (seen <= band.high)).all())


@pytest.mark.parametrize(("count", "draws"), SMALL)
def test_the_probability_of_a_band_by_counting_all_ranks(count: int, draws: int):
    everything = [np.array(ranks) for ranks in product(range(draws + 1), repeat=count)]
    for level in (0.3, 0.6, 0.95):
        band = rank_band(count, draws, level)
        share = np.mean([stays(band, ranks, draws) for ranks in everything])
        assert share >= level
        assert holds(band, count, draws) == pytest.approx(share, abs=1e-12)


@pytest.mark.parametrize(("count", "draws"), SMALL)
def test_p_values_by_counting_all_ranks(count: int, draws: int):
    """The share of all ranks that look as bad."""
    p = np.array([rank_p_value(np.array(ranks), draws) for ranks in product(range(draws + 1), repeat=count)])
    assert p == pytest.approx(np.array([(p <= each * (1 + 1e-9)).mean() for each in p]), abs=1e-9)


@settings(max_examples=examples(30), deadline=None)
@given(st.integers(20, 300), st.integers(2, 40), st.integers(0, 2**32 - 1), st.floats(-0.6, 0.6))
def test_outside_of_the_band_is_a_small_p_value(count: int, draws: int, seed: int, bent: float):
    ranks = (np.random.default_rng(seed).uniform(size=count) ** np.exp(bent) * (draws + 1)).astype(int)
    assert stays(rank_band(count, draws), ranks, draws) == (rank_p_value(ranks, draws) > 0.05)


@settings(max_examples=examples(25), deadline=None)
@given(st.integers(1, 1000), st.integers(1, 100), st.floats(0.5, 0.999))
def test_a_band_holds_what_it_promises_and_lies_around_the_mean(count: int, draws: int, level: float):
    band, mean = rank_band(count, draws, level), count * np.arange(1, draws + 1) / (draws + 1)
    assert holds(band, count, draws) >= level
    assert (np.diff(band.low) >= 0).all()
    assert (np.diff(band.high) >= 0).all()
    assert (band.low <= np.ceil(mean)).all()
    assert (band.high >= np.floor(mean)).all()


@pytest.mark.statistical
def test_uniform_ranks_stay_within_as_often_as_said(rng: np.random.Generator):
    """The number of sets that leave a band of level 0.8 is binomial."""
    count, draws, sets = 200, 19, 2000
    band = rank_band(count, draws, 0.8)
    share = holds(band, count, draws)
    within = sum(stays(band, rng.integers(0, draws + 1, count), draws) for _ in range(sets))
    chance.deviates("sets within", (within - sets * share) / np.sqrt(sets * share * (1 - share)))


def test_ranks_that_are_far_off_have_a_small_p_value_and_even_ones_none():
    assert rank_p_value(np.zeros(1000, dtype=int), 99) < 1e-100
    assert rank_p_value(np.arange(3400) % 34, 33) == 1.0
