"""FisherGaussian: exact where the decoder is linear, the Hessian where the fit is perfect, gradients, the sampler."""

import pytest
import torch
from torch import nn

from chance import deviates
from curvae.inference import FisherGaussian, Laplace
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.noise import common_noise
from curvae.objectives import elbo, monte_carlo_elbo
from curvae.posteriors import ImplicitGaussian, PrecisionGaussian
from curvae.priors import StandardNormal
from curvae.systems import fishernet
from curvae.typing import DataSpec
from zoo import LinearGaussian, batch_of, relu_model

CLOSE = {"atol": 1e-10, "rtol": 1e-10}


def smooth_model(likelihood=None):
    likelihood = likelihood or Gaussian(4, scale=0.5)
    decoder = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 4))
    model = LatentVariableModel(StandardNormal(2), decoder, likelihood).double()
    return model, batch_of(torch.randn(3, 4, dtype=torch.float64))


def exact_encoder(oracle: LinearGaussian) -> nn.Linear:
    """The posterior mean of the linear Gaussian model, which is linear in x."""
    gain = torch.linalg.solve(oracle.precision(), oracle.weight.mT) / oracle.scale**2
    encoder = nn.Linear(*oracle.weight.shape).double()
    with torch.no_grad():
        encoder.weight.copy_(gain)
        encoder.bias.copy_(-gain @ oracle.bias)
    return encoder


@pytest.mark.parametrize("dense", [256, 0])
def test_the_elbo_is_the_evidence_on_the_linear_gaussian_model(dense):
    oracle = LinearGaussian()
    q = FisherGaussian(exact_encoder(oracle), dense=dense)(oracle.model, oracle.batch).posterior
    torch.testing.assert_close(q.mean, oracle.mean(), **CLOSE)
    torch.testing.assert_close(torch.linalg.inv(q.covariance), oracle.precision().expand(8, -1, -1), **CLOSE)
    value = monte_carlo_elbo(oracle.model, q, oracle.batch, 5).value
    torch.testing.assert_close(value, oracle.log_evidence(), **CLOSE)


def test_it_is_the_hessian_where_the_reconstruction_is_perfect_and_positive_where_it_is_not():
    model, _ = smooth_model()
    z = torch.randn(3, 2, dtype=torch.float64)

    def q_at(x):
        return FisherGaussian(Constant(z))(model, batch_of(x)).posterior

    fits = model.decode(z).detach()
    hessian = -torch.func.vmap(torch.func.hessian(lambda x, one: model.log_joint(x[None], one[None])[0], argnums=1))(
        fits, z
    )
    torch.testing.assert_close(q_at(fits).precision, hessian, **CLOSE)
    for x in (fits + 30, fits - 30):
        prior_share = torch.linalg.eigvalsh(q_at(x).precision - torch.eye(2, dtype=torch.float64))
        assert (prior_share > -1e-10).all()


class Constant(nn.Module):
    """An encoder that gives the same means for any data."""

    def __init__(self, z):
        super().__init__()
        self.z = nn.Parameter(z.clone())

    def forward(self, x):
        return self.z


@pytest.mark.parametrize("through", [True, False])
def test_gradient_of_the_elbo_in_encoder_and_decoder(through):
    """By central differences: of the whole, or with M held where it was."""
    model, batch = smooth_model()
    inference = FisherGaussian(Constant(torch.randn(3, 2, dtype=torch.float64)), through=through)
    fixed = inference(model, batch).posterior.factor.detach()

    def value():
        q = inference(model, batch).posterior
        q = q if through else PrecisionGaussian(q.mean, fixed)
        return elbo(model, q, batch, 3, generator=common_noise(1)).value.sum()

    surrogate = elbo(model, inference(model, batch).posterior, batch, 3, generator=common_noise(1)).surrogate.sum()
    parameters = (inference.encoder.z, model.decoder[0].weight)
    for parameter, grad in zip(parameters, torch.autograd.grad(surrogate, parameters), strict=True):
        step = torch.randn_like(parameter)
        ends = []
        for side in (1e-5, -1e-5):
            with torch.no_grad():
                parameter.add_(side * step)
                ends.append(value())
                parameter.sub_(side * step)
        torch.testing.assert_close((grad * step).sum(), (ends[0] - ends[1]) / 2e-5, atol=1e-7, rtol=1e-6)


