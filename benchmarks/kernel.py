"""The compiled kernel beside torch: Lam of a ReLU decoder, its gradient, and whole training steps of Laplace inference.

Builds take turns, each in a process of its own, on one thread, float32: those for the instructions that this processor
has, and one that the compiler makes for this very processor. A time is the least CPU time of all turns. ``search`` is
Lam alone, ``forward`` Lam with what its gradient needs, which the kernel keeps; both with random weights and half of
the units on. ``step`` is forward, backward and Adam of ``benchmarks/engine.py``'s default.

    python benchmarks/kernel.py [--batch 128] [--repeats 5] [--rounds 3] [--write]

``--write`` puts results/kernel.json and the table of docs/studies/kernel.md in the place of what is there.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

import engine
from curvae.curvature import native
from curvae.curvature.native import kernel
from curvae.typing import Batch
from pages import between

HERE = Path(__file__).resolve().parent
RESULTS, PAGE = HERE / "results" / "kernel.json", HERE.parent / "docs" / "studies" / "kernel.md"
MARKS = "<!-- benchmarks/kernel.py: table begins -->\n", "<!-- benchmarks/kernel.py: table ends -->\n"
SIZES = ((256, 16), (500, 50))
STEPS = ((784, 256, 16), (3072, 256, 16), (784, 500, 50))
BUILDS = {
    "baseline": {"ATEN_CPU_CAPABILITY": "default"},
    "avx2": {"ATEN_CPU_CAPABILITY": "avx2"},
    "avx512": {"ATEN_CPU_CAPABILITY": "avx512"},
    "native": {"CC": f"{os.environ.get('CC', 'cc')} -march=native"},
}
Times = dict[str, dict[str, float]]
"""Milliseconds by torch and by the kernel, for each cell."""


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


Pair = dict[str, Callable[[], object]]
"""The same by torch and by the kernel."""


def products(batch: int, hidden: int, latent: int) -> dict[str, Pair]:
    """Lam and its gradient at one size."""
    weights, masks, gram, adjoint = inputs(batch, hidden, latent)
    given = (weights, masks, gram)
    made = kernel.precision(*given, keep=True)
    assert made is not None
    dense = partial(kernel.dense_precision, *given)
    return {
        "search": {"torch": dense, "kernel": partial(kernel.precision, *given)},
        "forward": {"torch": dense, "kernel": partial(kernel.precision, *given, keep=True)},
        "backward": {
            "torch": partial(kernel.dense_backward, *given, adjoint),
            "kernel": partial(kernel.precision_backward, *given, made[1], adjoint),
        },
    }


def step(batch: int, size: tuple[int, int, int]) -> Pair:
    """A training step of the default system, trained for a while as a VAE."""
    torch.manual_seed(0)
    baseline, x = engine.Published(*size, 4), engine.data(size[0])
    engine.warm(baseline, x, updates=100)
    ours, rows = engine.system(baseline, size[0], size[2], "default"), torch.arange(batch)
    optimizer = torch.optim.Adam(baseline.parameters(), lr=1e-8, fused=True)

    def run(switch: str) -> None:
        os.environ["CURVAE_KERNEL"] = switch
        optimizer.zero_grad()
        (-ours.bound(Batch(x[rows], rows)).surrogate.mean()).backward()
        optimizer.step()
        os.environ["CURVAE_KERNEL"] = "1"

    return {"torch": partial(run, "0"), "kernel": partial(run, "1")}


def cells(batch: int) -> Iterator[tuple[str, Pair]]:
    """Everything that is timed, by name."""
    for hidden, latent in SIZES:
        for name, pair in products(batch, hidden, latent).items():
            yield f"{hidden}, {latent}: {name}", pair
    for size in STEPS:
        yield f"{', '.join(map(str, size))}: step", step(batch, size)


def measure(batch: int, repeats: int) -> Times:
    """The least milliseconds of each cell, torch and kernel in turns, by the build of this process."""
    return {
        name: {by: 1e3 * min(seconds) for by, seconds in engine.rounds(pair, repeats).items()}
        for name, pair in cells(batch)
    }


def least(one: Times, other: Times) -> Times:
    return {cell: {by: min(ms, other[cell][by]) for by, ms in found.items()} for cell, found in one.items()}


def in_turns(batch: int, repeats: int, rounds: int) -> Iterator[dict[str, Times]]:
    """Each build in a process of its own, again and again; the least so far after each round."""
    best: dict[str, Times] = {}
    for turn in range(rounds):
        for build, condition in BUILDS.items():
            if build == "avx512" and torch.backends.cpu.get_cpu_capability() != "AVX512":
                continue
            words = [sys.executable, __file__, "--child", "--batch", str(batch), "--repeats", str(repeats)]
            ended = subprocess.run(words, env=os.environ | condition, check=True, stdout=subprocess.PIPE, text=True)
            found = json.loads(ended.stdout)
            best[build] = least(found, best.get(build, found))
            print(f"round {turn + 1} of {rounds}: {build}", file=sys.stderr, flush=True)
        yield best


def table(builds: dict[str, Times]) -> str:
    """A row for each cell; torch is timed in turns with what ships for this processor, the last build before native."""
    *_, shipped, _ = builds
    head = ["H, D or P, H, D", "", "torch", *(f"C, {build}" for build in builds), "torch / C"]
    lines = [" | ".join(head), "|".join(["---"] * len(head))]
    for cell in builds[shipped]:
        size, what = cell.split(": ")
        dense = builds[shipped][cell]["torch"]
        ours = [f"{times[cell]['kernel']:.1f}" for times in builds.values()]
        lines.append(" | ".join([size, what, f"{dense:.1f}", *ours, f"{dense / builds[shipped][cell]['kernel']:.1f}"]))
    return "".join(f"| {line} |\n" if "---" not in line else f"|{line}|\n" for line in lines)


def main() -> None:
    """Print the table, and write it where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--child", action="store_true", help="measure in this process, and print JSON")
    chosen = parser.parse_args()
    if not native.available():
        raise SystemExit("expected a C compiler (cc or $CC), got none that compiles the kernel")
    if chosen.child:
        print(json.dumps(measure(chosen.batch, chosen.repeats)))
        return
    for done, builds in enumerate(in_turns(chosen.batch, chosen.repeats, chosen.rounds), 1):
        print(table(builds), flush=True)
        if chosen.write:
            how = {"torch": torch.__version__, "batch": chosen.batch, "repeats": chosen.repeats, "rounds": done}
            RESULTS.write_text(json.dumps({"how": how, "builds": builds}, indent=1) + "\n")
            PAGE.write_text(between(PAGE.read_text(), *MARKS, table(builds)))


if __name__ == "__main__":
    main()
