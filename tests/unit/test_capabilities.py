"""What a system can do is asked for by name: of every system, of a density without latents, and of one with nothing."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import nn

import curvae
import methods
from curvae import training
from curvae.data import Data, from_array
from curvae.evaluation import (
    STANDARD,
    Annealing,
    SampleQuality,
    bracket,
    calibrate,
    compare,
    evaluate,
    gaps,
    impute,
    information,
    pictures,
    quality,
    read_evaluation,
)
from curvae.evaluation.likelihood.annealing import annealed_importance_sampling
from curvae.report import write_report
from curvae.systems import (
    CanImpute,
    CanReconstruct,
    CanRollOut,
    CanSample,
    HasDensity,
    HasModel,
    HasPosterior,
    HasWeights,
    LatentSystem,
    System,
    register,
    require,
    vae,
)
from curvae.systems.base import SYSTEMS
from curvae.training import RunFolder
from density import Pull, ToyDensity, pull, registered, toy_density
from folders import folder

LATENT = (HasPosterior, HasModel, HasWeights, CanSample, CanReconstruct)
EVERY = (*LATENT, HasDensity, CanRollOut, CanImpute)


@pytest.fixture(autouse=True)
def _registered() -> Iterator[None]:
    with registered("toy-density", toy_density), registered("pull", pull):
        yield


def correlated(rows: int = 200) -> Data:
    random = np.random.default_rng(0)
    return from_array(random.normal(size=(rows, 3)) @ random.normal(size=(3, 3)) + 2)


def random_density() -> ToyDensity:
    system = ToyDensity((3,))
    nn.init.normal_(system.mean)
    nn.init.normal_(system.packed)
    return system


def marginal(system: ToyDensity, x: np.ndarray, seen: np.ndarray) -> float:
    mean, factor = (value.detach().double().numpy() for value in (system.mean, system.factor))
    return multivariate_normal(mean[seen], (factor @ factor.T)[np.ix_(seen, seen)]).logpdf(x[seen])


@pytest.mark.parametrize("name", methods.LATENT)
def test_what_every_published_system_can_do(name: str):
    system = methods.SYSTEMS[name]()
    assert [each.__name__ for each in EVERY if isinstance(system, each)] == [each.__name__ for each in LATENT]
    x = torch.randn(4, *methods.event(name))
    mask = torch.rand_like(x) < 0.7
    rebuilt = system.reconstruct(torch.where(mask, x, torch.nan), mask)
    assert rebuilt.shape == x.shape
    assert rebuilt.isfinite().all()
    assert not rebuilt.requires_grad


def test_a_reconstruction_is_the_mean_at_the_mean_and_takes_flat_rows():
    system = vae(curvae.DataSpec((1, 3, 2), "category", categories=3), latent=2, hidden=8)
    x = torch.randint(3, (5, 1, 3, 2)).float()
    rebuilt = system.reconstruct(x)
    eta = system.model.decode(system.posterior(x).mean)
    assert torch.equal(rebuilt, system.model.likelihood.mean(eta).argmax(-1).float())
    assert torch.equal(system.reconstruct(x.flatten(1)), rebuilt.flatten(1))


class Shifted(nn.Module):
    """An autoregressive decoder: each element also sees the one before."""

    def forward(self, z: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        return z.sum(1, keepdim=True) + x.roll(1, 1)


def test_an_autoregressive_decoder_sees_the_data_with_0_where_they_are_missing():
    system = vae(curvae.DataSpec((3,)), latent=2, hidden=8)
    system.model.decoder, system.model.autoregressive = Shifted(), True
    x, mask = torch.tensor([[1.0, torch.nan, 3.0]]), torch.tensor([[True, False, True]])
    z = system.posterior(x, mask).mean
    torch.testing.assert_close(system.reconstruct(x, mask), z.sum() + torch.tensor([[3.0, 1.0, 0.0]]))


@pytest.mark.parametrize("name", methods.SEQUENCES)
def test_what_a_system_of_sequences_can_do(name: str):
    known = [HasPosterior, HasWeights, CanSample, CanReconstruct, CanRollOut]
    assert [each for each in EVERY if isinstance(methods.SYSTEMS[name](), each)] == known


def test_a_density_has_what_it_has():
    assert [each for each in EVERY if isinstance(ToyDensity((3,)), each)] == [CanSample, HasDensity, CanImpute]
    assert not [each for each in EVERY if isinstance(Pull((3,)), each)]


@pytest.mark.parametrize("capability", EVERY)
def test_what_is_missing_is_named_in_one_line(capability: type):
    (method,) = (name for name in vars(capability) if not name.startswith("_"))
    words = rf"this: expected a system with .* \({capability.__name__}\), got Pull, which lacks the method {method}\."
    with pytest.raises(ValueError, match=f"^{words}$"):
        require(Pull((3,)), capability, "this")


def test_the_toy_is_right():
    system, x = random_density(), torch.randn(4, 3)
    mask = torch.tensor([[True, True, True], [True, False, True], [False, False, True], [False, False, False]])
    found = system.log_prob(torch.where(mask, x, 0), mask).detach().numpy()
    for row in range(3):
        assert found[row] == pytest.approx(marginal(system, x[row].numpy(), mask[row].numpy()), abs=1e-4)
    assert found[3] == pytest.approx(0, abs=1e-6)


def test_missing_values_are_drawn_by_a_system_that_can():
    """Against the conditional Gaussian; failure rate below 1e-5, 5 standard errors of two means and a variance."""
    system, count = random_density(), 4000
    x, mask = torch.randn(1, 3), torch.tensor([[True, False, True]])
    filled = impute(system, torch.where(mask, x, torch.nan), mask, chains=count)
    assert filled.accepted.tolist() == [1.0]
    assert torch.equal(filled.x[:, mask], x[mask].expand(count, -1))
    assert torch.equal(filled.x, impute(system, x, mask, chains=count).x)
    mean, covariance = system.mean.detach(), (system.factor @ system.factor.mT).detach()
    gain = torch.linalg.solve(covariance[[0, 2]][:, [0, 2]], covariance[[0, 2], 1])
    expected = mean[1] + (x[0, [0, 2]] - mean[[0, 2]]) @ gain
    variance = covariance[1, 1] - covariance[1, [0, 2]] @ gain
    drawn = filled.x[:, 0, 1]
    assert abs(drawn.mean() - expected) < 5 * (variance / count).sqrt()
    assert abs(drawn.var() / variance - 1) < 5 * (2 / count) ** 0.5
    with pytest.raises(ValueError, match="x holds NaN or infinity where mask says"):
        impute(system, torch.full_like(x, torch.nan), mask)


def test_an_exact_density_needs_no_proposal(tmp_path: Path):
    data = correlated()
    run = training.fit(
        SYSTEMS["toy-density"](data.spec), data, epochs=60, learning_rate=0.03, out=tmp_path / "toy", progress=False
    )
    result = evaluate(run, progress=False)
    system, x = training.load(run.path), data.test.x
    assert isinstance(system, ToyDensity)
    exact = [marginal(system, row, np.ones(3, bool)) for row in x.numpy()]
    values, arrays, *_ = read_evaluation(run.path)
    np.testing.assert_allclose(arrays["log_likelihood"], exact, rtol=1e-5, atol=1e-4)
    assert result.log_likelihood.value == pytest.approx(np.mean(exact), abs=1e-4)
    assert not {name for name in arrays if "khat" in name or "elbo" in name or name == "draws"}
    assert (result.khat, result.elbo, result.kl, result.activity, result.information) == (None,) * 5
    assert result.warnings == ()
    other = training.fit(vae(data.spec, latent=2, hidden=8), data, epochs=2, out=tmp_path / "vae", progress=False)
    theirs = evaluate(other, samples=40, progress=False).log_likelihood
    found = compare([other, run])
    assert [row.proposal for row in found.rows] == ["best", "exact"]
    assert found.differences[0].value == pytest.approx(result.log_likelihood.value - theirs.value, abs=1e-9)
    assert found.notes == (), "draws of the one alone are nothing to warn of"
    assert values["evidence"] == "exact"


def test_nothing_known_of_the_density_is_no_failure(tmp_path: Path):
    data = correlated()
    run = training.fit(SYSTEMS["pull"](data.spec), data, epochs=2, out=tmp_path / "pull", progress=False)
    result = evaluate(run, [*STANDARD, SampleQuality()], progress=False)
    assert (result.log_likelihood, result.elbo, result.kl, result.quality, result.trusted) == (None,) * 5
    assert result.warnings == ("This system gives no evidence: it has no log-likelihood, and none is estimated.",)
    exact = folder(tmp_path / "toy", random_density(), data)
    evaluate(exact, progress=False)
    found = compare([run, exact])
    assert found.differences == ()
    assert found.notes == ("pull: it has no log-likelihood, hence no difference from another run.",)


def test_pictures_and_quality_of_what_there_is():
    data = correlated()
    for system, shown, compared in (
        (random_density(), {"originals", "draws"}, {"train", "samples", "noise"}),
        (vae(data.spec, latent=2, hidden=8), None, {"train", "samples", "means", "reconstructions", "noise"}),
    ):
        scores = {"index": np.arange(30), "mean": np.zeros((30, 2))}
        found = quality(system, data)
        assert found is not None
        assert set(found.rows) == compared
        assert shown is None or set(pictures(system, data.test, scores)) == shown
    assert set(pictures(Pull((3,)), data.test, {"index": np.arange(30)})) == {"originals"}
    assert information(random_density(), data.test) is None


def test_a_row_beyond_all_numbers_stops_nothing(tmp_path: Path):
    """It is counted, left out of the means, and reconstructed from what of it is finite."""
    data = correlated()
    data.test.x[1, 1] = torch.inf
    for name, system in (("vae", vae(data.spec, latent=2, hidden=8)), ("toy", random_density())):
        run = folder(tmp_path / name, system, data)
        result = evaluate(run, samples=30, progress=False)
        assert result.excluded == 1
        with np.load(run.path / "pictures.npz") as shown:
            assert all(np.isfinite(shown[part]).all() for part in ("reconstructions", "samples") if part in shown.files)
        assert write_report(run.path).is_file()


@pytest.mark.parametrize("system", [random_density(), Pull((3,))], ids=["density", "nothing"])
def test_what_needs_a_model_says_so(system: System, tmp_path: Path):
    data = correlated()
    run = folder(tmp_path / "run", system, data)
    words = rf"expected a system with a latent-variable model \(HasModel\), got {type(system).__name__}"
    for name, call in {
        "calibrate": lambda: calibrate(system),
        "bracket": lambda: bracket(system),
        "ais": lambda: annealed_importance_sampling(system, data.test, 5),
        "gaps": lambda: gaps(run, progress=False),
    }.items():
        with pytest.raises(ValueError, match=f"^{name}: {words}"):
            call()
    with pytest.raises(ValueError, match=f"^ais: {words}"):
        evaluate(run, [Annealing(5)], progress=False)


def test_a_promise_that_is_not_kept_is_named(tmp_path: Path):
    for evidence, capability in (("exact", "HasDensity"), ("bound", "HasWeights")):
        system = Pull((3,))
        system.evidence = evidence
        words = rf"^evaluate, evidence '{evidence}': expected .* \({capability}\), got Pull"
        with pytest.raises(ValueError, match=words):
            evaluate(folder(tmp_path / evidence, system, correlated()), progress=False)


def test_register_takes_any_system_and_nothing_else():
    data = correlated()
    assert SYSTEMS["toy-density"](data.spec).recipe.arguments == {"spec": data.spec}
    words = "toy-nothing: expected a function that returns a System, got Linear"
    with registered("toy-nothing", lambda spec: nn.Linear(1, 1)) as build, pytest.raises(TypeError, match=words):
        build(data.spec)
    with pytest.raises(ValueError, match="exists already"):
        register("toy-density")(toy_density)


def test_a_run_of_it_is_made_again_from_its_folder(tmp_path: Path):
    data = correlated()
    run = training.fit(SYSTEMS["toy-density"](data.spec), data, epochs=1, out=tmp_path / "run", progress=False)
    x = data.test.x
    again = RunFolder.open(run.path).system()
    assert isinstance(again, ToyDensity)
    assert torch.equal(again.log_prob(x), training.load(run.path).log_prob(x))
    assert not isinstance(again, LatentSystem)
