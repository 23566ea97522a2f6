"""What a matrix-free Newton step costs: in decoder passes, in memory, and beside the formed precision.

A random ``ConvDecoder`` to 3 x 32 x 32 with 64 latent dimensions, float32, one thread. ``pass`` is one plain run of the
decoder without gradients; a step of the search is timed against it, and the log joint it reaches is set beside that of
``Laplace`` by the generic route (64 Jacobian-vector products a step). Memory is the rise of the process's peak resident
size (``ru_maxrss``) over that of a decoder pass, each method in a process of its own; on a GPU, that of the peak
allocated. ``largest`` is the largest tensor that any operation gave.

    python benchmarks/matrix_free.py [--batch 128] [--latent 64] [--iterations 2 3 4 8] [--repeats 3] [--device cpu]
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from curvae.curvature import ConjugateGradient, Generic, Newton
from curvae.inference import AmortizedGaussian, MatrixFreeLaplace
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.networks import ConvDecoder, ConvEncoder
from curvae.priors import StandardNormal
from curvae.typing import Batch

EVENT, STEPS = (3, 32, 32), 4
PROMISE = 12


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation gave."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for value in out if isinstance(out, tuple | list) else [out]:
            if isinstance(value, Tensor):
                self.numel = max(self.numel, value.numel())
        return out


def problem(options: argparse.Namespace) -> tuple[LatentVariableModel, Batch, AmortizedGaussian]:
    """Weights twice as large as they come, so that the modes are far from the start and the search has work."""
    torch.manual_seed(0)
    decoder = ConvDecoder(options.latent, EVENT)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(2.0 if parameter.ndim > 1 else 1.0)
    model = LatentVariableModel(StandardNormal(options.latent), decoder, Gaussian(EVENT, scale=0.3)).to(options.device)
    with torch.no_grad():
        x = model.sample(options.batch)[0]
    start = AmortizedGaussian(ConvEncoder(EVENT, 2 * options.latent)).to(options.device)
    return model, Batch(x, torch.arange(options.batch, device=options.device)), start


def search(options: argparse.Namespace, method: str) -> Callable[[], Tensor]:
    """A search of ``STEPS`` steps that gives the point reached; ``method`` is pass, formed or iterations of CG."""
    model, batch, start = problem(options)
    begin = start(model, batch).posterior
    z = begin.center.detach()
    if method == "pass":
        return lambda: model.decode(z)
    if method == "formed":
        return lambda: Newton(bfgs=0).search(Generic.of(model, batch, z), STEPS)[0].z
    inference = MatrixFreeLaplace(start, STEPS, ConjugateGradient(iterations=int(method)), tolerance=0.0)
    return lambda: inference._search(model, batch, z, begin)[0].z


@torch.no_grad()
def measure(options: argparse.Namespace, method: str) -> dict[str, float]:
    """Seconds, bytes, elements and the log joint of one method, in this process."""
    cuda = options.device != "cpu"
    run, plain = search(options, method), search(options, "pass")
    plain()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if cuda else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run()
    after = torch.cuda.max_memory_allocated() if cuda else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Largest() as largest:
        reached = run()
    seconds, passes = [], []
    for _ in range(options.repeats):  # in turns, the least of each: another load on the machine meets both
        passes.append(timed(plain, 5, cuda))
        seconds.append(timed(run, 1, cuda))
    model, batch, _ = problem(options)
    level = float("nan") if method == "pass" else model.log_joint(batch.x, reached).mean().item()
    return {
        "seconds": min(seconds),
        "pass": min(passes),
        "bytes": after - before,
        "largest": largest.numel,
        "level": level,
    }


def timed(run: Callable[[], Tensor], count: int, cuda: bool) -> float:
    """Seconds a run: of the processor, on one thread; of the clock, on a GPU."""
    clock = time.perf_counter if cuda else time.process_time
    start = clock()
    for _ in range(count):
        run()
    if cuda:
        torch.cuda.synchronize()
    return (clock() - start) / count


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--latent", type=int, default=64)
    parser.add_argument("--iterations", type=int, nargs="+", default=[2, 3, 4, 8])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.only:
        print(json.dumps(measure(options, options.only)))
        return
    jacobian = options.batch * 3 * 32 * 32 * options.latent
    print(f"batch {options.batch}, D = {options.latent}; B x P x D = {jacobian / 1e6:.1f} million elements")
    print(
        f"{'method':>16} {'passes/step':>12} {'ms/step':>9} {'peak MB':>8} {'largest/BPD':>12} {'mean log joint':>15}"
    )
    for method in ("formed", *map(str, options.iterations)):
        command = [sys.executable, __file__, *sys.argv[1:], "--only", method]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        name = "formed (D jvps)" if method == "formed" else f"{method} iterations"
        step = found["seconds"] / STEPS
        print(
            f"{name:>16} {step / found['pass']:12.1f} {1e3 * step:9.1f} {found['bytes'] / 2**20:8.0f} "
            f"{found['largest'] / jacobian:12.3f} {found['level']:15.1f}"
        )
        if method == "3":
            print(f"{'':>16} {'within' if step / found['pass'] <= PROMISE else 'NOT within'} the promised {PROMISE}")


if __name__ == "__main__":
    main()
