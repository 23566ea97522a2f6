"""Stars and galaxies apart without labels: how right clusters are, and how much that changes from seed to seed.

    python benchmarks/stars_galaxies.py FOLDER              # 60 cells, about 15 CPU minutes; goes on if cut off
    python benchmarks/stars_galaxies.py FOLDER --seeds 0 1  # fewer
    python benchmarks/stars_galaxies.py FOLDER --list       # only writes the page again

FOLDER holds the data as docs/fits.md says: of SDSS the magnitudes u, g, r, i, z of its stars and galaxies. The survey
is made here: pictures in five bands, of stars by Moffat's law, of galaxies by Sersic's behind the same seeing, with
magnitudes alike and noise of photons and of reading. Objects are the same for all seeds, which are the methods'.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import itertools
import logging
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import KMeans

import curvae
from curvae.evaluation import agreement
from fits.cells import Cells
from pages import written

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results" / "stars_galaxies.jsonl", HERE.parent / "docs" / "studies" / "stars-and-galaxies.md"
OBJECTS, SIDE, FINE = 2000, 15, 3
SKY, READING = 100.0, 5.0
Array = NDArray[np.float64]


class Task(NamedTuple):
    """Objects, what they are, and what classic methods look at."""

    x: Array
    label: NDArray[np.int64]
    colors: Array
    concentration: Array | None
    sizes: dict[str, int]


def survey(folder: Path) -> Task:
    """Pictures (5, 15, 15) in units of the light of each, through arcsinh; half of them stars."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 2, OBJECTS)
    shapes = np.stack([light(rng, bool(galaxy)) for galaxy in label])
    magnitude = rng.uniform(0, 4, OBJECTS)
    bands = colors_of(rng, label)
    flux = 10 ** (4.6 - 0.4 * (magnitude[:, None] + bands))
    expected = flux[:, :, None, None] * shapes[:, None] + SKY
    counts = rng.poisson(expected) + rng.normal(scale=READING, size=expected.shape) - SKY
    summed = counts.sum(1)
    near, far = (aperture(summed, radius) for radius in (1.5, 5.0))
    x = np.arcsinh(1000 * counts / np.clip(far, 1000, None)[:, None, None, None])
    measured = np.arcsinh(counts.sum((2, 3)) / 20)
    sizes = {"latent": 8, "hidden": 128, "max_updates": 800}
    return Task(x, label, -np.diff(measured, axis=1), np.log(np.clip(near, 1, None) / np.clip(far, 1, None)), sizes)


def light(rng: np.random.Generator, galaxy: bool) -> Array:
    """The share of its light in each pixel, (15, 15): Moffat's law, or Sersic's behind it."""
    side = SIDE * FINE
    axis = (np.arange(side) - (side - 1) / 2) / FINE
    dx, dy = rng.uniform(-0.5, 0.5, 2)
    beta, width = rng.uniform(2.5, 4.5), rng.normal(3.0, 0.15)
    alpha = width / (2 * np.sqrt(2 ** (1 / beta) - 1))
    found = (1 + ((axis[:, None] - dy) ** 2 + (axis - dx) ** 2) / alpha**2) ** -beta
    if galaxy:
        found = np.fft.irfft2(np.fft.rfft2(found) * np.fft.rfft2(np.fft.ifftshift(sersic(rng, axis))), s=found.shape)
    found = found.reshape(SIDE, FINE, SIDE, FINE).sum((1, 3)).clip(0)
    return found / found.sum()


def sersic(rng: np.random.Generator, axis: Array) -> Array:
    """``exp(-b_n (r / R)^(1/n))`` with index n of 1 or 4, tilted and turned."""
    index, radius = rng.choice([1, 4]), np.exp(rng.normal(np.log(2.0), 0.4))
    ratio, angle = rng.uniform(0.3, 1), rng.uniform(0, np.pi)
    along = np.cos(angle) * axis + np.sin(angle) * axis[:, None]
    across = (-np.sin(angle) * axis + np.cos(angle) * axis[:, None]) / ratio
    b = 2 * index - 1 / 3 + 4 / (405 * index)
    return np.exp(-b * (np.hypot(along, across) / radius) ** (1 / index))


def colors_of(rng: np.random.Generator, label: NDArray[np.int64]) -> Array:
    """Magnitudes of five bands less that of the third: a line of stars, galaxies beside it and wider."""
    along = rng.normal(size=len(label))
    line = along[:, None] * np.array([0.9, 0.4, 0.0, -0.15, -0.25])
    beside = label[:, None] * np.array([0.3, 0.15, 0.0, -0.2, -0.3])
    return line + beside + rng.normal(scale=0.05 + 0.1 * label[:, None], size=(len(label), 5))


