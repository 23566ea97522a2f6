"""Autoencoders with a flow of their codes: p-PCA where all is linear, what each phase trains, codes as a score."""

import logging

import pytest
import torch
from torch import nn

from curvae import load
from curvae.data import Data, from_array
from curvae.evaluation import evaluate, read_evaluation
from curvae.inference import CodePoint
from curvae.likelihoods import Gaussian
from curvae.linear import LinearGaussian, ppca
from curvae.networks import MLP
from curvae.systems import CodeSystem, probabilistic_ae, vae
from curvae.systems.codes import code_density_bound, held_out_noise, reconstruction_bound, whiten
from curvae.typing import Batch, DataSpec
from folders import folder

F64 = torch.float64
NOISE, WIDTH, LATENT = 0.05, 12, 2


def rows_of_ppca(rows: int, noise: float = NOISE) -> tuple[Data, LinearGaussian]:
    """Data of a model that is known."""
    weight = torch.linalg.qr(torch.randn(WIDTH, LATENT, dtype=F64))[0] * torch.tensor([3.0, 2.0], dtype=F64)
    model = LinearGaussian.rotated(torch.randn(WIDTH, dtype=F64), weight, torch.full((WIDTH,), noise**2, dtype=F64))
    x = model.mean + torch.randn(rows, LATENT, dtype=F64) @ weight.mT + noise * torch.randn(rows, WIDTH, dtype=F64)
    return from_array(x, standardize=False), model


def linear(spec: DataSpec, flows: int = 0, **options: object) -> CodeSystem:
    networks = {"encoder": nn.Linear(WIDTH, LATENT), "decoder": nn.Linear(LATENT, WIDTH)}
    return probabilistic_ae(spec, LATENT, flows=flows, **{**networks, **options}).double().eval()


@torch.no_grad()
def fitted(system: CodeSystem, data: Data) -> CodeSystem:
    """What training gives of a linear autoencoder: principal components, here without a search for them."""
    fit = ppca(data.train.x, LATENT)
    inward, decoder = torch.linalg.pinv(fit.weight), system.model.decoder.network
    for layer, weight, bias in (
        (system.codes.encoder, inward, -inward @ fit.mean),
        (decoder, fit.weight, fit.mean),
    ):
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    whiten(system, data)
    held_out_noise(system, data)
    return system


def as_ppca(system: CodeSystem) -> LinearGaussian:
    """The linear-Gaussian model that a linear system is."""
    with torch.no_grad():
        bias = system.model.decode(torch.zeros(1, LATENT, dtype=F64))[0]
        weight = (system.model.decode(torch.eye(LATENT, dtype=F64)) - bias).mT
    return LinearGaussian.rotated(bias, weight, system.model.likelihood.variance.detach().expand(WIDTH))


def test_a_linear_one_is_ppca():
    """Every weight is its exact marginal; and with the true noise that is the p(x) that the data came from.

    Of 14,000 rows the mean log p(x) misses that by the moments of codes, some 3e-4 nats, and by the noise that codes
    have of the data: less than ``(NOISE / 2)^2`` of each.
    """
    data, model = rows_of_ppca(20_000)
    system = fitted(linear(data.spec), data)
    x = data.test.x.double()
    weights = system.log_weights(Batch.of(x[:50]), 3)
    exact = as_ppca(system).log_prob(x[:50])
    torch.testing.assert_close(weights.log_w, exact.expand(3, -1), atol=1e-7, rtol=0)
    with torch.no_grad():
        system.model.likelihood.log_variance.fill_(torch.tensor(NOISE**2 - 1e-6).log())
    assert (as_ppca(system).log_prob(x) - model.log_prob(x)).mean().abs() < 5e-3


def test_the_measured_noise_is_what_is_left_on_new_rows():
    """Of P elements the codes take d up: of each variance ``1 - sum_k U_ik^2`` is left, in the mean ``1 - d / P``."""
    data, _ = rows_of_ppca(20_000)
    system = fitted(linear(data.spec._replace(noise="element")), data)
    basis = torch.linalg.qr(ppca(data.train.x, LATENT).weight)[0]
    expected = NOISE**2 * (1 - basis.square().sum(1))
    torch.testing.assert_close(system.model.likelihood.variance.detach(), expected, rtol=0.15, atol=0)
    few, _ = rows_of_ppca(40)
    training = fitted(linear(few.spec), few).model.likelihood
    residual = few.validation.x.double() - system_mean(fitted(linear(few.spec), few), few.validation.x.double())
    torch.testing.assert_close(training.variance.detach(), residual.square().mean(0), rtol=1e-5, atol=0)


