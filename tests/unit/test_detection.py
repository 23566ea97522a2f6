"""Areas and rates of detection: brute force, scikit-learn, and intervals that hold what they say."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from curvae.evaluation.ood import detection, roc_area


def scores(seed: int, ties: bool = False, count: int = 40, others: int = 30) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    unknown, known = generator.normal(1, 1.5, count), generator.normal(0, 1, others)
    return (unknown.round(), known.round()) if ties else (unknown, known)


def together(unknown: np.ndarray, known: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.repeat([1, 0], [len(unknown), len(known)]), np.concatenate([unknown, known])


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_brute_force_and_scikit_learn(seed: int, ties: bool):
    unknown, known = scores(seed, ties)
    found = detection(unknown, known)
    pairs = np.sign(unknown[:, None] - known[None])
    assert found.auroc.value == pytest.approx((1 + pairs.mean()) / 2, abs=1e-12)
    assert found.auroc.value == pytest.approx(roc_auc_score(*together(unknown, known)), abs=1e-12)
    assert found.aupr.value == pytest.approx(average_precision_score(*together(unknown, known)), abs=1e-12)
    false, true, _ = roc_curve(*together(unknown, known), drop_intermediate=False)
    assert found.fpr80.value == pytest.approx(false[true >= 0.8 - 1e-12].min(), abs=1e-12)


def test_the_variance_of_delong_by_its_definition():
    unknown, known = scores(3, ties=True)
    above = 0.5 * (1 + np.sign(unknown[:, None] - known[None]))
    variance = above.mean(1).var(ddof=1) / len(unknown) + above.mean(0).var(ddof=1) / len(known)
    found = roc_area(unknown, known)
    logit = np.log(found.value / (1 - found.value))
    half = norm.ppf(0.975) * np.sqrt(variance) / (found.value * (1 - found.value))
    expected = [1 / (1 + np.exp(-logit - side * half)) for side in (-1, 1)]
    assert [found.low, found.high] == pytest.approx(expected, abs=1e-12)


def test_the_larger_score_is_the_unknown_one():
    unknown, known = scores(0)
    assert roc_area(unknown, known).value == pytest.approx(1 - roc_area(known, unknown).value)
    assert roc_area(unknown, known).value > 0.5


@pytest.mark.parametrize("sign", [1, -1])
def test_two_sets_apart_have_an_interval_all_the_same(sign: int):
    """Of 0 errors in n, 3 in n are not ruled out; one of DeLong would be a point."""
    found = roc_area(sign * np.arange(100.0, 130.0), sign * np.arange(30.0))
    low, high = (found.low, found.high) if sign > 0 else (1 - found.high, 1 - found.low)
    assert high == pytest.approx(1.0)
    assert 0.85 < low < 0.99


def test_scores_that_are_all_equal_are_chance():
    found = detection(np.zeros(40), np.zeros(60))
    assert found.auroc.value == 0.5
    assert found.aupr.value == pytest.approx(0.4)
    assert found.fpr80.value == 1.0
    assert found.auroc.low < 0.5 < found.auroc.high


def test_infinite_scores_have_their_place():
    found = detection(np.array([np.inf, np.inf, 3.0]), np.array([1.0, -np.inf, 4.0]))
    assert found.auroc.value == pytest.approx(8 / 9)


def test_intervals_hold_the_truth():
    """Shares of 200 repetitions of DeLong's and of 40 of the bootstrap, which is a little narrow; 4 standard errors."""
    truth = norm.cdf(1 / np.sqrt(1 + 1.5**2))
    large = scores(0, count=40_000, others=30_000)
    precision = average_precision_score(*together(*large))
    alarms = norm.sf(norm.isf(0.8, 1, 1.5))
    found = [detection(*scores(seed, count=80, others=60), seed=seed) for seed in range(40)]
    areas = [roc_area(*scores(seed, count=80, others=60)) for seed in range(200)]
    held = np.mean([each.low <= truth <= each.high for each in areas])
    assert abs(held - 0.95) < 4 * np.sqrt(0.95 * 0.05 / 200)
    for known, name in ((precision, "aupr"), (alarms, "fpr80")):
        each = [getattr(one, name) for one in found]
        assert np.mean([one.low <= known <= one.high for one in each]) > 0.93 - 4 * np.sqrt(0.93 * 0.07 / 40)


def test_the_seed_decides_the_bootstrap():
    unknown, known = scores(1)
    assert detection(unknown, known, 1) == detection(unknown, known, 1)
    assert detection(unknown, known, 1) != detection(unknown, known, 2)


@pytest.mark.parametrize("unknown", [np.array([1.0]), np.array([1.0, np.nan])])
def test_what_cannot_be_ranked_is_refused(unknown: np.ndarray):
    with pytest.raises(ValueError, match=r"detection: expected scores of 2 rows or more"):
        detection(unknown, np.array([0.0, 1.0]))
