"""How much the latents of a lossy autoencoder say, by what the decoder sees of the picture: the bits-back curve.

The 8 x 8 digits, above and below 1/2, in windows of 0, 1, 2, 3 and all pixels, each from both starts; and what keeps
latents in use where the decoder sees everything: soft free bits, and mutual divergence. A cell is one fit, and what 200
draws of its posterior say of each test row. A line of the file is one cell; what was cut off goes on.

    python benchmarks/lossy.py [--updates 1000] [--target benchmarks/results/lossy.jsonl]
    python benchmarks/lossy.py --table      # writes the file's table into docs/studies/lossy.md, no training

12 cells, some 200 CPU seconds of training in all on one thread, and a few more of scoring.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import logging
import tempfile
import time
import warnings
from math import log
from pathlib import Path
from typing import Any

import torch

import curvae
from curvae import training
from curvae.data import ArrayTable, Data
from curvae.systems import LatentSystem, lossy_vae
from fits.cells import Cells
from pages import between

Row = dict[str, Any]
HERE = Path(__file__).parent
SIZES = {"latent": 8, "hidden": 128, "depth": 2}
DRAWS, NEIGHBORS, SEED = 200, 5, 0
KEPT: dict[str, dict[str, Any]] = {
    "ELBO": {},
    "soft free bits, 5": {"free_bits": 5.0},
    "mutual divergence, 1": {"diversity": 1.0},
}
ALL = 7
CELLS = [
    *((window, start, "ELBO") for start in ("linear", "random") for window in (0, 1, 2, 3, ALL)),
    *((ALL, "linear", option) for option in list(KEPT)[1:]),
]


def cell(data: Data, window: int, start: str, option: str, updates: int) -> Row:
    """One fit, and what its posterior says of the test rows."""
    torch.manual_seed(SEED)
    system = lossy_vae(data.spec, window=window, start=start, **SIZES, **KEPT[option])
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        training.fit(
            system, data, max_updates=updates, seed=SEED, out=f"{folder}/run", device="cpu", progress=False
        )  # fmt: skip
    seconds = time.process_time() - began
    found = {"window": window, "start": start, "option": option, "updates": updates, "seconds": seconds}
    return found | judged(system.eval(), data)


@torch.no_grad()
def judged(system: LatentSystem, data: Data) -> Row:
    """KL, ELBO and importance-weighted log p(x) of the test rows, nats; and how well labels follow from the codes."""
    torch.manual_seed(SEED)
    parts = []
    for batch in data.test.batches(50):
        draws = system.posterior(batch.x).draw(DRAWS)
        rate = draws.log_q - system.model.prior.log_prob(draws.z)
        log_w = system.model.log_likelihood(batch.x, draws.z) - rate
        parts.append(torch.stack([rate.mean(0), log_w.mean(0), log_w.logsumexp(0) - log(DRAWS)]))
    each = torch.cat(parts, 1)
    names, error = ("kl", "elbo", "log_p"), each.std(1) / each.shape[1] ** 0.5
    means = dict(zip(names, each.mean(1).tolist(), strict=True))
    errors = {f"{name}_error": value for name, value in zip(names, error.tolist(), strict=True)}
    return means | errors | {"neighbors": right(system, data.train, data.test)}


def right(system: LatentSystem, train: ArrayTable, test: ArrayTable) -> float:
    """Share of test rows whose label most of the nearest training rows have, by posterior means."""
    known, asked = (system.posterior(table.x).mean for table in (train, test))
    near = torch.cdist(asked, known).topk(NEIGHBORS, largest=False).indices
    assert train.label is not None
    assert test.label is not None
    return float((train.label[near].mode(1).values == test.label).double().mean())


def table(rows: list[Row]) -> str:
    """The rows in Markdown, in the order of the cells."""
    lines = [
        "| window | start | trained by | KL(q, p), nats | ELBO | log p(x), 200 draws | 5 neighbors right | CPU s |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in sorted(rows, key=lambda row: CELLS.index((row["window"], row["start"], row["option"]))):
        numbers = (f"{row[name]:.2f} ± {row[f'{name}_error']:.2f}" for name in ("kl", "elbo", "log_p"))
        window = "all" if row["window"] == ALL else row["window"]
        lines.append(
            f"| {window} | {row['start']} | {row['option']} | {' | '.join(numbers)} | {row['neighbors']:.0%} "
            f"| {row['seconds']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=1000)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--target", type=Path, default=HERE / "results" / "lossy.jsonl")
    given = parser.parse_args()
    done = Cells(given.target, "window", "start", "option", "updates")
    if not given.table:
        logging.getLogger("lightning").setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
        data = curvae.data.load("digits", binarize="static")
        for place in CELLS:
            if (*place, given.updates) not in done:
                done.add(cell(data, *place, given.updates))
    page = HERE.parent / "docs" / "studies" / "lossy.md"
    begin, end = (f"<!-- benchmarks/lossy.py: {word} -->\n" for word in ("begin", "end"))
    rows = [row for row in done.rows if row["updates"] == given.updates]
    page.write_text(between(page.read_text(), begin, end, table(rows)))


if __name__ == "__main__":
    main()
