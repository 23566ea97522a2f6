"""Gaps filled in, rows drawn given some columns, latents moved one at a time: in the form and the units of the data."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import curvae
from curvae.data import DataError
from curvae.data.transforms import Chain, Dequantization, Logit
from curvae.evaluation import conditionals
from curvae.evaluation.samples import engines
from curvae.fitted import Imputed, Traversal

ROWS = 300
TINY = {"latent": 2, "hidden": 16, "max_updates": 150, "seed": 0, "progress": False, "device": "cpu"}


def table(count: int = ROWS, seed: int = 0) -> pd.DataFrame:
    """A table that one latent drives, with an id, a word, a count, a flag, whole numbers and a constant."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=count)
    columns = {
        "id": [f"s{i}" for i in range(count)],
        "mass": 1000 + 100 * z + rng.normal(size=count),
        "kind": np.array(["elm", "fir", "oak"])[np.digitize(z + 0.2 * rng.normal(size=count), [-0.5, 0.5])],
        "seeds": rng.poisson(np.exp(1 + 0.5 * z)),
        "sick": (z + 0.3 * rng.normal(size=count) > 0).astype(int),
        "age": np.round(50 + 10 * z).astype(int),
        "one": 7.0,
        "width": (3 - z + 0.1 * rng.normal(size=count)).astype(np.float32),
    }
    return pd.DataFrame(columns, index=[f"row{i}" for i in range(count)])


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the table, complete; read, never written."""
    out = tmp_path_factory.mktemp("imputing") / "run"
    data = table().drop(columns="id")
    return curvae.fit("vlae", data, out=out, kind={"seeds": "count"}, **TINY).path  # pyright: ignore


@pytest.fixture
def fitted(path: Path) -> "curvae.Fitted":
    return curvae.load(path)


@pytest.fixture
def holes() -> pd.DataFrame:
    """Twenty rows, of each one cell is missing but of the first all, of the last none."""
    frame = table(20, seed=1).astype({"kind": "category", "seeds": "Int64", "sick": object, "age": float})
    features = list(frame)[1:]
    for i in range(1, 19):
        frame.iloc[i, 1 + i % len(features)] = None if features[i % len(features)] in ("kind", "sick") else np.nan
    frame.loc["row0", features] = None
    return frame


@pytest.mark.filterwarnings("ignore:.*ignored 'id'")
def test_chains_fill_in_columns_of_every_kind_and_say_how_they_mix(
    fitted: "curvae.Fitted", holes: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
):
    """Near what weighted draws give, in units of the columns; a row without holes has no chains."""
    monkeypatch.setattr(engines, "APART", 1)
    monkeypatch.setattr(engines, "CHAINS", 50)
    some = holes.iloc[[1, 2, 3, 4, 5, 6, 19]]
    chains, weighted = fitted.imputed(some, by="chains"), fitted.imputed(some)
    gone = chains.missing.any(1)
    assert np.isfinite(chains.effective_draws[gone]).all()
    assert (chains.r_hat[gone] > 0.9).all()
    assert np.isnan(chains.r_hat[~gone]).all()
    assert np.isnan(weighted.r_hat).all()
    flags = (chains.effective_draws < 50) | (chains.r_hat > 1.05)
    assert chains.flagged.tolist() == flags.tolist()
    assert list(chains.cells)[-1] == "r_hat"
    assert "r_hat" not in weighted.cells
    wide = table()["mass"].std(), table()["seeds"].std()
    for name, scale in zip(("mass", "seeds"), wide, strict=True):
        assert (chains.filled[name].astype(float) - weighted.filled[name].astype(float)).abs().max() < scale
    assert set(chains.filled["kind"]) <= {"elm", "fir", "oak"}
    encoded = fitted.impute(some, by="encoder", draws=2)
    assert not encoded[1].isna().any().any()
    with pytest.raises(ValueError, match="by: expected one of modes, encoder, chains; got 'chain'"):
        fitted.impute(some, by="chain")


@pytest.mark.filterwarnings("ignore:.*ignored 'id'")
def test_the_frame_comes_back_without_gaps(fitted: "curvae.Fitted", holes: pd.DataFrame):
    """Each column in its own type; what was observed and what the run does not know stay, to the last digit."""
    given = holes.copy()
    filled = fitted.impute(holes)
    pd.testing.assert_frame_equal(holes, given)
    assert list(filled) == list(holes)
    assert filled.index.equals(holes.index)
    assert not filled.isna().any().any()
    for name in holes:
        seen = holes[name].notna().to_numpy()
        assert filled[name][seen].tolist() == holes[name][seen].tolist(), name
    assert filled["id"].equals(holes["id"])
    assert [str(filled[name].dtype) for name in ("kind", "seeds", "age", "width")] == [
        "category", "Int64", "int64", "float32",
    ]  # fmt: skip
    assert set(filled["kind"]) <= {"elm", "fir", "oak"}
    assert set(filled["sick"]) == {0, 1}
    assert (filled["one"] == 7).all()
    assert filled.loc["row0", "mass"] == pytest.approx(1000, abs=60)
    assert fitted.impute(filled).equals(filled)


@pytest.mark.filterwarnings("ignore:.*ignored 'id'")
def test_several_draws_and_what_is_known_of_each_cell(fitted: "curvae.Fitted", holes: pd.DataFrame):
    found = fitted.imputed(holes, draws=3)
    assert isinstance(found, Imputed)
    one, two, _ = fitted.impute(holes, draws=3)
    assert one.equals(found.draws[0])
    assert one.loc["row0", "mass"] != two.loc["row0", "mass"]
    assert one["id"].equals(holes["id"])
    np.testing.assert_array_equal(found.missing, holes.drop(columns="id").isna())
    assert found.effective_draws[0] == pytest.approx(1000)
    assert np.isnan(found.effective_draws[-1])
    assert not found.flagged.any()
    cells = found.cells
    assert list(cells) == ["row", "column", "value", "lower", "upper", "probability", "effective_draws", "flagged"]
    assert len(cells) == found.missing.sum() == 25
    assert list(cells["row"][:8]) == ["row0"] * 7 + ["row1"]
    for cell in cells.itertuples():
        assert cell.value == found.filled.loc[cell.row, cell.column]
        number = cell.column not in ("kind",)
        assert number == (cell.lower <= cell.upper)
        assert (cell.column in ("kind", "sick")) == (1 / 3 < cell.probability <= 1)
    constant = cells[cells["column"] == "one"]
    assert (constant[["value", "lower", "upper"]] == 7).all().all()
    assert repr(found) == "Imputed(25 cells in 19 of 20 rows, 0 flagged)"


@pytest.mark.parametrize("held", ["polars", "pyarrow"])
def test_frames_of_other_libraries_come_back_without_gaps(fitted: "curvae.Fitted", held: str):
    """In the types that their columns had: words in their levels, flags, whole and single numbers."""
    polars = pytest.importorskip("polars")
    frame = polars.from_pandas(table(8, seed=1).drop(columns="id").reset_index(drop=True)).with_columns(
        polars.col("kind").cast(polars.Enum(["elm", "fir", "oak"])), polars.col("sick").cast(polars.Boolean)
    )
    row = polars.int_range(8)
    holes = frame.with_columns(
        polars.when(row == place).then(None).otherwise(polars.col(name)).alias(name)
        for place, name in enumerate(frame.columns)
    )
    filled = fitted.impute(holes if held == "polars" else holes.to_arrow())
    if held == "pyarrow":
        filled = polars.from_arrow(filled).with_columns(polars.col("kind").cast(polars.Enum(["elm", "fir", "oak"])))
    assert filled.schema == frame.schema
    assert sum(filled.null_count().row(0)) == 0
    for place, name in enumerate(frame.columns):
        kept = [i for i in range(8) if i != place]
        assert filled[name][kept].to_list() == frame[name][kept].to_list(), name
    pandas = fitted.impute(holes.to_pandas())
    for place, name in enumerate(frame.columns):
        assert filled[name][place] == pandas[name][place], name


def test_arrays_come_back_as_arrays(tmp_path: Path):
    """In own units; the mean is what the conditionals of the model are under the transform."""
    x = table()[["mass", "width"]].to_numpy(float)
    fitted = curvae.fit("vae", x, out=tmp_path / "run", **TINY)  # pyright: ignore
    holes, mask = x[:6].copy(), np.ones((6, 2), dtype=bool)
    holes[:3, 0], mask[:3, 0] = np.nan, False
    filled = fitted.impute(holes)
    assert isinstance(filled, np.ndarray)
    np.testing.assert_array_equal(filled[mask], x[:6][mask])
    np.testing.assert_array_equal(fitted.impute(x[:6], mask=mask), filled)
    np.testing.assert_array_equal(fitted.impute(np.ma.masked_array(x[:6], ~mask)), filled)
    y = fitted.transform()(torch.from_numpy(x[:6]))
    own = conditionals(fitted.system, y, torch.from_numpy(mask))
    np.testing.assert_allclose(filled[:3, 0], fitted.transform().inverse(own.mean)[:3, 0])
    found = fitted.imputed(holes, level=0.5, draws=2)
    assert np.stack(found.draws).shape == (2, 6, 2)
    assert (found.upper - found.lower)[0, 0] < (own.upper - own.lower)[0, 0] * x[:, 0].std()
    assert list(found.cells["column"]) == ["0"] * 3
    with pytest.raises(ValueError, match="impute: level must be a probability"):
        fitted.impute(holes, level=1.0)


def test_pictures_under_another_transform_than_a_scale(tmp_path: Path):
    """Grey levels under a logit: means of what draws are there, within the levels; types stay."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, size=(80, 1, 2, 2)).astype(np.uint8)
    fitted = curvae.fit("vae", x, out=tmp_path / "run", transform=Chain(Dequantization(256), Logit(0.05)), **TINY)  # pyright: ignore
    mask = np.ones(x[:4].shape, dtype=bool)
    mask[:, :, 1] = False
    found = fitted.imputed(x[:4], mask=mask)
    assert found.filled.dtype == np.uint8
    np.testing.assert_array_equal(found.filled[mask], x[:4][mask])
    assert ((found.lower < found.mean) & (found.mean < found.upper))[~mask].all()
    assert ((found.mean > 0) & (found.mean < 256)).all()


