"""Parquet: only the columns that are asked for, and of large files row group by row group."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import torch
from pyarrow import parquet
from test_data_stored import same

import curvae
from curvae.data import from_array, from_file
from curvae.data import stored as limits
from curvae.data.formats.arrow import ParquetTable
from curvae.data.stored import StoredRows
from curvae.data.tables import parquet as columns

ROWS = 3000


@pytest.fixture
def frame(rng):
    numbers = rng.normal(3, 2, size=(ROWS, 3))
    return pd.DataFrame(numbers, columns=["u", "g", "r"]).assign(n=rng.integers(100, size=ROWS), kind="a")


@pytest.fixture
def path(tmp_path, frame):
    found = tmp_path / "stars.parquet"
    frame.to_parquet(found, row_group_size=500)
    return found


@pytest.fixture
def large(monkeypatch):
    """Every Parquet file is; two row groups are shuffled together."""
    for module in (limits, columns):
        monkeypatch.setattr(module, "MOST_AT_RANDOM", 0)
    monkeypatch.setattr(limits, "WINDOW", 2 * 500 * 3 * 8)


@pytest.fixture
def asked(monkeypatch):
    """What is read of files: names of columns, and row groups."""
    found, read = [], ParquetTable.read

    def seen(self, places, groups=None):
        found.append(([self.empty.column_names[place] for place in places], groups))
        return read(self, places, groups)

    monkeypatch.setattr(ParquetTable, "read", seen)
    return found


@pytest.mark.parametrize("how", [{"columns": ["g", "u"]}, {"drop": ["r", "n", "kind"]}, {"positions": [1, 0]}])
def test_only_columns_that_are_asked_for_are_read(path, frame, asked, how):
    data = from_file(path, **how)
    assert {name for names, _ in asked for name in names} == {"u", "g"}
    same(data, from_array(frame, **how))


def test_a_label_is_read_beside_them(path, frame, asked):
    data = from_file(path, columns=["u"], label="kind")
    assert {name for names, _ in asked for name in names} == {"u", "kind"}
    assert data.schema.vocabulary == ("a",)
    assert [column.name for column in data.schema.columns] == ["u", "kind", "g", "r", "n"]


def test_names_that_come_twice_are_found_by_place(tmp_path, rng):
    x = rng.normal(size=(100, 3))
    table = pa.table([pa.array(column) for column in x.T], names=["u", "u", "g"])
    parquet.write_table(table, tmp_path / "x.parquet")
    found = from_file(tmp_path / "x.parquet", positions=[1, 2])
    assert torch.equal(found.train.raw, torch.from_numpy(x[found.train.row][:, 1:]))


def test_names_with_points_are_not_those_of_parts(tmp_path, rng):
    x = rng.normal(size=(100, 3))
    table = pa.table([pa.array(column) for column in x.T], names=["u", "u.error", "g"])
    parquet.write_table(table, tmp_path / "x.parquet")
    for name, place in (("u", 0), ("u.error", 1)):
        found = from_file(tmp_path / "x.parquet", columns=[name, "g"])
        assert torch.equal(found.train.raw, torch.from_numpy(x[found.train.row][:, [place, 2]]))


@pytest.mark.parametrize("dtype", ["float64", "float32", "int32", "Int16", "bool"])
def test_a_large_file_is_that_in_memory(path, frame, large, dtype):
    frame = frame[["u", "g", "r"]]
    frame = (frame > 3 if dtype == "bool" else frame.round() if "nt" in dtype else frame).astype(dtype)
    frame.to_parquet(path, row_group_size=500)
    found = from_file(path)
    assert isinstance(found.train.raw, StoredRows)
    same(found, from_array(frame))


def test_what_is_missing_is_as_in_memory(path, frame, large):
    frame = frame[["u", "g", "r", "n"]].astype({"n": "Int64"})
    frame.loc[::7, "n"], frame.loc[::5, "u"] = pd.NA, np.nan
    frame.to_parquet(path, row_group_size=500)
    same(from_file(path, missing="mask"), from_array(frame, missing="mask"))


def test_a_large_file_with_words_is_read(path, frame, large):
    frame = frame[["u", "g"]].assign(kind=np.tile(["a", "b", "c"], ROWS // 3))
    frame.to_parquet(path, row_group_size=500)
    found = from_file(path)
    assert not isinstance(found.train.raw, StoredRows)
    same(found, from_array(frame))


def test_an_epoch_reads_each_row_group_once(path, large, asked):
    """But for the one window that the first batch of the next one is still drawn from."""
    data = from_file(path, columns=["u", "g", "r"])
    order = data.train.raw.shuffled(torch.Generator().manual_seed(0))
    data.train.raw.source._kept.clear()
    asked.clear()
    for rows in order.split(64):
        data.train.batch(rows)
    read = [group for _, groups in asked for group in groups]
    assert sorted(read) == list(range(6))


def test_a_fit_in_blocks_reaches_what_one_in_memory_does(path, large, monkeypatch, tmp_path):
    """The order of the rows is another: the same start, and a bound that is the same but for the noise of training."""
    options = {"columns": ["u", "g", "r"], "latent": 1, "hidden": 8, "max_updates": 100, "progress": False}
    blocks = curvae.fit("vae", path, out=tmp_path / "blocks", **options)
    assert isinstance(blocks.run.data().train.raw, StoredRows)
    monkeypatch.setattr(columns, "MOST_AT_RANDOM", 2**30)
    memory = curvae.fit("vae", path, out=tmp_path / "memory", **options)
    one, two = (fitted.metrics()["validation_bound"][-1] for fitted in (blocks, memory))
    assert one != two
    assert one == pytest.approx(two, abs=0.05)
