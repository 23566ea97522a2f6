"""Counts of single cells: which likelihood says most of held-out cells, and whether its latents can be trusted.

    python benchmarks/counts.py FOLDER                 # 14 parts, about 6 CPU minutes; goes on if cut off
    python benchmarks/counts.py FOLDER --only poisson dispersion
    python benchmarks/counts.py FOLDER --list          # only writes the page again

FOLDER holds the data as docs/fits.md says. A part is a likelihood and a split of the 200 cells of Zeisel et al. (2015)
by 3,529 genes, or one of two checks on simulated cells, and a line of ``results/counts.jsonl``.
"""

import argparse
import itertools
import logging
import lzma
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import curvae
from curvae.conditioning import Conditioning
from curvae.data import Data, from_array
from curvae.evaluation import score
from curvae.inference import Laplace
from curvae.inference.chains import hmc_chains
from curvae.likelihoods import Gaussian, Likelihood
from curvae.likelihoods.likelihood import masked
from curvae.model import LatentVariableModel
from curvae.systems import LatentSystem, vae
from curvae.systems.device import evaluating
from curvae.typing import Conditions, Context
from fits.cells import Cells
from pages import written

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "counts.jsonl"
PAGE = HERE.parent / "docs" / "studies" / "counts.md"
COUNTS = ("negative-binomial", "zero-inflated", "poisson")
GAUSSIAN, DISPERSION, POSTERIOR = "gaussian of log1p", "dispersion", "posterior"
SEEDS = (0, 1, 2)
SPLIT, SIZES = (0.7, 0.1, 0.2), {"latent": 2, "hidden": 32, "depth": 1}
UPDATES = {"max_updates": 300, "batch_size": 70, "progress": False, "device": "cpu"}
DRAWS = 200
Array = NDArray[np.float64]


