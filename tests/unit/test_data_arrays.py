"""Own data from memory: what is understood, what is guessed, what is refused in one line."""

import math

import numpy as np
import pytest
import torch

from curvae.data import DataError, from_array, reopen
from curvae.data.transforms import Identity

RANDOM = np.random.default_rng(0)
TABLE = RANDOM.normal(3, 2, (200, 4))
HOLES = np.where(RANDOM.random((200, 4)) < 0.1, np.nan, TABLE)
BITS = RANDOM.integers(0, 2, (200, 6))
CODES = RANDOM.integers(0, 5, (200, 6))


def everything(data):
    return torch.cat([data.train.raw, data.validation.raw, data.test.raw])


def test_real_tables_are_split_and_standardized():
    data = from_array(TABLE, labels=np.arange(200), name="mine")
    assert (len(data.train), len(data.validation), len(data.test)) == (140, 30, 30)
    assert data.spec[:5] == ((4,), "real", 2, "mine", "element")
    torch.testing.assert_close(data.train.x.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(data.train.x.std(0, correction=0), torch.ones(4))
    np.testing.assert_allclose(data.transform.inverse(data.test.x), data.test.raw, atol=1e-5)
    rows = torch.cat([table.label for table in (data.train, data.validation, data.test)])  # pyright: ignore
    assert sorted(rows.tolist()) == list(range(200))
    np.testing.assert_array_equal(everything(data), TABLE[rows])


def test_precision_is_kept_where_the_offset_is_large():
    data = from_array(TABLE[:, :1] * 1e-3 + 1e6)
    assert abs(float(data.train.x.std(correction=0)) - 1) < 1e-5


@pytest.mark.parametrize("array", [TABLE, torch.tensor(TABLE), TABLE.tolist(), TABLE.astype(">f8"), TABLE[::-1][::-1]])
def test_arrays_of_every_kind(array):
    assert from_array(array).checksum == from_array(TABLE).checksum


def test_what_comes_in_is_copied():
    x = torch.tensor(TABLE)
    data = from_array(x)
    x.zero_()
    assert everything(data).abs().min() > 0


def test_splits_follow_the_seed():
    assert from_array(TABLE, seed=1).checksum != from_array(TABLE).checksum
    assert len(from_array(TABLE, split=(0.5, 0.25, 0.25)).test) == 50


def test_a_test_part_of_its_own():
    data = from_array(TABLE[:150], list("ab") * 75, test=TABLE[150:], test_labels=["b", "c"] * 25)
    assert (len(data.train), len(data.validation), len(data.test)) == (124, 26, 50)
    np.testing.assert_array_equal(data.test.raw, TABLE[150:])
    assert data.test.label is not None
    assert data.test.label[:2].tolist() == [1, 2]


@pytest.mark.parametrize(
    ("x", "event", "unit"),
    [
        (np.arange(20 * 5 * 4).reshape(20, 5, 4).astype(np.uint8), (1, 5, 4), "pixels in [0,1], not dequantized"),
        (RANDOM.integers(0, 256, (20, 5, 4, 3), dtype=np.uint8), (3, 5, 4), "pixels in [0,1], not dequantized"),
        (RANDOM.random((20, 5, 4, 1)), (1, 5, 4), "pixels in [0,1], not dequantized"),
        (RANDOM.random((20, 3, 5, 6)) * 9, (3, 5, 6), "data as given"),
    ],
)
def test_images(x, event, unit):
    data = from_array(x, split=(0.5, 0.25, 0.25))
    assert data.spec.event == event
    assert data.transform.unit == unit
    assert data.train.x.mean(0).abs().max() < 1e-5
    assert data.train.x.std() != pytest.approx(1, abs=1e-3)
    assert from_array(x, standardize=True).train.x.std().item() == pytest.approx(1, abs=0.1)


def test_channels_move_first():
    x = RANDOM.random((20, 5, 4, 3))
    data = from_array(x, transform=Identity(), labels=np.arange(20))
    assert data.train.label is not None
    np.testing.assert_allclose(data.train.x.permute(0, 2, 3, 1), x[data.train.label], rtol=1e-6)


def test_sequences_say_their_event():
    assert from_array(RANDOM.normal(size=(20, 7, 3)), event=(7, 3)).spec.event == (7, 3)
    with pytest.raises(DataError, match=r"event: expected 21 elements a row as in x, got \(7, 4\)"):
        from_array(RANDOM.normal(size=(20, 7, 3)), event=(7, 4))


@pytest.mark.parametrize("x", [BITS, BITS.astype(bool), BITS.astype(np.float32), BITS.reshape(200, 2, 3)])
def test_binary_data_are_recognized_and_left_alone(x):
    data = from_array(x)
    assert data.spec.support == "binary"
    assert set(data.train.x.unique().tolist()) == {0.0, 1.0}
    assert from_array(BITS, support="real").spec.support == "real"


def test_categories_are_counted():
    data = from_array(CODES, support="category")
    assert data.spec[:5] == ((6,), "category", 5, "array", "shared")
    assert data.train.x.max() == 4
    assert from_array(CODES, support="category", categories=7).spec.categories == 7


def test_missing_values_become_a_mask():
    data = from_array(HOLES, missing="mask")
    given = from_array(HOLES, mask=~np.isnan(HOLES))
    assert data.checksum == given.checksum
    assert data.train.mask is not None
    assert not data.train.mask.all()
    assert (data.train.x[~data.train.mask] == 0).all()
    seen = [data.train.x[:, j][data.train.mask[:, j]] for j in range(4)]
    assert all(abs(float(column.mean())) < 1e-5 for column in seen)
    assert from_array(TABLE, missing="mask").train.mask is None


def test_labels_of_every_kind():
    def codes(labels):
        return from_array(TABLE[:20], labels, split=(0.5, 0.25, 0.25)).train.label

    for labels in (np.arange(20) % 2, torch.arange(20) % 2, [True, False] * 10, ["STAR", "QSO"] * 10):
        assert set(codes(labels).tolist()) == {0, 1}  # pyright: ignore
    assert codes(np.arange(20) / 3).dtype == torch.float32  # pyright: ignore


def test_pandas_frames():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(TABLE, columns=list("ugri")).assign(kind=["STAR", "QSO"] * 100, flag=1)
    data = from_array(frame, labels="kind", columns=["u", "r"])
    assert data.spec.event == (2,)
    assert data.train.label is not None
    assert set(data.train.label.tolist()) == {0, 1}
    tested = from_array(frame[:150], labels="kind", test=frame[150:])
    assert tested.test.label is not None
    assert tested.spec.event == (5,)
    assert from_array(frame).spec.kinds == ("real", "real", "real", "real", "category:2", "binary")
    with pytest.raises(DataError, match=r"column 'kind': expected real numbers, got '0'; convert them to numbers"):
        from_array(frame.assign(kind=[f"{i}" for i in range(200)]))
    with pytest.raises(DataError, match=r"x: expected a column out of .*, got 'z'"):
        from_array(frame, columns=["u", "z"])
    frame.loc[3, "r"] = math.nan
    with pytest.raises(DataError, match=r"got 1 NaN, the first in row 3, column 'r'; pass missing='mask'"):
        from_array(frame, labels="kind")


def test_arrays_cannot_be_reopened():
    with pytest.raises(DataError, match=r"recipe: expected a data set or a file, got an array in memory; pass it to"):
        reopen(from_array(TABLE, name="mine").recipe)


def replaced(value):
    return np.where(np.arange(800).reshape(200, 4) == 6, value, TABLE)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"x": np.arange(9)},
            r"x: expected \(N, features\) or images, got one dimension, \(9,\); for one row pass x\[None\]",
        ),
        ({"x": 3.0}, r"x: expected rows of data, got shape \(\); pass at least one row"),
        ({"x": TABLE[:0]}, r"x: expected rows of data, got shape \(0, 4\)"),
        ({"x": np.zeros((9, 5, 5, 5))}, r"x: expected \(N, F\), \(N, H, W\) or .*, got \(9, 5, 5, 5\); say event="),
        ({"x": [["a", "b"]]}, r"x: expected real numbers, got text; leave them out"),
        ({"x": TABLE + 1j}, r"x: expected real numbers, got complex numbers; pass real and imaginary"),
        ({"x": torch.tensor(TABLE) + 1j}, r"x: expected real numbers, got torch.complex128"),
        ({"x": HOLES}, r"x: .* got \d+ NaN, the first in row \d+, column \d; pass missing='mask'"),
        ({"x": HOLES, "mask": HOLES < 99, "test": HOLES}, r"test: expected finite .* missing='mask'"),
        ({"x": replaced(np.nan), "columns": list("ugri")}, r"got 1 NaN, the first in row 1, column 'r'"),
        ({"x": replaced(np.nan), "mask": TABLE < 99}, r"where observed, got 1 NaN"),
        ({"x": replaced(np.inf), "missing": "mask"}, r"got 1 infinite, the first in row 1, column 2; drop or mend"),
        ({"x": TABLE, "missing": "fill"}, r"missing: expected 'error' or 'mask', got 'fill'"),
        ({"x": TABLE, "mask": TABLE[:, :3] > 0}, r"x: expected a mask of shape \(200, 4\), got \(200, 3\)"),
        ({"x": TABLE, "labels": np.arange(199)}, r"labels: expected shape \(200,\), one a row, got \(199,\)"),
        (
            {"x": TABLE, "labels": HOLES[:, 0]},
            r"labels: expected a label in every row, got \d+ without one \(NaN",
        ),
        ({"x": TABLE, "test": TABLE[:, :3]}, r"test: expected 4 columns, 0, 1, 2, 3, got 3"),
        ({"x": TABLE, "split": (0.5, 0.5)}, r"split: expected three shares that sum to 1, got \(0.5, 0.5\)"),
        ({"x": TABLE[:3]}, r"split: expected rows in every part, got shares .* of 3 rows; pass more data"),
        ({"x": TABLE, "support": "counts"}, r"support: expected one of real, positive, count, .*; got 'counts'"),
        ({"x": TABLE, "support": "count"}, r"x: expected integers from 0 as support is 'count', got "),
        ({"x": TABLE, "support": "positive"}, r"x: expected numbers above 0 as support is 'positive', got -"),
        ({"x": CODES, "support": "binary"}, r"support: expected only 0 and 1 as support is 'binary', got \d; say"),
        ({"x": TABLE, "support": "category"}, r"x: expected integers 0, 1, ... as support is 'category', got -"),
        (
            {"x": CODES, "support": "category", "categories": 3},
            r"categories: expected more than the largest code, 4, got 3",
        ),
        (
            {"x": BITS, "standardize": True},
            r"standardize: expected False for binary data, got True; say support='real'",
        ),
    ],
)
def test_misuse(arguments, message):
    with pytest.raises(DataError, match=message) as error:
        from_array(**arguments)
    assert "\n" not in str(error.value)
