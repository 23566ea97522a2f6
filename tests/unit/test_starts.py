"""Networks that start at a linear model: exactly, and what happens where they cannot."""

import inspect
import logging
import re
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

import methods
from curvae.data import Data, from_array
from curvae.inference import AffinePosterior, AmortizedFullGaussian, AmortizedRankOne
from curvae.likelihoods import Bernoulli, Categorical, Gaussian
from curvae.linear import LinearGaussian, factor_analysis, ppca
from curvae.networks import MLP, linear_capacity, write_affine
from curvae.systems import System, vae, vlae
from curvae.systems.base import SYSTEMS
from curvae.systems.gibbs_stages import StartChains
from curvae.systems.missing_parts import StartMissingness
from curvae.systems.priors import StartPrior
from curvae.systems.starts import LinearStart, start_for
from curvae.typing import Batch, DataSpec

PAGE = (Path(__file__).parents[2] / "docs" / "fits.md").read_text(encoding="utf-8")
TABLE = PAGE.split("<!-- starts of systems: begin -->")[1].split("<!-- starts of systems: end -->")[0]
STARTS = {
    name: kind.strip()
    for _, kind, names, *_ in (line.split("|") for line in TABLE.strip().splitlines()[2:])
    for name in re.findall(r"`(.*?)`", names)
}
"""How each system starts: its ELBO is log p(x) of the linear model, or lies near it, or starts at random."""
OTHERS = {"flow-ae", "laplacian-ae", "lossy-vae", "nice", "pc-transformer", "probabilistic-ae", "td-vae", "vrnn"}
"""Systems with a start of their own, which is tested beside them."""
NEAR = 0.2
"""Nats, of the mean over rows: draws of the exact posterior are moved on by steps of finite length, and tempered."""
VARIATIONS = [
    ("ais-vae", {"metropolis": True}, "exact"),
    ("bilbo", {"latent": 6}, "exact"),
    ("coupling-vae", {"latent": 1}, "exact"),
    ("ffjord-vae", {"latent": 6}, "exact"),
    ("fif-vae", {"latent": 6}, "exact"),
    ("fishernet", {"steps": 1}, "exact"),
    ("householder-vae", {"reflections": 1}, "exact"),
    ("householder-vae", {"reflections": 4, "latent": 6}, "exact"),
    ("hvae", {"tempering": "none"}, "near"),
    ("iaf-vae", {"gated_update": False}, "exact"),
    ("iaf-vae", {"flows": 5, "latent": 6}, "exact"),
    ("planar-vae", {"latent": 6}, "exact"),
    ("sa-vae", {"amortized": False}, "decoder only"),
    ("sa-vae", {"through": False}, "exact"),
    ("spline-vae", {"passes": 3, "bins": 5}, "exact"),
    ("tsc", {"flows": 2}, "exact"),
    ("vlae", {"published": True}, "exact"),
    *((name, {"prior": prior}, "exact") for name in ("vae", "vlae", "iwae") for prior in ("flow", "autoregressive")),
    ("flow-prior-vae", {"fitting": "alternating"}, "exact"),
]
ACTIVATIONS = [nn.ReLU, nn.SiLU, nn.GELU, nn.LeakyReLU, nn.Hardswish]


def table(width: int = 6, rows: int = 200, seed: int = 0) -> Data:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(rows, 3, generator=generator)
    x = z @ torch.randn(3, width, generator=generator) + 0.4 * torch.randn(rows, width, generator=generator)
    return from_array(x.double() * torch.linspace(0.1, 20, width) + 5, seed=seed)


def all_of(data: Data) -> Batch:
    batch = data.test.batch(torch.arange(len(data.test)))
    return batch._replace(x=batch.x.double())


def started(system: System, data: Data) -> System:
    system = system.double().eval()
    system.stages()[0].start(system, data)
    return system


