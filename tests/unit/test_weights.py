"""Posteriors over weights against closed forms, brute force and NumPy."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from curvae.likelihoods import Bernoulli, Categorical, Gaussian
from curvae.model import LatentVariableModel
from curvae.networks import MLP
from curvae.priors import StandardNormal
from curvae.typing import Batch
from curvae.weights import (
    AveragedModel,
    CodedRows,
    DeepEnsemble,
    DiagonalLaplace,
    LastLayerLaplace,
    LinearizedDecoder,
    SubnetworkLaplace,
    Swag,
    check_weights,
    diagonal_curvature,
    evidence_precision,
    layerwise_diagonal,
    plain_layers,
    weight_vector,
    with_weights,
)
from curvae.weights.vectors import named_weights

F64 = torch.float64
ROWS, OUTPUTS, LATENTS = 40, 3, 2


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear_model(scale: float = 0.5) -> tuple[LatentVariableModel, CodedRows]:
    """A linear decoder at its maximum a posteriori of weights, for codes that are known."""
    model = LatentVariableModel(StandardNormal(LATENTS), nn.Linear(LATENTS, OUTPUTS), Gaussian(OUTPUTS, scale)).double()
    z = torch.randn(ROWS, LATENTS, dtype=F64)
    x = model.decode(z).detach() + scale * torch.randn(ROWS, OUTPUTS, dtype=F64)
    return model, CodedRows([Batch.of(x)], [z])


def deep_model(likelihood=None, activation=nn.Tanh, hidden=(4, 3)) -> tuple[LatentVariableModel, CodedRows]:
    likelihood = likelihood or Gaussian(OUTPUTS, scale=0.7)
    decoder = MLP(LATENTS, list(hidden), likelihood.size, activation)
    model = LatentVariableModel(StandardNormal(LATENTS), decoder, likelihood).double()
    z = torch.randn(ROWS, LATENTS, dtype=F64)
    return model, CodedRows([Batch.of(likelihood.sample(model.decode(z)).detach())], [z])


def brute_force(model: LatentVariableModel, rows: CodedRows) -> torch.Tensor:
    """``sum_n J_n' F_n J_n`` of all weights, from the whole Jacobian."""
    decoder, ((batch,), (z,)) = model.decoder, rows[:2]

    def eta(vector: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(decoder, named_weights(decoder, vector), (z,))

    jacobian = torch.func.jacrev(eta)(weight_vector(decoder).detach())
    unit = torch.eye(model.likelihood.size, dtype=F64)
    at = model.decode(z).detach()
    roots = torch.stack([model.likelihood.root(at, each.expand_as(at), batch.mask) for each in unit], 1)
    informed = torch.einsum("bpq,bpw->bqw", roots, jacobian)
    return torch.einsum("bqv,bqw->vw", informed, informed)


@pytest.mark.parametrize("precision", [0.5, 20.0])
def test_last_layer_is_bayesian_linear_regression(precision):
    """Covariance of the weights and of predictions against the exact posterior, by the Hessian of -log p."""
    torch.manual_seed(0)
    model, rows = linear_model()
    q = LastLayerLaplace(precision)
    q.fit(model, rows)

    def energy(vector: torch.Tensor) -> torch.Tensor:
        drawn = named_weights(model.decoder, vector, "decoder.")
        eta = torch.func.functional_call(model.decoder, named_weights(model.decoder, vector), (rows.codes[0],))
        assert drawn
        return -model.likelihood.log_prob(rows.batches[0].x, eta).sum() + 0.5 * precision * vector.square().sum()

    covariance = torch.linalg.inv(torch.func.hessian(energy)(weight_vector(model.decoder).detach()))
    z = torch.randn(5, LATENTS, dtype=F64)
    features = torch.cat([z, torch.ones(5, 1, dtype=F64)], 1)
    exact = torch.stack(
        [
            torch.stack([f @ covariance[ix][:, ix] @ f for f in features])
            for p in range(OUTPUTS)
            for ix in [torch.tensor([LATENTS * p, LATENTS * p + 1, LATENTS * OUTPUTS + p])]
        ],
        1,
    )
    torch.testing.assert_close(q.variance(features), exact, rtol=1e-8, atol=0)
    draws = torch.stack([weight_vector(each).detach() for each in q.networks(model.decoder, 1000, generator())])
    whitened = (draws - weight_vector(model.decoder).detach()) @ torch.linalg.cholesky(torch.linalg.inv(covariance))
    off = whitened.T.cov() - torch.eye(len(covariance), dtype=F64)
    assert off.abs().max() < 6 * math.sqrt(2 / 1000)  # 45 entries beyond 6 sigma: below 1e-7


@pytest.mark.parametrize("likelihood", [Gaussian(OUTPUTS, scale=0.7), Bernoulli(OUTPUTS)])
@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
def test_layerwise_curvature_is_the_diagonal_of_the_whole(likelihood, activation):
    torch.manual_seed(1)
    model, rows = deep_model(likelihood, activation)
    exact = diagonal_curvature(model, rows)
    torch.testing.assert_close(exact, brute_force(model, rows).diagonal(), rtol=1e-9, atol=1e-12)
    ratio = diagonal_curvature(model, rows, "approximate") / exact
    assert (ratio[-OUTPUTS * 4 :] - 1).abs().max() < 1e-9  # the last layer
    assert (ratio[: LATENTS * 4] - 1).abs().max() > 0.01  # the first: diagonals alone are something else


def test_missing_elements_bend_nothing():
    torch.manual_seed(2)
    model, rows = deep_model()
    batch = rows.batches[0]
    masked = CodedRows([batch._replace(mask=torch.rand(batch.x.shape) < 0.5)], rows.codes)
    torch.testing.assert_close(diagonal_curvature(model, masked), brute_force(model, masked).diagonal())


@pytest.mark.parametrize("hidden", [(), (1, 1, 1)])
def test_approximate_is_exact_for_one_layer_and_for_chains_of_width_1(hidden):
    torch.manual_seed(3)
    model, rows = deep_model(Gaussian(1 if hidden else OUTPUTS, scale=0.3), hidden=hidden)
    information = torch.rand(ROWS, model.likelihood.size, dtype=F64)
    layers, z = plain_layers(model.decoder), rows.codes[0]
    one, other = (layerwise_diagonal(layers, z, information, exact) for exact in (True, False))
    torch.testing.assert_close(one, other, rtol=1e-12, atol=0)


def test_one_linear_layer_by_hand():
    """diag(sum x x' (x) I / s^2): no mean over pixels, no half."""
    torch.manual_seed(4)
    model, rows = linear_model(scale=0.5)
    z = rows.codes[0]
    by_hand = torch.cat([z.square().sum(0).expand(OUTPUTS, -1).flatten(), torch.full((OUTPUTS,), float(ROWS))]) / 0.25
    torch.testing.assert_close(diagonal_curvature(model, rows), by_hand.double())


@pytest.mark.parametrize("likelihood", [Gaussian(OUTPUTS, scale=0.7), Categorical(1, 3)])
def test_sampled_curvature_has_the_same_mean(likelihood):
    """Of 100 estimates, each the sum of squares that chi2(1) spreads: within 6 standard errors; below 1e-6."""
    torch.manual_seed(5)
    model, rows = deep_model(likelihood)
    each = torch.stack([diagonal_curvature(model, rows, "sampled") for _ in range(100)])
    exact = brute_force(model, rows).diagonal()
    assert ((each.mean(0) - exact).abs() <= 6 * each.std(0) / 10 + 1e-12).all()


def test_rows_stand_for_all():
    torch.manual_seed(6)
    model, rows = linear_model()
    torch.testing.assert_close(diagonal_curvature(model, rows._replace(scale=3.0)), 3 * diagonal_curvature(model, rows))


def test_precision_is_where_the_evidence_is_highest():
    torch.manual_seed(7)
    curvature, square = 10 ** (4 * torch.rand(30, dtype=F64) - 1), torch.tensor(12.0, dtype=F64)

    def evidence(precision: torch.Tensor) -> torch.Tensor:
        determinant = (curvature + precision.unsqueeze(-1)).log().sum(-1)
        return 0.5 * (len(curvature) * precision.log() - precision * square - determinant)

    grid = torch.logspace(-3, 3, 20001, dtype=F64)
    best = grid[evidence(grid).argmax()]
    assert evidence_precision(square, curvature).log() == pytest.approx(float(best.log()), abs=1e-3)


def test_diagonal_laplace_draws_with_its_deviations():
    """Of 4,000 draws, variances of 14 weights: within 6 standard errors."""
    torch.manual_seed(8)
    model, rows = linear_model()
    q = DiagonalLaplace(2.0)
    q.fit(model, rows)
    draws = torch.stack([*q.draw(weight_vector(model.decoder).detach(), 4000, generator())])
    ratio = draws.var(0) * (diagonal_curvature(model, rows) + 2.0)
    assert (ratio - 1).abs().max() < 6 * math.sqrt(2 / 4000)


def visit(q: Swag, path: torch.Tensor) -> None:
    q.begin(path[0], 100)
    for weights in path:
        for name, value in q.visited(weights).items():
            getattr(q, name).copy_(value)


def test_swag_is_numpy_even_where_weights_hardly_move():
    """In single precision ``E[theta^2] - mean^2`` of weights at 100 that move by 1e-3 is nothing but rounding."""
    path = 100 + 1e-3 * torch.randn(300, 5, generator=generator(1))
    path[:, 0] = torch.randn(300, generator=generator(2))
    q = Swag(every=3, rank=4)
    visit(q, path)
    seen = path[2::3].double().numpy()
    np.testing.assert_allclose(q.mean.numpy(), seen.mean(0), rtol=1e-6)
    np.testing.assert_allclose(q.variance.numpy(), seen.var(0), rtol=1e-2)
    means = np.cumsum(seen, 0) / np.arange(1, len(seen) + 1)[:, None]
    np.testing.assert_allclose(q.deviations.numpy(), (seen - means)[-4:], atol=2e-5)
    naive = (path[2::3].square().mean(0) - path[2::3].mean(0).square())[1:]
    assert (naive / q.variance[1:] - 1).abs().max() > 1  # the fault that this is about


def test_swag_draws_with_half_of_each_covariance():
    """Of 4,000 draws, 15 entries of a covariance: within 6 standard errors."""
    q = Swag(every=1, rank=3)
    visit(q, torch.randn(50, 5, generator=generator(3), dtype=F64).cumsum(0))
    exact = 0.5 * (q.variance.diag() + q.deviations.T @ q.deviations / 2)
    draws = torch.stack([*q.draw(torch.zeros(5, dtype=F64), 4000, generator())])
    scale = exact.diagonal().sqrt()
    off = (draws.T.cov() - exact) / torch.outer(scale, scale)
    assert off.abs().max() < 6 * math.sqrt(2 / 4000)
    assert ((draws.mean(0) - q.mean) / scale).abs().max() < 6 / math.sqrt(4000)


def test_swag_of_few_visits_spreads_as_it_can():
    q = Swag(every=1, rank=5)
    center = torch.zeros(2)
    assert torch.equal(next(q.draw(center, 1)), center)
    visit(q, torch.tensor([[1.0, 2.0]]))
    assert torch.equal(next(q.draw(center, 1)), torch.tensor([1.0, 2.0]))
    visit(q, torch.tensor([[1.0, 2.0], [3.0, 2.0]]))
    assert next(q.draw(center, 1)).isfinite().all()


def test_an_ensemble_gives_each_member_before_any_twice():
    torch.manual_seed(9)
    network = MLP(2, [8], 3)
    q = DeepEnsemble(network, size=4)
    drawn = [weight_vector(each).detach() for each in q.networks(network, 8, generator())]
    assert len({tuple(each.tolist()) for each in drawn[:4]}) == len({tuple(each.tolist()) for each in drawn}) == 4
    scales = [each.weight.detach().std() for each in (network[1], with_weights(network, drawn[0])[1])]
    assert scales[0] == pytest.approx(float(scales[1]), rel=0.5)


def test_averaged_model_is_the_mean_of_its_members():
    torch.manual_seed(10)
    model, _ = linear_model()
    members = [model.decoding_by(with_weights(model.decoder, torch.randn(9, dtype=F64))) for _ in range(3)]
    averaged = AveragedModel(model, members)
    x, z = torch.randn(5, OUTPUTS, dtype=F64), torch.randn(2, 5, LATENTS, dtype=F64)
    each = torch.stack([member.log_likelihood(x, z) for member in members])
    torch.testing.assert_close(averaged.log_likelihood(x, z), each.exp().mean(0).log())
    torch.testing.assert_close(averaged.mean(z[0]), torch.stack([member.mean(z[0]) for member in members]).mean(0))
    drawn = averaged.sample_given(z[0, :1].expand(30_000, -1), generator())
    mean = torch.stack([member.decode(z[0, :1])[0] for member in members]).mean(0)
    assert ((drawn.mean(0) - mean) / drawn.std(0)).abs().max() < 6 / math.sqrt(30_000)


def test_categories_are_averaged_as_probabilities():
    torch.manual_seed(11)
    model = LatentVariableModel(StandardNormal(1), nn.Linear(1, 3), Categorical(1, 3))
    drawn = [with_weights(model.decoder, torch.tensor([0.0, 0, 0, *row])) for row in ((9, 0, 0), (0, 1, 0), (0, 1, 0))]
    averaged = AveragedModel(model, [model.decoding_by(each) for each in drawn])
    assert averaged.mean(torch.zeros(1, 1)).tolist() == [[0.0]]


def test_statistics_of_one_set_of_weights_are_refused():
    with pytest.raises(ValueError, match=r"expected a decoder without running statistics, got BatchNorm1d at '1'"):
        check_weights(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)))
    with pytest.raises(ValueError, match="expected a decoder with parameters, got none"):
        check_weights(nn.Identity())


