"""The Laplacian autoencoder: how its uncertainty tells KMNIST from MNIST, by temperature, and what it costs.

    python benchmarks/laplacian.py FOLDER      # some 5 CPU minutes

FOLDER holds MNIST as docs/fits.md says, and ``ood/kmnist-first1000-images-idx3-ubyte.xz``. 5,000 training rows, 1,000
of either test set; results are in ``results/laplacian.json``. The error of an AUROC is that of Hanley and McNeil.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import lzma
import math
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor

import curvae
from curvae.data.datasets.fetch import Files
from curvae.data.datasets.mnist import mnist
from curvae.systems import LaplacianSystem, System
from curvae.typing import Batch

RESULTS = Path(__file__).parent / "results" / "laplacian.json"
TEMPERATURES = (0.002, 1.0, 0.01)
SIZES = {"latent": 8, "hidden": 256}
ROWS, TESTED, UPDATES, DRAWS = 5000, 1000, 1000, 30


def pictures(folder: Path) -> tuple[np.ndarray, Tensor, Tensor]:
    """Training rows, digits and other characters; pixels in [0, 1]."""
    known = mnist(Files(folder))
    with lzma.open(folder / "ood" / "kmnist-first1000-images-idx3-ubyte.xz") as file:
        other = np.frombuffer(file.read(), np.uint8, offset=16).reshape(-1, 1, 28, 28)
    test, unknown = (torch.from_numpy(each[:TESTED].astype(np.float32) / 255) for each in (known.test.x, other))
    return np.moveaxis(known.train.x[:ROWS], 1, -1).astype(np.float32) / 255, test, unknown


def reconstructions(system: System, x: Tensor) -> tuple[Tensor, Tensor]:
    """Codes and reconstructions, (M, B, ...), by drawn weights, or of a VAE by drawn codes."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        if isinstance(system, LaplacianSystem):
            return system.redrawn(x, DRAWS, generator)
        q = system.posterior(x)
        if system.recipe.name == "bayesian-vae":
            z = q.mean.unsqueeze(0)
            return z, torch.stack([each.model.mean(z[0]) for each in system.models(DRAWS, generator)])
        z = q.draw(DRAWS, generator).z
        return z, torch.stack([system.model.mean(each) for each in z])


def auroc(inside: Tensor, outside: Tensor) -> dict[str, float]:
    """How well a score tells the two apart, larger outside."""
    score = torch.cat([inside, outside]).numpy()
    label = np.repeat([0, 1], [len(inside), len(outside)])
    area = float(roc_auc_score(label, score))
    one, two, n = area / (2 - area), 2 * area**2 / (1 + area), len(inside)
    spread = area * (1 - area) + (n - 1) * (one - area**2) + (n - 1) * (two - area**2)
    return {"auroc": round(area, 4), "error": round(math.sqrt(max(spread, 0)) / n, 4)}


def cell(name: str, x: np.ndarray, test: Tensor, unknown: Tensor, **options: object) -> dict[str, object]:
    """One fit, its error of reconstruction, and its uncertainty of both test sets."""
    start = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        data = curvae.data.from_array(x, standardize=False)
        fitted = curvae.fit(name, data, max_updates=UPDATES, out=f"{folder}/run", progress=False, **SIZES, **options)
        system = fitted.system
    seconds = time.process_time() - start
    test, unknown = data.transform(test), data.transform(unknown)
    (codes, inside), (others, outside) = (reconstructions(system, each) for each in (test, unknown))
    found: dict[str, object] = {"system": name, **options, "seconds": round(seconds, 1)}
    found["mse"] = round(float((inside.mean(0) - test).square().mean()), 5)
    found["mse_of_one_draw"] = round(float((inside - test).square().mean()), 5)
    found["output"] = (
        auroc(inside.std(0).flatten(1).mean(1), outside.std(0).flatten(1).mean(1)) if len(inside) > 1 else None
    )
    if len(codes) > 1:
        found["latent"] = auroc(codes.std(0).mean(1), others.std(0).mean(1))
    return found


def plain(x: np.ndarray, test: Tensor) -> dict[str, object]:
    """The autoencoder without a posterior over weights."""
    with tempfile.TemporaryDirectory() as folder:
        data = curvae.data.from_array(x, standardize=False)
        options = {"max_updates": UPDATES, "out": f"{folder}/run", "progress": False, "flows": 0, **SIZES}
        system = curvae.fit("probabilistic-ae", data, **options).system
    test = data.transform(test)
    with torch.no_grad():
        error = (system.codes.decoded(system.model, Batch.of(test)) - test.flatten(1)).square().mean()
    return {"system": "probabilistic-ae", "mse": round(float(error), 5)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    x, test, unknown = pictures(parser.parse_args().folder)
    asked = [("laplacian-ae", {"temperature": each}) for each in TEMPERATURES]
    asked += [("bayesian-vae", {"weights": "diagonal"}), ("vae", {})]
    found = [plain(x, test)]
    for name, options in asked:
        found.append(cell(name, x, test, unknown, **options))
        print(found[-1], flush=True)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
