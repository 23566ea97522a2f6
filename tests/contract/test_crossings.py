"""Any prior with any posterior: three kinds of posterior in full, the others for one step; every system's --prior."""

import inspect
from functools import cache

import pytest
import torch

import methods
from chance import deviates, means
from curvae.inference import AmortizedGaussian, Laplace
from curvae.model import LatentVariableModel
from curvae.objectives import log_weights, monte_carlo_elbo
from curvae.priors import MixturePrior, StandardNormal, autoregressive_prior, coupling_prior
from curvae.systems.base import SYSTEMS
from curvae.systems.priors import take_prior
from curvae.typing import Batch, DataSpec
from ingredients import encoder
from zoo import LinearGaussian, batch_of, relu_model

PRIORS = ["flow", "flow-autoregressive", "mixture", "vamp", "product"]
WORDS = ["flow", "autoregressive", "mixture", "vamp", "tilted"]
IN_FULL = ["amortized", "laplace", "hamiltonian"]
OTHERS = sorted({*methods.INFERENCES} - {*methods.CATEGORIES, *IN_FULL, "predictive-coding"})
NO_VAMP = {"fishernet", "langevin-ae"}
"""Systems without an encoder that stands alone."""


@pytest.fixture(params=PRIORS)
def prior(request):
    return methods.PRIORS[request.param]().double()


@pytest.fixture(params=IN_FULL)
def name(request):
    return request.param


def crossed(prior, likelihood="gaussian-shared"):
    return relu_model(likelihood, prior=prior)


def linear(prior):
    """A linear decoder under the prior, some data, and log p(x, z) of them on a grid, with the log of its cell."""
    oracle = LinearGaussian(scale=2.0, spread=0.4, count=4)
    model = LatentVariableModel(prior, oracle.model.decoder, oracle.model.likelihood)
    grid, cell = _grid()
    with torch.no_grad():
        level = model.likelihood.log_prob(oracle.x, model.decode(grid).unsqueeze(1).expand(-1, 4, -1))
    return model, oracle.batch, grid.unsqueeze(1), prior.log_prob(grid).unsqueeze(1) + level + cell


@cache
def _grid():
    axis = torch.linspace(-8, 8, 57, dtype=torch.float64)
    return torch.cartesian_prod(axis, axis, axis), 3 * (axis[1] - axis[0]).log()


@pytest.mark.statistical
@torch.no_grad()
def test_proper_weights_and_a_bound_below(name, prior):
    """``E_q[w f] = int p(x, z) f(z) dz``, f a bump where q has its draws, by a grid; and ``E_q log w <= log p(x)``.

    4 examples: 4 normal deviates of 4,000 draws, and 4 of one side: 4e-6 of the seeds fail. The bump bounds the
    weights, which nothing else does where an encoder is not trained.
    """
    model, batch, grid, joint = linear(prior)
    q = methods.inference(name)(model, batch).posterior
    draws = q.draw(4000)
    center = draws.z.median(0).values  # untrained leapfrog steps throw some draws very far
    log_w = log_weights(model, batch, draws)
    bump, over = (-2 * (at - center).square().sum(-1) for at in (draws.z, grid))
    expected = (joint + over).logsumexp(0)
    means("weights", (log_w + bump - expected).exp())
    evidence = joint.logsumexp(0)
    deviates("bound", (log_w.mean(0) - evidence) / (log_w.std(0) / len(log_w) ** 0.5), sides=1)


def test_one_datum_alone(name, prior):
    model, batch = crossed(prior, "gaussian")
    inference = methods.inference(name).eval()
    together, alone = (inference(model, each).posterior for each in (batch, batch_of(batch.x[2:3])))
    for key, value in together.tensors.items():
        torch.testing.assert_close(value[2:3], alone.tensors[key], atol=1e-8, rtol=1e-8)


def test_gradients_reach_encoder_decoder_and_prior(name, prior):
    model, batch = crossed(prior)
    inference = methods.inference(name)
    found = inference(model, batch)
    total = log_weights(model, batch, found.posterior.draw(3)).mean()
    (total if found.encoder_bound is None else total + found.encoder_bound.mean()).backward()
    for part in (model, inference):
        for key, parameter in part.named_parameters():
            assert parameter.grad is not None, key
            assert parameter.grad.isfinite().all(), key


def test_works_under_inference_mode(name, prior):
    model, batch = crossed(prior, "bernoulli")
    with torch.inference_mode():
        draws = methods.inference(name)(model, batch).posterior.draw(2)
        assert log_weights(model, batch, draws).isfinite().all()


