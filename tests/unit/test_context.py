"""What is known of each row: it enters eta alone, travels with the rows, and is refused where it means nothing."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from torch import nn

import chance
from curvae.baselines import fit as baselines
from curvae.conditioning import Conditioning
from curvae.curvature import Generic, linearize, local
from curvae.curvature.routes.generic import Needs
from curvae.data import DataError, from_array
from curvae.inference import AmortizedGaussian, Laplace, MultimodalLaplace
from curvae.likelihoods import (
    Gaussian,
    GaussianErrors,
    NegativeBinomial,
    Poisson,
    ZeroInflatedNegativeBinomial,
)
from curvae.linear import heteroscedastic_ppca, ppca
from curvae.model import LatentVariableModel
from curvae.networks import MLP, ContextDecoder, ContextEncoder
from curvae.priors import StandardNormal
from curvae.registry import system as system_named
from curvae.systems.counted import repeated
from curvae.training.loop.running_means import Means
from curvae.typing import Batch, Conditions, Context, DataSpec

P, D, B, C = 5, 2, 6, 3


def conditional(likelihood, given):
    decoder = MLP(D, [7], likelihood.outputs)
    for layer in decoder:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.bias, std=0.5)
    decoder = ContextDecoder(decoder, given.covariates) if given.covariates else decoder
    return LatentVariableModel(StandardNormal(D), decoder, likelihood, conditioning=Conditioning(given, (P,))).double()


def context(given):
    return Context(
        torch.rand(B, P, dtype=torch.float64) if given.errors else None,
        torch.rand(B, dtype=torch.float64) * 3 + 0.2 if given.exposure else None,
        torch.randn(B, given.covariates, dtype=torch.float64) if given.covariates else None,
    )


MODELS = {
    "errors": (lambda: GaussianErrors(P, scale=0.3), Conditions(errors=True)),
    "errors-and-covariates": (lambda: GaussianErrors(P, scale=0.3), Conditions(errors=True, covariates=C)),
    "covariates": (lambda: Gaussian(P, scale=0.3), Conditions(covariates=C)),
    "poisson": (lambda: Poisson(P), Conditions(exposure=True)),
    "negative-binomial": (lambda: NegativeBinomial(P, dispersion=0.4), Conditions(exposure=True, covariates=C)),
    "zero-inflated": (lambda: ZeroInflatedNegativeBinomial(P, dispersion=0.4), Conditions(exposure=True)),
}


@pytest.fixture(params=MODELS)
def given_rows(request):
    """A model, what is known of its rows, and rows that it drew."""
    make, given = MODELS[request.param]
    model, known = conditional(make(), given), context(given)
    x = model.given(known).sample(B)[0].detach()
    return model, Batch.of(x, context=known)


# --- the laws, by SciPy ----------------------------------------------------------------------------------------------


def test_density_with_errors_is_that_of_independent_normals():
    likelihood, known = GaussianErrors(P, scale=0.3).double(), torch.rand(B, P, dtype=torch.float64)
    x, mean = torch.randn(2, B, P, dtype=torch.float64)
    found = likelihood.log_prob(x, likelihood.placed(mean, Context(errors=known)))
    expected = stats.norm.logpdf(x, mean, np.sqrt(0.09 + known.numpy() ** 2)).sum(1)
    np.testing.assert_allclose(found.detach(), expected, rtol=1e-7)


@pytest.mark.parametrize("name", ["poisson", "negative-binomial", "zero-inflated"])
def test_the_mean_of_a_count_is_in_proportion_to_its_exposure(name):
    likelihood, t = MODELS[name][0]().double(), torch.rand(B, dtype=torch.float64) * 3 + 0.2
    x = torch.randint(0, 9, (B, P)).double()
    out = torch.randn(B, likelihood.outputs, dtype=torch.float64)
    found = likelihood.log_prob(x, likelihood.placed(out, Context(exposure=t))).detach()
    level, logit = out.unflatten(-1, (-1, 2)).unbind(-1) if name == "zero-inflated" else (out, torch.tensor(-math.inf))
    mean, r, pi = (level.exp() * t[:, None]).numpy(), 1 / 0.4, logit.sigmoid().numpy()
    mass = stats.poisson.pmf(x, mean) if name == "poisson" else stats.nbinom.pmf(x, r, r / (r + mean))
    np.testing.assert_allclose(found, np.log(pi * (x.numpy() == 0) + (1 - pi) * mass).sum(1), rtol=1e-6)


def test_an_error_of_nothing_is_a_plain_gaussian():
    one, other = GaussianErrors(P, scale=0.3).double(), Gaussian(P, scale=0.3).double()
    x, mean = torch.randn(2, B, P, dtype=torch.float64)
    eta = one.placed(mean, Context(errors=torch.zeros(B, P, dtype=torch.float64)))
    torch.testing.assert_close(one.log_prob(x, eta), other.log_prob(x, mean), rtol=1e-6, atol=1e-6)


def test_errors_may_be_all_the_noise_there_is():
    likelihood = GaussianErrors(1, scale=0.0, learn=None).double()
    eta = likelihood.placed(torch.zeros(1, 1).double(), Context(errors=torch.full((1, 1), 2.0)))
    assert likelihood.log_prob(torch.ones(1, 1).double(), eta).item() == pytest.approx(stats.norm.logpdf(1, 0, 2))


# --- the curvature engine, and Laplace through it --------------------------------------------------------------------


def test_gradient_and_precision_are_those_of_the_log_joint(given_rows):
    """Of each row by itself: gradient by autograd, ``J'FJ + I`` by the Jacobian of eta and the root of F."""
    model, batch = given_rows
    z = torch.randn(B, D, dtype=torch.float64)
    here = model.given(batch.context)
    near = local(here, batch, z)
    for row in range(B):
        alone = batch.take([row])
        one = model.given(alone.context)

        def level(point, one=one, alone=alone):
            return one.log_joint(alone.x, point[None])[0]

        torch.testing.assert_close(near.log_joint[row], level(z[row]))
        torch.testing.assert_close(near.grad[row], torch.func.grad(level)(z[row]))
        jacobian = torch.func.jacrev(lambda point, one=one: one.decode(point[None])[0])(z[row])
        root = model.likelihood.root(one.decode(z[row][None]).expand(D, -1), jacobian.mT)
        torch.testing.assert_close(near.precision[row], root @ root.mT + torch.eye(D, dtype=torch.float64))


