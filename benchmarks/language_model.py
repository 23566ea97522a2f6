"""Perplexity of a small transformer on text by predictive coding and by backpropagation, at equal updates.

A cell is one fit of `pc-transformer` on `python-topics`, and log p of every test row, summed by topic: of the whole
row, and of its second half given the first. A line of the file is one cell; what was cut off goes on.

    python benchmarks/language_model.py [--seeds 0 1 2] [--updates 400] [--methods backpropagation categorical ...]
    python benchmarks/language_model.py --table   # writes docs/studies/language-model.md, no training

Some 18 CPU minutes in all on one thread of a busy machine: 85 s a fit by predictive coding, 17 s by backpropagation.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import logging
import math
import statistics
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import curvae
from curvae import training
from curvae.data import Data
from curvae.systems import CodingDensity, pc_transformer
from fits.cells import Cells
from pages import between

Row = dict[str, Any]
HERE = Path(__file__).parent
BATCH, RATE = 16, 4e-3
METHODS: dict[str, dict[str, Any]] = {
    "backpropagation": {"learning": "backpropagation"},
    "categorical": {},
    "incremental": {"learning": "incremental"},
    "normal-attention": {"family": "normal-attention"},
    "normal": {"family": "normal"},
    "scale 0.1": {"scale": 0.1},
    "scale 0.3": {"scale": 0.3},
    "scale 1": {"scale": 1.0},
    "steps in the nodes": {"by_errors": False},
    "backpropagation, 5 times the updates": {"learning": "backpropagation"},
}
"""Words of a row, and the arguments that it differs by."""
MAIN = ("backpropagation", "categorical", "incremental", "normal-attention", "normal")
"""Those of three seeds."""
WORDS = {
    "backpropagation": "backpropagation",
    "categorical": "predictive coding, attention categorical",
    "incremental": "the same, incremental",
    "normal-attention": "predictive coding, attention normal",
    "normal": "predictive coding, all normal",
}
TIMES = {"backpropagation, 5 times the updates": 5}
"""How many times the updates, in about the CPU time of predictive coding."""


def learned(data: Data, method: str, seed: int, updates: int) -> Row:
    """One fit, what it reached on the way, and what its best weights say of the test rows."""
    torch.manual_seed(seed)
    system = pc_transformer(data.spec, **METHODS[method])
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        run = training.fit(
            system, data, max_updates=updates * TIMES.get(method, 1), batch_size=BATCH, learning_rate=RATE,
            schedule="constant", clip=None, seed=seed, out=f"{folder}/run", device="cpu", progress=False,
        )  # fmt: skip
        seconds, metrics = time.process_time() - began, run.metrics()
        best = run.system().eval()
    assert isinstance(best, CodingDensity)
    curve = [round(math.exp(-value / data.spec.event[0]), 3) for value in metrics["validation_bound"]]
    return {"seconds": seconds, "curve": curve, "at": [int(step) for step in metrics["step"]]} | judged(best, data)


@torch.no_grad()
def judged(system: CodingDensity, data: Data) -> Row:
    """log p of the test rows, nats, summed by topic; and how many rows each topic has."""
    given = torch.arange(data.spec.event[0]) < data.spec.event[0] // 2
    whole, first = [], []
    for batch in data.test.batches(128):
        whole.append(system.log_prob(batch.x))
        first.append(system.log_prob(batch.x, given.expand(len(batch.x), -1)))
    every = torch.cat(whole).double()
    assert data.test.label is not None
    return by_topic("whole", every, data.test.label) | by_topic("rest", every - torch.cat(first), data.test.label)


def by_topic(name: str, values: Tensor, label: Tensor) -> Row:
    topics = label.unique()
    return {
        name: [round(values[label == topic].sum().item(), 2) for topic in topics],
        "rows": [int((label == topic).sum()) for topic in topics],
    }


def counted(data: Data) -> list[tuple[str, float]]:
    """Perplexities of whole test rows by how often one, two and three characters in a row stand in training.

    Each order is mixed with the one below by a weight that is best on the validation rows.
    """
    parts = {name: getattr(data, name).x.long().numpy() for name in ("train", "validation", "test")}
    size, found = data.spec.categories, []
    below = {name: np.full(x.shape, 1 / size) for name, x in parts.items()}
    for order in (1, 2, 3):
        counts, before = Counter[tuple[int, ...]](), Counter[tuple[int, ...]]()
        for row in parts["train"].tolist():
            for place in range(len(row)):
                gram = tuple(row[max(0, place + 1 - order) : place + 1])
                counts[gram] += 1
                before[gram[:-1]] += 1
        shares = {}
        for name, x in parts.items():
            grams = [[tuple(row[max(0, t + 1 - order) : t + 1]) for t in range(len(row))] for row in x.tolist()]
            shares[name] = np.array([[counts[g] / max(1, before[g[:-1]]) for g in row] for row in grams])
        weights = np.linspace(0.01, 0.99, 50)
        mixed = [np.log(w * shares["validation"] + (1 - w) * below["validation"]).mean() for w in weights]
        weight = weights[int(np.argmax(mixed))]
        below = {name: weight * shares[name] + (1 - weight) * below[name] for name in parts}
        found.append((f"{order - 1} before", math.exp(-np.log(below["test"]).mean())))
    return found


def log_perplexity(row: Row, name: str, places: int) -> tuple[float, float]:
    """-log p a character, and its error over topics."""
    return clustered([-value / places for value in row[name]], row["rows"])


def clustered(sums: list[float], rows: list[int]) -> tuple[float, float]:
    """A mean over rows, and its error where the rows of a topic go together.

    >>> clustered([1.0, 1.0], [1, 1])
    (1.0, 0.0)
    """
    mean, count = sum(sums) / sum(rows), len(rows)
    spread = sum((total - mean * size) ** 2 for total, size in zip(sums, rows, strict=True))
    return mean, math.sqrt(spread * count / (count - 1)) / sum(rows)


def combined(values: list[tuple[float, float]]) -> tuple[float, float]:
    """A mean over seeds; its error is that over topics, which seeds share, and that over seeds, together."""
    means = [mean for mean, _ in values]
    between = statistics.variance(means) / len(means) if len(means) > 1 else 0.0
    return statistics.mean(means), math.sqrt(statistics.mean(error**2 for _, error in values) + between)


def told(values: list[tuple[float, float]]) -> str:
    """A perplexity with its error, from its logarithms."""
    mean, error = combined(values)
    return f"{math.exp(mean):.2f} ± {math.exp(mean) * error:.2f}"


def ratio(rows: list[Row], method: str, name: str, places: int) -> tuple[float, float] | None:
    """Perplexity over that of backpropagation at the same seeds, paired by topic."""
    of = {row["seed"]: row for row in rows if row["method"] == "backpropagation"}
    pairs = [(row, of[row["seed"]]) for row in rows if row["method"] == method and row["seed"] in of]
    if not pairs or method == "backpropagation":
        return None
    logs = [
        clustered([(b - a) / places for a, b in zip(row[name], other[name], strict=True)], row["rows"])
        for row, other in pairs
    ]
    mean, error = combined(logs)
    return math.exp(mean), math.exp(mean) * error


def table(rows: list[Row], methods: tuple[str, ...], length: int) -> str:
    lines = ["| | seeds | perplexity | ratio | given 32 characters | ratio | CPU s a fit |"]
    lines.append("|---" * 7 + "|")
    for method in methods:
        some = [row for row in rows if row["method"] == method]
        if not some:
            continue
        cells = [WORDS.get(method, method), str(len(some))]
        for name, places in (("whole", length), ("rest", length // 2)):
            cells.append(told([log_perplexity(row, name, places) for row in some]))
            times = ratio(rows, method, name, places)
            cells.append("" if times is None else f"{times[0]:.3f} ± {times[1]:.3f}")
        cells.append(f"{statistics.mean(row['seconds'] for row in some):.0f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def curves(rows: list[Row]) -> str:
    """Perplexity of validation rows at the ends of epochs, means over seeds."""
    marks = sorted({mark for row in rows if row["method"] in MAIN for mark in row["at"]})
    lines = [f"| | {' | '.join(f'{mark} updates' for mark in marks)} |", "|---" * (len(marks) + 1) + "|"]
    for method in MAIN:
        some = [dict(zip(row["at"], row["curve"], strict=True)) for row in rows if row["method"] == method]
        cells = [[each[mark] for each in some if mark in each] for mark in marks]
        told = [f"{statistics.mean(each):.2f}" if each else "" for each in cells]
        lines += [f"| {WORDS[method]} | {' | '.join(told)} |"] if some else []
    return "\n".join(lines) + "\n"


def marked(page: Path, word: str, table: str) -> None:
    """Put a table into the page, between its marks."""
    begin, end = (f"<!-- benchmarks/language_model.py: {word} {edge} -->\n" for edge in ("begins", "ends"))
    page.write_text(between(page.read_text(), begin, end, table))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--updates", type=int, default=400)
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--target", type=Path, default=HERE / "results" / "language_model.jsonl")
    given = parser.parse_args()
    done = Cells(given.target, "method", "seed", "updates")
    data = curvae.data.load("python-topics")
    if not given.table:
        logging.getLogger("lightning").setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
        for seed in given.seeds:
            for method in given.methods:
                if (method, seed, given.updates) not in done and (method in MAIN or seed == 0):
                    row = learned(data, method, seed, given.updates)
                    done.add({"method": method, "seed": seed, "updates": given.updates, **row})
    page = HERE.parent / "docs" / "studies" / "language-model.md"
    rows, length = [row for row in done.rows if row["updates"] == given.updates], data.spec.event[0]
    marked(page, "table", table(rows, MAIN, length))
    marked(page, "curve", curves(rows))
    single = [row for row in rows if row["seed"] == 0]
    others = ("backpropagation", *(method for method in METHODS if method not in MAIN or method == "categorical"))
    marked(page, "choices", table(single, others, length))
    print({words: round(value, 2) for words, value in counted(data)})


if __name__ == "__main__":
    main()
