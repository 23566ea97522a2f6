"""What is missing given what was observed: against a Gaussian whose conditionals are known, and by quadrature."""

import math

import pytest
import torch
from torch import nn

import methods
from chance import deviates
from curvae.evaluation import (
    Conditionals,
    WeightedLatents,
    conditionals,
    draw_latents,
    engines_for,
    from_chains,
    from_encoder,
    from_modes,
    from_modes_and_encoder,
    from_one_mode,
    from_prior,
)
from curvae.evaluation.samples import conditionals as module
from curvae.evaluation.samples import engines
from curvae.inference import AmortizedGaussian, ConstantGaussian, Inference, Inferred, Laplace
from curvae.inference.inference import Continued
from curvae.likelihoods import Bernoulli, Categorical, Gaussian, Mixed, Ordinal, Poisson
from curvae.model import LatentVariableModel
from curvae.objectives import elbo
from curvae.posteriors import DiagonalGaussian
from curvae.priors import StandardNormal
from curvae.systems import LatentSystem, lossy_vae, nice
from curvae.typing import Batch, DataSpec

P, NOISE = 5, 0.5
MASK = torch.tensor([[True, False, True, True, False], [False, True, False, True, True], [True] * 4 + [False]])
GRID = torch.linspace(-9, 9, 4001, dtype=torch.float64)


def system(inference=None, noise=NOISE) -> LatentSystem:
    """PPCA of two latents; its posterior is exact, also where values are missing, unless another one is given."""
    model = LatentVariableModel(StandardNormal(2), nn.Linear(2, P), Gaussian(P, scale=noise))
    nn.init.normal_(model.decoder.weight)
    return LatentSystem(model, inference or Laplace(ConstantGaussian(2), steps=1), elbo).double()


def conditional(made, x, seen):
    """Mean and covariance of what is missing in one row, and the slope of its mean by z with the covariance of z."""
    weight, bias = made.model.decoder.weight.detach(), made.model.decoder.bias.detach()
    noise = float(made.model.likelihood.scale) ** 2
    covariance = weight @ weight.mT + noise * torch.eye(P, dtype=torch.float64)
    gain = covariance[~seen][:, seen] @ torch.linalg.inv(covariance[seen][:, seen])
    mean = bias[~seen] + gain @ (x[seen] - bias[seen])
    inner = torch.linalg.inv(torch.eye(2, dtype=torch.float64) + weight[seen].mT @ weight[seen] / noise)
    return (
        mean,
        covariance[~seen][:, ~seen] - gain @ covariance[seen][:, ~seen],
        weight[~seen] @ inner @ weight[~seen].mT,
    )


@pytest.mark.statistical
def test_they_are_the_conditionals_of_a_gaussian():
    """5 means, their 10 ends by the probability below them, and 5 means and 7 covariances of completed rows.

    Draws are from a wider law, whose weights are small in the tails: so many effective ones err less than as many equal
    ones.
    """
    made, count, drawn = system(), 20_000, 10_000
    x = made.model.sample(3)[0].detach()
    found = conditionals(made, x, MASK, drawn, 0.9, samples=count)
    assert torch.equal(found.mean[MASK], x[MASK])
    assert torch.equal(found.drawn[:, MASK], x[MASK].expand(drawn, -1))
    assert found.lower[MASK].isnan().all()
    assert (found.effective > count / 2).all()
    for row, (seen, count) in enumerate(zip(MASK, found.effective.tolist(), strict=True)):
        mean, covariance, spread = conditional(made, x[row], seen)
        scale = covariance.diagonal().sqrt()
        deviates("mean", (found.mean[row, ~seen] - mean) / (spread.diagonal() / count).sqrt())
        for end, tail in ((found.lower, 0.05), (found.upper, 0.95)):
            below = torch.special.ndtr((end[row, ~seen] - mean) / scale)
            deviates("ends", (below - tail) / math.sqrt(0.05 * 0.95 / count))
        ends = found.drawn[:, row, ~seen]
        both = math.sqrt(1 / count + 1 / drawn)
        deviates("mean of draws", (ends.mean(0) - mean) / (scale * both))
        of = (torch.outer(scale**2, scale**2) + covariance.square()).sqrt() * both
        deviates("covariance of draws", (torch.cov(ends.mT).reshape(covariance.shape) - covariance) / of)


