"""What a richer posterior is worth on small data: the 8 x 8 digits, one network, one budget, two seeds.

Every system has the same decoder, encoder trunk, likelihood, first seed, order of data and optimizer. Models are
compared by the evaluator's log p(x) under the common proposal, posteriors by how far the ELBO lies below it;
differences are paired by datum and seed. Seconds are CPU time on one thread.

    python benchmarks/flows.py [--epochs 60] [--target benchmarks/results/flows.json]
    python benchmarks/flows.py --table      # writes the file's table into docs/flows.md, no training
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import logging
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch

import curvae
from curvae import systems as of
from curvae.evaluation import Estimate
from curvae.likelihoods import Gaussian
from curvae.systems import LatentSystem
from curvae.typing import DataSpec
from objectives import DEPTH, HIDDEN, LATENT, SAMPLES, measure

BASE = "vae"
SEEDS = (0, 1)
SYSTEMS: dict[str, Callable[..., LatentSystem]] = {
    "vae": of.vae,
    "householder-vae, 7": partial(of.householder_vae, reflections=7),
    "planar-vae, 10": partial(of.planar_vae, flows=10),
    "radial-vae, 10": partial(of.radial_vae, flows=10),
    "iaf-vae, 2": partial(of.iaf_vae, flows=2, width=HIDDEN),
    "coupling-vae, 4": partial(of.coupling_vae, flows=4, width=HIDDEN),
    "spline-vae, 2": partial(of.spline_vae, flows=2, width=HIDDEN),
    "sa-vae, 10": partial(of.sa_vae, steps=10, rate=5e-4),
    "vlae, 3": of.vlae,
}
MARKS = "<!-- benchmarks/flows.py: begin -->\n", "<!-- benchmarks/flows.py: end -->\n"
PAGE = Path(__file__).parents[1] / "docs" / "flows.md"


def made(make: Callable[..., LatentSystem], spec: DataSpec) -> LatentSystem:
    """A system with the sizes and the likelihood that all have."""
    return make(spec, latent=LATENT, hidden=HIDDEN, depth=DEPTH, likelihood=Gaussian(spec.event, learn="shared"))


def row(runs: list[dict[str, np.ndarray]], base: list[dict[str, np.ndarray]], seconds: list[float]) -> dict:
    """Means over seeds and data; errors are over data, of their means over seeds."""
    names = {"log_likelihood": "log_likelihood_laplace", "own": "log_likelihood_own", "elbo": "elbo"}
    each = {name: np.stack([run[key] for run in runs]) for name, key in names.items()}
    ahead = each["log_likelihood"] - np.stack([run["log_likelihood_laplace"] for run in base])
    paired, gap = (Estimate.of(value.mean(0)) for value in (ahead, each["log_likelihood"] - each["elbo"]))
    return {
        **{name: float(value.mean()) for name, value in each.items()},
        "gap": gap.value,
        "gap_stderr": gap.stderr,
        "difference": paired.value,
        "stderr": paired.stderr,
        "difference_of_each_seed": [float(value) for value in ahead.mean(1)],
        "ess_own": float(np.mean([run["ess_own"].mean() for run in runs])),
        "khat_above_0.7": float(np.mean([(run["khat_laplace"] > 0.7).mean() for run in runs])),
        "training_seconds": float(np.mean(seconds)),
    }


def run(epochs: int) -> dict:
    """Train and score everything; the base is compared with itself too."""
    data, found, rows = curvae.data.load("digits"), {}, {}
    for name, make in SYSTEMS.items():
        trained = [measure(partial(made, make), data, seed, epochs) for seed in SEEDS]
        found[name] = [scores for _, scores, _ in trained]
        rows[name] = row(found[name], found[BASE], [seconds for *_, seconds in trained])
        one = rows[name]
        print(f"{name:>18} {one['log_likelihood']:8.2f} {one['gap']:7.2f} {one['training_seconds']:6.1f} s", flush=True)
    sizes = {"latent": LATENT, "hidden": HIDDEN, "depth": DEPTH}
    how = {"torch": torch.__version__, "threads": torch.get_num_threads(), "seeds": SEEDS, "samples": SAMPLES}
    parts = {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)}
    return {"how": {**how, "epochs": epochs, **sizes, **parts}, "base": BASE, "systems": rows}


def table(content: dict) -> str:
    """The rows in Markdown, smallest gap first."""
    lines = [
        "| system, steps | log p(x) - ELBO | log p(x), common proposal | against `vae`, paired | of each seed "
        "| log p(x), own posterior | effective draws | k-hat > 0.7 | training, CPU s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, each in sorted(content["systems"].items(), key=lambda item: item[1]["gap"]):
        seeds = ", ".join(f"{value:+.1f}" for value in each["difference_of_each_seed"])
        ahead = f"{each['difference']:+.2f} ± {each['stderr']:.2f} | {seeds}" if name != content["base"] else "0 | "
        lines.append(
            f"| `{name}` | {each['gap']:.2f} ± {each['gap_stderr']:.2f} | {each['log_likelihood']:.2f} | {ahead} "
            f"| {each['own']:.2f} | {each['ess_own']:.0f} of {content['how']['samples']} "
            f"| {each['khat_above_0.7']:.0%} | {each['training_seconds']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def publish(content: dict, page: Path = PAGE) -> None:
    """Replace the table between the page's marks."""
    before, rest = page.read_text().split(MARKS[0])
    page.write_text(before + MARKS[0] + table(content) + MARKS[1] + rest.split(MARKS[1])[1])


def main() -> None:
    """Measure unless only the table is asked for, then write both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--target", type=Path, default=Path(__file__).parent / "results" / "flows.json")
    chosen = parser.parse_args()
    if not chosen.table:
        logging.getLogger("lightning").setLevel(logging.ERROR)
        warnings.simplefilter("ignore")
        chosen.target.parent.mkdir(exist_ok=True)
        chosen.target.write_text(json.dumps(run(chosen.epochs), indent=1) + "\n")
        print(f"{time.process_time():.0f} CPU seconds")
    publish(json.loads(chosen.target.read_text()))


if __name__ == "__main__":
    main()
