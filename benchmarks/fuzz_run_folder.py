"""Damage a run folder in many ways, and see that every reader takes it or refuses it in one documented line.

    python benchmarks/fuzz_run_folder.py --count 10000 --seed 0

Each case copies a small trained and evaluated run, of this format or of format 1, changes one file of it (bits,
length, bytes, whole files, or what JSON, YAML, npz and safetensors say), and opens it by everything that reads one. A
reader may give what it gave before, or raise :class:`curvae.RunError` or ``DataError``. Anything else is a finding:
another exception, more than one line, a system that computes something else than the one that was saved, a file that
a reader wrote.
"""

import argparse
import collections
import contextlib
import copy
import io
import json
import os
import random
import resource
import shutil
import struct
import sys
import tempfile
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
import yaml

import curvae
from curvae import evaluation, report, training
from curvae.cli import main as command
from curvae.data import DataError
from curvae.evaluation.io import read_evaluation, write_findings
from curvae.latents import latent_axes
from curvae.systems import vae
from curvae.training import RunError, RunFolder, load
from curvae.training.run import files, layout

FILES = [name for name in layout.LAYOUT if name not in (layout.RESUME, layout.REPORT)]
WORDS = [
    None,
    True,
    -1,
    0,
    1,
    2**31,
    10**30,
    1e308,
    -1e-300,
    "",
    "a",
    "\x00",
    "é" * 99,
    [],
    {},
    [[[]]],
    [1, 2],
    {"a": 1},
]
KEYS = ["format", "seal", "weights", "files", "id", "class_path", "name", "arguments", "kind", "path"]


class Case:
    """A damaged run, and what was done to it."""

    def __init__(self, folder: Path, name: str, how: str, random: random.Random):
        self.folder, self.name, self.how, self.random = folder, name, how, random

    @property
    def path(self) -> Path:
        return self.folder / self.name


def flip(case: Case, content: bytes) -> bytes:
    made = bytearray(content or b"\0")
    for _ in range(case.random.choice([1, 1, 1, 2, 8])):
        made[case.random.randrange(len(made))] ^= 1 << case.random.randrange(8)
    return bytes(made)


def cut(case: Case, content: bytes) -> bytes:
    return content[: case.random.randrange(len(content) + 1)]


def grow(case: Case, content: bytes) -> bytes:
    return content + case.random.randbytes(case.random.choice([1, 7, 4096]))


def noise(case: Case, content: bytes) -> bytes:
    return case.random.randbytes(case.random.choice([0, 1, 8, 100, len(content)]))


def splice(case: Case, content: bytes) -> bytes:
    start = case.random.randrange(len(content) + 1)
    end = min(len(content), start + case.random.choice([1, 4, 64, 999]))
    return content[:start] + case.random.randbytes(case.random.randrange(end - start + 1)) + content[end:]


def header(case: Case, content: bytes) -> bytes:
    """Another length or other numbers at the front, where most formats say how long they are."""
    word = case.random.choice([0, 1, 2**31, 2**40, 2**63 - 1, len(content), len(content) * 2])
    return struct.pack("<Q", word) + content[8:]


def deep(case: Case, content: bytes) -> bytes:
    return case.random.choice(
        [b"[" * 10**5, b'{"a":' * 10**5, b"&a [*a, *a]", b"a: &a [x]\nb: [*a, *a]", b"- " * 10**4]
    )


def tree(case: Case, content: bytes) -> bytes:
    """What JSON or YAML says, changed in one place; as curvae would have written it, or not."""
    value = yaml.safe_load(content) if case.name.endswith("yaml") else json.loads(content)
    for _ in range(case.random.choice([1, 1, 2])):
        _change(case.random, value)
    if case.random.random() < 0.7 and layout.LAYOUT[case.name].sealed and isinstance(value, dict):
        value.pop(files.SEAL, None)
        if case.random.random() < 0.5:
            value["format"] = 1
        else:
            value[files.SEAL] = files._seal(value)
    return (yaml.safe_dump(value) if case.name.endswith("yaml") else json.dumps(value)).encode()


def _change(random_: random.Random, value: Any) -> None:
    here = value
    while isinstance(here, dict | list) and here and random_.random() < 0.8:
        key = random_.choice(list(here)) if isinstance(here, dict) else random_.randrange(len(here))
        if not isinstance(here[key], dict | list) or random_.random() < 0.2:
            if isinstance(here, dict) and random_.random() < 0.3:
                del here[key]
            else:
                here[key] = copy.deepcopy(random_.choice([*WORDS, here[key]]))
            return
        here = here[key]
    if isinstance(here, dict):
        here[random_.choice([*KEYS, "z"])] = copy.deepcopy(random_.choice(WORDS))  # else one case changes another


