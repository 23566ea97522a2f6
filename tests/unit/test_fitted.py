"""What fit and load return: rows in their own units in, results by name out; the caller's random numbers untouched."""

import dataclasses
import hashlib
import inspect
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import curvae
from curvae import memory, training
from curvae.cli import main
from curvae.cli.score import score_
from curvae.data import DataError, DataWarning, from_array
from curvae.data.own_units import restore_dtypes
from curvae.data.schema import Column, Schema
from curvae.evaluation.likelihood.weighted_draws import Sampling
from curvae.evaluation.settings import Settings
from curvae.fitted import Fitted
from curvae.fitted.fit_and_load import _check_system
from curvae.likelihoods import Gaussian
from curvae.noise import keep_random_states
from curvae.systems import vae
from curvae.training.setup.settings import TrainingSettings
from curvae.typing import DataSpec
from training_toys import Toy, data_of

pandas = pytest.importorskip("pandas")

RANDOM = np.random.default_rng(0)
ROWS = 120
TINY: dict[str, Any] = {"latent": 2, "hidden": 8, "epochs": 2, "seed": 0, "progress": False, "device": "cpu"}
FEATURES = ["u", "n", "t", "flag", "same", "small"]


@pytest.fixture(scope="module")
def frame() -> Any:
    columns = {
        "u": RANDOM.normal(1000, 10, ROWS),
        "class": np.array(["cat", "dog", "owl"] * 40),
        "n": RANDOM.poisson(4, ROWS),
        "t": 1.7e9 + RANDOM.normal(0, 10, ROWS),
        "flag": RANDOM.integers(0, 2, ROWS) > 0,
        "same": np.full(ROWS, 7.0),
        "small": RANDOM.normal(size=ROWS).astype("f4"),
    }
    return pandas.DataFrame(columns, index=[f"id{i}" for i in range(ROWS)])


