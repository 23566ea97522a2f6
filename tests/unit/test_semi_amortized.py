"""Refinement and semi-amortized inference: exact derivatives through the steps, ablations, limits, guard."""

import pytest
import torch
from torch import nn

import methods
from curvae.inference import (
    Adam,
    AmortizedFullGaussian,
    AmortizedGaussian,
    ConstantGaussian,
    HeavyBall,
    Inference,
    Inferred,
    MatrixFreeLaplace,
    Refiner,
    SemiAmortized,
    refiner_at_test_time,
)
from curvae.inference.update_rules import clipped
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.noise import common_noise
from curvae.objectives import elbo
from curvae.posteriors import DiagonalGaussian, FullGaussian, kl
from curvae.priors import StandardNormal
from curvae.systems import sa_vae, vae
from curvae.typing import Batch, DataSpec
from zoo import LinearGaussian, batch_of


def smooth_model(scale: float = 0.5) -> tuple[LatentVariableModel, Batch]:
    decoder = nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, 4))
    model = LatentVariableModel(StandardNormal(2), decoder, Gaussian(4, scale=scale)).double()
    return model, batch_of(torch.randn(3, 4, dtype=torch.float64))


def outer(model: LatentVariableModel, q: object, batch: Batch) -> torch.Tensor:
    return elbo(model, q, batch, 3, generator=common_noise(7)).value.sum()


RULES = {
    "heavy-ball": HeavyBall(rate=0.05, momentum=0.5),
    "clip-active": HeavyBall(rate=0.05, momentum=0.5, clip=0.8),
    "adam": Adam(rate=0.1),
}


@pytest.mark.parametrize("rule", RULES)
def test_gradient_through_the_steps_is_exact(rule):
    """Against central differences, in the start and in the model; the clipping is differentiated as it is done."""
    model, batch = smooth_model()
    start = {name: 0.3 * torch.randn(3, 2, dtype=torch.float64) for name in ("loc", "log_scale")}
    weight = model.decoder[0].weight
    refiner = Refiner(steps=5, rule=RULES[rule], samples=2, seed=0)

    def value(tensors):
        return outer(model, refiner(model, DiagonalGaussian(**tensors), batch).posterior, batch)

    leaves = {name: tensor.clone().requires_grad_(True) for name, tensor in start.items()}
    *slopes, of_weight = torch.autograd.grad(value(leaves), [*leaves.values(), weight])
    for name, slope in zip(start, slopes, strict=True):
        along = torch.randn_like(slope)
        high, low = (value({**start, name: start[name] + h * along}).item() for h in (1e-5, -1e-5))
        assert (slope * along).sum().item() == pytest.approx((high - low) / 2e-5, rel=1e-6)
    along, kept = torch.randn_like(weight), weight.detach().clone()
    ends = []
    for h in (1e-5, -1e-5):
        weight.data = kept + h * along
        ends.append(value(start).item())
    assert (of_weight * along).sum().item() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)


def test_second_derivatives_are_in_the_gradient():
    """Where Lam = 5 I and q is a point, a shift of the start is multiplied as heavy ball does; first order keeps it."""
    oracle, left, speed = LinearGaussian(2, 4, scale=0.5, lengths=(1.0, 1.0)), 1.0, 0.0
    for _ in range(5):
        speed = 0.5 * speed - 0.05 * 5 * left
        left = left + speed
    model, batch = oracle.model, oracle.batch
    loc = torch.zeros(8, 2, dtype=torch.float64, requires_grad=True)
    q = DiagonalGaussian(loc, torch.full_like(loc, -12.0))
    end = Refiner(5, HeavyBall(0.05, momentum=0.5), seed=0)(model, q, batch).posterior
    (exact,) = torch.autograd.grad(outer(model, end, batch), loc)
    fixed = {name: value.detach().requires_grad_(True) for name, value in end.tensors.items()}
    (first,) = torch.autograd.grad(outer(model, end.with_tensors(fixed), batch), fixed["loc"])
    torch.testing.assert_close(exact, left * first, atol=1e-3, rtol=0)
    assert first.abs().max() > 0.1


def test_clipping_is_per_datum_and_no_more():
    grad = torch.tensor([[3.0, 4.0], [0.3, 0.4]])
    torch.testing.assert_close(clipped(grad, 1.0), torch.tensor([[0.6, 0.8], [0.3, 0.4]]))


