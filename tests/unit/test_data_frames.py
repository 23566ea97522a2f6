"""Frames of pandas, polars and Arrow: the same data from each, and the same refusals."""

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import pytest

import curvae
from curvae.data import DataError, Earlier, from_array, like_array, match

pandas = pytest.importorskip("pandas")
polars = pytest.importorskip("polars")
pyarrow = pytest.importorskip("pyarrow")

RANDOM = np.random.default_rng(0)
ROWS = 60
LEVELS = ["lo", "mid", "hi"]


def frame() -> Any:
    """A polars frame with a column of each kind; grades have an order that is not that of letters."""
    u = RANDOM.normal(size=ROWS)
    return polars.DataFrame(
        {
            "u": u,
            "n": [None if i == 3 else i % 7 for i in range(ROWS)],
            "flag": [None if i == 5 else i % 3 == 0 for i in range(ROWS)],
            "price": [Decimal(f"{x:.4f}") for x in u],
            "grade": polars.Series(["lo", "mid", "hi"] * 20, dtype=polars.Enum(LEVELS)),
            "site": polars.Series(["b", "a", None] * 20, dtype=polars.Categorical),
            "class": ["QSO", "STAR"] * 30,
        }
    )


FRAME = frame()
HELD = {"polars": FRAME, "pyarrow": FRAME.to_arrow(), "pandas": FRAME.to_pandas()}
HELD |= {"nullable": FRAME.to_pandas(use_pyarrow_extension_array=True), "batch": FRAME.to_arrow().to_batches()[0]}


@pytest.mark.parametrize("held", HELD)
def test_every_library_gives_the_same_data(held: str):
    data, right = from_array(HELD[held], "class", missing="mask"), from_array(FRAME, "class", missing="mask")
    assert data.checksum == right.checksum
    assert data.spec == right.spec
    assert [column.vocabulary for column in data.schema.columns] == [
        None, None, None, None, ("lo", "mid", "hi"), ("a", "b"), ("QSO", "STAR"),
    ]  # fmt: skip
    for ours, theirs in ((data.train, right.train), (data.test, right.test)):
        assert ours.mask is not None
        np.testing.assert_array_equal(ours.mask, theirs.mask)  # pyright: ignore
    if held not in ("pandas",):  # pandas has no whole numbers and truth values with gaps of its own
        assert [column.dtype for column in data.schema.features][:4] == ["float64", "int64", "bool", "float64"]


def test_values_are_those_that_were_written():
    data = from_array(HELD["pyarrow"], "class", missing="mask")
    rows = np.concatenate([table.row for table in (data.train, data.validation, data.test)])  # pyright: ignore
    raw = np.concatenate([table.raw for table in (data.train, data.validation, data.test)])[np.argsort(rows)]
    mask = np.concatenate([table.mask for table in (data.train, data.validation, data.test)])  # pyright: ignore
    assert raw[:, 3].tolist() == [float(x) for x in FRAME["price"].to_list()]  # to the last digit
    assert raw[:4, 4].tolist() == [0, 1, 2, 0]
    assert mask[np.argsort(rows)][:6].tolist()[3] == [True, False, True, True, True, True]
    assert not mask[np.argsort(rows)][5, 2]
    assert mask[np.argsort(rows)][:, 5].tolist() == [True, True, False] * 20  # a missing word is no word of another


