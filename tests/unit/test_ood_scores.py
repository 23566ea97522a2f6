"""Scores of unknown inputs, one by one: identities, closed forms, and the pitfalls of published code."""

import zlib

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Generator

from curvae.data import ArrayTable, from_array
from curvae.data.transforms import Binarization, Chain, Dequantization, Scale
from curvae.evaluation import OodSettings
from curvae.evaluation.likelihood.importance import posterior_weights
from curvae.evaluation.ood import (
    SCORES,
    LikelihoodMatrix,
    ScoredRows,
    complexity_distance,
    complexity_ratio,
    compressed_nats,
    deviation_over_models,
    effective_models,
    entropy_over_models,
    expected_log_likelihood,
    latent_distance,
    likelihood_matrices,
    likelihood_regret,
    reconstruction_log_likelihood,
    roc_area,
    typicality,
    waic,
)
from curvae.evaluation.ood.complexity import complexity_of, levels_per_element
from curvae.evaluation.ood.unknown_scores import MODELS
from curvae.objectives import elbo
from curvae.systems import vae
from curvae.typing import Batch
from weight_toys import SCALE, BayesianLinear

M, N = 7, 50


def matrix(seed: int = 0, scale: float = 2.0) -> np.ndarray:
    return scale * np.random.default_rng(seed).normal(size=(M, N)) - 40


def twice(ll: np.ndarray) -> LikelihoodMatrix:
    """A matrix without noise."""
    return LikelihoodMatrix(np.stack([ll, ll]))


def test_identical_models():
    ll = np.tile(matrix()[:1], (M, 1))
    np.testing.assert_allclose(effective_models(ll), M)
    np.testing.assert_allclose(entropy_over_models(ll), np.log(M))
    np.testing.assert_array_equal(deviation_over_models(twice(ll)), 0)
    np.testing.assert_allclose(waic(ll), expected_log_likelihood(ll))
    np.testing.assert_allclose(expected_log_likelihood(ll), ll[0])


@pytest.mark.parametrize("better", [1e6, np.inf])
def test_one_model_infinitely_better(better: float):
    ll = matrix()
    ll[3] = ll[3] + 1e6 if np.isfinite(better) else ll[3]
    ll[np.arange(M) != 3] -= 0 if np.isfinite(better) else np.inf
    np.testing.assert_allclose(effective_models(ll), 1)
    np.testing.assert_allclose(entropy_over_models(ll), 0, atol=1e-12)
    np.testing.assert_allclose(expected_log_likelihood(ll), ll[3] - np.log(M))


def test_what_all_models_share_does_not_count():
    ll, shift = matrix(), 1000 * np.random.default_rng(1).normal(size=N)
    for quantity in (effective_models, entropy_over_models):
        np.testing.assert_allclose(quantity(ll + shift), quantity(ll), rtol=1e-9)
    np.testing.assert_allclose(deviation_over_models(twice(ll + shift)), deviation_over_models(twice(ll)), rtol=1e-9)


def test_brute_force_and_inequalities():
    ll = matrix(3)
    p = np.exp(ll + 40)
    w = p / p.sum(0)
    np.testing.assert_allclose(expected_log_likelihood(ll), np.log(p.mean(0)) - 40)
    np.testing.assert_allclose(effective_models(ll), 1 / (w**2).sum(0))
    np.testing.assert_allclose(entropy_over_models(ll), -(w * np.log(w)).sum(0))
    np.testing.assert_allclose(waic(ll), np.log(p.mean(0)) - 40 - ll.std(0, ddof=1) ** 2)
    assert (expected_log_likelihood(ll) >= ll.mean(0)).all()
    assert (effective_models(ll) <= np.exp(entropy_over_models(ll)) + 1e-12).all()
    assert (np.abs(waic(ll) - (ll.mean(0) - ll.var(0, ddof=1))) > 0.1).all()  # its first term is no mean of ll


def test_of_images_weights_are_those_of_the_best_two():
    """Log-likelihoods that lie far apart: entropy and effective models are functions of the gap to the second best."""
    gap = np.linspace(0.1, 5, N)
    ll = np.stack([np.zeros(N), -gap, *np.full((M - 2, N), -500.0)])
    w = 1 / (1 + np.exp(-gap))
    np.testing.assert_allclose(effective_models(ll), 1 / (w**2 + (1 - w) ** 2))
    np.testing.assert_allclose(entropy_over_models(ll), -w * np.log(w) - (1 - w) * np.log(1 - w))


