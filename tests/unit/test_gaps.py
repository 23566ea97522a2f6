"""The split of the inference gap: closed forms on a linear model, files, and the command."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from curvae.cli import main
from curvae.data import ArrayTable, from_array
from curvae.distributions.gaussian import pack
from curvae.evaluation import Estimate, Gaps, gaps
from curvae.evaluation.gaps.gaps import amortization, measure_gap_terms, summary
from curvae.evaluation.gaps.results import MEMBERS
from curvae.evaluation.gaps.variational_families import best_diagonal_gaussian, elbo_of, fit_families
from curvae.inference import Inferred
from curvae.inference.inference import Inference
from curvae.objectives import elbo
from curvae.posteriors import DiagonalGaussian, FullGaussian, Mixture, PrecisionGaussian, kl
from curvae.systems import LatentSystem, direct_vae, mixture_vae, planar_vae, vae
from folders import folder
from zoo import D, LinearGaussian

SHIFT, WIDEN = 0.3, 0.2


class Given(Inference):
    """A Gaussian of the linear model that is off in a known way."""

    def __init__(self, exact: LinearGaussian, kind: str, shift: float = SHIFT):
        super().__init__()
        self.exact, self.kind, self.shift = exact, kind, shift

    def forward(self, model, batch) -> Inferred:
        precision = self.exact.precision()
        mean = torch.linalg.solve(precision, self.exact.weight.mT @ (batch.x - self.exact.bias).mT / 0.3**2).mT
        off = self.shift * (batch.x[:, :1] > self.exact.bias[0]).double()  # worse for some data
        if self.kind == "diagonal":
            scale = -0.5 * precision.diagonal().log().expand_as(mean)
            return Inferred(DiagonalGaussian(mean + off, scale + WIDEN * (off > 0)))
        factor = torch.linalg.cholesky(precision).expand(len(mean), -1, -1)
        exact = PrecisionGaussian(mean + off, factor)
        if self.kind == "precision":
            return Inferred(exact)
        return Inferred(FullGaussian(exact.loc, pack(torch.linalg.cholesky(exact.covariance))))


def linear(kind: str, shift: float = SHIFT) -> tuple[LatentSystem, ArrayTable, LinearGaussian]:
    torch.manual_seed(0)
    exact = LinearGaussian(count=12)
    return LatentSystem(exact.model, Given(exact, kind, shift), elbo), ArrayTable(exact.x), exact


def posterior_of(exact: LinearGaussian) -> PrecisionGaussian:
    return PrecisionGaussian(exact.mean(), torch.linalg.cholesky(exact.precision()).expand(len(exact.x), -1, -1))


def mean_field(exact: LinearGaussian) -> float:
    """``KL(q* || p) = 1/2 (sum_d log Lam_dd - log det Lam)`` of the best diagonal Gaussian."""
    precision = exact.precision()
    return 0.5 * float(precision.diagonal().log().sum() - precision.logdet())


def test_a_linear_model_with_a_diagonal_posterior_meets_the_closed_forms():
    system, table, exact = linear("diagonal")
    found = measure_gap_terms(system, table, steps=80, samples=1000)
    assert found["log_likelihood"] == pytest.approx(exact.log_evidence().numpy(), abs=0.1)
    truth = posterior_of(exact)
    own = system.inference(system.model, exact.batch).posterior
    inference = kl(own, truth)[:, 0].detach().numpy()
    got = summary(found)
    assert inference.std() > 0.05
    assert got.inference.value == pytest.approx(inference.mean(), abs=5 * got.inference.monte_carlo)
    assert got.approximation.value == pytest.approx(mean_field(exact), abs=0.02)
    assert got.amortization.value == pytest.approx(inference.mean() - mean_field(exact), abs=0.05)
    assert got.inference.value == pytest.approx(got.approximation.value + got.amortization.value)
    assert got.members["full"].gap.value == pytest.approx(0.0, abs=0.01)
    assert got.members["diagonal"].gap == got.members["best"].gap
    assert found["error_laplace"].max() < 1e-8  # its weights are all equal
    assert got.members["laplace"].gap.value == pytest.approx(0, abs=4 * got.log_likelihood.monte_carlo)


@pytest.mark.parametrize("kind", ["precision", "full"])
def test_a_full_posterior_has_nothing_but_an_amortization_gap(kind: str):
    system, table, exact = linear(kind)
    got = summary(measure_gap_terms(system, table, steps=60, samples=500))
    inference = kl(system.inference(system.model, exact.batch).posterior, posterior_of(exact)).mean()
    assert got.approximation.value == pytest.approx(0, abs=0.01)
    assert got.amortization.value == pytest.approx(float(inference), abs=5 * got.amortization.monte_carlo)
    assert got.members["diagonal"].gap.value == pytest.approx(mean_field(exact), abs=0.02)


def test_an_exact_posterior_has_no_gap_and_is_not_made_worse():
    system, table, _ = linear("precision", shift=0.0)
    found = measure_gap_terms(system, table, steps=50, samples=500)
    got = summary(found)
    assert abs(got.inference.value) < 0.01
    assert abs(got.amortization.value) < 0.01
    assert got.warnings == ()


def test_the_encoders_generalization_is_the_difference_of_two_tables():
    system, table, exact = linear("diagonal")
    good = ArrayTable(exact.x[exact.x[:, 0] <= exact.bias[0]])  # where the encoder is right
    train = amortization(system, good, data=12, steps=60, samples=1000)
    assert np.abs(train).max() < 0.05
    got = summary(measure_gap_terms(system, table, steps=60, samples=500), train)
    assert got.amortization_train is not None
    assert got.generalization is not None
    assert got.generalization.value == pytest.approx(got.amortization.value - train.mean())
    assert got.generalization.stderr == pytest.approx(np.hypot(got.amortization.stderr, got.amortization_train.stderr))


def test_the_monte_carlo_error_is_that_of_the_elbo():
    """Over seeds, the error of a datum's ELBO has the size that is said; 200 repetitions, failure rate below 1e-4."""
    exact = linear("diagonal")[2]
    model, q = exact.model, best_diagonal_gaussian(posterior_of(exact))
    q = DiagonalGaussian(q.loc + SHIFT, q.log_scale)
    values, errors = [], []
    for seed in range(200):
        draws = q.draw(50, torch.Generator().manual_seed(seed))
        value, error = elbo_of((model.log_joint(exact.x, draws.z) - draws.log_q).detach(), draws.log_c)
        values.append(value), errors.append(error.square())
    ratio = torch.stack(values).var(0) / torch.stack(errors).mean(0)
    assert ((ratio > 0.6) & (ratio < 1.5)).all()


