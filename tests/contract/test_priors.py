"""Every prior: a normalized density with draws and a precision."""

import pytest
import torch
from torch.autograd.functional import hessian

import methods
from curvae.distributions import all_states


@pytest.fixture(params=methods.PRIORS)
def name(request):
    return request.param


@pytest.fixture
def prior(name):
    return methods.PRIORS[name]().double()


def test_blocks_sum_to_the_size(prior):
    assert sum(prior.blocks) == prior.size == methods.D


def test_shapes_and_generator(prior):
    z = prior.sample(4, torch.Generator().manual_seed(0))
    again = prior.sample(4, torch.Generator().manual_seed(0))
    assert z.shape == (4, methods.D)
    assert z.dtype == torch.float64
    assert torch.equal(z, again)
    assert prior.log_prob(z.expand(5, 4, -1)).shape == (5, 4)


def test_normalized(prior):
    """Importance sampling with heavy tails; failure rate below 1e-6 (6 standard errors). A discrete one: a sum."""
    if not prior.continuous:
        states = all_states(prior.variables, prior.categories, prior.origin)
        torch.testing.assert_close(prior.log_prob(states).exp().sum().item(), 1.0)
        assert prior.log_prob(states[:1] + 0.1).item() == -torch.inf
        return
    count = 200_000
    wide = torch.distributions.StudentT(5.0, torch.zeros(methods.D, dtype=torch.float64), 2.0)
    z = wide.sample((count,))
    weight = (prior.log_prob(z) - wide.log_prob(z).sum(-1)).exp()
    assert abs(weight.mean() - 1) < 6 * weight.std() / count**0.5


def test_score_is_the_slope(prior):
    if prior.continuous:
        z = prior.sample(5).detach().requires_grad_(True)
        expected = torch.autograd.grad(prior.log_prob(z).sum(), z)[0]
        torch.testing.assert_close(prior.score(z), expected)
        for mode in (torch.no_grad(), torch.inference_mode()):
            with mode:
                found = prior.score(z.detach())
                torch.testing.assert_close(found, expected)
                assert not found.requires_grad


def test_precision_is_psd_and_the_hessian_where_that_is_psd(name, prior):
    z = prior.sample(3)
    if not prior.continuous:
        for refused in (prior.precision, prior.score):
            with pytest.raises(ValueError, match="discrete latents have no"):
                refused(z)
        return
    assert prior.precision(z).shape == (3, methods.D, methods.D)
    for point in z:
        precision = prior.precision(point[None])[0]
        assert torch.linalg.eigvalsh(precision).min() > -1e-10
        curvature = -hessian(prior.log_prob, point)
        if name in methods.MEAN_OF_COMPONENTS:
            assert torch.linalg.eigvalsh(precision - curvature).min() > -1e-10
        elif name in methods.GAUSS_NEWTON:
            jacobian = torch.func.jacrev(lambda at: prior.to_noise(at).z)(point)
            torch.testing.assert_close(precision, jacobian.mT @ jacobian)
        elif torch.linalg.eigvalsh(curvature).min() >= 0:
            torch.testing.assert_close(precision, curvature)


def test_same_everywhere_where_it_says_so(prior):
    if prior.continuous and prior.quadratic:
        precision = prior.precision(prior.sample(3))
        torch.testing.assert_close(precision, precision[:1].expand_as(precision))


def test_gradients_reach_its_parameters(prior):
    """Of the density, and of the precision where that depends on them: Laplace posteriors differentiate both."""
    names, parameters = [*dict(prior.named_parameters())], [*prior.parameters()]
    if not parameters:
        return
    z = 0.5 * torch.randn(6, methods.D, dtype=torch.float64)
    for value in (prior.log_prob(z), prior.score(z).square()):
        slopes = torch.autograd.grad(value.sum(), parameters)
        assert all(slope.isfinite().all() for slope in slopes), names
        assert all((slope != 0).any() for slope in slopes if len(slope) > 1), names
    slopes = torch.autograd.grad(prior.precision(z).square().sum(), parameters, allow_unused=True)
    assert any(slope is not None and (slope != 0).any() for slope in slopes)
