"""What a training step of Laplace inference costs on a GPU beside that of a plain VAE, both captured as CUDA graphs.

Batch 128, forward + backward + Adam; one step is recorded and replayed, so that nothing waits for the host. Where a
step cannot be recorded (and on a CPU, where this runs too) it is taken as it is, and the table says so.

    python benchmarks/gpu.py [--batch 128] [--repeats 50] [--size 784,256,16 ...] [--tf32] [--json FILE]
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from baseline import Published
from curvae.typing import Batch
from engine import SIZES, data, system, warm


class Measured(NamedTuple):
    """Milliseconds of a step, and whether it was replayed from a graph."""

    ms: float
    captured: bool


def step_of(kind: str, size: tuple[int, int, int], batch: int, device: torch.device) -> Callable[[], None]:
    """One training step of that kind of system, always on the same batch."""
    outputs, hidden, latent = size
    torch.manual_seed(0)
    baseline = Published(outputs, hidden, latent)
    x = data(outputs)
    warm(baseline, x)
    ours = system(baseline, outputs, latent, kind).to(device).train()
    rows = torch.arange(batch, device=device)
    fixed = Batch(x[:batch].to(device), rows)
    adam = torch.optim.Adam(ours.parameters(), lr=1e-8, fused=True, capturable=device.type == "cuda")

    def step() -> None:
        adam.zero_grad()
        loss: Tensor = -ours.bound(fixed).surrogate.mean()
        loss.backward()
        adam.step()

    return step


def captured(step: Callable[[], None]) -> Callable[[], object] | None:
    """The step as a graph to be replayed, or None where it cannot be recorded."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(5):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            step()
    except RuntimeError as error:
        print("not captured:", *str(error).splitlines()[:1])
        return None
    return graph.replay


def measure(step: Callable[[], None], repeats: int, device: torch.device) -> Measured:
    """Mean over many steps, after some that do not count."""
    graph = captured(step) if device.type == "cuda" else None
    run = graph or step
    for _ in range(3):
        run()
    wait(device)
    begin = time.perf_counter()
    for _ in range(repeats):
        run()
    wait(device)
    return Measured(1e3 * (time.perf_counter() - begin) / repeats, graph is not None)


def wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> None:
    """Print a row for each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=50)
    parser.add_argument("--size", nargs="*", default=[",".join(map(str, size)) for size in SIZES])
    parser.add_argument("--tf32", action="store_true", help="products in TF32")
    parser.add_argument("--json", type=Path, help="write the table there")
    chosen = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_float32_matmul_precision("high" if chosen.tf32 else "highest")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "CPU"
    print(f"{name}\n{'P, H, D':>16} {'vae ms':>8} {'default ms':>11} {'ratio':>7}  captured")
    rows = []
    for text in chosen.size:
        outputs, hidden, latent = (int(part) for part in text.split(","))
        size = (outputs, hidden, latent)
        vae, ours = (measure(step_of(kind, size, chosen.batch, device), chosen.repeats, device) for kind in KINDS)
        rows.append(
            {"size": size, "device": name, "tf32": chosen.tf32, "vae": vae._asdict(), "default": ours._asdict()}
        )
        both = vae.captured and ours.captured
        print(f"{text:>16} {vae.ms:8.3f} {ours.ms:11.3f} {ours.ms / vae.ms:7.2f}  {both}", flush=True)
    if chosen.json:
        chosen.json.write_text(json.dumps(rows, indent=1) + "\n")


KINDS = ("vae", "default")


if __name__ == "__main__":
    main()