def aperture(pictures: Array, radius: float) -> Array:
    """Light within a radius of the middle."""
    axis = np.arange(SIDE) - (SIDE - 1) / 2
    return (pictures * (np.hypot(axis[:, None], axis) <= radius)).sum((1, 2))


def sdss(folder: Path) -> Task:
    """Magnitudes of the stars and galaxies among 10,000 objects; no pictures, so no concentration."""
    import pandas

    table = pandas.read_csv(folder / "sdss" / "skyserver_dr14_10000.csv.gz")
    table = table[table["class"].isin(["STAR", "GALAXY"])]
    x = table[list("ugriz")].to_numpy(float)
    label = (table["class"] == "GALAXY").to_numpy().astype(np.int64)
    return Task(x, label, -np.diff(x, axis=1), None, {"latent": 4, "hidden": 64, "max_updates": 1500})


TASKS: dict[str, Callable[[Path], Task]] = {"survey": survey, "SDSS photometry": sdss}


def kmeans(x: Array, seed: int) -> NDArray[np.int64]:
    """Two clusters of standardized columns, from a single start."""
    flat = x.reshape(len(x), -1)
    return KMeans(2, n_init=1, random_state=seed).fit_predict((flat - flat.mean(0)) / flat.std(0).clip(1e-9))


def cascade(task: Task, seed: int, fitting: str) -> NDArray[np.int64]:
    """The clusters that a cascade finds of all rows."""
    with tempfile.TemporaryDirectory() as folder:
        options = {"device": "cpu", "progress": False, "components": 2, "fitting": fitting, **task.sizes}
        options |= {"event": task.x.shape[1:]} if task.x.ndim > 2 else {}
        x = task.x.astype(np.float32)
        fitted = curvae.fit("cascade-vae", x, seed=seed, out=Path(folder) / "run", **options)
        return fitted.encode(x).clusters[:, 0].argmax(-1)


METHODS: dict[str, Callable[[Task, int], NDArray[np.int64] | None]] = {
    "cascade-vae, in turn": lambda task, seed: cascade(task, seed, "in-turn"),
    "cascade-vae, joint": lambda task, seed: cascade(task, seed, "joint"),
    "k-means of pixels or magnitudes": lambda task, seed: kmeans(task.x, seed),
    "k-means of colors": lambda task, seed: kmeans(task.colors, seed),
    "cut of the concentration": lambda task, seed: (
        None if task.concentration is None else kmeans(task.concentration, seed)
    ),
}


def table(rows: list[dict[str, Any]]) -> str:
    """A line for each task and method: mean accuracy, its standard deviation over seeds, the worst."""
    lines = ["| | | accuracy | standard deviation | worst | ARI | seeds | CPU s |", "|---|---|---|---|---|---|---|---|"]
    for task, method in itertools.product(TASKS, METHODS):
        found = [row for row in rows if (row["task"], row["method"]) == (task, method)]
        if not found:
            continue
        right = [row["accuracy"] for row in found]
        spread = f"{statistics.stdev(right):.3f}" if len(right) > 1 else ""
        ari, seconds = (statistics.mean(row[name] for row in found) for name in ("ari", "seconds"))
        numbers = f"{statistics.mean(right):.3f} | {spread} | {min(right):.3f} | {ari:.3f}"
        lines.append(f"| {task} | {method} | {numbers} | {len(found)} | {seconds:.1f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the data, as docs/fits.md says")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(10)))
    parser.add_argument("--list", action="store_true", help="only write the page, from what is there")
    given = parser.parse_args()
    logging.disable(logging.INFO)
    warnings.simplefilter("ignore")
    done = Cells(RESULTS, "task", "method", "seed")
    for seed, (task, make) in itertools.product(given.seeds, TASKS.items() if not given.list else ()):
        objects = make(given.folder)
        for method, clusters in METHODS.items():
            begun = time.process_time()
            if (task, method, seed) in done or (found := clusters(objects, seed)) is None:
                continue
            against = agreement(objects.label, found, 2)
            scores = {"accuracy": against.accuracy, "nmi": against.nmi, "ari": against.ari}
            done.add({"task": task, "method": method, "seed": seed, **scores, "seconds": time.process_time() - begun})
    written(PAGE, "stars_galaxies", table(done.rows))


if __name__ == "__main__":
    main()