def test_no_steps_is_the_vae():
    spec, x = DataSpec((5,)), Batch(torch.randn(6, 5), torch.arange(6))
    torch.manual_seed(1)
    plain = vae(spec, latent=2, hidden=8)
    torch.manual_seed(1)
    semi = sa_vae(spec, latent=2, hidden=8, steps=0)
    values, gradients = [], []
    for system in (plain, semi):
        torch.manual_seed(2)
        bound = system.bound(x)
        values.append(bound.value)
        gradients.append(torch.autograd.grad(bound.surrogate.sum(), list(system.parameters())))
    assert torch.equal(values[0], values[1])
    assert all(torch.equal(one, two) for one, two in zip(*gradients, strict=True))


class From(Inference):
    """A fixed start."""

    def __init__(self, posterior):
        super().__init__()
        self.posterior = posterior

    def forward(self, model, batch):
        return Inferred(self.posterior)


@pytest.mark.parametrize("start", [-2.0, 0.0, 3.0])
def test_many_steps_reach_the_evidence(start):
    """A posterior of diagonal covariance (W'W diagonal): the best diagonal Gaussian is exact, from any start."""
    oracle = LinearGaussian(scale=0.8)
    u, s, _ = torch.linalg.svd(oracle.weight, full_matrices=False)
    oracle.model.decoder.weight.data = oracle.weight = u * s
    q = DiagonalGaussian(*torch.full((2, 8, 3), start / 2, dtype=torch.float64))
    gaps = []
    for steps in (0, 5, 20, 100):
        end = Refiner(steps, HeavyBall(rate=0.05), samples=64, seed=0)(oracle.model, q, oracle.batch).posterior
        gaps.append((oracle.log_evidence() - elbo(oracle.model, end, oracle.batch, 4000).value).mean().item())
    assert gaps == sorted(gaps, reverse=True)
    assert abs(gaps[-1]) < 0.02


def test_full_covariance_reaches_the_evidence():
    oracle = LinearGaussian(scale=0.8)
    q = FullGaussian(torch.zeros(8, 3, dtype=torch.float64), torch.zeros(8, 3, 3, dtype=torch.float64))
    end = Refiner(200, HeavyBall(rate=0.05), samples=64, seed=0)(oracle.model, q, oracle.batch).posterior
    log_w = oracle.model.log_joint(oracle.x, (draws := end.draw(1000)).z) - draws.log_q
    assert (log_w.mean(0) - oracle.log_evidence()).abs().max() < 0.02


def test_vae_svi_teaches_the_encoder_by_its_own_elbo():
    """With no steps the draws are the same, so the gradient is that of the plain ELBO; the model gets none of it."""
    model, batch = smooth_model()
    inference = SemiAmortized(AmortizedGaussian(nn.Linear(4, 4).double()), Refiner(steps=0), unroll=False)
    torch.manual_seed(3)
    found = inference(model, batch)
    assert not any(value.requires_grad for value in found.posterior.tensors.values())
    weight = model.decoder[0].weight
    assert torch.autograd.grad(found.encoder_bound.sum(), weight, allow_unused=True, retain_graph=True)[0] is None
    torch.manual_seed(3)
    own = elbo(model, inference.start(model, batch).posterior, batch, 1).value
    torch.testing.assert_close(encoder_gradient(inference, found.encoder_bound), encoder_gradient(inference, own))


def test_imitation_adds_the_gradient_of_the_divergence():
    model, batch = smooth_model()
    encoder = nn.Linear(4, 4).double()
    gradients = []
    for kl_weight in (0.0, 2.0):
        inference = SemiAmortized(AmortizedGaussian(encoder), Refiner(6), unroll=False, kl_weight=kl_weight)
        torch.manual_seed(3)
        found = inference(model, batch)
        gradients.append(encoder_gradient(inference, found.encoder_bound))
    start, end = inference.start(model, batch).posterior, found.posterior
    normal = torch.distributions.Normal
    divergence = torch.distributions.kl_divergence(
        normal(start.loc, start.log_scale.exp()), normal(end.loc, end.log_scale.exp())
    )
    torch.testing.assert_close(gradients[1] - gradients[0], -2 * encoder_gradient(inference, divergence))


def test_svi_needs_no_encoder():
    system = sa_vae(DataSpec((5,)), latent=2, hidden=8, steps=2, amortized=False)
    assert not list(system.inference.parameters())
    assert isinstance(system.inference.start, ConstantGaussian)


def encoder_gradient(inference: SemiAmortized, term: torch.Tensor) -> torch.Tensor:
    (gradient,) = torch.autograd.grad(term.sum(), inference.start.encoder.weight)
    return gradient