@pytest.mark.statistical
@pytest.mark.parametrize("engine", [from_encoder, from_modes, from_one_mode, from_modes_and_encoder, from_prior])
def test_every_engine_gives_the_same_law(engine):
    """Means of z given what was observed, by the delta method: 6 normal deviates; the posterior is a wrong one here."""
    made = system(ConstantGaussian(2))
    x = made.model.sample(3)[0].detach()
    with torch.no_grad():
        found = engine(made, Batch.of(torch.where(MASK, x, 0.0), MASK), 40_000)
    weight, bias = made.model.decoder.weight.detach(), made.model.decoder.bias.detach()
    for row, seen in enumerate(MASK):
        precision = torch.eye(2, dtype=torch.float64) + weight[seen].mT @ weight[seen] / NOISE**2
        mean = torch.linalg.solve(precision, weight[seen].mT @ (x[row, seen] - bias[seen]) / NOISE**2)
        w = found.log_w[:, row].exp().unsqueeze(-1)
        stderr = (w * (found.z[:, row] - mean)).square().sum(0).sqrt()
        deviates("mean of z", ((w * found.z[:, row]).sum(0) - mean) / stderr)


class Wrong(Continued):
    """Another posterior, too wide, off, and without correlation: chains have something to correct."""

    def forward(self, model, batch):
        q = self.start(model, batch).posterior
        scale = q.covariance.diagonal(dim1=1, dim2=2).sqrt()
        return Inferred(DiagonalGaussian(q.mean + 0.3 * scale, (1.4 * scale).log()))


@pytest.mark.statistical
def test_chains_have_the_law_of_what_is_missing(monkeypatch):
    """Means and variances of z given what was observed: 12 deviates, by the effective number of states; by R-hat no
    chain is apart. Proposals know nothing of correlation,
    and are too wide and off."""
    monkeypatch.setattr(engines, "APART", 1)
    made = system(Wrong(Laplace(ConstantGaussian(2), steps=1)), noise=1.0)
    x = made.model.sample(3)[0].detach()
    with torch.no_grad():
        found = from_chains(made, Batch.of(torch.where(MASK, x, 0.0), MASK), 2000)
    assert (found.r_hat < 1.1).all()
    assert (found.effective > 50).all()
    weight, bias = made.model.decoder.weight.detach(), made.model.decoder.bias.detach()
    for row, (seen, count) in enumerate(zip(MASK, found.effective.tolist(), strict=True)):
        covariance = torch.linalg.inv(torch.eye(2, dtype=torch.float64) + weight[seen].mT @ weight[seen])
        mean = covariance @ weight[seen].mT @ (x[row, seen] - bias[seen])
        z, variance = found.z[:, row], covariance.diagonal()
        deviates("mean of z", (z.mean(0) - mean) / (variance / count).sqrt())
        deviates("variance of z", (z.var(0) / variance - 1) / math.sqrt(2 / count))


@pytest.mark.statistical
def test_chains_tell_the_law_of_columns_of_every_kind(monkeypatch):
    """A category and a count given one number, latents in the plane: their means by quadrature, six deviates."""
    monkeypatch.setattr(engines, "APART", 1)
    columns = [(Gaussian(1, scale=0.7), [0]), (Categorical(1, 3), [1]), (Poisson(1), [2])]
    model = LatentVariableModel(StandardNormal(2), nn.Linear(2, 5), Mixed(columns)).double()
    made = LatentSystem(model, wide(3), elbo).double()
    x, mask = torch.tensor([[0.8, 0.0, 0.0]], dtype=torch.float64), torch.tensor([[True, False, False]])
    found = conditionals(made, x, mask, 2000, samples=2000, by="chains")
    axis = torch.linspace(-6, 6, 301, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis).unsqueeze(1)
    with torch.no_grad():
        weight = model.log_joint(x, grid, mask).softmax(0)[:, 0]
        eta = model.decode(grid)[:, 0]
    shares = (weight.unsqueeze(-1) * eta[:, 1:4].softmax(-1)).sum(0)
    rate = eta[:, 4].exp()
    mean = (weight * rate).sum()
    variance = (weight * rate).sum() + (weight * rate.square()).sum() - mean.square()
    drawn, count = found.drawn[:, 0], found.effective.item()
    for k, share in enumerate(shares.tolist()):
        deviates("shares", ((drawn[:, 1] == k).double().mean() - share) / math.sqrt(2 * share * (1 - share) / count))
    deviates("counts", (drawn[:, 2].mean() - mean) / (2 * variance / count).sqrt())
    deviates("mean", (found.mean[0, 2] - mean) / (variance / count).sqrt())
    assert found.mean[0, 1] == shares.argmax()
    assert found.probability[0, 1] == pytest.approx(shares.max().item(), abs=5 / math.sqrt(count))
    assert found.r_hat < 1.1
    assert found.lower[0, 1].isnan()