def test_cut_gradients_lose_nothing_at_the_exact_posterior():
    """There the ELBO is flat in q, so what flows through M is 0."""
    oracle = LinearGaussian()
    grads = []
    for through in (True, False):
        q = FisherGaussian(exact_encoder(oracle), through)(oracle.model, oracle.batch).posterior
        bound = monte_carlo_elbo(oracle.model, q, oracle.batch, 4000).surrogate.sum()
        grads.append(torch.autograd.grad(bound, oracle.model.decoder.weight)[0])
    exact = torch.autograd.functional.jacobian(lambda weight: evidence(weight, oracle).sum(), oracle.weight)
    torch.testing.assert_close(grads[0], exact, atol=0.05 * float(exact.abs().max()), rtol=0)
    torch.testing.assert_close(grads[1], exact, atol=0.05 * float(exact.abs().max()), rtol=0)


def evidence(weight, oracle: LinearGaussian):
    covariance = weight @ weight.mT + oracle.scale**2 * torch.eye(len(weight), dtype=torch.float64)
    return torch.distributions.MultivariateNormal(oracle.bias, covariance).log_prob(oracle.x)


@pytest.mark.parametrize("likelihood", ["gaussian-shared", "bernoulli"])
def test_formed_and_matrix_free_are_one_posterior(likelihood):
    model, batch = relu_model(likelihood)
    encoder = Constant(torch.randn(8, 3, dtype=torch.float64))
    formed, free = (FisherGaussian(encoder, dense=dense)(model, batch) for dense in (256, 0))
    assert isinstance(free.posterior, ImplicitGaussian)
    z = torch.randn(5, 8, 3, dtype=torch.float64)
    torch.testing.assert_close(free.posterior.log_prob(z), formed.posterior.log_prob(z), **CLOSE)
    for name in formed.info:
        torch.testing.assert_close(free.info[name], formed.info[name])


@pytest.mark.statistical
def test_covariance_of_the_matrix_free_draws():
    """The notes' check of the sampler: 48 means of products of whitened draws, 3e-5 of the seeds fail.

    Whitened by the Cholesky factor of the precision they are standard normal: products of two have variance 1 or 2.
    """
    model, batch = relu_model("gaussian")
    q = FisherGaussian(Constant(torch.randn(8, 3, dtype=torch.float64)), dense=0)(model, batch).posterior
    offset = (q.draw(10_000).z - q.mean).detach()
    white = torch.einsum("sbi,bij->sbj", offset, torch.linalg.cholesky(torch.linalg.inv(q.covariance))).detach()
    i, j = torch.tril_indices(3, 3)
    same = (i == j).double()
    deviates("products", ((white[..., i] * white[..., j]).mean(0) - same) * (10_000 / (1 + same)) ** 0.5)


def test_a_newton_step_from_its_mean_climbs():
    model, batch = smooth_model()
    start = FisherGaussian(nn.Linear(4, 2).double())
    one = Laplace(start, steps=1)(model, batch)
    assert (one.info["log_joint"][-1] >= start(model, batch).info["log_joint"][0]).all()


def test_status_says_what_is_not_finite_and_spares_the_others():
    model, batch = smooth_model()
    z = torch.zeros(3, 2, dtype=torch.float64)
    z[1] = torch.inf
    found = FisherGaussian(Constant(z))(model, batch)
    assert found.info["status"].tolist()[::2] == [0, 0]
    assert found.info["status"][1] > 1
    assert found.posterior.draw(2).z[:, ::2].isfinite().all()


def test_misuse():
    model, batch = smooth_model()
    with pytest.raises(ValueError, match=r"the encoder must give D = 2 values; got \(4,\)"):
        FisherGaussian(nn.Linear(4, 4).double())(model, batch)
    with pytest.raises(ValueError, match="probes must be 1 or more; got 0"):
        FisherGaussian(nn.Linear(4, 2), probes=0)
    with pytest.raises(ValueError, match="lanczos must be 1 or more; got 0"):
        FisherGaussian(nn.Linear(4, 2), lanczos=0)


@pytest.mark.parametrize(("latent", "kind"), [(3, "Laplace"), (5, "MatrixFreeLaplace")])
def test_the_system_chooses_the_search_by_the_size(latent, kind):
    system = fishernet(DataSpec((4,)), latent=latent, hidden=8, dense=4, steps=1)
    assert type(system.inference).__name__ == kind
