"""linalg, model, networks, moments: the small pieces."""

import numpy as np
import pytest
import torch
from torch import nn

from curvae import linalg
from curvae.inference import AmortizedFullGaussian, prefixed
from curvae.likelihoods import Bernoulli, Categorical, Gaussian, default
from curvae.model import LatentVariableModel, log_joint_by_target
from curvae.networks import MLP, ConvDecoder, ConvEncoder
from curvae.objectives import AnnealedElbo
from curvae.posteriors import Draws, weighted_covariance, weighted_interval, weighted_mean
from curvae.priors import StandardNormal
from curvae.typing import DataSpec
from zoo import LinearGaussian, relu_model


def test_cholesky_ladder_mends_one_matrix_and_leaves_the_others():
    good = torch.eye(3, dtype=torch.float64) * 4
    singular = torch.ones(3, 3, dtype=torch.float64)
    broken = torch.full((3, 3), torch.nan, dtype=torch.float64)
    factor, ok = linalg.cholesky(torch.stack([good, singular - 1e-9 * torch.eye(3), broken]))
    assert ok.tolist() == [True, False, False]
    torch.testing.assert_close(factor[0], 2 * torch.eye(3, dtype=torch.float64))
    torch.testing.assert_close(factor[1] @ factor[1].mT, singular, atol=1e-4, rtol=0)
    torch.testing.assert_close(factor[2], torch.eye(3, dtype=torch.float64))


def test_linalg_against_torch():
    root = torch.randn(4, 3, 3, dtype=torch.float64)
    matrix = root @ root.mT + torch.eye(3)
    factor, _ = linalg.cholesky(matrix)
    v = torch.randn(4, 3, dtype=torch.float64)
    torch.testing.assert_close(linalg.solve_spd(factor, v), torch.linalg.solve(matrix, v))
    torch.testing.assert_close(linalg.half_log_det(factor), 0.5 * torch.logdet(matrix))


def test_fork_splits_the_gradient():
    model, batch = relu_model("bernoulli")
    z = torch.randn(5, 8, 3, dtype=torch.float64, requires_grad=True)
    down, up = log_joint_by_target(model, batch.x, z)
    whole = model.log_joint(batch.x, z)
    torch.testing.assert_close(down, whole)
    torch.testing.assert_close(up, whole)
    weights = torch.randn(5, 8, dtype=torch.float64)
    expected = torch.autograd.grad((weights * whole).sum(), [z, *model.parameters()])
    to_z = torch.autograd.grad((weights * up).sum(), [z, *model.parameters()], allow_unused=True, retain_graph=True)
    to_model = torch.autograd.grad((weights * down).sum(), [z, *model.parameters()], allow_unused=True)
    torch.testing.assert_close(to_z[0], expected[0])
    assert all(gradient is None for gradient in to_z[1:])
    assert to_model[0] is None
    for value, reference in zip(to_model[1:], expected[1:], strict=True):
        torch.testing.assert_close(value, reference)


class Autoregressive(nn.Module):
    """eta_i depends on z and x_<i."""

    def forward(self, z, x):
        before = torch.cat([torch.zeros_like(x[:, :1]), x[:, :-1]], 1).cumsum(1)
        return before + z.sum(-1, keepdim=True)


def test_an_autoregressive_decoder_also_sees_x():
    model = LatentVariableModel(StandardNormal(2), Autoregressive(), Gaussian(4), autoregressive=True)
    x, z = torch.randn(3, 4), torch.randn(5, 3, 2)
    assert model.log_joint(x, z).shape == (5, 3)
    torch.testing.assert_close(model.decode(z, x)[2], model.decode(z[2], x))
    with pytest.raises(ValueError, match="needs x beside z"):
        model.decode(z)


def test_decoder_width_is_checked():
    model = LatentVariableModel(StandardNormal(2), nn.Linear(2, 5), Gaussian(4))
    with pytest.raises(ValueError, match="Gaussian expects 4 values an example from the decoder; got 5"):
        model.decode(torch.zeros(1, 2))


def test_model_samples_follow_the_marginal():
    """Second moments of 100,000 draws; failure rate below 1e-6."""
    oracle = LinearGaussian()
    x, z = oracle.model.sample(100_000, torch.Generator().manual_seed(0))
    assert z.shape == (100_000, 3)
    torch.testing.assert_close(torch.cov(x.detach().mT), oracle.marginal().covariance_matrix, atol=0.02, rtol=0.05)


@pytest.mark.parametrize("event", [(1, 28, 28), (3, 32, 32), (1, 8, 8), (2, 7, 9)])
def test_convolutional_pair_fits_any_size(event):
    assert ConvEncoder(event, 6, width=4, hidden=8)(torch.zeros(2, *event)).shape == (2, 6)
    assert ConvDecoder(3, event, width=4, hidden=8)(torch.zeros(2, 3)).shape == (2, *event)


def test_convolutional_decoder_mirrors_the_encoder():
    """By themselves they have layers of the same sizes, in the opposite order, but where a side is rounded up."""
    encoder, decoder = ConvEncoder((3, 32, 32), 5), ConvDecoder(5, (3, 32, 32))
    forth = [layer.weight.shape for layer in encoder if hasattr(layer, "weight")]
    back = [layer.weight.shape for layer in decoder.layers if hasattr(layer, "weight")][::-1]
    assert forth[:2] == back[:2] == [(32, 3, 4, 4), (64, 32, 4, 4)]
    assert forth[2][0] == back[2][1] == 256
    assert tuple(forth[3]) == tuple(back[3][::-1]) == (5, 256)