def linear_model(data: Data, latent: int, learn: str = "element") -> LinearGaussian:
    """The one that a fit starts from: of two, the better on the validation data."""
    kinds = (ppca, factor_analysis) if learn == "element" else (ppca,)
    fits = [fit(data.train.x, latent, floor=2e-6) for fit in kinds]
    return max(fits, key=lambda found: found.log_prob(data.validation.x.double()).mean())


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden", [[], [9], [9, 8, 20]])
def test_an_affine_map_is_written_exactly(activation, hidden):
    network = MLP(5, hidden, 7, activation).double()
    before = network[-1].weight[6].clone()
    size = min(linear_capacity(network), 4)
    inward, offset, outward, bias = (
        torch.randn(*shape, dtype=torch.float64) for shape in ((size, 5), (size,), (6, size), (6,))
    )
    write_affine(network, inward, offset, outward, bias)
    x = 3 * torch.randn(9, 5, dtype=torch.float64)
    expected = (x @ inward.mT + offset) @ outward.mT + bias
    torch.testing.assert_close(network(x)[:, :6], expected, atol=1e-12, rtol=1e-12)
    assert torch.equal(network[-1].weight[6], before)


@pytest.mark.parametrize(
    "network",
    [
        MLP(5, [9], 7, nn.Tanh),
        nn.Sequential(nn.Linear(5, 9, bias=False), nn.ReLU(), nn.Linear(9, 7)),
        nn.Sequential(nn.Linear(5, 9), nn.BatchNorm1d(9), nn.ReLU(), nn.Linear(9, 7)),
        nn.Sequential(nn.Linear(5, 9), nn.PReLU(), nn.Linear(9, 7)),
        nn.Sequential(nn.Linear(5, 9), nn.ReLU()),
        nn.Conv2d(1, 1, 3),
    ],
)
def test_other_networks_carry_nothing(network):
    assert linear_capacity(network) == 0
    with pytest.raises(ValueError, match="expected a network that carries 1 values, got 0"):
        write_affine(network, torch.ones(1, 5), torch.zeros(1), torch.ones(7, 1), torch.zeros(7))


@pytest.mark.parametrize("learn", ["shared", "element"])
@pytest.mark.parametrize(
    ("name", "arguments", "start"), [*((n, {}, STARTS[n]) for n in STARTS if n not in OTHERS), *VARIATIONS]
)
def test_before_the_first_step_elbo_and_evidence_are_those_of_the_linear_model(name, arguments, start, learn):
    """In float64 for every row: the log weight of every single draw is log p(x), so the posterior is exact."""
    data = table()
    names = inspect.signature(SYSTEMS[name]).parameters
    given = {"latent": 3, "likelihood": Gaussian(6, learn=learn), "start": "linear", **arguments}
    ours = {key: value for key, value in given.items() if key in names}
    system = started(SYSTEMS[name](data.spec, hidden=16, **ours), data)
    model = linear_model(data, min(given["latent"], 5), learn)
    expected = model.log_prob(all_of(data).x)
    log_w, log_c = system.log_weights(all_of(data), 6, torch.Generator().manual_seed(1))
    first = system.stages()[0].start
    first = first.networks if isinstance(first, StartPrior | StartMissingness | StartChains) else first
    assert isinstance(first, LinearStart) == (start != "random")
    if start == "exact":
        torch.testing.assert_close(log_w, expected.expand_as(log_w), atol=1e-10, rtol=0)
    elif start == "near":
        assert ((log_c.exp() * log_w).sum(0) - expected).mean().abs() < NEAR
    elif start == "linear":
        z, deviation = torch.randn(4, 3, dtype=torch.float64), model.posterior_variance.sqrt()
        torch.testing.assert_close(system.model.decode(z), z * deviation @ model.weight.mT + model.mean)
        mean = (all_of(data).x - model.mean) @ model.posterior_map.mT / deviation
        torch.testing.assert_close(system.posterior(all_of(data).x).mean, mean)
    elif start == "tangent":
        origin = torch.zeros(1, 3, dtype=torch.float64)
        torch.testing.assert_close(system.model.decode(origin)[0], model.mean, atol=1e-9, rtol=0)
        slope = torch.func.jacrev(lambda z: system.model.decode(z.unsqueeze(0))[0])(origin[0])
        torch.testing.assert_close(slope, model.weight, atol=1e-8, rtol=0)
        mean = (all_of(data).x - model.mean) @ model.posterior_map.mT
        torch.testing.assert_close(system.posterior(all_of(data).x).mean, mean)
    elif start == "decoder only":
        z = torch.randn(4, 3, dtype=torch.float64)
        torch.testing.assert_close(system.model.decode(z), z @ model.weight.mT + model.mean)


