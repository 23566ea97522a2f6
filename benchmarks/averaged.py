"""Averaged curvature beside the Laplace posterior and the best Gaussian by Adam, on a trained model of MNIST.

    python benchmarks/averaged.py FOLDER RUNS          # 3 CPU minutes of training, once, and 8 of measuring
    python benchmarks/averaged.py FOLDER RUNS --list

FOLDER holds the data as docs/fits.md says, RUNS what was trained: a VLAE of 784, 256, 256, 16, whatever is there is
used. A cell is a posterior of 300 test images, its ELBO by 1,000 draws that all posteriors share and the CPU
milliseconds that it takes after the encoder; or a proposal, with 1,000 draws of 150 images; or a way to refine, on that
run and on VAEs of MNIST (60 CPU seconds) and of digits; or a family of small random models in two dimensions. Each
is a line of ``results/averaged.jsonl``; what was cut off goes on.
"""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import curvae
import curvae.registry
from curvae.curvature import Gram, linearize
from curvae.data import Data
from curvae.distributions.gaussian import pack
from curvae.evaluation.likelihood.importance import estimates, posterior_weights
from curvae.evaluation.likelihood.proposal import widen
from curvae.inference import (
    Adam,
    Antithetic,
    AveragedCurvature,
    GaussHermite,
    Laplace,
    OrthogonalFrames,
    Refiner,
    averaged_curvature_refiner,
    refiner_at_test_time,
)
from curvae.likelihoods import Bernoulli, Gaussian
from curvae.model import BatchModel, LatentVariableModel
from curvae.noise import common_noise
from curvae.objectives import elbo
from curvae.posteriors import DiagonalGaussian, FullGaussian, Posterior, PrecisionGaussian
from curvae.priors import StandardNormal
from curvae.systems import LatentSystem
from curvae.training import fit
from curvae.typing import Batch

sys.path.insert(0, str(Path(__file__).parent / "fits"))
import cells
import images

from pages import between

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "studies" / "averaged-curvature.md"
UPDATES, IMAGES, PROPOSED, AT_ONCE = 7640, 300, 150, 100
Refined = Callable[[LatentVariableModel, PrecisionGaussian, Batch], Posterior]


def rounds(count: int, rule: object) -> Refined:
    return lambda model, q, batch: AveragedCurvature(count, rule)(model, q, batch).posterior


def adam(steps: int, covariance: bool = False) -> Refined:
    """The best full-covariance Gaussian, by steps of eight draws in the factor of its precision or covariance."""

    def search(model: LatentVariableModel, q: PrecisionGaussian, batch: Batch) -> Posterior:
        start = FullGaussian(q.loc, pack(torch.linalg.cholesky(q.covariance))) if covariance else q
        return Refiner(steps, Adam(0.05), samples=8, seed=0)(model, start, batch).posterior

    return search


AFTER: dict[str, Refined] = {
    **{f"K = {k}, {n} rounds": rounds(n, Antithetic(k)) for k in (2, 4, 8) for n in (1, 2, 6)},
    "K = 2, 16 rounds": rounds(16, Antithetic(2)),
    "K = 4, 16 rounds": rounds(16, Antithetic(4)),
    "K = 32, 30 rounds": rounds(30, Antithetic(32)),
    **{f"frames, {n} rounds": rounds(n, OrthogonalFrames()) for n in (1, 2, 4, 8, 16)},
    **{f"Adam, {n} steps": adam(n) for n in (20, 40, 400)},
    "Adam, 400 steps, covariance": adam(400, covariance=True),
}
"""What follows two Newton steps."""
STEPS = {f"Laplace, {steps} steps": steps for steps in (1, 2, 8)}


def trained(folder: Path, runs: Path) -> tuple[LatentSystem, Data]:
    data = images.opened("mnist", folder)
    if not (runs / "vlae-120" / "model.safetensors").exists():
        system = images.made("mnist", "vlae", data, 0, {})
        fit(system, data, seed=0, out=runs / "vlae-120", progress=False, max_updates=UPDATES)
    return curvae.load(runs / "vlae-120").system.eval(), data


def batches(data: Data, count: int) -> list[Batch]:
    return [data.test.batch(rows) for rows in torch.arange(count).split(AT_ONCE)]


def laplace(system: LatentSystem, batch: Batch, steps: int) -> PrecisionGaussian:
    return Laplace(system.inference.start, steps)(system.model, batch).posterior


@torch.no_grad()
def judged(model: LatentVariableModel, q: Posterior, batch: Batch) -> Tensor:
    """The ELBO of each image, by draws that are common to all posteriors."""
    near = linearize(model, batch, q.mean)
    cheaper = BatchModel(model, near.log_likelihood) if isinstance(near, Gram) else model
    return torch.stack([elbo(cheaper, q, batch, 100, generator=common_noise(seed)).value for seed in range(10)]).mean(0)


