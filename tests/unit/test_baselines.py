"""Models in closed form to be beaten: against SciPy, scikit-learn and direct sums; and when one is left out."""

import importlib
import math

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.datasets import load_digits, load_wine
from sklearn.decomposition import FactorAnalysis
from torch import Tensor

from curvae.baselines import NAMES, Baseline, fit, fit_system_baselines
from curvae.data import ArrayTable, from_array
from curvae.likelihoods import (
    Bernoulli,
    Categorical,
    Gaussian,
    Likelihood,
    LogNormal,
    NegativeBinomial,
    Poisson,
    StudentT,
)
from curvae.linear import LinearGaussian
from curvae.systems import System, direct_vae, vae
from curvae.typing import DataSpec

fits = importlib.import_module("curvae.baselines.fits")
baseline_module = importlib.import_module("curvae.baselines.baseline")


def wine() -> tuple[ArrayTable, Tensor]:
    """Training rows and others, standardized, in float64."""
    x = torch.from_numpy(load_wine().data)
    x = (x - x.mean(0)) / x.std(0)
    return ArrayTable(x[::2]), x[1::2]


def dense(model: LinearGaussian, x: Tensor) -> np.ndarray:
    """Log N(x) by SciPy, row by row."""
    return stats.multivariate_normal.logpdf(x.double().numpy(), model.mean.numpy(), model.covariance.numpy())


@pytest.mark.parametrize("learn", ["shared", "element", None])
def test_log_p_is_that_of_the_dense_gaussian(learn: str | None):
    train, test = wine()
    found = fit(train, Gaussian(13, learn=learn), latent=2)
    assert [each.label for each in found] == ["PPCA, 2 latents", "factor analysis, 2 latents"]
    for each in found:
        values = each.log_prob(test)
        assert values.dtype == torch.float64
        np.testing.assert_allclose(values, dense(each.density, test), atol=1e-9)


def test_factor_analysis_is_that_of_scikit_learn():
    """To rounding, though it goes by 26 rows of the same covariance in place of all: the rounds are the same ones."""
    train, test = wine()
    x = train.x.double().numpy()
    mean, scale = x.mean(0), x.std(0)
    reference = FactorAnalysis(2, tol=1e-7 * len(x), max_iter=2000, svd_method="lapack").fit((x - mean) / scale)
    expected = reference.score_samples((test.double().numpy() - mean) / scale) - np.log(scale).sum()
    found = fit(train, Gaussian(13, learn="element"), latent=2)[1].log_prob(test)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_the_leading_part_is_enough_in_wide_data(monkeypatch: pytest.MonkeyPatch):
    """As likely as by whole decompositions; with 3 iterations in place of 12 it would be 7e-4 nats a row less."""
    x = torch.from_numpy(load_digits().data)
    train = ArrayTable(x[:, x.std(0) > 0.5])
    whole = fit(train, Gaussian(52, learn="element"), latent=8)[1].log_prob(train.x)
    monkeypatch.setattr(importlib.import_module("curvae.linear.factor_analysis"), "EXACT", 10)
    leading = fit(train, Gaussian(52, learn="element"), latent=8)[1].log_prob(train.x)
    assert leading.mean().item() == pytest.approx(whole.mean().item(), abs=1e-4)


def test_independent_gaussian_columns_are_a_direct_sum():
    train, test = wine()
    found, principal = fit(train, Gaussian(13, learn="element"))
    x = train.x.double().numpy()
    expected = stats.norm.logpdf(test.double().numpy(), x.mean(0), x.std(0)).sum(1)
    np.testing.assert_allclose(found.log_prob(test), expected, atol=1e-10)
    assert (found.label, found.latent) == ("independent columns", None)
    assert principal.name == "ppca"