def wide(size: int) -> AmortizedGaussian:
    """N(0, 1) whatever x."""
    found = AmortizedGaussian(nn.Linear(size, 4)).double()
    for parameter in found.parameters():
        nn.init.zeros_(parameter)
    return found


def test_chains_that_never_moved_are_flagged():
    """A proposal far from the posterior is never taken: R-hat is infinite, and nothing effective."""
    far = AmortizedGaussian(nn.Linear(P, 4)).double()
    with torch.no_grad():
        far.encoder.weight.zero_()
        far.encoder.bias.copy_(torch.tensor([40.0, 40.0, -5.0, -5.0]))
    made = system(far)
    x = made.model.sample(3)[0].detach()
    found = conditionals(made, x, MASK, by="chains", samples=40)
    assert (found.effective == 0).all()
    assert found.r_hat.isinf().all()


def test_misuse_of_the_words_for_engines():
    x = torch.zeros(2, 6)
    with pytest.raises(ValueError, match="by: expected one of modes, encoder, chains; got 'mode'"):
        conditionals(system(), x[:, :P].double(), MASK[:2], by="mode")
    with pytest.raises(ValueError, match="FlowDensity fills in by itself; leave 'chains' out"):
        conditionals(nice(DataSpec((6,)), hidden=8), x, x > 0, by="chains")
    assert [len(engines_for(word)) for word in ("modes", "encoder", "chains")] == [2, 1, 1]


@pytest.mark.statistical
def test_intervals_hold_what_they_say():
    """Of 1,000 rows, a cell each; what is missing is drawn by the model itself. 500 draws are off by 0.2 %."""
    made, count = system(), 1000
    x = made.model.sample(count)[0].detach()
    mask = torch.ones_like(x, dtype=torch.bool)
    mask[torch.arange(count), torch.randint(P, (count,))] = False
    found = conditionals(made, x, mask, level=0.9, samples=500)
    held = ((found.lower <= x) & (x <= found.upper))[~mask].double()
    deviates("coverage", (held.mean() - 0.9) / math.sqrt(0.9 * 0.1 / count))


@pytest.mark.statistical
def test_where_nothing_was_observed_it_is_the_prior_predictive():
    """Exactly, with draws of equal weight; an observed row beside it does not change that."""
    made, count = system(), 20_000
    x = made.model.sample(2)[0].detach()
    mask = torch.stack([torch.zeros(P, dtype=torch.bool), torch.ones(P, dtype=torch.bool)])
    found = conditionals(made, torch.where(mask, x, torch.nan), mask, samples=count)
    mean, covariance, spread = conditional(made, x[0], mask[0])
    deviates("mean", (found.mean[0] - mean) / (spread.diagonal() / count).sqrt())
    below = torch.special.ndtr((found.upper[0] - mean) / covariance.diagonal().sqrt())
    deviates("ends", (below - 0.95) / math.sqrt(0.05 * 0.95 / count))
    assert found.effective[0] == pytest.approx(count)
    assert found.effective[1].isnan()
    assert torch.equal(found.mean[1], x[1])


def test_an_encoder_that_never_saw_a_mask_spoils_nothing():
    """It sees zeros for what is missing, and its draws hardly count; from the modes or both the mean is right."""
    far = AmortizedGaussian(nn.Linear(P, 4)).double()
    nn.init.normal_(far.encoder.weight, std=3.0)
    made = system(far, noise=0.05)
    x = made.model.sample(3)[0].detach()
    batch = Batch.of(torch.where(MASK, x, 0.0), MASK)
    with torch.no_grad():
        assert (from_encoder(made, batch, 1000).effective < 100).all()
        both = from_modes_and_encoder(made, batch, 2000)
        assert (both.effective > 400).all()
    found = conditionals(made, x, MASK)
    assert (found.effective > 200).all()
    for row, seen in enumerate(MASK):
        mean, covariance, _ = conditional(made, x[row], seen)
        assert ((found.mean[row, ~seen] - mean).abs() < 0.3 * covariance.diagonal().sqrt()).all()