def test_divergence_of_two_gaussians():
    q, p = methods.posterior("full"), methods.posterior("precision")
    normal = torch.distributions.MultivariateNormal
    expected = torch.distributions.kl_divergence(normal(q.mean, q.covariance), normal(p.mean, p.covariance))
    torch.testing.assert_close(kl(q, p)[:, 0], expected)


@pytest.mark.parametrize("name", ["amortized", "amortized-full", "laplace-no-steps", "laplace-implicit"])
def test_any_posterior_is_refined(name):
    """Also one whose determinant belongs to its precision: moving that alone would make the bound a lie."""
    model, batch = smooth_model()
    starts = {
        "amortized": AmortizedGaussian(nn.Linear(4, 4).double()),
        "amortized-full": AmortizedFullGaussian(nn.Linear(4, 5).double(), 2),
        "laplace-no-steps": MatrixFreeLaplace(AmortizedGaussian(nn.Linear(4, 4).double()), steps=0),
        "laplace-implicit": MatrixFreeLaplace(AmortizedGaussian(nn.Linear(4, 4).double()), steps=0, dense=0),
    }
    with torch.no_grad():
        start = starts[name](model, batch).posterior
        end = refiner_at_test_time(30)(model, start, batch).posterior
        before, after = (elbo(model, q, batch, 4000).value for q in (start, end))
    assert type(end) is type(start)
    assert after.mean() > before.mean() + 0.1
    for key in set(start.tensors) - set(start.free):
        assert torch.equal(end.tensors[key], start.tensors[key])


def test_a_rate_too_high_lowers_nothing_in_evaluation():
    model, batch = smooth_model(scale=0.02)
    inference = SemiAmortized(AmortizedGaussian(nn.Linear(4, 4).double()), Refiner(10, HeavyBall(5.0, clip=1e6)))
    found = inference.eval()(model, batch)
    start = inference.start(model, batch).posterior
    assert found.info["kept"].all()
    assert torch.equal(found.posterior.loc, start.loc)
    assert torch.equal(inference(model, batch).posterior.loc, found.posterior.loc), "evaluation repeats"


def test_a_datum_that_is_not_finite_leaves_the_others_alone():
    model, batch = smooth_model()
    loc = torch.zeros(3, 2, dtype=torch.float64)
    clean = Refiner(4, seed=0)(model, DiagonalGaussian(loc, loc), batch).posterior
    bad = loc.clone()
    bad[1] = torch.inf
    spoiled = Refiner(4, seed=0)(model, DiagonalGaussian(bad, loc), batch).posterior
    torch.testing.assert_close(spoiled.loc[[0, 2]], clean.loc[[0, 2]])


def test_the_trace_is_the_elbo_before_each_step():
    model, batch = smooth_model()
    q = DiagonalGaussian(*torch.zeros(2, 3, 2, dtype=torch.float64))
    seen = Refiner(8, HeavyBall(0.02), samples=500, seed=0)(model, q, batch).info["elbo"]
    assert seen.shape == (8, 3)
    torch.testing.assert_close(seen[0], elbo(model, q, batch, 20_000).value, atol=0.3, rtol=0)
    assert (seen[-1] > seen[0]).all()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Refiner(steps=-1), "steps and guard must be 0 or more"),
        (lambda: Refiner(samples=0), "samples 1 or more; got steps=20, guard=0, samples=0"),
        (lambda: HeavyBall(rate=0.0), "rate and clip must be > 0"),
        (lambda: HeavyBall(clip=0.0), "rate and clip must be > 0"),
        (lambda: HeavyBall(momentum=1.0), r"momentum in \[0, 1\)"),
        (lambda: HeavyBall(momentum=-0.1), r"momentum in \[0, 1\)"),
        (lambda: Adam(rate=0.0), "rate must be > 0"),
        (lambda: Adam(first=1.0), r"first and second in \[0, 1\)"),
        (lambda: Adam(second=1.0), r"first and second in \[0, 1\)"),
        (lambda: SemiAmortized(ConstantGaussian(2), kl_weight=1.0), "with unroll=False; got 1.0"),
    ],
)
def test_misuse(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_imitation_of_what_is_not_gaussian():
    model, batch = smooth_model()

    class Start(AmortizedGaussian):
        def forward(self, model, batch):
            found = super().forward(model, batch)
            return MatrixFreeLaplace(From(found.posterior), steps=0, dense=0)(model, batch)

    inference = SemiAmortized(Start(nn.Linear(4, 4).double()), Refiner(1), unroll=False, kl_weight=1.0)
    with pytest.raises(ValueError, match="kl_weight needs a Gaussian posterior; got ImplicitGaussian"):
        inference(model, batch)
