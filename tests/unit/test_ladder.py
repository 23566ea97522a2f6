"""Flat ladders: one level is the VAE, closed gates shut a level out, divergences add up, convolutions compose."""

import pytest
import torch
from torch import nn

from curvae.data import from_array
from curvae.inference import AmortizedGaussian, Laplace
from curvae.model import LatentVariableModel
from curvae.networks import ConvEncoder, Gated, LadderEncoder, ladder_decoder
from curvae.objectives import log_weights
from curvae.posteriors import DiagonalGaussian, kl
from curvae.priors import StandardNormal
from curvae.systems import LatentSystem, flat_ladder, vae
from curvae.typing import Batch, DataSpec

SPEC = DataSpec((6,))


def seeded(make, seed: int = 0, **arguments) -> LatentSystem:
    torch.manual_seed(seed)
    return make(SPEC, **{"hidden": 16, **arguments}).double()


def batch(count: int = 8) -> Batch:
    return Batch.of(torch.randn(count, 6, dtype=torch.float64))


@pytest.mark.parametrize("depth", [1, 3])
def test_one_level_is_a_vae_from_the_same_seed_to_the_last_digit(depth):
    one = seeded(flat_ladder, latent=3, layers=1, depth=depth, kl_warmup=0)
    other = seeded(vae, latent=3, depth=depth, start="random")
    for here, there in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(here, there)
    rows = batch()
    bounds = []
    for system in (one, other):
        torch.manual_seed(1)
        system.zero_grad()
        bound = system.bound(rows)
        bound.surrogate.mean().backward()
        bounds.append(bound.value)
    assert torch.equal(*bounds)
    for here, there in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.equal(here.grad, there.grad)


@pytest.mark.parametrize("level", [1, 2])
def test_a_closed_gate_shuts_its_level_out(level):
    """Exactly: not a digit of the output depends on it, and with a gate a little open one does."""
    decoder = ladder_decoder((2, 3, 1), 16, 2, 10).double()
    gated = decoder.noise[level]
    assert isinstance(gated, Gated)
    torch.testing.assert_close(gated.gate.float(), torch.full((16,), 0.1))
    z = torch.randn(4, 6, dtype=torch.float64)
    other = z.clone()
    part = slice(2, 5) if level == 1 else slice(5, 6)
    other[:, part] += torch.randn_like(other[:, part])
    assert not torch.equal(decoder(z), decoder(other))
    nn.init.zeros_(gated.gate)
    assert torch.equal(decoder(z), decoder(other))


def test_behind_a_closed_gate_the_divergence_trains_to_0():
    """Nothing else says where those latents should be: the bound's slope in the level's head is that of the KL."""
    system = seeded(flat_ladder, latent=2, layers=3, kl_warmup=0)
    nn.init.zeros_(system.model.decoder.noise[1].gate)
    rows, head = batch(), system.inference.encoder.heads[1]
    optimizer = torch.optim.LBFGS(head.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> torch.Tensor:
        optimizer.zero_grad()
        total = -system.bound(rows).surrogate.mean()  # draws anew each time: they make no difference to this head
        total.backward()
        return kl(system.posterior(rows.x), system.model.prior)[:, 1].mean()

    assert loss() > 0.1
    optimizer.step(loss)
    assert loss() < 1e-6


def test_divergences_of_the_levels_add_up_to_that_of_all_of_z():
    system = seeded(flat_ladder, latent=2, layers=3)
    q = system.posterior(batch().x)
    assert isinstance(q, DiagonalGaussian)
    each = kl(q, system.model.prior)
    assert each.shape == (8, 3)
    normal = torch.distributions.Normal(q.mean, q.variance.sqrt())
    every = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0))
    torch.testing.assert_close(each, every.unflatten(-1, (3, 2)).sum(-1))
    torch.testing.assert_close(each.sum(-1), kl(q, StandardNormal(6))[:, 0])


def test_levels_are_read_at_their_depth():
    """The deepest is the first: it alone depends on the last step; the shallowest, the last, on no step but the first.

    The decoder likewise: what a level enters behind does not change how the level reaches the output.
    """
    encoder = LadderEncoder.of(6, 16, 1, (2, 2, 2)).double()
    x = torch.randn(4, 6, dtype=torch.float64)
    before = encoder(x)
    nn.init.zeros_(encoder.steps[2][0].weight)
    changed = (encoder(x) != before).any(0).unflatten(0, (2, 3, 2)).any(-1)
    assert changed.tolist() == [[True, False, False]] * 2
    nn.init.zeros_(encoder.steps[1][0].weight)
    changed = (encoder(x) != before).any(0).unflatten(0, (2, 3, 2)).any(-1)
    assert changed.tolist() == [[True, True, False]] * 2


