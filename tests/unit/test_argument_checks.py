"""Seeds that no generator takes and counts without end are refused in one line, at every door."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import curvae
from curvae import evaluation
from curvae.argument_checks import MOST, check_counts, check_least, check_seed
from curvae.data import DataError, from_array, from_file, load
from curvae.evaluation.gaps.gaps import measure_gap_terms
from curvae.evaluation.information.two_sample import classifier_test, mmd
from curvae.noise import common_noise
from curvae.systems import System, vae
from curvae.training.setup.settings import TrainingSettings

X = np.random.default_rng(0).normal(size=(200, 3))


@pytest.fixture(scope="module")
def system() -> System:
    return vae(from_array(X).spec, latent=2, hidden=4)


DOORS: dict[str, Callable[..., Any]] = {
    "load": lambda system, path, seed: load("digits", seed=seed),
    "from_array": lambda system, path, seed: from_array(X, seed=seed),
    "from_file": lambda system, path, seed: from_file(path, seed=seed),
    "fit": lambda system, path, seed: curvae.fit("vae", X, seed=seed),
    "split": lambda system, path, seed: curvae.fit("vae", X, split_seed=seed),
    "settings": lambda system, path, seed: TrainingSettings(seed=seed),
    "score": lambda system, path, seed: evaluation.score(system, from_array(X).test, seed=seed),
    "annealed": lambda system, path, seed: evaluation.annealed_importance_sampling(
        system, from_array(X).test, 9, seed=seed
    ),
    "bracket": lambda system, path, seed: evaluation.bracket(system, seed=seed),
    "calibrate": lambda system, path, seed: evaluation.calibrate(system, seed=seed),
    "gaps": lambda system, path, seed: measure_gap_terms(system, from_array(X).test, seed=seed),
    "information": lambda system, path, seed: evaluation.information(system, from_array(X).test, seed=seed),
    "quality": lambda system, path, seed: evaluation.quality(system, from_array(X), seed=seed),
    "impute": lambda system, path, seed: evaluation.impute(system, *missing(), seed=seed),
    "mmd": lambda system, path, seed: mmd(X, X, seed=seed),
    "classified": lambda system, path, seed: classifier_test(X, X, seed=seed),
    "noise": lambda system, path, seed: common_noise(seed),
}


def missing() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(X).float(), torch.tensor([True, True, False]).expand(200, 3)


@pytest.mark.parametrize("seed", [10**30, 2**32, -1])
@pytest.mark.parametrize("door", DOORS)
def test_seeds_that_no_generator_takes(door: str, seed: int, system: System, tmp_path):
    path = tmp_path / "x.csv"
    np.savetxt(path, X, delimiter=",")
    with pytest.raises(ValueError, match=rf"^seed: expected an integer in \[0, 2\^32\), got {seed}\.$") as refused:
        DOORS[door](system, path, seed)
    assert (refused.type is DataError) == (door in ("load", "from_array", "from_file", "split"))


def test_the_first_seed_and_the_last():
    for seed in (0, 2**32 - 1):
        check_seed(seed)
        assert len(from_array(X, seed=seed).test) == 30
        assert common_noise(seed).initial_seed() == seed


COUNTS: dict[str, Callable[..., Any]] = {
    "samples": lambda system, n: evaluation.score(system, from_array(X).test, samples=n),
    "limit": lambda system, n: evaluation.score(system, from_array(X).test, limit=n),
    "temperatures": lambda system, n: evaluation.annealed_importance_sampling(
        system, from_array(X).test, temperatures=n
    ),
    "chains": lambda system, n: evaluation.bracket(system, chains=n),
    "draws": lambda system, n: evaluation.calibrate(system, draws=n),
    "count": lambda system, n: evaluation.calibrate(system, count=n),
    "data": lambda system, n: measure_gap_terms(system, from_array(X).test, data=n),
    "steps": lambda system, n: evaluation.impute(system, *missing(), steps=n),
}


@pytest.mark.parametrize("count", COUNTS)
def test_counts_without_end(count: str, system: System):
    with pytest.raises(ValueError, match=rf"^\w+: {count} must be 1,000,000,000 or less; got 1,000,000,000,000\.$"):
        COUNTS[count](system, 10**12)


def test_the_first_count_and_the_last():
    check_counts("what", one=1, most=MOST, none=None)
    check_least("what", 1, bytes=10**18, none=None)
    with pytest.raises(ValueError, match=r"^what: two must be 3 or more; got 2\.$"):
        check_least("what", 3, two=2)
    with pytest.raises(ValueError, match=r"^what: one must be 1 or more; got 0\.$"):
        check_counts("what", one=0)
    with pytest.raises(ValueError, match="or less"):
        check_counts("what", one=MOST + 1)