def test_of_principal_components_without_a_number_as_many_as_bic_chooses():
    """Against the criterion of each number, from its likelihood; of data with three, three."""
    train, _ = wine()
    x = train.x.double()
    costs = []
    for rank in range(1, 13):
        loadings = 13 * rank - rank * (rank - 1) / 2
        log_p = fit(train, Gaussian(13, learn="element"), rank)[0].log_prob(x).sum().item()
        costs.append(loadings * math.log(len(x)) - 2 * log_p)
    found = fit(train, Gaussian(13, learn="element"))[1]
    assert found.latent == 1 + int(np.argmin(costs))
    some = torch.randn(2000, 3) @ torch.randn(3, 9) + 0.1 * torch.randn(2000, 9)
    assert fit(ArrayTable(some), Gaussian(9, learn="shared"))[1].label == "PPCA, 3 latents"
    assert len(fit(ArrayTable(some[:, :1]), Gaussian(1, learn="shared"))) == 1


def test_independent_bits_are_a_direct_sum():
    generator = torch.Generator().manual_seed(0)
    x = (torch.rand(50, 2, 3, generator=generator) < 0.2).float()
    mask = torch.rand(50, 2, 3, generator=generator) < 0.8
    (found,) = fit(ArrayTable(x, mask=mask), Bernoulli((2, 3)), latent=4)
    rows, seen = x.flatten(1).numpy(), mask.flatten(1).numpy()
    p = (1 + (rows * seen).sum(0)) / (2 + seen.sum(0))
    each = stats.bernoulli.logpmf(rows.astype(int), p)
    np.testing.assert_allclose(found.log_prob(x, mask), (each * seen).sum(1), atol=1e-12)
    np.testing.assert_allclose(found.log_prob(x), each.sum(1), atol=1e-12)


def test_independent_categories_are_a_direct_sum():
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(0, 3, (40, 4), generator=generator)
    (found,) = fit(ArrayTable(x), Categorical(4, categories=4), latent=2)
    counts = np.stack([np.bincount(column, minlength=4) for column in x.T.numpy()])
    p = (1 + counts) / (4 + len(x))
    expected = sum(np.log(p[j, x[:, j]]) for j in range(4))
    np.testing.assert_allclose(found.log_prob(x), expected, atol=1e-12)
    assert found.log_prob(torch.full((1, 4), 3)).item() == pytest.approx(4 * math.log(1 / 44)), (
        "never seen, not refused"
    )


def test_missing_values_are_scored_on_what_is_observed():
    train, test = wine()
    generator = torch.Generator().manual_seed(0)
    holes = torch.rand(train.x.shape, generator=generator) < 0.9
    principal, factors = fit(ArrayTable(train.x, mask=holes), Gaussian(13, learn="element"), latent=2)
    assert (factors.density, factors.note) == (None, "left out: values are missing in training")
    mask = torch.rand(test.shape, generator=generator) < 0.7
    found = principal.log_prob(torch.where(mask, test, 1e6), mask)
    mean, covariance = principal.density.mean.numpy(), principal.density.covariance.numpy()
    for value, row, seen in zip(found, test.double().numpy(), mask.numpy(), strict=True):
        expected = stats.multivariate_normal.logpdf(row[seen], mean[seen], covariance[seen][:, seen])
        assert value.item() == pytest.approx(expected, abs=1e-9)
    (alone,) = fit(ArrayTable(train.x, mask=holes), Gaussian(13, learn="element"))
    x = np.where(holes, train.x, np.nan)
    each = stats.norm.logpdf(test.double().numpy(), np.nanmean(x, 0), np.nanstd(x, 0))
    np.testing.assert_allclose(alone.log_prob(test, mask), (each * mask.numpy()).sum(1), atol=1e-4)


def test_a_mask_that_hides_nothing_is_none():
    train, test = wine()
    whole = torch.ones_like(train.x, dtype=torch.bool)
    plain, masked = (
        fit(ArrayTable(train.x, mask=mask), Gaussian(13, learn="element"), latent=2) for mask in (None, whole)
    )
    for one, other in zip(plain, masked, strict=True):
        torch.testing.assert_close(one.log_prob(test), other.log_prob(test), atol=0, rtol=0)