def test_the_error_of_a_mixture_errs_on_the_large_side():
    exact = linear("diagonal")[2]
    truth = posterior_of(exact)
    q = Mixture((truth, PrecisionGaussian(truth.loc + 1, truth.factor)), torch.zeros(len(exact.x), 2).double())
    values, errors = [], []
    for seed in range(100):
        draws = q.draw(25, torch.Generator().manual_seed(seed))
        value, error = elbo_of((exact.model.log_joint(exact.x, draws.z) - draws.log_q).detach(), draws.log_c)
        values.append(value), errors.append(error.square())
    assert (torch.stack(values).var(0) < 1.3 * torch.stack(errors).mean(0)).all()


def test_better_families_are_not_worse_and_one_datum_alone_is_the_same():
    data = from_array(torch.randn(60, 5))
    torch.manual_seed(0)
    system = vae(data.spec, latent=2, hidden=8).eval()
    with torch.no_grad():
        found = fit_families(system, data.test.batch(torch.arange(4)), 20)
        alone = fit_families(system, data.test.batch(torch.arange(1)), 20)
    for name in ("best", "full"):
        assert torch.allclose(found.members[name].mean[:1], alone.members[name].mean, atol=1e-4)
    got = summary(measure_gap_terms(system, data.test, data=8, steps=60, samples=500))
    order = [got.members[name].elbo.value for name in ("own", "best", "full")]
    assert order == sorted(order)
    assert got.members["full"].gap.value > -0.01


