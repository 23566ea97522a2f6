"""Each verdict on a planted curve or evaluation, and none where nothing is wrong."""

import numpy as np
import pytest

from curvae.verdicts import of_training


def curve(bound, train=None, stage="train", first=1):
    count = len(bound)
    rows = list(range(first, first + count))
    train = list(bound) if train is None else train
    return {
        "stage": [stage] * count,
        "epoch": rows,
        "step": rows,
        "train_bound": train,
        "validation_bound": list(bound),
    }


def noisy(values, sd=0.3, seed=0):
    return np.asarray(values) + np.random.default_rng(seed).normal(size=len(values)) * sd


def kinds(metrics):
    return [each.kind for each in of_training(metrics)]


def test_a_curve_that_rises_to_its_end():
    found = of_training(curve(noisy(np.linspace(0, 60, 60))), again="curvae fit --continue runs/a")
    assert [each.kind for each in found] == ["rising"]
    assert "curvae fit --continue runs/a goes on" in str(found[0])


@pytest.mark.parametrize("seed", range(20))
def test_a_curve_that_has_come_to_rest_says_nothing(seed):
    """Noise at its end makes the last look the best one time in sixty, and never a gain of three of its deviations."""
    assert kinds(curve(noisy(50 * (1 - np.exp(-np.arange(60) / 4)), seed=seed))) == []


def test_a_curve_that_turns_while_training_goes_on():
    bound = noisy(np.concatenate([np.linspace(0, 20, 20), np.linspace(20, 5, 40)]))
    (found,) = of_training(curve(bound, np.linspace(0, 90, 60)))
    assert found.kind == "overfits"
    assert f"after epoch {int(bound.argmax()) + 1} of 60" in found.text


def test_a_curve_that_falls_with_that_of_training_is_no_overfitting():
    assert kinds(curve(np.linspace(0, -9, 20))) == []


def test_only_the_last_stage_counts_and_few_looks_say_nothing():
    early, late = curve(noisy(np.linspace(0, 60, 60))), curve(noisy(np.full(30, 70.0)), stage="laplace", first=61)
    assert kinds({name: [*early[name], *late[name]] for name in early}) == []
    assert kinds(curve(np.arange(5.0))) == []