def test_rows_are_cut_together_with_what_is_known_of_them(given_rows):
    model, batch = given_rows
    z, rows = torch.randn(B, D, dtype=torch.float64), torch.tensor([4, 1])
    whole = linearize(model.given(batch.context), batch, z)
    part = whole.take(rows).at(z[rows] + 0.1)
    moved = whole.at(z + 0.1)
    torch.testing.assert_close(part.local().precision, moved.local().precision[rows])
    torch.testing.assert_close(part.grad(), moved.grad()[rows])


def test_parts_of_a_batch_are_given_their_own_rows(given_rows):
    """Where memory holds the Jacobians of two rows at a time."""
    model, batch = given_rows
    z, here = torch.randn(B, D, dtype=torch.float64), model.given(batch.context)
    with torch.no_grad():
        whole = local(here, batch, z)
        part = local(here, batch, z, Generic.within(2 * Needs.of(here, batch, z).each(False)))
    for one, other in zip(whole, part, strict=True):
        torch.testing.assert_close(one, other)


def test_laplace_finds_the_exact_posterior_with_known_errors():
    """A linear decoder: ``Lam = W' diag(1 / (s^2 + v)) W + I``, another one for each row."""
    likelihood, given = GaussianErrors(P, scale=0.3).double(), Conditions(errors=True)
    decoder = nn.Linear(D, P).double()
    model = LatentVariableModel(StandardNormal(D), decoder, likelihood, conditioning=Conditioning(given, (P,))).double()
    known = context(given)
    x = torch.randn(B, P, dtype=torch.float64)
    encoder = ContextEncoder(nn.Linear(P, 2 * D), P, given).double()
    for inference in (
        Laplace(AmortizedGaussian(encoder), steps=2),
        MultimodalLaplace(AmortizedGaussian(encoder), 3, candidates=5),
    ):
        q = inference(model.given(known), Batch.of(x, context=known)).posterior
        weight, precision = decoder.weight.detach(), 1 / (0.09 + known.errors.square())
        lam = torch.einsum("pd,np,pe->nde", weight, precision, weight) + torch.eye(D).double()
        mean = torch.linalg.solve(lam, torch.einsum("pd,np->nd", weight, precision * (x - decoder.bias.detach())))
        torch.testing.assert_close(q.mean, mean, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(q.covariance, torch.linalg.inv(lam), atol=1e-6, rtol=1e-6)


# --- what is refused -------------------------------------------------------------------------------------------------


def test_a_model_is_not_asked_without_what_it_is_given(given_rows):
    model, batch = given_rows
    z = torch.zeros(B, D, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"given .* of each row, and was asked without"):
        model.log_joint(batch.x, z)
    with pytest.raises(ValueError, match="got none of"):
        model.given(None)
    with pytest.raises(ValueError, match=f"z of {B} rows"):
        model.given(batch.context).log_joint(batch.x[:2], z[:2])


@pytest.mark.parametrize("name", ["errors", "exposure"])
def test_a_likelihood_without_them_takes_none(name):
    known = Context(**{name: torch.ones(2, 3) if name == "errors" else torch.ones(2)})
    likelihood = Poisson(3) if name == "errors" else Gaussian(3)
    with pytest.raises(ValueError, match=f"{name}: expected none with the likelihood {type(likelihood).__name__}"):
        likelihood.placed(torch.zeros(2, 3), known)


@pytest.mark.parametrize("name", ["nice", "flow-ae", "fif-vae", "langevin-ae"])
def test_systems_that_cannot_be_given_it_say_so(name):
    with pytest.raises(ValueError, match="covariates: expected a system"):
        system_named(name)(DataSpec((4,), given=Conditions(covariates=1)))


def frame(count=60):
    rng = np.random.default_rng(0)
    x = pd.DataFrame(rng.normal(size=(count, 3)), columns=["u", "g", "r"])
    return x.assign(
        e=rng.random(count), t=1 + rng.random(count), w=rng.integers(0, 4, count), b=["p", "q"] * (count // 2)
    )


SAID = {"errors": {"u": "e"}, "weights": "w", "covariates": ["t", "b"]}


@pytest.mark.parametrize(
    ("change", "said", "line"),
    [
        ({"e": -0.1}, {}, "expected errors of 0 or more where the value is observed, got -0.1 in row 0"),
        ({"e": np.nan}, {}, "expected errors of 0 or more where the value is observed, got nan in row 0"),
        ({"w": -1}, {}, "expected a weight of 0 or more in 'w', got -1"),
        ({"w": 0}, {}, "expected a weight above 0 in 'w', got none"),
        ({"t": np.nan}, {}, "expected a value in each row of t, b, got nan"),
        ({}, {"errors": {"x": "e"}}, "errors: expected those of features, got x=e"),
        ({}, {"exposure": "t", "covariates": ["b"]}, "exposure: expected with counts, got real data"),
        ({}, {"weights": "no"}, "expected the weight column 'no' among"),
        ({}, {"weights": "t"}, "expected 't' in one place"),
    ],
)
def test_columns_that_cannot_be_what_is_known(change, said, line):
    with pytest.raises(DataError, match=line):
        from_array(frame().assign(**change), **{**SAID, **said})


@pytest.mark.parametrize("value", [0, np.nan, np.inf])
def test_an_exposure_is_a_number_above_0(value):
    counts = pd.DataFrame({"a": [1, 2, 0, 4] * 5, "b": [0, 1, 1, 1] * 5, "t": [2.0] * 19 + [value]})
    with pytest.raises(DataError, match=f"expected an exposure above 0 in 't', got {value:g} in row 19"):
        from_array(counts, support="count", exposure="t")
    with pytest.raises(DataError, match=r"errors: expected with real data, got count data"):
        from_array(counts.assign(t=2.0), support="count", errors=["a=t"])


# --- from columns to the model's units -------------------------------------------------------------------------------


def test_known_columns_are_in_the_units_of_the_model():
    data = from_array(frame(), **SAID)
    assert data.spec.given == Conditions(errors=True, covariates=3)
    assert [column.kind for column in data.schema.columns[3:]] == ["error", "weight", "covariate", "covariate"]
    known, rows, x = data.train.context, data.train.row, frame()
    np.testing.assert_allclose(known.errors[:, 0], x["e"].to_numpy()[rows] / data.transform.scale[0].item(), rtol=1e-6)
    assert not known.errors[:, 1:].any()
    np.testing.assert_array_equal(known.weight, x["w"].to_numpy()[rows])
    np.testing.assert_allclose(known.covariates[:, 0].mean(), 0, atol=1e-6)
    np.testing.assert_allclose(known.covariates[:, 0].std(correction=0), 1, rtol=1e-6)
    np.testing.assert_array_equal(known.covariates[:, 2], x["b"].to_numpy()[rows] == "q")


def test_the_total_of_a_row_is_its_exposure_and_training_rows_are_around_1():
    x = np.random.default_rng(0).poisson(3.0, (40, 4)) + 1
    data = from_array(x, support="count", exposure="total")
    total = torch.from_numpy(x.sum(1)[data.train.row]).double()
    torch.testing.assert_close(
        data.train.context.exposure.double(), total / total.log().mean().exp(), rtol=1e-6, atol=0
    )


def test_other_errors_are_other_data():
    first, second = (from_array(frame().assign(e=value), **SAID).checksum for value in (0.1, 0.2))
    assert first != second


# --- rows as often as they count -------------------------------------------------------------------------------------


def test_whole_weights_are_repeated_rows_where_a_linear_model_starts():
    weight = torch.tensor([0.0, 1.0, 3.0, 2.0, 1.0, 1.0, 2.0])
    rows = repeated(weight)
    assert rows.tolist() == [1, 2, 2, 2, 3, 3, 4, 5, 6, 6]
    x = torch.randn(7, 3, dtype=torch.float64)
    mean = (weight[:, None] * x).sum(0) / weight.sum()
    offset = x - mean
    covariance = (weight[:, None] * offset).mT @ offset / weight.sum()
    found = ppca(x[rows], 1)
    values, vectors = torch.linalg.eigh(covariance)
    noise = values[:2].mean()
    expected = (values[2] - noise) * vectors[:, 2:] @ vectors[:, 2:].mT + noise * torch.eye(3).double()
    torch.testing.assert_close(found.covariance, expected)
    torch.testing.assert_close(found.mean, mean)


def test_other_weights_are_repeated_rows_to_the_next_sixteenth():
    weight = torch.rand(50) + 0.1
    count = repeated(weight).bincount(minlength=50)
    assert ((count / 16 - weight / weight.mean()).abs() <= 1 / 16).all()


def test_whole_weights_give_the_gradient_of_repeated_rows():
    """Of an exact density, whose bound has no noise."""
    from curvae.training.loop.row_weights import weighted

    weight = torch.tensor([0.0, 1.0, 3.0, 2.0])
    system = system_named("nice")(DataSpec((P,)), hidden=8)
    batch = Batch.of(torch.randn(4, P), context=Context(weight=weight))
    wanted = list(system.parameters())
    once = weighted(system.bound(batch).surrogate, batch, float(weight.mean())).mean()
    often = system.bound(batch.take(repeated(weight))).surrogate.mean()
    for one, other in zip(*(torch.autograd.grad(each, wanted) for each in (once, often)), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)


def test_a_weighted_mean():
    means = Means()
    means.add("bound", torch.tensor([1.0, 4.0]), weight=torch.tensor([3.0, 1.0]))
    assert means.read() == {"bound": 1.75}


# --- principal components beside known errors ------------------------------------------------------------------------


def made(count, seed):
    rng = torch.Generator().manual_seed(seed)
    weight, own = torch.randn(P, D, generator=rng).double(), torch.tensor([0.2, 0.3, 0.2, 0.4, 0.3]).double()
    errors = torch.rand(count, P, generator=rng, dtype=torch.float64).square() * 3
    z, e = torch.randn(count, D, generator=rng).double(), torch.randn(count, P, generator=rng).double()
    return z @ weight.mT + 1 + (own.square() + errors.square()).sqrt() * e, errors, weight, own


def test_the_fit_is_where_the_likelihood_is_flat():
    """The slope of the exact log-likelihood in mean, W and log s^2 is 0 but for the rounds left out."""
    x, errors, *_ = made(300, 0)
    found = heteroscedastic_ppca(x, errors, D)
    mean, weight, own = (value.clone().requires_grad_() for value in (found.model.mean, found.model.weight, found.own))
    covariance = weight @ weight.mT + torch.diag_embed(own + errors.square())
    level = torch.distributions.MultivariateNormal(mean, covariance).log_prob(x).mean()
    about_mean, about_weight, about_own = torch.autograd.grad(level, (mean, weight, own))
    for slope in (about_mean, about_weight, about_own * own):
        assert slope.abs().max() < 2e-3


def test_without_errors_it_is_probabilistic_pca():
    x, *_ = made(300, 0)
    found, expected = heteroscedastic_ppca(x, torch.zeros_like(x), D, shared=True), ppca(x, D)
    torch.testing.assert_close(found.model.covariance, expected.covariance, atol=2e-2, rtol=1e-2)


def log_evidence(weight, own, mean, x, errors):
    covariance = weight @ weight.mT + torch.diag_embed(own + errors.square())
    return torch.distributions.MultivariateNormal(mean, covariance).log_prob(x)


def standard_errors(x, errors, weight, own, mean):
    """Of the entries of ``W W'`` and of s^2, by the mean square of the score and the delta method."""
    sizes = [weight.numel(), len(own), len(mean)]

    def parts(flat):
        w, s, m = flat.split(sizes)
        return w.reshape(weight.shape), s, m

    def row(flat, x, e):
        w, s, m = parts(flat)
        return log_evidence(w, s, m, x, e)

    flat = torch.cat([weight.flatten(), own, mean])
    scores = torch.func.vmap(torch.func.grad(row), (None, 0, 0))(flat, x, errors)
    covariance = torch.linalg.pinv(scores.mT @ scores, rtol=1e-9)

    def told(flat):
        w, s, _ = parts(flat)
        return torch.cat([(w @ w.mT).flatten(), s])

    slopes = torch.func.jacrev(told)(flat)
    return told(flat), (slopes @ covariance @ slopes.mT).diagonal().sqrt()


@pytest.mark.statistical
def test_loadings_and_noise_are_recovered_where_errors_are_known(seed):
    """30 numbers within 5 of their standard errors; without the errors the noise of some band is 50 or more off.

    Of some, not of each: where W nearly accounts for a band, its own noise is known badly, and few of these errors are
    much. In 10 seeds of benchmarks/known_errors.py the largest is 232 to 582.
    """
    x, errors, weight, own = made(4000, seed)
    truth = torch.cat([(weight @ weight.mT).flatten(), own.square()])
    found = heteroscedastic_ppca(x, errors, D)
    told, error = standard_errors(x, errors, found.model.weight, found.own, found.model.mean)
    chance.deviates("loadings and noise", ((told - truth) / error).numpy())
    blind = ppca(x, D)
    apart = (blind.noise - own.square()) / error[-P:]
    chance.beyond("noise without errors", apart.max().item(), 50.0)


def test_the_plain_model_is_given_nothing():
    model = LatentVariableModel(StandardNormal(1), nn.Linear(1, 2), Gaussian(2))
    assert model.given(Context(weight=torch.ones(3))) is model
    assert model.reference() is model


def started(name, data, **options):
    """A system where it starts."""
    torch.manual_seed(0)
    system = system_named(name)(data.spec, latent=D, hidden=24, **options)
    first = system.stages()[0]
    for prepare in (*first.prepare, first.start):
        prepare(system, data)
    return system.eval()


def test_vlae_starts_at_the_exact_posterior_of_a_linear_model_beside_known_errors():
    """Its ELBO is then log p(x) of the fit, for each row, and so is every importance weight."""
    x, errors, *_ = made(300, 0)
    columns = [f"x{j}" for j in range(P)]
    frame = pd.DataFrame(np.hstack([x, errors]), columns=[*columns, *(f"e{j}" for j in range(P))])
    data = from_array(frame, errors={f"x{j}": f"e{j}" for j in range(P)})
    system = started("vlae", data)
    batch = data.validation.batch(torch.arange(len(data.validation)))
    (fit,) = baselines(data.train, system.model.likelihood, D)
    expected = fit.log_prob(batch.x, batch.mask, batch.context)
    with torch.no_grad():
        weights = system.log_weights(batch, 20)
        torch.testing.assert_close(system.bound(batch).value.double(), expected, atol=2e-3, rtol=0)
        torch.testing.assert_close(weights.log_w.double(), expected.expand(20, -1), atol=2e-2, rtol=0)


def test_what_covariates_do_is_there_at_the_start():
    """x = A c + W z + noise: decoder and encoder know both parts before the first step."""
    rng = np.random.default_rng(0)
    z, c, batch = rng.normal(size=(400, D)), rng.normal(size=400), rng.integers(0, 3, 400)
    x = z @ rng.normal(size=(D, P)) + 3 * rng.normal(size=(3, P))[batch] + c[:, None] * rng.normal(size=P)
    frame = pd.DataFrame(x + 0.2 * rng.normal(size=x.shape), columns=[f"x{j}" for j in range(P)])
    data = from_array(frame.assign(c=c, batch=np.array(["p", "q", "r"])[batch]), covariates=["c", "batch"])
    system = started("vae", data)
    rows = data.test.batch(torch.arange(len(data.test)))
    with torch.no_grad():
        rebuilt = system.reconstruct(rows.x, rows.mask, rows.context)
        codes = system.posterior(rows.x, context=rows.context).mean
    assert (rebuilt - rows.x).square().mean() < 0.02
    groups = rows.context.covariates[:, 1:].argmax(1)
    apart = torch.stack([codes[groups == k].mean(0) for k in range(3)])
    assert apart.abs().max() < 0.8  # they were 3 standard deviations apart; 20 rows each


def test_the_baseline_of_counts_knows_their_exposure():
    """A Poisson law of mean ``t rate``: the likeliest rate is the sum of counts over that of exposures."""
    rng = np.random.default_rng(0)
    t = rng.lognormal(1, 1, 90)
    frame = pd.DataFrame(rng.poisson(t[:, None] * [1.0, 5.0]), columns=["a", "b"]).assign(t=t)
    data = from_array(frame, support="count", exposure="t")
    (found,) = baselines(data.train, Poisson(2))
    known = data.train.context
    rate = data.train.x.double().sum(0) / known.exposure.double().sum()
    expected = stats.poisson.logpmf(data.train.x, (known.exposure.double()[:, None] * rate).numpy()).sum(1)
    np.testing.assert_allclose(found.log_prob(data.train.x, None, known), expected, rtol=1e-5)
    with pytest.raises(ValueError, match="expected what is known of each row"):
        found.log_prob(data.train.x)
