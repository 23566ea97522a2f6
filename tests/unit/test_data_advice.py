"""What is said of columns that are better treated in another way, and what declared kinds hold to."""

import numpy as np
import pytest

from curvae.data import DataAdvice, DataError, from_array, from_file

RANDOM = np.random.default_rng(0)
PLAIN = RANDOM.normal(size=(200, 3))


def with_column(values: object, name: str = "x") -> dict[str, object]:
    return {"x": np.column_stack([PLAIN, values]), "columns": ["u", "g", "r", name]}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (with_column(np.full(200, 3.0)), r"one value alone in 'x'; proposal: drop=\['x'\]"),
        (with_column(PLAIN[:, 1]), r"the same values as in another column in 'x'; proposal: drop=\['x'\]"),
        (with_column(np.where(np.arange(200) % 9, PLAIN[:, 0], -999)), r"-999 in 'x', .* proposal: missing_value="),
        (with_column(np.arange(200) % 3, "species"), r"few whole numbers in 'species', .* proposal: label='species'"),
        (with_column(np.arange(200) % 5), r"few whole numbers in 'x', .* proposal: label='x'"),
        ({"x": RANDOM.poisson(0.5, (200, 4)).astype(np.uint16)}, r"counts in '0', '1', '2', '3', .* support='count'"),
        (
            {"x": np.hstack([PLAIN, np.zeros((200, 60))])},
            r"one value alone in '3', .* and 52 more; proposal: leave all 60 of them out\.",
        ),
        ({"x": np.arange(400).reshape(2, 200).T * 1}, r"a number for each row in '0', '1', .* drop=\['0', '1'\]"),
    ],
)
def test_it_is_said_with_a_proposal(arguments: dict[str, object], message: str):
    with pytest.warns(DataAdvice, match=message):
        from_array(**arguments)


@pytest.mark.filterwarnings("error")
def test_of_a_plain_table_nothing_is_said():
    from_array(PLAIN)
    from_array(RANDOM.random((200, 4)) + 1)


def test_a_column_without_values():
    x = np.column_stack([PLAIN, np.full(200, np.nan)])
    with pytest.warns(DataAdvice, match=r"no value at all in '3'; proposal: drop=\['3'\]"):
        from_array(x, missing="mask", columns=list("0123"))
    assert from_array(x, drop=[3]).spec.event == (3,)


def test_declared_missing_values_are_masked():
    x = np.where(RANDOM.random((200, 3)) < 0.1, -999, PLAIN)
    data, same = from_array(x, missing_value=[-999]), from_array(np.where(x == -999, np.nan, x), missing="mask")
    assert data.checksum == same.checksum
    assert data.schema.markers == ("-999",)


def test_kinds_that_are_declared_hold():
    counts = RANDOM.poisson(3, (200, 2))
    assert from_array(counts, kind={"0": "count", "1": "count"}).spec.support == "count"
    kinds = [
        column.kind for column in from_array(PLAIN, columns=["u", "g", "r"], kind=["u=ordinal"] * 0).schema.columns
    ]
    assert kinds == ["real"] * 3
    with pytest.raises(DataError, match=r"expected whole numbers from 0 as 'u' is a count, got .* say kind="):
        from_array(PLAIN, columns=["u", "g", "r"], kind={"u": "count"})
    with pytest.raises(TypeError, match=r"from_array: there is no option 'droop'"):
        from_array(PLAIN, droop=[1])


@pytest.mark.filterwarnings("error")
def test_counts_that_are_modelled_as_counts_are_not_pointed_at():
    x = np.column_stack([PLAIN, RANDOM.poisson(5, 200)])
    data = from_array(x, columns=["u", "g", "r", "n"], kind={"n": "count"})
    assert data.spec.kinds == ("real", "real", "real", "count")


def test_words_are_features_where_they_are_categories(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("sex,x\n" + "".join(f"{'MFI'[i % 3]},{i * 0.37:.2f}\n" for i in range(40)))
    with pytest.warns(DataAdvice, match="words in 'sex', taken for categories"):
        data = from_file(path, kind={"sex": "category"})
    column = data.schema.features[0]
    assert (column.kind, column.vocabulary) == ("category", ("F", "I", "M"))
    with pytest.raises(DataError, match=r"expected one of sex, x|out of sex, x"):
        from_file(path, kind={"kind": "category"})
    with pytest.raises(DataError, match=r"kind: expected one of real, .*, got 'mood' for 'sex'"):
        from_file(path, kind=["sex=mood"])
