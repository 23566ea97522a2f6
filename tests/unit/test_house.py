"""How the house is kept: one name for one thing, and Markdown that a diff can show."""

import ast
import importlib
import pkgutil
from collections import defaultdict
from pathlib import Path

import pytest

import curvae

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
SOURCE = ROOT / "src" / "curvae"
LONGEST = 160
SHARED = {
    "fit": "of the package, and of training, which it calls with what it has made of words and files",
    "load": "of a run, with what reads it in training, and of a known data set",
    "iwae": "the objective, and the system that is named after it",
}
"""Public names of more than one thing, each with its reason."""
COMMAND = "the command, and the function that it calls"
MENDED = "the file's content, and the same in words of a run or of data, with a line on how to mend it"
HOMONYMS = {
    "fit": SHARED["fit"],
    "load": SHARED["load"],
    **dict.fromkeys(("bracket", "calibrate", "compare", "evaluate", "gaps"), COMMAND),
    **dict.fromkeys(("names_of_npz", "read_json", "read_npy", "read_npz", "read_yaml"), MENDED),
}
"""Functions and classes, exported or not, whose name another has, each with its reason."""


def test_no_public_name_is_given_twice():
    found: dict[str, dict[int, str]] = defaultdict(dict)
    for module in pkgutil.walk_packages(curvae.__path__, "curvae."):
        if module.ispkg:
            package = importlib.import_module(module.name)
            for name in getattr(package, "__all__", ()):
                found[name][id(getattr(package, name))] = module.name
    twice = {name: sorted(places.values()) for name, places in found.items() if len(places) > 1}
    assert {name: places for name, places in twice.items() if name not in SHARED} == {}
    assert set(SHARED) <= set(twice)


def defined() -> dict[str, list[str]]:
    """Public functions and classes of all modules: their names, and the modules that define them."""
    found: dict[str, list[str]] = defaultdict(list)
    for path in sorted(SOURCE.rglob("*.py")):
        for each in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(each, (ast.FunctionDef, ast.ClassDef)) and not each.name.startswith("_"):
                found[each.name].append(str(path.relative_to(SOURCE)))
    return found


def test_no_function_or_class_has_the_name_of_another():
    """Whether a package exports it or not: ``read`` was eleven functions, of which one was exported."""
    twice = {name: places for name, places in defined().items() if len(places) > 1}
    assert {name: places for name, places in twice.items() if name not in HOMONYMS} == {}
    assert set(HOMONYMS) <= set(twice)


def prose(text: str) -> list[str]:
    """The lines of a page that are neither a table, code nor mathematics."""
    lines, inside = [], ""
    for line in text.splitlines():
        mark = next((mark for mark in ("```", "$$") if line.strip().startswith(mark)), "")
        if mark and inside in ("", mark):
            inside = "" if inside else mark
        elif not inside and not line.startswith("|"):
            lines.append(line)
    return lines


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_lines_of_prose_fit_a_screen(page: Path):
    assert [line for line in prose(page.read_text(encoding="utf-8")) if len(line) > LONGEST] == []


def test_what_counts_as_prose():
    page = "a\n| b |\n```\nc\n$$\n```\n$$\nd\n$$\n  ```python\n  e\n  ```\nf"
    assert prose(page) == ["a", "f"]
