"""Small hostile tables of every kind, each with the names and values that are right, or the refusal."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from curvae.data import DataError, Reading
from curvae.data.tables.content import from_columns
from curvae.data.text.table import TextTable, read_text

HERE = Path(__file__).parent
RIGHT: dict[str, dict[str, Any]] = json.loads((HERE / "right.json").read_text(encoding="utf-8"))
READ = [name for name, right in RIGHT.items() if "refused" not in right]


def table(name: str) -> TextTable:
    return read_text(HERE / name, reading(name))


def reading(name: str) -> Reading:
    return Reading(**RIGHT[name].get("reading", {}))


@pytest.mark.parametrize("name", READ)
def test_names_and_values(name: str):
    right, found = RIGHT[name], table(name)
    content = from_columns(found, reading(name))
    assert [column.name for column in content.columns if column.is_feature] == right["names"]
    np.testing.assert_allclose(content.x, np.array(right["values"], dtype=float), rtol=1e-12)
    dtypes = [column.dtype for column in content.columns if column.is_feature]
    assert dtypes == right.get("dtypes", dtypes)
    assert found.named == right.get("named", found.named)


@pytest.mark.parametrize("name", [name for name, right in RIGHT.items() if "refused" in right])
def test_what_is_refused_has_its_remedy(name: str):
    with pytest.raises(DataError, match=RIGHT[name]["refused"]) as error:
        from_columns(table(name), reading(name))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [name for name in READ if {"rows", "left_out", "decision"} & RIGHT[name].keys()])
def test_what_was_decided_is_said(name: str):
    right, found = RIGHT[name], table(name)
    told = {each.what: each.found for each in found.decisions}
    if "rows" in right:
        assert found.row_names is not None
        assert found.row_names[0] == right["rows"]
    if "left_out" in right:
        assert right["left_out"] in told["left out"]
    if "decision" in right:
        assert told["units"] == right["decision"]


def test_every_file_has_its_values_and_every_kind_two():
    kinds = [right["kind"] for right in RIGHT.values()]
    assert {path.name for path in HERE.iterdir() if path.suffix in (".csv", ".tsv", ".txt", ".gz")} == set(RIGHT)
    assert len(RIGHT) >= 60
    assert [kind for kind in set(kinds) if kinds.count(kind) < 2] in ([], ["turned"])


@pytest.mark.parametrize("name", ["three_decimals_comma.csv", "pandas_index.csv", "units.csv", "groups.csv"])
def test_a_new_file_is_read_as_the_run_s_was(name: str):
    found, right = table(name), RIGHT[name]
    again = read_text(HERE / name, Reading(), found.dialect, found.header if found.named else ())
    assert again.dialect == found.dialect
    assert again.header == right["names"]


def test_two_rows_that_say_too_little_are_read_as_the_run_s_were(tmp_path: Path):
    """Of a run with decimal commas 1,234 is a decimal number, though alone it may be a thousand."""
    path = tmp_path / "new.csv"
    path.write_text("a;b;c\n1,234;2,345;3,456\n4,567;5,678;6,789\n")
    with pytest.raises(DataError, match="may be thousands or decimals; say decimal="):
        read_text(path)
    found = read_text(path, Reading(), table("semicolon_comma.csv").dialect, ["a", "b", "c"])
    assert found.numbers([0, 1, 2]).tolist() == [[1.234, 2.345, 3.456], [4.567, 5.678, 6.789]]