@pytest.fixture(scope="module")
def path(frame: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the frame; read, never written."""
    return curvae.fit("vlae", frame, out=tmp_path_factory.mktemp("fitted") / "run", label="class", **TINY).path


@pytest.fixture
def fitted(path: Path) -> "curvae.Fitted":
    return curvae.load(path)


def states() -> tuple[Any, ...]:
    """Of NumPy and torch; Python's own is drawn from by every call whose types are checked, as they are in tests."""
    numpy = np.random.get_state()[1]  # noqa: NPY002
    return numpy.tobytes(), torch.get_rng_state().tolist()  # pyright: ignore


def digest(path: Path) -> str:
    return hashlib.sha256((path / "model.safetensors").read_bytes()).hexdigest()


def test_rows_go_in_as_they_are(fitted: "curvae.Fitted", frame: Any):
    own = torch.tensor(frame[FEATURES].to_numpy(float))
    right = fitted.system.posterior(fitted.transform()(own)).mean  # pyright: ignore
    for rows in (
        frame,
        frame[["t", "small", "class", "same", "n", "u", "flag"]],
        frame[FEATURES],
        own,
        own.numpy(),
        own.tolist(),
        frame[FEATURES].to_records(index=False),
    ):
        torch.testing.assert_close(fitted.posterior(rows, rotate=False).mean, right)
    rounded = fitted.posterior(own.float(), rotate=False)
    torch.testing.assert_close(rounded.mean, right, atol=20, rtol=0)  # t has no digits left
    assert not fitted.system.training


def test_encode_gives_frame_for_frame(fitted: "curvae.Fitted", frame: Any):
    found = fitted.encode(frame, level=0.5)
    q = fitted.posterior(frame)
    assert list(found) == [f"z{d}_{name}" for d in (0, 1) for name in ("mean", "lower", "upper")] + ["class"]
    assert found.index.equals(frame.index)
    assert found["class"].tolist() == frame["class"].tolist()
    np.testing.assert_allclose(found[["z0_mean", "z1_mean"]], q.mean, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found[["z0_lower", "z1_lower"]], q.interval(0.5)[0], rtol=1e-5, atol=1e-5)
    assert "class" not in fitted.encode(frame[FEATURES])
    arrays = fitted.encode(frame[FEATURES].to_numpy(float), labels=frame["class"].to_numpy())
    np.testing.assert_array_equal(arrays.mean, found[["z0_mean", "z1_mean"]])
    assert arrays.covariance.shape == (ROWS, 2, 2)
    assert arrays.label.tolist() == frame["class"].tolist()


def test_encode_equals_the_command_line(fitted: "curvae.Fitted", frame: Any, tmp_path: Path):
    frame.head().astype({"flag": int}).to_csv(tmp_path / "head.csv", index=False)
    assert main(["encode", str(fitted.path), str(tmp_path / "head.csv"), "--to", str(tmp_path / "z.csv")]) == 0
    written = pandas.read_csv(tmp_path / "z.csv")
    assert written["class"].tolist() == frame["class"].head().tolist()
    np.testing.assert_allclose(written[["z0_mean", "z1_mean"]], fitted.posterior(frame.head()).mean, atol=1e-5)
    np.testing.assert_allclose(written.iloc[:, 1:7], fitted.encode(frame.head()).iloc[:, :6], atol=1e-5)


def test_scores_are_those_of_evaluate(frame: Any, path: Path, tmp_path: Path):
    copy = shutil.copytree(path, tmp_path / "run")
    data = from_array(frame, "class")
    fitted = curvae.load(copy, data=data)
    assert fitted.evaluation is None
    result = curvae.evaluate(fitted, samples=50, progress=False)
    assert fitted.evaluation == result
    assert curvae.compare([fitted]).rows[0].name == "run"
    found = fitted.score(frame.iloc[data.test.row.numpy()], samples=50)  # pyright: ignore
    assert list(found) == ["log_likelihood", "stderr", "flagged", "log_det"]
    assert found["log_likelihood"].mean() == pytest.approx(result.log_likelihood.value)  # pyright: ignore
    assert found["log_det"].mean() == pytest.approx(result.log_det)
    assert found["flagged"].sum() == result.flagged
    arrays = fitted.score(frame[FEATURES].to_numpy(float)[:3], samples=50)
    assert arrays.log_likelihood.shape == arrays.flagged.shape == (3,)


def test_log_p_in_own_units_does_not_depend_on_the_transform(tmp_path: Path):
    """A linear-Gaussian density of rows scaled by 1000 is less by log 1000 a feature."""
    x = RANDOM.normal(size=(60, 2))
    own = []
    for name, scale in (("a", 1.0), ("b", 1000.0)):
        found = curvae.fit("vae", scale * x, out=tmp_path / name, **TINY).score(scale * x[:4], samples=200)
        own.append(found.log_likelihood + found.log_det)
    np.testing.assert_allclose(own[0] - own[1], 2 * np.log(1000), atol=1e-3)


def test_what_is_drawn_is_like_the_data(fitted: "curvae.Fitted", frame: Any):
    drawn = fitted.sample(200, seed=3)
    assert list(drawn) == FEATURES
    assert [str(dtype) for dtype in drawn.dtypes] == ["float64", "int64", "float64", "bool", "float64", "float32"]
    assert (drawn["n"] >= 0).all()
    assert (drawn["same"] == 7).all()
    assert drawn["t"].nunique() > 150
    assert drawn["t"].std() < 50
    assert drawn.equals(fitted.sample(200, seed=3))
    assert fitted.drawn(5).shape == (5, 6)
    with pytest.raises(ValueError, match="sample: n must be 1 or more; got 0"):
        fitted.sample(0)


@pytest.mark.parametrize("room", [6 * 12 * 40, 6 * 12 * 40 - 1])
def test_no_more_rows_are_drawn_than_fit(fitted: "curvae.Fitted", monkeypatch: pytest.MonkeyPatch, room: int):
    """Six columns, each in float32 and in float64."""
    monkeypatch.setattr(memory, "available_bytes", lambda: room)
    if room == 6 * 12 * 40:
        assert len(fitted.sample(40)) == 40
        return
    with pytest.raises(ValueError, match=r"sample: expected rows that fit into memory, got .* draw fewer at a time"):
        fitted.sample(40)


def test_reconstructions_have_names_kinds_and_index(fitted: "curvae.Fitted", frame: Any):
    found = fitted.reconstruct(frame)
    assert found.index.equals(frame.index)
    assert list(found) == FEATURES
    assert str(found["n"].dtype) == "int64"
    z = fitted.posterior(frame, rotate=False).mean
    own = fitted.transform().inverse(fitted.system.model.likelihood.mean(fitted.system.model.decode(z)).detach())
    np.testing.assert_allclose(found["u"], own[:, 0])
    assert fitted.reconstruct(frame[FEATURES].to_numpy(float)).shape == (ROWS, 6)


def test_what_does_not_fit_is_one_line_of_ours(fitted: "curvae.Fitted", frame: Any):
    own = frame[FEATURES].to_numpy(float)
    for rows, message in (
        (frame.drop(columns="u"), "expected the run's columns u, n, .*, but u is missing"),
        (frame.head(0), "expected rows of data"),
        (own[0], r"got \(6,\); for one row pass x\[None\]"),
        (own[:, :4], "expected 6 columns, u, n, t, flag, same, small, got 4"),
        (own.astype(complex), "expected real numbers, got complex"),
        (np.where(own > 1e9, np.nan, own), r"got 120 NaN, the first in row 0, column 't'"),
        ("nothing.csv", "nothing.csv: expected a file, got nothing there"),
        (frame["u"], r"expected data of shape \(6,\), .* got \(120,\)"),
        (None, "expected rows of data"),
    ):
        with pytest.raises(DataError, match=message) as error:
            fitted.posterior(rows)
        assert "\n" not in str(error.value)
    with pytest.warns(DataWarning, match="ignored 'more'"):
        fitted.encode(frame.assign(more=1))


def test_one_row_alone(fitted: "curvae.Fitted", frame: Any):
    np.testing.assert_allclose(
        fitted.encode(frame.tail(1)).iloc[0, :6], fitted.encode(frame).iloc[-1, :6].to_numpy(float), atol=1e-5
    )
    assert np.isfinite(fitted.score(frame.tail(1), samples=50)["log_likelihood"]).all()


def test_random_states_are_as_they_were(frame: Any, tmp_path: Path):
    np.random.seed(3), torch.manual_seed(3)  # noqa: NPY002
    before = states()
    data = from_array(frame, "class")
    fitted = curvae.fit("vae", data, out=tmp_path / "run", **TINY)
    assert states() == before
    for step in (
        lambda: curvae.load(tmp_path / "run"),
        lambda: curvae.evaluate(fitted, samples=5, progress=False),
        lambda: fitted.score(frame, samples=5),
        lambda: fitted.encode(frame),
        lambda: fitted.sample(5),
        lambda: fitted.reconstruct(frame),
    ):
        step()
        assert states() == before


def test_python_s_random_numbers_are_kept_too():
    random.seed(3)
    expected = random.Random(3).random()
    with keep_random_states():
        random.seed(5)
    assert random.random() == expected


def test_a_word_draws_its_weights_from_the_seed(frame: Any, tmp_path: Path):
    torch.manual_seed(1)
    first = curvae.fit("vae", frame, out=tmp_path / "a", label="class", **TINY)
    torch.randn(7)
    assert digest(curvae.fit("vae", frame, out=tmp_path / "b", label="class", **TINY).path) == digest(first.path)
    other = curvae.fit("vae", frame, out=tmp_path / "c", label="class", **TINY | {"seed": 1})
    assert digest(other.path) != digest(first.path)


def test_a_word_gives_the_run_of_the_command_line(frame: Any, tmp_path: Path):
    frame.astype({"flag": int}).to_csv(tmp_path / "t.csv", index=False)
    first = curvae.fit("vae", tmp_path / "t.csv", out=tmp_path / "a", label="class", **TINY)
    words = ["--label", "class", "--latent", "2", "--hidden", "8", "--epochs", "2", "--device", "cpu", "--no-progress"]
    assert main(["fit", "vae", str(tmp_path / "t.csv"), *words, "--out", str(tmp_path / "b")]) == 0
    assert digest(tmp_path / "b") == digest(first.path)


def test_a_system_is_trained_in_place_as_given(tmp_path: Path):
    data = data_of()
    system = vae(data.spec, latent=2, hidden=8, start="random")
    start = system.state_dict()["model.decoder.1.weight"].clone()
    arguments = {"epochs": 1, "learning_rate": 1e-9, "progress": False, "device": "cpu"}
    fitted = curvae.fit(system, data, out=tmp_path / "run", **arguments)
    assert fitted.system is system
    torch.testing.assert_close(system.state_dict()["model.decoder.1.weight"], start)
    own = curvae.fit(Toy(), data, epochs=2, out=tmp_path / "own", progress=False)
    assert curvae.load(own.path, system=Toy()).system.get_buffer("visits").shape == (50,)
    with pytest.raises(ValueError, match="posterior: "):
        own.posterior(data.test.raw)


def test_every_training_argument_is_there():
    ours = inspect.signature(curvae.fit).parameters
    theirs = {each.name: each.default for each in dataclasses.fields(TrainingSettings)}
    assert {name: ours[name].default for name in theirs} == theirs
    beside = inspect.signature(training.fit).parameters
    assert {"out", "progress", "logger", "callbacks"} == {*ours} & {*beside} - {"system", "data"}
    assert all(ours[name].default == beside[name].default for name in beside if name in ours)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"system": "vae", "latnt": 2},
            r"expected an option of the system or the data, got 'latnt'; did you mean latent\?",
        ),
        ({"system": "vea"}, r"system: expected one of .*; got 'vea'"),
        ({"system": "vae", "data": "digts"}, r"name: expected one of .*; did you mean 'digits'\?"),
        ({"system": "vae", "data": "digits", "label": "class"}, r"label: expected none with the known set digits"),
        (
            {"system": "vae", "data": data_of(), "label": "class"},
            r"label: expected none with data that are made already",
        ),
        ({"system": "vae", "data": data_of(), "missing": "mask"}, r"got 'missing'; "),
        ({"system": Toy(), "latent": 2}, r"got 'latent'"),
    ],
)
def test_misuse_of_fit(arguments: dict[str, Any], message: str, tmp_path: Path):
    given = {"data": np.zeros((20, 2)), "out": tmp_path / "run"} | arguments
    with pytest.raises(ValueError, match=message):
        curvae.fit(**given)
    assert not (tmp_path / "run").exists()