def test_a_last_layer_that_is_none_is_refused():
    with pytest.raises(ValueError, match="expected a decoder that ends in a linear layer, got Tanh"):
        LastLayerLaplace().fit(*deep_model_of(nn.Sequential(nn.Linear(LATENTS, OUTPUTS), nn.Tanh())))


def deep_model_of(decoder: nn.Module) -> tuple[LatentVariableModel, CodedRows]:
    model = LatentVariableModel(StandardNormal(LATENTS), decoder, Gaussian(OUTPUTS))
    return model, CodedRows([Batch.of(torch.zeros(2, OUTPUTS))], [torch.zeros(2, LATENTS)])


def subnetwork(model, rows, size: int, precision: float = 2.0, rescaled: bool = False) -> SubnetworkLaplace:
    q = SubnetworkLaplace(size, precision, rescaled).double()
    q.fit(model, rows)
    return q


def test_all_weights_are_bayesian_linear_regression():
    """Posterior and predictive of a linear decoder: S = all is exact, S a part is the exact conditional of it."""
    torch.manual_seed(20)
    model, rows = linear_model()
    precision = brute_force(model, rows) + 2.0 * torch.eye(9, dtype=F64)
    covariance = torch.linalg.inv(precision)
    q, z = subnetwork(model, rows, 9), torch.randn(4, LATENTS, dtype=F64)
    torch.testing.assert_close(q.factor @ q.factor.mT, precision)
    features = torch.cat([z, torch.ones(4, 1, dtype=F64)], 1)
    places = [torch.tensor([LATENTS * p, LATENTS * p + 1, LATENTS * OUTPUTS + p]) for p in range(OUTPUTS)]
    exact = torch.stack([(features @ covariance[ix][:, ix] * features).sum(1) for ix in places], 1)
    batch = Batch.of(torch.zeros(4, OUTPUTS, dtype=F64))
    torch.testing.assert_close(q.variance(model, batch, z), exact)
    part = subnetwork(model, rows, 4)
    rest = torch.tensor(sorted(set(range(9)) - set(part.chosen.tolist())))
    inside, across = covariance[part.chosen][:, part.chosen], covariance[part.chosen][:, rest]
    conditional = inside - across @ torch.linalg.solve(covariance[rest][:, rest], across.mT)
    torch.testing.assert_close(torch.linalg.inv(part.factor @ part.factor.mT), conditional)


