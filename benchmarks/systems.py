"""What each registered system learns on small data, beyond the objectives and the flows that have pages of their own.

Three comparisons, in each of which all have the same decoder, data, order of data, optimizer and epochs: continuous
latents on the 8 x 8 digits, each system at its own default inference; discrete latents on the digits, one posterior and
every gradient; predictive coding beside an autoencoder trained by backpropagation, on MNIST. Models are compared by the
evaluator's log p(x), paired by example and seed, or by squared error where there is no evidence.

    python benchmarks/systems.py continuous discrete
    python benchmarks/systems.py predictive --data-dir ../shared/data
    python benchmarks/systems.py     # only writes the tables of docs/studies/systems.md again
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import logging
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path

import numpy as np
import torch
from torch import nn

import curvae
from curvae import systems as of
from curvae.data import Data
from curvae.evaluation import Estimate
from curvae.inference import AmortizedMean
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.networks import MLP
from curvae.objectives import PointJoint
from curvae.priors import StandardNormal
from curvae.systems import LatentSystem
from curvae.systems.parts import standard_network
from curvae.systems.stages import Stage, initialize_likelihood
from curvae.typing import DataSpec
from pages import between
from paired import SIZES, Make, Row, Scores, alike, first, measure

PAGE = Path(__file__).parents[1] / "docs" / "studies" / "systems.md"
RESULTS = Path(__file__).parent / "results" / "systems"
SEEDS = (0, 1)
LATENT = SIZES["latent"]


@dataclass(frozen=True)
class Group:
    """Systems that are compared with the first one."""

    make: dict[str, Make]
    data: Callable[[str | None], Data]
    epochs: int
    rate: float = 2e-3


def discrete(gradient: str) -> Make:
    """Two variables of 16 categories, 256 states, so that enumeration is at hand."""
    sizes = {"variables": 2, "categories": 16, "hidden": SIZES["hidden"], "depth": SIZES["depth"]}
    return lambda spec: of.direct_vae(spec, **sizes, gradient=gradient, likelihood=Gaussian(spec.event, learn="shared"))


def coding(incremental: bool) -> Make:
    """Two layers of 64 states, each with a hidden layer of 128 units to the next."""
    return lambda spec: of.predictive_coding(
        spec, latent=64, layers=2, hidden=128, steps=20, incremental=incremental, likelihood=Gaussian(spec.event)
    )


def backpropagation(spec: DataSpec) -> LatentSystem:
    """The same layers without states between them, and an encoder."""
    decoder = nn.Sequential(MLP(64, [128], 64), MLP(64, [128], prod(spec.event)))
    model = LatentVariableModel(StandardNormal(64), decoder, Gaussian(spec.event))
    inference = AmortizedMean(standard_network(spec, 64, hidden=128, depth=2))
    stage = Stage("train", start=initialize_likelihood, monitor="surrogate")
    return LatentSystem(model, inference, PointJoint(), stages=(stage,))


def digits(_: str | None) -> Data:
    """scikit-learn's 8 x 8 digits."""
    return curvae.data.load("digits")


def few_images(folder: str | None) -> Data:
    """The first 5,000 training images of MNIST, 500 to validate, 1,000 to test."""
    data = curvae.data.load("mnist", data_dir=folder)
    parts = {"train": 5_000, "validation": 500, "test": 1_000}
    return replace(data, **{name: first(getattr(data, name), count) for name, count in parts.items()})