def test_typicality_is_by_known_rows_and_not_by_those_that_are_scored():
    ll, known = matrix(), matrix(5)
    found = typicality(ll, known)
    np.testing.assert_allclose(typicality(ll[:, :3], known), found[:3])
    np.testing.assert_allclose(found, np.abs(expected_log_likelihood(ll) - expected_log_likelihood(known).mean()))
    assert np.isfinite(typicality(ll, np.where(np.arange(N) == 0, -np.inf, known))).all()


def table(x: torch.Tensor) -> ArrayTable:
    return ArrayTable(x)


def rows(count: int = 30, far: float = 1.0) -> torch.Tensor:
    torch.manual_seed(1)
    return far * BayesianLinear().marginal().sample((count,))


def test_the_matrix_in_closed_form():
    """With exact posteriors importance sampling has no error at all, and no noise."""
    system, x = BayesianLinear(), rows()
    (found,) = likelihood_matrices(system, [table(x)], models=5, samples=10, seed=3)
    np.testing.assert_allclose(found.values, system.exact_matrix(x, 5, seed=3), rtol=1e-6)
    np.testing.assert_allclose(found.noise, 0, atol=1e-6)
    assert found.above_noise.all()
    assert torch.equal(system.model.decoder.weight, system.center)


def test_an_encoder_of_other_weights_biases_nothing():
    """The mean of exp(ll) over seeds is the density of each model, to 5 standard errors."""
    system, x = BayesianLinear(exact=False), rows(6)
    truth = system.exact_matrix(x, 3).exp()
    batch = Batch(x, torch.full((6,), -1))
    for model, expected in zip(system.models(3, Generator().manual_seed(0)), truth, strict=True):
        with torch.no_grad():
            log_w = posterior_weights(
                model.model, model.inference(model.model, batch).posterior, batch, 20_000, generator=Generator()
            ).log_w
        mean, error = log_w.exp().mean(0), log_w.exp().std(0) / 20_000**0.5
        assert ((mean - expected).abs() < 5 * error).all()


def test_common_draws_make_equal_models_equal():
    """What each model draws for itself is disagreement of draws, not of models."""
    system, x = BayesianLinear(spread=0.0, exact=False), rows()
    (found,) = likelihood_matrices(system, [table(x)], models=6, samples=20)
    assert np.ptp(found.values, axis=0).max() < 1e-9
    assert deviation_over_models(found).max() == 0
    fresh = [likelihood_matrices(system, [table(x)], models=2, samples=20, seed=seed)[0].values[0] for seed in range(6)]
    assert np.std(fresh, axis=0).min() > 0.01


def test_common_draws_leave_less_noise_than_draws_of_their_own():
    system, x = BayesianLinear(spread=0.02, exact=False), rows()
    (found,) = likelihood_matrices(system, [table(x)], models=8, samples=100)
    fresh = [
        likelihood_matrices(system, [table(x)], models=2, samples=100, seed=seed)[0].values[0] for seed in range(8)
    ]
    assert np.median(found.noise) < 0.3 * np.median(np.std(fresh, axis=0, ddof=1))


def test_draws_do_not_depend_on_the_other_tables_or_on_the_callers_generator():
    system, x = BayesianLinear(exact=False), rows()
    settings = {"models": 3, "samples": 10}
    (alone,) = likelihood_matrices(system, [table(x)], **settings)
    torch.manual_seed(99)
    _, beside = likelihood_matrices(system, [table(rows(far=3.0)), table(x)], **settings)
    np.testing.assert_array_equal(alone.halves, beside.halves)
    (more,) = likelihood_matrices(system, [table(x)], models=3, samples=10, memory=4000)
    np.testing.assert_allclose(more.values, alone.values, atol=2.0)


