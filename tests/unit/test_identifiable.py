"""Latents that are told apart: convex gradients, full rank, the way back, collapse where it must be, the report."""

import math

import pytest
import torch

from curvae.curvature import local
from curvae.data import from_array
from curvae.evaluation import Identifiability, evaluate
from curvae.evaluation.information.identifiability import decoder_singular_values
from curvae.evaluation.likelihood.diagnostics import estimate
from curvae.inference import AmortizedGaussian, Laplace
from curvae.likelihoods import Bernoulli, Categorical, Gaussian
from curvae.model import LatentVariableModel
from curvae.networks import MLP, BrenierMap, FullRank, IdentifiableDecoder, linear_capacity, write_affine
from curvae.objectives import iwae
from curvae.priors import MixturePrior, StandardNormal
from curvae.report import write_report
from curvae.systems import identifiable_vae, vae, vlae
from curvae.systems.priors import StartPrior
from curvae.typing import Batch, DataSpec
from folders import folder

F64 = torch.float64
SIZE, LATENT = 7, 3


def stirred(module, by: float = 0.5):
    """Far from where it starts."""
    for value in module.parameters():
        value.data += by * torch.randn_like(value)
    return module.double()


@pytest.fixture(params=[[12], [12, 9], [8, 8, 8]], ids=str)
def g(request):
    return stirred(BrenierMap(LATENT, request.param, least=0.2))


@pytest.fixture
def decoder():
    return stirred(IdentifiableDecoder(LATENT, SIZE, [12, 9]))


def jacobian_of(decoder, z):
    return torch.func.vmap(torch.func.jacrev(lambda at: decoder(at.unsqueeze(0)).squeeze(0)))(z)


def test_the_map_is_the_gradient_of_its_potential(g):
    z = 3 * torch.randn(50, LATENT, dtype=F64)
    torch.testing.assert_close(g(z), torch.func.vmap(torch.func.grad(g.potential))(z), atol=1e-7, rtol=1e-7)


def test_it_is_monotone_at_ten_thousand_pairs_by_its_least_slope(g):
    a, b = 4 * torch.randn(2, 10_000, LATENT, dtype=F64)
    rise = ((g(a) - g(b)) * (a - b)).sum(-1)
    assert (rise >= 0.2 * (a - b).square().sum(-1)).all()


def test_its_jacobian_is_that_of_autograd_symmetric_and_positive_definite(g):
    z = 3 * torch.randn(200, LATENT, dtype=F64)
    found = g.jacobian(z)
    torch.testing.assert_close(found, torch.func.vmap(torch.func.jacrev(g))(z), atol=1e-10, rtol=1e-8)
    torch.testing.assert_close(found, found.mT, atol=1e-7, rtol=1e-7)
    assert torch.linalg.eigvalsh(found).min() >= 0.2


def test_the_potential_is_convex_along_lines(g):
    a, b = 4 * torch.randn(2, 1000, LATENT, dtype=F64)
    gap = 0.5 * (g.potential(a) + g.potential(b)) - g.potential(0.5 * (a + b))
    assert (gap >= 0.2 / 8 * (a - b).square().sum(-1) - 1e-9).all()


def test_newton_finds_the_way_back(g):
    z = 5 * torch.randn(300, LATENT, dtype=F64)
    torch.testing.assert_close(g.inverse(g(z)), z, atol=1e-10, rtol=0)
    y = 20 * torch.randn(300, LATENT, dtype=F64)
    torch.testing.assert_close(g(g.inverse(y)), y, atol=1e-10, rtol=1e-10)


def test_a_row_without_a_way_back_is_nan_and_leaves_the_others_alone(g):
    y = g(torch.randn(3, LATENT, dtype=F64))
    y[1, 0] = torch.inf
    found = g.inverse(y).isnan().all(-1)
    assert found.tolist() == [False, True, False]


