"""Estimators: expected gradients are exact, by quadrature; which are biased; what they do to noise."""

import math

import pytest
import torch

from chance import beyond, within
from curvae.objectives import (
    Ciwae,
    DoublyReparameterized,
    FDivergence,
    Iwae,
    Miwae,
    MonteCarloElbo,
    Piwae,
    Renyi,
    Reparameterized,
    StickingTheLanding,
    WakePhi,
    log_mean_exp,
    slopes,
)
from curvae.objectives.divergences import Cubo
from curvae.posteriors import DiagonalGaussian, Draws, FullGaussian, Mixture, Posterior
from quadrature import Quadrature
from zoo import LinearGaussian, relu_model

STL, DREG = StickingTheLanding(), DoublyReparameterized()
PAIRS = {
    "elbo": MonteCarloElbo,
    "iwae": Iwae,
    "ciwae": lambda **k: Ciwae(0.3, **k),
    "renyi": lambda **k: Renyi(0.5, **k),
    "renyi-above-1": lambda **k: Renyi(2.0, **k),
    "renyi-below-0": lambda **k: Renyi(-1.0, **k),
    "f-divergence": FDivergence,
    "cubo": Cubo,
}
REPORT_ANOTHER = {"cubo", "renyi-below-0"}
"""What is reported is not what the posterior ascends."""


