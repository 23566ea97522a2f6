"""What training a plain VAE through curvae costs beside a bare PyTorch loop over the same network.

Both train on random data of the shape of MNIST, in turns, in one process, on one thread. Curvae may take at most 1.3
times as long for an epoch. What a run does once (opening the folder, the first and the last checkpoint) is no part of
an epoch, so it is timed as the difference between a long and a short run; what follows each epoch (validation, metrics,
the best checkpoint) is part of it, and the bare loop does none of that.

    python benchmarks/training_overhead.py [--rows 60000] [--epochs 2] [--repeats 3]
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import math
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import curvae
from curvae import training
from curvae.systems import vae

FEATURES, LATENT, HIDDEN, BATCH, RATE = 784, 16, 256, 128, 5e-4
VALIDATION = 512
PROMISE = 1.3


class Bare(nn.Module):
    """The network of ``vae`` written out: two hidden layers each way, Gaussian output with one learned variance."""

    def __init__(self):
        super().__init__()
        self.encoder = _mlp(FEATURES, 2 * LATENT)
        self.decoder = _mlp(LATENT, FEATURES)
        self.log_variance = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        """The loss: minus the ELBO, averaged over the batch."""
        mean, log_scale = self.encoder(x).chunk(2, dim=-1)
        z = mean + log_scale.exp() * torch.randn_like(mean)
        error = (x - self.decoder(z)).square() / self.log_variance.exp() + self.log_variance + math.log(2 * math.pi)
        divergence = 0.5 * (mean.square() + (2 * log_scale).exp() - 1) - log_scale
        return (0.5 * error.sum(-1) + divergence.sum(-1)).mean()


def _mlp(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, outputs)
    )


def bare_run(x: Tensor, epochs: int) -> float:
    """Seconds of a bare loop."""
    network = Bare()
    optimizer = torch.optim.Adam(network.parameters(), lr=RATE)
    begin = time.perf_counter()
    for _ in range(epochs):
        for index in torch.randperm(len(x)).split(BATCH):
            optimizer.zero_grad()
            network(x[index]).backward()
            optimizer.step()
    return time.perf_counter() - begin


def curvae_run(data: curvae.data.Data, epochs: int) -> float:
    """Seconds of a run, from the call to its end."""
    with tempfile.TemporaryDirectory() as folder:
        system = vae(data.spec, latent=LATENT, hidden=HIDDEN)
        begin = time.perf_counter()
        training.fit(
            system, data, epochs=epochs, seed=0, out=Path(folder) / "run", batch_size=BATCH, learning_rate=RATE,
            device="cpu",
        )  # fmt: skip
        return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=60_000, help="training rows")
    parser.add_argument("--epochs", type=int, default=2, help="epochs timed in each turn")
    parser.add_argument("--repeats", type=int, default=3, help="turns after the warm-up")
    chosen = parser.parse_args()
    torch.set_num_threads(1)

    total = chosen.rows + VALIDATION
    array = np.random.default_rng(0).random((total, FEATURES), dtype=np.float32)
    shares = (chosen.rows / total, VALIDATION / total, 0.0)
    data = curvae.data.from_array(array, test=array[:VALIDATION], split=shares, standardize=False)
    x = data.train.x

    bare_run(x, 1), curvae_run(data, 1)  # warm-up
    ratios, ours, theirs = [], [], []
    for turn in range(chosen.repeats):
        theirs.append(bare_run(x, chosen.epochs) / chosen.epochs)
        short = curvae_run(data, 1)
        ours.append((curvae_run(data, 1 + chosen.epochs) - short) / chosen.epochs)
        ratios.append(ours[-1] / theirs[-1])
        print(f"turn {turn + 1}: bare {theirs[-1]:.3f} s, curvae {ours[-1]:.3f} s an epoch, ratio {ratios[-1]:.2f}")
    ratio = statistics.median(ratios)
    verdict = "within" if ratio <= PROMISE else "above"
    print(f"median of {chosen.repeats} turns, {len(x):,} rows: ratio {ratio:.2f}, {verdict} the promised {PROMISE}")


if __name__ == "__main__":
    main()
