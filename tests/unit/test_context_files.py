"""Columns that are known of each row, by name in every frame and file: the same data whatever holds them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import io, sparse

from curvae.data import Data, DataError, from_array, from_file, match
from curvae.data.tables.files import match_file

ROWS = 24
RNG = np.random.default_rng(0)
COUNTS = RNG.poisson(3.0, (ROWS, 3)).astype(float) + 1
SIZE, WEIGHT, BATCH = RNG.lognormal(0, 1, ROWS), RNG.integers(1, 4, ROWS), np.resize(["p", "q"], ROWS).astype(object)
PLATE = np.resize([7, 11, 12], ROWS)
TABLE = pd.DataFrame(COUNTS, columns=["a", "b", "c"]).assign(size=SIZE, w=WEIGHT, batch=BATCH, plate=PLATE)
SAID = {"support": "count", "exposure": "size", "weights": "w", "covariates": ["batch", "plate"]}
SAID |= {"kind": {"plate": "category"}}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(data: Data) -> None:
    """Every row has what is known of it."""
    known, row = data.train.context, data.train.row.numpy()
    scale = np.exp(np.log(SIZE[row]).mean())
    np.testing.assert_allclose(known.exposure, SIZE[row] / scale, rtol=1e-6)
    np.testing.assert_array_equal(known.weight, WEIGHT[row])
    np.testing.assert_array_equal(known.covariates[:, 1], BATCH[row] == "q")
    np.testing.assert_array_equal(known.covariates[:, 2:], PLATE[row][:, None] == [11, 12, 7])
    np.testing.assert_array_equal(data.train.raw, COUNTS[row])


def with_astropy(name: str) -> Callable[[], object]:
    def write() -> object:
        return pytest.importorskip("astropy.table").Table.from_pandas(TABLE).write(name)

    return write


def cells() -> object:
    anndata = pytest.importorskip("anndata")
    rows, genes = (pd.Index(each, dtype=object) for each in ([f"c{j}" for j in range(ROWS)], ["a", "b", "c"]))
    beside = TABLE[["size", "w", "batch", "plate"]].set_index(rows).astype({"batch": object})
    return anndata.AnnData(sparse.csr_matrix(COUNTS), obs=beside, var=pd.DataFrame(index=genes))


KNOWN = {"size": SIZE, "w": WEIGHT, "batch": BATCH, "plate": PLATE}
WRITERS = {
    "a.csv": lambda: TABLE.to_csv("a.csv", index=False),
    "a.parquet": lambda: TABLE.to_parquet("a.parquet"),
    "a.feather": lambda: TABLE.to_feather("a.feather"),
    "a.xlsx": lambda: TABLE.to_excel("a.xlsx", index=False),
    "a.fits": with_astropy("a.fits"),
    "a.ecsv": with_astropy("a.ecsv"),
    "a.npz": lambda: np.savez("a.npz", x=COUNTS, **{**KNOWN, "batch": BATCH.astype(str), "w": WEIGHT[:, None]}),
    "a.mat": lambda: io.savemat("a.mat", {"x": COUNTS, **KNOWN}),
    "a.h5ad": lambda: cells().write_h5ad("a.h5ad"),
}


@pytest.mark.parametrize("name", WRITERS)
def test_files_name_what_is_known(here: Path, name: str):
    WRITERS[name]()
    data = from_file(name, **SAID)
    check(data)
    again = match_file(data.schema, Path(name)).rows
    np.testing.assert_allclose(again.context.exposure, SIZE)
    np.testing.assert_array_equal(again.context.covariates[:, 0], BATCH == "q")
    with pytest.raises(DataError, match="expected the exposure column 'no' among"):
        from_file(name, **{**SAID, "exposure": "no"})


def test_frames_of_any_library_name_what_is_known():
    polars, pyarrow = pytest.importorskip("polars"), pytest.importorskip("pyarrow")
    frame = polars.from_pandas(TABLE)
    coded = frame.with_columns(polars.col("batch").cast(polars.Categorical))
    for each in (TABLE, frame, coded, pyarrow.Table.from_pandas(TABLE, preserve_index=False)):
        data = from_array(each, **SAID)
        check(data)
        np.testing.assert_allclose(match(data.schema, "x", frame.reverse()).rows.context.exposure, SIZE[::-1])
    check(from_array(cells(), **SAID))
    check(from_array(TABLE.astype({"batch": "category"}).to_records(index=False), **SAID))


def test_arrays_without_names_go_by_numbers(here: Path):
    """Features as well, wherever they are."""
    x = np.column_stack([SIZE, COUNTS, WEIGHT])
    np.save("a.npy", x)
    for data in (from_array(x, errors={"2": "0"}, weights="4"), from_file("a.npy", errors={"2": "0"}, weights="4")):
        assert [column.name for column in data.schema.features] == ["1", "2", "3"]
        scale = data.transform.scale[1].item()
        np.testing.assert_allclose(data.train.context.errors[:, 1], SIZE[data.train.row] / scale, rtol=1e-6)
        assert not data.train.context.errors[:, [0, 2]].any()
        again = match(data.schema, "x", torch.from_numpy(x)).rows
        np.testing.assert_array_equal(again.raw, COUNTS)
        np.testing.assert_array_equal(again.context.errors[:, 1], SIZE)
    named = from_array(x, errors={"b": "0"}, weights="4", columns=["a", "b", "c"])
    assert list(named.schema.names) == ["a", "b", "c"]
    for said in ({"0": "0"}, {"b": "0"}):
        with pytest.raises(DataError, match="errors: expected those of features"):
            from_array(x, errors=said)


@pytest.mark.parametrize(
    ("arrays", "line"),
    [
        ({"x": COUNTS, "size": SIZE[1:]}, r"expected 24 values in 'size', one a row, got shape \(23,\)"),
        ({"x": COUNTS.reshape(ROWS, 3, 1), "size": SIZE}, r"expected a table \(N, F\) beside size, got shape"),
    ],
)
def test_keys_that_are_no_columns(here: Path, arrays: dict, line: str):
    np.savez("a.npz", **arrays)
    with pytest.raises(DataError, match=line):
        from_file("a.npz", support="count", exposure="size")


def test_a_marker_is_no_value_of_a_covariate():
    marked = TABLE.assign(t=np.where(PLATE == 7, -999.0, 1.0))
    with pytest.raises(DataError, match="expected a value in each row of t, got nan in row 0"):
        from_array(marked[["a", "b", "t"]], covariates=["t"], missing_value=[-999])