@pytest.mark.parametrize("likelihood", [Gaussian(OUTPUTS, scale=0.7), Categorical(1, 3)])
def test_subset_curvature_is_that_part_of_the_whole(likelihood):
    torch.manual_seed(21)
    model, rows = deep_model(likelihood)
    whole = brute_force(model, rows)
    q = subnetwork(model, rows, 7)
    expected = whole[q.chosen][:, q.chosen] + 2.0 * torch.eye(7, dtype=F64)
    torch.testing.assert_close(q.factor @ q.factor.mT, expected)


def test_the_widest_weights_are_chosen():
    torch.manual_seed(22)
    model, rows = deep_model()
    variances = 1 / (brute_force(model, rows).diagonal() + 2.0)
    widest = set(variances.topk(7).indices.tolist())
    assert set(subnetwork(model, rows, 7).chosen.tolist()) == widest


def test_weights_that_do_nothing_are_chosen_last():
    """Behind a unit that no row activates the variance is the prior's, larger than any other's, and of no effect."""
    torch.manual_seed(23)
    model, rows = deep_model(activation=nn.ReLU, hidden=(6,))
    with torch.no_grad():
        model.decoder[1].bias[0] = -100.0
    dead = {0, 1, 12, *(18 - 4 + 6 * p for p in range(OUTPUTS))}
    assert not dead & set(subnetwork(model, rows, 20).chosen.tolist()) - {14, 20, 26}
    q = subnetwork(model, rows, 20)
    assert (brute_force(model, rows).diagonal()[q.chosen] > 0).all()


