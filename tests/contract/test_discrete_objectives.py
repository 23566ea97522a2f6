"""Every gradient of DiscreteElbo: the same value, below the evidence and equal to it where q is exact."""

import pytest
import torch

import methods
from curvae.objectives import DiscreteElbo, kind_of
from curvae.posteriors import IndependentCategorical
from zoo import Categories


@pytest.fixture(params=methods.DISCRETE_GRADIENTS)
def objective(request):
    return DiscreteElbo(methods.DISCRETE_GRADIENTS[request.param]())


def world(variables: int = 2, categories: int = 3):
    oracle = Categories(variables, categories)
    return oracle, torch.randn(8, variables, categories, dtype=torch.float64, requires_grad=True)


def test_per_datum_and_declared(objective):
    oracle, logits = world()
    bound = objective(oracle.model, IndependentCategorical(logits), oracle.batch, 4)
    assert bound.value.shape == bound.surrogate.shape == (8,)
    torch.testing.assert_close(bound.surrogate, bound.value)
    assert kind_of(objective) == "lower"
    assert all(not value.requires_grad for value in bound.info.values())


def test_gradients_are_finite_and_reach_posterior_and_model(objective):
    oracle, logits = world()
    objective(oracle.model, IndependentCategorical(logits), oracle.batch, 16).surrogate.sum().backward()
    for leaf in (logits, *oracle.model.parameters()):
        assert leaf.grad.isfinite().all()
        assert (leaf.grad != 0).any()


def test_works_under_inference_mode(objective):
    oracle, logits = world()
    with torch.inference_mode():
        bound = objective(oracle.model, IndependentCategorical(logits), oracle.batch, 3)
        assert bound.value.isfinite().all()


def test_below_the_evidence_in_expectation(objective):
    """Failure rate below 1e-4: 5 standard errors over 8 data."""
    oracle, logits = world()
    q = IndependentCategorical(logits.detach())
    values = torch.stack([objective(oracle.model, q, oracle.batch, 2).value.detach() for _ in range(200)])
    assert (values.mean(0) <= oracle.log_evidence() + 5 * values.std(0) / 200**0.5 + 1e-9).all()


def test_equal_to_the_evidence_at_the_exact_posterior(objective):
    """Of one variable, which is a softmax of log p(x, z). Failure rate below 1e-4: 5 standard errors over 8 data."""
    oracle, _ = world(variables=1)
    joint = oracle.model.log_joint(oracle.x, oracle.states.unsqueeze(1).expand(-1, 8, -1)).detach()
    q = IndependentCategorical(joint.mT.unsqueeze(1))
    values = torch.stack([objective(oracle.model, q, oracle.batch, 10).value.detach() for _ in range(400)])
    error = 5 * values.std(0) / 400**0.5 + 1e-10
    assert ((values.mean(0) - oracle.log_evidence()).abs() < error).all()


def test_finite_where_rewards_are_far_apart(objective):
    """Float32 and rewards of minus thousands of nats."""
    oracle, logits = world()
    leaf = (30 * logits.detach()).float().requires_grad_(True)
    batch = oracle.batch._replace(x=100 * oracle.x.float())
    bound = objective(oracle.model.float(), IndependentCategorical(leaf), batch, 6)
    bound.surrogate.sum().backward()
    assert bound.value.isfinite().all()
    assert bound.value.max() < -1000
    assert leaf.grad.isfinite().all()