def test_mlp_keeps_the_variance_of_what_is_sent_back():
    """Product over the layers of fan_out * weight variance * (1/2 per ReLU) = 1, within 5 %."""
    torch.manual_seed(0)
    network = MLP(400, [500, 500], 600)
    product = 0.5**2
    for layer in network:
        if isinstance(layer, nn.Linear):
            product *= layer.out_features * layer.weight.var().item()
    assert product == pytest.approx(1.0, rel=0.05)


def test_weighted_moments_against_numpy_style_sums():
    z = torch.randn(6, 2, 3, dtype=torch.float64)
    log_c = torch.randn(6, 2, dtype=torch.float64).log_softmax(0)
    draws = Draws(z, torch.zeros_like(log_c), log_c)
    w = log_c.exp()[:, 1]
    mean = (w[:, None] * z[:, 1]).sum(0)
    covariance = sum(w[s] * torch.outer(z[s, 1] - mean, z[s, 1] - mean) for s in range(6))
    torch.testing.assert_close(weighted_mean(draws)[1], mean)
    torch.testing.assert_close(weighted_covariance(draws)[1], covariance)
    low, high = weighted_interval(draws, 0.5)
    assert (low <= high).all()


def test_full_gaussian_factor_is_lower_triangular_and_used_whole():
    inference = AmortizedFullGaussian(nn.Linear(4, 9), size=3)
    q = inference(None, _batch(torch.randn(5, 4))).posterior
    assert (q.factor.triu(1) == 0).all()
    assert (q.factor.tril(-1)[:, [1, 2, 2], [0, 0, 1]] != 0).all()
    with pytest.raises(ValueError, match="must give D"):
        AmortizedFullGaussian(nn.Linear(4, 8), size=3)(None, _batch(torch.randn(5, 4)))


def _batch(x):
    from curvae.typing import Batch

    return Batch(x, torch.arange(len(x)))


def test_prefixed_state():
    assert prefixed("start", {"step": torch.tensor(1)}).keys() == {"start.step"}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: StandardNormal(3, blocks=(1, 1)), "blocks must be sizes >= 1 that sum to size=3"),
        (lambda: Gaussian(3, scale=0.0), "scale and floor must be positive"),
        (lambda: Gaussian(3, scale=1e-3, learn="shared"), "must be above its floor, 0.001; got 0.001"),
        (lambda: Gaussian(0), "event must be a size or shape of sizes >= 1; got 0"),
        (lambda: Categorical(3, categories=1), "at least two categories"),
        (lambda: AnnealedElbo(warmup=0), "warmup must be 1 step or more"),
    ],
)
def test_misuse(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_default_likelihood_follows_the_support():
    assert isinstance(default(DataSpec((4,), "real")), Gaussian)
    assert isinstance(default(DataSpec((4,), "binary")), Bernoulli)
    assert default(DataSpec((4,), "category", 5)).size == 20


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("transposed", [False, True])
def test_solving_with_a_lower_factor_and_its_gradient(transposed, columns):
    lower = torch.randn(2, 4, 4, dtype=torch.float64).tril() + 4 * torch.eye(4, dtype=torch.float64)
    right = torch.randn(2, 4, columns, dtype=torch.float64)

    def solve(lower, right):
        return linalg.solve_lower(lower, right, transposed)

    torch.testing.assert_close(solve(lower, right), torch.linalg.solve(lower.mT if transposed else lower, right))
    given = (lower.requires_grad_(), right.requires_grad_())
    assert torch.autograd.gradcheck(solve, given, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(solve, given)
    many = torch.randn(5, 2, 4, columns, dtype=torch.float64)
    found = torch.func.vmap(solve, in_dims=(None, 0))(lower, many)
    torch.testing.assert_close(found, solve(lower.expand(5, 2, 4, 4), many))


def test_regression_beside_constant_columns_and_copies():
    """The answer of NumPy, each of 50 times: torch's default driver gave another one in a fifth of them."""
    for _ in range(50):
        x, y = torch.randn(60, 7, dtype=torch.float64), torch.randn(60, 2, dtype=torch.float64)
        x[:, 5:], x[:, 1] = 0, x[:, 0]
        expected = np.linalg.lstsq(x.numpy(), y.numpy(), rcond=None)[0].T
        np.testing.assert_allclose(linalg.regression(x, y), expected, atol=1e-10)


def test_least_squares_and_its_gradient():
    shapes = ((5, 4), (4, 3), (4,))
    x, weight, bias = (torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes)
    variance = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    h = torch.randn(5, 3, dtype=torch.float64)
    square, slope, gram = linalg.least_squares(x, weight, bias, variance)
    expected = (x - bias - h @ weight.mT).square().sum(-1) / variance
    torch.testing.assert_close(square - 2 * (slope * h).sum(-1) + ((h @ gram) * h).sum(-1), expected)
    assert torch.autograd.gradcheck(linalg.least_squares, (x, weight, bias, variance))
    assert torch.autograd.gradgradcheck(linalg.least_squares, (x, weight, bias, variance))
    many = torch.randn(2, 5, 4, dtype=torch.float64)
    found = torch.func.vmap(linalg.least_squares, in_dims=(0, None, None, None))(many, weight, bias, variance)
    torch.testing.assert_close(found.slope, (many - bias) @ weight / variance)
    found = torch.func.vmap(linalg.least_squares, in_dims=(None, None, None, 0))(
        x, weight, bias, torch.rand(3).double()
    )
    assert found.gram.shape == (3, 3, 3)
