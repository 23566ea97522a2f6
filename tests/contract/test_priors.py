"""Every prior: a normalized density with draws and a precision."""

import pytest
import torch
from torch.autograd.functional import hessian

import methods
from curvae.distributions import all_states


@pytest.fixture(params=methods.PRIORS)
def prior(request):
    return methods.PRIORS[request.param]().double()


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
    """Importance sampling with a wide Gaussian; failure rate below 1e-6 (6 standard errors). A discrete one: a sum."""
    if not prior.continuous:
        states = all_states(prior.variables, prior.categories, prior.origin)
        torch.testing.assert_close(prior.log_prob(states).exp().sum().item(), 1.0)
        assert prior.log_prob(states[:1] + 0.1).item() == -torch.inf
        return
    count = 200_000
    wide = torch.distributions.Normal(torch.zeros(methods.D, dtype=torch.float64), 2.0)
    z = wide.sample((count,))
    weight = (prior.log_prob(z) - wide.log_prob(z).sum(-1)).exp()
    assert abs(weight.mean() - 1) < 6 * weight.std() / count**0.5


def test_precision_is_psd_and_the_hessian_where_that_is_psd(prior):
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
        if torch.linalg.eigvalsh(curvature).min() >= 0:
            torch.testing.assert_close(precision, curvature)