@pytest.mark.parametrize("name", sorted({*methods.EXACT_ON_LINEAR_GAUSSIAN}))
@pytest.mark.parametrize("start", [coupling_prior, autoregressive_prior, lambda size: MixturePrior(size, 1)])
def test_exact_where_the_prior_is_still_normal(name, start):
    """A flow at its identity, and a mixture of one: log p(x, z) - log q(z) is log p(x) for every draw."""
    oracle = LinearGaussian()
    model = LatentVariableModel(start(3).double(), oracle.model.decoder, oracle.model.likelihood)
    found = methods.inference(name)(model, oracle.batch)
    log_w = log_weights(model, oracle.batch, found.posterior.draw(5))
    torch.testing.assert_close(log_w, oracle.log_evidence().expand_as(log_w), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("kind", ["flow", "mixture", "vamp"])
@pytest.mark.parametrize("other", OTHERS)
def test_every_other_posterior_takes_a_step(other, kind):
    model, batch = crossed(methods.PRIORS[kind]().double())
    inference = methods.inference(other)
    optimizer = torch.optim.SGD([*model.parameters(), *inference.parameters()], 1e-4)
    found = inference(model, batch)
    bound = monte_carlo_elbo(model, found.posterior, batch, 2)
    (-bound.surrogate.mean()).backward()
    optimizer.step()
    with torch.no_grad():
        draws = inference(model, batch).posterior.draw(2)
        assert log_weights(model, batch, draws).isfinite().all()


def test_a_search_does_not_end_below_its_start(prior):
    model, batch = crossed(prior, "bernoulli")
    path = Laplace(AmortizedGaussian(encoder(6)), steps=12)(model, batch).info["log_joint"]
    assert (path.diff(dim=0) >= -1e-9).all()


TAKES_ANY = sorted(name for name in SYSTEMS if "prior" in inspect.signature(SYSTEMS[name]).parameters)


@pytest.mark.parametrize("word", WORDS)
@pytest.mark.parametrize("system", TAKES_ANY)
def test_every_system_takes_every_word_or_refuses_it(system, word):
    spec, batch = DataSpec((methods.P,)), Batch(torch.randn(8, methods.P), torch.arange(8))
    if word == "vamp" and system in NO_VAMP:
        with pytest.raises(ValueError, match="prior: vamp expects an inference that begins with an encoder alone"):
            SYSTEMS[system](spec, latent=3, hidden=8, prior=word)
        return
    made = SYSTEMS[system](spec, latent=3, hidden=8, prior=word)
    for stage in made.stages():
        stage.bound_of(made, batch).surrogate.mean().backward()
    slopes = {name: each.grad for name, each in made.named_parameters() if name.startswith("model.prior")}
    assert all(slope is not None and slope.isfinite().all() for slope in slopes.values())
    assert made.log_weights(batch, 2).log_w.isfinite().all()
    assert made.recipe.arguments["prior"] == word
    again = SYSTEMS[system](**made.recipe.arguments)
    again.load_state_dict(made.state_dict())
    assert "prior:" in SYSTEMS[system].__doc__


def test_others_have_no_such_argument():
    assert sorted({*SYSTEMS} - {*TAKES_ANY}) == [
        "baggins",
        "bilbo",
        "cascade-vae",
        "direct-vae",
        "dlgm",
        "flat-ladder",
        "flow-ae",
        "flow-prior-vae",
        "ladder-clustering",
        "laplacian-ae",
        "lossy-vae",
        "nice",
        "pc-transformer",
        "predictive-coding",
        "probabilistic-ae",
        "skew-vae",
        "td-vae",
        "tilted-vae",
        "vrnn",
    ]
    with pytest.raises(TypeError, match="unexpected keyword argument 'prior'"):
        SYSTEMS["bilbo"](methods.SPEC, prior="flow")


def test_only_a_standard_normal_is_exchanged():
    for name in ("dlgm-diagonal", "bilbo"):
        with pytest.raises(ValueError, match="expected a system with one standard normal prior to exchange; got"):
            take_prior(methods.SYSTEMS[name](), "flow", methods.SPEC)
    with pytest.raises(ValueError, match="to exchange; got Linear"):
        take_prior(torch.nn.Linear(2, 2), "flow", methods.SPEC)


def test_a_prior_of_ones_own():
    made = SYSTEMS["vae"](methods.SPEC, latent=3, prior=MixturePrior(3, components=7))
    assert len(made.model.prior.logits) == 7
    with pytest.raises(ValueError, match="prior: expected one of 3 latents, as the system has; got 2"):
        SYSTEMS["vae"](methods.SPEC, latent=3, prior=StandardNormal(2))
    with pytest.raises(ValueError, match=r"prior: expected one of normal, flow, .*; got 'flwo'"):
        SYSTEMS["vae"](methods.SPEC, latent=3, prior="flwo")
