"""Systems for data with holes: equal to others where nothing is missing, exact in a linear model."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.distributions import MultivariateNormal

import curvae
from chance import deviates, means
from curvae.data import from_array
from curvae.inference import AmortizedGaussian, ConstantGaussian, Laplace, MultimodalLaplace
from curvae.likelihoods import (
    Gaussian,
)
from curvae.model import LatentVariableModel
from curvae.networks import ColumnFront, FrontWithGaps
from curvae.objectives import (
    DoublyReparameterized,
    Iwae,
    StickingTheLanding,
    iwae,
    log_weights,
    monte_carlo_elbo,
)
from curvae.priors import StandardNormal
from curvae.systems import LatentSystem, missing_iwae, not_miwae
from curvae.systems import iwae as iwae_system
from curvae.typing import Batch, Conditions, DataSpec
from folders import folder
from zoo import LinearGaussian

P, SPEC = 6, DataSpec((6,))
SMALL = {"latent": 2, "hidden": 16, "samples": 4}


def holes(x: torch.Tensor, share: float = 0.6) -> Batch:
    mask = torch.rand(x.shape) < share
    mask[:, 0] = True
    return Batch.of(torch.where(mask, x, 0.0), mask)


def bound_of(system: LatentSystem, batch: Batch):
    torch.manual_seed(3)
    bound = system.bound(batch)
    system.zero_grad()
    bound.surrogate.mean().backward()
    return bound, [parameter.grad for parameter in system.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("gradient", ["standard", "dreg"])
@pytest.mark.parametrize("masked", [False, True])
def test_with_everything_observed_it_is_iwae_to_the_last_digit(gradient, masked):
    x = torch.randn(7, P)
    mask = torch.ones_like(x, dtype=torch.bool) if masked else None
    torch.manual_seed(0)
    ours = missing_iwae(SPEC, **SMALL, sees_mask=False, gradient=gradient)
    torch.manual_seed(0)
    theirs = iwae_system(SPEC, **SMALL, gradient=gradient)
    (one, slopes), (two, others) = (bound_of(each, Batch.of(x, mask)) for each in (ours, theirs))
    assert torch.equal(one.value, two.value)
    assert torch.equal(one.surrogate, two.surrogate)
    assert all(torch.equal(a, b) for a, b in zip(slopes, others, strict=True))


@pytest.mark.parametrize("fill", ["zero", "learned"])
def test_with_the_mask_seen_too(fill):
    """What says that nothing is missing is 0, so the same weights give the same; whatever is filled in elsewhere."""
    x = torch.randn(7, P, dtype=torch.float64)
    ours, theirs = missing_iwae(SPEC, **SMALL, fill=fill).double(), iwae_system(SPEC, **SMALL).double()
    ours.model.load_state_dict(theirs.model.state_dict())
    layers = [[each for each in s.inference.modules() if isinstance(each, nn.Linear)] for s in (ours, theirs)]
    with torch.no_grad():
        for to, of in zip(*layers, strict=True):
            to.weight[:, : of.in_features] = of.weight
            to.bias.copy_(of.bias)
        if fill == "learned":
            ours.inference.start.encoder[1].fill.fill_(5.0)
    torch.testing.assert_close(bound_of(ours, Batch.of(x))[0].value, bound_of(theirs, Batch.of(x))[0].value)


def test_nothing_that_is_missing_is_seen():
    """Whatever stands in a hole, bound and posterior are the same; what is learned to stand there is seen."""
    for system in (missing_iwae(SPEC, **SMALL, fill="learned"), not_miwae(SPEC, **SMALL)):
        batch = holes(torch.randn(7, P))
        other = batch._replace(x=torch.where(batch.mask, batch.x, 9.0))
        (one, slopes), (two, _) = (bound_of(system, each) for each in (batch, other))
        assert torch.equal(one.value, two.value)
        assert torch.equal(one.surrogate, two.surrogate)
        assert all(slope.isfinite().all() for slope in slopes)
    system = missing_iwae(SPEC, **SMALL, fill="learned")
    bound_of(system, batch)
    assert (system.inference.start.encoder[1].fill.grad[1:] != 0).all()


def test_the_encoder_sees_columns_of_every_kind_filled_in():
    columns = ColumnFront({("real", 2): [0, 3], ("category", 3): [1], ("count", 2): [2]})
    front = FrontWithGaps(4, columns, learned=True)
    with torch.no_grad():
        front.fill.copy_(torch.arange(6.0) + 10)
    x, gone = torch.tensor([[0.5, 2.0, 1.0, -1.0]]), torch.tensor([[0.0, 1.0, 0.0, 1.0]])
    log2 = math.log(2)
    expected = [0.5, 11.0, 12.0, 13.0, 14.0, log2]
    assert columns(x)[0].tolist() == pytest.approx([0.5, -1.0, 0.0, 0.0, 1.0, log2])
    assert front(torch.cat([x, gone], 1))[0].tolist() == pytest.approx([*expected, 0.0, 1.0, 0.0, 1.0])
    assert torch.equal(front(x), columns(x))
    assert front.size == 10
    assert FrontWithGaps(4, columns, indicators=False)(torch.cat([x, gone], 1)).shape == (1, 6)


class Observed:
    """A linear-Gaussian model with holes: the exact density and posterior of each row given what was observed."""

    def __init__(self, oracle: LinearGaussian, mask: torch.Tensor):
        self.batch = Batch.of(torch.where(mask, oracle.x, 0.0), mask)
        self.rows = [self._row(oracle, oracle.x[row], seen) for row, seen in enumerate(mask)]
        self.log_p = torch.stack([row[0] for row in self.rows])

    @staticmethod
    def _row(oracle, x, seen):
        weight, noise = oracle.weight[seen], oracle.scale**2
        eye = torch.eye(weight.shape[1], dtype=torch.float64)
        marginal = MultivariateNormal(oracle.bias[seen], oracle.marginal().covariance_matrix[seen][:, seen])
        precision = eye + weight.mT @ weight / noise
        mean = torch.linalg.solve(precision, weight.mT @ (x[seen] - oracle.bias[seen]) / noise)
        return marginal.log_prob(x[seen]), MultivariateNormal(mean, precision_matrix=precision)

    def narrow(self, z):
        """A density three times as narrow as the posterior over it: it bounds weights, with the same mean."""
        found = []
        for row, (_, law) in enumerate(self.rows):
            other = MultivariateNormal(law.mean, precision_matrix=3 * law.precision_matrix)
            found.append(other.log_prob(z[:, row]) - law.log_prob(z[:, row]))
        return torch.stack(found, 1)


@pytest.mark.parametrize("bound", [iwae, Iwae(estimator=DoublyReparameterized()), Iwae(estimator=StickingTheLanding())])
def test_at_the_exact_posterior_every_weight_is_the_density_of_what_was_observed(bound):
    """Laplace sees the mask in the likelihood alone; its covariance is full, and that of z given what was observed."""
    oracle = LinearGaussian()
    observed = Observed(oracle, torch.rand(8, 10) < 0.4)
    q = Laplace(ConstantGaussian(3), steps=1).double()(oracle.model, observed.batch).posterior
    for row, (_, law) in enumerate(observed.rows):
        torch.testing.assert_close(q.mean[row], law.mean, atol=1e-10, rtol=0)
        torch.testing.assert_close(q.covariance[row], law.covariance_matrix, atol=1e-10, rtol=0)
    assert (q.covariance[:, 0, 1] != 0).all()
    log_w = log_weights(oracle.model, observed.batch, q.draw(7))
    torch.testing.assert_close(log_w, observed.log_p.expand_as(log_w), atol=1e-10, rtol=0)
    for samples in (1, 5):
        value = bound(oracle.model, q, observed.batch, samples).value
        torch.testing.assert_close(value, observed.log_p, atol=1e-10, rtol=0)


@pytest.mark.statistical
@torch.no_grad()
def test_weights_of_its_own_encoder_are_proper_where_values_are_missing():
    """MCAR, 50 %: the evidence of 8 rows, 8 deviates; and the bound of 20,000 draws is that density, 8 deviates more.

    A narrow density over that of the posterior bounds the weights of an encoder that is not trained.
    """
    oracle = LinearGaussian(scale=2.0, spread=0.4)
    observed = Observed(oracle, torch.rand(8, 10) < 0.5)
    system = missing_iwae(DataSpec((10,)), latent=3, hidden=16).double()
    system.model = oracle.model
    for parameter in system.inference.start.encoder[-1].parameters():
        parameter.mul_(0.1)
    draws = system.inference(oracle.model, observed.batch).posterior.draw(20_000)
    log_w = log_weights(oracle.model, observed.batch, draws) - observed.log_p
    means("weights", (log_w + observed.narrow(draws.z)).exp())
    value = system.bound_by("inference", observed.batch).value
    assert (value < observed.log_p + 5).all()
    w = log_w.exp()
    deviates("bound", (log_w.logsumexp(0) - math.log(len(w))) / (w.std(0) / w.mean(0) / math.sqrt(len(w))))


@pytest.mark.parametrize("gradient", ["standard", "stl", "dreg"])
def test_a_constant_law_adds_a_constant(gradient):
    """The same gradient of model and encoder, too; and what is reported has no share of it."""
    ours = not_miwae(SPEC, **SMALL, missingness="constant", gradient=gradient).double()
    theirs = missing_iwae(SPEC, **SMALL, gradient=gradient).double()
    theirs.load_state_dict({n: v for n, v in ours.state_dict().items() if not n.startswith("objective")})
    batch = holes(torch.randn(7, P, dtype=torch.float64))
    with torch.no_grad():
        ours.objective.missingness.offset.copy_(torch.linspace(-1, 1, P, dtype=torch.float64))
    (one, _), (two, _) = (bound_of(each, batch) for each in (ours, theirs))
    share = torch.linspace(-1, 1, P, dtype=torch.float64).sigmoid()
    constant = torch.where(batch.mask, share, 1 - share).log().sum(1)
    torch.testing.assert_close(one.surrogate, two.surrogate + constant, atol=1e-12, rtol=0)
    torch.testing.assert_close(one.info["joint"], one.surrogate)
    for (name, a), b in zip(ours.model.named_parameters(), theirs.model.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=name)
    for a, b in zip(ours.inference.parameters(), theirs.inference.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_a_fit_starts_at_the_linear_model_and_at_the_shares_observed():
    x = torch.randn(300, P) @ torch.randn(P, P)
    data = from_array(torch.where(torch.rand(300, P) < torch.linspace(0.4, 1, P), x, torch.nan).numpy(), missing="mask")
    system = not_miwae(data.spec, latent=2, hidden=16)
    (stage,) = system.stages()
    stage.start(system, data)
    assert stage.monitor == "surrogate"
    shares = (data.train.mask.sum(0) + 0.5) / (len(data.train) + 1)
    torch.testing.assert_close(system.objective.missingness.offset.sigmoid(), shares)


class Square(nn.Module):
    def forward(self, z):
        return torch.cat([z.square(), 3 * z], -1)


def test_modes_that_only_a_missing_value_leaves_open_are_all_found():
    """x = (z^2, 3 z): with both observed one mode, with the first alone two, and with neither the prior's one."""
    model = LatentVariableModel(StandardNormal(1), Square(), Gaussian(2, scale=0.1)).double()
    mask = torch.tensor([[True, True], [True, False], [False, False]])
    batch = Batch.of(torch.where(mask, torch.tensor([2.25, 4.5], dtype=torch.float64), 0.0), mask)
    start = AmortizedGaussian(nn.Linear(2, 2)).double()
    found = MultimodalLaplace(start, components=8)(model, batch)
    assert found.info["modes"].tolist() == pytest.approx([1, 2, 1], abs=1e-3)
    grid = torch.linspace(-5, 5, 20_001, dtype=torch.float64).reshape(-1, 1, 1).expand(-1, 3, -1)
    law = model.log_joint(batch.x, grid, batch.mask).softmax(0)
    moments = [(law * grid[..., 0] ** power).sum(0) for power in (1, 2)]
    torch.testing.assert_close(found.posterior.mean[:, 0], moments[0], atol=2e-3, rtol=0)
    second = found.posterior.covariance[:, 0, 0] + found.posterior.mean[:, 0].square()
    torch.testing.assert_close(second, moments[1], atol=0.02, rtol=0)
    value = monte_carlo_elbo(model, found.posterior, batch, 4000).value
    evidence = model.log_joint(batch.x, grid, batch.mask).logsumexp(0) + math.log(10 / 20_000)
    torch.testing.assert_close(value, evidence, atol=0.01, rtol=0)


def test_rows_given_some_columns_conclude_nothing_from_the_others(tmp_path):
    """The columns that are not given were left out, and did not go missing: whatever the law, the rows are the same."""
    data = from_array(torch.randn(60, 3).numpy())
    system = not_miwae(data.spec, latent=2, hidden=8)
    found = []
    for slope in (0.0, 9.0):
        nn.init.constant_(system.objective.missingness.weight, slope)
        fitted = curvae.load(folder(tmp_path / str(slope), system, data).path)
        found.append(fitted.sample(5, given={"0": 0.3}))
    np.testing.assert_array_equal(*found)
    holes = torch.tensor([[0.3, torch.nan, torch.nan]]).numpy()
    assert (fitted.impute(holes) != curvae.load(tmp_path / "0.0").impute(holes))[0, 1:].all()


def test_an_encoder_that_sees_the_mask_takes_no_more_of_a_row():
    """Covariates and errors would have to be told from what says which values are missing."""
    with pytest.raises(ValueError, match="expected a system whose encoder can be given it, got one of SeesMask"):
        missing_iwae(SPEC._replace(given=Conditions(covariates=2)), **SMALL)
