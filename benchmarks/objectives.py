"""What each objective learns on small data: the 8 x 8 digits, one network, a few hundred steps, three seeds.

Every objective gets the same networks, first weights, order of data, optimizer and, where it takes several draws, the
same number of them. Models are compared by the evaluator's log p(x) under the common proposal, which does not ask how
they were trained; differences are paired by datum and seed. Seconds are CPU time on one thread.

    python benchmarks/objectives.py [--epochs 30] [--target benchmarks/results/objectives.json]
    python benchmarks/objectives.py --table      # writes the file's table into docs/objectives.md, no training
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import logging
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

import curvae
from curvae import objectives as of
from curvae.data import Data
from curvae.evaluation import Estimate, score
from curvae.inference import AmortizedGaussian
from curvae.likelihoods import Gaussian
from curvae.objectives import DoublyReparameterized, Objective, StickingTheLanding
from curvae.systems import LatentSystem, baggins, bilbo
from curvae.systems.parts import standard_encoder, standard_model, train
from curvae.typing import DataSpec

LATENT, HIDDEN, DEPTH, DRAWS, GROUPS = 8, 64, 2, 8, 2
SEEDS = (0, 1, 2)
SAMPLES = 100
BASE = "elbo"
STL, DREG = StickingTheLanding(), DoublyReparameterized()
OBJECTIVES: dict[str, tuple[Objective, int]] = {
    "elbo": (of.elbo, DRAWS),
    "elbo, 1 draw": (of.elbo, 1),
    "elbo, STL": (of.MonteCarloElbo(estimator=STL), DRAWS),
    "iwae": (of.Iwae(), DRAWS),
    "iwae, STL": (of.Iwae(estimator=STL), DRAWS),
    "iwae, DReG": (of.Iwae(estimator=DREG), DRAWS),
    "miwae": (of.Miwae(GROUPS), DRAWS // GROUPS),
    "piwae": (of.Piwae(GROUPS), DRAWS // GROUPS),
    "ciwae, 0.05": (of.Ciwae(0.05), DRAWS),
    "renyi, 0.5": (of.Renyi(0.5), DRAWS),
    "f-divergence": (of.FDivergence(), DRAWS),
    "cubo, DReG": (of.Cubo(estimator=DREG), DRAWS),
    "wake": (of.WakePhi(), DRAWS),
    "wake, doubly": (of.WakePhi(doubly=True), DRAWS),
    "skew, 0.5": (of.SkewJensenShannon(), 1),
    "mutual": (of.MutualDivergence(), 1),
}
MARKS = "<!-- benchmarks/objectives.py: begin -->\n", "<!-- benchmarks/objectives.py: end -->\n"
PAGE = Path(__file__).parents[1] / "docs" / "objectives.md"


def amortized(spec: DataSpec, objective: Objective, draws: int) -> LatentSystem:
    """The plain autoencoder with another objective."""
    model = standard_model(spec, LATENT, HIDDEN, DEPTH, likelihood=Gaussian(spec.event, learn="shared"))
    inference = AmortizedGaussian(standard_encoder(spec, LATENT, HIDDEN, DEPTH))
    return LatentSystem(model, inference, objective, draws, (train(model),))


def batched(make: Callable[..., LatentSystem]) -> Callable[[DataSpec], LatentSystem]:
    """A system of constant posterior variance, with the likelihood that all others have."""
    return lambda spec: make(spec, LATENT, HIDDEN, DEPTH, likelihood=Gaussian(spec.event, learn="shared"))


def systems() -> dict[str, Callable[[DataSpec], LatentSystem]]:
    """Everything that is compared, the base first."""
    plain = {
        name: lambda spec, objective=objective, draws=draws: amortized(spec, objective, draws)
        for name, (objective, draws) in OBJECTIVES.items()
    }
    return {**plain, "bilbo": batched(bilbo), "baggins": batched(baggins)}


def measure(
    make: Callable[[DataSpec], LatentSystem], data: Data, seed: int, epochs: int
) -> tuple[LatentSystem, dict[str, np.ndarray], float]:
    """The trained system, its scores of each test datum, and the CPU seconds of training."""
    torch.manual_seed(seed)
    system = make(data.spec)
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        curvae.fit(
            system, data, epochs, batch_size=100, learning_rate=2e-3, seed=seed, out=f"{folder}/run", device="cpu",
            progress=False
        )  # fmt: skip
    seconds = time.process_time() - started
    return system, dict(score(system, data.test, samples=SAMPLES)), seconds


def row(kind: str, runs: list[dict[str, np.ndarray]], base: list[dict[str, np.ndarray]], seconds: list[float]) -> dict:
    """Means over seeds and data; the error of the difference is over data, of their means over seeds."""
    each = {name: np.stack([run[name] for run in runs]) for name in ("log_likelihood_laplace", "elbo", "khat_laplace")}
    each["own"] = np.stack([run["log_likelihood_own"] for run in runs])
    ahead = each["log_likelihood_laplace"] - np.stack([run["log_likelihood_laplace"] for run in base])
    paired = Estimate.of(ahead.mean(0))
    return {
        "kind": kind,
        "log_likelihood": float(each["log_likelihood_laplace"].mean()),
        "own": float(each["own"].mean()),
        "elbo": float(each["elbo"].mean()),
        "khat_above_0.7": float((each["khat_laplace"] > 0.7).mean()),
        "difference": paired.value,
        "stderr": paired.stderr,
        "difference_of_each_seed": [float(value) for value in ahead.mean(1)],
        "training_seconds": float(np.mean(seconds)),
    }


def run(epochs: int) -> dict:
    """Train and score everything; the base is compared with itself too."""
    data, found, rows = curvae.data.load("digits"), {}, {}
    for name, make in systems().items():
        trained = [measure(make, data, seed, epochs) for seed in SEEDS]
        found[name] = [scores for _, scores, _ in trained]
        rows[name] = row(trained[0][0].kind, found[name], found[BASE], [seconds for *_, seconds in trained])
        print(f"{name:>14} {rows[name]['log_likelihood']:8.2f} {rows[name]['difference']:+7.2f}", flush=True)
    sizes = {"latent": LATENT, "hidden": HIDDEN, "depth": DEPTH, "draws": DRAWS, "groups": GROUPS}
    how = {"torch": torch.__version__, "threads": torch.get_num_threads(), "seeds": SEEDS, "samples": SAMPLES}
    parts = {"train": len(data.train), "validation": len(data.validation), "test": len(data.test)}
    return {"how": {**how, "epochs": epochs, **sizes, **parts}, "base": BASE, "objectives": rows}


def table(content: dict) -> str:
    """The rows in Markdown, best model first."""
    lines = [
        "| objective | kind | log p(x), common proposal | against `elbo`, paired | of each seed "
        "| log p(x), own posterior | ELBO | k-hat > 0.7 | training, CPU s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, each in sorted(content["objectives"].items(), key=lambda item: -item[1]["log_likelihood"]):
        seeds = ", ".join(f"{value:+.1f}" for value in each["difference_of_each_seed"])
        ahead = f"{each['difference']:+.2f} ± {each['stderr']:.2f}" if name != content["base"] else "0"
        lines.append(
            f"| `{name}` | {each['kind']} | {each['log_likelihood']:.2f} | {ahead} | {seeds if ahead != '0' else ''} "
            f"| {each['own']:.2f} | {each['elbo']:.2f} | {each['khat_above_0.7']:.0%} "
            f"| {each['training_seconds']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def publish(content: dict, page: Path = PAGE) -> None:
    """Replace the table between the page's marks."""
    before, rest = page.read_text().split(MARKS[0])
    page.write_text(before + MARKS[0] + table(content) + MARKS[1] + rest.split(MARKS[1])[1])


def main() -> None:
    """Measure unless only the table is asked for, then write both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--table", action="store_true")
    parser.add_argument("--target", type=Path, default=Path(__file__).parent / "results" / "objectives.json")
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