def test_elements_that_never_vary_leave_out_what_has_no_bounded_density():
    train, _ = wine()
    x = torch.cat([train.x, torch.full((len(train), 2), 3.0)], 1)
    principal, factors = fit(ArrayTable(x), Gaussian(15, learn="shared"), latent=2)
    assert principal.density is not None
    assert factors.note == "left out: 2 elements never vary in training"
    with pytest.raises(ValueError, match=r"factor analysis: left out: 2 elements .*; there is no log p.x.\.$"):
        factors.log_prob(x)
    alone, chosen = fit(ArrayTable(x[:, :14]), Gaussian(14, learn="shared"))
    assert chosen.density is not None
    assert alone.note == "left out: 1 element never varies in training"
    nearly = x.clone()
    nearly[0, 14] += 1e-3
    assert fit(ArrayTable(nearly), Gaussian(15, scale=0.1), 2)[1].note == (
        "left out: 2 elements never or hardly vary in training"
    )
    each = fit(ArrayTable(x), Gaussian(15, learn="element", floor=0.05), latent=2)
    assert all(baseline.density is not None for baseline in each), "the same floor binds the model"
    assert each[1].density.noise[13:].tolist() == pytest.approx([0.05**2] * 2)


def test_the_noise_has_the_likelihoods_floor():
    x = torch.randn(200, 2, generator=torch.Generator().manual_seed(0)) @ torch.tensor([[1.0, 2, 0], [0, 1, 1]])
    for likelihood in (Gaussian(3, learn="shared", floor=0.1), Gaussian(3, learn="element", floor=0.1)):
        for each in fit(ArrayTable(x), likelihood, latent=2):
            assert each.density.noise.min().item() == pytest.approx(0.01), each.label


def test_no_more_latents_than_there_is_room_for():
    train, _ = wine()
    assert [each.latent for each in fit(train, Gaussian(13, learn="element"), latent=50)] == [12, 12]
    single = fit(ArrayTable(train.x[:, :1]), Gaussian(1, learn="element"), latent=2)
    assert [each.label for each in single] == ["PPCA, 0 latents", "factor analysis"]
    assert "same as PPCA" in single[1].note
    mean, std = train.x[:, 0].double().mean().item(), train.x[:, 0].double().std(unbiased=False).item()
    expected = stats.norm.logpdf(train.x[:, 0].double().numpy(), mean, std)
    np.testing.assert_allclose(single[0].log_prob(train.x[:, :1]), expected, atol=1e-10)


def test_a_likelihood_without_one_says_so():
    class Mine(Likelihood):
        information = "constant"
        log_prob = score = root = mean = sample = Gaussian.mean

    (found,) = fit(ArrayTable(torch.randn(10, 3)), Mine(3), latent=2)
    assert (found.label, found.note) == ("no baseline", "none is known in closed form for the likelihood Mine")


def test_large_data_are_thinned_and_say_so(monkeypatch: pytest.MonkeyPatch):
    train, _ = wine()
    monkeypatch.setattr(fits, "VALUES", 13 * 30)
    principal, factors = fit(train, Gaussian(13, learn="element"), latent=2)
    assert principal.note == factors.note == "fitted to 30 of 89 rows"
    rows = np.linspace(0, 88, 30).round().astype(int)
    mean = train.x.double().numpy()[rows].mean(0)
    np.testing.assert_allclose(principal.density.mean, mean, atol=1e-12)
    monkeypatch.setattr(fits, "WIDEST", 12)
    assert fit(train, Gaussian(13, learn="element"), latent=2)[1].note == (
        "left out: 13 elements a row; it is fitted to 12 or fewer"
    )
    monkeypatch.setattr(fits, "VALUES", 2**26)
    monkeypatch.setattr(fits, "EM_WORK", 40 * (13 * 9 + 16 + 10_000))
    mask = torch.rand(train.x.shape, generator=torch.Generator().manual_seed(0)) < 0.9
    assert fit(ArrayTable(train.x, mask=mask), Gaussian(13), latent=2)[0].note == "fitted to 40 of 89 rows"


