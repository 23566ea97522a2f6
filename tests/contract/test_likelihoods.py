"""Every likelihood: normalized, its score and information are derivatives of its log-density, masks leave out."""

import pytest
import torch

import methods
from curvae.likelihoods import Mixed
from zoo import data_for

EVENT = 4


@pytest.fixture(params=methods.LIKELIHOODS)
def likelihood(request):
    return methods.LIKELIHOODS[request.param](EVENT).double()


@pytest.fixture
def eta(likelihood):
    return torch.randn(6, likelihood.size, dtype=torch.float64)


def test_score_is_the_gradient(likelihood, eta):
    x = data_for(likelihood, 6)
    eta.requires_grad_(True)
    (expected,) = torch.autograd.grad(likelihood.log_prob(x, eta).sum(), eta)
    torch.testing.assert_close(likelihood.score(x, eta), expected, atol=1e-12, rtol=1e-10)


def support(likelihood, eta):
    """Of one element: values and the weights of a sum over them, or of the trapezoidal rule after a change of variable.

    Under it the terms fall faster than exponentially, so that the rule is exact to rounding.
    """
    t = torch.linspace(-34, 34, 20_001, dtype=torch.float64)
    dt = t[1] - t[0]
    match type(likelihood).__name__:
        case "Poisson" | "NegativeBinomial" | "ZeroInflatedNegativeBinomial":
            x = torch.arange(3000.0, dtype=torch.float64)
        case "Bernoulli" | "Ordinal" | "Categorical":
            x = torch.arange(float(getattr(likelihood, "categories", 2)), dtype=torch.float64)
        case "DiscretizedLogistic":
            x = likelihood.low + likelihood.width * torch.arange(likelihood.levels, dtype=torch.float64)
        case "Gamma" | "LogNormal":
            return t.exp(), t.exp() * dt
        case "Beta":
            return t.sigmoid(), t.sigmoid() * (-t).sigmoid() * dt
        case _:
            return eta[0] + t.sinh(), t.cosh() * dt
    return x, torch.ones_like(x)


@pytest.mark.parametrize("name", [name for name in methods.LIKELIHOODS if name != "mixed"])
def test_normalized_and_its_moments_are_exact(name):
    """Sums over all values, or integrals: of p 1, of p x the mean, of p score 0, of p score score' the information."""
    likelihood = methods.LIKELIHOODS[name](1).double()
    for eta in torch.randn(3, likelihood.size, dtype=torch.float64):
        x, weight = support(likelihood, eta)
        p = weight * likelihood.log_prob(x.unsqueeze(-1), eta.expand(len(x), -1)).exp()
        torch.testing.assert_close(p.sum(), torch.ones_like(p.sum()), atol=1e-9, rtol=0)
        mean = likelihood.mean(eta)
        each = torch.nn.functional.one_hot(x.long()).double() if mean.ndim > 1 else x.unsqueeze(-1)
        torch.testing.assert_close(p @ each, mean.flatten(), atol=1e-8, rtol=1e-8)
        score = likelihood.score(x.unsqueeze(-1), eta.expand(len(x), -1))
        torch.testing.assert_close(p @ score, torch.zeros_like(eta), atol=1e-8, rtol=0)
        root = likelihood.root(eta, torch.eye(likelihood.size, dtype=torch.float64))  # row i = R' e_i
        torch.testing.assert_close(root @ root.mT, score.mT @ (p.unsqueeze(-1) * score), atol=1e-8, rtol=1e-8)


def test_a_diagonal_information_is_that_of_the_root(likelihood, eta):
    """Its entries, nothing beside them, and 0 where nothing is seen; None where there are cross terms."""
    eye, mask = torch.eye(likelihood.size, dtype=torch.float64), torch.rand(6, EVENT) < 0.5
    root = likelihood.root(eta.unsqueeze(1), eye.expand(6, -1, -1))
    for seen in (None, mask):
        diagonal = likelihood.diagonal(eta, seen)
        assert (diagonal is None) == (likelihood.information == "block")
        if diagonal is not None:
            expected = root @ root.mT if seen is None else (root @ root.mT) * seen.unsqueeze(-1)
            torch.testing.assert_close(diagonal.diag_embed(), expected)


def test_root_is_linear_and_broadcasts(likelihood, eta):
    v, w = torch.randn(2, 5, 6, likelihood.size, dtype=torch.float64)
    together = likelihood.root(eta, 2 * v - w)
    torch.testing.assert_close(together, 2 * likelihood.root(eta, v) - likelihood.root(eta, w))
    assert together.shape[:2] == (5, 6)


