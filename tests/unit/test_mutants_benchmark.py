"""Mutants are of what is computed, the same for a seed, and told from what the tests notice."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
PYTHON = '''"""A docstring of 3 words."""


def between(value: int | None, low: float = 0.5) -> bool:
    """Whether it is; 1 of 2."""
    if value is None:
        raise ValueError(f"expected a number below {10}; got " + "none")
    return low < value and not value > 10
'''
C = """/* 1 < 2 */
#define WIDE 4
for (size i = 0; i < n; i++)
    sum += a->b[i] * 0.5;
"""


@pytest.fixture
def mutants(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import mutants

    yield mutants
    for name in ("mutants", "mutation"):
        sys.modules.pop(name, None)


def after(found, text: str) -> set[str]:
    return {one.diff(text).split("\n+ ")[1] for one in found}


def test_what_is_computed_is_mutated_and_nothing_else(mutants):
    found = mutants.mutations("src/curvae/some.py", PYTHON)
    assert after(found, PYTHON) == {
        "def between(value: int | None, low: float = 1.0) -> bool:",
        "if not (value is None):",
        "if value is not None:",
        "return low <= value and not value > 10",
        "return low < value or not value > 10",
        "return low < value and value > 10",
        "return low < value and not value >= 10",
        "return low < value and not value > 11",
    }
    assert all(ast.parse(one.apply(PYTHON)) for one in found)
    assert {one.inside for one in found} == {"between"}


def test_c_likewise(mutants):
    assert after(mutants.mutations("src/curvae/some.c", C), C) == {
        "for (size i = 1; i < n; i++)",
        "for (size i = 0; i <= n; i++)",
        "sum = a->b[i] * 0.5;",
        "sum += a->b[i] / 0.5;",
        "sum += a->b[i] * 1.0;",
    }


def test_every_mutant_of_the_package_is_python(mutants):
    texts = mutants.sources(mutants.ROOT)
    drawn = mutants.draw(texts, 0, 300)
    assert drawn == mutants.draw(texts, 0, 300) != mutants.draw(texts, 1, 300)
    assert len(set(drawn)) == 300
    assert {mutants.package(one.path) for one in drawn} == {mutants.package(path) for path in texts}
    for one in drawn:
        if one.path.endswith(".py"):
            ast.parse(one.apply(texts[one.path]))


def test_a_noticed_mutant_is_killed_and_another_survives(mutants, tmp_path: Path):
    root = tmp_path / "root"
    for name, text in {
        "src/curvae/some.py": PYTHON,
        "tests/test_some.py": "from some import between\n\ndef test_low():\n    assert not between(0.5)\n",
        "pyproject.toml": "[tool.pytest.ini_options]\npythonpath = ['src/curvae']\n",
    }.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    for command in (["init", "-q"], ["add", "."]):
        subprocess.run(["git", *command], cwd=root, check=True)
    copy = mutants.Copy(root, tmp_path / "copy")
    found = {one.diff(PYTHON).split("\n+ ")[1]: one for one in mutants.mutations("src/curvae/some.py", PYTHON)}
    killed = copy.outcome(found["return low <= value and not value > 10"], whole=False)
    assert (killed.verdict, killed.by) == ("killed", "tests/test_some.py::test_low")
    assert copy.outcome(found["return low < value and not value > 11"], whole=False).verdict == "survived"
    assert (tmp_path / "copy" / "src" / "curvae" / "some.py").read_text() == PYTHON