def test_scores_do_not_depend_on_how_rows_are_cut(monkeypatch: pytest.MonkeyPatch):
    train, test = wine()
    found = fit(train, Gaussian(13, learn="element"), latent=2)
    mask = torch.rand(test.shape, generator=torch.Generator().manual_seed(0)) < 0.7
    whole = [(each.log_prob(test), each.log_prob(test, mask)) for each in found]
    monkeypatch.setattr(baseline_module, "VALUES", 40)
    for each, (plain, masked) in zip(found, whole, strict=True):
        torch.testing.assert_close(each.log_prob(test), plain, atol=1e-12, rtol=0)
        torch.testing.assert_close(each.log_prob(test, mask), masked, atol=1e-12, rtol=0)
        assert each.log_prob(test[:0]).shape == (0,)


def test_the_same_ones_every_time():
    train, test = wine()
    one, other = (fit(train, Gaussian(13, learn="element"), latent=2) for _ in range(2))
    for a, b in zip(one, other, strict=True):
        assert torch.equal(a.log_prob(test), b.log_prob(test))


class Exact(System):
    """No model, no latents."""

    evidence = "exact"

    def bound(self, batch):
        raise NotImplementedError


def test_a_system_has_as_many_latents_as_its_prior():
    data = from_array(torch.randn(60, 9))
    made = {
        vae(data.spec, latent=2, hidden=8): 2,
        vae(data.spec, latent=3, hidden=8): 3,
        direct_vae(data.spec, variables=2, categories=3, hidden=8): 6,
    }
    for system, latent in made.items():
        assert {each.latent for each in fit_system_baselines(system, data.train, data.spec)} <= {latent, None}
        assert fit_system_baselines(system, data.train, data.spec)[0].latent == latent
    found, principal = fit_system_baselines(Exact(), data.train, data.spec)
    assert (found.name, principal.name) == ("independent", "ppca")
    assert found.density is not None
    (bits,) = fit_system_baselines(Exact(), ArrayTable((data.train.x > 0).float()), DataSpec((9,), "binary"))
    assert isinstance(bits, Baseline)
    assert set(NAMES) == {"ppca", "factor_analysis", "independent", "none", "state_space"}


def test_likeliest_columns_are_scipys():
    """Counts, positive and heavy-tailed numbers, one law a column; values that are missing do not count."""
    generator = np.random.default_rng(0)
    counts = torch.as_tensor(generator.negative_binomial(2.0, 0.3, (400, 2)), dtype=torch.float64)
    mask = torch.rand(400, 2) < 0.7
    (found,) = fit(ArrayTable(counts, mask=mask), Poisson(2), latent=2)
    rate = torch.where(mask, counts, 0).sum(0) / mask.sum(0)
    expected = stats.poisson.logpmf(counts.numpy(), rate.numpy())
    np.testing.assert_allclose(found.log_prob(counts, mask), np.where(mask.numpy(), expected, 0).sum(1), atol=1e-6)
    (found,) = fit(ArrayTable(counts), NegativeBinomial(2), latent=2)
    assert found.label == "independent columns"
    best = found.log_prob(counts).mean()
    for size, share in ((2.0, 0.3), (1.9, 0.29), (2.2, 0.32)):
        assert best >= stats.nbinom.logpmf(counts.numpy(), size, share).sum(1).mean()
    heavy = stats.t.rvs(3.0, 1.0, 2.0, size=(2000, 1), random_state=0)
    (found,) = fit(ArrayTable(torch.as_tensor(heavy)), StudentT(1), latent=None)
    fitted = stats.t.logpdf(heavy, *stats.t.fit(heavy)).mean()
    assert float(found.log_prob(torch.as_tensor(heavy)).mean()) == pytest.approx(fitted, abs=1e-4)


def test_baselines_of_positive_numbers_are_those_of_their_logarithms():
    x = torch.randn(200, 4, dtype=torch.float64).exp()
    there = fit(ArrayTable(x), LogNormal(4), latent=2)
    here = fit(ArrayTable(x.log()), Gaussian(4, learn="element"), latent=2)
    assert [each.label for each in there] == [each.label for each in here]
    for one, other in zip(there, here, strict=True):
        np.testing.assert_allclose(one.log_prob(x), other.log_prob(x.log()) - x.log().sum(1), atol=1e-8)
