"""Every objective: per datum, below the evidence, equal to it where q is exact, training weights never reported."""

import pytest
import torch

import methods
from curvae.objectives import AnnealedElbo, elbo, iwae, with_credit
from curvae.posteriors import DiagonalGaussian, Draws, FullGaussian
from zoo import LinearGaussian, relu_model


@pytest.fixture(params=methods.OBJECTIVES)
def objective(request):
    return methods.OBJECTIVES[request.param]()


def test_per_datum(objective):
    model, batch = relu_model("gaussian")
    bound = objective(model, methods.posterior("diagonal"), batch, 4)
    assert bound.value.shape == bound.surrogate.shape == (8,)


def test_below_the_evidence_in_expectation(objective):
    """Failure rate below 1e-4: 5 standard errors over 8 data."""
    oracle = LinearGaussian(scale=1.0)
    values = torch.stack(
        [objective(oracle.model, methods.posterior("diagonal"), oracle.batch, 2).value for _ in range(200)]
    )
    error = values.std(0) / 200**0.5
    assert (values.mean(0) <= oracle.log_evidence() + 5 * error).all()


def test_equal_to_the_evidence_at_the_exact_posterior(objective):
    oracle = LinearGaussian()
    factor = torch.linalg.cholesky(torch.linalg.inv(oracle.precision()))
    packed = (factor.tril(-1) + torch.diag(factor.diagonal().log())).expand(8, -1, -1)
    draws = 1 if objective in (methods.objectives.monte_carlo_elbo, iwae) else 200_000
    value = objective(oracle.model, FullGaussian(oracle.mean(), packed), oracle.batch, draws).value
    tolerance = 1e-10 if draws == 1 else 0.05
    torch.testing.assert_close(value, oracle.log_evidence(), atol=tolerance, rtol=0)


def test_beta_touches_the_surrogate_only():
    model, batch = relu_model("gaussian")
    posterior = methods.posterior("diagonal")
    torch.manual_seed(1)
    plain = elbo(model, posterior, batch, 2)
    torch.manual_seed(1)
    weighted = elbo(model, posterior, batch, 2, beta=0.25)
    torch.testing.assert_close(plain.value, weighted.value)
    torch.testing.assert_close(weighted.surrogate - plain.surrogate, 0.75 * plain.info["kl"])


def test_annealing_counts_steps_and_ends_at_the_elbo():
    model, batch = relu_model("gaussian")
    posterior, objective = methods.posterior("diagonal"), AnnealedElbo(warmup=4)
    first = objective(model, posterior, batch, 1)
    torch.testing.assert_close(first.surrogate - first.value, 0.75 * first.info["kl"])
    assert first.state["step"] == 1
    assert objective.step == 0, "forward is pure: the trainer writes the state"
    objective.step.fill_(4)
    last = objective(model, posterior, batch, 1)
    torch.testing.assert_close(last.surrogate, last.value)


def test_iwae_rises_with_the_draws_to_the_evidence():
    """Failure rate below 1e-4: the gaps are over 10 standard errors."""
    oracle = LinearGaussian(scale=1.0)
    posterior = DiagonalGaussian(oracle.mean(), torch.full((8, methods.D), -0.2, dtype=torch.float64))
    means = [
        torch.stack([iwae(oracle.model, posterior, oracle.batch, k).value.mean() for _ in range(400)]).mean()
        for k in (1, 5, 50)
    ]
    assert means[0] < means[1] < means[2] < oracle.log_evidence().mean() + 0.01


def test_score_credit_is_unbiased():
    """A Bernoulli choice b ~ s(a) and the term f(b): d E f / da = s(1 - s)(f1 - f0). 5 standard errors."""
    a = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    torch.manual_seed(0)
    b = torch.bernoulli(torch.full((4, 50_000), 0.3).sigmoid().double())
    log_prob = torch.distributions.Bernoulli(logits=a).log_prob(b)
    term = 2 + 3 * b
    draws = Draws(b[..., None], log_prob, torch.full_like(b, -torch.tensor(4.0).log().item()), score=log_prob)
    surrogate = with_credit(term, draws)
    torch.testing.assert_close(surrogate.detach(), term)
    (gradient,) = torch.autograd.grad(surrogate.mean(), a)
    s = torch.sigmoid(a.detach())
    assert abs(gradient - s * (1 - s) * 3) < 0.02
    with pytest.raises(ValueError, match="needs 2 draws or more; got 1"):
        with_credit(term[:1], draws)


def test_iwae_refuses_what_it_cannot_differentiate():
    model, batch = relu_model("gaussian")

    class Scored(DiagonalGaussian):
        def draw(self, n, generator=None):
            return super().draw(n, generator)._replace(score=torch.zeros(n, 8, dtype=torch.float64))

    with pytest.raises(ValueError, match="path gradients"):
        iwae(model, Scored(*torch.zeros(2, 8, methods.D, dtype=torch.float64)), batch, 2)
