"""Every system: bound, proper weights, samples, stages, recipe, misuse."""

import inspect

import pytest
import torch

import methods
from curvae.objectives import elbo
from curvae.systems import LatentSystem, register
from curvae.systems.base import SYSTEMS
from curvae.typing import Batch, DataSpec

ROWS = torch.randn(8, methods.P, generator=torch.Generator().manual_seed(0))


def data(name):
    """The rows, in the shape that a system takes."""
    return ROWS.reshape(8, *methods.event(name))


@pytest.fixture(params=methods.SYSTEMS)
def name(request):
    return request.param


@pytest.fixture
def x(name):
    return data(name)


@pytest.fixture
def system(name):
    return methods.SYSTEMS[name]()


@pytest.fixture(params=methods.LATENT)
def latent(request):
    return request.param


@pytest.fixture
def latent_system(latent):
    return methods.SYSTEMS[latent]()


@pytest.fixture
def latent_x(latent):
    return data(latent)


def test_bound_and_gradients_of_each_stage(system, x):
    batch = Batch(x, torch.arange(8))
    for stage in system.stages():
        system.zero_grad()
        bound = stage.bound_of(system, batch)
        assert bound.value.shape == bound.surrogate.shape == (8,)
        bound.surrogate.mean().backward()
        for name, parameter in system.named_parameters():
            if name.startswith(stage.trained):
                assert parameter.grad is not None, (stage.name, name)
                assert parameter.grad.isfinite().all(), (stage.name, name)


def test_weights(latent_system, latent_x):
    weights = latent_system.log_weights(Batch(latent_x, torch.full((8,), -1)), 5, torch.Generator().manual_seed(0))
    assert weights.log_w.shape == weights.log_c.shape
    assert weights.log_w.shape[1] == 8
    torch.testing.assert_close(torch.logsumexp(weights.log_c, 0), torch.zeros(8))


def test_samples(name, system):
    one, two = (system.sample(3, torch.Generator().manual_seed(2)) for _ in range(2))
    assert one.shape == (3, *methods.event(name))
    assert torch.equal(one, two)


def test_forward_is_the_door(system, x):
    torch.manual_seed(0)
    batch = Batch(x, torch.arange(8))
    direct = system.bound(batch).value
    torch.manual_seed(0)
    through = torch.func.functional_call(system, dict(system.named_parameters()), ("bound", batch)).value
    torch.testing.assert_close(direct, through)


def test_posterior_of_new_data(latent_system, latent_x):
    system = latent_system
    q = system.posterior(latent_x)
    assert q.mean.shape == (8, system.model.prior.size)
    assert not q.mean.requires_grad
    mask = torch.rand_like(latent_x) < 0.8
    holes = torch.where(mask, latent_x, torch.nan)
    assert system.posterior(holes, mask).mean.isfinite().all()


def test_posterior_refined(latent, latent_system, latent_x):
    """Any system's posterior can be refined, and no datum's ELBO is lowered, judged by other draws.

    Failure rate below 1e-5: the allowance is 6 standard errors.
    """
    system = latent_system.eval()
    before, after = (system.posterior(latent_x, refine=steps) for steps in (0, 5))
    for value in after.tensors.values():
        assert not value.requires_grad
    one, two = (elbo(system.model, q, Batch(latent_x, torch.arange(8)), 2000).value.detach() for q in (before, after))
    assert (two - one > -0.02 * one.abs() - 0.2).all()
    assert latent in methods.BEST_OF_THEIR_FAMILY or two.mean() > one.mean()


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (torch.full((8, methods.P), torch.nan), "x holds NaN or infinity; pass mask"),
        (torch.zeros(8, methods.P + 1), r"must be a batch of data of shape \({event}\); got \(8, 11\)"),
        (torch.zeros(methods.P), "For one example pass"),
    ],
)
def test_misuse_of_posterior(latent, latent_system, x, message):
    shape = methods.event(latent)
    words = ", ".join(map(str, shape)) + ("," if len(shape) == 1 else "")
    with pytest.raises(ValueError, match=message.replace("{event}", words)):
        latent_system.posterior(x)


def test_stages_share_the_epochs(system):
    assert sum(stage.share for stage in system.stages()) == pytest.approx(1.0)
    assert len({stage.name for stage in system.stages()}) == len(system.stages())


def test_recipe_makes_it_again(system):
    again = SYSTEMS[system.recipe.name](**system.recipe.arguments)
    again.load_state_dict(system.state_dict())


@pytest.mark.parametrize("support", ["real", "positive", "count", "binary", "category", "mixed"])
@pytest.mark.parametrize("name", methods.SYSTEMS)
def test_every_support(name, support):
    event = methods.event(name)
    if support == "mixed" and len(event) > 1:
        return  # pictures have no columns
    kinds = ("real", "count", "category:3", "binary", "positive", "ordinal:4")
    kinds = (*kinds, *["real"] * (methods.P - len(kinds))) if support == "mixed" else ()
    spec = DataSpec(event, support, categories=3, kinds=kinds)
    if name in methods.REAL_ONLY and support != "real":
        with pytest.raises(ValueError, match=f"expects data that are real numbers; got support '{support}'"):
            methods.SYSTEMS[name](spec)
        return
    counts, categories = (4 * ROWS.abs()).floor(), torch.randint(3, (8, methods.P))
    every = {"real": ROWS, "positive": ROWS.exp(), "count": counts, "binary": ROWS > 0, "category": categories}
    every["mixed"] = categories.clamp(min=1)
    x = every[support].float().reshape(8, *spec.event)
    bound = methods.SYSTEMS[name](spec).bound(Batch(x, torch.arange(8)))
    assert bound.value.isfinite().all()


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_described(name):
    text = inspect.getdoc(SYSTEMS[name]) or ""
    assert "Reference:" in text
    for parameter in inspect.signature(SYSTEMS[name]).parameters:
        assert f"{parameter}:" in text, f"{name}: {parameter} is not described"


def test_misuse_of_the_parts():
    with pytest.raises(ValueError, match="latent must be 1 or more; got 0"):
        SYSTEMS["vae"](methods.SPEC, latent=0)
    with pytest.raises(ValueError, match="share of the time"):
        SYSTEMS["vlae"](methods.SPEC, warmup=1.0)
    with pytest.raises(ValueError, match="exists already"):
        register("vae")(SYSTEMS["vae"])
    system = SYSTEMS["vae"](methods.SPEC)
    with pytest.raises(ValueError, match="samples must be 1 or more"):
        LatentSystem(system.model, system.inference, system.objective, samples=0)
    system.evidence = "none"
    with pytest.raises(ValueError, match="no evidence"):
        system.log_weights(Batch(ROWS, torch.arange(8)), 2)
