"""Systems whose density is exact: volume against autograd, ways back, total mass, starts, what is missing, misuse."""

import logging

import pytest
import torch

import methods
from chance import deviates, within
from curvae.data import Data, from_array
from curvae.dynamics import Completions, complete, linear_completions, noisy_ascent
from curvae.flows import Additive, Autoregressive, Composed, Radial, Whitening
from curvae.likelihoods import Gaussian
from curvae.linear import LinearGaussian
from curvae.networks import MLP
from curvae.priors import StandardLogistic
from curvae.systems import CanImpute, CanReconstruct, CanSample, FlowDensity, HasDensity, HasModel, Stage, flow_ae, nice
from curvae.systems.core_shell import start_at_core
from curvae.systems.flow_density import rank_for, ranks
from curvae.typing import Batch, DataSpec

F64 = torch.float64
NEAR = 0.2
"""Nats, as in ``test_starts``."""


@pytest.fixture(params=methods.DENSITIES)
def make(request):
    return methods.DENSITIES[request.param]


def shaken(system: FlowDensity, by: float = 0.3) -> FlowDensity:
    """With weights that are not those of the start, and volumes that are not 0."""
    for value in system.parameters():
        value.data += by * torch.randn_like(value)
    return system.double().requires_grad_(False)


def of_size(make, *event: int, by: float = 0.3) -> FlowDensity:
    system = make(DataSpec(event)).double()
    system.stages()[0].start(system, table(*event))
    return shaken(system, by)


def table(*event: int, rows: int = 200, noise: str = "element") -> Data:
    """Correlated rows of several scales, off 0."""
    size = torch.Size(event).numel()
    x = torch.randn(rows, 2) @ torch.randn(2, size) + 0.4 * torch.randn(rows, size)
    return from_array((x * torch.linspace(0.5, 2, size) + 1).reshape(rows, *event), standardize=False)


def with_covariance(matrix: torch.Tensor) -> Whitening:
    """What whitens N(0, matrix) exactly."""
    size = len(matrix)
    noise = 0.9 * torch.linalg.eigvalsh(matrix)[0]
    values, vectors = torch.linalg.eigh(matrix - noise * torch.eye(size, dtype=F64))
    flow = Whitening(size, size).double()
    flow.start_from(LinearGaussian.rotated(matrix.new_zeros(size), vectors * values.sqrt(), noise.expand(size)))
    return flow


def gaussian(size: int) -> tuple[FlowDensity, torch.Tensor]:
    """A linear NICE: its law is N(0, covariance)."""
    turn = torch.linalg.qr(torch.randn(size, size, dtype=F64))[0]
    covariance = turn * torch.linspace(0.3, 2, size, dtype=F64) @ turn.mT
    system = nice(DataSpec((size,)), couplings=1, hidden=4, depth=1, base="normal").double().requires_grad_(False)
    system.flow.flows[0] = with_covariance(covariance)
    return system, covariance


