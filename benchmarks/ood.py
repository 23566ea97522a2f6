"""Unknown inputs: every posterior over weights and every score, on pictures that a model was not made for.

    python benchmarks/ood.py FOLDER                       # 33 cells, some 17 CPU minutes; goes on if cut off
    python benchmarks/ood.py FOLDER --only fashion --methods swag
    python benchmarks/ood.py FOLDER --list                # only writes the page again

FOLDER holds the data as docs/fits.md says, and the first 1,000 pictures of KMNIST and notMNIST in ``ood``. A cell is a
known set, a method and a seed, takes 25 to 70 CPU s, and is a line of ``results/ood.jsonl``. Methods with a posterior
over weights give the scores of several models; those of one model are of a VAE, a tilted VAE and a probabilistic
autoencoder.
"""

import argparse
import gzip
import itertools
import logging
import lzma
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

import curvae
from curvae import training
from curvae.data import ArrayTable, Data
from curvae.evaluation import NamedTable, unknown_inputs
from curvae.evaluation.ood import MODELS, SINGLE, detection
from fits.cells import Cells
from pages import written

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "ood.jsonl"
PAGE = HERE.parent / "docs" / "studies" / "ood.md"
ROWS, REFERENCE, VALIDATION = 500, 500, 2000
"""Of each set that is told apart; of validation rows that say what is known; that are held out in training."""
UPDATES, MEMBERS = 1000, 5
"""Of each fit; of an ensemble, whose members are its models, where other posteriors give 20."""
FILES = {
    "fashion": "fashion_mnist/t10k-images-idx3-ubyte.gz",
    "mnist": "mnist/t10k-images-idx3-ubyte.gz",
    "kmnist": "ood/kmnist-first1000-images-idx3-ubyte.xz",
    "notmnist": "ood/notmnist-first1000-images-idx3-ubyte.xz",
}
UNKNOWN = {
    "fashion": ("mnist", "kmnist"),
    "fashion, binary": ("mnist", "kmnist"),
    "mnist": ("fashion", "notmnist"),
}
"""Known sets, and those that are told from them."""
WEIGHTS = ("ensemble", "swag", "sgld", "sghmc", "bayes-by-backprop", "last-layer", "diagonal", "subnetwork")
METHODS: dict[str, Mapping[str, Any]] = {
    "vae": {"word": "vae"},
    "tilted-vae": {"word": "tilted-vae"},
    "probabilistic-ae": {"word": "probabilistic-ae"},
    **{word: {"word": "bayesian-vae", "weights": word, "draws": MEMBERS} for word in WEIGHTS},
}
LIMITED = {"tilted-vae": ("ELBO",), "probabilistic-ae": ("log p(code)", "reconstruction", "latent Mahalanobis")}
"""Scores of a system that are not those of a VAE."""
Areas = dict[str, dict[str, list[float]]]


def pictures(folder: Path, name: str, count: int) -> torch.Tensor:
    """The first pictures of a set, (N, 1, 28, 28)."""
    opened = (gzip if FILES[name].endswith("gz") else lzma).open(folder / FILES[name])
    with opened as file:
        raw = np.frombuffer(file.read(16 + 784 * count)[16:], dtype=np.uint8)
    return torch.from_numpy(raw.reshape(-1, 1, 28, 28).copy())


def known_data(folder: Path, known: str) -> Data:
    name = {"fashion": "fashion_mnist"}.get(known.partition(",")[0], known)
    switches = {"binarize": "static"} if known.endswith("binary") else {}
    return curvae.data.load(name, data_dir=folder / name, validation=VALIDATION, **switches)


def cell(folder: Path, known: str, method: str, seed: int) -> dict[str, Any]:
    """A fit, and how well each score tells two sets of unknown pictures from test rows."""
    data, options = known_data(folder, known), dict(METHODS[method])
    torch.manual_seed(seed)
    begun = time.process_time()
    system = curvae.registry.system(options.pop("word"))(data.spec, latent=16, hidden=128, **options)
    with tempfile.TemporaryDirectory() as place:
        run = training.fit(system, data, seed=seed, out=f"{place}/run", progress=False, max_updates=UPDATES)
        trained = time.process_time() - begun
        raw = torch.cat([pictures(folder, name, ROWS) for name in UNKNOWN[known]])
        scores = MODELS if "weights" in METHODS[method] else SINGLE
        found = unknown_inputs(
            run,
            NamedTable("unknown", ArrayTable(raw, data.transform)),
            NamedTable("test", data.test.take(torch.arange(ROWS))),
            scores=[each for each in scores if each.title in LIMITED.get(method, (each.title,))],
            models=MEMBERS if method == "ensemble" else 20,
            samples=20,
            reference=REFERENCE,
        )
    spent = {"fit_seconds": trained, "score_seconds": time.process_time() - begun - trained}
    noise = {"noise_floor": found.noise_floor, "above_noise": found.above_noise, "flagged": found.flagged}
    return {**spent, **noise, "areas": areas(found, UNKNOWN[known]), "median": medians(found)}


