"""What baselines cost: CPU seconds of one thread for the fit, and the mean log p(x) that it gives.

``python benchmarks/baselines.py --data-dir DATA``, where DATA/mnist and DATA/fashion_mnist hold the original files; it
takes a minute.
"""

import argparse
import time
from pathlib import Path

import torch

from curvae import baselines, data
from curvae.data import ArrayTable
from curvae.likelihoods import Gaussian


def cell(name: str, train: ArrayTable, test: ArrayTable, latent: int, learn: str) -> None:
    """A line for each baseline, and the seconds of all of them."""
    likelihood = Gaussian(tuple(train.raw.shape[1:]), learn=learn)
    started = time.process_time()
    found = baselines.fit(train, likelihood, latent)
    seconds = time.process_time() - started
    for each in found:
        value = "" if each.density is None else f"{each.log_prob(test.x, test.mask).mean():.2f} nats"
        print(f"{name}, {learn}: {each.label}: {value} {each.note}")
    print(f"{name}, {learn}: {seconds:.1f} s", flush=True)


def holes(table: ArrayTable, share: float, seed: int) -> ArrayTable:
    generator = torch.Generator().manual_seed(seed)
    return ArrayTable(table.x, mask=torch.rand(table.x.shape, generator=generator) >= share)


def columns(rows: int, width: int, latent: int) -> ArrayTable:
    """Factors, and noise of each column's own."""
    generator = torch.Generator().manual_seed(0)
    z, weight, noise = (
        torch.randn(*shape, generator=generator) for shape in ((rows, latent), (latent, width), (rows, width))
    )
    return ArrayTable(z @ weight + noise * torch.rand(width, generator=generator))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", type=Path, help="a folder with mnist and fashion_mnist; else they are downloaded")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    for name in ("mnist", "fashion_mnist"):
        found = data.load(name, data_dir=chosen.data_dir and chosen.data_dir / name)
        for learn in ("shared", "element"):
            cell(name, found.train, found.test, 16, learn)
        if name == "mnist":
            cell("mnist, 20 % missing", holes(found.train, 0.2, 0), holes(found.test, 0.2, 1), 16, "shared")
    for rows, width, latent in ((50_000, 30, 5), (50_000, 100, 10)):
        table = columns(rows, width, latent)
        cell(f"{rows:,} x {width}", table, table, latent, "element")


if __name__ == "__main__":
    main()