@pytest.mark.parametrize("columns", [1, 3, 5])
def test_a_matrix_has_full_rank_for_all_parameters_and_is_any_such_matrix(columns):
    for size in (0.0, 1.0, 30.0):
        matrix = FullRank(5, columns).double()
        for value in matrix.parameters():
            value.data = size * torch.randn_like(value)
        frame = matrix.frame
        torch.testing.assert_close(frame.mT @ frame, torch.eye(columns, dtype=F64), atol=1e-12, rtol=0)
        assert matrix.triangle.diagonal().abs().min() > math.exp(-7.001)
        torch.testing.assert_close(matrix.weight, frame @ matrix.triangle)
    target = torch.randn(5, columns, dtype=F64)
    matrix.start_from(target)
    torch.testing.assert_close(matrix.weight, target, atol=1e-9, rtol=0)
    matrix.start_from(torch.eye(5, columns, dtype=F64))  # reflections that LAPACK leaves out
    torch.testing.assert_close(matrix.weight, torch.eye(5, columns, dtype=F64), atol=1e-9, rtol=0)
    matrix.start_from(torch.zeros(5, columns, dtype=F64))
    assert torch.linalg.matrix_rank(matrix.weight) == columns


def test_rank_is_full_everywhere_and_bounded_below(decoder):
    z = 4 * torch.randn(500, LATENT, dtype=F64)
    values = torch.linalg.svdvals(jacobian_of(decoder, z))
    assert (
        values[:, -1] >= decoder.first.least * decoder.second.least * torch.linalg.svdvals(decoder.matrix.weight)[-1]
    ).all()
    a, b = decoder(z[:250]), decoder(z[250:])
    assert ((a - b).norm(dim=-1) > 0).all()


@pytest.mark.parametrize("categories", [None, 3])
def test_latents_come_back_from_what_they_are_decoded_to(categories):
    decoder = stirred(IdentifiableDecoder(LATENT, 8, [12], categories))
    z = 2 * torch.randn(50, LATENT, dtype=F64)
    torch.testing.assert_close(decoder.inverse(decoder(z)), z, atol=1e-10, rtol=0)


def test_of_categories_the_first_has_a_logit_of_0_so_that_probabilities_are_told_apart():
    likelihood = Categorical(4, categories=3)
    decoder = stirred(IdentifiableDecoder(LATENT, 8, [12], 3))
    z = torch.randn(20, LATENT, dtype=F64)
    assert (decoder(z).unflatten(-1, (4, 3))[..., 0] == 0).all()
    slopes = torch.func.vmap(torch.func.jacrev(lambda at: likelihood.mean(decoder(at.unsqueeze(0))).flatten()))(z)
    assert (torch.linalg.matrix_rank(slopes) == LATENT).all()


@pytest.mark.parametrize("categories", [None, 3])
def test_it_starts_at_a_linear_map_to_first_order(categories):
    decoder = stirred(IdentifiableDecoder(LATENT, 8, [12, 9], categories))
    outputs = 8 if categories is None else 12
    assert linear_capacity(decoder) == LATENT
    weight, bias = torch.randn(outputs, LATENT, dtype=F64), torch.randn(outputs, dtype=F64)
    inward = torch.linalg.qr(torch.randn(LATENT, LATENT, dtype=F64))[0]
    write_affine(decoder, inward, torch.zeros(LATENT, dtype=F64), weight, bias)
    origin = torch.zeros(1, LATENT, dtype=F64)
    free = (lambda eta: eta) if decoder.link is None else decoder.link.inverse
    torch.testing.assert_close(free(decoder(origin)), free(bias[None]), atol=1e-9, rtol=0)
    torch.testing.assert_close(free(jacobian_of(decoder, origin)[0].mT), free((weight @ inward).mT), atol=1e-8, rtol=0)
    write_affine(decoder, inward[:1], torch.zeros(1, dtype=F64), weight[:, :1], bias)
    found = torch.linalg.svdvals(jacobian_of(decoder, origin)[0])
    assert found[1] < 0.1 * found[0]
    assert found[-1] > 1e-5