def flows_of(size: int) -> list:
    networks = [MLP((size + 1 - k % 2) // 2, [8], (size + k % 2) // 2) for k in range(3)]
    additive = Additive(size, networks)
    torch.nn.init.normal_(additive.log_scale)
    white = with_covariance(torch.cov(torch.randn(size, 9, dtype=F64)) + 0.1 * torch.eye(size, dtype=F64))
    steps = Autoregressive(size, 0, 2, [8])
    return [flow.double() for flow in (additive, white, Composed([white, additive, steps]))]


@pytest.mark.parametrize("size", [2, 3, 6])
def test_volumes_are_those_of_autograd_and_ways_back_lead_back(size):
    for flow in flows_of(size):
        x = torch.randn(5, 4, size, dtype=F64)
        moved = flow(x)
        slope = torch.func.jacrev(lambda at, f=flow: f(at.reshape(1, 1, size)).z.reshape(size))(x[0, 0])
        sign, log_det = torch.linalg.slogdet(slope)
        assert sign == 1
        torch.testing.assert_close(moved.log_det[0, 0], log_det, atol=1e-9, rtol=1e-9)
        back = flow.inverse(moved.z)
        torch.testing.assert_close(back.z, x, atol=1e-8, rtol=1e-8)
        torch.testing.assert_close(back.log_det, -moved.log_det)


def test_couplings_keep_volume_and_the_scale_alone_changes_it():
    flow = Additive(5, [MLP(3, [8], 2), MLP(2, [8], 3)]).double()
    assert (flow(torch.randn(3, 2, 5, dtype=F64)).log_det == 0).all()
    flow.log_scale.data = torch.tensor([0.1, -0.2, 0.3, 1.0, 50.0], dtype=F64)
    total = flow(torch.randn(1, 1, 5, dtype=F64)).log_det.item()
    assert total == pytest.approx(1.2 + 7, abs=0.01), "softly bounded at 7"


def test_flows_start_at_the_identity():
    x = torch.randn(2, 3, 4, dtype=F64)
    for flow in flows_of(4)[:2]:
        assert flow.start_at_identity(flow.log_scale if isinstance(flow, Additive) else flow.mean, x) == 0
        torch.testing.assert_close(flow(x).z, x)
        torch.testing.assert_close(flow(x).log_det, torch.zeros(2, 3, dtype=F64))


def test_whitening_is_the_linear_model_and_keeps_the_strongest():
    model = LinearGaussian.rotated(
        torch.randn(6, dtype=F64), torch.randn(6, 3, dtype=F64), torch.rand(6).double() + 0.1
    )
    whole, part = Whitening(6, 5).double(), Whitening(6, 1).double()
    for flow in (whole, part):
        flow.start_from(model)
    x = torch.randn(1, 7, 6, dtype=F64)
    normal = torch.distributions.Normal(torch.zeros((), dtype=F64), 1.0)
    for flow, weight in ((whole, model.weight), (part, model.weight[:, :1])):
        h = flow(x)
        expected = LinearGaussian(model.mean, weight, model.noise).log_prob(x[0])
        torch.testing.assert_close((normal.log_prob(h.z).sum(-1) + h.log_det)[0], expected)


@pytest.mark.parametrize("event", [(6,), (1, 2, 2)])
def test_log_prob_is_by_change_of_variables(make, event):
    system = of_size(make, *event)
    x = torch.randn(4, *event, dtype=F64)
    for row, found in zip(x, system.log_prob(x), strict=True):
        size = row.numel()
        h = system.flow(row.reshape(1, 1, size)).z[0]
        slope = torch.func.jacrev(lambda at: system.flow(at.reshape(1, 1, -1)).z.flatten())(row.flatten())
        torch.testing.assert_close(found, system.prior.log_prob(h)[0] + torch.linalg.slogdet(slope)[1])
    assert torch.equal(system.bound(Batch.of(x)).value, system.log_prob(x))


def test_the_mass_in_two_dimensions_is_one(make):
    system = of_size(make, 2, by=0.2)
    middle, wide = system.sample(4000).mean(0), 12 * system.sample(4000).std(0)
    axes = [torch.linspace(float(m - w), float(m + w), 801, dtype=F64) for m, w in zip(middle, wide, strict=True)]
    cell = (axes[0][1] - axes[0][0]) * (axes[1][1] - axes[1][0])
    mass = (system.log_prob(torch.cartesian_prod(*axes)).exp() * cell).sum().item()
    assert mass == pytest.approx(1, abs=2e-3)


@pytest.mark.statistical
def test_samples_have_the_density():
    """The mean of exp(log q - log p) over draws of p is 1 for any density q: here a wide normal in two dimensions."""
    system = of_size(methods.DENSITIES["nice"], 2, by=0.2)
    x = system.sample(20_000)
    q = torch.distributions.MultivariateNormal(x.mean(0), 0.3 * torch.cov(x.mT))
    ratio = (q.log_prob(x) - system.log_prob(x)).exp()
    deviates("mean ratio", (ratio.mean() - 1) / (ratio.std() / len(x) ** 0.5))


def test_what_a_density_can_do(make):
    system = make(DataSpec((6,)))
    for each in (HasDensity, CanSample, CanImpute):
        assert isinstance(system, each)
    assert not isinstance(system, HasModel)
    x, mask = torch.randn(3, 6), torch.rand(3, 6) < 0.5
    filled = system.impute(x, mask, 2, torch.Generator().manual_seed(0))
    assert filled.shape == (2, 3, 6)
    assert torch.equal(filled[:, mask], x[mask].expand(2, -1))
    assert filled.isfinite().all()
    if isinstance(system, CanReconstruct):
        assert system.reconstruct(x).shape == x.shape


@pytest.mark.parametrize("noise", ["shared", "element"])
def test_before_the_first_step_nice_is_the_best_of_several_linear_models(noise):
    data = table(7)
    system, near = (nice(data.spec._replace(noise=noise), hidden=16, base=b).double() for b in ("normal", "logistic"))
    for each in (system, near):
        each.stages()[0].start(each, data)
    fits = [fit for size in ranks(7) for fit in Gaussian(7, learn=noise).linear_fits(data.train.x, size)]
    held_out = data.validation.x.double()
    model = max(fits, key=lambda fit: float(fit.log_prob(held_out).mean()))
    x = data.test.x.double()
    torch.testing.assert_close(system.log_prob(x), model.log_prob(x), atol=1e-10, rtol=0)
    assert (near.log_prob(x) - model.log_prob(x)).mean().abs() < NEAR, "a logistic base of the same variance"


@pytest.mark.parametrize("latent", [1, 3])
@pytest.mark.parametrize("noise", ["shared", "element"])
def test_before_the_first_step_core_and_shell_are_the_linear_model(noise, latent):
    data = table(7)
    system = flow_ae(data.spec._replace(noise=noise), latent=latent, hidden=16).double()
    system.stages()[0].start(system, data)
    fits = Gaussian(7, learn=noise).linear_fits(data.train.x, latent)
    held_out = data.validation.x.double()
    model = max(fits, key=lambda fit: float(fit.log_prob(held_out).mean()))
    x = data.test.x.double()
    torch.testing.assert_close(system.log_prob(x), model.log_prob(x), atol=1e-9, rtol=0)


def test_unused_codes_and_other_cores_start_there_too():
    """More codes than the data have directions, of a picture and from its corners."""
    data = table(1, 3, 4)
    for core in ("center", "corners"):
        system = flow_ae(data.spec, latent=6, hidden=32, core=core).double()
        model = Gaussian(data.spec.event, learn="shared").linear_fits(data.train.x, 3)[0]
        start_at_core(system.flow, model)
        x = data.test.x.double()
        torch.testing.assert_close(system.log_prob(x), model.log_prob(x.flatten(1)), atol=1e-9, rtol=0)


def test_narrow_networks_and_a_random_start_have_the_right_scales(caplog):
    data = table(8)
    for options in ({"hidden": 2}, {"start": "random", "hidden": 16}):
        with caplog.at_level(logging.INFO, "curvae"):
            system = flow_ae(data.spec, latent=2, **options).double()
            system.stages()[0].start(system, data)
        variance = data.train.x[:, system.flow.shell].var(0, unbiased=False)
        torch.testing.assert_close(system.flow.sigma.float().square(), variance, rtol=1e-3, atol=0)
        core = system.flow.inner.flows[0](data.train.x[:, system.flow.core].double().unsqueeze(1)).z.squeeze(1)
        torch.testing.assert_close(core.std(0, unbiased=False), torch.ones(2, dtype=F64), rtol=1e-4, atol=0)
    assert caplog.messages == ["flow-ae starts at random: its networks are too narrow for a linear model."]


def test_a_reconstruction_has_the_code_and_no_noise():
    system = of_size(methods.DENSITIES["flow-ae"], 8, by=0.05)
    x = torch.randn(5, 8, dtype=F64)
    before, after = (system.flow(value.unsqueeze(1)).z.squeeze(1) for value in (x, system.reconstruct(x)))
    torch.testing.assert_close(after, torch.cat([before[:, :2], torch.zeros(5, 6, dtype=F64)], 1), atol=1e-7, rtol=0)
    shell = system.flow.decoder(system.flow.outer.inverse(before[:, None, :2]).z.squeeze(1))
    torch.testing.assert_close(system.reconstruct(x)[:, system.flow.shell], shell)


@pytest.mark.parametrize("base", ["normal", "logistic"])
def test_or_each_column_by_itself(base):
    data = table(5)
    system = nice(data.spec, hidden=16, base=base, start="columns").double()
    system.stages()[0].start(system, data)
    h = system.flow(data.train.x.double().unsqueeze(1)).z.squeeze(1)
    deviation = StandardLogistic.DEVIATION if base == "logistic" else 1.0
    torch.testing.assert_close(h.mean(0), torch.zeros(5, dtype=F64), atol=1e-6, rtol=0)
    torch.testing.assert_close(h.std(0, unbiased=False), torch.full((5,), deviation, dtype=F64), atol=1e-6, rtol=1e-6)
    assert torch.linalg.matrix_norm(torch.corrcoef(h.mT) - torch.corrcoef(data.train.x.double().mT)) < 1e-5


def conditional(covariance: torch.Tensor, x: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and covariance of what is missing in one row."""
    gain = covariance[~mask][:, mask] @ torch.linalg.inv(covariance[mask][:, mask])
    return gain @ x[mask], covariance[~mask][:, ~mask] - gain @ covariance[mask][:, ~mask]


MASK = torch.tensor([[True, False, True, False], [False, True, True, True]])


@pytest.mark.statistical
def test_missing_values_are_draws_of_the_conditional():
    """1,000 chains of a linear NICE: means and variances are normal deviates, 6 of them; 3e-6 of the seeds fail."""
    system, covariance = gaussian(4)
    x, count = system.sample(2), 1000
    filled = system.impute(x, MASK, count, torch.Generator().manual_seed(int(torch.randint(2**31, ()))))
    for row in range(2):
        mean, spread = conditional(covariance, x[row], MASK[row])
        ends, variance = filled[:, row, ~MASK[row]], spread.diagonal()
        deviates("means", (ends.mean(0) - mean) / (variance / count).sqrt())
        deviates("variances", (ends.var(0) / variance - 1) / (2 / count) ** 0.5)


class Bend(torch.nn.Module):
    """A coupling that is no network: half of the square."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 0.5 * x.square()


@pytest.mark.statistical
def test_missing_values_of_a_bent_density_too():
    """Against quadrature over the missing value; 2,000 chains that begin at a linear law, which is wrong."""
    bent = Additive(2, [Bend()])
    system = FlowDensity((2,), bent, StandardLogistic(2), (Stage("train"),)).double().requires_grad_(False)
    x, mask = torch.tensor([[0.0, 1.0]], dtype=F64), torch.tensor([[False, True]])
    grid = torch.linspace(-9, 9, 4001, dtype=F64)
    density = system.log_prob(torch.stack([grid, torch.ones_like(grid)], 1)).exp()
    weight = density / density.sum()
    square = (weight * grid.square()).sum()
    fourth = (weight * grid.pow(4)).sum()
    ends = system.impute(x, mask, 2000, torch.Generator().manual_seed(int(torch.randint(2**31, ()))))[:, 0, 0]
    deviates("mean", ends.mean() / (square / len(ends)).sqrt())
    deviates("square", (ends.square().mean() - square) / ((fourth - square**2) / len(ends)).sqrt())


@pytest.mark.statistical
def test_completions_begin_at_the_linear_law():
    """Of 20,000 normal draws: the errors of a mean and of its deviation are those of the ridge and of the moments."""
    system, covariance = gaussian(4)
    x = system.sample(2)
    start = linear_completions(system.sample(20_000), x, MASK, 4000, torch.Generator().manual_seed(0))
    for row in range(2):
        mean, spread = conditional(covariance, x[row], MASK[row])
        scale = spread.diagonal().sqrt()
        ends = start.x[:, row, ~MASK[row]]
        within("mean, deviations", ((ends.mean(0) - mean) / scale).abs().max(), 0.25)
        within("deviation", (start.deviation[row, ~MASK[row]] / scale - 1).abs().max(), 0.1)
    assert torch.equal(start.x[:, MASK], x[MASK].expand(4000, -1))


@pytest.mark.statistical
def test_the_published_ascent_ends_at_the_conditional_mode():
    """A linear NICE, 2,000 steps: then it strays by a fifteenth of a deviation."""
    system, covariance = gaussian(4)
    x = system.sample(2)
    found = noisy_ascent(system.log_prob, torch.zeros(1, 2, 4, dtype=F64).where(~MASK, x), MASK, 2000, -50.0, 50.0)
    for row in range(2):
        mean, spread = conditional(covariance, x[row], MASK[row])
        within("deviations", ((found[0, row, ~MASK[row]] - mean) / spread.diagonal().sqrt()).abs().max(), 0.5)
    assert torch.equal(found[0, MASK], x[MASK])


def test_the_ascent_keeps_its_bounds_and_its_steps():
    flat = lambda x: 0 * x.sum(-1)  # noqa: E731
    noise = torch.randn(1, 1, 2, generator=torch.Generator().manual_seed(3))
    mask, x = torch.tensor([[True, False]]), torch.full((1, 1, 2), 0.5)
    one = noisy_ascent(flat, x, mask, 1, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(one[0, 0], torch.tensor([0.5, float((0.5 + 0.1 * noise[0, 0, 1]).clamp(0, 1))]))
    steep = lambda x: 1e6 * x.sum(-1)  # noqa: E731
    assert noisy_ascent(steep, x, mask, 5)[0, 0].tolist() == [0.5, 1.0]


@pytest.mark.parametrize("call", [complete, noisy_ascent])
def test_steps_that_are_none_are_refused(call):
    start = torch.zeros(1, 1, 2)
    given = Completions(start, torch.ones(1, 2)) if call is complete else start
    with pytest.raises(ValueError, match="steps must be 1 or more; got 0"):
        call(lambda x: -x.square().sum(-1), given, torch.tensor([[True, False]]), steps=0)


def test_holes_are_refused_in_one_line(make):
    system = make(DataSpec((6,)))
    mask = torch.ones(3, 6, dtype=torch.bool)
    assert system.log_prob(torch.zeros(3, 6), mask).shape == (3,)
    mask[0, :2] = False
    with pytest.raises(ValueError, match=r"Density: expected data without missing values, got 2: a part of an"):
        system.log_prob(torch.zeros(3, 6), mask)
    x = table(6).train.raw.clone()
    x[0, 0] = torch.nan
    with pytest.raises(
        ValueError, match=r"(nice|flow-ae): expected data without missing values, got \d+: .* Fill them in"
    ):
        system.stages()[0].start(system, from_array(x, missing="mask"))


def test_a_value_that_comes_again_and_again_is_spoken_of(caplog):
    x = torch.randn(100, 3)
    x[:, 1] = x[:, 1].round()
    with caplog.at_level(logging.WARNING, "curvae"):
        for raw in (x, torch.randn(100, 3), torch.rand(100, 2, 2, 1).round()):
            data = from_array(raw, support="real")
            system = nice(data.spec, hidden=8)
            system.stages()[0].start(system, data)
    line, of_pictures = caplog.messages
    assert line.startswith("nice: 1 of 3 elements have one and the same value in more than a fifth of the rows: ")
    assert line.endswith(" Leave out columns of a few values, as classes are.")
    assert of_pictures.endswith(" Dequantize pictures.")


def test_misuse(make):
    with pytest.raises(ValueError, match=r"(nice|flow-ae) expects examples of 2 elements or more; got 1"):
        make(DataSpec((1,)))
    with pytest.raises(ValueError, match="start: expected linear or columns; got 'random'"):
        nice(DataSpec((6,)), start="random")
    with pytest.raises(ValueError, match="start: expected linear or random; got 'columns'"):
        flow_ae(DataSpec((6,)), start="columns")
    for latent in (0, 4):
        with pytest.raises(
            ValueError, match=f"flow-ae: latent must be from 1 to 3, half of the elements; got {latent}"
        ):
            flow_ae(DataSpec((6,)), latent=latent)
    with pytest.raises(ValueError, match="couplings must be 1 or more; got 0"):
        nice(DataSpec((6,)), couplings=0)
    with pytest.raises(ValueError, match="Additive: size must be 2 or more; got 1"):
        Additive(1, [MLP(1, [8], 1)])
    for flows in ([Whitening(2, 0), Whitening(3, 0)], [Radial(2)], []):
        with pytest.raises(ValueError, match="Composed: expected flows of one size and without context"):
            Composed(flows)
    assert rank_for(784) == 256