GROUPS = {
    "continuous": Group(
        {
            "vae": alike(of.vae),
            "vlae": alike(of.vlae),
            "multimodal-vlae": alike(of.multimodal_vlae),
            "fishernet": alike(of.fishernet),
            "mixture-vae": alike(of.mixture_vae),
            "recursive-mixture": alike(of.recursive_mixture),
            "dlgm, 4 + 4": alike(of.dlgm, latent=LATENT // 2),
            "hvae": alike(of.hvae),
            "ais-vae": alike(of.ais_vae),
            "langevin-ae": alike(of.langevin_ae, features=100),
            "tsc": alike(of.tsc),
            "wake-wake": alike(of.wake_wake),
            "iwae": alike(of.iwae),
            "bilbo": alike(of.bilbo),
            "predictive-coding, 4 + 4": alike(of.predictive_coding, latent=LATENT // 2, layers=2),
        },
        digits,
        epochs=30,
    ),
    "discrete": Group(
        {name: discrete(name) for name in ("exact", "direct", "gumbel-softmax", "straight-through", "leave-one-out")},
        digits,
        epochs=30,
    ),
    "predictive": Group(
        {"backpropagation": backpropagation, "predictive coding": coding(False), "incremental": coding(True)},
        few_images,
        epochs=10,
        rate=1e-3,
    ),
}


def likelihood(scores: Scores) -> np.ndarray:
    """log p(x) under the common proposal, or the system's own where latents are discrete; empty where there is none."""
    return scores.get("log_likelihood_laplace", scores.get("log_likelihood", np.empty(0)))


def row(runs: Sequence[Scores], base: Sequence[Scores], seconds: Sequence[float]) -> Row:
    """Means over seeds and data; the error of a difference is over data, of their means over seeds."""
    content: Row = {
        "squared_error": float(np.mean([run["squared_error"].mean() for run in runs])),
        "squared_error_of_each_seed": [float(run["squared_error"].mean()) for run in runs],
        "training_seconds": float(np.mean(seconds)),
    }
    ours, theirs = (np.stack([likelihood(run) for run in each]) for each in (runs, base))
    if ours.size == 0 or theirs.size == 0:
        return content
    ahead = ours - theirs
    paired = Estimate.of(ahead.mean(0))
    return content | {
        "log_likelihood": float(ours.mean()),
        "difference": paired.value,
        "stderr": paired.stderr,
        "difference_of_each_seed": [float(value) for value in ahead.mean(1)],
        "elbo": float(np.mean([run["elbo"].mean() for run in runs])),
    }


def run(name: str, folder: str | None) -> dict:
    """Train and score a group; the base is compared with itself too."""
    group, rows, base = GROUPS[name], {}, []
    data = group.data(folder)
    measure(next(iter(group.make.values())), data, 0, 1)  # what is loaded and compiled once is nobody's time
    for system, make in group.make.items():
        trained = [measure(make, data, seed, group.epochs, group.rate) for seed in SEEDS]
        found = [scores for _, scores, _ in trained]
        base = base or found
        rows[system] = row(found, base, [seconds for *_, seconds in trained])
        print(f"{system:>26}", {k: round(v, 2) for k, v in rows[system].items() if isinstance(v, float)}, flush=True)
    return {"how": {"torch": torch.__version__, "epochs": group.epochs, "seeds": SEEDS}, "systems": rows}


def evidence_table(rows: dict[str, dict]) -> str:
    """Best model first."""
    base = next(iter(rows))
    lines = [
        f"| system | log p(x) | against `{base}`, paired | of each seed | log p(x) - ELBO | squared error "
        "| training, CPU s |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, each in sorted(rows.items(), key=lambda item: -item[1]["log_likelihood"]):
        seeds = ", ".join(f"{value:+.1f}" for value in each["difference_of_each_seed"])
        ahead = f"{each['difference']:+.2f} ± {each['stderr']:.2f} | {seeds}" if name != base else "0 | "
        gap = each["log_likelihood"] - each["elbo"]
        lines.append(
            f"| `{name}` | {each['log_likelihood']:.2f} | {ahead} | {gap:.2f} | {each['squared_error']:.1f} "
            f"| {each['training_seconds']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def error_table(rows: dict[str, dict]) -> str:
    """Mean squared errors of a pixel in [0, 1], and their ratio to the first."""
    base, pixels = next(iter(rows.values()))["squared_error"], 784 * 255**2
    lines = ["| trained by | squared error | ratio | of each seed | training, CPU s |", "|---|---|---|---|---|"]
    for name, each in rows.items():
        seeds = ", ".join(f"{value / pixels:.4f}" for value in each["squared_error_of_each_seed"])
        lines.append(
            f"| {name} | {each['squared_error'] / pixels:.4f} | {each['squared_error'] / base:.2f} | {seeds} "
            f"| {each['training_seconds']:.0f} |"
        )
    return "\n".join(lines) + "\n"


def publish(page: Path = PAGE) -> None:
    """Replace the tables between the page's marks."""
    for name in GROUPS:
        if (path := RESULTS / f"{name}.json").exists():
            begin, end = (f"<!-- benchmarks/systems.py, {name}: {word} -->\n" for word in ("begin", "end"))
            table = error_table if name == "predictive" else evidence_table
            content = table(json.loads(path.read_text())["systems"])
            page.write_text(between(page.read_text(), begin, end, content))


def main() -> None:
    """Measure the groups asked for, then write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("groups", nargs="*", metavar="group", help=", ".join(GROUPS))
    parser.add_argument("--data-dir")
    chosen = parser.parse_args()
    logging.getLogger("lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    RESULTS.mkdir(parents=True, exist_ok=True)
    for name in chosen.groups:
        (RESULTS / f"{name}.json").write_text(json.dumps(run(name, chosen.data_dir), indent=1) + "\n")
        print(f"{time.process_time():.0f} CPU seconds")
    publish()


if __name__ == "__main__":
    main()
