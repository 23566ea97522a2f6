"""How the house is kept: one name for one thing, one method once, no circles, and Markdown that a diff can show."""

import ast
import importlib
import inspect
import pkgutil
from collections import defaultdict
from collections.abc import Iterator
from graphlib import TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest

import curvae

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
SOURCE = ROOT / "src" / "curvae"
FOLDERS = sorted(path.parent for path in SOURCE.rglob("__init__.py"))
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
    **dict.fromkeys(("adopt", "bracket", "calibrate", "compare", "evaluate", "gaps"), COMMAND),
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


CLOSED_FORM = "a cheaper form of what the base makes of its abstract methods; a contract test holds the two equal"
OF_PARTS = "a law made of other laws asks them; of nearly any other, n draws are n and every tensor may be moved"
OF_DRAWS = "a model averaged over draws of its decoder's weights asks each of them"
DEFAULTS = {
    "Likelihood.diagonal": CLOSED_FORM,
    "Likelihood.quadratic": CLOSED_FORM,
    "Prior.score": CLOSED_FORM,
    "Inference.before": "what it refines, where it begins with another method",
    "LatentSystem.parts": "predictions of a system with a posterior over weights are by such a model",
    **dict.fromkeys((f"LatentVariableModel.{name}" for name in ("_with", "expectation", "sample_given")), OF_DRAWS),
    "LatentVariableModel.log_likelihood": "that of one batch at less cost, handed to whoever takes a model",
    "LatentSystem.cluster_counts": "a cascade has those of its second model",
    "LatentSystem.cluster_probabilities": "a cascade asks its second model",
    "Posterior.count": OF_PARTS,
    "Posterior.free": OF_PARTS,
}
"""Methods that are implemented and overridden all the same, each with its reason."""


def classes() -> Iterator[type]:
    for module in pkgutil.walk_packages(curvae.__path__, "curvae."):
        if not module.name.endswith("__main__"):
            for each in vars(importlib.import_module(module.name)).values():
                if inspect.isclass(each) and each.__module__ == module.name:
                    yield each


def implements(owner: type, name: str) -> bool:
    """Whether a class of ours has the body of a method or property, not its declaration alone."""
    method = vars(owner).get(name)
    known = inspect.isfunction(method) or isinstance(method, (property, classmethod, staticmethod))
    declared = getattr(method, "__isabstractmethod__", False) or getattr(owner, "_is_protocol", False)
    return owner.__module__.startswith("curvae.") and known and not declared


def test_each_method_is_implemented_once():
    """Classes are abstract or final; what torch and Python call (forward, dunder methods) is another matter."""
    found = {
        f"{base.__name__}.{name}"
        for each in classes()
        for name in vars(each)
        if name != "forward" and not name.startswith("__") and implements(each, name)
        for base in each.__mro__[1:]
        if implements(base, name)
    }
    assert found == set(DEFAULTS)


def loaded(path: Path) -> Iterator[str]:
    """What a file imports while it is loaded: not in functions, nor for the type checker alone."""
    waiting: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif not isinstance(node, ast.FunctionDef) and not (
            isinstance(node, ast.If) and "TYPE_" in ast.unparse(node.test)
        ):
            waiting.extend(ast.iter_child_nodes(node))


def siblings(folder: Path) -> dict[str, set[str]]:
    """Which files and folders of a folder each of them imports."""
    own = ".".join(folder.relative_to(SOURCE.parent).parts) + "."
    children = {path.stem: path for path in folder.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    found: dict[str, set[str]] = {}
    for child, path in children.items():
        names = chain.from_iterable(loaded(file) for file in (path.rglob("*.py") if path.is_dir() else [path]))
        first = {name.removeprefix(own).split(".")[0] for name in names if name.startswith(own)}
        found[child] = {name if name in children else "__init__" for name in first} - {child}
    return found


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: str(folder.relative_to(SOURCE.parent)))
def test_no_circle_inside_a_folder(folder: Path):
    """Neither of its files nor of its folders, each taken as a whole."""
    TopologicalSorter(siblings(folder)).prepare()


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