def system_mean(system: CodeSystem, x: torch.Tensor) -> torch.Tensor:
    return system.codes.decoded(system.model, Batch.of(x)).detach()


def test_the_map_fills_in_the_conditional_mean_and_its_laplace_posterior_is_exact():
    data, _ = rows_of_ppca(2000, noise=0.4)
    system = fitted(linear(data.spec), data)
    x, mask = data.test.x[:20].double(), torch.rand(20, WIDTH) < 0.5
    whole, law = system.reconstruct(torch.where(mask, x, torch.nan), mask), as_ppca(system)
    q = system.posterior(torch.where(mask, x, torch.nan), mask)
    for row in range(20):
        seen = mask[row]
        gain = law.covariance[:, seen] @ torch.linalg.inv(law.covariance[seen][:, seen])
        expected = law.mean + gain @ (x[row] - law.mean)[seen]
        torch.testing.assert_close(whole[row, ~seen], expected[~seen], atol=1e-4, rtol=0)
        torch.testing.assert_close(
            torch.linalg.inv(q.covariance[row]),
            _precision(system, seen),
            atol=1e-6,
            rtol=1e-6,
        )


def _precision(system: CodeSystem, seen: torch.Tensor) -> torch.Tensor:
    """Of the noise u, given what is seen: ``I + W' diag(seen / s^2) W``."""
    with torch.no_grad():
        bias = system.model.decode(torch.zeros(1, LATENT, dtype=F64))[0]
        weight = (system.model.decode(torch.eye(LATENT, dtype=F64)) - bias).mT[seen]
    noise = system.model.likelihood.variance.detach().expand(WIDTH)[seen]
    return torch.eye(LATENT, dtype=F64) + weight.mT @ (weight / noise.unsqueeze(1))


@pytest.mark.parametrize("flows", [0, 3])
def test_codes_are_scored_by_change_of_variables(flows):
    data, _ = rows_of_ppca(300)
    system = fitted(linear(data.spec, flows), data)
    for value in system.model.decoder.flow.parameters():
        value.data += 0.3 * torch.randn_like(value)
    x = data.test.x.double()
    flow = system.model.decoder.flow
    for row, found in zip(x[:5], system.code_log_prob(x[:5]), strict=True):
        code = system.codes.encoder(row[None])[0]
        slope = torch.func.jacrev(lambda z: flow(z.reshape(1, 1, -1)).z.flatten())(code)
        expected = torch.distributions.Normal(0.0, 1.0).log_prob(flow(code.reshape(1, 1, -1)).z).sum()
        torch.testing.assert_close(found, (expected + torch.linalg.slogdet(slope)[1]))
    hidden = torch.zeros(5, WIDTH, dtype=torch.bool)
    torch.testing.assert_close(
        system.code_log_prob(torch.full((5, WIDTH), torch.nan, dtype=F64), hidden),
        system.code_log_prob(torch.zeros(5, WIDTH, dtype=F64)),
    )


def test_how_usual_a_code_is_stands_beside_each_row_and_in_scores(tmp_path):
    """``evaluation.npz`` and ``score`` have it row by row, of rows with holes by what is seen; a VAE has none."""
    data, _ = rows_of_ppca(200)
    system = fitted(linear(data.spec), data).float()
    run = folder(tmp_path / "run", system, data)
    found = evaluate(run, [], samples=20, limit=6, chains=False, progress=False)
    arrays = read_evaluation(run.path).arrays
    x = data.test.x[:6]
    expected = system.code_log_prob(x).detach()
    torch.testing.assert_close(torch.from_numpy(arrays["code_log_prob"]).float(), expected, rtol=1e-4, atol=1e-3)
    assert found.count == 6
    again, raw = load(run.path, system, data), data.test.raw[:6].numpy()
    score = again.score(raw, samples=20, chains=False)
    torch.testing.assert_close(torch.from_numpy(score.code_log_prob).float(), expected, rtol=1e-4, atol=1e-3)
    mask = torch.rand(6, WIDTH) < 0.7
    holes = again.score(raw, mask=mask.numpy(), samples=20, chains=False)
    seen = system.code_log_prob(torch.where(mask, x, torch.nan), mask).detach()
    torch.testing.assert_close(torch.from_numpy(holes.code_log_prob).float(), seen, rtol=1e-4, atol=1e-3)
    other = load(folder(tmp_path / "vae", vae(data.spec, latent=2, hidden=8), data).path, data=data)
    assert other.score(raw, samples=20, chains=False).code_log_prob is None


