"""Rows behind noise of known size: Wiener's filter, quadrature, missing values, units, chains, misuse."""

import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import curvae
import methods
from curvae.data import DataError, DataWarning, from_array
from curvae.evaluation import denoise, from_hmc
from curvae.evaluation.samples.denoising import _Noisy, _with_noise
from curvae.flows import Whitening
from curvae.inference import AmortizedGaussian, hmc_chains
from curvae.likelihoods import Gaussian
from curvae.linear import LinearGaussian
from curvae.model import LatentVariableModel
from curvae.objectives import elbo
from curvae.posteriors import DiagonalGaussian, Mixture, PrecisionGaussian
from curvae.priors import StandardNormal
from curvae.systems import FlowDensity, LatentSystem, Stage, laplacian_ae, lossy_vae, nice, vae
from curvae.typing import Batch, Context, DataSpec

F64 = torch.float64
D, P, B = 2, 5, 7


class Noisy:
    """Rows of N(mean, covariance), seen with a noise of each value, some of them not at all."""

    def __init__(self, missing: bool):
        torch.manual_seed(0)
        self.weight, self.mean, self.own = torch.randn(P, D, dtype=F64), torch.randn(P, dtype=F64), torch.rand(P) + 0.2
        self.own = self.own.double()
        self.covariance = self.weight @ self.weight.mT + torch.diag(self.own)
        self.noise = torch.rand(B, P, dtype=F64) + 0.1
        x = torch.distributions.MultivariateNormal(self.mean, self.covariance).sample((B,))
        self.y = x + self.noise * torch.randn(B, P, dtype=F64)
        self.mask = torch.rand(B, P) > 0.3 if missing else None

    def wiener(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Means and deviations of x given y, row by row."""
        found = []
        for row in range(B):
            seen = torch.ones(P, dtype=torch.bool) if self.mask is None else self.mask[row]
            across = self.covariance[:, seen]
            gain = across @ torch.linalg.inv(across[seen] + torch.diag(self.noise[row, seen] ** 2))
            mean = self.mean + gain @ (self.y[row] - self.mean)[seen]
            found.append((mean, (self.covariance - gain @ across.mT).diagonal().sqrt()))
        return torch.stack([mean for mean, _ in found]), torch.stack([deviation for _, deviation in found])

    def latent(self) -> LatentSystem:
        likelihood, decoder = Gaussian(P, learn="element", floor=1e-6).double(), nn.Linear(D, P).double()
        with torch.no_grad():
            likelihood.log_variance.copy_(self.own.log())
            decoder.weight.copy_(self.weight)
            decoder.bias.copy_(self.mean)
        model = LatentVariableModel(StandardNormal(D), decoder, likelihood).double()
        return LatentSystem(model, AmortizedGaussian(nn.Linear(P, 2 * D).double()), elbo)

    def flow(self) -> FlowDensity:
        flow = Whitening(P, D).double()
        flow.start_from(LinearGaussian.rotated(self.mean, self.weight, self.own))
        return FlowDensity((P,), flow, StandardNormal(P).double(), (Stage("train"),))


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("kind", ["latent", "flow"])
def test_a_linear_model_is_wieners_filter(kind, missing):
    made = Noisy(missing)
    system, (mean, deviation) = getattr(made, kind)(), made.wiener()
    mode = denoise(system, made.y, made.noise, made.mask, by="mode")
    torch.testing.assert_close(mode.mean, mean, rtol=0, atol=1e-9)
    torch.testing.assert_close(mode.deviation, deviation, rtol=0, atol=1e-9)
    assert mode.reliable.all()
    assert mode.effective.isnan().all()
    drawn = denoise(system, made.y, made.noise, made.mask, draws=4000)
    assert drawn.reliable.all()
    assert drawn.effective.min() > 1000
    assert ((drawn.mean - mean) / deviation).abs().max() < 6 * (1 / drawn.effective.min()).sqrt()
    torch.testing.assert_close(drawn.deviation, deviation, rtol=0.1, atol=0)


def by_quadrature(log_prob, y: torch.Tensor, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of two elements: the mean and the deviation of ``p(x) N(y; x, noise)``, on a grid around y."""
    steps = torch.linspace(-6, 6, 121, dtype=F64)
    grid = torch.cartesian_prod(steps, steps)
    found = []
    for row, level in zip(y, noise, strict=True):
        at = row + level * grid
        weight = (log_prob(at) - 0.5 * grid.square().sum(1)).softmax(0)
        mean = weight @ at
        found.append((mean, (weight @ (at - mean).square()).sqrt()))
    return torch.stack([mean for mean, _ in found]), torch.stack([deviation for _, deviation in found])


@pytest.mark.parametrize(("name", "engine"), [("nice", "from_modes"), ("flow-ae", "from_hmc")])
def test_a_flow_is_integrated(name, engine, monkeypatch):
    """Weighted draws, and chains, of a flow that is far from linear."""
    torch.manual_seed(4)
    system = methods.DENSITIES[name](DataSpec((2,))).double()
    system.stages()[0].start(system, from_array(torch.randn(300, 2) @ torch.randn(2, 2), standardize=False))
    for value in system.parameters():
        value.data += 0.15 * torch.randn_like(value)
    noise = torch.tensor([[0.5, 0.8]], dtype=F64).expand(2, 2)
    y = system.requires_grad_(False).sample(2).double() + noise * torch.randn(2, 2)
    mean, deviation = by_quadrature(system.log_prob, y, noise)
    assert (denoise(system, y, noise, by="mode").mean - mean).abs().max() > 0.01, "as good as linear"
    monkeypatch.setattr("curvae.evaluation.samples.denoising.from_modes", getattr(curvae.evaluation, engine))
    monkeypatch.setattr("curvae.evaluation.samples.engines.STATES", 100)
    monkeypatch.setattr("curvae.evaluation.samples.denoising.APART", 1.1)
    found = denoise(system, y, noise, draws=400 if engine == "from_hmc" else 4000)
    assert found.reliable.all()
    assert ((found.mean - mean) / deviation * found.effective.sqrt().unsqueeze(1)).abs().max() < 5
    torch.testing.assert_close(found.deviation, deviation, rtol=0.25, atol=0)


def test_a_decoder_that_bends_is_integrated():
    """One latent, two elements: ``p(x) N(y; x, noise)`` by quadrature over z."""
    torch.manual_seed(1)
    system = vae(DataSpec((2,)), latent=1, hidden=16).double().requires_grad_(False)
    system.model.decoder[-1].weight.data *= 4
    system.model.likelihood.log_variance.data.fill_(-3.0)
    z = torch.linspace(-6, 6, 601, dtype=F64).unsqueeze(1)
    law = torch.distributions.Normal(system.model.decode(z), system.model.likelihood.variance.sqrt())

    def log_prob(x: torch.Tensor) -> torch.Tensor:
        return (law.log_prob(x.unsqueeze(1)).sum(-1) - 0.5 * z[:, 0].square()).logsumexp(1)

    y, noise = system.sample(2) + torch.randn(2, 2, dtype=F64), torch.full((2, 2), 0.7, dtype=F64)
    mean, deviation = by_quadrature(log_prob, y, noise)
    found = denoise(system, y, 0.7, draws=2000)
    assert ((found.mean - mean) / deviation).abs().max() < 0.12
    torch.testing.assert_close(found.deviation, deviation, rtol=0.1, atol=0)


def test_known_errors_are_the_noise():
    """Rows that come with errors have the posterior of what these hide; a noise beside them is refused."""
    torch.manual_seed(3)
    x, errors = torch.randn(60, 4), torch.rand(60, 4) + 0.1
    frame = pd.DataFrame(x.numpy(), columns=list("abcd"))
    frame = frame.assign(**{f"{name}_err": errors[:, j].numpy() for j, name in enumerate("abcd")})
    said = {name: f"{name}_err" for name in "abcd"}
    fitted = fit(frame, errors=said)
    found = fitted.denoised(frame)
    assert ((found.deviation > 0) & (found.deviation < 1.1 * errors.numpy())).mean() > 0.9
    assert ((found.mean - x.numpy()) / errors.numpy()).std() < 1
    with pytest.raises(ValueError, match="noise: expected none beside the known errors of the rows, got both"):
        fitted.denoise(frame, 0.1)


def fit(data, **options):
    return curvae.fit("vae", data, latent=2, hidden=8, max_updates=5, progress=False, out=next_folder(), **options)


FOLDERS: list[Path] = []


@pytest.fixture(autouse=True)
def _folders(tmp_path):
    FOLDERS[:] = [tmp_path]
    yield
    FOLDERS.clear()


def next_folder() -> Path:
    FOLDERS.append(FOLDERS[0] / f"run{len(FOLDERS)}")
    return FOLDERS[-1]


def test_rows_in_their_own_units():
    """Another unit of a column changes its cleaned values in proportion; every way to say the noise is the same."""
    x = np.random.default_rng(0).normal(size=(80, 2)) @ [[1, 0.8], [0, 0.6]]
    plain = pd.DataFrame({"u": x[:, 0], "g": x[:, 1], "c": 3.0})
    large = plain.assign(u=1000 + 50 * plain["u"])
    one, two = (fit(frame) for frame in (plain, large))
    noise, scaled = {"u": 0.3, "g": 0.2, "c": 1.0}, {"u": 15, "g": 0.2, "c": 1.0}
    first, second = one.denoised(plain[:5], noise), two.denoised(large[:5], scaled)
    np.testing.assert_allclose(second.mean[:, 0], 1000 + 50 * first.mean[:, 0], rtol=1e-4)
    np.testing.assert_allclose(second.deviation, first.deviation * [50, 1, 1], rtol=1e-3)
    assert (first.cleaned["c"] == 3).all()
    assert (first.deviation[:, 2] == 0).all()
    assert list(first.cleaned.index) == list(plain[:5].index)
    beside = plain[:5].assign(u_err=0.3)
    for said in (noise | {"u": "u_err"}, noise | {"u": [0.3] * 5}, [0.3, 0.2, 1.0], np.tile([0.3, 0.2, 1.0], (5, 1))):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DataWarning)
            np.testing.assert_array_equal(one.denoised(beside, said).mean, first.mean)
    np.testing.assert_allclose(one.denoised(plain[:5], 1e-6).mean, plain[:5], atol=1e-4)