@pytest.mark.parametrize("name", PAIRS)
def test_doubly_reparameterized_gradient_has_the_same_expectation(name):
    oracle = Quadrature(draws=2, nodes=70)
    plain = oracle.gradients(PAIRS[name](), 2)
    doubly = oracle.gradients(PAIRS[name](estimator=DREG), 2)
    assert plain[0].abs().min() > 1e-3
    torch.testing.assert_close(doubly[0], plain[0], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(doubly[1], plain[1], atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("kind", [Miwae, Piwae])
def test_doubly_reparameterized_gradient_of_grouped_bounds(kind):
    oracle = Quadrature(draws=4, nodes=16)
    plain, doubly = oracle.gradients(kind(2), 2), oracle.gradients(kind(2, estimator=DREG), 2)
    torch.testing.assert_close(doubly[0], plain[0], atol=2e-4, rtol=0)
    torch.testing.assert_close(doubly[1], plain[1], atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("name", [name for name in PAIRS if name not in REPORT_ANOTHER])
def test_the_ordinary_gradient_is_that_of_the_expected_bound(name):
    """The surrogate's gradient against finite differences of the expected value, where the two are one number."""
    objective, step = PAIRS[name](), 1e-5
    oracle = Quadrature(draws=2, nodes=40)
    gradient, of_model = oracle.gradients(objective, 2)
    leaves = oracle.loc, oracle.log_scale, oracle.model.decoder.slope
    for leaf, found in zip(leaves, [*gradient, of_model], strict=True):
        ends = []
        for move in (step, -2 * step):
            with torch.no_grad():
                leaf.add_(move)
                ends.append(oracle.expected(objective, 2)[0])
        with torch.no_grad():
            leaf.add_(step)
        torch.testing.assert_close((ends[0] - ends[1]) / (2 * step), found.squeeze(), atol=1e-8, rtol=1e-7)


def test_sticking_the_landing_is_unbiased_for_the_elbo_and_biased_for_the_importance_weighted_bound():
    oracle = Quadrature(draws=2, nodes=40)
    elbo = oracle.gradients(MonteCarloElbo(), 2)[0]
    torch.testing.assert_close(oracle.gradients(MonteCarloElbo(estimator=STL), 2)[0], elbo, atol=1e-10, rtol=1e-10)
    exact, biased = (oracle.gradients(Iwae(estimator=each), 2)[0] for each in (Reparameterized(), STL))
    assert (biased - exact).abs().max() > 0.01


def test_wake_gradients_agree_in_expectation():
    oracle = Quadrature(draws=2, nodes=70)
    plain, doubly = oracle.gradients(WakePhi(), 2), oracle.gradients(WakePhi(doubly=True), 2)
    torch.testing.assert_close(doubly[0], plain[0], atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(doubly[1], plain[1], atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("estimator", [STL, DREG])
@pytest.mark.parametrize("kind", [MonteCarloElbo, Iwae])
def test_no_gradient_at_the_exact_posterior(kind, estimator):
    """For every set of draws, not only on average; the ordinary estimator has noise there."""
    oracle = LinearGaussian()
    factor = torch.linalg.cholesky(torch.linalg.inv(oracle.precision()))
    packed = (factor.tril(-1) + torch.diag(factor.diagonal().log())).expand(8, -1, -1).contiguous()
    leaves = [oracle.mean().requires_grad_(), packed.requires_grad_()]
    sizes = {}
    for each in (estimator, Reparameterized()):
        surrogate = kind(estimator=each)(oracle.model, FullGaussian(*leaves), oracle.batch, 3).surrogate
        sizes[each] = max(found.abs().max() for found in torch.autograd.grad(surrogate.sum(), leaves))
    assert sizes[estimator] < 1e-9 < 1e-2 < sizes[Reparameterized()]


@pytest.mark.statistical
def test_signal_to_noise_falls_with_draws_unless_doubly_reparameterized():
    """4,000 copies of an example: a ratio is known to about 3 %; limits by the tails over 200 seeds."""
    oracle, count = Quadrature(draws=1, nodes=1), 4_000
    batch = oracle.batch._replace(x=oracle.x[:1].expand(count, 1))
    ratio = {}
    for draws in (4, 64):
        for each in (Reparameterized(), DREG):
            loc = torch.full((count, 1), 1.5, dtype=torch.float64, requires_grad=True)
            q = DiagonalGaussian(loc, torch.full_like(loc, -0.6))
            surrogate = Iwae(estimator=each)(oracle.model, q, batch, draws).surrogate
            (found,) = torch.autograd.grad(surrogate.sum(), loc)
            ratio[draws, type(each)] = (found.mean().abs() / found.std()).item()
    within("plain, 64 over 4 draws", ratio[64, Reparameterized] / ratio[4, Reparameterized], 0.5)
    beyond("doubly, 64 over 4 draws", ratio[64, DoublyReparameterized] / ratio[4, DoublyReparameterized], 0.8)
    beyond("doubly over plain, 64 draws", ratio[64, DoublyReparameterized] / ratio[64, Reparameterized], 2.5)


def test_slopes_against_closed_forms():
    log_w = torch.randn(5, 3, dtype=torch.float64)
    log_c = torch.full_like(log_w, -math.log(5))
    share = log_w.softmax(0)
    slope, own = slopes(log_mean_exp, log_w, log_c)
    torch.testing.assert_close(slope - own, share.square())  # Tucker et al.
    slope, own = slopes(MonteCarloElbo().combine, log_w, log_c)
    torch.testing.assert_close(slope - own, torch.full_like(log_w, 0.2))
    power = (0.7 * log_w).softmax(0)
    slope, own = slopes(Renyi(0.3).combine, log_w, log_c)
    torch.testing.assert_close(slope - own, 0.3 * power + 0.7 * power.square())
    slope, own = slopes(Miwae(5).combine, log_w, log_c)
    torch.testing.assert_close(own, torch.zeros_like(own))


def test_slopes_in_chunks(monkeypatch):
    log_w = torch.randn(5, 3, dtype=torch.float64)
    log_c = torch.full_like(log_w, -math.log(5))
    whole = slopes(log_mean_exp, log_w, log_c)
    monkeypatch.setattr("curvae.objectives.estimators.ELEMENTS", 30)
    torch.testing.assert_close(slopes(log_mean_exp, log_w, log_c), whole)


class Coin(Posterior):
    """z is 0 or 1, drawn; both pairs of draws are in the batch, so the mean over it is an expectation."""

    def __init__(self, logit):
        self.logit = logit
        self.z = torch.tensor([[0.0, 0, 1, 1], [0, 1, 0, 1]], dtype=torch.float64)

    tensors, center, mean, covariance, _interval = {}, None, None, None, None

    def with_tensors(self, tensors):
        return self

    def log_prob(self, z):
        return torch.nn.functional.logsigmoid(torch.where(z > 0, self.logit, -self.logit))

    def draw(self, n, generator=None):
        log_q = self.log_prob(self.z[:n])
        return Draws(self.z[:n, :, None], log_q, torch.full_like(log_q, -math.log(n)).detach(), score=log_q)


@pytest.mark.parametrize("kind", [MonteCarloElbo, Iwae, lambda: Renyi(0.5), lambda: Ciwae(0.4)])
def test_choices_without_a_path_learn_by_their_credit(kind):
    """All pairs of draws, enumerated: the expected gradient of the surrogate is the derivative of E[bound]."""
    oracle, objective = Quadrature(draws=1, nodes=1), kind()
    batch = oracle.batch._replace(x=oracle.x[:1].expand(4, 1))
    logit = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    q = Coin(logit)
    log_pair = q.log_prob(q.z).sum(0)
    bound = objective(oracle.model, q, batch, 2)
    expected = (log_pair.exp() * bound.value).sum()
    (exact,) = torch.autograd.grad(expected, logit, retain_graph=True)
    (found,) = torch.autograd.grad((log_pair.exp().detach() * bound.surrogate).sum(), logit)
    torch.testing.assert_close(bound.surrogate, bound.value)
    torch.testing.assert_close(found, exact, atol=1e-12, rtol=1e-10)
    with pytest.raises(ValueError, match="needs 2 draws or more; got 1"):
        objective(oracle.model, q, batch, 1)


def test_what_an_estimator_cannot_serve_is_refused():
    oracle = Quadrature(draws=1, nodes=1)
    batch = oracle.batch._replace(x=oracle.x[:1].expand(4, 1))
    for each, name in ((STL, "StickingTheLanding"), (DREG, "DoublyReparameterized")):
        with pytest.raises(ValueError, match=f"{name}: expects a posterior with path gradients and a density; got C"):
            Iwae(estimator=each)(oracle.model, Coin(torch.tensor(0.4)), batch, 2)
    with pytest.raises(ValueError, match="WakePhi: expects a posterior with a density; got Coin"):
        WakePhi()(oracle.model, Coin(torch.tensor(0.4)), batch, 2)

    model, batch = relu_model("gaussian")
    part = DiagonalGaussian(*torch.zeros(2, 8, 3, dtype=torch.float64))
    mixture = Mixture((part, part), torch.zeros(8, 2, dtype=torch.float64))
    for objective in (Iwae(estimator=DREG), WakePhi(doubly=True)):
        with pytest.raises(ValueError, match="expects independent draws of one density; got Mixture, drawn by strata"):
            objective(model, mixture, batch, 2)
