"""The density of data beside linear features of them: by autograd, unbounded, and its marginal with log K."""

import math

import pytest
import torch
from torch import nn

from chance import deviates
from curvae.data import Data, from_array
from curvae.inference import LinearCore
from curvae.likelihoods import Gaussian
from curvae.linear import LinearGaussian
from curvae.objectives import AugmentedDensity, iwae
from curvae.posteriors import Chains
from curvae.systems import LatentSystem, flow_ae
from curvae.systems.linear_core import tune_width
from curvae.typing import Batch

F64 = torch.float64
LATENT, WIDTH = 2, 5


def rows() -> Data:
    x = torch.randn(300, LATENT) @ torch.randn(LATENT, WIDTH) + 0.5 * torch.randn(300, WIDTH)
    return from_array(x, standardize=False)


def linear_one() -> tuple[LatentSystem, LinearGaussian, torch.Tensor]:
    """A system at its linear start, the model that it is, and data."""
    data = rows()
    system = flow_ae(data.spec, LATENT, hidden=16, core="linear").double().eval()
    system.stages()[0].start(system, data)
    fits = Gaussian(WIDTH, learn="element").linear_fits(data.train.x, LATENT)
    held_out = data.validation.x.double()
    model = max(fits, key=lambda fit: float(fit.log_prob(held_out).mean()))
    return system, model, data.test.x.double()


def random_one() -> LatentSystem:
    system = flow_ae(rows().spec, LATENT, hidden=16, core="linear").double().eval()
    for value in system.parameters():
        value.data += 0.2 * torch.randn_like(value)
    system.inference.log_width.fill_(-0.7)
    return system


def constant(system: LatentSystem) -> torch.Tensor:
    """What the log weight at A x is above ``log p(x, w = A x)``."""
    return -LATENT * (system.inference.log_width + 0.5 * math.log(2 * math.pi))


def test_what_is_trained_is_the_density_of_data_and_features():
    """``(x, w) -> (u, r)`` is a bijection; its volume by autograd."""
    system = random_one()
    decoder, inference = system.model.decoder, system.inference
    scale = system.model.likelihood.variance.sqrt()

    def noise(both: torch.Tensor) -> torch.Tensor:
        x, w = both[:WIDTH], both[WIDTH:]
        mean, log_s = inference.encoder(x[None])[0].chunk(2)
        code = mean + (7 * torch.tanh(log_s / 7)).exp() * w
        return torch.cat(
            [decoder.flow(code.reshape(1, 1, -1)).z.flatten(), (x - decoder.network(code[None])[0]) / scale]
        )

    x = torch.randn(4, WIDTH, dtype=F64)
    found = system.bound(Batch.of(x)).surrogate + constant(system)
    for row, value in zip(x, found, strict=True):
        both = torch.cat([row, inference.map(row)])
        log_p = torch.distributions.Normal(0.0, 1.0).log_prob(noise(both)).sum()
        expected = log_p + torch.linalg.slogdet(torch.func.jacrev(noise)(both))[1]
        torch.testing.assert_close(value, expected)


class Narrowed(nn.Module):
    """An encoder whose s is larger, and whose m makes up for it at w = A x."""

    def __init__(self, encoder: nn.Module, matrix: nn.Linear, by: float):
        super().__init__()
        self.encoder, self.matrix, self.by = encoder, matrix, by

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mean, raw = self.encoder(x).chunk(2, -1)
        log_s = 7 * torch.tanh(raw / 7)
        mean = mean + log_s.exp() * (1 - math.exp(self.by)) * self.matrix(x)
        return torch.cat([mean, 7 * torch.atanh((log_s + self.by) / 7)], -1)


def test_it_rises_without_a_better_model():
    """By D nats for each unit of log s, while p(x) and the decoder stay what they are: it is no likelihood."""
    system, x = random_one(), torch.randn(4, WIDTH, dtype=F64)
    before = system.bound(Batch.of(x)).surrogate
    system.inference.encoder = Narrowed(system.inference.encoder, system.inference.map, 0.5)
    torch.testing.assert_close(system.bound(Batch.of(x)).surrogate - before, torch.full((4,), 0.5 * LATENT, dtype=F64))
    assert system.kind == "none"


@pytest.mark.statistical
def test_the_marginal_has_log_k_and_is_that_of_the_linear_model():
    """Of a proposal that is too wide, 2,000 draws; the public estimate is larger by log K."""
    system, model, x = linear_one()
    start = system.log_weights(Batch.of(x), 5).log_w
    torch.testing.assert_close(start, model.log_prob(x).expand(5, -1), atol=1e-9, rtol=0)
    system.inference.log_width.fill_(0.4)
    weights = system.requires_grad_(False).log_weights(Batch.of(x[:20]), 2000)
    exact = model.log_prob(x[:20])
    ratio = (weights.log_w - exact).exp()
    deviates("ratio", ((ratio.mean(0) - 1) / (ratio.std(0) / len(ratio) ** 0.5)).detach())
    few = system.log_weights(Batch.of(x[:20]), 128)
    with_log_k = torch.logsumexp(few.log_c + few.log_w, 0)
    torch.testing.assert_close(torch.logsumexp(few.log_w, 0) - with_log_k, torch.full((20,), math.log(128), dtype=F64))
    assert math.log(128) == pytest.approx(4.852, abs=1e-3)


def test_what_is_reported_is_a_bound():
    system, x = random_one(), torch.randn(4, WIDTH, dtype=F64)
    torch.manual_seed(0)
    found = system.bound(Batch.of(x)).value
    torch.manual_seed(0)
    q = system.posterior(x)
    torch.testing.assert_close(found, iwae(system.model, q, Batch.of(x), system.samples).value)


def test_the_width_of_the_proposal_is_found():
    data = rows()
    system = flow_ae(data.spec, LATENT, hidden=16, core="linear").eval()
    system.stages()[0].start(system, data)
    for start in (2.0, -2.0):
        system.inference.log_width.fill_(start)
        for _ in range(3):
            tune_width(system, data)
        assert system.inference.log_width.abs() < 0.8, "the posterior is exact with width 1"


def test_misuse():
    system = random_one()
    with pytest.raises(ValueError, match="the encoder must give 2 D = 4 values"):
        LinearCore(nn.Linear(WIDTH, 3), WIDTH, 2).double()(system.model, Batch.of(torch.zeros(2, WIDTH, dtype=F64)))
    with pytest.raises(ValueError, match="AugmentedDensity: expects a posterior with a density; Chains has none"):
        AugmentedDensity()(system.model, Chains(torch.randn(2, 1, 3, LATENT)), Batch.of(torch.zeros(2, WIDTH)))