BAD = [
    ({"u": 1.0}, "noise: expected that of each of u, g; 'g'"),
    ({"u": 1.0, "g": 1.0, "h": 1.0}, "'h' is not among both"),
    ({"u": "u_err", "g": 1.0}, "noise: expected a number or a column among u, g for 'u', got 'u_err'"),
    (0.0, "noise: expected positive finite standard deviations, got 0"),
    (-1.0, "noise: expected positive finite standard deviations, got -1"),
    (None, "noise: expected a positive number, or one of each value, got none"),
    ([1.0, 2.0, 3.0], r"noise: expected a positive number, or one of each value, \(80, 2\); got shape \(3,\)"),
    ("much", "noise: expected a positive number, .* got 'much'"),
]


def test_noise_that_is_none():
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(80, 2)), columns=["u", "g"])
    fitted = fit(frame)
    for noise, message in BAD:
        with pytest.raises((ValueError, DataError), match=message):
            fitted.denoise(frame, noise)
    with pytest.raises(ValueError, match="by: expected draws or mode; got 'magic'"):
        fitted.denoise(frame, 1.0, by="magic")


def test_systems_that_cannot():
    spec = DataSpec((4,))
    with pytest.raises(ValueError, match="expected real numbers with a Gaussian likelihood, got Bernoulli"):
        denoise(vae(DataSpec((4,), "binary")), torch.zeros(2, 4), 1.0)
    with pytest.raises(ValueError, match="got one averaged over draws of its weights"):
        denoise(laplacian_ae(spec, latent=1, hidden=8, draws=2).eval(), torch.zeros(2, 4), 1.0)
    with pytest.raises(ValueError, match=r"denoise: noise: expected a number or the shape \(2, 4\), got \(3,\)"):
        denoise(vae(spec, hidden=8), torch.zeros(2, 4), torch.ones(3))
    with pytest.raises(ValueError, match="got one that also sees x"):
        denoise(lossy_vae(DataSpec((1, 4, 4)), latent=2), torch.zeros(2, 1, 4, 4), 1.0)
    with pytest.raises(ValueError, match="expected positive finite deviations, got 0"):
        denoise(nice(spec, hidden=8), torch.zeros(2, 4), 0.0)