ODD = {
    "day": (dt.date(2020, 1, 1), r"'day': expected real numbers, got dates; pass them as numbers.*drop=\['day'\]"),
    "when": (dt.datetime(2020, 1, 1, tzinfo=dt.UTC), r"'when': .* got dates"),
    "span": (dt.timedelta(days=1), r"'span': .* got durations"),
    "hour": (dt.time(3), r"'hour': .* got times of day; pass them as hours"),
    "raw": (b"ab", r"'raw': .* got bytes"),
    "pair": ([1.0, 2.0], r"'pair': .* got lists; give each of its numbers a column"),
    "place": ({"x": 1.0}, r"'place': .* got structs"),
    "digits": ("1.5", r"'digits': .* got '1.5'; convert them to numbers"),
    "note": ("seen", r"'note': .* got 'seen'; say kind=\{'note': 'category'\}, make it the label, or .*\['note'\]"),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("held", ["polars", "pyarrow"])
def test_each_kind_that_is_no_number_has_its_remedy(name: str, held: str):
    odd = polars.DataFrame({"u": np.arange(20.0), name: [ODD[name][0]] * 20})
    with pytest.raises(DataError, match=ODD[name][1]) as error:
        from_array(odd if held == "polars" else odd.to_arrow())
    assert "\n" not in str(error.value)
    assert from_array(odd, drop=[name]).spec.event == (1,)


def test_all_columns_that_are_no_numbers_are_named_at_once():
    odd = polars.DataFrame({name: [value] * 20 for name, (value, _) in ODD.items()})
    with pytest.raises(DataError, match=r"'day'.*'when'.*'span'.*and 6 columns more"):
        from_array(odd)


def test_what_is_no_frame_in_memory_is_refused():
    with pytest.raises(DataError, match=r"expected a frame in memory, got a lazy LazyFrame; pass x.collect\(\)"):
        from_array(FRAME.lazy())
    for column in (FRAME["u"], FRAME["u"].to_arrow(), FRAME["u"].to_pandas(), FRAME.to_arrow()["u"]):
        with pytest.raises(DataError, match=r"got one dimension, \(60,\); for one row pass x"):
            from_array(column)
    twice = pyarrow.Table.from_arrays([pyarrow.array([1.0, 2.0] * 10)] * 2, ["u", "u"])
    with pytest.raises(DataError, match="got 'u' twice; rename one"):
        from_array(twice)


def test_an_order_that_is_declared_is_kept_by_ordinal():
    data = from_array(FRAME, "class", missing="mask", columns=["u", "grade"], kind={"grade": "ordinal"})
    assert data.spec.kinds == ("real", "ordinal:3")
    new = match(data.schema, "new", FRAME.head(3)).rows.raw
    assert new[:, 1].tolist() == [0, 1, 2]
    with pytest.raises(DataError, match="expected one of lo, mid, hi, as in the run, got 'huge'"):
        match(data.schema, "new", polars.DataFrame({"u": [1.0], "grade": ["huge"]}))


def test_categories_of_numbers_are_numbers():
    x = pandas.DataFrame({"u": np.arange(20.0), "year": pandas.Categorical([2019, 2020] * 10)})
    for held in (x, pyarrow.Table.from_pandas(x)):
        data = from_array(held)
        assert data.spec.support == "real"
        assert set(data.train.raw[:, 1].tolist()) == {2019, 2020}


def test_later_rows_may_come_in_another_library():
    data = from_array(FRAME, "class", missing="mask")
    for held in HELD.values():
        new = match(data.schema, "new", held)
        assert new.labels is not None
        np.testing.assert_array_equal(new.rows.raw, match(data.schema, "new", FRAME).rows.raw)
    swapped = FRAME.select(list(reversed(FRAME.columns)))
    again = like_array(Earlier(data.schema, data.transform, data.recipe), swapped)
    assert again.schema.frame == "polars"
    assert again.checksum == data.checksum


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> "curvae.Fitted":
    out = tmp_path_factory.mktemp("frames") / "run"
    x = FRAME.select("u", "n", "class").fill_null(0)
    return curvae.fit("vae", x, latent=2, hidden=8, label="class", out=out, max_updates=3, progress=False)


def test_a_frame_comes_out_of_the_library_that_came_in(fitted: "curvae.Fitted"):
    x = FRAME.select("u", "n", "class").fill_null(0).head(4)
    for held, kind in ((x, polars.DataFrame), (x.to_arrow(), pyarrow.Table), (x.to_pandas(), pandas.DataFrame)):
        for found in (fitted.encode(held), fitted.score(held, samples=20), fitted.reconstruct(held)):
            assert isinstance(found, kind)
            assert len(found) == 4
    assert fitted.encode(x)["class"].to_list() == x["class"].to_list()
    assert fitted.reconstruct(x).columns == ["u", "n"]
    assert fitted.impute(x)["u"].to_list() == x["u"].to_list()


def test_draws_come_in_the_library_that_the_run_was_trained_with(fitted: "curvae.Fitted"):
    again = curvae.load(fitted.path)
    assert isinstance(again.sample(2), polars.DataFrame)
    assert again.sample(2).schema == {"u": polars.Float64, "n": polars.Int64}
    assert isinstance(again.decode(np.zeros((3, 2))), polars.DataFrame)
