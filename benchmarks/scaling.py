"""How the cost of Laplace inference grows: time and memory per datum against P, H, D, B and T, one at a time.

``default`` is a training step of the default search without the optimizer's part, ``unrolled`` the same with the
published schedule, every step differentiated (against T only); ``gram``, ``layerwise`` and ``generic`` are one
evaluation of the log joint, its gradient and Lam by each route of the engine. The networks are trained for a while
first. Time is CPU time on one thread, the median of repeats in turns; memory the peak of live tensors
(``benchmarks/memory.py``). Predictions are those of ``benchmarks/costs.py``; slopes are fitted in log-log to the upper
half of each range.

    python benchmarks/scaling.py [--repeats 5] [--target benchmarks/results/scaling.json]
    python docs/images/scaling.py benchmarks/results/scaling.json docs/images/scaling.svg
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("KINETO_LOG_LEVEL", "6")

import argparse
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import linear_regression

import torch

import costs
from baseline import Published
from costs import Size
from curvae.curvature import Generic, Gram, Layerwise, Newton, PaperSchedule, linearize, native
from curvae.inference import AmortizedGaussian, Laplace
from curvae.objectives import monte_carlo_elbo
from curvae.systems import LatentSystem
from curvae.typing import Batch
from engine import data, system, times, warm
from memory import tensor_peak

BASE = Size(784, 256, 16, 128, 3)
SWEEPS = {
    "P": (320, 640, 1280, 2560, 5120, 10240),
    "H": (16, 32, 64, 128, 256, 512),
    "D": (4, 8, 16, 32, 64, 128),
    "B": (16, 32, 64, 128, 256, 512),
    "T": (1, 2, 4, 8, 16, 32),
}
ROUTES = {"gram": Gram, "layerwise": Layerwise, "generic": Generic}
SOLVER = Laplace(AmortizedGaussian(torch.nn.Linear(1, 2))).solver
FLOPS: dict[str, Callable[[Size], float]] = {
    "default": lambda size: costs.search_flops(size, SOLVER),
    "unrolled": costs.unrolled_flops,
    "gram": costs.gram_flops,
    "layerwise": costs.layerwise_flops,
    "generic": costs.generic_flops,
}
BYTES: dict[str, Callable[[Size], float]] = {
    "default": costs.search_bytes,
    "unrolled": costs.unrolled_bytes,
    "gram": costs.gram_bytes,
    "layerwise": costs.layerwise_bytes,
    "generic": costs.generic_bytes,
}


class Bench:
    """One size: a trained network, a batch, and what is timed on it."""

    def __init__(self, size: Size):
        torch.manual_seed(0)
        self.baseline = Published(size.P, size.H, size.D)
        rows = data(size.P)
        warm(self.baseline, rows, updates=60)
        self.batch = Batch(rows[: size.B], torch.arange(size.B))
        self.model = system(self.baseline, size.P, size.D, "vae").model
        self.start = AmortizedGaussian(self.baseline.encoder)

    def step(self, inference: Laplace) -> Callable[[], None]:
        """Forward and backward."""
        ours = LatentSystem(self.model, inference, monte_carlo_elbo)

        def run() -> None:
            (-ours.bound(self.batch).surrogate.mean()).backward()
            ours.zero_grad()

        return run

    def default(self, steps: int) -> Callable[[], None]:
        return self.step(Laplace(self.start, steps))

    def unrolled(self, steps: int) -> Callable[[], None]:
        return self.step(Laplace(self.start, steps, Newton(PaperSchedule()), unroll=True))

    @torch.no_grad()
    def lam(self, name: str) -> Callable[[], object]:
        """One evaluation at the encoder's means."""
        z = self.start(self.model, self.batch).posterior.center
        near = linearize(self.model, self.batch, z, ROUTES[name])
        return torch.no_grad()(lambda: near.at(z).local())


def turns(axis: str) -> dict[str, dict[int, Callable[[], object]]]:
    """What is measured along an axis: name, value, action."""
    benches = {value: Bench(BASE._replace(**{axis: value})) for value in SWEEPS[axis] if axis != "T"}
    if axis == "T":
        bench = Bench(BASE)
        return {
            name: {steps: getattr(bench, name)(steps) for steps in SWEEPS[axis]} for name in ("default", "unrolled")
        }
    step = {value: bench.default(BASE.T) for value, bench in benches.items()}
    return {"default": step, **{name: {value: bench.lam(name) for value, bench in benches.items()} for name in ROUTES}}


def slope(values: Sequence[float], costs: Sequence[float]) -> float:
    """The exponent over the upper half of the range."""
    first = len(values) // 2
    return linear_regression(*([math.log(each) for each in part[first:]] for part in (values, costs))).slope


def measure(axis: str, repeats: int) -> dict[str, dict[str, dict[str, list[float] | float]]]:
    """Seconds and bytes per datum along an axis, measured and predicted, and their slopes."""
    actions = turns(axis)
    every = {(name, value): run for name, runs in actions.items() for value, run in runs.items()}
    seconds = times(every, repeats)
    peaks = {key: tensor_peak(run) for key, run in every.items()}
    found = {}
    for name in actions:
        sizes = [BASE._replace(**{axis: value}) for value in SWEEPS[axis]]
        found[name] = {
            "seconds": entry(
                axis, [seconds[name, getattr(size, axis)] / size.B for size in sizes], map(FLOPS[name], sizes)
            ),
            "bytes": entry(
                axis, [peaks[name, getattr(size, axis)] / size.B for size in sizes], map(BYTES[name], sizes)
            ),
        }
    return found


def entry(axis: str, measured: list[float], predicted: map) -> dict[str, list[float] | float]:
    """One curve: predicted in operations or bytes."""
    expected = list(predicted)
    return {
        "measured": measured,
        "predicted": expected,
        "slope": slope(SWEEPS[axis], measured),
        "predicted_slope": slope(SWEEPS[axis], expected),
    }


def main() -> None:
    """Measure, print the slopes, write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--target", type=Path, default=Path(__file__).parent / "results" / "scaling.json")
    chosen = parser.parse_args()
    sweeps = {}
    print(f"{'':>14} {'time: slope':>12} {'predicted':>9} {'memory: slope':>14} {'predicted':>9}")
    for axis in SWEEPS:
        sweeps[axis] = measure(axis, chosen.repeats)
        for name, curve in sweeps[axis].items():
            time, space = curve["seconds"], curve["bytes"]
            print(
                f"{axis} {name:>12} {time['slope']:z12.2f} {time['predicted_slope']:9.2f}"
                f" {space['slope']:z14.2f} {space['predicted_slope']:9.2f}", flush=True
            )  # fmt: skip
    how = {"torch": torch.__version__, "threads": torch.get_num_threads(), "kernel": native.available()}
    content = {"how": how, "base": BASE._asdict(), "values": SWEEPS, "sweeps": sweeps}
    chosen.target.parent.mkdir(exist_ok=True)
    chosen.target.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
