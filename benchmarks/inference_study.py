"""What each posterior family makes of one trained decoder: its gap to log p(x), where the gap comes from, its price.

A decoder is trained once (IWAE, 4 draws), then frozen, and every family is fitted to it by as many optimizer steps.
For each: the ELBO and the importance-weighted bound of 500 draws, the inference gap log p(x) - ELBO in two parts, CPU
time and decoder evaluations per example, and the share of data with k-hat above 0.7. log p(x) is the same for all:
draws of a mixture of three proposals that are built for the purpose.

    python benchmarks/inference_study.py digits
    python benchmarks/inference_study.py mnist --data-dir ../shared/data
    python benchmarks/inference_study.py     # only writes the tables of docs/studies/inference-study.md again

Each family leaves a file in benchmarks/results/inference_study; a second run only makes what is missing.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import hashlib
import json
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import curvae
from curvae import training
from curvae.data import Data
from curvae.evaluation import Estimate, Estimates, estimate, posterior_weights
from curvae.evaluation.gaps.variational_families import in_covariance
from curvae.evaluation.likelihood.proposal import STEPS, widen
from curvae.inference import Adam, AmortizedGaussian, Inference, Laplace, Refiner
from curvae.likelihoods import Bernoulli, Gaussian
from curvae.model import LatentVariableModel
from curvae.posteriors import GaussianPosterior, Mixture, Posterior
from curvae.posteriors.simulated import SimulatedPosterior
from curvae.systems import LatentSystem, Stage, iwae
from curvae.typing import Batch
from inference_counts import counting
from inference_families import FAMILIES, SOURCES, Networks
from inference_tables import publish
from paired import first

RESULTS = Path(__file__).parent / "results" / "inference_study"
CACHE = Path("runs") / "inference-study"
SAMPLES, CHUNK, FLAGGED = 500, 100, 0.7
REFERENCE = 1000
"""Draws of each of the reference's proposals."""
BEST = Refiner(200, Adam(0.05), samples=8, seed=0, guard=64)
"""What finds the best member of a family for each example."""
DEAR = 2
"""Its draws where each of them takes gradients of the decoder."""


@dataclass(frozen=True)
class Setting:
    """One data set, its decoder, and the budget."""

    name: str
    latent: int
    hidden: int
    epochs: int
    """Of the decoder's training."""
    rows: int
    """Training data that families see."""
    steps: int
    """Optimizer steps of each family, of 100 data each."""
    test: int
    depth: int = 2

    def data(self, folder: str | None) -> Data:
        """Digits as they are; MNIST in Larochelle's fixed binarization."""
        if self.name == "digits":
            return curvae.data.load("digits")
        return curvae.data.load("binarized_mnist", data_dir=folder)


SETTINGS = {
    "digits": Setting("digits", latent=8, hidden=64, epochs=80, rows=1198, steps=300, test=359),
    "mnist": Setting("mnist", latent=16, hidden=200, epochs=3, rows=10000, steps=200, test=100),
}


@dataclass(frozen=True)
class Bench:
    """The frozen model, what encoders begin with, and the data."""

    setting: Setting
    data: Data
    model: LatentVariableModel
    networks: Networks
    checksum: str
    """Of the decoder's weights and of the setting: results of others do not belong here."""

    @property
    def path(self) -> Path:
        return RESULTS / self.setting.name

    def batches(self) -> Iterator[Batch]:
        """The test data."""
        for index in torch.arange(min(self.setting.test, len(self.data.test))).split(CHUNK):
            yield self.data.test.batch(index)


def prepare(setting: Setting, folder: str | None) -> Bench:
    """Train the decoder, or take it from the last run, and freeze it."""
    data, s = setting.data(folder), setting
    torch.manual_seed(0)
    likelihood = Gaussian(data.spec.event, learn="shared") if s.name == "digits" else Bernoulli(data.spec.event)
    system = iwae(data.spec, s.latent, s.hidden, s.depth, samples=4, likelihood=likelihood)
    few = replace(data, validation=first(data.validation, 500))
    known(CACHE / f"{s.name}-{digest(repr(s).encode())}.pt", system, lambda: fit(system, few, s.epochs, 2e-3))
    system.requires_grad_(False).eval()
    weights = b"".join(value.numpy().tobytes() for value in system.model.state_dict().values())
    networks = Networks(data.spec, s.latent, s.hidden, s.depth, system.inference.encoder)
    return Bench(s, data, system.model, networks, digest(weights + repr(s).encode()))