class Aside(Inference):
    """Beside the posterior of a system with a decoder of zeros, N(0, I), and too narrow."""

    def forward(self, model, batch):
        loc = torch.full((len(batch.x), 2), 0.5, dtype=torch.float64)
        return Inferred(DiagonalGaussian(loc, torch.full_like(loc, math.log(0.4))))


def test_a_mixture_of_proposals_keeps_the_weights_of_the_better_one():
    """In the tail of the narrow one p / q is without bound; over the mixture of both it is at most 2 p / r."""
    made = system(Aside())
    nn.init.zeros_(made.model.decoder.weight)
    with torch.no_grad():
        found = from_modes_and_encoder(made, Batch.of(torch.zeros(3, P, dtype=torch.float64), MASK), 4000)
    assert (found.effective > 2000).all()
    assert ((found.log_w.exp().unsqueeze(-1) * found.z).sum(0).abs() < 0.2).all()


def test_the_next_engine_is_asked_where_few_draws_are_left():
    """For these rows alone, and it is taken where it leaves more."""
    made, x = system(), torch.zeros(3, P, dtype=torch.float64)
    asked = []

    def first(system, batch, draws):
        log_w = torch.zeros(draws, len(batch.x), dtype=torch.float64)
        log_w[0, 1:] = 50.0
        return WeightedLatents.of(torch.ones(draws, len(batch.x), 2, dtype=torch.float64), log_w)

    def second(system, batch, draws):
        asked.append(len(batch.x))
        z = torch.full((draws + 7, len(batch.x), 2), 2.0, dtype=torch.float64)
        return WeightedLatents.of(z, torch.zeros(draws + 7, len(batch.x), dtype=torch.float64))

    found = draw_latents(made, Batch.of(x, MASK), 100, (first, second))
    assert asked == [2]
    torch.testing.assert_close(found.effective, torch.tensor([100.0, 107.0, 107.0], dtype=torch.float64))
    mean = (found.log_w.exp().unsqueeze(-1) * found.z).sum(0)[:, 0]
    torch.testing.assert_close(mean, torch.tensor([1.0, 2.0, 2.0], dtype=torch.float64))


def categories(likelihood) -> LatentSystem:
    model = LatentVariableModel(StandardNormal(1), nn.Linear(1, likelihood.size), likelihood)
    nn.init.normal_(model.decoder.weight, std=1.5)
    return LatentSystem(model, ConstantGaussian(1), elbo).double()


def by_quadrature(made, x, seen) -> torch.Tensor:
    """``p(z | x_observed)`` of one row on a grid, normalized."""
    with torch.no_grad():
        log_p = made.model.log_joint(x, GRID.reshape(-1, 1, 1), seen.unsqueeze(0))[:, 0]
    return log_p.softmax(0)


@pytest.mark.statistical
def test_columns_of_every_kind():
    """The most probable category with its probability, means of the others, in the columns' own order: 4 deviates."""
    parts = [(Categorical(1, 3), [2]), (Gaussian(2, scale=0.5), [0, 4]), (Bernoulli(1), [1]), (Poisson(1), [3])]
    made, count = categories(Mixed(parts)), 50_000
    x = torch.tensor([[0.7, 1.0, 2.0, 3.0, -0.4]], dtype=torch.float64)
    with torch.no_grad():
        eta = made.model.decode(GRID.reshape(-1, 1)).split([3, 2, 1, 1], -1)
    laws = {2: eta[0].softmax(-1), 1: eta[2].sigmoid(), 3: eta[3].exp(), 4: eta[1][:, 1:]}
    for column, of in laws.items():
        seen = torch.ones(5, dtype=torch.bool)
        seen[column] = False
        weight = by_quadrature(made, x, seen)
        expected = (weight.unsqueeze(-1) * of).sum(0)
        found = conditionals(made, x, seen.unsqueeze(0), samples=count)
        spread = ((weight.unsqueeze(-1) * (of - expected).square()).sum(0) / (found.effective / 4)).sqrt()
        if column == 2:
            assert found.mean[0, 2] == expected.argmax()
            assert found.lower[0, 2].isnan()
            value, expected, spread = found.probability[0, 2], expected.max(), spread[expected.argmax()]
        else:
            value = found.mean[0, column]
            assert found.lower[0, column] <= found.upper[0, column]
        deviates("mean", (value - expected) / spread)
    assert found.probability[0, 4].isnan()