class RoundedLogGaussian(Likelihood):
    """Counts whose ``y = log(1 + x / t)`` is a rounded Gaussian: the mass of N(m, s^2) between two half counts.

    ``P(x | m) = Phi((b - m) / s) - Phi((a - m) / s)`` with a and b where ``t (exp(y) - 1)`` is x - 1/2 and x + 1/2; but
    a of x = 0 is minus infinity. eta is, element by element, m and log t.
    """

    def __init__(self, gaussian: Gaussian):
        super().__init__(gaussian.event, per_element=2)
        self.information = "block"
        self.known = self.size // 2
        self.gaussian = gaussian

    def with_exposure(self, out: Tensor, exposure: Tensor) -> Tensor:
        return torch.stack([out, exposure.log().unsqueeze(-1).expand_as(out)], -1).flatten(-2)

    def log_prob(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> Tensor:
        return masked(self._log_mass(x.double(), *_split(eta)), mask).sum(-1).to(eta.dtype)

    def score(self, x: Tensor, eta: Tensor, mask: Tensor | None = None) -> Tensor:
        mean, log_t = (part.double() for part in _split(eta))
        s = self.gaussian.variance.double().sqrt()
        log_mass, (low, high) = self._log_mass(x.double(), mean, log_t), self._ends(x.double(), mean, log_t)
        slope = ((_log_density(low) - log_mass).exp() - (_log_density(high) - log_mass).exp()) / s
        return torch.stack([slope, torch.zeros_like(slope)], -1).flatten(-2).to(eta.dtype)

    def root(self, eta: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        """That of the Gaussian itself: a search goes by it, and a proposal is as wide as it says."""
        return _split(v)[0] * self.gaussian.variance.rsqrt()

    def mean(self, eta: Tensor) -> Tensor:
        mean, log_t = _split(eta)
        return mean.expm1() * log_t.exp()

    def sample(self, eta: Tensor, generator: torch.Generator | None = None) -> Tensor:
        mean, log_t = _split(eta)
        y = self.gaussian.sample(mean, generator)
        return (y.expm1() * log_t.exp()).round().clamp(min=0)

    def _ends(self, x: Tensor, mean: Tensor, log_t: Tensor) -> tuple[Tensor, Tensor]:
        """a and b, over s and around the mean."""
        s, t = self.gaussian.variance.double().sqrt(), log_t.exp()
        low = torch.where(x > 0, torch.log1p((x - 0.5).clamp(min=0) / t), -torch.inf)
        return (low - mean) / s, (torch.log1p((x + 0.5) / t) - mean) / s

    def _log_mass(self, x: Tensor, mean: Tensor, log_t: Tensor) -> Tensor:
        """On the side of the mean where it does not cancel; ``log(Phi(b) - Phi(a))``, from its logarithms."""
        low, high = self._ends(x, mean.double(), log_t.double())
        turned = (low + high) > 0
        low, high = torch.where(turned, -high, low), torch.where(turned, -low, high)
        top, bottom = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
        return top + torch.log1p(-(bottom - top).clamp(max=-1e-12).exp())


def _split(eta: Tensor) -> tuple[Tensor, Tensor]:
    first, second = eta.unflatten(-1, (-1, 2)).unbind(-1)
    return first, second


def _log_density(value: Tensor) -> Tensor:
    return -0.5 * (value.square() + np.log(2 * np.pi))


class SeesLogarithms(nn.Module):
    """An encoder of ``log(1 + x / t)``, given counts."""

    sees_context = True

    def __init__(self, encoder: nn.Module):
        super().__init__()
        self.encoder = encoder

    def forward(self, x: Tensor, context: Context) -> Tensor:
        return self.encoder(torch.log1p(x / context.exposure.unsqueeze(1)))


def cells(folder: Path) -> Array:
    """(200, 3529)."""
    with lzma.open(folder / "single_cell" / "zeisel_saver_200x3529.npy.xz") as file:
        return np.load(file).astype(float)


def counted(x: Array, seed: int) -> Data:
    return from_array(x, support="count", exposure="total", split=SPLIT, seed=seed)


def scored(system: Any, data: Data) -> dict[str, float]:
    """Held-out log p(x | library size), nats per cell, and how it was had."""
    found = score(system, data.test, samples=DRAWS)
    value = found["log_likelihood"]
    return {
        "log_likelihood": float(value.mean()),
        "stderr": float(value.std(ddof=1) / len(value) ** 0.5),
        "flagged": float((found["khat_best"] > 0.7).mean()),
        "sampling": float(np.sqrt(np.square(found["stderr_best"]).sum()) / len(value)),
    }


def of_counts(x: Array, word: str, seed: int) -> dict[str, float]:
    """A likelihood of counts."""
    data = counted(x, seed)
    with tempfile.TemporaryDirectory() as folder:
        run = curvae.fit(_named("vae", data, seed, likelihood=word), data, seed=seed, out=f"{folder}/run", **UPDATES)
        return scored(run.system, data)


def _named(name: str, data: Data, seed: int, **options: Any) -> Any:
    torch.manual_seed(seed)
    return vae(data.spec, **SIZES, **options)


def of_logarithms(x: Array, seed: int) -> dict[str, float]:
    """A Gaussian of log(1 + x / t), trained by its density, and judged by its mass of each count."""
    data = counted(x, seed)
    scale = next(column.scale for column in data.schema.columns if column.kind == "exposure")
    y = np.log1p(x / (x.sum(1, keepdims=True) / scale))
    logs = from_array(y, split=SPLIT, seed=seed, standardize=False, support="real")
    assert bool((logs.test.row == data.test.row).all())
    with tempfile.TemporaryDirectory() as folder:
        run = curvae.fit(_named("vae", logs, seed), logs, seed=seed, out=f"{folder}/run", **UPDATES)
        return scored(rounded(run.system), data)


def rounded(system: LatentSystem) -> LatentSystem:
    """The same model of counts."""
    model = system.model
    likelihood = RoundedLogGaussian(model.likelihood)
    conditioning = Conditioning(Conditions(exposure=True), likelihood.event)
    given = LatentVariableModel(model.prior, model.decoder, likelihood, conditioning=conditioning)
    inference = system.inference
    inference.encoder = SeesLogarithms(inference.encoder)
    made = LatentSystem(given, inference, system.objective)
    return made.eval()


def simulated(count: int, genes: int, seed: int) -> tuple[Array, Array, Array]:
    """Cells by a negative binomial with 2 latents; their library sizes, and the dispersion of each gene."""
    rng = np.random.default_rng(seed)
    z, weight = rng.normal(size=(count, 2)), 0.5 * rng.normal(size=(genes, 2))
    size, level = rng.lognormal(0, 0.5, count), rng.normal(1.5, 1, genes)
    dispersion = np.exp(rng.uniform(np.log(0.1), np.log(1.0), genes))
    mean = size[:, None] * np.exp(level + z @ weight.T)
    return rng.poisson(mean * rng.gamma(1 / dispersion, dispersion, mean.shape)).astype(float), size, dispersion


def simulated_run(count: int, genes: int, seed: int, system: str, folder: str) -> tuple[Any, Data, Array]:
    import pandas as pd

    x, size, dispersion = simulated(count, genes, seed)
    frame = pd.DataFrame(x, columns=[f"g{j}" for j in range(genes)]).assign(size=size)
    data = from_array(frame, support="count", exposure="size", split=(0.8, 0.1, 0.1), seed=seed)
    options = {"max_updates": 600, "progress": False, "device": "cpu", "latent": 2, "hidden": 32, "depth": 1}
    return curvae.fit(system, data, seed=seed, out=f"{folder}/run", **options), data, dispersion


def of_dispersion(seed: int) -> dict[str, float]:
    """What is found of the dispersions of 50 genes in 5,000 cells."""
    with tempfile.TemporaryDirectory() as folder:
        run, _, dispersion = simulated_run(5000, 50, seed, "vlae", folder)
        found = run.system.model.likelihood.dispersion.value.detach().numpy()
    off = found / dispersion - 1
    return {"median gene": float(np.median(off)), "median error": float(np.median(np.abs(off)))}


def of_posterior(seed: int) -> dict[str, float]:
    """Share of the draws of long chains in the 90 % interval of Laplace's posterior, of 40 held-out cells."""
    with tempfile.TemporaryDirectory() as folder:
        run, data, _ = simulated_run(2000, 30, seed, "vlae", folder)
        system = run.system.double()
    batch = curvae.systems.device.batch_to_system(system, data.test.batch(torch.arange(40)))
    model = system.model.given(batch.context)
    with evaluating(system):
        q = Laplace(system.inference.start, steps=20)(model, batch).posterior
        generator = torch.Generator().manual_seed(seed)
        found = hmc_chains(model, batch, q, chains=4, samples=1000, warmup=300, leapfrogs=5, generator=generator)
        lower, upper = q.interval(0.9)
        z = found.posterior.states
    inside = ((z >= lower[:, None, None]) & (z <= upper[:, None, None])).double().flatten(1, 2).mean(1)
    return {
        "held": float(inside.mean()),
        "least": float(inside.min()),
        "most": float(inside.max()),
        "r_hat": float(found.info["r_hat"].max()),
        "ess": float(found.info["ess"].min()),
    }


def part(x: Array, method: str, seed: int) -> dict[str, float]:
    begun = time.process_time()
    if method in COUNTS:
        found = of_counts(x, method, seed)
    else:
        makes = {DISPERSION: of_dispersion, POSTERIOR: of_posterior}
        found = of_logarithms(x, seed) if method == GAUSSIAN else makes[method](seed)
    return {**found, "seconds": time.process_time() - begun}


def page(done: Cells) -> None:
    """The table of the page."""
    have = {(row["method"], row["seed"]): row for row in done.rows}
    lines = [
        "| likelihood | split | log p(x), nats a cell | less Poisson | flagged | CPU s |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for (method, seed), line in sorted(have.items(), key=lambda item: (item[0][1], item[0][0])):
        if method in (*COUNTS, GAUSSIAN):
            base = have.get(("poisson", seed))
            less = f"{line['log_likelihood'] - base['log_likelihood']:+,.0f}" if base else ""
            value = f"{line['log_likelihood']:,.0f} ± {line['stderr']:,.0f}"
            lines.append(f"| {method} | {seed} | {value} | {less} | {line['flagged']:.0%} | {line['seconds']:.0f} |")
    for (method, seed), line in sorted(have.items()):
        if method in (DISPERSION, POSTERIOR):
            told = ", ".join(f"{name} {value:.3g}" for name, value in line.items() if name not in ("method", "seed"))
            lines += ["", f"{method.capitalize()}, seed {seed}: {told}."]
    written(PAGE, "counts", "\n".join(lines) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", default=[], help="likelihoods and checks")
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    parser.add_argument("--list", action="store_true", help="only write the page")
    options = parser.parse_args()
    logging.getLogger("curvae").setLevel(logging.ERROR)
    wanted = [*itertools.product(options.seeds, (*COUNTS, GAUSSIAN)), (0, DISPERSION), (0, POSTERIOR)]
    x = None if options.list else cells(options.folder)
    done = Cells(RESULTS, "method", "seed")
    for seed, method in [] if x is None else wanted:
        if (method, seed) not in done and (not options.only or method in options.only):
            done.add({"method": method, "seed": seed, **part(x, method, seed)})
    page(done)


if __name__ == "__main__":
    main()
