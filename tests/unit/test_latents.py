"""Latents in the axes that the decoder determines: against factor analysis, under known rotations, at every door."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import curvae
from curvae import report
from curvae.cli import main
from curvae.data import Data, from_array
from curvae.inference import AmortizedGaussian, Inference, Inferred
from curvae.latents import Axes, latent_axes, principal_rotation
from curvae.likelihoods import Bernoulli, Gaussian
from curvae.linear import factor_analysis, ppca
from curvae.model import LatentVariableModel
from curvae.networks import MLP
from curvae.objectives import elbo
from curvae.posteriors import FullGaussian, kl, rotated
from curvae.priors import StandardNormal
from curvae.systems import LatentSystem, System, direct_vae, dlgm, vae
from curvae.training import RunError
from curvae.training.run import files
from curvae.training.run.latent_axes import read_axes
from curvae.typing import Batch
from folders import reseal
from training_toys import Toy

pandas = pytest.importorskip("pandas")

NAMES = ["u", "g", "r", "i", "z"]
TINY: dict[str, Any] = {"latent": 2, "hidden": 8, "epochs": 2, "progress": False, "device": "cpu"}


def linear_data(width: int = 6, rows: int = 300) -> Data:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(rows, 3, generator=generator)
    x = z @ torch.randn(3, width, generator=generator) + 0.4 * torch.randn(rows, width, generator=generator)
    return from_array(x.double() * torch.linspace(0.1, 20, width) + 5)


def orthogonal(size: int) -> Tensor:
    return torch.linalg.qr(torch.randn(size, size, dtype=torch.float64)).Q


class Turned(Inference):
    """q(Q z | x) of another inference, for the decoder that undoes Q."""

    def __init__(self, inner: LatentSystem, turn: Tensor):
        super().__init__()
        self.inner, self.turn = inner, turn

    def forward(self, model: LatentVariableModel, batch: Batch) -> Inferred:
        found = self.inner.inference(self.inner.model, batch)
        return found._replace(posterior=rotated(found.posterior, self.turn))


class Undo(nn.Module):
    """f(Q' z)."""

    def __init__(self, decoder: nn.Module, turn: Tensor):
        super().__init__()
        self.decoder, self.turn = decoder, turn

    def forward(self, z: Tensor) -> Tensor:
        return self.decoder(z @ self.turn)


def turned(system: LatentSystem, turn: Tensor) -> LatentSystem:
    """The same density of x, with latents Q z."""
    model = LatentVariableModel(system.model.prior, Undo(system.model.decoder, turn), system.model.likelihood)
    return LatentSystem(model, Turned(system, turn), system.objective).eval()


def plain(size: int = 3, width: int = 6, likelihood: Any = None) -> LatentSystem:
    likelihood = likelihood or Gaussian(width, learn="element")
    model = LatentVariableModel(StandardNormal(size), MLP(size, [32, 32], likelihood.size), likelihood)
    system = LatentSystem(model, AmortizedGaussian(MLP(width, [32], 2 * size)), elbo).double().eval()
    with torch.no_grad():
        for parameter in system.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return system


@pytest.mark.parametrize(("learn", "fit"), [("shared", ppca), ("element", factor_analysis)])
def test_at_a_linear_start_they_are_those_of_factor_analysis(learn, fit):
    data = linear_data()
    system = vae(data.spec, latent=3, hidden=16, likelihood=Gaussian(6, learn=learn), start="linear").double()
    system.stages()[0].start(system, data)
    least = 2 * system.model.likelihood.floor**2
    oracle, scale = fit(data.train.x, 3, floor=least), data.transform.scale.unsqueeze(1)  # pyright: ignore
    for each in (system, turned(system, orthogonal(3))):
        axes = latent_axes(each, data)
        torch.testing.assert_close(axes.loadings / scale, oracle.weight, atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(axes.gains, oracle.gains, atol=1e-5, rtol=1e-6)
        torch.testing.assert_close(axes.explained, axes.loadings.square(), atol=1e-6, rtol=1e-6)
        torch.testing.assert_close(axes.standardized, oracle.weight, atol=1e-4, rtol=1e-4)  # x is standardized
        assert float(axes.shares.sum() + oracle.noise.mean()) == pytest.approx(1.0, abs=1e-3)
    torch.testing.assert_close(latent_axes(system, data).rotation, torch.eye(3, dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize("likelihood", [None, lambda: Bernoulli(6)])
def test_systems_that_differ_by_a_rotation_report_the_same(likelihood):
    data = linear_data() if likelihood is None else from_array((torch.randn(200, 6) > 0).long())
    system = plain(likelihood=likelihood and likelihood())
    other = turned(system, orthogonal(3))
    mine, theirs = latent_axes(system, data), latent_axes(other, data)
    x = data.test.x.double()
    one, two = (rotated(s.posterior(x), axes.rotation) for s, axes in ((system, mine), (other, theirs)))
    for name in ("mean", "covariance"):
        torch.testing.assert_close(getattr(one, name), getattr(two, name), atol=1e-9, rtol=1e-9)
    for name in ("gains", "loadings", "explained", "standardized"):
        torch.testing.assert_close(getattr(mine, name), getattr(theirs, name), atol=1e-9, rtol=1e-9)
    assert (mine.gains[:-1] >= mine.gains[1:]).all()


def test_nothing_of_x_depends_on_the_rotation():
    """Log weights, hence log p(x) and the ELBO, the divergence and reconstructions, to 1e-10 in float64."""
    system, data = plain(), linear_data()
    axes = latent_axes(system, data)
    other = turned(system, axes.rotation)
    batch = Batch.of(data.test.x.double())
    q, r = system.posterior(batch.x), other.posterior(batch.x)
    z = q.draw(20).z
    before = system.model.log_joint(batch.x, z) - q.log_prob(z)  # pyright: ignore
    after = other.model.log_joint(batch.x, z @ axes.rotation.mT) - r.log_prob(z @ axes.rotation.mT)  # pyright: ignore
    torch.testing.assert_close(before, after, atol=1e-10, rtol=0)
    torch.testing.assert_close(kl(q, system.model.prior), kl(r, system.model.prior), atol=1e-10, rtol=0)
    torch.testing.assert_close(system.reconstruct(batch.x), other.reconstruct(batch.x), atol=1e-10, rtol=0)
    assert isinstance(r, FullGaussian)
    spread = axes.rotation @ q.covariance @ axes.rotation.mT
    torch.testing.assert_close(r.variance.sqrt(), spread.diagonal(dim1=1, dim2=2).sqrt(), atol=1e-10, rtol=0)


def test_slopes_and_explained_variance_of_a_curved_decoder():
    """E[x | z] = (z_0^2 + 3 z_1, z_1): slopes (2 z_0, 3, 1), and the variance of z_0^2 under N(0, 1) is 2."""

    class Curved(nn.Module):
        def forward(self, z: Tensor) -> Tensor:
            return torch.stack([z[:, 0].square() + 3 * z[:, 1], z[:, 1]], 1)

    data = from_array(torch.randn(400, 2).double(), standardize=False)
    model = LatentVariableModel(StandardNormal(2), Curved(), Gaussian(2))
    system = LatentSystem(model, AmortizedGaussian(nn.Linear(2, 4)), elbo).double()
    with torch.no_grad():
        system.inference.encoder.weight.copy_(torch.eye(4, 2))  # pyright: ignore
        system.inference.encoder.bias.zero_()  # pyright: ignore
    axes = latent_axes(system, data)
    z = data.train.x.double()[torch.linspace(0, len(data.train) - 1, min(len(data.train), 1024)).long()]
    rows = torch.tensor([[0.0, 3.0], [0.0, 1.0]]).double().repeat(len(z), 1, 1)
    rows[:, 0, 0] = 2 * z[:, 0]
    information = torch.einsum("npi,npj->ij", rows, rows) / len(z)
    torch.testing.assert_close(axes.gains, torch.linalg.eigvalsh(information).flip(0), atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(axes.loadings, rows.mean(0) @ axes.rotation.mT, atol=1e-6, rtol=1e-6)
    exact = dataclasses.replace(axes, rotation=torch.eye(2, dtype=torch.float64))
    from curvae.latents.system_axes import _explained

    found = _explained(model, z, exact.rotation, data.transform, (2,))
    torch.testing.assert_close(found, torch.tensor([[2.0, 9.0], [0.0, 1.0]]).double(), atol=1e-6, rtol=1e-6)


def test_what_rows_do_not_tell_apart_is_said():
    gains = torch.tensor([9.0, 8.9, 3.0, 0.0, 0.0], dtype=torch.float64)
    none = torch.zeros(0, 5, dtype=torch.float64)
    axes = Axes(torch.eye(5, dtype=torch.float64), gains, 200, none, none[:, 0], none)
    assert axes.undetermined == ((0, 1), (3, 4))
    assert axes.note.startswith("z0 and z1, and z3 and z4 are equally strong within the error of 200 rows")
    assert "\n" not in axes.note
    many = dataclasses.replace(axes, rows=10**6)
    assert many.undetermined == ((3, 4),)
    assert dataclasses.replace(many, gains=torch.arange(5.0).flip(0).double()).note == ""
    equal = dataclasses.replace(axes, gains=torch.full((5,), 2.0).double())
    assert equal.note.startswith("z0 to z4 are equally strong")


def test_a_sphere_has_no_directions():
    """A decoder that treats all latents alike: degenerate to rounding, and said so."""
    data = from_array(torch.randn(200, 3).double(), standardize=False)
    model = LatentVariableModel(StandardNormal(3), nn.Linear(3, 3), Gaussian(3))
    system = LatentSystem(model, AmortizedGaussian(nn.Linear(3, 6)), elbo).double()
    with torch.no_grad():
        model.decoder.weight.copy_(2 * orthogonal(3))  # pyright: ignore
    assert latent_axes(system, data).note.startswith("z0, z1 and z2 are equally strong")


def test_a_sign_is_not_left_to_which_of_several_columns_is_largest():
    weight = torch.tensor([[0.9], [0.91], [-0.9], [0.89]], dtype=torch.float64)
    for column in range(4):
        moved = weight.clone()
        moved[column] *= 1.1
        for sign in (1.0, -1.0):
            rotation, _ = principal_rotation(torch.eye(1, dtype=torch.float64), sign * moved)
            assert float(rotation) == sign


def test_signs_and_order():
    rotation, gains = principal_rotation(torch.diag(torch.tensor([1.0, 4.0])), torch.tensor([[1.0, -5.0], [0.5, 2.0]]))
    assert gains.tolist() == [4.0, 1.0]
    torch.testing.assert_close(rotation, torch.tensor([[0.0, -1.0], [1.0, 0.0]]))


class Both(nn.Module):
    """A decoder that also sees x."""

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return x + z.sum(1, keepdim=True)


def _autoregressive() -> LatentSystem:
    model = LatentVariableModel(StandardNormal(2), Both(), Gaussian(6), autoregressive=True)
    return LatentSystem(model, AmortizedGaussian(MLP(6, [4], 4)), elbo)


def _kinked() -> LatentSystem:
    system = plain(2)
    with torch.no_grad():
        system.model.decoder[-1].weight.fill_(torch.nan)  # pyright: ignore
    return system


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda data: dlgm(data.spec, hidden=8), "reported as they were trained"),
        (lambda data: direct_vae(data.spec, hidden=8), "UniformCategorical: they are reported as they were trained"),
        (lambda data: _autoregressive(), "a decoder that also sees x"),
        (lambda data: Toy(), "Toy, which has no such model"),
        (lambda data: _kinked(), "finite derivatives"),
    ],
)
def test_latents_that_cannot_be_rotated_are_refused_in_one_line(make, told):
    data = linear_data()
    system: System = make(data)
    with pytest.raises(ValueError, match=told) as refused:
        latent_axes(system, data)
    assert "\n" not in str(refused.value)


@pytest.fixture(scope="module")
def frame() -> Any:
    random = np.random.default_rng(0)
    x = random.normal(size=(150, 2)) @ random.normal(size=(2, 5)) + 0.3 * random.normal(size=(150, 5))
    return pandas.DataFrame(x * [1, 10, 100, 0.1, 1] + 7, columns=NAMES).assign(same=4.0)


@pytest.fixture(scope="module")
def run(frame: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Read, never written."""
    return curvae.fit("vae", frame, out=tmp_path_factory.mktemp("latents") / "run", start="linear", **TINY).path


def test_every_door_agrees(run: Path, frame: Any, tmp_path: Path):
    """The run's data are gone: what is said of its latents was written down."""
    fitted = curvae.load(run)
    q, raw = fitted.posterior(frame), fitted.posterior(frame, rotate=False)
    axes = fitted.axes
    assert axes is not None
    np.testing.assert_allclose(q.mean, raw.mean.double() @ axes.rotation.mT, atol=1e-5)
    frame.to_csv(tmp_path / "rows.csv", index=False)
    words = ["encode", str(run), str(tmp_path / "rows.csv"), "--to", str(tmp_path / "z.csv")]
    assert main(words) == 0
    written = pandas.read_csv(tmp_path / "z.csv")
    encoded = fitted.encode(frame)
    for found in (written, encoded):
        np.testing.assert_allclose(found[["z0_mean", "z1_mean"]], q.mean, atol=1e-5)
        np.testing.assert_allclose(found[["z0_upper", "z1_upper"]], q.interval(0.9)[1], atol=1e-5)
    assert main([*words, "--force", "--no-rotate"]) == 0
    np.testing.assert_allclose(pandas.read_csv(tmp_path / "z.csv")["z1_mean"], raw.mean[:, 1], atol=1e-5)
    refined = ["refine", str(run), "--data", str(tmp_path / "rows.csv"), "--steps", "1", "--rate", "1e-12"]
    assert main([*refined, "--to", str(tmp_path / "refined.csv")]) == 0
    np.testing.assert_allclose(pandas.read_csv(tmp_path / "refined.csv")["z0_mean"], q.mean[:, 0], atol=1e-5)


def test_latents_go_back_to_the_same_x(run: Path, frame: Any):
    fitted = curvae.load(run)
    columns = [f"z{d}_mean" for d in range(2)]
    one = fitted.decode(fitted.encode(frame)[columns])
    two = fitted.decode(fitted.encode(frame, rotate=False)[columns], rotate=False)
    assert list(one) == [*NAMES, "same"]
    np.testing.assert_allclose(one, two, rtol=1e-5)
    np.testing.assert_allclose(one, fitted.reconstruct(frame), rtol=1e-5)
    for z in (np.zeros(2), np.zeros((4, 3))):
        with pytest.raises(ValueError, match=r"decode: z: expected shape \(N, 2\)"):
            fitted.decode(z)


def test_loadings_have_the_names_of_columns(run: Path, frame: Any):
    fitted = curvae.load(run)
    found, each = fitted.loadings(), fitted.loadings(standardized=True)
    assert list(found) == ["z0", "z1"]
    assert list(found.index) == [*NAMES, "same"]
    assert (found.loc["same"] == 0).all()
    assert (each.loc["same"] == 0).all()
    spread = (found.loc[NAMES] / each.loc[NAMES])["z0"]
    np.testing.assert_allclose(spread, frame[NAMES].std(), rtol=0.2)  # that of 105 of the rows
    assert ((each**3).sum() > 0).all()


def test_of_arrays_they_are_left_as_trained_unless_asked(tmp_path: Path):
    x = np.random.default_rng(0).normal(size=(100, 4))
    fitted = curvae.fit("vae", x, out=tmp_path / "run", **TINY)
    assert not (fitted.path / "latents.json").exists()
    assert fitted.axes is None
    assert torch.equal(fitted.posterior(x).mean, fitted.posterior(x, rotate=False).mean)
    axes = fitted.axes_for(True)
    assert axes is not None
    turned = fitted.posterior(x).mean @ axes.rotation.float().mT
    torch.testing.assert_close(fitted.posterior(x, rotate=True).mean, turned)
    assert fitted.loadings().shape == (4, 2)
    with pytest.raises(RunError, match="array in memory"):
        curvae.load(fitted.path).posterior(x, rotate=True)


def test_a_file_of_other_weights_says_nothing(run: Path, frame: Any, tmp_path: Path):
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    reseal(copy / "latents.json", {"weights": "0" * 64})
    assert curvae.load(copy).axes is None
    assert read_axes(copy) is None


@pytest.mark.parametrize(
    "change",
    [{"rotation": [[1.0, 0.0], [1.0, 1.0]]}, {"rotation": [[1.0]]}, {"gains": [None, 1.0]}, {"loadings": [[1.0, 2.0]]}],
)
def test_a_damaged_file_is_told_in_one_line(run: Path, tmp_path: Path, change):
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    axes = json.loads((copy / "latents.json").read_text())["axes"]
    reseal(copy / "latents.json", {"axes": {**axes, **change}})
    with pytest.raises(RunError, match=r"latents\.json: .*expected"):
        _ = curvae.load(copy).axes


def test_a_table_whose_latents_cannot_be_rotated_says_why(frame: Any, tmp_path: Path):
    options = {**TINY, "latent": [2, 2]}
    fitted = curvae.fit("dlgm", frame, out=tmp_path / "run", **{k: v for k, v in options.items() if k != "latent"})
    assert fitted.axes is None
    assert "reported as they were trained" in str(read_axes(fitted.path))
    with pytest.raises(ValueError, match="rotate: expected continuous latents under one standard normal prior"):
        fitted.encode(frame, rotate=True)


def test_same_seedless_latents_from_two_runs_at_the_same_optimum(frame: Any, tmp_path: Path):
    """Different seeds, one linear start, no training to speak of: the same latents."""
    one, two = (
        curvae.fit("vae", frame, out=tmp_path / f"{seed}", start="linear", learning_rate=1e-9, seed=seed, **TINY)
        for seed in (0, 1)
    )
    torch.testing.assert_close(one.posterior(frame).mean, two.posterior(frame).mean, atol=1e-3, rtol=1e-3)


def test_the_report_has_a_table_of_loadings(run: Path, tmp_path: Path):
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    axes = read_axes(copy)
    assert isinstance(axes, Axes)
    page = report.html(report.read_snapshot(copy))
    assert '<section id="loadings"><h2>What the latents mean</h2>' in page
    table = page[page.index('<section id="loadings">') :]
    for name, values in zip([*NAMES, "same"], axes.standardized.tolist(), strict=True):
        cells = "".join(f'<td class="number">{value:+.2f}</td>' for value in values).replace("-", "−")
        assert f"<td>{name}</td>{cells}" in table
    assert "variance explained" in table
    files.write_sealed(copy / "latents.json", {"reason": "its latents are <b>.", "weights": axes_of(copy)})
    page = report.html(report.read_snapshot(copy))
    assert "<b>What the latents mean</b> left out: its latents are &lt;b&gt;." in page


def axes_of(folder: Path) -> str:
    return json.loads((folder / "latents.json").read_text())["weights"]


def test_an_evaluation_describes_latents_in_the_same_axes(frame: Any, tmp_path: Path):
    fitted = curvae.fit("vae", frame, out=tmp_path / "run", start="linear", **TINY)
    found = curvae.evaluate(fitted, samples=20, progress=False)
    q = fitted.posterior("test")
    np.testing.assert_allclose(found.activity, q.mean.var(0, correction=0), atol=1e-5)
    evaluated = fitted.run.evaluation
    assert evaluated is not None
    np.testing.assert_allclose(evaluated.pictures["latent_mean"], q.mean, atol=1e-5)
    np.testing.assert_allclose(evaluated.pictures["latent_covariance"], q.covariance, atol=1e-5)
    each = 0.5 * (q.mean.square() + q.covariance.diagonal(dim1=1, dim2=2) - 1)
    each = each - 0.5 * q.covariance.diagonal(dim1=1, dim2=2).log()
    np.testing.assert_allclose(found.kl_per_dimension, each.mean(0), atol=1e-5)
