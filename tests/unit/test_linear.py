"""Linear-Gaussian models in closed form, against dense Gaussians, scikit-learn and their own stationarity."""

import importlib

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA, FactorAnalysis

from curvae.linear import LinearGaussian, factor_analysis, ppca

module = importlib.import_module("curvae.linear.ppca")


def data_of(rows: int = 300, width: int = 7, latent: int = 3, noise: float = 0.3, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    z, weight, rest = (
        torch.randn(*shape, generator=generator).double() for shape in ((rows, latent), (latent, width), (rows, width))
    )
    return z @ weight + noise * rest * torch.linspace(0.5, 1.5, width) + 2


def dense(model: LinearGaussian, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """log N of each row's observed elements, from the P x P covariance."""
    rows = []
    for i, row in enumerate(x):
        seen = slice(None) if mask is None else mask[i]
        normal = torch.distributions.MultivariateNormal(model.mean[seen], model.covariance[seen][:, seen])
        rows.append(normal.log_prob(row[seen]))
    return torch.stack(rows)


@pytest.mark.parametrize("fit", [ppca, factor_analysis])
def test_density_and_posterior_are_those_of_the_dense_gaussian(fit):
    x = data_of()
    model = fit(x, 3)
    torch.testing.assert_close(model.log_prob(x), dense(model, x), atol=1e-10, rtol=0)
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(2)) < 0.7
    mask[:, 0] = True
    holes = torch.where(mask, x, torch.nan)
    torch.testing.assert_close(model.log_prob(holes, mask), dense(model, x, mask), atol=1e-10, rtol=0)
    precision = torch.eye(3) + model.weight.mT @ (model.weight / model.noise.unsqueeze(1))
    torch.testing.assert_close(torch.diag(1 / model.posterior_variance), precision, atol=1e-9, rtol=1e-9)
    expected = torch.linalg.solve(precision, model.weight.mT / model.noise)
    torch.testing.assert_close(model.posterior_map, expected, atol=1e-10, rtol=1e-9)
    assert (model.gains.diff() <= 0).all()


def test_scikit_learn_has_the_same_likelihoods():
    x = data_of()
    scaled = PCA(3).fit(x.numpy())  # its variances are those of N - 1
    cov = scaled.get_covariance() * (len(x) - 1) / len(x)
    torch.testing.assert_close(ppca(x, 3).covariance, torch.from_numpy(cov), atol=1e-10, rtol=1e-10)
    expected = FactorAnalysis(2, tol=1e-4, max_iter=5000, svd_method="lapack").fit(x.numpy()).score(x.numpy())
    assert factor_analysis(x, 2).log_prob(x).mean().item() == pytest.approx(expected, abs=1e-4)


def test_principal_components_are_a_maximum():
    x = data_of()
    best = ppca(x, 3)
    top = best.log_prob(x).mean()
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        weight = best.weight + 0.01 * torch.randn(best.weight.shape, generator=generator)
        noise = (best.noise * (1 + 0.02 * torch.randn((), generator=generator))).clamp(min=1e-6)
        assert LinearGaussian.rotated(best.mean, weight, noise).log_prob(x).mean() < top


def test_a_known_noise_stays_what_it_is():
    x = data_of()
    model = ppca(x, 3, noise=0.5)
    assert (model.noise == 0.5).all()
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        weight = model.weight + 0.01 * torch.randn(model.weight.shape, generator=generator)
        assert LinearGaussian.rotated(model.mean, weight, model.noise).log_prob(x).mean() < model.log_prob(x).mean()


def test_missing_values_by_em():
    """The observed likelihood does not rise any more in any direction, and is below that of the fit to all of x."""
    x = data_of(rows=400)
    mask = torch.rand(x.shape, generator=torch.Generator().manual_seed(3)) < 0.8
    model = ppca(torch.where(mask, x, torch.nan), 3, mask)
    parts = [value.clone().requires_grad_(True) for value in (model.mean, model.weight, model.noise[:1].log())]
    normal = LinearGaussian(parts[0], parts[1], parts[2].exp().expand(7))
    slopes = torch.autograd.grad(normal.log_prob(torch.where(mask, x, 0), mask).mean(), parts)
    assert max(slope.abs().max().item() for slope in slopes) < 5e-3
    torch.testing.assert_close(model.noise[0], ppca(x, 3).noise[0], rtol=0.1, atol=0)
    all_seen = ppca(x, 3, torch.ones_like(x) > 0)
    torch.testing.assert_close(all_seen.log_prob(x), ppca(x, 3).log_prob(x))


@pytest.mark.parametrize(
    ("rows", "width", "latent", "expected"), [(5, 20, 8, 4), (50, 3, 8, 2), (50, 1, 2, 0), (2, 3, 2, 1)]
)
def test_more_latents_than_the_data_carry(rows, width, latent, expected):
    x = data_of(rows, width, 2)
    for fit in (ppca, factor_analysis):
        model = fit(x, latent)
        assert model.weight.shape == (width, expected)
        assert model.log_prob(x).isfinite().all()


def test_constant_elements_get_the_least_noise_and_no_weight():
    x = torch.cat([data_of(), torch.full((300, 1), 7.0, dtype=torch.float64)], 1)
    model = factor_analysis(x, 2, floor=1e-4)
    assert model.noise[-1] == 1e-4
    assert (model.weight[-1] == 0).all()
    assert model.mean[-1] == 7.0


@pytest.mark.parametrize(("power", "error"), [(0.25, 1e-2), (0.5, 1e-5), (1.0, 1e-11)])
def test_large_data_by_iteration(monkeypatch, power, error):
    """Against all eigenvalues, which fall as slowly as i to the power: of pure noise the largest hardly stand out."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(900, 700, generator=generator).double() * torch.arange(1, 701).double() ** (-power / 2) + 3
    exact = ppca(x, 8)
    monkeypatch.setattr(module, "EXACT", 100)
    found = ppca(x, 8)
    top, all_of_them = (torch.linalg.eigvalsh(each.covariance).flip(0)[:8] for each in (found, exact))
    torch.testing.assert_close(top, all_of_them, rtol=error, atol=0)
    torch.testing.assert_close(found.noise, exact.noise, rtol=error, atol=0)
    torch.testing.assert_close(found.mean, exact.mean)


def test_moments_in_one_pass():
    """Of more rows than are taken at once, more columns, and float32 data whose mean drifts and is far from 0."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2500, 300, generator=generator) + torch.linspace(100, 110, 2500).unsqueeze(1)
    mean, covariance = module._moments(x)
    torch.testing.assert_close(mean, x.double().mean(0), rtol=1e-13, atol=0)
    torch.testing.assert_close(covariance, torch.cov(x.double().mT, correction=0), rtol=0, atol=1e-11)


def test_wide_data_by_their_gram_matrix():
    x = data_of(30, 90, 4)
    model = ppca(x, 4)
    values = torch.from_numpy(np.linalg.eigvalsh(np.cov(x.numpy().T, bias=True))).flip(0)
    torch.testing.assert_close(model.noise[0], values[4:].sum() / 86)
    torch.testing.assert_close(torch.linalg.eigvalsh(model.covariance).flip(0)[:4], values[:4])