@pytest.mark.parametrize(
    "likelihood", [Gaussian(SIZE), Bernoulli(SIZE), Categorical(SIZE, 3)], ids=["real", "binary", "category"]
)
def test_every_likelihood_is_told_apart_and_the_curvature_is_that_of_the_jacobian(likelihood):
    system = identifiable_vae(DataSpec((SIZE,)), latent=LATENT, hidden=12, likelihood=likelihood).double().eval()
    stirred(system.model.decoder, 0.2)
    model, z = system.model, torch.randn(20, LATENT, dtype=F64)
    with torch.no_grad():
        x = likelihood.sample(model.decode(z)).double()
        found = decoder_singular_values(model, Batch.of(x), z)
        assert (found.rank == LATENT).all()
        near = local(model, Batch.of(x), z).precision - torch.eye(LATENT, dtype=F64)
    torch.testing.assert_close(torch.linalg.eigvalsh(near).flip(-1), found.law.square(), atol=1e-8, rtol=1e-6)


def test_a_superfluous_latent_of_ppca_has_the_prior_as_its_posterior_and_here_none_has():
    """Data of one element have one direction: z_2 is told by nothing. Analytic; and such a model is refused here."""
    weight, noise = torch.tensor([[1.5, 0.0]], dtype=F64), torch.tensor([0.49], dtype=F64)
    decoder = torch.nn.Linear(2, 1).double()
    decoder.weight.data, decoder.bias.data = weight, torch.zeros(1, dtype=F64)
    model = LatentVariableModel(StandardNormal(2), decoder, Gaussian(1, scale=0.7)).double()
    batch = Batch.of(torch.randn(20, 1, dtype=F64))
    q = Laplace(AmortizedGaussian(torch.nn.Linear(1, 4).double()), steps=2)(model, batch).posterior
    torch.testing.assert_close(q.mean[:, 1], torch.zeros(20, dtype=F64), atol=1e-12, rtol=0)
    torch.testing.assert_close(
        q.covariance[:, 1], torch.tensor([0.0, 1.0], dtype=F64).expand(20, 2), atol=1e-12, rtol=0
    )
    torch.testing.assert_close(q.covariance[:, 0, 0], 1 / (1 + weight[0, 0] ** 2 / noise).expand(20))
    with torch.no_grad():
        assert (decoder_singular_values(model, batch, q.mean).rank == 1).all()
    with pytest.raises(
        ValueError, match="identifiable-vae: latent must be from 1 to 1, the values that tell data apart"
    ):
        identifiable_vae(DataSpec((1,)), latent=2)
    ours = identifiable_vae(DataSpec((2,)), latent=2, hidden=8).double().eval().model
    stirred(ours.decoder, 0.2)
    z, x = torch.randn(2, 20, 2, dtype=F64)
    told = torch.linalg.eigvalsh(local(ours, Batch.of(x), z).precision)
    assert (told > 1).all(), "along every direction the posterior is narrower than the prior"


def test_importance_weighted_likelihood_is_the_mean_over_data_of_log_means_over_draws():
    """Public code takes the mean over data first, which is far lower, and nearly the ELBO."""
    log_w = 5 * torch.randn(400, 6, dtype=F64)
    right = torch.logsumexp(log_w, 0) - math.log(400)
    wrong = torch.logsumexp(log_w.mean(1), 0) - math.log(400)
    assert right.mean() > wrong + 3
    found = estimate(log_w.numpy(), torch.full((400, 6), -math.log(400), dtype=F64).numpy())
    torch.testing.assert_close(torch.from_numpy(found.log_likelihood), right)
    system = identifiable_vae(DataSpec((SIZE,)), latent=LATENT, hidden=12).double().eval()
    batch = Batch.of(torch.randn(6, SIZE, dtype=F64))
    with torch.no_grad():
        torch.manual_seed(3)
        weights = system.log_weights(batch, 50)
        torch.manual_seed(3)
        value = iwae(system.model, system.posterior(batch.x), batch, 50).value
    torch.testing.assert_close(value, torch.logsumexp(weights.log_w, 0) - math.log(50))