def test_every_system_is_in_the_table_of_the_documentation():
    assert sorted(STARTS) == sorted(SYSTEMS)
    assert set(STARTS.values()) <= {"exact", "linear", "near", "random", "tangent"}


@pytest.mark.parametrize("name", sorted(SYSTEMS))
def test_what_starts_at_random_has_no_argument_for_it_and_says_why(name):
    text = " ".join(SYSTEMS[name].__doc__.split())
    assert ("Starts at random: " in text) == (STARTS[name] == "random")
    assert ("start" in inspect.signature(SYSTEMS[name]).parameters) == (STARTS[name] != "random")


def test_the_better_of_two_starts_on_validation_is_taken():
    """Equal noise everywhere: principal components have fewer numbers to get wrong."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(60, 1, generator=generator) @ torch.ones(1, 12) + torch.randn(60, 12, generator=generator)
    for scale, better in ((torch.ones(12), ppca), (torch.linspace(0.05, 3, 12), factor_analysis)):
        data = from_array((x * scale).double(), standardize=False)
        system = started(
            vae(data.spec, latent=2, hidden=16, likelihood=Gaussian(12, learn="element"), start="linear"), data
        )
        noise = better(data.train.x, 2, floor=2e-6).noise
        torch.testing.assert_close(system.model.likelihood.variance, noise)


@pytest.mark.parametrize(("latent", "hidden"), [(3, 4), (9, 40), (2, 1)])
def test_latents_that_find_no_room_start_unused(latent, hidden):
    data = table()
    system = started(vlae(data.spec, latent=latent, hidden=hidden, start="linear"), data)
    room = min(latent, hidden // 2, 5)
    batch = all_of(data)
    if room == 0:
        torch.testing.assert_close(system.model.likelihood.variance, torch.ones(6).double(), rtol=0.02, atol=0)
        return
    expected = linear_model(data, room).log_prob(batch.x)
    weights = system.log_weights(batch, 4, torch.Generator().manual_seed(1))
    torch.testing.assert_close(weights.log_w, expected.expand_as(weights.log_w), atol=1e-10, rtol=0)
    assert (system.posterior(batch.x).mean[:, room:].abs() < 1e-6).all()


def test_a_full_covariance_starts_there_too():
    inference = AmortizedFullGaussian(MLP(4, [20], 3 + 6).double(), 3)
    scale = torch.tensor([0.3, 0.8], dtype=torch.float64)
    inward = torch.randn(2, 4, dtype=torch.float64)
    assert inference.start_from(AffinePosterior(inward, torch.zeros(2, dtype=torch.float64), scale.log()))
    x = torch.randn(5, 4, dtype=torch.float64)
    q = inference(None, Batch.of(x)).posterior
    torch.testing.assert_close(q.mean[:, :2], x @ inward.mT)
    torch.testing.assert_close(
        q.covariance, torch.diag(torch.tensor([0.09, 0.64, 1.0], dtype=torch.float64)).expand(5, 3, 3)
    )


def test_a_rank_one_precision_starts_there_but_for_its_direction():
    """Which stays as it is: at 0 it would have no slope."""
    inference = AmortizedRankOne(MLP(4, [20], 9).double(), (3,))
    scale, inward = torch.tensor([0.3, 0.8], dtype=torch.float64), torch.randn(2, 4, dtype=torch.float64)
    assert inference.start_from(AffinePosterior(inward, torch.zeros(2, dtype=torch.float64), scale.log()))
    x = torch.randn(5, 4, dtype=torch.float64)
    q = inference(None, Batch.of(x)).posterior
    torch.testing.assert_close(q.mean[:, :2], x @ inward.mT)
    torch.testing.assert_close(q.log_scale.exp(), torch.tensor([0.3, 0.8, 1.0], dtype=torch.float64).expand(5, 3))
    assert (q.direction != 0).any(0).all()


@pytest.mark.parametrize(
    ("name", "learns"),
    [
        ("coupling-vae", "inference.flow.steps.0.hyper.4.weight"),
        ("ffjord-vae", "inference.flow.layers.2.weight"),
        ("fif-vae", "inference.log_noise"),
        ("householder-vae", "inference.first"),
        ("householder-vae", "inference.chain.1.weight"),
        ("ia-vae", "inference.encoder.hyper.3.weight"),
        ("iaf-vae", "inference.flow.steps.1.hyper.4.weight"),
        ("planar-vae", "inference.encoder.5.weight"),
        ("radial-vae", "inference.encoder.5.weight"),
        ("spline-vae", "inference.flow.steps.0.hyper.4.weight"),
    ],
)
def test_what_starts_at_rest_learns(name, learns):
    """Where a flow is the identity it has a slope; for planar and radial flows in what the encoder gives it."""
    data = table()
    system = started(SYSTEMS[name](data.spec, latent=3, hidden=16), data)
    system.bound(all_of(data)).surrogate.mean().backward()
    slope = system.get_parameter(learns).grad
    assert slope is not None
    steps = slope[6:].unflatten(0, (10, -1)) if "encoder.5" in learns else slope
    assert (steps.flatten(1).abs().sum(1) > 0).all() if "encoder.5" in learns else (steps != 0).any()


def with_holes() -> Data:
    holes = table(rows=300).train.raw.clone()
    holes[torch.rand(holes.shape, generator=torch.Generator().manual_seed(0)) < 0.2] = torch.nan
    return from_array(holes, missing="mask")


def test_missing_values():
    data = with_holes()
    system = started(vlae(data.spec, latent=2, hidden=16, start="linear"), data)
    fitted = ppca(data.train.x, 2, data.train.mask, 2e-6)
    torch.testing.assert_close(system.model.likelihood.variance.detach(), fitted.noise)
    z = torch.randn(4, 2, dtype=torch.float64)
    torch.testing.assert_close(system.model.decode(z), z @ fitted.weight.mT + fitted.mean)


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("support", ["binary", "category"])
def test_other_likelihoods_start_better_than_at_random(support, missing):
    generator = torch.Generator().manual_seed(0)
    score = torch.randn(400, 2, generator=generator) @ (3 * torch.randn(2, 12, generator=generator))
    x = (score > 0).double() if support == "binary" else torch.bucketize(score, torch.tensor([-2.0, 2.0])).double()
    if missing:
        x[torch.rand(x.shape, generator=generator) < 0.05] = torch.nan
    data = from_array(x, support=support, missing="mask" if missing else "error")
    bounds = {}
    for start in ("linear", "random"):
        torch.manual_seed(0)
        system = started(vae(data.spec, latent=2, hidden=16, start=start), data)
        bounds[start] = system.bound(all_of(data)).value.mean().item()
    independent = sum(float((-p * p.log()).sum()) for p in shares(data))
    assert bounds["linear"] > bounds["random"] + 1
    assert bounds["linear"] > -independent


def shares(data: Data) -> list[torch.Tensor]:
    return [column.unique(return_counts=True)[1] / len(column) for column in data.train.x.double().mT]


@pytest.mark.parametrize(
    ("support", "counts"), [("binary", (180, 220)), ("category", (180, 220)), ("category", (28, 72, 100, 200))]
)
def test_means_follow_the_linear_model_to_first_order(support, counts):
    """At the mean of the data the decoder has the slope of the linear model, where no probability is below 5 %."""
    classes, cells = len(counts), torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    x = torch.stack([cells[torch.randperm(400)] for _ in range(5)], 1)
    spec = DataSpec((5,), support, classes)
    likelihood = (Bernoulli if support == "binary" else partial(Categorical, categories=classes))(spec.event)
    (model,) = likelihood.linear_fits(x.float() if support == "binary" else x, 2)
    weight, bias = likelihood.start_from(model)
    mean, slope = torch.func.jvp(
        lambda z: likelihood.mean(bias + weight @ z), (torch.zeros(2).double(),), (torch.ones(2).double(),)
    )
    torch.testing.assert_close(mean.flatten(), model.mean)
    torch.testing.assert_close(slope.flatten(), model.weight.sum(1))


@pytest.mark.parametrize("learn", [None, "shared", "element"])
@pytest.mark.parametrize("scale", [0.1, 0.7])
def test_an_explicit_noise_stays(learn, scale):
    """The linear model is fitted with it, and its posterior is that under it."""
    data, likelihood = table(), Gaussian(6, scale=scale, learn=learn).double()
    before = likelihood.variance.detach().clone()
    system = started(vae(data.spec, latent=2, hidden=16, likelihood=likelihood, start="linear"), data)
    assert torch.equal(system.model.likelihood.variance, before)
    assert before.sqrt().mean().item() == pytest.approx(scale, rel=1e-4)
    weights = system.log_weights(all_of(data), 4)
    expected = ppca(data.train.x, 2, noise=before[0].item()).log_prob(all_of(data).x)
    torch.testing.assert_close(weights.log_w, expected.expand_as(weights.log_w), atol=1e-9, rtol=1e-13)


@pytest.mark.parametrize("learn", ["shared", "element"])
def test_an_explicit_noise_stays_with_missing_values_and_from_a_random_start(learn):
    data = with_holes()
    for start in ("linear", "random"):
        likelihood = Gaussian(6, scale=0.2, learn=learn)
        system = started(vae(data.spec, latent=2, hidden=16, likelihood=likelihood, start=start), data)
        torch.testing.assert_close(system.model.likelihood.variance, torch.full_like(likelihood.variance, 0.04))


@pytest.mark.parametrize("own", [MLP(2, [16], 6), nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 6))])
def test_own_networks_start_as_they_are_and_the_log_says_so(own, caplog):
    data, own = table(), own.double()
    before = [value.clone() for value in own.parameters()]
    with caplog.at_level(logging.INFO, "curvae"):
        system = started(vae(data.spec, latent=2, hidden=16, decoder=own, start="linear"), data)
    assert "vae starts as it is: it has networks of your own, which no linear model is written into." in caplog.text
    assert all(torch.equal(one, other) for one, other in zip(before, system.model.decoder.parameters(), strict=True))
    with pytest.raises(ValueError, match="start: expected linear or random; got 'zero'"):
        start_for("zero")


def test_what_starts_at_random_says_so(caplog):
    data = table()
    system = vae(data.spec, latent=2, hidden=16, decoder=nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 6)))
    with caplog.at_level(logging.INFO, "curvae"):
        LinearStart()(system, data)
    assert "vae starts at random: its decoder or prior cannot start at a linear model." in caplog.text


@pytest.mark.parametrize("name", sorted(SYSTEMS.keys() - methods.TEXTS))
def test_every_system_trains_from_its_linear_start(name):
    shape = (1, 3, 2) if name in methods.PICTURES else (6,)
    data = from_array(table().train.raw.reshape(-1, *shape))
    linear = {"start": "linear"} if "start" in inspect.signature(SYSTEMS[name]).parameters else {}
    system = SYSTEMS[name](DataSpec(shape), hidden=16, **linear)
    system.stages()[0].start(system, data)
    stage = system.stages()[0]
    bound = stage.bound_of(system, data.train.batch(torch.arange(16)))
    assert getattr(bound, stage.monitor).isfinite().all()
    bound.surrogate.mean().backward()
    assert all(each.grad is None or each.grad.isfinite().all() for each in system.parameters())
