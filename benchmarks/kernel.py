"""The compiled kernel beside dense torch: Lam of a ReLU decoder with two hidden layers, and its gradient.

``search`` is Lam alone, ``forward`` Lam with what its gradient needs, which the kernel keeps.

In one process, in turns, on one thread, float32, half of the units on.

    python benchmarks/kernel.py [--batch 128] [--repeats 9] [--size 256,16 ...]
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from curvae.curvature import kernel, native

SIZES = ("256,16", "500,50", "1000,50")


def times(turns: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each, run in turns."""
    seen: dict[str, list[float]] = {name: [] for name in turns}
    for turn in range(repeats + 2):
        for name, run in turns.items():
            begin = time.process_time()
            run()
            if turn > 1:
                seen[name].append(time.process_time() - begin)
    return {name: statistics.median(values) for name, values in seen.items()}


def inputs(batch: int, hidden: int, latent: int) -> tuple[list[Tensor], list[Tensor], Tensor, Tensor]:
    """Weights, masks, G and a symmetric adjoint."""
    torch.manual_seed(0)
    weights = [torch.randn(hidden, latent) / latent**0.5, torch.randn(hidden, hidden) / hidden**0.5]
    values, masks = torch.randn(batch, latent), []
    for weight in weights:
        values = (values @ weight.mT).relu()
        masks.append((values > 0).float())
    root, adjoint = torch.randn(hidden, hidden) / hidden**0.5, torch.randn(batch, latent, latent)
    return weights, masks, root @ root.mT, adjoint + adjoint.mT


def main() -> None:
    """Print a row for each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--size", nargs="*", default=SIZES)
    chosen = parser.parse_args()
    if not native.available():
        raise SystemExit("expected a C compiler (cc or $CC), got none that compiles the kernel")
    print(f"{'H, D':>10} {'':>9} {'torch':>8} {'kernel':>8} ms of CPU   ratio")
    for size in chosen.size:
        weights, masks, gram, adjoint = inputs(chosen.batch, *(int(part) for part in size.split(",")))
        given = (weights, masks, gram)
        made = kernel.precision(*given, keep=True)
        assert made is not None
        found = times(
            {
                "search torch": lambda given=given: kernel.dense_precision(*given),
                "search kernel": lambda given=given: kernel.precision(*given),
                "forward torch": lambda given=given: kernel.dense_precision(*given),
                "forward kernel": lambda given=given: kernel.precision(*given, keep=True),
                "backward torch": lambda given=given, adjoint=adjoint: kernel.dense_backward(*given, adjoint),
                "backward kernel": lambda given=given, kept=made[1], adjoint=adjoint: kernel.precision_backward(
                    *given, kept, adjoint
                ),
            },
            chosen.repeats,
        )
        for part in ("search", "forward", "backward"):
            ours, dense = 1e3 * found[f"{part} kernel"], 1e3 * found[f"{part} torch"]
            print(f"{size:>10} {part:>9} {dense:8.1f} {ours:8.1f}{'':13}{dense / ours:5.1f}", flush=True)


if __name__ == "__main__":
    main()