def test_options_of_the_data_go_to_the_data(tmp_path: Path):
    x = np.where(RANDOM.random((60, 3)) < 0.1, np.nan, RANDOM.normal(size=(60, 3)))
    fitted = curvae.fit("vae", x, out=tmp_path / "run", missing="mask", split_seed=4, data_name="mine", **TINY)
    assert fitted.schema.missing == "mask"
    assert fitted.schema.spec.name == "mine"
    assert fitted.schema.checksum == from_array(x, missing="mask", seed=4).checksum
    assert torch.equal(fitted.posterior(x).mean, fitted.posterior(np.ma.masked_invalid(x)).mean)
    assert fitted.posterior(x).mean.isfinite().all()


def test_a_run_says_what_its_data_were(fitted: "curvae.Fitted"):
    written = json.loads((fitted.path / "schema.json").read_text())
    assert written["holder"] == "frame"
    assert [column["name"] for column in written["columns"]] == [*FEATURES, "class"]
    assert fitted.schema.constants == ("same",)
    assert fitted.schema.vocabulary == ("cat", "dog", "owl")


def test_a_run_without_a_schema_still_loads(path: Path, frame: Any, tmp_path: Path):
    copy = shutil.copytree(path, tmp_path / "run")
    (copy / "schema.json").unlink()
    fitted = curvae.load(copy)
    torch.testing.assert_close(fitted.posterior(frame[FEATURES]).mean, curvae.load(path).posterior(frame).mean)
    assert fitted.sample(3).shape == (3, 6)