def test_the_density_of_codes_has_mass_one():
    data, _ = rows_of_ppca(300)
    system = fitted(linear(data.spec, 3), data)
    for value in system.model.decoder.flow.parameters():
        value.data += 0.05 * torch.randn_like(value)
    axis = torch.linspace(-12, 12, 601, dtype=F64)
    codes = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        u, log_det = system.model.decoder.to_noise(codes)
        log_p = torch.distributions.Normal(0.0, 1.0).log_prob(u).sum(-1) + log_det
    assert (log_p.exp().sum() * (axis[1] - axis[0]) ** 2).item() == pytest.approx(1, abs=5e-3)


@pytest.mark.parametrize("noise", ["shared", "element"])
def test_it_starts_at_principal_components(noise):
    """Before the first update every weight is log p(x) of p-PCA, and the autoencoder is the best linear one."""
    data, _ = rows_of_ppca(200, noise=0.4)
    system = probabilistic_ae(data.spec._replace(noise=noise), LATENT, hidden=16).double().eval()
    system.stages()[0].start(system, data)
    x = data.test.x.double()
    fit = ppca(data.train.x, LATENT, floor=2e-6)
    weights = system.log_weights(Batch.of(x), 3)
    torch.testing.assert_close(weights.log_w, fit.log_prob(x).expand(3, -1), atol=1e-8, rtol=0)
    basis = torch.linalg.qr(fit.weight)[0]
    expected = fit.mean + (x - fit.mean) @ basis @ basis.mT
    torch.testing.assert_close(system_mean(system, x), expected, atol=1e-8, rtol=0)
    squares = -0.5 * (x - expected).square().sum(1) / fit.noise[0]
    found = reconstruction_bound(system, Batch.of(x)).surrogate
    torch.testing.assert_close(found - found.mean(), squares - squares.mean(), atol=1e-7, rtol=0)


def test_each_phase_trains_its_own_part_and_reports_no_bound():
    data, _ = rows_of_ppca(200)
    system = probabilistic_ae(data.spec, LATENT, hidden=16).double()
    batch = Batch.of(data.train.x[:8].double())
    assert [stage.name for stage in system.stages()] == ["autoencoder", "flow", "noise"]
    parts = {
        stage.name: {name for name, _ in system.named_parameters() if name.startswith(stage.trained)}
        for stage in system.stages()
    }
    assert set().union(*parts.values()) == {name for name, _ in system.named_parameters()}
    assert sum(map(len, parts.values())) == len(set().union(*parts.values())), "nothing is trained twice"
    for bound in (reconstruction_bound(system, batch), code_density_bound(system, batch)):
        assert bound.value.isnan().all()
        assert bound.surrogate.isfinite().all()


def test_misuse_and_own_networks(caplog):
    data, _ = rows_of_ppca(100)
    with pytest.raises(ValueError, match="start: expected linear or random; got 'columns'"):
        probabilistic_ae(data.spec, start="columns")
    with pytest.raises(ValueError, match="probabilistic-ae: latent must be from 1 to 6, half of the elements; got 7"):
        probabilistic_ae(data.spec, latent=7)
    assert linear(data.spec).stages()[0].start is None
    tanh = MLP(LATENT, [8], WIDTH, nn.Tanh)
    system = probabilistic_ae(data.spec, LATENT, hidden=8)
    system.model.decoder.network = tanh
    with caplog.at_level(logging.INFO, "curvae"):
        system.stages()[0].start(system, data)
    assert caplog.messages == ["probabilistic-ae starts at random: its networks cannot start at a linear model."]
    system.model.decoder = tanh
    with pytest.raises(ValueError, match="CodePoint: expects a decoder with a flow of its codes; got MLP"):
        CodePoint(nn.Linear(WIDTH, LATENT))(system.model, Batch.of(data.train.x[:3]))
    assert isinstance(system.model.likelihood, Gaussian)
