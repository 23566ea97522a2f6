"""What a training step takes at its peak: the published algorithm, curvae's engine, and a plain VAE.

The columns are those of ``benchmarks/engine.py``; one step is forward, backward and Adam's update, batch 128, float32,
one thread. Each number comes from a process of its own, after a warm-up: the networks trained for a while, and one step
on two data, so that libraries are loaded, the kernel is compiled and Adam's moments are there. Parameters, moments and
data are not counted, gradients are.

``tensors`` is the peak of the live bytes that torch's CPU allocator handed out during the step, from the profiler's
record of every allocation and release: exact, the same in every run, and blind to what libraries take for themselves
(the workspace of matrix products, up to 3 MiB in curvae's kernel at these sizes). ``resident`` is the peak of the
resident set during the step over that before it, the system's high-water mark reset in between (Linux): it sees
everything, in whole pages, less what the step finds free in the heap, and differs between runs. The ratios printed are
of each.

    python benchmarks/memory.py [--batch 128] [--steps 4] [--size 784,256,16 ...]
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("KINETO_LOG_LEVEL", "6")

import argparse
import ctypes
import json
import subprocess
import sys
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from baseline import Published
from curvae.typing import Batch
from engine import SIZES, data, system, warm

KINDS = ("published", "same", "default", "vae")
MIB = 2**20


def tensor_peak(run: Callable[[], object]) -> int:
    """Bytes: the most that is alive at once of what torch's CPU allocator hands out while ``run`` runs."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    return max(accumulate(event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())), default=0)


def resident_peak(run: Callable[[], object]) -> int | None:
    """Bytes: the peak of the resident set while ``run`` runs, over that before; None where the system does not tell."""
    try:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = _status("VmRSS")
        run()
        return _status("VmHWM") - before
    except (OSError, AttributeError):
        return None


def _status(key: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return 1024 * int(line.split()[1])


def stepper(baseline: Published, x: Tensor, kind: str) -> Callable[[int], None]:
    """One training step on the first so many data."""
    outputs, latent = x.shape[1], baseline.encoder[-1].out_features // 2
    ours = None if kind == "published" else system(baseline, outputs, latent, kind)
    optimizer = torch.optim.Adam(baseline.parameters(), lr=1e-8)

    def step(batch: int) -> None:
        if ours is None:
            loss = baseline.loss(x[:batch], torch.randn(batch, latent))
        else:
            loss = -ours.bound(Batch(x[:batch], torch.arange(batch))).surrogate.mean()
        loss.backward()
        optimizer.step()
        del loss
        optimizer.zero_grad()

    return step


def alone(kind: str, size: tuple[int, int, int], batch: int, steps: int) -> dict[str, float | None]:
    """Peaks of one step in this process, MiB: the resident set first, while the heap is untouched."""
    outputs, hidden, latent = size
    torch.manual_seed(0)
    baseline = Published(outputs, hidden, latent, steps)
    x = data(outputs)
    warm(baseline, x, updates=100)
    step = stepper(baseline, x, kind)
    step(2)
    resident = resident_peak(lambda: step(batch))
    return {"tensors": tensor_peak(lambda: step(batch)) / MIB, "resident": resident and resident / MIB}


def apart(kind: str, size: str, batch: int, steps: int) -> dict[str, float | None]:
    """The same from a fresh process."""
    command = [sys.executable, __file__, "--alone", kind, "--size", size, "--batch", str(batch), "--steps", str(steps)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()[-1])


def main() -> None:
    """Print two rows for each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=4, help="of the published schedule")
    parser.add_argument("--size", nargs="*", default=[",".join(map(str, size)) for size in SIZES])
    parser.add_argument("--alone", choices=KINDS, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.alone:
        outputs, hidden, latent = (int(part) for part in chosen.size[0].split(","))
        print(json.dumps(alone(chosen.alone, (outputs, hidden, latent), chosen.batch, chosen.steps)))
        return
    print(
        f"{'P, H, D':>12} {'peak':>9} {'published':>10} {'same':>8} {'default':>8} {'vae':>8} MiB  ratio: same default"
    )
    for size in chosen.size:
        found = {kind: apart(kind, size, chosen.batch, chosen.steps) for kind in KINDS}
        for part in ("tensors", "resident"):
            mib = {kind: value for kind, each in found.items() if (value := each[part]) is not None}
            if len(mib) < len(KINDS):
                continue
            ratios = [mib["published"] / mib[kind] for kind in ("same", "default")]
            print(
                f"{size:>12} {part:>9} {mib['published']:10.1f} {mib['same']:8.1f} {mib['default']:8.1f}"
                f" {mib['vae']:8.1f}{'':13}{ratios[0]:6.1f} {ratios[1]:7.1f}", flush=True
            )  # fmt: skip


if __name__ == "__main__":
    main()
