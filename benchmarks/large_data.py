"""What a fit of a large file takes: its peak of memory, and its speed beside the same rows in memory.

``memory`` fits ``vae`` (5 latents, 32 units) to 1,000,000 x 50 float32 numbers in a ``.npy`` file, 200 MB, from the
command line and from Python (``np.load(mmap_mode="r")``), each in a process of its own. What it takes is the largest
resident set of that process (``ru_maxrss``, which counts what of the file is mapped) less that of the same process on
1,000 rows, which imports and runs the same code; as a multiple of the file's size.

``speed`` times, in CPU seconds, what it takes to have each batch of an epoch, of rows in memory, the mapped file, the
mapped file, Parquet and zarr in shuffled blocks, and a plain step of Adam with it (without Lightning's share, so
speeds are lower than they are in a fit); a speed is that over the speed of rows in memory.

``open`` times 500,000 x 5 numbers in a ``.csv`` beside ``pandas.read_csv``, in CPU seconds: how long it takes to have
the numbers (``read_text``), and to have data (``from_file``, which also looks at every value, finds the kind of each
column, splits, standardizes and takes a checksum), and what that takes of memory, as a multiple of the file.

A cell that is there already is not measured again: delete its line of ``results/large_data.jsonl`` for that. It costs
some 10 CPU minutes and 700 MB of disk in ``--folder``.

    python benchmarks/large_data.py [--folder /tmp/large-data] [--only memory speed open]
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from fits.cells import Cells

RESULTS = Path(__file__).parent / "results" / "large_data.jsonl"
ROWS, WIDTH, LATENT = 1_000_000, 50, 5
OPTIONS = "latent=5, hidden=32, max_updates=2000, progress=False"
FIT = "import curvae; curvae.fit('vae', {data}, {options}, out={out!r})"
PEAK = """
import resource
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def numbers(rows: int, width: int) -> np.ndarray:
    """Rows of a linear model of five latents, float32."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, LATENT)) @ rng.normal(size=(LATENT, width)) + 0.5 * rng.normal(size=(rows, width))
    return x.astype(np.float32)


def file(folder: Path, name: str, rows: int, width: int) -> Path:
    """A file of such rows, made where it is not there."""
    path = folder / name
    if path.exists():
        return path
    x = numbers(rows, width)
    if path.suffix == ".npy":
        np.save(path, x)
    elif path.suffix == ".csv":
        np.savetxt(path, x, delimiter=",", fmt="%.6g", header=",".join(f"x{j}" for j in range(width)), comments="")
    elif path.suffix == ".zarr":
        import zarr

        zarr.create_array(path, data=x, chunks=(10_000, width))
    else:
        import pyarrow
        from pyarrow import parquet

        table = pyarrow.table({f"x{j}": x[:, j] for j in range(width)})
        parquet.write_table(table, path, row_group_size=50_000)
    return path


def printed(code: str) -> list[float]:
    """The numbers in the last line that a process prints."""
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return [float(word) for word in found.stdout.strip().splitlines()[-1].split()]


def peak(data: str, out: Path) -> float:
    return printed(FIT.format(data=data, options=OPTIONS, out=str(out)) + PEAK)[0]


COMMAND = """
import sys
import tempfile
from curvae.cli import main
sys.argv = ["curvae", *{words!r}]
try:
    main()
except SystemExit:
    pass
"""


def peak_of_command(path: Path, out: Path) -> float:
    flags = f"--latent {LATENT} --hidden 32 --max_updates 2000 --out".split()
    words = ["fit", "vae", str(path), *flags, str(out)]
    return printed(COMMAND.format(words=words) + PEAK)[0]


def memory(folder: Path, temporary: Path) -> dict[str, float]:
    """Peaks over those of 1,000 rows, as multiples of the file."""
    large, small = (file(folder, f"{rows}.npy", rows, WIDTH) for rows in (ROWS, 1000))
    mapped = "__import__('numpy').load({path!r}, mmap_mode='r')"
    ways = {
        "command line": lambda path, out: peak_of_command(path, out),
        "Python": lambda path, out: peak(mapped.format(path=str(path)), out),
    }
    found = {}
    for name, way in ways.items():
        more = way(large, temporary / f"{name} large") - way(small, temporary / f"{name} small")
        found[name] = round(more / large.stat().st_size, 2)
    return found


SPEED = """
import sys, tempfile, time, torch
import curvae, curvae.data.formats.zarr_arrays, curvae.data.stored, curvae.data.tables.mapped
import curvae.data.tables.parquet
from curvae.training.loop.loader import Batches
way, path = {way!r}, {path!r}
if way == "memory":
    curvae.data.tables.mapped.LEAST = 2**60