def timed(work: Callable[[], Posterior], repeats: int) -> tuple[Posterior, float]:
    """What it gives, and the least CPU seconds."""
    took = []
    for _ in range(repeats):
        begin = time.process_time()
        found = work()
        took.append(time.process_time() - begin)
    return found, min(took)


@torch.no_grad()
def posterior_row(system: LatentSystem, data: Data, name: str) -> cells.Row:
    gained, seconds, model = [], 0.0, system.model
    for batch in batches(data, IMAGES):
        first = laplace(system, batch, 2)
        if name in STEPS:
            q, took = timed(lambda batch=batch: laplace(system, batch, STEPS[name]), 3)
        else:
            repeats = 1 if name.startswith("Adam") else 3
            q, took = timed(lambda batch=batch, first=first: AFTER[name](model, first, batch), repeats)
        gained.append(torch.stack([judged(model, q, batch), judged(model, first, batch)]))
        seconds += took
    value, base = torch.cat(gained, 1).double()
    gain = value - base
    least, median, most = gain.quantile(torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)).tolist()
    row = {"kind": "posterior", "name": name, "elbo": value.mean().item(), "gain": gain.mean().item()}
    return row | {"least": least, "median": median, "most": most, "ms": 1000 * seconds / IMAGES}


PROPOSALS: dict[str, tuple[int, Refined | None]] = {
    "Laplace, 8 steps": (8, None),
    "K = 4, 6 rounds": (8, rounds(6, Antithetic(4))),
    "K = 4, 16 rounds": (8, rounds(16, Antithetic(4))),
    "frames, 2 rounds": (8, rounds(2, OrthogonalFrames())),
    "frames, 8 rounds": (8, rounds(8, OrthogonalFrames())),
}


@torch.no_grad()
def proposal_row(system: LatentSystem, data: Data, name: str, width: float) -> cells.Row:
    shape, effective, level = [], [], []
    steps, after = PROPOSALS[name]
    for batch in batches(data, PROPOSED):
        q = laplace(system, batch, steps)
        q = widen(after(system.model, q, batch) if after else q, width)
        generator = torch.Generator().manual_seed(0)
        found = estimates(posterior_weights(system.model, q, batch, 1000, 2**26, generator=generator))
        shape.append(found.khat)
        effective.append(found.ess)
        level.append(found.log_likelihood)
    khat, ess = np.concatenate(shape), np.concatenate(effective)
    row = {"kind": "proposal", "name": f"{name}, x{width:g}", "above": float((khat > 0.7).mean())}
    return row | {"ess": float(np.median(ess)), "log_likelihood": float(np.concatenate(level).mean())}


REFINERS = {"20 steps": refiner_at_test_time(20), "100 steps": refiner_at_test_time(100), "8 rounds": None}
"""What ``curvae refine`` does; the rounds depend on the number of latents."""
RUNS = {"digits, VAE, 2 latents": ("vae-digits", "vae", 1500), "MNIST, VAE": ("vae-60", "vae", 4615)}


def made_run(name: str, folder: Path, runs: Path) -> tuple[LatentSystem, Data]:
    """A VAE, trained once."""
    place, word, updates = RUNS[name]
    mnist = name.startswith("MNIST")
    data = images.opened("mnist", folder) if mnist else curvae.data.load("digits")
    if not (runs / place / "model.safetensors").exists():
        torch.manual_seed(0)
        size = {"latent": 16, "hidden": 256} if mnist else {"latent": 2, "hidden": 64}
        system = curvae.registry.system(word)(data.spec, **size)
        fit(system, data, seed=0, out=runs / place, progress=False, max_updates=updates)
    return curvae.load(runs / place).system.eval(), data


@torch.no_grad()
def refine_row(system: LatentSystem, data: Data, name: str, way: str) -> cells.Row:
    """From the run's own posterior: nats that are gained, and the least gain of all."""
    gained, seconds = [], 0.0
    refine = REFINERS[way] or averaged_curvature_refiner(system.model.prior.size)
    for batch in batches(data, IMAGES):
        own = system.inference(system.model, batch).posterior
        q, took = timed(lambda batch=batch, own=own: refine(system.model, own, batch).posterior, 1)
        gained.append(judged(system.model, q, batch) - judged(system.model, own, batch))
        seconds += took
    gain = torch.cat(gained)
    row = {"kind": "refine", "name": f"{name}: {way}", "gain": gain.mean().item()}
    return row | {"least": gain.min().item(), "ms": 1000 * seconds / IMAGES}


KINDS = {"ReLU": nn.ReLU, "Tanh": nn.Tanh, "Softplus": nn.Softplus}


def toy(kind: str, likelihood: str) -> tuple[LatentVariableModel, Batch]:
    """A random decoder of two latents, and 100 data of its own."""
    torch.manual_seed(0)
    decoder = nn.Sequential(nn.Linear(2, 16), KINDS[kind](), nn.Linear(16, 16), KINDS[kind](), nn.Linear(16, 10))
    for parameter in decoder.parameters():
        parameter.data.mul_(2)
    law = Gaussian(10, scale=0.5) if likelihood == "Gaussian" else Bernoulli(10)
    model = LatentVariableModel(StandardNormal(2), decoder, law).double()
    return model, Batch.of(model.sample(100)[0].detach().double())


