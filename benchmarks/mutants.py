"""Whether the tests notice: mutants of the package drawn by a seed, each tried in a copy of the tree.

A mutant is one small change (``mutation.py``): a comparison, an operator, a constant, a boolean, a return value, an
index off by one, a removed statement; in the C code likewise. Packages are drawn with equal chances, so that small ones
are hit too; then a file by its number of lines, then a place in it. First run the doctests of the file and the tests
that speak of what was mutated, by name or through the lists that all methods stand in; the whole suite only where these
all pass.

    python benchmarks/mutants.py --seed 16 --count 30             # writes results/mutants.md; goes on if cut off
    python benchmarks/mutants.py --seed 16 --count 30 --list      # only says which they are
    python benchmarks/mutants.py --seed 16 --count 30 --only 7    # one of them again
    python benchmarks/mutants.py --seed 16 --near                 # never the whole suite, for a first look

What became of each is a line of ``runs/mutants.jsonl``, by the commit: what was tried there is not tried again.
"""

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from mutation import Mutation, mutations

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PAGE = HERE / "results" / "mutants.md"
LINES = ROOT / "runs" / "mutants.jsonl"
LIMIT = 1800
"""Seconds after which a mutant is killed: it hangs."""
ABOUT_C = ("kernel", "compiled", "last_step", "bfgs", "native")
"""Tests of the C code."""
EQUIVALENT = {
    "- HALVINGS = 60\n+ HALVINGS = 61": "after 60 halvings low and high are as near as their rounding",
    "- whole = True\n+ whole = False": "model and posterior get the same gradients, in two passes instead of one",
    "- seen = raw if mask is None else torch.where(mask, raw, 0)\n"
    "+ seen = raw if mask is None else torch.where(mask, raw, 1)": "0 and 1 are both within float32",
    '- schema = Schema(spec, label, named=False, dtype=str(parts[0].raw.dtype).removeprefix("torch."), holder="set")\n'
    '+ schema = Schema(spec, label, named=False, dtype=str(parts[1].raw.dtype).removeprefix("torch."), holder="set")': (
        "the parts of a known set are of one type"
    ),
}
"""Mutants that compute the same, by their diff, and why."""


@dataclass(frozen=True)
class Outcome:
    """What became of a mutant."""

    verdict: str
    by: str
    """The test that failed, or why it computes the same."""
    seconds: float


def sources(root: Path) -> dict[str, str]:
    """Path and text of every file that can be mutated."""
    found = sorted(path for end in ("py", "c", "h") for path in (root / "src" / "curvae").rglob(f"*.{end}"))
    return {path.relative_to(root).as_posix(): path.read_text() for path in found}


def package(path: str) -> str:
    """The part of the package that a file belongs to; the C code is one of its own."""
    if not path.endswith(".py"):
        return "C"
    parts = path.split("/")
    return parts[2] if len(parts) > 3 else "curvae"


def draw(texts: dict[str, str], seed: int, count: int) -> list[Mutation]:
    """``count`` different mutants."""
    rng = random.Random(seed)
    pools = {path: found for path, text in texts.items() if (found := mutations(path, text))}
    packages: dict[str, list[str]] = {}
    for path in pools:
        packages.setdefault(package(path), []).append(path)
    drawn: dict[Mutation, None] = {}
    while len(drawn) < count:
        paths = packages[rng.choice(sorted(packages))]
        (path,) = rng.choices(paths, [texts[path].count("\n") for path in paths])
        drawn[rng.choice(pools[path])] = None
    return list(drawn)


def near(root: Path, mutant: Mutation, text: str) -> list[str]:
    """What to try first: the file's own examples, tests that name what was mutated, tests of the lists it stands in."""
    if package(mutant.path) == "C":
        return [f"tests/unit/test_{name}.py" for name in ABOUT_C]
    names = re.findall(r"^(?:class|def) ([A-Za-z]\w*)", text, re.M)
    ranked = [mutant.path] if ">>>" in text else []
    for wanted in ([mutant.inside], names):
        speaks = re.compile(rf"\b({'|'.join(filter(None, wanted)) or '(?!)'})\b")
        every = sorted((root / "tests").rglob("*.py"), key=lambda path: ("cli" in path.parts, path))  # fast ones first
        files = [path for path in every if speaks.search(path.read_text())]
        helpers = [path.stem for path in files if not path.stem.startswith("test_")]
        ranked += [path.relative_to(root).as_posix() for path in files if path.stem.startswith("test_")]
        ranked += [path for helper in helpers for path in importing(root, helper)]
    return list(dict.fromkeys(ranked))


def importing(root: Path, helper: str) -> list[str]:
    """Test files that import one of the helpers beside them."""
    imports = re.compile(rf"^(?:import|from) {helper}\b", re.M)
    files = (path for path in sorted((root / "tests").rglob("test_*.py")) if imports.search(path.read_text()))
    return [path.relative_to(root).as_posix() for path in files]


