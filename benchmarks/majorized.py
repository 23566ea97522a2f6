"""What a search with one information for all data saves where the likelihood is a Bernoulli.

A decoder D-H-H-P (ReLU) trained for a while on binary data, batch 128, float32, one thread; in one process, in turns,
medians of CPU time. ``search`` is the search and the precision at its end without gradients, ``step`` a whole training
step (forward, backward, Adam), each with its ratio to the exact-information search of the default ``Laplace``; ``left``
the nats per datum that the search leaves to the mode, which 25 rounds of the default search find from the best end.

    python benchmarks/majorized.py [--size 784,256,16 ...] [--repeats 7]
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse

import torch
from torch import Tensor

from curvae.curvature import Majorized, MeanInformation, Newton, linearize
from curvae.inference import AmortizedGaussian, Laplace
from curvae.likelihoods import Bernoulli
from curvae.model import LatentVariableModel
from curvae.networks import MLP
from curvae.objectives import elbo, monte_carlo_elbo
from curvae.priors import StandardNormal
from curvae.systems import LatentSystem
from curvae.typing import Batch
from engine import times

SIZES = ("784,256,16", "784,500,50")
METHODS = {
    "exact, T = 2": (2, Newton()),
    "exact, T = 1": (1, Newton()),
    "bound, T = 1": (1, Majorized()),
    "bound, T = 2": (2, Majorized()),
    "typical, T = 1": (1, Majorized(MeanInformation())),
    "typical, T = 2": (2, Majorized(MeanInformation())),
}


def data(outputs: int, count: int = 2000) -> Tensor:
    """Binary data whose logits are smooth functions of a few factors; most elements are nearly certain."""
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(count, 8, generator=generator)
    first, second = torch.randn(8, 64, generator=generator) / 3, torch.randn(64, outputs, generator=generator) / 3
    return torch.bernoulli((8 * ((factors @ first).sin() @ second - 0.5)).sigmoid(), generator=generator)


def measure(size: str, repeats: int) -> None:
    """Print a row for each method."""
    outputs, hidden, latent = (int(part) for part in size.split(","))
    torch.manual_seed(0)
    model = LatentVariableModel(StandardNormal(latent), MLP(latent, [hidden, hidden], outputs), Bernoulli(outputs))
    start, x = AmortizedGaussian(MLP(outputs, [hidden, hidden], 2 * latent)), data(outputs)
    vae = LatentSystem(model, start, elbo)
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-3)

    def update(system: LatentSystem, batch: Batch) -> None:
        optimizer.zero_grad()
        (-system.bound(batch).surrogate.mean()).backward()
        optimizer.step()

    for _ in range(600):
        rows = torch.randint(len(x), (128,))
        update(vae, Batch(x[rows], rows))
    for group in optimizer.param_groups:
        group["lr"] = 1e-8
    batch = Batch(x[:128], torch.arange(128))
    inferences = {name: Laplace(start, steps, solver) for name, (steps, solver) in METHODS.items()}

    @torch.no_grad()
    def search(inference: Laplace) -> Tensor:
        return inference(model, batch).posterior.mean

    ends = {name: search(inference) for name, inference in inferences.items()}
    with torch.no_grad():
        near = linearize(model, batch, ends["exact, T = 2"])
        tops = [near.at(Newton().search(near.at(end), 25)[0].z).log_joint for end in ends.values()]
        top = torch.stack(tops).max(0).values
        left = {name: (top - route.log_joint(end)).mean().item() for name, end in ends.items()}
    searches = times({name: lambda one=one: search(one) for name, one in inferences.items()}, repeats)
    systems = {name: LatentSystem(model, one, monte_carlo_elbo) for name, one in inferences.items()}
    steps = times({name: lambda one=one: update(one, batch) for name, one in systems.items()}, repeats)
    for name in METHODS:
        ratios = [found["exact, T = 2"] / found[name] for found in (searches, steps)]
        print(
            f"{size:>14} {name:>16} {1e3 * searches[name]:8.1f} ({ratios[0]:4.2f}) {1e3 * steps[name]:8.1f} "
            f"({ratios[1]:4.2f}) {left[name]:8.3f}", flush=True
        )  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--size", nargs="*", default=SIZES)
    parser.add_argument("--repeats", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{'P, H, D':>14} {'method':>16} {'search ms':>15} {'step ms':>15} {'left':>8}")
    for size in options.size:
        measure(size, options.repeats)


if __name__ == "__main__":
    main()