@torch.no_grad()
def kink_row(kind: str, likelihood: str) -> cells.Row:
    """Nats below the best Gaussian that was found, on average."""
    model, batch = toy(kind, likelihood)
    zero = torch.zeros(100, 2, dtype=torch.float64)
    start = AveragedCurvature(0, steps=12)(model, DiagonalGaussian(zero, zero), batch).posterior
    grid = AveragedCurvature(40, GaussHermite(16))(model, start, batch).posterior
    found = {
        "Laplace": start,
        "draws": AveragedCurvature(40, Antithetic(64))(model, start, batch).posterior,
        "frames": AveragedCurvature(40, OrthogonalFrames())(model, start, batch).posterior,
        "grid of 4": AveragedCurvature(40, GaussHermite(4))(model, start, batch).posterior,
        "grid of 16": grid,
    }
    found["Adam"] = Refiner(200, Adam(0.02), 32, seed=0)(model, grid, batch).posterior
    value = {name: elbo(model, q, batch, 10_000, generator=common_noise(9)).value for name, q in found.items()}
    best = torch.stack([*value.values()]).amax(0)
    return {"kind": "kinks", "name": f"{kind}, {likelihood}"} | {k: float((best - v).mean()) for k, v in value.items()}


def listed(rows: list[cells.Row]) -> str:
    """The four tables."""
    lines = [
        "| after two Newton steps | ELBO | gain: mean, median, least, most | CPU ms an example |",
        "|---|---|---|---|",
    ]
    for row in rows:
        if row["kind"] == "posterior":
            gain = f"{row['gain']:+.2f}, {row['median']:+.2f}, {row['least']:+.2f}, {row['most']:+.1f}"
            lines.append(f"| {row['name']} | {row['elbo']:.2f} | {gain} | {row['ms']:.3g} |")
    lines += ["", "| proposal | share of k-hat > 0.7 | median ESS of 1,000 | log p(x) |", "|---|---|---|---|"]
    for row in rows:
        if row["kind"] == "proposal":
            lines.append(f"| {row['name']} | {row['above']:.2f} | {row['ess']:.0f} | {row['log_likelihood']:.2f} |")
    lines += ["", "| refined, from a run's own posterior | gain: mean, least | CPU ms |", "|---|---|---|"]
    for row in rows:
        if row["kind"] == "refine":
            lines.append(f"| {row['name']} | {row['gain']:+.2f}, {row['least']:+.2f} | {row['ms']:.3g} |")
    ways = ["Laplace", "draws", "frames", "grid of 4", "grid of 16", "Adam"]
    lines += ["", f"| nats below the best found | {' | '.join(ways)} |", "|" + "---|" * (1 + len(ways))]
    for row in rows:
        if row["kind"] == "kinks":
            lines.append(f"| {row['name']} | {' | '.join(f'{row[way]:.4f}' for way in ways)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="of the data")
    parser.add_argument("runs", type=Path, help="folder of trained runs")
    parser.add_argument("--target", type=Path, default=HERE / "results" / "averaged.jsonl")
    parser.add_argument("--list", action="store_true", help="only write the tables, from what is there")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = cells.Cells(given.target, "kind", "name")
    if not given.list:
        measure(found, given.folder, given.runs)
    print(listed(found.rows), end="")
    if given.target.parent == HERE / "results":
        marks = (f"<!-- benchmarks/averaged.py: tables {end} -->\n" for end in ("begin", "end"))
        PAGE.write_text(between(PAGE.read_text(), *marks, listed(found.rows)))


def measure(found: cells.Cells, folder: Path, runs: Path) -> None:
    """Every cell that is not there."""
    for name in (f"{kind}, {likelihood}" for kind in KINDS for likelihood in ("Gaussian", "Bernoulli")):
        if ("kinks", name) not in found:
            found.add(kink_row(*name.split(", ")))
    for name in RUNS:
        for way in REFINERS:
            if ("refine", f"{name}: {way}") not in found:
                found.add(refine_row(*made_run(name, folder, runs), name, way))
    system, data = trained(folder, runs)
    for way in REFINERS:
        if ("refine", f"MNIST, VLAE: {way}") not in found:
            found.add(refine_row(system, data, "MNIST, VLAE", way))
    for name in [*STEPS, *AFTER]:
        if ("posterior", name) not in found:
            found.add(posterior_row(system, data, name))
    for name in PROPOSALS:
        for width in (1.0, 1.3):
            if ("proposal", f"{name}, x{width:g}") not in found:
                found.add(proposal_row(system, data, name, width))


if __name__ == "__main__":
    main()