def medians(found: Any) -> dict[str, list[float]]:
    """Of each score: of unknown rows, and of known ones."""
    return {each.title: [round(each.median, 3), round(each.median_known, 3)] for each in found.scores}


def areas(found: Any, names: tuple[str, ...]) -> Areas:
    """AUROC with its interval, AUPR and FPR80, by unknown set and score."""
    told: Areas = {}
    for place, name in enumerate(names):
        told[name] = {}
        for each in found.scores:
            part = found.values[each.name][place * ROWS : (place + 1) * ROWS]
            one = detection(part, found.values_against[each.name])
            values = (one.auroc.value, one.auroc.low, one.auroc.high, one.aupr.value, one.fpr80.value)
            told[name][each.title] = [round(value, 4) for value in values]
    return told


def listed(rows: list[dict[str, Any]]) -> str:
    """For each known set the scores of one model, and of several by the posterior over weights: AUROC."""
    lines = []
    for known, names in UNKNOWN.items():
        some = sorted(
            (row for row in rows if row["known"] == known), key=lambda row: list(METHODS).index(row["method"])
        )
        lines += _of_one([row for row in some if row["above_noise"] is None], known, names)
        for name in names:
            lines += _of_several([row for row in some if row["above_noise"] is not None], known, name)
    return "\n".join(lines) + "\n" + _costs(rows)


def _of_one(rows: list[dict[str, Any]], known: str, names: tuple[str, ...]) -> list[str]:
    if not rows:
        return []
    lines = [f"\n**Known: {known}. One model**\n", f"| system | score | {' | '.join(names)} |"]
    lines.append("|---|---|" + "--:|" * len(names))
    for row in rows:
        for title in row["areas"][names[0]]:
            told = " | ".join(_told(row["areas"][name][title]) for name in names)
            lines.append(f"| {row['method']} | {title} | {told} |")
    return lines


def _of_several(rows: list[dict[str, Any]], known: str, name: str) -> list[str]:
    if not rows:
        return []
    titles = [each.title for each in MODELS]
    lines = [f"\n**Known: {known}. Unknown: {name}. Several models**\n", f"| weights | {' | '.join(titles)} |"]
    lines.append("|---|" + "--:|" * len(titles))
    for row in rows:
        told = row["areas"][name]
        cells = " | ".join(_told(told[title]) if title in told else "within noise" for title in titles)
        lines.append(f"| {row['method']} | {cells} |")
    return lines


def _told(values: list[float]) -> str:
    area, low, high, *_ = values
    return f"{area:.3f} [{low:.3f}, {high:.3f}]"


def _costs(rows: list[dict[str, Any]]) -> str:
    lines = [
        "\n**Cost and noise**\n",
        "| known | model | fit, CPU s | scores, CPU s | noise floor, nats | rows above it |",
    ]
    lines.append("|---|---|--:|--:|--:|--:|")
    for row in rows:
        floor, above = row["noise_floor"], row["above_noise"]
        noise = " |  " if floor is None else f"{floor:.2f} | {above:.0%}"
        lines.append(
            f"| {row['known']} | {row['method']} | {row['fit_seconds']:.0f} | {row['score_seconds']:.0f} | {noise} |"
        )
    return "\n".join(lines) + "\n"


def todo(given: argparse.Namespace, cells: Cells) -> Iterator[tuple[str, str, int]]:
    """Cells that were asked for and are not there."""
    for seed, known, method in itertools.product(given.seeds, UNKNOWN, METHODS):
        wanted = known in (given.only or UNKNOWN) and method in (given.methods or METHODS)
        if wanted and (known, method, seed) not in cells:
            yield known, method, seed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", default=[], choices=UNKNOWN, help="known sets")
    parser.add_argument("--methods", nargs="*", default=[], choices=METHODS)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0])
    parser.add_argument("--list", action="store_true", help="only write the page")
    given = parser.parse_args()
    logging.getLogger("curvae").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    cells = Cells(RESULTS, "known", "method", "seed")
    for known, method, seed in [] if given.list else todo(given, cells):
        cells.add({"known": known, "method": method, "seed": seed, **cell(given.folder, known, method, seed)})
    written(PAGE, "ood", listed(cells.rows))


if __name__ == "__main__":
    main()
