"""What a run knows of its data: names and kinds of columns, labels by one vocabulary; and new rows read by it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from curvae.data import Column, DataError, DataWarning, Reading, Schema, from_array, from_file, load, match, names
from curvae.data.schema import Origin
from curvae.data.tables.labels import words
from curvae.typing import DataSpec

MASKED = Reading(missing="mask")
RANDOM = np.random.default_rng(0)
TABLE = RANDOM.normal(3, 2, (60, 3))
STARS = "u,g,class\n" + "1.5,2.5,STAR\n3.5,2.0,QSO\n1.0,1.0,OWL\n" * 20


def written(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


def round_trip(schema: Schema) -> Schema:
    return Schema.from_dict(json.loads(json.dumps(schema.to_dict())))


def test_kinds_are_seen_from_the_values():
    columns = {
        "real": RANDOM.normal(size=60),
        "positive": RANDOM.random(60) + 0.1,
        "count": RANDOM.poisson(4, 60).astype(float),
        "binary": np.arange(60) % 2,
        "negative": -np.arange(60.0),
        "constant": np.full(60, 7.0),
        "almost": 1e8 * (1 + 1e-15 * RANDOM.normal(size=60)),
    }
    schema = from_array(np.stack(list(columns.values()), 1), columns=list(columns)).schema
    kinds = [column.kind for column in schema.features]
    assert kinds == ["real", "positive", "count", "binary", "real", "count", "positive"]
    assert schema.constants == ("constant", "almost")
    assert schema.features[5].constant == 7.0
    assert round_trip(schema) == schema


def test_what_is_missing_does_not_count_for_a_kind():
    x = np.stack([np.where(np.arange(60) % 7, np.arange(60) % 2, np.nan), np.where(np.arange(60) % 5, 2.5, np.nan)], 1)
    schema = from_array(x, missing="mask").schema
    assert [(column.kind, column.constant) for column in schema.features] == [("binary", None), ("positive", 2.5)]
    assert schema.missing == "mask"


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int16", "uint16", "int64", "uint8", "bool"])
def test_the_type_of_the_data_is_kept(dtype: str):
    array = (TABLE > 3).astype(dtype) if dtype == "bool" else TABLE.clip(0, 100).astype(dtype)
    schema = from_array(array, support="real").schema
    assert schema.dtype == dtype
    assert {column.dtype for column in schema.features} == {dtype}
    assert from_array(array.astype(array.dtype.newbyteorder(">")), support="real").schema.dtype == dtype


def test_text_columns_of_whole_numbers_are_whole(tmp_path: Path):
    path = written(tmp_path, "a.csv", "n,x,f\n" + "1,2.5,3.0\n-2,,4.0\n" * 20)
    schema = from_file(path, missing="mask").schema
    assert [column.dtype for column in schema.features] == ["int64", "float64", "float64"]
    assert schema.holder == "file"
    assert "na" in schema.markers


def test_a_file_keeps_its_order_and_what_is_ignored(tmp_path: Path):
    schema = from_file(written(tmp_path, "a.csv", STARS), columns=["g"], label="class").schema
    told = [(column.name, column.kind, column.place) for column in schema.columns]
    assert told == [("g", "positive", 1), ("class", "label", 2), ("u", "ignored", 0)]
    assert schema.vocabulary == ("OWL", "QSO", "STAR")
    assert round_trip(schema) == schema


def test_images_have_no_columns_and_may_have_labels():
    schema = load("digits").schema
    assert (schema.features, schema.holder, schema.dtype) == ((), "set", "uint8")
    assert schema.label == Column("label", "label", "int64", -1)
    assert round_trip(schema) == schema


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"holder": "cloud"}, r"schema: holder: expected one of array, .*, got 'cloud'; the file is damaged"),
        ({"columns": [{"name": "u", "kind": "mood"}]}, r"columns.0.kind: expected one of .*, got 'mood'"),
        ({"columns": [{"kind": "real"}]}, r"columns.0: expected 'name' in it, got none"),
        ({"columns": [{"name": "u", "place": -2}]}, r"columns.0.place: expected a number from -1"),
        ({"columns": [{"name": "u", "dtype": "object"}]}, r"columns.0.dtype: expected one of bool, .*, got 'object'"),
        (
            {"columns": [{"name": n, "constant": float("nan")} for n in "ugr"]},
            r"columns: .* got nan as the constant",
        ),
        ({"columns": [{"name": "u"}, {"name": "u"}, {"name": "g"}]}, r"got 'u' twice"),
        ({"columns": [{"name": "u"}]}, r"schema: expected 3 features, got 1 for examples of shape \(3,\)"),
        ({"columns": 3}, r"columns: expected a list, got 3"),
        ({"columns": [3]}, r"columns.0: expected names and values, got 3"),
        ({"spec": {"event": [0], "support": "real", "categories": 2, "name": "x"}}, r"spec.event.0: expected a number"),
        ({"spec": None}, r"spec: expected names and values, got None"),
        ({"origins": [{"given": "a"}]}, r"origins.0: expected 'absolute' in it"),
        ({"named": "yes"}, r"named: expected true or false, got 'yes'"),
    ],
)
def test_a_damaged_file_is_one_line(change: dict[str, Any], message: str):
    values = from_array(TABLE).schema.to_dict() | change
    with pytest.raises(DataError, match=message) as error:
        Schema.from_dict(values)
    assert "\n" not in str(error.value)


def test_files_are_found_beside_a_run_that_was_moved(tmp_path: Path):
    (tmp_path / "a" / "run").mkdir(parents=True)
    origin = Origin.of(written(tmp_path / "a", "t.csv", STARS)).seen_from(tmp_path / "a" / "run")
    assert origin.near == "../t.csv"
    (tmp_path / "a").rename(tmp_path / "b")
    assert origin.candidates(tmp_path / "b" / "run") == [tmp_path / "b" / "t.csv"]
    assert origin.candidates(tmp_path / "b" / "run", Path("there")) == [Path("there/t.csv")]
    assert origin.candidates(tmp_path / "nowhere") == [tmp_path / "a" / "t.csv"]  # to be named in the error


def test_names_come_first_and_positions_by_their_own_name(tmp_path: Path):
    path = written(tmp_path, "a.csv", "5,0,class\n" + "1.5,2.5,STAR\n3.5,4.5,QSO\n" * 20)
    assert from_file(path, header=True, columns=[0], label="class").train.raw[:, 0].unique().tolist() == [2.5, 4.5]
    assert from_file(path, header=True, positions=[0], label="class").train.raw[:, 0].unique().tolist() == [1.5, 3.5]
    with pytest.raises(DataError, match=r"out of 5, 0, class, got 1; a number counts columns in positions="):
        from_file(path, header=True, columns=[1], label="class")
    with pytest.raises(DataError, match=r"out of 5, 0, class, got 2"):  # among names that are numbers, 2 is no place
        from_file(path, header=True, label=2)
    with pytest.raises(DataError, match=r"positions: expected columns by name or positions, got both"):
        from_file(path, header=True, columns=["0"], positions=[0])
    with pytest.raises(DataError, match=r"expected positions in 0..2, got 3"):
        from_file(path, header=True, positions=[3])
    with pytest.raises(DataError, match=r"positions: expected each column .* '2' twice"):
        from_file(path, header=True, positions=[2, -1])


def test_labels_of_all_parts_have_one_vocabulary(tmp_path: Path):
    train, test = written(tmp_path, "a.csv", STARS), written(tmp_path, "b.csv", "class,g,u\nQSO,2,1\nELF,4,3\n")
    data = from_file(train, label="class", test=test)
    assert data.schema.vocabulary == ("ELF", "OWL", "QSO", "STAR")
    assert data.test.raw.tolist() == [[1, 2], [3, 4]]  # u, g
    assert data.test.label is not None
    assert data.test.label.tolist() == [2, 0]
    mixed = from_array(TABLE, ["a", "1", "2"] * 20, test=TABLE[:2], test_labels=[1, 2.0])
    assert mixed.schema.vocabulary == ("1", "2", "a")
    assert mixed.test.label is not None
    assert mixed.test.label.tolist() == [0, 1]


@pytest.mark.parametrize("gap", [None, float("nan"), ""])
def test_a_row_without_a_label_is_refused_in_training(gap: Any):
    with pytest.raises(DataError, match=r"labels: expected a label in every row, got 1 without .* first in row 4"):
        from_array(TABLE, [*"abab", gap, *"ab" * 27, "a"])


def test_labels_of_every_kind_in_words():
    assert words(np.array([2.0, 0.5, np.nan])).tolist() == ["2", "0.5", ""]
    assert words(np.array([b"a", b"b "])).tolist() == ["a", "b"]
    assert words(np.array(["2020-01-01", "NaT"], dtype="M8[D]")).tolist() == ["2020-01-01", ""]
    assert from_array(TABLE, np.arange(60) * 10**30.0).train.label.dtype == torch.float32  # pyright: ignore
    masked = np.ma.masked_equal(np.arange(60) % 3, 2)
    with pytest.raises(DataError, match="got 20 without one"):
        from_array(TABLE, masked)


def test_known_sets_by_either_spelling():
    for name in names():
        assert name in {"digits", "mnist", "svhn", "omniglot", "cifar10"} or {"-", "_"} & set(name)
    with pytest.raises(DataError, match=r"fashion.mnist: expected one of .*train-images"):
        load("Fashion-MNIST", data_dir="/nowhere")
    with pytest.raises(DataError, match=r"got 'fashon-mnist'; did you mean 'fashion-mnist'\?"):
        load("fashon-mnist")


# New rows


@pytest.fixture(scope="module")
def schema() -> Schema:
    x = np.stack([RANDOM.normal(size=60), RANDOM.normal(100, 20, 60), RANDOM.normal(-5, 0.1, 60)], 1)
    return from_array(x, ["cat", "dog", "owl"] * 20, columns=["u", "g", "r"]).schema


def frame_of(values: Any, header: Any, **more: Any) -> Any:
    pandas = pytest.importorskip("pandas")
    return pandas.DataFrame(values, columns=header).assign(**more)


ROWS = np.arange(6.0).reshape(2, 3)


def test_columns_are_found_by_their_names(schema: Schema):
    for header in (["u", "g", "r"], ["r", "u", "g"]):
        found = match(schema, "new", frame_of(ROWS, ["u", "g", "r"])[header])
        assert found.rows.raw.tolist() == ROWS.tolist()
        assert found.labels is None
    records = np.array([(3, 1, 2)], dtype=[("r", "f4"), ("u", "i2"), ("g", "f8")])
    assert match(schema, "new", records).rows.raw.tolist() == [[1, 2, 3]]
    assert match(schema, "new", ROWS).rows.raw.tolist() == ROWS.tolist()


def test_what_is_missing_is_refused_and_what_is_more_is_named(schema: Schema):
    with pytest.raises(DataError, match=r"new: expected the run's columns u, g, r, but u, g are missing among mass, r"):
        match(schema, "new", frame_of(ROWS[:, :2], ["mass", "r"]))
    with pytest.warns(DataWarning, match=r"new: ignored 'id', which the run does not have"):
        found = match(schema, "new", frame_of(ROWS, ["u", "g", "r"], id=[7, 8]))
    assert found.rows.raw.tolist() == ROWS.tolist()
    with pytest.raises(DataError, match=r"got 'u' twice; rename one"):
        match(schema, "new", frame_of(np.zeros((2, 4)), ["u", "g", "r", "u"]))
    with pytest.raises(DataError, match=r"expected 3 columns, u, g, r, got 2"):
        match(schema, "new", ROWS[:, :2])


def test_frames_without_names_go_by_place(schema: Schema):
    assert match(schema, "new", frame_of(ROWS, None)).rows.raw.tolist() == ROWS.tolist()
    numbered = from_array(TABLE).schema
    assert match(numbered, "new", frame_of(ROWS, ["a", "b", "c"])).rows.raw.tolist() == ROWS.tolist()
    assert match(numbered, "new", frame_of(ROWS, [2, 0, 1])).rows.raw.tolist() == ROWS[:, [1, 2, 0]].tolist()


def test_names_of_several_levels():
    pandas = pytest.importorskip("pandas")
    header = pandas.MultiIndex.from_tuples([("flux", "u"), ("flux", "g"), ("id", "")])
    table = pandas.DataFrame(TABLE, columns=header)
    schema = from_array(table, columns=[("flux", "g"), ("flux", "u")]).schema
    assert schema.names == ("flux.g", "flux.u")
    assert match(schema, "new", table[:2]).rows.raw.tolist() == TABLE[:2, [1, 0]].tolist()
    assert from_array(table, labels=("id", ""), support="real").schema.label is not None


def test_labels_of_new_rows_have_the_run_s_codes():
    pytest.importorskip("pandas")
    frame = frame_of(TABLE, ["u", "g", "r"], kind=["cat", "dog", "owl"] * 20)
    schema = from_array(frame, labels="kind").schema
    found = match(schema, "new", frame[1:3])
    assert found.rows.label is not None
    assert found.rows.label.tolist() == [1, 2]
    with pytest.warns(DataWarning, match=r"new: label 'elf' is none of cat, dog, owl, as in the run"):
        found = match(schema, "new", frame[:2].assign(kind=["elf", "owl"]))
    assert found.rows.label is not None
    assert found.rows.label.tolist() == [-1, 2]
    assert found.labels is not None
    assert found.labels.tolist() == ["elf", "owl"]
    with pytest.warns(DataWarning, match=r"new: 1 of 2 rows have no label"):
        match(schema, "new", frame[:2].assign(kind=["cat", None]))


@pytest.mark.filterwarnings("ignore::curvae.data.DataWarning")
def test_labels_that_are_numbers_here_and_words_there():
    numbers, worded = from_array(TABLE, np.arange(60) % 3).schema, from_array(TABLE, ["1", "2", "x"] * 20).schema
    for given, known, codes in (
        (["1", "2"], numbers, [1, 2]),
        (["1", "b"], numbers, [1, -1]),
        ([1.0, 2.0], worded, [0, 1]),
        ([True, False], numbers, [1, 0]),
    ):
        found = match(known, "new", ROWS, np.array(given))
        assert found.rows.label is not None
        assert found.rows.label.tolist() == codes


@pytest.mark.parametrize("event", [(8, 8), (64,), (1, 8, 8), (8, 8, 1)])
def test_shapes_of_images_that_say_the_same(event: tuple[int, ...]):
    digits = load("digits")
    raw = digits.test.raw[:2]
    found = match(digits.schema, "new", raw.reshape(2, *event).numpy())
    assert torch.equal(found.rows.raw, raw)


@pytest.mark.parametrize("shape", [(2, 64, 1, 1, 2), (2, 63), (2, 4, 16), (1, 8, 8), (64,), (0, 64), ()])
def test_shapes_that_do_not_fit(shape: tuple[int, ...]):
    schema = load("digits").schema
    if shape == (1, 8, 8):
        with pytest.raises(DataError, match=r"expected data of shape \(1, 8, 8\), .* got \(8, 9\)"):
            match(schema, "new", np.zeros((2, 8, 9)))
    else:
        with pytest.raises(DataError, match=r"new: expected (rows of data|data of shape \(1, 8, 8\))"):
            match(schema, "new", np.zeros(shape))


def test_values_that_a_likelihood_has_no_place_for():
    bits = from_array(np.arange(60).reshape(20, 3) % 2).schema
    with pytest.raises(DataError, match=r"new: expected 0 and 1, as in the run, got 0.5 in row 1, column 2"):
        match(bits, "new", np.array([[0, 1, 0], [0, 1, 0.5]]))
    codes = from_array(np.arange(60).reshape(20, 3) % 4, support="category").schema
    assert codes.features[0].vocabulary == ("0", "1", "2", "3")
    with pytest.raises(DataError, match=r"new: expected categories 0 to 3, as in the run, got 4 in row 0, column 1"):
        match(codes, "new", np.array([[0, 4, 1]]))


def test_missing_values_of_new_rows(schema: Schema):
    hole = np.array([[1.0, np.nan, 3.0]])
    with pytest.raises(DataError, match=r"new: expected finite .* got 1 NaN, the first in row 0, column 'g'"):
        match(schema, "new", hole)
    for found in (
        match(schema, "new", hole, reading=MASKED),
        match(schema, "new", np.ma.masked_invalid(hole)),
    ):
        assert found.rows.mask is not None
        assert found.rows.mask.tolist() == [[True, False, True]]
        assert found.rows.raw.tolist() == [[1, 0, 3]]


def test_a_run_of_which_no_schema_was_written():
    schema = Schema.bare(DataSpec((2,)), "class", None)
    assert match(schema, "new", frame_of([[1, 2]], ["a", "b"])).rows.raw.tolist() == [[1, 2]]
    labeled = match(schema, "new", frame_of([[1, 2]], ["a", "b"], **{"class": [3]}))
    assert labeled.rows.raw.tolist() == [[1, 2]]
    assert Schema.bare(DataSpec((2,)), -1, None).columns[-1].place == 2
    assert Schema.bare(DataSpec((2,)), None, ["u", "g"]).names == ("u", "g")


def replaced(value: Any) -> Any:
    return [[1.0, value, 3.0]] * 4


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.arange(12).astype("M8[D]").reshape(4, 3), r"got dates; pass them as numbers"),
        (np.arange(12).astype("m8[D]").reshape(4, 3), r"got durations; pass them as numbers"),
        (TABLE[:4] + 1j, r"got complex numbers; pass real and imaginary parts"),
        (np.array([["a", "b"]] * 4), r"got text"),
        (np.array([[b"a", b"b"]] * 4), r"got text"),
        (np.array(replaced("b"), dtype=object), r"got str 'b' in row 0"),
        (np.array(replaced(1j), dtype=object), r"got complex '1j' in row 0"),
        (np.array(replaced(10**400), dtype=object), r"got 4 infinite"),
        ([[1.0, 2.0], [3.0]], r"expected rows of equal shape, got setting an array element"),
        ({"u": [1.0]}, r"got dict"),
        (np.zeros(4, dtype=[("u", "f8", 2)]), r"field 'u'"),
        (np.zeros(4, dtype=[("u", "M8[D]")]), r"field 'u': expected real numbers, got dates"),
        (torch.zeros(4, 3).to_sparse(), r"expected a dense tensor of numbers, got torch.sparse_coo"),
        (np.zeros((4, 0)), r"expected at least one feature"),
    ],
)
def test_what_is_no_table_of_numbers_is_refused_in_one_line(x: Any, message: str):
    with pytest.raises(DataError, match=message) as error:
        from_array(x)
    assert "\n" not in str(error.value)


def test_a_sparse_mask_says_how_to_pass_it():
    from scipy import sparse

    with pytest.raises(DataError, match=r"mask: expected an array, got a sparse matrix; pass x.toarray\(\)"):
        from_array(TABLE, mask=sparse.csr_matrix(TABLE > 0))


def test_numbers_in_whatever_they_are_held():
    from decimal import Decimal
    from fractions import Fraction

    held = TABLE.astype(object)
    held[0] = [Decimal("1.5"), Fraction(1, 2), True]
    assert from_array(held).schema.dtype == "float64"
    held[1, 1] = None
    assert from_array(held, missing="mask").train.mask is not None
    for kind in (np.longdouble, np.float16, ">f4", np.uint64):
        assert from_array(TABLE.clip(0).astype(kind)).train.x.isfinite().all()
    assert from_array(torch.tensor(TABLE).bfloat16()).train.raw.dtype == torch.float32


def test_frames_of_every_kind_of_column():
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame({"n": pandas.array([1, None, 3] * 20, dtype="Int64"), "b": [True, False, True] * 20})
    data = from_array(frame, missing="mask")
    assert [(column.dtype, column.kind) for column in data.schema.features] == [("int64", "count"), ("bool", "binary")]
    assert data.train.mask is not None
    for name, column in {
        "dates": pandas.Timestamp("2020-01-01"),
        "durations": pandas.Timedelta("1D"),
        "complex numbers": 1j,
        "'a'": "a",
    }.items():
        with pytest.raises(DataError, match=f"column 'bad': expected real numbers, got {name}"):
            from_array(frame.assign(n=1, bad=column))


def test_a_masked_array_keeps_its_mask():
    masked = np.ma.masked_less(TABLE, 2)
    for missing in ("error", "mask"):
        data = from_array(masked, missing=missing)
        assert data.train.mask is not None
        assert data.train.raw[data.train.mask].min() >= 2
    both = from_array(masked, mask=TABLE < 4)
    assert both.train.mask is not None
    assert both.train.raw[both.train.mask].max() < 4
    assert from_array(np.ma.masked_array(TABLE)).train.mask is None
    records = np.ma.array([(1.0, 2.0)] * 20, mask=[(0, 1)] * 20, dtype=[("u", "f8"), ("g", "f8")])
    assert (
        match(from_array(TABLE[:, :2], columns=["u", "g"]).schema, "new", records, reading=MASKED).rows.mask is not None
    )


def test_rows_know_their_place_in_the_file(tmp_path: Path):
    path = written(tmp_path, "a.csv", "u\n" + "\n".join(map(str, range(100, 140))))
    data = from_file(path)
    for part in (data.train, data.validation, data.test):
        assert part.row is not None
        assert (part.raw[:, 0] - 100).tolist() == part.row.tolist()
