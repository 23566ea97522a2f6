"""Local tests of given rows: exact where nothing is wrong, and every planted fault is seen by one that can see it."""

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import Generator, Tensor

import chance
import planted
from curvae.data import from_array
from curvae.evaluation import calibrate, local_c2st, predictive_check
from curvae.evaluation.calibration.local_c2st import Features, neighborhood, tail, whitened
from curvae.evaluation.calibration.tarp import reference_map
from curvae.evaluation.draws import equally_weighted
from curvae.systems import vae
from zoo import two_normals

ROWS = torch.tensor([[2.0, 1.0, 0.0, 0.5], [-2.0, -1.0, 0.0, -0.5]]).double()
"""One on either side of the fault that is local."""
SOUND = ["none, one mode", "none, two modes"]
FAULTY = [name for name in planted.FAULTS if name not in SOUND]
RANKS = {
    "too narrow": ("z1", "distance", "log p(x, z)"),
    "too wide": ("z1", "distance", "log p(x, z)"),
    "shifted": ("z1", "log p(x, z)"),
    "rotated": ("log p(x, z)",),
    "one Gaussian for two modes": ("z1", "log p(x, z)"),
    "a mode missed": ("z1", "distance"),
    "the prior": ("log p(x, z)",),
    "too narrow where x is large": ("z1", "distance"),
}
"""Which ranks see a fault."""


@pytest.mark.parametrize("name", FAULTY)
@pytest.mark.statistical
def test_ranks_see_a_fault(name: str):
    found = calibrate(planted.system(name), 2000, 99, levels=(), batch_size=2000)
    p = dict(zip(found.names, found.p_values, strict=True))
    chance.within("p-value", [p[each] for each in RANKS[name]], 1e-4)


@pytest.mark.statistical
def test_ranks_of_a_latent_see_neither_correlation_nor_the_prior():
    """What theory says: exact marginals, and a posterior that does not look at the data, are calibrated."""
    for name in ("rotated", "the prior"):
        found = calibrate(planted.system(name), 1000, 99, levels=(), batch_size=1000)
        chance.p_value(name, found.p_values[:2])


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.statistical
def test_ranks_of_an_exact_posterior_are_even(name: str):
    """Of many repetitions: the p-values are uniform or larger, so those below 0.1 are binomial or fewer."""
    found = [calibrate(planted.system(name), 200, 19, seed=seed, levels=(), batch_size=200) for seed in seeds(40)]
    few("p-values", np.array([each.p_values for each in found]).ravel(), 0.1, groups=40)


@pytest.mark.statistical
def test_draws_of_a_mixture_are_independent_and_in_their_shares(seed: int):
    q, count = two_normals(-50.0, 50.0), 4000
    z = equally_weighted(q, count, Generator().manual_seed(seed)).flatten()
    assert len(z.unique()) == count
    chance.deviates("share of one", ((z > 0).double().mean().item() - 0.5) * 2 * np.sqrt(count))


def seeds(count: int) -> list[int]:
    """Anew for every seed of the test."""
    return torch.randint(2**32, (count,)).tolist()


def few(name: str, p: np.ndarray, level: float, groups: int | None = None) -> None:
    """p-values of ``groups`` independent sets, of which each is below ``level`` in at most that share of cases."""
    each = len(p) // (groups or len(p))
    seen = (p <= level).reshape(-1, each)
    for column in seen.T:
        chance.p_value(name, binom.sf(column.sum() - 1, len(column), level))


@pytest.mark.parametrize("name", SOUND)
@pytest.mark.statistical
def test_local_p_values_of_an_exact_posterior_are_uniform(name: str):
    """Each is one of 1/40 .. 40/40, alike."""
    system, most = planted.system(name), 39
    found = [local_c2st(system, ROWS, count=200, permutations=most, seed=seed, batch_size=200) for seed in seeds(60)]
    p = np.array([[*each.p_values, each.p_value] for each in found])
    middle, spread = (most + 2) / (2 * most + 2), np.sqrt((1 - 1 / (most + 1) ** 2) / 12)
    chance.deviates("means", (p.mean(0) - middle) / spread * np.sqrt(len(p)))
    for column in p.T:
        few("small ones", column, 0.1)


@pytest.mark.parametrize("name", FAULTY)
@pytest.mark.statistical
def test_the_local_test_sees_a_fault_where_it_is(name: str):
    found = local_c2st(planted.system(name), ROWS, permutations=99, batch_size=2000)
    hit = found.p_values[:1] if planted.FAULTS[name][1].local else found.p_values
    chance.within("p-value", [*hit, found.p_value], 0.05)


@pytest.mark.statistical
def test_the_local_test_does_not_see_a_fault_that_is_far():
    name = "too narrow where x is large"
    found = [local_c2st(planted.system(name), ROWS, permutations=39, seed=s, batch_size=2000) for s in seeds(12)]
    few("far from it", np.array([each.p_values[1] for each in found]), 0.2)


