"""What a training step of Laplace inference costs beside the published algorithm and beside a plain VAE.

In one process, in turns, on one thread, batch 128, four steps, float32, forward + backward + Adam: ``published``
(explicit Jacobians, inverses, everything unrolled: ``benchmarks/baseline.py``), ``same`` (curvae's engine
with the published schedule, unrolled: the same posterior and gradient) and ``default`` (backtracking Newton, its last
step differentiated). The VAE's step is the yardstick below which nothing can go. Beside the times stands whether the
default's log joint is at least the published one's, datum by datum.

    python benchmarks/engine.py [--batch 128] [--steps 4] [--repeats 5] [--size 784,256,16 ...]
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import copy
import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from baseline import Published
from curvae.curvature import Newton, PaperSchedule
from curvae.inference import AmortizedGaussian, Laplace
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.objectives import elbo, monte_carlo_elbo
from curvae.priors import StandardNormal
from curvae.systems import LatentSystem
from curvae.typing import Batch

SIZES = ((784, 256, 16), (3072, 256, 16), (784, 500, 50), (3072, 500, 50))


def system(baseline: Published, outputs: int, latent: int, kind: str) -> LatentSystem:
    """Curvae's system over the very parameters of the baseline."""
    likelihood = Gaussian(outputs, learn="shared")
    likelihood.floor = 0.0
    likelihood.log_variance = baseline.log_variance
    model = LatentVariableModel(StandardNormal(latent), baseline.decoder, likelihood)
    start = AmortizedGaussian(baseline.encoder)
    if kind == "vae":
        return LatentSystem(model, start, elbo)
    inference = (
        Laplace(start, baseline.steps, Newton(PaperSchedule()), unroll=True) if kind == "same" else Laplace(start)
    )
    return LatentSystem(model, inference, monte_carlo_elbo)


def warm(baseline: Published, x: Tensor, updates: int = 300) -> None:
    """A short training as a VAE: an untrained network has other units active than a trained one."""
    vae = system(baseline, x.shape[1], baseline.encoder[-1].out_features // 2, "vae")
    optimizer = torch.optim.Adam(vae.parameters(), lr=1e-3)
    for _ in range(updates):
        rows = torch.randint(len(x), (128,))
        optimizer.zero_grad()
        (-vae.bound(Batch(x[rows], rows)).surrogate.mean()).backward()
        optimizer.step()


def data(outputs: int, count: int = 2000) -> Tensor:
    """Smooth nonlinear functions of a few factors, and noise: what a decoder can learn in part."""
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(count, 8, generator=generator)
    first, second = torch.randn(8, 64, generator=generator) / 3, torch.randn(64, outputs, generator=generator) / 8
    return (factors @ first).sin() @ second + 0.05 * torch.randn(count, outputs, generator=generator)


def rounds(turns: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each, run in turns, after a turn that is not counted."""
    seen: dict[str, list[float]] = {name: [] for name in turns}
    for turn in range(repeats + 1):
        for name, run in turns.items():
            begin = time.process_time()
            run()
            if turn:
                seen[name].append(time.process_time() - begin)
    return seen


def times(turns: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """Median seconds of each, run in turns."""
    return {name: statistics.median(values) for name, values in rounds(turns, repeats).items()}


def ratio(seen: dict[str, list[float]], name: str) -> str:
    """How often the turn of ``name`` fits into that of the published step beside it: median and quartiles of turns."""
    shares = [one / other for one, other in zip(seen["published"], seen[name], strict=True)]
    low, middle, high = statistics.quantiles(shares, n=4, method="inclusive") if len(shares) > 1 else 3 * shares
    return f"{middle:.1f} ({low:.1f}-{high:.1f})"


def trained(size: tuple[int, int, int], steps: int) -> tuple[Published, Tensor]:
    """A published model of this size, warm, and its data."""
    outputs, hidden, latent = size
    torch.manual_seed(0)
    baseline, x = Published(outputs, hidden, latent, steps), data(outputs)
    warm(baseline, x)
    return baseline, x


def measure(baseline: Published, x: Tensor, latent: int, batch: int, repeats: int) -> dict[str, list[float]]:
    """Seconds of one training step of each column, turn by turn."""
    rows = torch.arange(batch)
    optimizer = torch.optim.Adam(baseline.parameters(), lr=1e-8, fused=True)

    def stepper(loss: Callable[[], Tensor]) -> Callable[[], None]:
        def step() -> None:
            optimizer.zero_grad()
            loss().backward()
            optimizer.step()

        return step

    turns = {"published": stepper(lambda: baseline.loss(x[rows], torch.randn(batch, latent)))}
    for kind in ("same", "default", "vae"):
        ours = system(baseline, x.shape[1], latent, kind)
        turns[kind] = stepper(lambda ours=ours: -ours.bound(Batch(x[rows], rows)).surrogate.mean())
    return rounds(turns, repeats)


def leads(baseline: Published, x: Tensor, latent: int) -> Tensor:
    """Nats by which the log joint at the default's mode is above that at the published one, for each datum."""
    ours = system(baseline, x.shape[1], latent, "default")
    exact = copy.deepcopy(ours.model).double()
    found: list[Tensor] = []
    for rows in torch.arange(len(x)).split(128):
        with torch.no_grad():
            modes = ours.inference(ours.model, Batch(x[rows], rows)).posterior.mean, baseline.infer(x[rows])[0]
            default, published = (exact.log_joint(x[rows].double(), mode.double()) for mode in modes)
        found.append(default - published)
    return torch.cat(found)


def main() -> None:
    """Print a row for each size."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--size", nargs="*", default=[",".join(map(str, size)) for size in SIZES])
    chosen = parser.parse_args()
    print("median ms of CPU, and the ratio of adjacent turns: median (quartiles)")
    print("and for how many of the first 512 data the default's log joint is below the published one's, the least lead")
    columns = f"{'published':>10} {'same':>7} {'default':>8} {'vae':>6}"
    print(f"{'P, H, D':>13} {columns} {'published/same':>19} {'/default':>19} {'below':>6} {'least':>7}")
    for text in chosen.size:
        outputs, hidden, latent = (int(part) for part in text.split(","))
        baseline, x = trained((outputs, hidden, latent), chosen.steps)
        seen, lead = measure(baseline, x, latent, chosen.batch, chosen.repeats), leads(baseline, x[:512], latent)
        ms = {name: 1e3 * statistics.median(values) for name, values in seen.items()}
        print(
            f"{text:>13} {ms['published']:10.0f} {ms['same']:7.1f} {ms['default']:8.1f} {ms['vae']:6.1f}"
            f" {ratio(seen, 'same'):>19} {ratio(seen, 'default'):>19}"
            f" {int((lead < 0).sum()):6} {float(lead.min()):7.3f}", flush=True
        )  # fmt: skip


if __name__ == "__main__":
    main()
