"""Predictive coding: energies are divergences, descent ends at the mode, and the increments are the same path."""

import pytest
import torch
from torch import nn

from chance import means
from curvae.data import from_array
from curvae.distributions import FixedNormal, LearnedNormal, OneHot
from curvae.evaluation import score
from curvae.inference import Laplace, PredictiveCoding
from curvae.inference.energy_descent import descended
from curvae.inference.predictive_coding import energy_of
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.networks import MLP, LastBlock
from curvae.objectives import PredictiveEnergy, energies, log_weights
from curvae.posteriors import DiagonalGaussian, PrecisionGaussian, ProductPosterior
from curvae.priors import AggregateNormal, Layered, layered
from curvae.systems import predictive_coding
from curvae.systems.parts import layer_family
from curvae.training import fit
from curvae.training.loop.state import write_state
from curvae.typing import Batch, DataSpec
from zoo import FAMILIES, batch_of


def test_nothing_that_is_fixed_is_saved():
    """Of layered latents the weights alone: where the top layer lies is no part of a run."""
    prior = Layered([FixedNormal(2), FixedNormal(3, scale=0.7)], [nn.Linear(2, 3)])
    assert set(prior.state_dict()) == dict(prior.named_parameters()).keys()


def linear(scale: float = 0.5) -> tuple[LatentVariableModel, Batch]:
    """Two layers, all linear: everything is jointly Gaussian."""
    prior = Layered([FixedNormal(2), FixedNormal(3, scale=0.7)], [nn.Linear(2, 3)])
    model = LatentVariableModel(prior, LastBlock(3, nn.Linear(3, 6)), Gaussian(6, scale=scale)).double()
    return model, batch_of(torch.randn(4, 6, dtype=torch.float64))


def smooth(family=None, scale: float = 0.5) -> tuple[LatentVariableModel, Batch]:
    family = family or FixedNormal(3)
    prior = Layered([family, family], [MLP(family.size, [5], family.parameters, nn.Tanh)])
    model = LatentVariableModel(
        prior, LastBlock(family.size, MLP(family.size, [5], 6, nn.Tanh)), Gaussian(6, scale=scale)
    )
    return model.double(), batch_of(torch.randn(4, 6, dtype=torch.float64))