def test_it_goes_with_other_posteriors_and_priors():
    spec = DataSpec((SIZE,))
    laplace = vlae(spec, latent=LATENT, hidden=12, decoder=IdentifiableDecoder(LATENT, SIZE, [12])).double().eval()
    x = torch.randn(9, SIZE, dtype=F64)
    assert laplace.posterior(x).covariance.shape == (9, LATENT, LATENT)
    mixed = identifiable_vae(spec, latent=LATENT, hidden=12, components=4).double()
    assert isinstance(mixed.model.prior, MixturePrior)
    assert mixed.model.prior.loc.shape == (4, LATENT)
    first = mixed.stages()[0].start
    assert isinstance(first, StartPrior)
    z = torch.randn(9, LATENT, dtype=F64)
    torch.testing.assert_close(mixed.model.prior.log_prob(z), mixture_by_hand(mixed.model.prior, z))
    with pytest.raises(ValueError, match="expected a system with one standard normal prior"):
        identifiable_vae(spec, latent=LATENT, components=4, prior="flow")
    with pytest.raises(ValueError, match="components must be 0 or more; got -1"):
        identifiable_vae(spec, latent=LATENT, components=-1)


def mixture_by_hand(prior: MixturePrior, z: torch.Tensor) -> torch.Tensor:
    laws = torch.distributions.Independent(torch.distributions.Normal(prior.laws.loc, prior.laws.log_scale.exp()), 1)
    return torch.distributions.MixtureSameFamily(torch.distributions.Categorical(logits=prior.logits), laws).log_prob(z)


def test_misuse():
    with pytest.raises(ValueError, match="BrenierMap: layers must be 1 or more; got 0"):
        BrenierMap(3, [])
    for least in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="BrenierMap: least must be a positive number"):
            BrenierMap(3, [4], least)
    with pytest.raises(ValueError, match="FullRank: expected at most 3 columns, as many as rows; got 4"):
        IdentifiableDecoder(4, 3, [8])


def test_evaluation_and_report_say_whether_latents_are_told_apart(tmp_path):
    data = from_array(torch.randn(200, SIZE))
    run = folder(tmp_path / "ours", identifiable_vae(data.spec, latent=LATENT, hidden=12), data)
    found = evaluate(run, samples=30, chains=False, progress=False)
    assert found.metrics["identifiability"].values["rank"] == LATENT
    rows = dict(found.rows())
    count = min(100, found.count)
    assert rows["rank of d eta / dz"] == f"{LATENT} of {LATENT} at each of {count} codes"
    assert "smallest singular value" in rows
    assert '<section id="identifiability">' in write_report(run.path).read_text(encoding="utf-8")
    blind = vae(data.spec, latent=LATENT, hidden=12, decoder=torch.nn.Sequential(OneOf(), MLP(1, [8], SIZE)))
    other = folder(tmp_path / "blind", blind, data)
    short = evaluate(other, [Identifiability()], samples=30, limit=5, chains=False, progress=False)
    assert short.metrics["identifiability"].values["rank"] <= 1
    assert any("does not tell all latents apart" in each for each in short.warnings)


class OneOf(torch.nn.Module):
    """Sees the first latent alone."""

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        return z[:, :1]


def test_what_it_says_is_of_the_decoder_and_the_law():
    weight = torch.tensor([[3.0, 0.0], [0.0, 4.0], [0.0, 0.0]], dtype=F64)
    decoder = torch.nn.Linear(2, 3).double()
    decoder.weight.data = weight
    model = LatentVariableModel(StandardNormal(2), decoder, Gaussian(3, scale=0.5)).double()
    with torch.no_grad():
        found = decoder_singular_values(model, Batch.of(torch.zeros(2, 3, dtype=F64)), torch.zeros(2, 2, dtype=F64))
    torch.testing.assert_close(found.decoder, torch.tensor([[4.0, 3.0]] * 2, dtype=F64))
    torch.testing.assert_close(found.law, torch.tensor([[8.0, 6.0]] * 2, dtype=F64), rtol=1e-4, atol=0)


def test_codes_where_a_slope_is_not_finite_are_left_out():
    decoder = torch.nn.Linear(2, 3).double()
    model = LatentVariableModel(StandardNormal(2), decoder, Gaussian(3, scale=0.5)).double()
    decoder.weight.data[0, 0] = torch.inf
    with torch.no_grad():
        found = decoder_singular_values(model, Batch.of(torch.zeros(2, 3, dtype=F64)), torch.zeros(2, 2, dtype=F64))
    assert found.decoder.isnan().all()
