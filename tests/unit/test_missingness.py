"""Laws of what is missing: the bound with them, its gradient and imputation by quadrature of a curved model."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from chance import deviates, means
from curvae.evaluation import conditionals
from curvae.inference import ConstantGaussian
from curvae.likelihoods import (
    Bernoulli,
    ConstantMissingness,
    Gaussian,
    LinearMissingness,
    NetworkMissingness,
    SelfMasking,
)
from curvae.model import LatentVariableModel
from curvae.objectives import DoublyReparameterized, Iwae, NotMiwae, Reparameterized
from curvae.posteriors import DiagonalGaussian
from curvae.priors import StandardNormal
from curvae.systems import LatentSystem, not_miwae
from curvae.systems.missing_parts import encoder_with_gaps, missingness_for
from curvae.typing import Batch, DataSpec

SPEC = DataSpec((6,))


class Curve(nn.Module):
    """(z, sin 2z): what is missing is not linear in what was observed."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.3, dtype=torch.float64))

    def forward(self, z):
        return torch.cat([self.scale * z, torch.sin(2 * z)], -1)


NOISE = 0.6
GRID = torch.linspace(-7, 7, 401, dtype=torch.float64)
PATTERNS = torch.tensor([[True, True], [True, False], [False, True], [False, False]])
ROW = torch.tensor([0.8, -0.5], dtype=torch.float64)


def curved(law=None) -> LatentSystem:
    model = LatentVariableModel(StandardNormal(1), Curve(), Gaussian(2, scale=NOISE))
    if law is None:
        law = SelfMasking(2)
        with torch.no_grad():
            law.offset.copy_(torch.tensor([0.5, -0.3]))
            law.weight.copy_(torch.tensor([1.5, -2.5]))
    return LatentSystem(model, ConstantGaussian(1), NotMiwae(law)).double()


def on_the_grid(system: LatentSystem, seen: torch.Tensor) -> torch.Tensor:
    """``log p(x_o, x_m, s)`` of one row over a grid of both values, the observed ones at theirs, with cells: (X, X)."""
    step = (GRID[1] - GRID[0]).log()
    axes = [ROW[j : j + 1] if seen[j] else GRID for j in range(2)]
    x = torch.stack(torch.meshgrid(*axes, indexing="ij"), -1)
    eta = system.model.decode(GRID.reshape(-1, 1))
    one, two = (torch.distributions.Normal(eta[:, j, None], NOISE).log_prob(axes[j]).exp() for j in range(2))
    prior = torch.distributions.Normal(0.0, 1.0).log_prob(GRID).exp()
    log_x = torch.einsum("z,zi,zj->ij", prior, one, two).log() + step
    logits = system.objective.missingness.logits(x)
    log_s = torch.where(seen, logits.sigmoid(), 1 - logits.sigmoid()).log().sum(-1)
    return log_x + log_s + step * (~seen).sum()


def rows(seen: torch.Tensor, count: int) -> Batch:
    return Batch.of(torch.where(seen, ROW, 0.0).expand(count, 2), seen.expand(count, 2))


def wide(count: int) -> DiagonalGaussian:
    """Wider than the prior."""
    return DiagonalGaussian(*torch.tensor([0.2, 0.2], dtype=torch.float64).expand(count, 1, 2).unbind(-1))


@pytest.mark.statistical
@pytest.mark.parametrize("pattern", range(4))
@torch.no_grad()
def test_weights_of_data_and_mask_are_those_of_quadrature(pattern):
    """``E w = p(x_o, s)``, from a proposal wider than the prior: one deviate of 100,000 single draws."""
    system, seen = curved(), PATTERNS[pattern]
    exact = on_the_grid(system, seen).logsumexp((0, 1))
    bound = system.objective(system.model, wide(100_000), rows(seen, 100_000), 1)
    means("weights", (bound.surrogate - exact).exp())
    plain = (on_the_grid(curved(ConstantMissingness(2)), seen) + 2 * math.log(2)).logsumexp((0, 1))
    means("reported", (bound.value - plain).exp())


@pytest.mark.statistical
def test_the_gradient_is_that_of_quadrature():
    """Decoder and law, for each pattern with something missing: 11 deviates of 30 bounds of 2,000 draws.

    Such a bound is off by 1 / 4,000 of its spread squared, a sixteenth of the error of the mean of 30.
    """
    system = curved()
    parameters = [system.model.decoder.scale, *system.objective.missingness.parameters()]
    for seen in PATTERNS[1:]:
        exact, row = torch.autograd.grad(on_the_grid(system, seen).logsumexp((0, 1)), parameters), rows(seen, 1)
        found = [
            torch.autograd.grad(system.objective(system.model, wide(1), row, 2000).surrogate.sum(), parameters)
            for _ in range(30)
        ]
        flat = torch.stack([torch.cat([each.flatten() for each in one]) for one in found])
        expected = torch.cat([each.flatten() for each in exact])
        fixed = flat.std(0) < 1e-9  # of an observed value the law's slope is known
        torch.testing.assert_close(flat[0, fixed], expected[fixed])
        means("gradient", flat[:, ~fixed], expected[~fixed])


def test_another_estimator_moves_the_posterior_alone():
    """Doubly reparameterized: decoder and law have the same gradient, from the same draws."""
    system, seen, found = curved(), PATTERNS[1], []
    parameters = [system.model.decoder.scale, *system.objective.missingness.parameters()]
    for estimator in (Reparameterized(), DoublyReparameterized()):
        torch.manual_seed(0)
        bound = NotMiwae(system.objective.missingness, Iwae(estimator=estimator))(
            system.model, wide(5), rows(seen, 5), 4
        )
        found.append(torch.autograd.grad(bound.surrogate.sum(), parameters))
    for one, two in zip(*found, strict=True):
        torch.testing.assert_close(one, two)