def digest(content: bytes) -> str:
    """The first 16 characters of the SHA-256."""
    return hashlib.sha256(content).hexdigest()[:16]


def fit(system: LatentSystem, data: Data, epochs: int, rate: float) -> None:
    """Train in a folder that nobody keeps."""
    with tempfile.TemporaryDirectory() as folder, torch.enable_grad():
        out = f"{folder}/run"
        options = {"epochs": epochs, "batch_size": 100, "learning_rate": rate}
        training.fit(system, data, **options, out=out, device="cpu", progress=False)


def known(path: Path, module: torch.nn.Module, learn: Callable[[], None]) -> float:
    """Give a module the weights of that file, or learn them and write it; the CPU seconds that learning took."""
    if path.exists():
        found = torch.load(path, weights_only=True)
        module.load_state_dict(found["weights"])
        return found["seconds"]
    started = time.thread_time()
    learn()
    seconds = time.thread_time() - started
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"weights": module.state_dict(), "seconds": seconds}, path)
    return seconds


def fitted(bench: Bench, name: str) -> tuple[Inference, float]:
    """The family after its budget of steps, the model frozen, and their CPU seconds; what only refines has none."""
    family, s = FAMILIES[name], bench.setting
    torch.manual_seed(0)
    inference = family.make(bench.networks)
    if family.after is not None:
        inner, seconds = fitted(bench, family.after)
        inference.inference.load_state_dict(inner.state_dict())
    elif any(True for _ in inference.parameters()):
        system = LatentSystem(bench.model, inference, family.objective, 2, (Stage("inference", ("inference",)),))
        data = replace(bench.data, train=first(bench.data.train, s.rows), validation=first(bench.data.validation, 200))
        epochs = round(s.steps * 100 / len(data.train))
        seconds = known(CACHE / f"{bench.checksum}-{name}.pt", inference, lambda: fit(system, data, epochs, 1e-3))
    else:
        seconds = 0.0
    return inference.requires_grad_(False).eval(), seconds