@pytest.mark.parametrize("seed", range(3))
def test_the_noise_floor_of_models_that_do_not_differ(seed: int):
    """Each model with draws of its own: the deviation is noise, and above it in 5 % of the rows; 4 standard errors."""
    generator = np.random.default_rng(seed)
    found = LikelihoodMatrix(0.01 * generator.normal(size=(2, 20, 4000)))
    assert abs(found.above_noise.mean() - 0.05) < 4 * np.sqrt(0.05 * 0.95 / 4000)
    ratio = np.std(found.values, axis=0, ddof=1) ** 2 / found.noise**2
    assert np.median(ratio) == pytest.approx(1.0, abs=0.1)
    assert (deviation_over_models(found)[~found.above_noise] == 0).all()


def test_the_deviation_over_models_grows_with_the_distance_from_the_data():
    """A conjugate toy: by Mahalanobis' distance along one direction, and as 800 exact models have it."""
    system = BayesianLinear(spread=0.15)
    direction = torch.ones(6, dtype=torch.float64)
    distances = torch.linspace(0, 8, 9, dtype=torch.float64)
    unit = direction / (direction @ torch.linalg.solve(system.marginal().covariance_matrix, direction)).sqrt()
    x = distances[:, None] * unit
    (found,) = likelihood_matrices(system, [table(x)], models=60, samples=2)
    spread = deviation_over_models(found)
    assert (np.diff(spread) > 0).all()
    exact = system.exact_matrix(x, 800, seed=1).std(0).numpy()
    np.testing.assert_allclose(spread, exact, rtol=0.5)  # 4 standard errors of a deviation of 60 draws, and tails
    assert spread[-1] > 10 * spread[0]


@pytest.mark.parametrize("options", [{"models": 1}, {"samples": 1}, {"models": 0}])
def test_too_little_is_refused(options: dict[str, int]):
    with pytest.raises(ValueError, match="likelihood_matrices"):
        likelihood_matrices(BayesianLinear(), [table(rows())], **options)


def test_one_set_of_weights_is_refused():
    system = vae(from_array(rows()).spec, latent=2, hidden=8)
    with pytest.raises(ValueError, match=r"expected a system with a posterior over weights \(DrawsModels\)"):
        likelihood_matrices(system, [table(rows())])


def test_reconstruction_in_closed_form():
    system, x = BayesianLinear(), rows()
    weight = system.center
    precision = weight.mT @ weight / SCALE**2 + torch.eye(2).double()
    mean = torch.linalg.solve(precision, weight.mT @ x.mT / SCALE**2).mT @ weight.mT
    expected = norm.logpdf(x, mean, SCALE).sum(1)
    np.testing.assert_allclose(reconstruction_log_likelihood(system, table(x), batch_size=7), expected, rtol=1e-6)


def test_regret_is_what_a_posterior_of_its_own_gains():
    """With the exact posterior nothing is gained; else not below 0, at most the gap to log p(x), and more far away."""
    np.testing.assert_allclose(likelihood_regret(BayesianLinear(), table(rows()), steps=5), 0, atol=1e-6)
    system, x = BayesianLinear(exact=False), rows(6)
    few, many = (likelihood_regret(system, table(x), steps=steps, batch_size=4) for steps in (2, 8))
    assert (few >= 0).all()
    assert many.mean() > few.mean()
    with torch.no_grad():
        q = system.inference(system.model, Batch(x, torch.arange(len(x)))).posterior
        gap = system.marginal().log_prob(x) - elbo(system.model, q, Batch(x, torch.arange(len(x))), 20_000).value
    assert (many < gap.numpy() + 0.5).all()


def test_distance_of_codes_latent_by_latent():
    generator = np.random.default_rng(0)
    known = generator.normal([1.0, -2.0], [0.5, 3.0], (4000, 2))
    np.testing.assert_allclose(latent_distance(np.array([[1.5, 1.0], [1.0, -2.0]]), known), [2**0.5, 0], atol=0.1)
    shifted = latent_distance(100 * known[:5] + 7, 100 * known + 7)
    np.testing.assert_allclose(shifted, latent_distance(known[:5], known))
    assert np.isfinite(latent_distance(np.array([[1.0, 5.0]]), np.array([[0.0, 5.0], [2.0, 5.0]]))).all()