def arrays(case: Case, content: bytes) -> bytes:
    """Arrays of other shapes, types and names; the digest in evaluation.json follows, or is of format 1."""
    with np.load(io.BytesIO(content)) as file:
        made = dict(file)
    name = case.random.choice([name for name, each in made.items() if each.ndim])
    part = made[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made[name] = case.random.choice(
            [
                lambda: part[:0],
                lambda: part.T,
                lambda: part[None],
                lambda: np.zeros(()),
                lambda: part.astype("f2", copy=True) if part.dtype.kind != "U" else part,
                lambda: part.astype("U8"),
                lambda: np.full_like(part, 1 if part.dtype.kind == "U" else 120),
                lambda: np.full(part.shape, np.nan),
                lambda: np.full(part.shape, 1e308),
                lambda: np.zeros(5 * 10**7, np.int8),
                lambda: np.repeat(part, 2, 0) if part.ndim else part,
                lambda: part.astype("c16") if part.dtype.kind != "U" else part,
            ]
        )()
    if case.random.random() < 0.2:
        del made[name]
    buffer = io.BytesIO()
    np.savez_compressed(buffer, allow_pickle=False, **made)
    _adopt(case, buffer.getvalue())
    return buffer.getvalue()


def _adopt(case: Case, content: bytes) -> None:
    """Let evaluation.json name these arrays as its own, or be of format 1, which names none."""
    path = case.folder / layout.EVALUATION
    values = json.loads(path.read_text())
    if case.random.random() < 0.4:
        for name in (files.SEAL, "files", "weights"):
            values.pop(name, None)
        path.write_text(json.dumps(values | {"format": 1}))
    elif case.random.random() < 0.9 and "files" in values:
        values["files"][case.name] = files.digest(content)
        files.write_sealed(path, values)


def tensors(case: Case, content: bytes) -> bytes:
    """The header of a safetensors file, changed: types, shapes, offsets, names."""
    length = int.from_bytes(content[:8], "little")
    value = json.loads(content[8 : 8 + length])
    names = [name for name in value if name != "__metadata__"]
    name, other = case.random.choice(names), case.random.choice(names)
    kind = case.random.randrange(6)
    if kind == 0:
        value[name], value[other] = value[other], value[name]
    elif kind == 1:
        value[name]["dtype"] = case.random.choice(["I32", "F16", "BF16", "F64", "BOOL", "X"])
    elif kind == 2:
        value[name]["shape"] = case.random.choice([[], [0], value[name]["shape"][::-1], [2**40, 2**40], [-1], "x"])
    elif kind == 3:
        value[name]["data_offsets"] = case.random.choice([[0, 0], [0, 2**62], [8, 0], value[other]["data_offsets"]])
    elif kind == 4:
        value["z" + name] = value.pop(name)
    else:
        _change(case.random, value)
    text = json.dumps(value).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + length :]


def exchange(case: Case, content: bytes) -> bytes:
    """The content of another file of the run."""
    return (case.folder / case.random.choice(FILES)).read_bytes()


ANY = [flip, flip, flip, cut, cut, grow, noise, splice, header, exchange]
BY_SUFFIX: Mapping[str, list[Callable[[Case, bytes], bytes]]] = {
    ".json": [tree, tree, tree, tree, deep],
    ".yaml": [tree, tree, tree, tree, deep],
    ".npz": [arrays, arrays, arrays],
    ".safetensors": [tensors, tensors, tensors],
    ".csv": [splice, splice],
}


def odd(case: Case) -> None:
    """Something other than a file."""
    case.path.unlink()
    kind = case.random.randrange(5)
    if kind == 0:
        case.path.mkdir()
    elif kind == 1:
        os.mkfifo(case.path)
    elif kind == 2:
        case.path.symlink_to(case.path)
    elif kind == 3:
        case.path.symlink_to("/dev/zero")


def damage(case: Case) -> None:
    if case.random.random() < 0.04:
        case.how = "odd"
        return odd(case)
    content = case.path.read_bytes()
    change = case.random.choice([*ANY, *BY_SUFFIX[case.path.suffix]])
    case.how = change.__name__
    with open(case.path, "wb") as file:
        file.write(change(case, content))


class Readers:
    """Everything that opens a run, and what it gives for an undamaged one."""

    def __init__(self, whole: Path):
        self.whole = whole
        self.x = RunFolder.open(whole).data().test.x[:4]
        self.means = self._means(whole)

    def _means(self, folder: Path) -> torch.Tensor:
        system = load(folder)
        return torch.cat([system.posterior(self.x).mean.flatten(), *(p.flatten() for p in system.parameters())])

    def all(self, folder: Path) -> dict[str, Callable[[], Any]]:
        run = RunFolder(folder)
        return {
            "open": lambda: RunFolder.open(folder),
            "load": lambda: self._means(folder),
            "config": lambda: run.config,
            "environment": lambda: run.environment,
            "status": lambda: run.state,
            "metrics": run.metrics,
            "transform": run.transform,
            "data": run.data,
            "axes": lambda: run.axes,
            "evaluation": lambda: run.evaluation,
            "evaluations": run.evaluations,
            "read": lambda: read_evaluation(folder),
            "compare": lambda: evaluation.compare([self.whole, folder]),
        }