def test_ordered_categories_are_the_most_probable_and_have_ends():
    made = categories(Ordinal(3, 4))
    x = torch.tensor([[1.0, 3.0, 2.0]], dtype=torch.float64)
    seen = torch.tensor([[True, True, False]])
    found = conditionals(made, x, seen, samples=50_000)
    with torch.no_grad():
        shares = made.model.likelihood._shares(made.model.decode(GRID.reshape(-1, 1)))[:, 2]
    expected = (by_quadrature(made, x, seen[0]).unsqueeze(-1) * shares).sum(0)
    assert found.probability[0, 2] == pytest.approx(expected.max().item(), abs=0.02)
    below = expected.cumsum(0)
    assert below[int(found.lower[0, 2])] > 0.04
    assert below[int(found.upper[0, 2])] > 0.94


def test_means_in_other_units_are_means_of_draws():
    """Of exp(x) that of a log-normal law, not exp of the mean of x."""
    made = system()
    x = made.model.sample(3)[0].detach()
    found = conditionals(made, x, MASK, samples=20_000, own=torch.exp)
    for row, seen in enumerate(MASK):
        mean, covariance, _ = conditional(made, x[row], seen)
        exact = (mean + covariance.diagonal() / 2).exp()
        torch.testing.assert_close(found.mean[row, ~seen], exact, rtol=0.15, atol=0)
        torch.testing.assert_close(found.mean[row, seen], x[row, seen].exp())


def test_weights_that_are_not_finite_count_nothing():
    z = torch.randn(3, 2, 1)
    log_w = torch.tensor([[0.0, torch.nan], [0.0, torch.inf], [-torch.inf, -torch.inf]])
    found = WeightedLatents.of(z, log_w)
    torch.testing.assert_close(found.effective, torch.tensor([2.0, 0.0]))
    assert found.resampled(4).shape == (4, 2, 1)
    assert found.log_w.exp().sum(0).allclose(torch.ones(2))


def test_it_repeats_and_runs_in_parts(monkeypatch):
    made = system()
    x = made.model.sample(7)[0].detach()
    mask = torch.rand(7, P) < 0.6
    one, two = (conditionals(made, x, mask, 3, samples=100) for _ in range(2))
    assert all(torch.equal(a.nan_to_num(), b.nan_to_num()) for a, b in zip(one, two, strict=True))
    monkeypatch.setattr(module, "MEMORY", 100 * 600)
    assert conditionals(made, x, mask, 3, samples=100).drawn.shape == (3, 7, P)


@pytest.mark.parametrize("name", [n for n in methods.SYSTEMS if n not in methods.PICTURES | {*methods.SEQUENCES}])
def test_every_system_fills_in(name, monkeypatch):
    """What was observed stays, and all else is a number, whatever the system was made for."""
    monkeypatch.setattr(module, "CHAINS", 3)
    made = methods.SYSTEMS[name]()
    x, mask = torch.randn(4, methods.P), torch.rand(4, methods.P) < 0.5
    mask[0], mask[1] = True, False
    found = conditionals(made, torch.where(mask, x, torch.nan), mask, draws=2, samples=40)
    assert isinstance(found, Conditionals)
    assert torch.equal(found.mean[mask], x[mask])
    assert found.mean.isfinite().all()
    assert found.drawn.isfinite().all()
    assert (found.lower <= found.upper)[~mask].all()


def test_a_system_that_fills_in_by_itself_does():
    x, mask = torch.randn(3, 4), torch.tensor([[True, False, True, False]] * 2 + [[True] * 4])
    found = conditionals(nice(DataSpec((4,)), hidden=8), x, mask, draws=2)
    assert found.effective.isnan().all()
    assert found.drawn.shape == (2, 3, 4)
    assert torch.equal(found.mean[2], x[2])


def test_what_has_no_answer_is_refused():
    made, x = system(), torch.zeros(3, P, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"level must be a probability in \(0, 1\); got 1.5"):
        conditionals(made, x, MASK, level=1.5)
    with pytest.raises(ValueError, match="draws must be 1 or more; got -1"):
        conditionals(made, x, MASK, draws=-1)
    with pytest.raises(ValueError, match="impute: x holds NaN or infinity where mask says that it was observed"):
        conditionals(made, x + torch.nan, MASK)
    pictures = lossy_vae(DataSpec((1, 2, 2)), latent=2, hidden=8, channels=4, layers=1, flows=0)
    with pytest.raises(ValueError, match="impute: expected a decoder of latents alone, got one that also sees x"):
        conditionals(pictures, torch.zeros(2, 1, 2, 2), torch.zeros(2, 1, 2, 2, dtype=torch.bool))