def test_compressed_lengths():
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 256, (1, 1, 16, 16), dtype=np.uint8)
    ramp = np.tile(np.arange(16, dtype=np.uint8), (1, 1, 16, 1)) * 13
    flat = np.full((1, 1, 16, 16), 3, np.uint8)
    lengths = compressed_nats(np.concatenate([noise, ramp, flat]))
    assert lengths[0] == pytest.approx(8 * np.log(2) * len(zlib.compress(noise.tobytes(), 9)))
    assert lengths[0] > lengths[1] > lengths[2]
    np.testing.assert_allclose(complexity_ratio(np.array([-5.0]), np.array([3.0])), [2.0])
    np.testing.assert_allclose(complexity_distance(np.array([5.0]), np.array([1.0, 3.0])), [3.0])


def test_which_rows_have_a_complexity():
    """Pictures, gray or black and white, in whatever unit the model sees them; no tables, and none with gaps."""
    grey = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    pixels = complexity_of(ArrayTable(grey, Scale(1 / 255)))
    np.testing.assert_array_equal(pixels, complexity_of(ArrayTable(grey, Dequantization(256))))
    np.testing.assert_array_equal(pixels, complexity_of(ArrayTable(grey.double() / 255, Scale(1.0))))
    black = ArrayTable((grey > 127).float())
    seen = ArrayTable(grey, Chain(Scale(1 / 255), Binarization(dynamic=False)))
    np.testing.assert_array_equal(complexity_of(black), complexity_of(seen))
    assert levels_per_element(black) == levels_per_element(seen) == 1.0
    assert (complexity_of(black) < pixels).all()
    assert complexity_of(ArrayTable(torch.randn(4, 6))) is None
    assert complexity_of(ArrayTable(torch.randn(4, 1, 8, 8))) is None
    assert complexity_of(ArrayTable(grey, Scale(1 / 255), mask=grey > 3)) is None
    for transform in (Scale(1 / 255), Dequantization(256), Scale(1.0)):
        unit = 255.0 if isinstance(transform, Scale) else 1.0
        assert levels_per_element(ArrayTable(grey[:1], transform)) == pytest.approx(unit)


def scored(system: BayesianLinear, *sets: torch.Tensor) -> list[ScoredRows]:
    tables = [table(x) for x in sets]
    matrices = likelihood_matrices(system, tables, models=10, samples=10)
    return [ScoredRows(system, *each, OodSettings(samples=25)) for each in zip(tables, matrices, strict=True)]


def test_every_score_is_larger_for_what_is_less_known():
    """Rows three times as far from the mean: in each score that a table has, and none has its sign swapped."""
    system = BayesianLinear(exact=False)
    torch.manual_seed(2)
    known, usual, far = (system.marginal().sample((40,)) for _ in range(3))
    seen = scored(system, known, usual, 3 * far)
    areas = {}
    for each in SCORES:
        values = [each.of(part, seen[0]) for part in seen]
        if values[0] is not None:
            areas[each.title] = roc_area(values[2], values[1]).value
    assert len(areas) == 11
    assert min(areas.values()) > 0.6, areas
    assert {each.name for each in SCORES if each.name.startswith("negative")} >= {
        "negative_log_likelihood",
        "negative_waic",
        "negative_effective_models",
        "negative_entropy_over_models",
    }


def test_the_noise_beside_a_score_is_that_of_other_draws():
    """Root mean square over rows of what another seed changes, within a factor of two; models are the same."""
    system = BayesianLinear(exact=False)
    x = rows(60)

    several = [ScoredRows(system, table(x), _matrix_with(system, x, seed)) for seed in range(8)]
    for each in MODELS[:3]:
        values = np.stack([each.of(part, several[0]) for part in several])
        told = each.noise(several[0], several[0])
        assert told is not None
        assert 0.5 < told / np.sqrt(values.var(0, ddof=1).mean()) < 2.0, each.title


def _matrix_with(system: BayesianLinear, x: torch.Tensor, seed: int) -> LikelihoodMatrix:
    """Four fixed models, with latents of another seed."""
    halves = np.empty((2, 4, len(x)))
    batch = Batch(x, torch.full((len(x),), -1))
    for m, model in enumerate(system.models(4, Generator().manual_seed(0))):
        generator = Generator().manual_seed(seed)
        with torch.no_grad():
            q = model.inference(model.model, batch).posterior
            for half in range(2):
                weights = posterior_weights(model.model, q, batch, 20, generator=generator)
                halves[half, m] = (weights.log_c + weights.log_w).logsumexp(0)
    return LikelihoodMatrix(halves)
