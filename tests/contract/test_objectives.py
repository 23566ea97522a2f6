"""Every objective: declared, per datum, what it reports below the evidence and equal to it where q is exact."""

import pytest
import torch

import methods
from curvae.objectives import AnnealedElbo, ImportanceBound, WakePhi, elbo, iwae, kind_of, with_credit
from curvae.posteriors import DiagonalGaussian, Draws, FullGaussian
from zoo import LinearGaussian, batch_of, relu_model


class Noisy(DiagonalGaussian):
    """Draws made of given noise."""

    def __init__(self, loc, log_scale, noise):
        super().__init__(loc, log_scale)
        object.__setattr__(self, "noise", noise)

    def with_tensors(self, tensors):
        return DiagonalGaussian(**tensors)

    def draw(self, n, generator=None):
        z = self.loc + self.color(self.noise()[:n])
        return Draws.iid(z, self.log_prob(z))


@pytest.fixture(params=methods.OBJECTIVES)
def name(request):
    return request.param


@pytest.fixture
def objective(name):
    return methods.OBJECTIVES[name]()


def test_per_datum_and_declared(objective):
    model, batch = relu_model("gaussian")
    bound = objective(model, methods.posterior("diagonal"), batch, 4)
    assert bound.value.shape == bound.surrogate.shape == (8,)
    assert kind_of(objective) in ("lower", "upper", "none")
    assert all(not value.requires_grad for value in bound.info.values())
    assert ("upper_bound" in bound.info) == (kind_of(objective) == "upper")


def test_one_datum_alone(name, objective):
    """The same noise for it in both: what is reported does not depend on its neighbors."""
    model, batch = relu_model("gaussian")
    q = methods.posterior("diagonal")
    noise = torch.randn(64, 8, methods.D, dtype=torch.float64)

    def bound_of(rows):
        used = iter(noise[:, rows].split(4))
        part = Noisy(*(value[rows] for value in q.tensors.values()), lambda: next(used))
        return objective(model, part, batch_of(batch.x[rows]), 4)

    together, alone = bound_of(slice(None)), bound_of(slice(2, 3))
    torch.testing.assert_close(together.value[2:3], alone.value)
    if name not in methods.BATCH_COUPLED:
        torch.testing.assert_close(together.surrogate[2:3], alone.surrogate)


def test_works_under_inference_mode(objective):
    model, batch = relu_model("bernoulli" if objective != methods.OBJECTIVES["batch-likelihood"]() else "gaussian")
    with torch.inference_mode():
        assert objective(model, methods.posterior("diagonal"), batch, 3).value.isfinite().all()


def test_finite_where_weights_are_far_apart(name, objective):
    """Float32 and log weights of minus thousands of nats: values and gradients stay finite."""
    model, batch = relu_model("gaussian")
    loc, log_scale = torch.full((8, methods.D), 9.0, requires_grad=True), torch.zeros(8, methods.D, requires_grad=True)
    bound = objective(model.float(), DiagonalGaussian(loc, log_scale), batch._replace(x=30 * batch.x.float()), 6)
    bound.surrogate.sum().backward()
    assert bound.value.isfinite().all()
    assert bound.value.max() < -1000
    width = () if name in methods.CENTER_ONLY else (log_scale,)
    for leaf in (loc, *width, *model.parameters()):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()


def test_below_the_evidence_in_expectation(objective):
    """Failure rate below 1e-4: 5 standard errors over 8 data."""
    oracle, q = LinearGaussian(scale=1.0), methods.posterior("diagonal")
    q = q.with_tensors({key: tensor.repeat(200, 1) for key, tensor in q.tensors.items()})
    values = objective(oracle.model, q, batch_of(oracle.x.repeat(200, 1)), 2).value.unflatten(0, (200, 8))
    error = values.std(0) / 200**0.5
    assert (values.mean(0) <= oracle.log_evidence() + 5 * error).all()


def test_equal_to_the_evidence_at_the_exact_posterior(name, objective):
    """Without any variance where only log weights count."""
    oracle = LinearGaussian(size=1 if name in methods.DIAGONAL_ONLY else methods.D)
    factor = torch.linalg.cholesky(torch.linalg.inv(oracle.precision()))
    exact = FullGaussian(oracle.mean(), (factor.tril(-1) + torch.diag(factor.diagonal().log())).expand(8, -1, -1))
    if name in methods.DIAGONAL_ONLY:
        exact = DiagonalGaussian(exact.loc, exact.packed[..., 0])
    constant = isinstance(objective, ImportanceBound | WakePhi)
    value = objective(oracle.model, exact, oracle.batch, 2 if constant else 200_000).value
    torch.testing.assert_close(value, oracle.log_evidence(), atol=1e-10 if constant else 0.05, rtol=0)


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