if "blocks" in way:
    for part in (curvae.data.stored, curvae.data.tables.parquet, curvae.data.formats.zarr_arrays):
        part.MOST_AT_RANDOM = 0
train = curvae.data.from_file(path).train
system = curvae.systems.vae(curvae.typing.DataSpec((50,)), latent=5, hidden=32)
adam = torch.optim.Adam(system.parameters())
fetching, stepping, count = 0.0, 0.0, 0
train.batch(torch.arange(2))
clock = time.process_time()
for shard in Batches(train, 256, 0, lambda: 0):
    now = time.process_time()
    fetching, count = fetching + now - clock, count + 1
    if count <= 500:
        adam.zero_grad()
        (-system.bound(shard.batch).surrogate.mean()).backward()
        adam.step()
        stepping += time.process_time() - now
    clock = time.process_time()
print(1e6 * fetching / count, 1e6 * stepping / min(count, 500))
"""


def speed(folder: Path, temporary: Path, repetitions: int = 1) -> dict[str, float]:
    """CPU microseconds to have a batch, over an epoch, and of a plain step with it; the least of a few."""
    names = {
        "memory": "npy",
        "mapped": "npy",
        "mapped, blocks": "npy",
        "Parquet, blocks": "parquet",
        "zarr, blocks": "zarr",
    }
    found: dict[str, float] = dict.fromkeys([*names, "step"], 1e9)
    for _ in range(repetitions):
        for way, kind in names.items():
            path = file(folder, f"{ROWS}.{kind}", ROWS, WIDTH)
            batch, step = printed(SPEED.format(way=way, path=str(path)))
            found[way], found["step"] = min(found[way], round(batch, 1)), min(found["step"], round(step, 1))
    plain = found["memory"] + found["step"]
    return found | {f"speed, {way}": round(plain / (found[way] + found["step"]), 3) for way in names}


OPEN = """
import time, resource, warnings
from pathlib import Path
import pandas, curvae
from curvae.data.text.table import read_text
warnings.simplefilter("ignore")
path = {path!r}
curvae.data.from_file({small!r})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
def seconds(read):
    best = 1e9
    for _ in range(5):
        start = time.process_time()
        read(path)
        best = min(best, time.process_time() - start)
    return best
def numbers(path):
    table = read_text(Path(path))
    return table.numbers(range(len(table.header)))
ours = seconds(curvae.data.from_file)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(ours, seconds(numbers), seconds(pandas.read_csv), (after - before) * 1024)
"""


def opening(folder: Path, temporary: Path) -> dict[str, float]:
    large, small = (file(folder, f"{rows}.csv", rows, 5) for rows in (500_000, 1000))
    ours, read, pandas, more = printed(OPEN.format(path=str(large), small=str(small)))
    return {
        "from_file, s": round(ours, 2),
        "read_text, s": round(read, 2),
        "pandas, s": round(pandas, 2),
        "ratio": round(ours / pandas, 2),
        "ratio of reading": round(read / pandas, 2),
        "memory, times the file": round(more / large.stat().st_size, 2),
    }


CELLS = {"memory": memory, "speed": speed, "open": opening}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "large-data")
    parser.add_argument("--only", nargs="+", choices=CELLS, default=list(CELLS))
    asked = parser.parse_args()
    asked.folder.mkdir(parents=True, exist_ok=True)
    done = Cells(RESULTS, "cell")
    for name in asked.only:
        if (name,) not in done:
            with tempfile.TemporaryDirectory() as temporary:
                done.add({"cell": name, **CELLS[name](asked.folder, Path(temporary))})


if __name__ == "__main__":
    main()