def scored(model: LatentVariableModel, posterior: Posterior, batch: Batch, samples: int = SAMPLES) -> Estimates:
    """As many draws in all from every posterior: those of a mixture are divided among its components."""
    torch.manual_seed(1)
    weights = posterior_weights(model, posterior, batch, samples // posterior.count(1), 2**25)
    return estimate(weights.log_w.numpy(), weights.log_c.numpy())


def movable(posterior: Posterior) -> Posterior:
    """In parameters for gradient ascent: Gaussians with correlations by a factor of their covariance."""
    if isinstance(posterior, Mixture):
        return replace(posterior, components=tuple(movable(part) for part in posterior.components))
    if isinstance(posterior, GaussianPosterior) and posterior.tensors.keys() & {"factor", "vectors"}:
        return in_covariance(posterior)
    return posterior


def best_of(model: LatentVariableModel, posterior: Posterior, batch: Batch) -> Posterior:
    """The best member of the posterior's family that gradient ascent finds for each example."""
    draws = DEAR if isinstance(posterior, SimulatedPosterior) else BEST.samples // posterior.count(1)
    return replace(BEST, samples=draws)(model, movable(posterior), batch).posterior


def reference(bench: Bench, start: Inference) -> dict[str, Any]:
    """log p(x) by draws of a mixture: the Laplace posterior widened by 1.3 and by 4, the best Gaussian by 1.3."""
    parts = []
    for batch in bench.batches():
        laplace = Laplace(start, STEPS)(bench.model, batch).posterior
        best = best_of(bench.model, laplace, batch)
        proposals = (widen(laplace, 1.3), widen(laplace, 4.0), widen(best, 1.3))
        proposal = Mixture(proposals, torch.zeros(len(batch.x), len(proposals)))
        parts.append(scored(bench.model, proposal, batch, REFERENCE * len(proposals)))
    values, errors = (np.concatenate([getattr(part, name) for part in parts]) for name in ("log_likelihood", "stderr"))
    return {"log_likelihood": values.round(4).tolist(), "stderr": float(errors.mean()), "flagged": flagged(parts)}


def over(truth: Tensor, parts: list[Estimates], name: str) -> dict[str, float]:
    """log p(x) less an estimate, nats: mean and standard error over the data."""
    missing = Estimate.of(truth.numpy() - np.concatenate([getattr(part, name) for part in parts]))
    return {"value": round(missing.value, 4), "stderr": round(missing.stderr, 4)}


def flagged(parts: list[Estimates]) -> float:
    """Share of data whose k-hat is above 0.7, or unknown."""
    return float(1 - (np.concatenate([part.khat for part in parts]) <= FLAGGED).mean())


def price(bench: Bench, inference: Inference) -> dict[str, float]:
    """Of a posterior and one draw: CPU microseconds of one thread, the least of five, and counts per example."""
    batch = next(bench.batches())

    def once() -> Tensor:
        torch.manual_seed(2)
        return inference(bench.model, batch).posterior.draw(1).z

    with counting() as counts:
        once()
    seconds = []
    for _ in range(5):
        started = time.thread_time()
        once()
        seconds.append(time.thread_time() - started)
    each = {name: getattr(counts, name) / len(batch.x) for name in ("decoder", "precision", "product")}
    return {"microseconds": min(seconds) / len(batch.x) * 1e6, **each}


def measure(bench: Bench, name: str, truth: Tensor) -> dict[str, Any]:
    """Everything about one family, against log p(x) of each example."""
    inference, seconds = fitted(bench, name)
    started = time.thread_time()
    own, best = [], []
    for batch in bench.batches():
        torch.manual_seed(3)
        posterior = inference(bench.model, batch).posterior
        own.append(scored(bench.model, posterior, batch))
        if sought(name):
            best.append(scored(bench.model, best_of(bench.model, posterior, batch), batch))
    return {
        "decoder": bench.checksum,
        "gap": over(truth, own, "elbo"),
        "iwae": over(truth, own, "log_likelihood"),
        "flagged": flagged(own),
        "best": over(truth, best, "elbo") if best else None,
        "price": price(bench, inference),
        "training_seconds": round(seconds, 2),
        "evaluation_seconds": round(time.thread_time() - started, 2),
    }


def sought(name: str) -> bool:
    """Whether the best member is found from this family's own posterior."""
    member = FAMILIES[name].member
    return member in ("own", "shared weights") or SOURCES.get(member or "") == name


def kept(path: Path, checksum: str) -> bool:
    """Whether that result is there, for this decoder."""
    return path.exists() and json.loads(path.read_text())["decoder"] == checksum


@torch.no_grad()
def run(bench: Bench, names: list[str]) -> None:
    """Make what is missing, one file each."""
    bench.path.mkdir(parents=True, exist_ok=True)
    target = bench.path / "reference.json"
    if not kept(target, bench.checksum):
        found = reference(bench, AmortizedGaussian(bench.networks.trained))
        target.write_text(json.dumps({"decoder": bench.checksum, **found}) + "\n")
    truth = torch.tensor(json.loads(target.read_text())["log_likelihood"])
    for name in names:
        target = bench.path / f"{name}.json"
        if kept(target, bench.checksum):
            continue
        started = time.process_time()
        found = measure(bench, name, truth)
        target.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{name:>24} {found['gap']['value']:9.2f} {time.process_time() - started:6.1f} s", flush=True)


def main() -> None:
    """Measure what is asked for, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("settings", nargs="*", metavar="setting", help=", ".join(SETTINGS))
    parser.add_argument("--data-dir")
    parser.add_argument("--only", nargs="*", default=list(FAMILIES))
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    for name in chosen.settings:
        run(prepare(SETTINGS[name], chosen.data_dir), chosen.only)
        print(f"{time.process_time():.0f} CPU seconds")
    publish(RESULTS, list(SETTINGS))


if __name__ == "__main__":
    main()
