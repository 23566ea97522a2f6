"""Averaged curvature: exact where log p is quadratic, the best Gaussian by quadrature, and never a lower ELBO."""

import math

import pytest
import torch
from scipy.optimize import minimize
from scipy.stats import norm
from torch import Tensor, nn

from curvae.distributions.gaussian import unpack
from curvae.inference import (
    AmortizedGaussian,
    Antithetic,
    AveragedCurvature,
    AveragedLaplace,
    GaussHermite,
    Laplace,
    NodeRule,
    Nodes,
    OrthogonalFrames,
    averaged,
)
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.posteriors import DiagonalGaussian, FullGaussian, Mixture, PrecisionGaussian, detached, kl
from curvae.priors import StandardNormal
from ingredients import encoder, matrices
from zoo import LIKELIHOODS, LinearGaussian, TwoModes, batch_of, data_for, points, relu_model

RULES = {"draws": Antithetic(), "two-draws": Antithetic(2), "frames": OrthogonalFrames(), "grid": GaussHermite(3)}


def anywhere(count: int = 8, size: int = 3) -> DiagonalGaussian:
    return DiagonalGaussian(2 * points(size, count), 0.5 * points(size, count))


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("full", [False, True])
def test_one_round_is_exact_where_log_p_is_quadratic(rule, full):
    """From anywhere, whatever the nodes: their second moments do not matter."""
    oracle = LinearGaussian()
    start = FullGaussian(points(), 0.3 * matrices(8).tril()) if full else anywhere()
    found = AveragedCurvature(1, RULES[rule])(oracle.model, start, oracle.batch)
    assert found.info["accepted"].all()
    torch.testing.assert_close(found.posterior.mean, oracle.mean(), atol=1e-10, rtol=1e-10)
    exact = oracle.precision().expand(8, -1, -1)
    torch.testing.assert_close(found.posterior.precision, exact, atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize("rule", RULES)
def test_a_quadratic_log_p_is_judged_exactly(rule):
    """``elbo`` is ``log p(x) - KL(q || p(z | x))`` at the start, log p(x) before a second round: without noise."""
    oracle, start = LinearGaussian(), anywhere()
    exact = PrecisionGaussian(oracle.mean(), torch.linalg.cholesky(oracle.precision()).expand(8, -1, -1))
    info = AveragedCurvature(2, RULES[rule])(oracle.model, start, oracle.batch).info
    evidence = oracle.log_evidence()
    torch.testing.assert_close(info["elbo"][0], evidence - kl(start, exact).sum(-1), atol=1e-9, rtol=1e-10)
    torch.testing.assert_close(info["elbo"][1], evidence, atol=1e-10, rtol=1e-10)


def smooth(size: int, activation: type[nn.Module], likelihood: str):
    """A model whose posterior is no Gaussian and has one mode, its data, and a start near the mode."""
    model = LatentVariableModel(
        StandardNormal(size),
        nn.Sequential(nn.Linear(size, 5), activation(), nn.Linear(5, 4)),
        LIKELIHOODS[likelihood](4),
    ).double()
    batch = batch_of(data_for(model.likelihood, 4))
    return (
        model,
        batch,
        detached(Laplace(AmortizedGaussian(nn.Linear(4, 2 * size).double()), 6)(model, batch).posterior),
    )


def expected(model: LatentVariableModel, x: Tensor, loc: Tensor, factor: Tensor, span: float = 8.0) -> Tensor:
    """The ELBO of ``N(loc, (L L')^-1)`` for one example: a sum over a fine grid of e, which knows nothing of nodes."""
    size = len(loc)
    axis = torch.linspace(-span, span, 321 if size == 1 else 129, dtype=torch.float64)
    e = torch.cartesian_prod(*[axis] * size).reshape(-1, size)
    weight = (-0.5 * e.square().sum(-1)).softmax(0)
    z = loc + torch.linalg.solve_triangular(factor.mT, e.mT, upper=True).mT
    entropy = 0.5 * size * (1 + math.log(2 * math.pi)) - factor.diagonal().log().sum()
    return (weight * model.log_joint(x[None], z[:, None])[:, 0]).sum() + entropy


def best(model: LatentVariableModel, x: Tensor, q: PrecisionGaussian) -> tuple[Tensor, Tensor]:
    """Mean and covariance of the Gaussian with the greatest such ELBO, by BFGS from q."""
    size, rows = q.loc.shape[1], torch.tril_indices(q.loc.shape[1], q.loc.shape[1])

    def split(flat: Tensor) -> tuple[Tensor, Tensor]:
        packed = torch.zeros(size, size, dtype=torch.float64).index_put(tuple(rows), flat[size:])
        return flat[:size], unpack(packed[None])[0]

    def loss(flat):
        point = torch.tensor(flat, requires_grad=True)
        value = -expected(model, x, *split(point))
        return value.item(), torch.autograd.grad(value, point)[0].numpy()

    begin = torch.cat([q.loc[0], q.tensors["packed"][0][tuple(rows)]])
    found = minimize(loss, begin.numpy(), jac=True, method="BFGS", options={"gtol": 1e-10, "maxiter": 500})
    loc, factor = split(torch.tensor(found.x))
    return loc, torch.cholesky_inverse(factor)


@pytest.mark.parametrize("likelihood", ["gaussian", "bernoulli"])
@pytest.mark.parametrize("activation", [nn.Tanh, nn.Softplus])
@pytest.mark.parametrize("size", [1, 2])
def test_the_best_gaussian_by_quadrature(size, activation, likelihood):
    model, batch, start = smooth(size, activation, likelihood)
    found = AveragedCurvature(40, GaussHermite(40 if size == 1 else 24))(model, start, batch).posterior
    for row in range(4):
        loc, covariance = best(model, batch.x[row], start.with_tensors({k: v[[row]] for k, v in start.tensors.items()}))
        torch.testing.assert_close(found.mean[row], loc, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(found.covariance[row], covariance, atol=1e-6, rtol=1e-6)


def test_from_a_place_where_the_mean_hessian_is_indefinite():
    """Two modes: the first rounds are refused and shortened, and the ELBO rises to a local best."""
    oracle = TwoModes()
    start = DiagonalGaussian(torch.full((3, 1), 0.05).double(), torch.full((3, 1), -1.5).double())
    found = AveragedCurvature(80, GaussHermite(40))(oracle.model, start, oracle.batch)
    assert not found.info["accepted"][0].all()
    for row in range(1, 3):
        own = PrecisionGaussian(found.posterior.loc[[row]], found.posterior.factor[[row]])
        loc, covariance = best(oracle.model, oracle.x[row], own)
        torch.testing.assert_close(found.posterior.mean[row], loc, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(found.posterior.covariance[row], covariance, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("rule", [GaussHermite(2), GaussHermite(6)])
def test_no_round_lowers_the_elbo_of_its_nodes(rule):
    """A decoder of steep pieces, and starts far off: what is seen before each round never falls."""
    model, batch = relu_model("gaussian")
    for parameter in model.decoder.parameters():
        parameter.data.mul_(3)
    info = AveragedCurvature(30, rule)(model, anywhere(), batch).info
    assert (~info["accepted"]).any()
    rise = info["elbo"].diff(dim=0)
    assert (rise >= -1e-12 * info["elbo"][1:].abs()).all()
    torch.testing.assert_close(rise[~info["accepted"][:-1]], torch.zeros((~info["accepted"][:-1]).sum()).double())


def test_a_refused_round_leaves_an_example_as_it_is():
    """Its neighbors move; whoever is refused is judged by the same draws that the others were."""
    model, batch = relu_model("gaussian")
    for parameter in model.decoder.parameters():
        parameter.data.mul_(4)
    start = anywhere()
    found = AveragedCurvature(1, Antithetic(2))(model, start, batch)
    (accepted,) = found.info["accepted"]
    moved = (found.posterior.mean != averaged.to_precision_gaussian(start).mean).any(-1)
    assert torch.equal(moved, accepted)
    assert accepted.any()


@pytest.mark.parametrize("guard", [0, 64])
def test_the_guard_keeps_a_better_start(guard):
    """The start is the best Gaussian by quadrature: a round of two draws can only be worse."""
    model, batch, start = smooth(1, nn.Tanh, "bernoulli")
    top = AveragedCurvature(40, GaussHermite(40))(model, start, batch).posterior
    found = AveragedCurvature(1, Antithetic(2), guard=guard)(model, top, batch)
    assert ("kept" in found.info) == (guard > 0)
    if guard:
        kept = found.info["kept"]
        torch.testing.assert_close(found.posterior.loc[kept], top.loc[kept])


class Quantiles(NodeRule):
    """Many nodes of equal weight, symmetric and of variance 1: sums over them are integrals, over kinks as well."""

    def __init__(self, exact: bool, count: int = 4000):
        self.exact = exact
        self.count = count

    def rounds(self, size):
        e = torch.from_numpy(norm.ppf((torch.arange(self.count) + 0.5).numpy() / self.count))[:, None]
        while True:
            yield Nodes(e / e.square().mean().sqrt(), torch.full((self.count,), 1 / self.count).double())


@pytest.mark.parametrize("exact", [False, True], ids=["gauss-newton", "stein"])
def test_what_a_kink_does(exact):
    """eta = a relu(z): the mean Hessian has the jump of the slope at 0, weighed by the density there; draws miss it.

    ``E_q[-d2 log p] = 1 + a^2 / s^2 P(z > 0) - a x / s^2 q(0)``, its last term the kink's.
    """
    a, s, x = 1.5, 0.5, torch.tensor([[-0.4], [-0.1], [0.3]], dtype=torch.float64)
    decoder = nn.Sequential(nn.Linear(1, 1, bias=False), nn.ReLU(), nn.Linear(1, 1, bias=False))
    for layer, value in ((decoder[0], 1.0), (decoder[2], a)):
        layer.weight.data.fill_(value)
    model = LatentVariableModel(StandardNormal(1), decoder, Gaussian(1, scale=s)).double()
    start = DiagonalGaussian(torch.full_like(x, 0.1), torch.full_like(x, -0.4))
    found = AveragedCurvature(1, Quantiles(exact))(model, start, batch_of(x))
    law = norm(start.loc.numpy(), start.variance.sqrt().numpy())
    piece, kink = 1 + a**2 / s**2 * torch.from_numpy(law.sf(0)), -a * x / s**2 * torch.from_numpy(law.pdf(0))
    known = piece + kink if exact else piece
    assert found.info["accepted"].all()
    torch.testing.assert_close(found.posterior.precision[..., 0], known, atol=0.0, rtol=0.003)


@pytest.mark.parametrize("nodes", [1, 3])
def test_in_parts_where_memory_is_short(monkeypatch, nodes):
    (model, batch), start = relu_model("bernoulli"), anywhere()
    whole = AveragedCurvature()(model, start, batch).posterior
    monkeypatch.setattr(averaged, "MEMORY", nodes * 8 * 9 * 8)
    part = AveragedCurvature()(model, start, batch).posterior
    torch.testing.assert_close(part.mean, whole.mean)
    torch.testing.assert_close(part.precision, whole.precision)


def test_the_encoder_learns_without_a_laplace_start():
    """From the divergence to what the rounds found: 0 where it is there already."""
    oracle = LinearGaussian()
    inference = AveragedLaplace(AmortizedGaussian(encoder(6)), AveragedCurvature(1))
    found = inference(oracle.model, oracle.batch)
    assert not found.posterior.mean.requires_grad
    assert found.encoder_bound is not None
    found.encoder_bound.sum().backward()
    assert all((parameter.grad != 0).any() for parameter in inference.parameters())
    again = AveragedLaplace(Laplace(AmortizedGaussian(encoder(6)), 2))(oracle.model, oracle.batch)
    assert "log_joint" in again.info
    assert again.info["elbo"].shape == (2, 8)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: AveragedCurvature(rounds=-1), "rounds must be 0 or more; got -1"),
        (lambda: AveragedCurvature(guard=-1), "guard must be 0 or more; got -1"),
        (lambda: Antithetic(3), "their number must be even; got 3"),
        (lambda: Antithetic(0), "draws must be 2 or more; got 0"),
        (lambda: Antithetic(seed=-1), "expected an integer in"),
        (lambda: OrthogonalFrames(2**32), "expected an integer in"),
        (lambda: GaussHermite(1), "order must be 2 or more; got 1"),
        (lambda: next(GaussHermite(8).rounds(5)), "8\\^5 nodes are more than 4,096"),
    ],
)
def test_misuse(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_only_gaussians():
    oracle = LinearGaussian()
    with pytest.raises(TypeError, match="expects a Gaussian posterior; got Mixture"):
        AveragedCurvature()(oracle.model, Mixture((anywhere(),), torch.zeros(8, 1).double()), oracle.batch)