@pytest.mark.parametrize("build", [mixture_vae, planar_vae])
def test_families_that_are_not_gaussian_are_split_too(build):
    data = from_array(torch.randn(60, 5))
    got = summary(measure_gap_terms(build(data.spec, latent=2, hidden=8), data.test, data=5, steps=40, samples=200))
    assert got.amortization.value > -0.05
    assert got.members["diagonal"].elbo != got.members["best"].elbo


def test_the_file_says_what_the_result_says_and_the_system_stays_as_it_is(tmp_path: Path):
    data = from_array(torch.randn(60, 5))
    system = vae(data.spec, latent=2, hidden=8)
    run = folder(tmp_path / "run", system, data)
    before = {path.name for path in run.path.iterdir()}
    state = torch.random.get_rng_state()
    got = gaps(run, data=5, steps=5, samples=50, device="cpu", progress=False)
    values = json.loads((run.path / "gaps.json").read_text())
    assert values["format"] == 2
    assert values["weights"] == run.digest()
    assert values["data"]["checksum"] == data.checksum
    assert Gaps.from_dict(values) == got
    assert {path.name for path in run.path.iterdir()} == before | {"gaps.json"}
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in system.parameters())
    again = gaps(run, data=5, steps=5, samples=50, device="cpu", progress=False)
    assert again.members == got.members


def test_what_is_not_finite_is_counted_and_what_is_not_found_is_said():
    found = {name: np.zeros(3) for name in ("log_likelihood", "stderr", "khat")}
    for name in ("first", *MEMBERS):
        found |= {f"elbo_{name}": np.full(3, -1.0), f"error_{name}": np.zeros(3)}
    found["elbo_own"] = np.array([np.nan, -2.0, -3.0])
    found["elbo_best"] = np.array([-0.5, -0.5, -0.5])
    found["khat"] = np.array([0.1, 0.9, 0.2])
    got = summary(found)
    assert (got.inference.value, got.excluded, got.count, got.khat_flagged) == (2.5, 1, 3, 0.5)
    assert got.left == Estimate(0.5, 0.0, 0.0)
    assert [line.split()[0] for line in got.warnings] == ["1", "k-hat", "The"]


def test_the_command_prints_both_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = str(tmp_path / "run")
    assert main(["fit", "vae", "digits", "--latent", "2", "--hidden", "8", "--epochs", "1", "--out", run]) == 0
    capsys.readouterr()
    assert main(["gaps", run, "--data", "10", "--steps", "5", "--samples", "50"]) == 0
    told = capsys.readouterr().out
    for words in ("approximation gap", "generalization gap of the encoder", *MEMBERS.values()):
        assert words in told
    assert main(["gaps", run, "--data", "0"]) == 2
    assert "--data: expected a whole number from 1 to 1,000,000,000, got 0." in capsys.readouterr().err


def test_misuse():
    data = from_array(torch.randint(0, 2, (40, 6)).float())
    discrete = direct_vae(data.spec, variables=3)
    with pytest.raises(ValueError, match="expects continuous latents"):
        measure_gap_terms(discrete, data.test)
    system = vae(data.spec, latent=2, hidden=8)
    system.evidence = "none"
    with pytest.raises(ValueError, match="expects a system with a posterior and evidence; got LatentSystem"):
        measure_gap_terms(system, data.test)


def test_the_letters_of_the_oracle():
    """The mean-field formula against the divergence itself."""
    exact = linear("diagonal")[2]
    truth = posterior_of(exact)
    found: Tensor = kl(best_diagonal_gaussian(truth), truth)[:, 0]
    assert found.tolist() == pytest.approx([mean_field(exact)] * len(exact.x))
    assert truth.loc.shape[1] == D