def problems(case: Case, readers: Readers, page: bool) -> list[str]:
    """What is wrong with how a damaged run is read."""
    before = {each.name: each.lstat().st_mtime_ns for each in case.folder.iterdir()}
    calls = readers.all(case.folder)
    if page:
        calls["report"] = lambda: report.html(report.read_snapshot(case.folder))
    found = [line for name, call in calls.items() if (line := _tried(name, call, readers))]
    after = {each.name: each.lstat().st_mtime_ns for each in case.folder.iterdir()}
    return found + (["a reader wrote"] if before != after else [])


def _tried(name: str, call: Callable[[], Any], readers: Readers) -> str:
    try:
        made = call()
    except (RunError, DataError) as error:
        return f"{name}: more than one line: {error!r}" if "\n" in str(error) else ""
    except Exception as error:
        if name == "compare" and type(error) is ValueError and str(error).startswith("compare: "):
            return ""  # two evaluations that are not alike
        place = traceback.extract_tb(error.__traceback__)[-1]
        told = " ".join(str(error).split())[:120]
        return f"{name}: {type(error).__name__}: {told} ({Path(place.filename).name}:{place.lineno})"
    if name == "load" and not torch.equal(made, readers.means):
        return "load: other weights or another system"
    return ""


def make(folder: Path) -> dict[int, Path]:
    """A run of each format that is read."""
    data = curvae.data.load("digits")
    torch.manual_seed(0)
    system = vae(data.spec, latent=2, hidden=8)
    new, old = folder / "new", folder / "old"
    run = training.fit(system, data, epochs=2, out=new, progress=False)
    curvae.evaluate(run.path, samples=30, limit=40, progress=False)
    sha256 = run.digest()
    found = evaluation.calibrate(run.system(), 200, 19)
    write_findings(new, layout.CALIBRATION, found.to_dict(), sha256)
    files.write_sealed(new / layout.RESTARTS, {"kept": 0, "starts": [{"seed": 0, "bound": -1.5}]})
    files.write_sealed(new / layout.LATENTS, {"axes": latent_axes(run.system(), data).to_dict(), "weights": sha256})
    evaluation.gaps(run.path, data=4, steps=4, samples=20, progress=False)
    few = ["--samples", "10", "--limit", "20", "--reference", "20", "--steps", "1", "--to", str(folder / "ood.csv")]
    with contextlib.redirect_stdout(io.StringIO()):
        assert command(["ood", str(new), "test", *few]) == 0
    shutil.copytree(new, old)
    first_format(old)
    return {1: old, 2: new}


def first_format(folder: Path) -> None:
    """A run as format 1 had it: no digest, no seal, no id."""
    for name, file in layout.LAYOUT.items():
        if file.sealed and (folder / name).exists():
            values = json.loads((folder / name).read_text())
            for key in (files.SEAL, "weights", "files", "id"):
                values.pop(key, None)
            (folder / name).write_text(json.dumps(values | {"format": 1}, indent=2))
    config = (folder / layout.CONFIG).read_text()
    (folder / layout.CONFIG).write_text(config.replace("format: 2", "format: 1"))


def fuzz(count: int, seed: int, pages: float = 0.1, say: Callable[[str], None] = print) -> collections.Counter[str]:
    """Damage runs ``count`` times; every problem with how often it came, and how often each damage was done."""
    counts: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as place:
        runs = make(Path(place))
        readers = {number: Readers(folder) for number, folder in runs.items()}
        for number in range(count):
            drawn = random.Random(f"{seed} {number}")
            which = drawn.choice([1, 2, 2])
            folder = Path(place) / "case"
            shutil.copytree(runs[which], folder)
            case = Case(folder, drawn.choice(FILES), "", drawn)
            damage(case)
            changed = problems(case, readers[which], drawn.random() < pages)
            counts[f"cases of format {which}"] += 1
            for line in changed:
                if which == 1 and "other weights" in line:
                    counts["format 1, which has no digest: other weights or another system"] += 1
                    continue
                counts["PROBLEM " + line.split("(")[0][:60]] += 1
                say(f"case {number}: format {which}, {case.name}, {case.how}: {line}")
            shutil.rmtree(folder)
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pages", type=float, default=0.1, help="share of cases for which a report is written too")
    chosen = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_AS, (2**33, 2**33))  # what asks for more than 8 GiB is told so
    warnings.simplefilter("error", RuntimeWarning)
    start = time.monotonic()
    counts = fuzz(chosen.count, chosen.seed, chosen.pages)
    print(f"{chosen.count} cases, seed {chosen.seed}, {time.monotonic() - start:.0f} s")
    for line, number in counts.most_common():
        print(f"{number:7d}  {line}")
    return int(any(line.startswith("PROBLEM") for line in counts))


if __name__ == "__main__":
    sys.exit(main())