def test_means_then_log_scales_of_the_deepest_level_first():
    heads = [nn.Linear(1, 2), nn.Linear(1, 4)]
    for head, value in zip(heads, ([1.0, 2.0], [3.0, 4.0, 5.0, 6.0]), strict=True):
        nn.init.zeros_(head.weight)
        with torch.no_grad():
            head.bias.copy_(torch.tensor(value))
    encoder = LadderEncoder([nn.Flatten(), nn.Identity()], heads)
    assert encoder(torch.zeros(1, 1)).tolist() == [[3.0, 4.0, 1.0, 5.0, 6.0, 2.0]]


def test_convolutions_of_the_house_compose():
    """A level behind each convolution, one behind the linear layer."""
    event, inner = (1, 9, 9), ConvEncoder((1, 9, 9), 4, width=4, hidden=8)
    steps = [nn.Sequential(*list(inner)[low:high]) for low, high in ((0, 2), (2, 4), (4, 7))]
    maps = [steps[0](torch.zeros(1, *event)), steps[1](steps[0](torch.zeros(1, *event)))]
    heads = [nn.Sequential(nn.Flatten(), nn.Linear(each.numel(), 4)) for each in maps]
    encoder = LadderEncoder(steps, [*heads, inner[7]])
    system = flat_ladder(DataSpec(event), latent=2, layers=3, hidden=16, encoder=encoder)
    bound = system.bound(Batch.of(torch.randn(5, *event)))
    bound.surrogate.mean().backward()
    assert all(each.grad is not None for each in system.parameters())


def test_the_curvature_of_a_ladder_is_that_of_any_decoder():
    """Where the networks are linear maps, the Laplace posterior is exact: every draw weighs log p(x)."""
    decoder = ladder_decoder((2, 1), 16, 1, 6).double()
    for module in decoder.modules():
        if isinstance(module, nn.Sequential):
            for index, part in enumerate(module):
                if isinstance(part, nn.ReLU):
                    module[index] = nn.Identity()
    likelihood = seeded(vae).model.likelihood
    model = LatentVariableModel(StandardNormal(3, (2, 1)), decoder, likelihood).double()
    rows = batch()
    inference = Laplace(AmortizedGaussian(LadderEncoder.of(6, 16, 1, (2, 1)).double()), steps=4)
    with torch.no_grad():
        weight = decoder(torch.eye(3, dtype=torch.float64)) - decoder(torch.zeros(1, 3, dtype=torch.float64))
        covariance = weight.mT @ weight + likelihood.variance * torch.eye(6, dtype=torch.float64)
        exact = torch.distributions.MultivariateNormal(decoder(torch.zeros(1, 3, dtype=torch.float64))[0], covariance)
    found = log_weights(model, rows, inference(model, rows).posterior.draw(3))
    torch.testing.assert_close(found, exact.log_prob(rows.x).expand(3, -1), atol=1e-8, rtol=0)


@pytest.mark.parametrize("support", ["real", "binary", "category"])
def test_a_start_and_a_step_on_any_data(support):
    x = torch.randint(3, (60, 6)) if support == "category" else (torch.randn(60, 6) > 0).float()
    data = from_array(x, support=support)
    system = flat_ladder(data.spec, latent=2, hidden=16)
    system.stages()[0].start(system, data)
    assert system.bound(data.train.batch(torch.arange(9))).value.isfinite().all()


def test_misuse():
    with pytest.raises(ValueError, match="a head for each of 1 or more steps; got 1 and 0"):
        LadderEncoder([nn.Identity()], [])
    for name in ("latent", "layers", "hidden", "depth"):
        with pytest.raises(ValueError, match=f"flat_ladder: {name} must be 1 or more; got 0"):
            flat_ladder(SPEC, **{name: 0})
    with pytest.raises(ValueError, match="ladder_decoder: size must be 1 or more; got 0"):
        ladder_decoder((2, 0), 8, 1, 5)
    with pytest.raises(ValueError, match="ladder_decoder: levels must be 1 or more; got 0"):
        ladder_decoder((), 8, 1, 5)