@pytest.mark.statistical
@pytest.mark.parametrize("pattern", [1, 2, 3])
def test_what_is_missing_is_weighted_by_the_mask(pattern):
    """Mean, ends by the probability below them, and means of completed rows, by quadrature: up to 8 deviates.

    Weights are bounded, and so many effective draws err less than twice as much as as many equal ones.
    """
    system, seen, drawn = curved(), PATTERNS[pattern], 10_000
    with torch.no_grad():
        joint = on_the_grid(system, seen).flatten(0, 1) if pattern < 3 else on_the_grid(system, seen)
    found = conditionals(system, rows(seen, 1).x, seen.unsqueeze(0), drawn, 0.9, samples=40_000)
    assert found.effective[0] * 2 > 20_000
    for j in (~seen).nonzero()[:, 0].tolist():
        law = (joint.logsumexp(1 - j) if pattern == 3 else joint).softmax(0)
        mean, spread = (law * GRID).sum(), (law * GRID.square()).sum() - (law * GRID).sum().square()
        deviates("mean", (found.mean[0, j] - mean) / (2 * spread / found.effective[0]).sqrt())
        for end, tail in ((found.lower, 0.05), (found.upper, 0.95)):
            step = (GRID[1] - GRID[0]) / 2
            below = torch.from_numpy(_interpolated(GRID + step, law.cumsum(0), end[0, j]))
            deviates("ends", (below - tail) / (2 * tail * (1 - tail) / found.effective[0]).sqrt())
        both = (spread * (2 / found.effective[0] + 1 / drawn)).sqrt()
        deviates("drawn", (found.drawn[:, 0, j].mean() - mean) / both)
    assert torch.equal(found.drawn[:, 0, seen], ROW[seen].expand(drawn, -1))


def _interpolated(at, values, point):
    return np.asarray(np.interp(float(point), at.numpy(), values.numpy()))


@pytest.mark.statistical
def test_what_was_merely_left_out_is_not_weighted_by_the_mask():
    """As of a system without a law: the mean of p(x_2 | x_1), one deviate."""
    system, seen = curved(), PATTERNS[1]
    law = on_the_grid(curved(ConstantMissingness(2)), seen)[0].detach().softmax(0)
    mean, spread = (law * GRID).sum(), (law * GRID.square()).sum() - (law * GRID).sum().square()
    found = conditionals(system, rows(seen, 1).x, seen.unsqueeze(0), samples=40_000, by_mask=False)
    deviates("mean", (found.mean[0, 1] - mean) / (2 * spread / found.effective[0]).sqrt())


@pytest.mark.parametrize(
    "law",
    [
        ConstantMissingness(3),
        SelfMasking(3),
        SelfMasking(3, "larger"),
        SelfMasking(3, "smaller"),
        LinearMissingness(3),
        NetworkMissingness(3, nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 3))),
    ],
)
def test_laws_of_what_is_missing(law):
    """Sums to 1 over all masks, starts at the shares that were observed; slopes have the sign they should."""
    law, x = law.double(), torch.randn(5, 3, dtype=torch.float64)
    every = torch.cartesian_prod(*[torch.tensor([True, False])] * 3)
    mask = torch.rand(400, 3) < torch.tensor([0.2, 0.5, 1.0])
    law.start_at(mask)
    share = (mask.sum(0) + 0.5) / 401
    torch.testing.assert_close(law.logits(torch.zeros(3, dtype=torch.float64)).sigmoid(), share.double())
    for parameter in law.parameters():
        nn.init.normal_(parameter)
    log_p = law.log_prob(every, x.unsqueeze(1).expand(-1, 8, -1))
    torch.testing.assert_close(log_p.exp().sum(1), torch.ones(5, dtype=torch.float64))
    expected = torch.distributions.Bernoulli(logits=law.logits(x)).log_prob(every[2].double()).sum(-1)
    torch.testing.assert_close(log_p[:, 2], expected)
    if isinstance(law, SelfMasking) and law.lost:
        assert ((law.slope > 0) == (law.lost == "larger")).all()
        assert (law.logits(x + 1) < law.logits(x)).all() == (law.lost == "larger")


def test_what_has_no_answer_is_refused():
    with pytest.raises(ValueError, match="fill: expected one of zero, learned; got 'mean'"):
        encoder_with_gaps(SPEC, 2, 8, 1, "mean")
    with pytest.raises(ValueError, match=r"missingness: expected one of self, self-larger.* got 'mcar'"):
        missingness_for("mcar", 6, 8)
    with pytest.raises(ValueError, match="expects a likelihood whose draws have a path gradient, a Gaussian one"):
        not_miwae(SPEC, likelihood="student-t")
    with pytest.raises(ValueError, match="expected lost 'larger', 'smaller' or None; got 'more'"):
        SelfMasking(2, "more")
    with pytest.raises(ValueError, match="SelfMasking: expected examples of 3 values; got 2"):
        SelfMasking(3).log_prob(torch.ones(4, 2).bool(), torch.zeros(4, 2))
    with pytest.raises(ValueError, match="size must be 1 or more; got 0"):
        ConstantMissingness(0)
    model = LatentVariableModel(StandardNormal(1), nn.Linear(1, 2), Bernoulli(2))
    batch = Batch.of(torch.ones(3, 2), torch.eye(3, 2).bool())
    with pytest.raises(ValueError, match="draws have a path gradient, Gaussian or LogNormal; got Bernoulli"):
        NotMiwae(SelfMasking(2))(model, ConstantGaussian(1)(model, batch).posterior, batch)