def exact(model: LatentVariableModel, batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Posterior mean and precision, and evidence, from the joint Gaussian of z and x."""
    up, down, variance = model.prior.maps[0], model.decoder.network, 0.25
    first, second = torch.eye(2, 5, dtype=torch.float64), torch.eye(5, dtype=torch.float64)[2:]
    error = second - up.weight @ first  # rows: z_2 - W z_1
    precision = first.mT @ first + error.mT @ error / 0.49
    prior_mean = torch.cat([torch.zeros(2).double(), up.bias])
    whole = down.weight @ second
    noise = variance * torch.eye(6, dtype=torch.float64)
    marginal = torch.distributions.MultivariateNormal(
        whole @ prior_mean + down.bias, whole @ torch.linalg.inv(precision) @ whole.mT + noise
    )
    posterior = precision + whole.mT @ whole / variance
    right = precision @ prior_mean + (batch.x - down.bias) @ whole / variance
    return torch.linalg.solve(posterior, right.mT).mT.detach(), posterior.detach(), marginal.log_prob(batch.x).detach()


def test_descent_ends_at_the_exact_posterior_mean():
    model, batch = linear()
    mean, _, _ = exact(model, batch)
    found = PredictiveCoding(steps=150)(model, batch)
    torch.testing.assert_close(found.posterior.mean, mean, atol=1e-6, rtol=1e-6)


def test_importance_sampling_around_the_inferred_point_is_exact_here():
    """The Laplace posterior there has the exact precision, so every weight is the evidence."""
    model, batch = linear()
    _, precision, evidence = exact(model, batch)
    q = Laplace(PredictiveCoding(steps=150), steps=0)(model, batch).posterior
    assert isinstance(q, PrecisionGaussian)
    torch.testing.assert_close(q.precision, precision.expand(4, -1, -1))
    torch.testing.assert_close(log_weights(model, batch, q.draw(5)), evidence.expand(5, -1), atol=1e-6, rtol=1e-6)


def test_the_energy_of_fixed_normals_is_that_of_squared_errors():
    model, batch = smooth(FixedNormal(3))
    phi = torch.randn(4, 6, dtype=torch.float64)
    top, low = phi.split(3, dim=-1)
    squares = 0.5 * (top.square().sum(-1) + (low - model.prior.maps[0](top)).square().sum(-1))
    fit = model.likelihood.log_prob(batch.x, model.decoder.network(low))
    found = energies(model, ProductPosterior(model.prior.families, phi), batch).sum(-1)
    torch.testing.assert_close(found, squares - fit, atol=1e-12, rtol=1e-12)
    constant = 3 * torch.log(torch.tensor(2 * torch.pi, dtype=torch.float64))
    torch.testing.assert_close(found, constant - constant * 2 - model.log_joint(batch.x, phi[None])[0])


@pytest.mark.parametrize("name", FAMILIES)
def test_nothing_but_the_output_is_in_error_to_begin_with(name):
    model, batch = smooth(FAMILIES[name])
    q = ProductPosterior(model.prior.families, model.prior.prediction(4))
    each = energies(model, q, batch)
    torch.testing.assert_close(each[:, :2], torch.zeros(4, 2, dtype=torch.float64), atol=1e-12, rtol=0)
    assert (each[:, 2] > 1).all()


@pytest.mark.parametrize("rate", [0.01, 0.1, 100.0])
@pytest.mark.parametrize("name", FAMILIES)
def test_the_energy_never_rises(name, rate):
    model, batch = smooth(FAMILIES[name], scale=0.05)
    energy = PredictiveCoding(steps=40, rate=rate)(model, batch).info["energy"]
    assert energy.shape == (41, 4)
    assert (energy.diff(dim=0) <= 0).all()
    assert (energy[-1] < energy[0] - 1).all()


def test_a_state_that_is_not_finite_stays_where_it_is():
    model, batch = smooth()
    x = batch.x.clone()
    x[1] = 1e200
    found = PredictiveCoding(steps=5)(model, batch._replace(x=x))
    alone = PredictiveCoding(steps=5)(model, batch)
    assert found.posterior.mean.isfinite().all()
    torch.testing.assert_close(found.posterior.mean[2:], alone.posterior.mean[2:])


def gradients(model: LatentVariableModel, value: torch.Tensor) -> torch.Tensor:
    return torch.cat([g.flatten() for g in torch.autograd.grad(value, list(model.parameters()))])


def test_the_model_learns_from_the_energy_alone():
    """Its gradient is local: that of F at the states, held fixed, not through the descent."""
    model, batch = smooth()
    found = PredictiveCoding(steps=7)(model, batch)
    phi = found.posterior.parameters.detach()
    local = gradients(model, energies(model, ProductPosterior(model.prior.families, phi), batch).sum())
    bound = PredictiveEnergy()(model, found.posterior, batch, 3)
    torch.testing.assert_close(gradients(model, -bound.surrogate.sum()), local)
    assert not bound.value.requires_grad


def test_for_a_small_error_it_learns_as_backpropagation_does():
    """From the forward start, for the layer beyond the output one; exactly so as the rate of the states goes to 0."""
    model, _ = smooth(FixedNormal(3))
    for layer in (*model.prior.maps[0], *model.decoder.network):
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.bias, std=0.5)
    start = model.prior.prediction(4)
    batch = batch_of((model.decode(start) + 0.01 * torch.randn(4, 6, dtype=torch.float64)).detach())
    weights = list(model.prior.maps.parameters())
    backward = -model.log_likelihood(batch.x, start[None])[0].sum()
    found = PredictiveCoding(steps=5, rate=1e-5)(model, batch)
    one, two = (
        torch.cat([g.flatten() for g in torch.autograd.grad(value, weights)])
        for value in (backward, -PredictiveEnergy()(model, found.posterior, batch).surrogate.sum())
    )
    assert torch.cosine_similarity(one, two, dim=0) > 0.999


def test_increments_of_a_frozen_model_are_the_same_path():
    model, batch = smooth(LearnedNormal(3))
    steps = 6
    inference = PredictiveCoding(steps, rate=0.05, incremental=True)
    inference.remember(10, model.prior)
    phi, rate = model.prior.prediction(4), torch.full((4,), 0.05, dtype=torch.float64)
    rows = batch._replace(index=torch.tensor([3, 0, 7, -1]))
    for _ in range(2):  # and begins anew at the next visit
        state, pace = phi, rate
        for _ in range(steps):
            found = inference(model, rows)
            torch.testing.assert_close(found.posterior.parameters[:3], state[:3])
            torch.testing.assert_close(found.posterior.parameters[3], phi[3])
            write_state(inference, found.state, rows.index, rows=10)
            energy = energy_of(model, rows, ProductPosterior(model.prior.families, state))
            state, pace = descended(energy, state, pace)[:2]
    assert (inference.calls[[0, 3, 7]] == steps).all()
    whole = PredictiveCoding(steps, rate=0.05)(model, rows).posterior.parameters
    torch.testing.assert_close(inference.states[[3, 0, 7]], whole[:3])
    torch.testing.assert_close(inference.eval()(model, rows).posterior.parameters, whole)


@pytest.mark.parametrize("incremental", [False, True])
def test_it_trains(incremental, tmp_path):
    """And the trainer keeps the states: each visit takes its steps, one a call."""
    torch.manual_seed(1)
    x = torch.randn(120, 2) @ torch.randn(2, 6) + 0.1 * torch.randn(120, 6)
    data = from_array(x)
    system = predictive_coding(data.spec, latent=2, layers=2, hidden=8, steps=5, incremental=incremental)
    first = system.bound(Batch(data.train.x, torch.full((len(data.train),), -1))).surrogate.mean().item()
    run = fit(system, data, epochs=4, batch_size=20, learning_rate=0.01, out=tmp_path / "run", progress=False)
    trained = run.system()
    last = trained.bound(Batch(data.train.x, torch.full((len(data.train),), -1))).surrogate.mean().item()
    assert last > first + 0.5
    assert len(trained.inference.states) == (len(data.train) if incremental else 0)
    if incremental:
        assert (trained.inference.calls == 5).all()
        assert (trained.inference.states != 0).any(1).all()
    assert {"log_likelihood_own", "log_likelihood_laplace"} <= score(trained, data.test, samples=20).keys()


@pytest.mark.statistical
def test_evidence_of_a_discrete_layer_by_its_own_posterior():
    """Against the sum over all states, weights of 9 states being bounded: 4 normal deviates, 2e-6 of the seeds fail."""
    model, batch = smooth(OneHot(1, 3), scale=1.0)
    states = torch.eye(3, dtype=torch.float64)
    pairs = torch.cat([states.repeat_interleave(3, 0), states.repeat(3, 1)], dim=-1)
    assert model.prior.log_prob(pairs).logsumexp(0).item() == pytest.approx(0, abs=1e-12)
    joint = model.log_joint(batch.x, pairs.unsqueeze(1).expand(-1, 4, -1))
    evidence = joint.logsumexp(0)
    q = PredictiveCoding(steps=20)(model, batch).posterior
    draws = q.draw(10_000)
    torch.testing.assert_close(draws.score, draws.log_q)
    assert not q.continuous
    torch.testing.assert_close(q.log_prob(q.center[None])[0], q.log_prob(pairs.unsqueeze(1).expand(-1, 4, -1)).amax(0))
    means("weights", (log_weights(model, batch, draws) - evidence).exp().detach())


def test_no_mode_is_sought_where_there_is_no_density():
    data = from_array(torch.randn(40, 6))
    system = predictive_coding(data.spec, latent=4, layers=2, hidden=8, family="categorical")
    found = score(system, data.test, samples=20)
    assert "log_likelihood_laplace" not in found
    assert (found["log_likelihood"] == found["log_likelihood_own"]).all()


def test_precision_of_learned_variances_is_the_expected_hessian():
    """Over z_2 given z_1, by draws; 6 standard errors."""
    prior = Layered([LearnedNormal(1), LearnedNormal(2)], [nn.Linear(1, 4)]).double()
    top, count = torch.tensor([0.4], dtype=torch.float64), 20_000
    low = prior.families[1](prior.maps[0](top).expand(count, -1)).from_noise(torch.randn(count, 2).double())
    z = torch.cat([top.expand(count, 1), low], dim=-1)
    each = -torch.func.vmap(torch.func.hessian(prior.log_prob))(z).detach()
    expected = prior.precision(z[:1])[0]
    assert ((each.mean(0) - expected).abs() < 6 * each.std(0) / count**0.5 + 1e-9).all()
    with torch.inference_mode():
        assert prior.precision(z[:3].reshape(3, 1, 3)).shape == (3, 1, 3, 3)


def test_samples_follow_the_layers():
    """Correlation of the layers of the prior, linear; failure rate below 1e-5."""
    model, _ = linear()
    z = model.prior.sample(50_000, torch.Generator().manual_seed(1))
    cross = (z[:, :2].mT @ (z[:, 2:] - model.prior.maps[0].bias)) / 50_000
    torch.testing.assert_close(cross, model.prior.maps[0].weight.mT, atol=0.03, rtol=0)


def test_no_data_at_all():
    model, _ = smooth()
    assert model.prior.log_prob(torch.zeros(0, 6, dtype=torch.float64)).shape == (0,)


def test_misuse():
    with pytest.raises(ValueError, match="steps must be >= 1 and rate > 0; got steps=0"):
        PredictiveCoding(steps=0)
    with pytest.raises(ValueError, match="got 2 families and 0 maps"):
        Layered([FixedNormal(2), FixedNormal(2)])
    with pytest.raises(ValueError, match="Layered prior or a StandardNormal; got AggregateNormal"):
        layered(AggregateNormal(3))
    with pytest.raises(ValueError, match="multiple of categories"):
        predictive_coding(DataSpec((6,)), latent=5, family="categorical")
    with pytest.raises(ValueError, match="expected fixed, learned or categorical; got 'cauchy'"):
        layer_family("cauchy", 4, 4)
    with pytest.raises(ValueError, match="sizes must be 1 or more"):
        predictive_coding(DataSpec((6,)), layers=0)
    model, batch = smooth()
    with pytest.raises(ValueError, match="must have a closed form; use elbo"):
        PredictiveEnergy()(model, DiagonalGaussian(*torch.zeros(2, 4, 6).double()), batch)
