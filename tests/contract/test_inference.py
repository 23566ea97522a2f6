"""Every inference method: shapes, one datum alone = in a batch, gradients, inference mode, exactness where claimed."""

import pytest
import torch

import methods
from curvae.objectives import log_weights
from curvae.posteriors import DensityPosterior
from curvae.priors import StandardNormal, UniformCategorical
from zoo import Categories, LinearGaussian, batch_of, relu_model


@pytest.fixture(params=methods.INFERENCES)
def name(request):
    return request.param


def model_and_batch(name, likelihood):
    """Of the kind of latents that the method is for."""
    prior = UniformCategorical(*methods.CATEGORIES[name]) if name in methods.CATEGORIES else StandardNormal(methods.D)
    return relu_model(likelihood, prior=prior)


@pytest.mark.parametrize("likelihood", ["gaussian-shared", "bernoulli"])
def test_posterior_of_a_batch(name, likelihood):
    model, batch = model_and_batch(name, likelihood)
    found = methods.inference(name)(model, batch)
    assert found.posterior.mean.shape == (8, model.prior.size)
    assert all(not value.requires_grad for value in found.info.values())
    if found.encoder_bound is not None:
        assert found.encoder_bound.shape == (8,)
        assert (found.encoder_bound <= 0).all()


def test_one_datum_alone(name):
    """In evaluation mode: in training a method may draw fresh noise."""
    model, batch = model_and_batch(name, "gaussian")
    inference = methods.inference(name).eval()
    together = inference(model, batch).posterior
    alone = inference(model, batch_of(batch.x[2:3])).posterior
    for key, value in together.tensors.items():
        torch.testing.assert_close(value[2:3], alone.tensors[key], atol=1e-9, rtol=1e-9)
    if isinstance(together, DensityPosterior):
        z = torch.randn(4, 8, model.prior.size, dtype=torch.float64)
        torch.testing.assert_close(together.log_prob(z)[:, 2], alone.log_prob(z[:, 2:3])[:, 0], atol=1e-8, rtol=1e-8)


def test_the_cheaper_model_is_the_model(name):
    """What a method gives in the model's place for training: the same log joint, and the same gradient."""
    model, batch = model_and_batch(name, "gaussian-shared")
    other = methods.inference(name)(model, batch).model
    if other is None:
        return
    z, parameters = torch.randn(3, 8, methods.D, dtype=torch.float64), list(model.parameters())
    found, expected = (one.log_joint(batch.x, z) for one in (other, model))
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(one.square().sum(), parameters) for one in (found, expected)))


def test_works_under_inference_mode(name):
    model, batch = model_and_batch(name, "bernoulli")
    with torch.inference_mode():
        assert methods.inference(name)(model, batch).posterior.draw(2).z.isfinite().all()


def test_gradients_reach_encoder_and_model(name):
    model, batch = model_and_batch(name, "gaussian-shared")
    inference = methods.inference(name)
    found = inference(model, batch)
    total = log_weights(model, batch, found.posterior.draw(3)).mean()
    if found.encoder_bound is not None:
        total = total + found.encoder_bound.mean()
    total.backward()
    for part in (model, inference):
        for key, parameter in part.named_parameters():
            assert parameter.grad is not None, key
            assert (parameter.grad != 0).any(), key


def test_exact_on_the_linear_gaussian_model(name):
    """q is the exact posterior, so log p(x, z) - log q(z) is log p(x) for every draw."""
    if name in methods.CATEGORIES:
        return
    oracle = LinearGaussian()
    found = methods.inference(name)(oracle.model, oracle.batch)
    log_w = log_weights(oracle.model, oracle.batch, found.posterior.draw(5))
    if name in methods.EXACT_ON_LINEAR_GAUSSIAN:
        torch.testing.assert_close(found.posterior.mean, oracle.mean(), atol=1e-10, rtol=1e-10)
        precision = torch.linalg.inv(found.posterior.covariance)
        torch.testing.assert_close(precision, oracle.precision().expand(8, -1, -1), atol=1e-8, rtol=1e-10)
        torch.testing.assert_close(log_w, oracle.log_evidence().expand_as(log_w), atol=1e-10, rtol=1e-10)
    else:
        assert (log_w.std(0) > 1e-6).all()


@pytest.mark.statistical
@torch.no_grad()
def test_proper_weights(name):
    """Importance estimate = exact evidence; failure rate below 1e-4 (5 standard errors over 8 data)."""
    oracle = Categories(*methods.CATEGORIES[name]) if name in methods.CATEGORIES else LinearGaussian(scale=2.0)
    found = methods.inference(name)(oracle.model, oracle.batch)
    draws = found.posterior.draw(100_000, torch.Generator().manual_seed(0))
    terms = (draws.log_c + log_weights(oracle.model, oracle.batch, draws) - oracle.log_evidence()).exp().detach()
    assert ((terms.sum(0) - 1).abs() < 5 * terms.std(0) * len(terms) ** 0.5 + 1e-9).all()