def rows_of(name: str, n: int) -> Tensor:
    with torch.no_grad():
        return planted.system(name).model.sample(n)[0]


@pytest.mark.parametrize("name", ["none, two modes", "the prior"])
@pytest.mark.statistical
def test_rows_of_the_model_look_like_it_whatever_the_posterior(name: str):
    """The p-value of a row is one of 1/200 .. 200/200, alike; that of all is uniform or larger."""
    x = rows_of(name, 40 * 20).reshape(40, 20, 4)
    found = [predictive_check(planted.system(name), x[i], count=199, draws=20, seed=s) for i, s in enumerate(seeds(40))]
    p, together = np.array([each.p_values[0] for each in found]), np.array([each.p_value for each in found])
    chance.deviates("mean", (p.mean() - 201 / 400) / np.sqrt((1 - 1 / 200**2) / 12) * np.sqrt(len(p)))
    few("rows", p, 0.1)
    few("together", together, 0.1)


@pytest.mark.statistical
def test_rows_that_are_not_of_the_model_are_seen():
    """Noise that is too large or too small, a spike in one row of twenty, copies of one row."""
    name, n = "none, one mode", 200
    system, x = planted.system(name), rows_of("none, one mode", 200)
    spiked = x.clone()
    spiked[: n // 20, 2] += 8
    for kind, rows in {"large": 1.5 * x, "small": 0.5 * x, "spikes": spiked, "copies": x[:1].expand(n, -1)}.items():
        found = predictive_check(system, rows)
        chance.within(kind, found.p_value, 0.05)
        if kind == "spikes":
            chance.within("spiked rows", found.p_values[: n // 20], 0.05)


def test_missing_values_are_missing_in_what_is_simulated():
    data = from_array(torch.randn(40, 5))
    system, x, mask = vae(data.spec, latent=2, hidden=8), data.train.x.clone(), torch.rand(len(data.train), 5) > 0.3
    x[~mask] = float("nan")
    for found in (local_c2st(system, x, mask, 200, 9, 19), predictive_check(system, x, mask, 50, 5)):
        assert len(found.p_values) == len(x)
        assert 0 < found.p_value <= 1


@pytest.mark.parametrize("check", [local_c2st, predictive_check])
def test_misuse(check):
    system = vae(from_array(torch.randn(40, 5)).spec, latent=2, hidden=8)
    with pytest.raises(ValueError, match=r"x must be 1 or more rows of shape \(5,\); got \(3, 4\)"):
        check(system, torch.zeros(3, 4))
    with pytest.raises(ValueError, match="x must be finite where it is observed"):
        check(system, torch.full((3, 5), float("nan")))
    with pytest.raises(ValueError, match="count must be 1 or more"):
        check(system, torch.zeros(3, 5), count=0)


def test_same_seed_same_p_values_and_one_row_will_do():
    system, x = planted.system("none, one mode"), ROWS[:1]
    for check in (local_c2st, predictive_check):
        one, two, other = (check(system, x, count=100, seed=seed) for seed in (0, 0, 1))
        assert one == two != other
        assert one.p_value == pytest.approx(one.p_values[0], abs=1e-12)


def test_whitening_does_not_know_the_order_of_a_pool(rng: np.random.Generator):
    pools, order = rng.normal(size=(5, 12, 4)) * 3 + 1, rng.permutation(12)
    u = whitened(pools)
    assert whitened(pools[:, order]) == pytest.approx(u[:, order])
    assert u.mean(1) == pytest.approx(0, abs=1e-12)
    assert whitened(np.ones((2, 5, 3))) == pytest.approx(0, abs=1e-12)


def test_functions_of_latents_have_no_mean_in_a_pool(rng: np.random.Generator):
    """So that what is common to a pool has no part in telling its members apart."""
    assert Features.drawn(4, rng)(rng.normal(size=(5, 12, 4)) + 1).mean(1) == pytest.approx(0, abs=1e-12)


def test_a_neighborhood_is_the_nearest_quarter(rng: np.random.Generator):
    made, rows = rng.normal(size=(400, 1)), np.array([[0.0], [1.0]])
    weights = neighborhood(made, rows)
    assert weights.sum(1) == pytest.approx(1)
    near = np.abs(made[:, 0] - rows).argsort(1)
    assert (np.take_along_axis(weights, near[:, 100:], 1) == 0).all()
    assert (np.diff(np.take_along_axis(weights, near[:, :100], 1)) <= 1e-12).all()


def test_tails_count_what_is_as_large():
    assert tail(np.array([[3.0, 1.0, 3.0, 0.0]])).tolist() == [[0.5, 0.75, 0.5, 1.0]]


def test_reference_points_depend_on_x_and_spread_like_z():
    model = planted.system("none, one mode").model
    with torch.no_grad():
        points, (x, z) = reference_map(model), model.sample(4000)
    found = points.of(x)
    assert (found.std(0) / z.std(0)).tolist() == pytest.approx([1, 1], rel=0.25)
    assert points.distance(x, found).max() < 1e-6
