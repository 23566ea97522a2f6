"""Splits that are given, or keep groups together, or shares of a class: in memory, from files, and opened again."""

from pathlib import Path

import numpy as np
import pandas
import pytest

import curvae
from curvae.data import Data, DataError, from_array, from_file
from curvae.data.schema import Schema

COUNT = 60
WORDS = np.array(["train", "validation", "test"])


@pytest.fixture
def frame(rng: np.random.Generator) -> pandas.DataFrame:
    u, g = rng.normal(size=(2, COUNT)).round(3)
    part = WORDS[rng.permutation(np.repeat([0, 0, 1, 2], COUNT // 4))]
    star = np.repeat(np.arange(12), 5)
    kind = np.where(star < 9, "QSO", "STAR")
    return pandas.DataFrame({"u": u, "g": g, "part": part, "star": star, "kind": kind})


def rows(data: Data) -> list[np.ndarray]:
    return [table.row.numpy() for table in (data.train, data.validation, data.test)]


def test_a_column_says_where_each_row_belongs(frame: pandas.DataFrame):
    data = from_array(frame, split_column="part", drop=["star", "kind"])
    for found, word in zip(rows(data), WORDS, strict=True):
        assert np.array_equal(found, np.flatnonzero(frame["part"] == word))
    assert data.schema.names == ("u", "g")


def test_numbers_of_rows_say_it_too(frame: pandas.DataFrame):
    x = frame[["u", "g"]].to_numpy()
    split = {"train": range(10, 60), "validation": np.arange(5), "test": [9, 8, 7, 6, 5]}
    assert [len(part) for part in rows(from_array(x, split=split))] == [50, 5, 5]
    assert rows(from_array(x, split=split))[2].tolist() == [5, 6, 7, 8, 9]


def test_validation_comes_from_training_where_no_row_is_said_to_be(frame: pandas.DataFrame):
    frame["part"] = np.where(frame["star"] < 10, "Train", "TEST")
    data = from_array(frame, split_column="part", group="star", drop=["kind"])
    train, validation, test = rows(data)
    assert np.array_equal(test, np.arange(50, 60))
    assert len(validation) == 10
    assert not set(frame["star"][train]) & set(frame["star"][validation])


@pytest.mark.parametrize("seed", range(4))
def test_rows_of_a_group_stay_together(frame: pandas.DataFrame, seed: int):
    data = from_array(frame, group="star", drop=["part", "kind"], seed=seed)
    parts = [set(frame["star"][found]) for found in rows(data)]
    assert sorted(star for part in parts for star in part) == list(range(12))
    assert [len(part) for part in parts] == [8, 2, 2]
    assert data.schema.names == ("u", "g")
    again = from_array(frame, group=frame["star"].to_numpy(), drop=["part", "kind", "star"], seed=seed)
    assert np.array_equal(rows(again)[2], rows(data)[2])


@pytest.mark.parametrize("group", [None, "star"])
def test_each_class_has_its_share(frame: pandas.DataFrame, group: str | None):
    data = from_array(frame, labels="kind", stratify="kind", group=group, drop=["part", "star"])
    counts = np.array([np.unique(frame["kind"][found], return_counts=True)[1] for found in rows(data)])
    wanted = np.outer([0.7, 0.15, 0.15], [45, 15])
    assert np.abs(counts - wanted).max() <= (1 if group is None else 5.5)  # 15 rows of 3 groups: one for each part
    assert sorted(np.concatenate(rows(data)).tolist()) == list(range(COUNT))


def test_small_parts_are_never_empty():
    x, kind = np.arange(6.0)[:, None] ** 2, np.array(list("aaabbb"))
    for found in rows(from_array(x, stratify=kind)):
        assert sorted(kind[found]) == ["a", "b"]


def test_a_file_is_split_so_and_opened_again(frame: pandas.DataFrame, tmp_path: Path):
    path = tmp_path / "stars.csv"
    frame.to_csv(path, index=False)
    data = from_file(path, label="kind", split_column="part", drop=["star"])
    again = curvae.data.reopen(data.recipe, checksum=data.checksum)
    assert all(map(np.array_equal, rows(data), rows(again)))
    assert Schema.from_dict(data.schema.to_dict()) == data.schema
    assert [column.kind for column in data.schema.columns] == ["real", "real", "label", "ignored", "ignored"]
    later = curvae.data.match(data.schema, "later", frame.drop(columns="part"))
    assert later.rows.raw.shape == (COUNT, 2)


def test_evaluation_of_a_run_sees_the_same_test_rows(frame: pandas.DataFrame, tmp_path: Path):
    path = tmp_path / "stars.csv"
    frame.to_csv(path, index=False)
    options = {"split_column": "part", "drop": ["star", "kind"], "out": tmp_path / "run", "progress": False}
    curvae.fit("vae", path, latent=1, hidden=4, max_updates=2, **options)
    found = curvae.load(tmp_path / "run").run.data().test
    assert np.array_equal(found.row.numpy(), np.flatnonzero(frame["part"] == "test"))


REFUSED = {
    "a group in two parts": (
        {"split_column": "part", "group": np.zeros(COUNT, dtype=int), "drop": ["star", "kind"]},
        "group: expected all rows of a group in one part, got '0' in train and validation and test; mend one of both.",
    ),
    "too few of a class": (
        {"stratify": np.array(["a", "a", *"b" * (COUNT - 2)])},
        "stratify: expected 3 or more rows of each class, got 2 of 'a', one for each part; join some.",
    ),
    "too few groups": (
        {"group": np.repeat(["a", "b"], COUNT // 2)},
        "group: expected 3 or more groups, got 2, one for each part; join some.",
    ),
    "a class within a group": (
        {"group": "star", "stratify": np.resize(["a", "b"], COUNT)},
        "stratify: expected one class in each group, got several in '0'; leave group or stratify out.",
    ),
    "a word that is no part": (
        {"split_column": "kind"},
        "split_column: expected train, validation or test in every row, got 'QSO' in row 0; mend it.",
    ),
    "no such column": ({"group": "stars"}, "x: expected a column out of u, g, part, star, kind, got 'stars'"),
    "a row in two parts": (
        {"split": {"train": range(58), "validation": [58], "test": [58, 59]}},
        "split: expected each row in one part, got row 58 twice; leave it out of one.",
    ),
    "a row twice in one": (
        {"split": {"train": [*range(58), 3], "validation": [58], "test": [59]}},
        "split: expected each row in one part, got row 3 twice; leave it out of one.",
    ),
    "a row in none": (
        {"split": {"train": range(50), "validation": [58], "test": [59]}},
        "split: expected each row in one part, got 8 in none, the first row 50.",
    ),
    "a row that is not there": (
        {"split": {"train": range(60), "validation": [60], "test": [59]}},
        "split: expected numbers of rows in 0..59 for validation, got [60].",
    ),
    "no test rows": (
        {"split": {"train": range(58), "validation": [58, 59]}},
        "split: expected rows in every part, got 58 train, 2 validation, 0 test; pass more data, or other shares.",
    ),
    "a part of no name": ({"split": {"dev": [1]}}, "split: expected train, validation and test, got 'dev'."),
    "another number of values": ({"group": np.arange(3)}, "group: expected shape (60,), one a row, got (3,)."),
    "a row without a group": (
        {"group": np.array([np.nan, *range(COUNT - 1)])},
        "group: expected a value in every row, got none in row 0; fill it in.",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("options", "line"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_split_is_refused_in_a_line(frame: pandas.DataFrame, options: dict, line: str):
    with pytest.raises(DataError) as told:
        from_array(frame, **options)
    assert str(told.value).startswith(line)