def test_rows_given_some_columns(fitted: "curvae.Fitted"):
    """What is given is in every row, and the rest goes with it."""
    heavy, light = (
        fitted.sample(200, given={"mass": mass, "kind": kind}) for mass, kind in ((1150, "oak"), (850, "elm"))
    )
    assert (heavy["mass"] == 1150).all()
    assert (heavy["kind"] == "oak").all()
    assert heavy["age"].mean() > light["age"].mean() + 15
    assert (heavy["age"].dtype, heavy["one"].unique().tolist()) == (np.int64, [7.0])
    found = fitted.drawn_given(50, {"age": "55"})
    assert found.x.shape == (50, 7)
    assert 50 < found.effective_draws <= 2000
    assert found.beyond == ()
    assert fitted.drawn_given(5, {"mass": 1e5}).beyond == ("mass",)
    assert fitted.sample(20, seed=1, given={"age": 55}).equals(fitted.sample(20, seed=1, given={"age": 55}))


def test_what_cannot_be_given_is_refused(fitted: "curvae.Fitted", tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for given, message in (
        ({"mas": 1}, "given: expected columns out of mass, kind, .*, got 'mas'"),
        ({"mass": "heavy"}, "given: expected a number for column 'mass', got 'heavy'"),
        ({"kind": "ash"}, "given: expected one of elm, fir, oak for column 'kind', got 'ash'"),
        ({"seeds": 2.5}, "expected integers from 0, as in the run, got 2.5"),
    ):
        with pytest.raises(DataError, match=message):
            fitted.sample(3, given=given)
    x = np.random.default_rng(0).normal(size=(60, 1, 2, 2))
    pictures = curvae.fit("vae", x, out=tmp_path / "pictures", **TINY)  # pyright: ignore
    with pytest.raises(DataError, match="given: expected a run on a table, whose columns have names"):
        pictures.sample(3, given={"x0": 1})
    labeled = curvae.fit("vae", table()[["mass", "width", "kind"]], label="kind", out=tmp_path / "l", **TINY)  # pyright: ignore
    with pytest.raises(DataError, match="given: expected a feature, got the label 'kind', which the model never sees"):
        labeled.sample(3, given={"kind": "oak"})
    monkeypatch.setattr("curvae.fitted.conditioning.FEWEST", 1e9)
    with pytest.raises(ValueError, match=r"given: expected values that go together in the model, got mass=1000, which"):
        fitted.sample(3, given={"mass": 1000})


def test_one_latent_at_a_time(fitted: "curvae.Fitted", path: Path):
    """In the axes in which latents are reported; the decoder at these latents gives the same."""
    found = curvae.load(
        path, data=curvae.data.from_array(table().drop(columns="id"), kind={"seeds": "count"})
    ).traverse(steps=5)
    assert list(found) == ["latent", "value", *table().drop(columns="id")]
    assert found["latent"].tolist() == ["z0"] * 5 + ["z1"] * 5
    assert (found["value"].diff()[[1, 2, 3, 4, 6, 7]] > 0).all()
    assert set(found["kind"]) <= {"elm", "fir", "oak"}
    assert abs(found["mass"][0] - found["mass"][4]) > 150  # the latent that drives all
    row = table(1, seed=3).drop(columns="id")
    z = fitted.posterior(row).mean[0].double().numpy()
    moved = fitted.traverse(latent=1, steps=3, start=row)
    expected = fitted.decode(np.stack([np.array([z[0], value]) for value in moved["value"]]))
    pd.testing.assert_frame_equal(moved[list(expected)], expected)
    with pytest.raises(ValueError, match="latent: expected 0 to 1, got 2"):
        fitted.traverse(latent=2)
    with pytest.raises(ValueError, match="steps must be 2 or more; got 1"):
        fitted.traverse(steps=1)
    with pytest.raises(ValueError, match="traverse: expected one row to begin at, got 20"):
        fitted.traverse(start=table(20).drop(columns="id"))


def test_the_range_of_a_latent_is_that_of_posteriors(tmp_path: Path):
    """Where the data are there; else that of the prior, and it is said."""
    x = table()[["mass", "width"]].to_numpy(float)
    fitted = curvae.fit("vae", x, out=tmp_path / "run", **TINY)  # pyright: ignore
    found = fitted.traverse(steps=3)
    assert isinstance(found, Traversal)
    assert (found.of, found.x.shape, found.latent.tolist()) == ("posterior", (6, 2), [0, 0, 0, 1, 1, 1])
    assert curvae.load(tmp_path / "run").traverse(steps=3).of == "prior"