def test_predictions_are_the_less_certain_the_more_weights_there_are():
    torch.manual_seed(24)
    model, rows = deep_model()
    batch, z = Batch.of(torch.zeros(6, OUTPUTS, dtype=F64)), 3 * torch.randn(6, LATENTS, dtype=F64)
    each = torch.stack([subnetwork(model, rows, size).variance(model, batch, z) for size in (2, 6, 12, 20, 39)])
    assert (each.diff(dim=0) > -1e-12).all()
    assert (each[-1] > each[0]).all()


def test_precision_is_rescaled_by_the_share_of_weights():
    torch.manual_seed(25)
    model, rows = deep_model()
    plain, scaled = (subnetwork(model, rows, 7, rescaled=each) for each in (False, True))
    off = (plain.factor @ plain.factor.mT - scaled.factor @ scaled.factor.mT).diagonal()
    torch.testing.assert_close(off, torch.full((7,), 2.0 * (1 - 7 / len(weight_vector(model.decoder)))).double())


def test_draws_are_of_the_linearized_decoder():
    """Twice the direction is twice the difference; 500 draws have the variance that is said, within 6 errors."""
    torch.manual_seed(26)
    model, rows = deep_model()
    q, z = subnetwork(model, rows, 12), torch.randn(3, LATENTS, dtype=F64)
    eta = model.decode(z).detach()
    network = next(q.networks(model.decoder, 1, generator()))
    twice = LinearizedDecoder(model.decoder, 2 * network.direction)
    torch.testing.assert_close(twice(z) - eta, 2 * (network(z) - eta))
    drawn = torch.stack([each(z).detach() for each in q.networks(model.decoder, 500, generator())])
    ratio = drawn.var(0) / q.variance(model, Batch.of(torch.zeros(3, OUTPUTS, dtype=F64)), z)
    assert (ratio - 1).abs().max() < 6 * math.sqrt(2 / 500)
    assert ((drawn.mean(0) - eta) / drawn.std(0)).abs().max() < 6 / math.sqrt(500)


def test_no_whole_jacobian_is_formed():
    """That of 211,600 weights, 700 outputs and 40 rows has 6e9 numbers."""
    torch.manual_seed(27)
    model, rows = deep_model(Gaussian(700), hidden=(300,))
    q = subnetwork(model, rows, 3)
    assert q.variance(model, rows.batches[0], rows.codes[0]).shape == (ROWS, 700)
