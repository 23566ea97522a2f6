"""Every command line of README and docs: `curvae` lines run, small and on digits; of the others the words exist.

Not run are ``pip``, ``git`` and ``python -m venv`` (the network), and what takes hours: ``make`` has its targets, a
script of ours its file and its flags.
"""

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import curvae
from curvae.cli import main

ROOT = Path(__file__).parents[2]
SMALL = {
    "evaluate": "--samples 50 --limit 5 --ais 2 --ais-data 5 --most 1",
    "score": "--samples 20",
    "refine": "--steps 1",
    "calibrate": "--count 100 --draws 9",
    "bracket": "--temperatures 2 --data 5 --chains 2 --samples 20",
    "ood": "--models 2 --samples 4 --steps 1 --limit 12 --reference 12",
    "gaps": "--data 3 --steps 4 --samples 20",
    "denoise": "--draws 20",
}
"""Flags that come last, and win."""
IMAGES = {*curvae.data.names()} - {"python-topics"}
SHELL = ("", "sh", "bash", "console", "shell", "text")
FIRST = re.compile(r"^(?:\$ )?(curvae|make|python|\S*/?pip)\b")


def lines(page: Path) -> Iterator[str]:
    """Command lines of the fenced blocks, without their comments."""
    for language, block in re.findall(r"^ *```([^\n]*)\n(.*?)^ *```", page.read_text(), re.S | re.M):
        for line in block.replace("\\\n", " ").splitlines():
            if language in SHELL and FIRST.match(line.strip()):
                yield line.split("  #")[0].strip().removeprefix("$ ")


WHOLE = ROOT / "docs" / "how-to"
"""Pages that run as they are, in test_how_to.py."""
PAGES = [ROOT / "README.md", *sorted(page for page in (ROOT / "docs").rglob("*.md") if page.parent != WHOLE)]
LINES = {line: page.relative_to(ROOT).as_posix() for page in PAGES for line in lines(page)}
"""Each once, with a page where it stands."""
CURVAE = [line for line in LINES if line.startswith("curvae ")]
OTHERS = [line for line in LINES if re.match(r"make |python (?!-m)", line)]


def small(line: str) -> list[str]:
    """The words of a line for digits and little effort; training only as far as its configuration, or a moment."""
    words = shlex.split(line, comments=True)[1:]
    if "--data-dir" in words:
        place = words.index("--data-dir")
        del words[place : place + 2]
    words = ["digits" if word in IMAGES else word for word in words]
    if "--from" in words:
        return [*("digits" if word.endswith(".csv") else word for word in words), "--max-updates", "1"]
    if "--continue" in words:
        small_ones = {"--minutes": "0.001", "--epochs": "1", "--max-updates": "1"}
        return [small_ones.get(before, word) for before, word in zip(["", *words], words, strict=False)]
    if "--refit" in words:
        return words
    if words[0] == "fit" and "--help" not in words:
        return [*words, "--print_config"]
    return [*words, *SMALL.get(words[0], "").split()]


@pytest.fixture(scope="session")
def evaluated(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that has been evaluated."""
    folder = Path(shutil.copytree(run, tmp_path_factory.mktemp("documented") / "run"))
    assert main(["evaluate", str(folder), *SMALL["evaluate"].split(), "--no-progress"]) == 0
    return folder


def named(line: str) -> str:
    return f"{LINES[line]}: {line}"


@pytest.mark.parametrize("line", CURVAE, ids=named)
def test_a_line_of_the_docs_runs(line: str, evaluated: Path, tmp_path: Path):
    for name in re.findall(r"(?<!--out )\bruns/\S+", line):
        shutil.copytree(evaluated, tmp_path / name, dirs_exist_ok=True)
    rows = np.random.default_rng(0).normal(size=(60, 3))
    np.savetxt(tmp_path / "measurements.csv", rows, delimiter=",", header="a,b,c", comments="")
    wine = [f"{a:.4f},{b:.4f},{'red' if c > 0 else 'white'}" for a, b, c in rows]
    (tmp_path / "wine.csv").write_text("\n".join(["ash,hue,class", *wine]) + "\n")
    (tmp_path / "stars.csv").write_text("\n".join(["u,g,class", *wine]) + "\n")
    digits = curvae.data.load("digits").test.raw[:20].flatten(1).numpy()
    np.savetxt(tmp_path / "new.csv", digits, delimiter=",", header=",".join(map(str, range(64))), comments="")
    np.savez(tmp_path / "pictures.npz", x=rows.reshape(20, 3, 3))
    np.save(tmp_path / "new.npy", curvae.data.load("digits").test.raw[:20].numpy())
    (tmp_path / "pictures").mkdir()
    for number in range(20):
        Image.fromarray(rows[:9].astype(np.uint8)).save(tmp_path / "pictures" / f"{number}.png")
    assert main(small(line)) == 0


def test_what_no_command_knows_would_be_found():
    assert main(small("curvae fit vlae mnist --latents 16")) == 2
    assert main(small("curvae evaluates runs/mnist-vae")) == 2


@pytest.mark.parametrize("line", OTHERS, ids=named)
def test_the_words_of_other_lines_exist(line: str):
    words = shlex.split(line, comments=True)
    if words[0] == "make":
        assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.M), f"make has no target {words[1]}"
        return
    script = ROOT / words[1]
    imported = [path for path in script.parent.glob("*.py") if f"\nimport {path.stem}\n" in script.read_text()]
    known = "".join(path.read_text() for path in (script, *script.parent.glob(f"{script.stem}_*.py"), *imported))
    for flag in (word for word in words if word.startswith("--")):
        assert f'"{flag}"' in known, f"{words[1]} has no {flag}"


def test_there_are_such_lines():
    assert len(CURVAE) > 15
    assert len(OTHERS) >= 10