@pytest.mark.parametrize(
    ("kind", "dtype", "values", "right"),
    [
        ("count", "float64", [1.4, -2.0], [1.0, 0.0]),
        ("binary", "float64", [1.6, -0.2], [1.0, 0.0]),
        ("real", "int16", [1.6, -40000.0], [2, -32768]),
        ("real", "uint8", [260.0, -1.0], [255, 0]),
        ("real", "float32", [0.1, 1e9 + 1], [np.float32(0.1), np.float32(1e9)]),
        ("real", "int64", [1e30, -1e30], [2**63 - 1024, -(2**63)]),
    ],
)
def test_kinds_and_types_of_what_comes_out(kind: Any, dtype: str, values: list[float], right: list[float]):
    schema = Schema(DataSpec((1,)), (Column("a", kind, dtype),), dtype=dtype)
    found = restore_dtypes(schema, torch.tensor(values, dtype=torch.float64)[:, None])
    assert found.dtype == dtype
    assert found[:, 0].tolist() == right


def test_a_start_that_was_given_is_kept():
    x = 5 * torch.randn(100, 3)
    for likelihood, start in (
        (Gaussian(3, 0.1, "shared"), 0.1),
        (Gaussian(3, 0.1, "element"), 0.1),
        (Gaussian(3, 0.1), 0.1),
    ):
        likelihood.initialize(x)
        assert likelihood.variance.sqrt().mean().item() == pytest.approx(start, rel=1e-3)
    found = Gaussian(3, learn="shared")
    found.initialize(x)
    assert found.variance.sqrt().item() == pytest.approx(x.std().item(), rel=0.05)
    found = Gaussian(3, 0.1, "shared")
    found.maximize(x, torch.zeros(100, 3))
    assert found.variance.sqrt().item() == pytest.approx(x.std().item(), rel=0.05)


def test_a_run_in_the_place_of_a_system_is_told_apart(path: Path):
    with pytest.raises(ValueError, match=r"got the folder .*curvae\.load\(folder\) opens a run"):
        curvae.fit(str(path), "digits")
    for given, kind in ((path, "PosixPath"), (curvae.RunFolder.open(path), "RunFolder")):
        with pytest.raises(ValueError, match=rf"expected one, its name, or what fit or load gave; got a {kind}"):
            _check_system(given)


def test_every_door_to_a_score_draws_as_often():
    doors = (Fitted.score, Fitted.scored, score_, Settings, Sampling)
    assert {inspect.signature(door).parameters["samples"].default for door in doors} == {500}