def test_constant_information_means_quadratic(likelihood, eta):
    if likelihood.information != "constant":
        return
    x, step = data_for(likelihood, 6), torch.randn_like(eta)
    root = likelihood.root(eta, step)
    quadratic = (likelihood.score(x, eta) * step).sum(-1) - 0.5 * root.square().sum(-1)
    torch.testing.assert_close(likelihood.log_prob(x, eta + step), likelihood.log_prob(x, eta) + quadratic)


def test_quadratic_in_what_is_before_the_last_layer(likelihood):
    if likelihood.information != "constant":
        return
    x, weight, bias = data_for(likelihood, 6), torch.randn(likelihood.size, 3).double(), torch.randn(likelihood.size)
    h, wanted = torch.randn(6, 3, dtype=torch.float64), list(likelihood.parameters())
    level, slope, gram = likelihood.quadratic(x, weight, bias.double())
    found = level + (h * (slope - 0.5 * h @ gram)).sum(-1)
    expected = likelihood.log_prob(x, h @ weight.mT + bias.double())
    torch.testing.assert_close(found, expected)
    if wanted:
        torch.testing.assert_close(*(torch.autograd.grad(one.sum(), wanted) for one in (found, expected)))


def hidden_values(likelihood, mask):
    """Of eta, those of what is not observed."""
    if isinstance(likelihood, Mixed):
        masks = [
            hidden_values(part, mask[..., some])
            for part, some in zip(likelihood.parts, likelihood.columns, strict=True)
        ]
        return torch.cat(masks, -1)
    return ~mask.repeat_interleave(likelihood.size // mask.shape[-1], dim=-1)


def test_mask_leaves_out(likelihood, eta):
    x = data_for(likelihood, 6)
    mask = torch.rand(6, EVENT) < 0.5
    other = torch.where(mask, x, torch.zeros_like(x))
    torch.testing.assert_close(likelihood.log_prob(x, eta, mask), likelihood.log_prob(other, eta, mask))
    each = torch.zeros(6, dtype=torch.float64)
    for column in range(EVENT):
        only = torch.zeros(6, EVENT, dtype=torch.bool)
        only[:, column] = mask[:, column]
        each = each + likelihood.log_prob(x, eta, only)
    torch.testing.assert_close(likelihood.log_prob(x, eta, mask), each)
    hidden = hidden_values(likelihood, mask)
    assert (likelihood.score(x, eta, mask)[hidden] == 0).all()
    assert (likelihood.root(eta, torch.ones_like(eta), mask)[hidden] == 0).all()


def test_nothing_observed_is_worth_zero(likelihood, eta):
    mask = torch.zeros(6, EVENT, dtype=torch.bool)
    assert (likelihood.log_prob(data_for(likelihood, 6), eta, mask) == 0).all()


def test_draws_first(likelihood):
    eta = torch.randn(3, 6, likelihood.size, dtype=torch.float64)
    x = data_for(likelihood, 6)
    assert likelihood.log_prob(x, eta).shape == (3, 6)
    torch.testing.assert_close(likelihood.log_prob(x, eta)[1], likelihood.log_prob(x, eta[1]))


def test_samples_have_the_mean(likelihood):
    """Failure rate below 1e-6: 6 standard errors over 4 elements."""
    eta = torch.randn(1, likelihood.size, dtype=torch.float64)
    count = 20_000
    x = likelihood.sample(eta.expand(count, -1), torch.Generator().manual_seed(1))
    assert x.shape == (count, EVENT)
    mean = likelihood.mean(eta)[0]
    if isinstance(likelihood, Mixed):  # of a category the most probable one
        x, mean = x[:, [0, 1, 3]], mean[[0, 1, 3]]
    if mean.ndim > 1:
        x = torch.nn.functional.one_hot(x.long(), mean.shape[-1])
    x = x.double()
    assert ((x.mean(0) - mean).abs() < 6 * x.std(0).clamp(min=1e-3) / count**0.5).all()


def test_learned_variance_starts_from_the_data_and_has_a_floor(likelihood):
    if not getattr(likelihood, "learn", None):
        return
    x = torch.randn(500, EVENT, dtype=torch.float64) * 3 + 1
    likelihood = type(likelihood)(EVENT, learn=likelihood.learn).double()  # of which no start is given
    likelihood.initialize(x)
    torch.testing.assert_close(likelihood.variance.mean().item(), 9.0, rtol=0.2, atol=0)
    likelihood.initialize(torch.zeros(5, EVENT, dtype=torch.float64))
    assert likelihood.variance.min() >= likelihood.floor**2