def test_chains_in_the_units_of_a_covariance(monkeypatch):
    """A normal posterior of narrow and wide directions is as easy as a round one; other starts are refused."""
    torch.manual_seed(0)
    made = Noisy(False)
    parts = _with_noise(made.flow())
    batch = Batch.of(made.y, context=Context(errors=made.noise))
    monkeypatch.setattr("curvae.evaluation.samples.engines.STATES", 60)
    found = from_hmc(_Noisy(parts), batch, 200)
    assert found.r_hat is not None
    assert found.r_hat.max() < 1.15
    assert found.effective.min() > 100
    q = Mixture((DiagonalGaussian(torch.zeros(B, P), torch.zeros(B, P)),), torch.zeros(B, 1))
    with pytest.raises(ValueError, match="dense: expected a start that is a Gaussian; got Mixture"):
        hmc_chains(parts.model.given(batch.context), batch, q, dense=True)


def test_chains_follow_any_covariance():
    """A start with another covariance than the law's changes no law."""
    torch.manual_seed(0)
    model = LatentVariableModel(StandardNormal(2), nn.Linear(2, 3), Gaussian(3)).double().requires_grad_(False)
    batch = Batch.of(torch.randn(1, 3, dtype=F64))
    weight = model.decoder.weight
    precision = weight.mT @ weight + torch.eye(2)
    mean = torch.linalg.solve(precision, weight.mT @ (batch.x[0] - model.decoder.bias))
    start = PrecisionGaussian(torch.ones(1, 2, dtype=F64), torch.tensor([[[2.0, 0.0], [-1.5, 0.7]]], dtype=F64))
    found = hmc_chains(model, batch, start, samples=100, warmup=60, leapfrogs=3, dense=True).posterior
    assert ((found.mean[0] - mean).abs() < 6 * (torch.linalg.inv(precision).diagonal() / found.ess[0]).sqrt()).all()
    torch.testing.assert_close(found.covariance[0], torch.linalg.inv(precision), rtol=0.5, atol=0.1)


def test_networks_stay_as_they_were():
    system = vae(DataSpec((4,)), latent=2, hidden=8)
    before = {name: value.clone() for name, value in system.state_dict().items()}
    torch.manual_seed(5)
    denoise(system, torch.randn(3, 4), 0.5)
    after = torch.rand(1)
    torch.manual_seed(5)
    torch.randn(3, 4)
    assert torch.equal(after, torch.rand(1))
    assert system.training
    assert all(torch.equal(before[name], value) for name, value in system.state_dict().items())
    assert isinstance(system.model.likelihood, Gaussian)