class Copy:
    """The tracked files in a folder of their own, where one of them may be changed."""

    def __init__(self, root: Path, folder: Path):
        self.root, self.folder = root, folder
        for name in subprocess.check_output(["git", "ls-files"], cwd=root, text=True).splitlines():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, folder / name)

    def pytest(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """The tests with this copy's package; what they cache stays in the folder."""
        settings = {"PYTHONPATH": str(self.folder / "src"), "XDG_CACHE_HOME": str(self.folder / ".cache")}
        data = os.environ.get("CURVAE_TEST_DATA", str(self.root.parent / "shared" / "data"))
        settings |= {"OMP_NUM_THREADS": "1", "CURVAE_TEST_DATA": data}
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=no", *arguments]
        options = {"cwd": self.folder, "env": os.environ | settings, "text": True, "capture_output": True}
        try:
            return subprocess.run(command, timeout=LIMIT, **options)
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 124, "FAILED by taking too long", "")

    def outcome(self, mutant: Mutation, whole: bool) -> Outcome:
        """Killed by the first test that fails, or survived all."""
        place, started = self.folder / mutant.path, time.perf_counter()
        before = place.read_text()
        place.write_text(mutant.apply(before))
        try:
            verdict, by = self._tried(near(self.folder, mutant, before), whole)
        finally:
            place.write_text(before)
        if verdict == "survived" and (reason := EQUIVALENT.get(mutant.diff(before))):
            verdict, by = "equivalent", reason
        return Outcome(verdict, by, time.perf_counter() - started)

    def _tried(self, tests: list[str], whole: bool) -> tuple[str, str]:
        for arguments in ([tests] if tests else []) + ([[]] if whole else []):
            done = self.pytest("-x", *arguments)
            if done.returncode:
                failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
                return "killed", failed[0].split(" - ")[0].split(" ", 1)[1] if failed else f"exit {done.returncode}"
        return "survived", "the whole suite" if whole else "the tests near it"


def place(mutant: Mutation, texts: dict[str, str]) -> str:
    """File and line."""
    return f"{mutant.path.removeprefix('src/curvae/')}:{mutant.line(texts[mutant.path])}"


def page(drawn: Iterable[tuple[int, Mutation, Outcome]], texts: dict[str, str], seed: int, revision: str) -> str:
    """The table, and the diffs below it."""
    drawn = list(drawn)
    killed = sum(outcome.verdict == "killed" for _, _, outcome in drawn)
    head = f"# Mutants, seed {seed}, at {revision}\n\n{killed} of {len(drawn)} killed.\n"
    rows = ["", "| # | where | kind | verdict | by | s |", "|--:|---|---|---|---|--:|"]
    for number, mutant, outcome in drawn:
        cells = (place(mutant, texts), mutant.kind, outcome.verdict, outcome.by, f"{outcome.seconds:.0f}")
        rows.append(f"| {number} | {' | '.join(cells)} |")
    diffs = [f"\n{number}.\n\n```diff\n{mutant.diff(texts[mutant.path])}\n```" for number, mutant, _ in drawn]
    return head + "\n".join([*rows, *diffs]) + "\n"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--only", type=int, nargs="*", default=[], help="numbers of the list")
    parser.add_argument("--list", action="store_true", help="draw, and try none")
    parser.add_argument("--near", action="store_true", help="try the tests near it only")
    parser.add_argument("--out", type=Path, default=PAGE)
    return parser.parse_args()


def known(revision: str, whole: bool) -> dict[str, Outcome]:
    """What became of mutants of this commit, by file and diff; survivors of the tests near them may meet the others."""
    lines = [json.loads(line) for line in LINES.read_text().splitlines()] if LINES.exists() else []
    here = [line for line in lines if line["revision"] == revision]
    found = {line["mutant"]: Outcome(line["verdict"], line["by"], line["seconds"]) for line in here}
    return {key: each for key, each in found.items() if not (whole and each.verdict == "survived")}


def tried(
    drawn: Iterable[tuple[int, Mutation]], texts: dict[str, str], whole: bool, revision: str
) -> Iterator[tuple[int, Mutation, Outcome]]:
    """One after the other, in one copy of the tree; those that were tried before are as they were found."""
    before = known(revision, whole)
    LINES.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        copy = Copy(ROOT, Path(folder))
        for number, mutant in drawn:
            key = f"{place(mutant, texts)}\n{mutant.diff(texts[mutant.path])}"
            outcome = before.get(key) or copy.outcome(mutant, whole)
            with LINES.open("a") as file:
                file.write(json.dumps({"revision": revision, "mutant": key, **asdict(outcome)}) + "\n")
            print(f"{number} {place(mutant, texts)} {outcome.verdict} by {outcome.by}", flush=True)
            yield number, mutant, outcome


def main() -> None:
    options, texts = arguments(), sources(ROOT)
    numbered = enumerate(draw(texts, options.seed, options.count), 1)
    drawn = [(number, mutant) for number, mutant in numbered if not options.only or number in options.only]
    if options.list:
        for number, mutant in drawn:
            print(f"{number} {place(mutant, texts)} {mutant.kind}\n{mutant.diff(texts[mutant.path])}")
        return
    revision = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, text=True).strip()
    found = list(tried(drawn, texts, not options.near, revision))
    if not options.only:
        options.out.write_text(page(found, texts, options.seed, revision))
    if any(outcome.verdict == "survived" for _, _, outcome in found):
        raise SystemExit("some survived")


if __name__ == "__main__":
    main()
