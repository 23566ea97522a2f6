"""pythae 0.1.2 beside curvae: the same networks, data, epochs, batches and learning rate on binarized MNIST.

For each method one process a library, one after the other: CPU seconds an epoch (a run of some epochs, after a run of
one in the same process; folder, validation and best checkpoint included on both sides), what the resident memory grows
by in training, and log p(x) of test data, by curvae's evaluator for both: the peer's trained encoder and decoder are
put into a curvae system, and every decoder is scored with the common proposal.

pythae lives in an environment of its own, with the same torch and without torchvision:

    python -m venv PEERS && PEERS/bin/pip install torch==2.13.0 -c constraints.txt
    PEERS/bin/pip install cloudpickle imageio "pydantic>=2" tqdm scikit-learn scipy torch==2.13.0 -c constraints.txt
    PEERS/bin/pip install --no-deps pythae==0.1.2
    python benchmarks/peers.py --peer PEERS/bin/python --data-dir DATA
    python benchmarks/peers.py     # writes the table of docs/studies/peers-measured.md again
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import json
import logging
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import curvae
from curvae import training
from curvae.data import ArrayTable, Data
from curvae.evaluation import Estimate, score
from curvae.networks import MLP
from curvae.systems import LatentSystem, hvae, iaf_vae, iwae, planar_vae, vae
from peers_clock import measured

HERE = Path(__file__).parent
RESULTS, PAGE = HERE / "results" / "peers.json", HERE.parent / "docs" / "studies" / "peers-measured.md"
MARKS = "<!-- benchmarks/peers.py: begin -->\n", "<!-- benchmarks/peers.py: end -->\n"
LATENT, HIDDEN, BATCH, RATE, SEED = 16, 256, 128, 1e-3, 0
METHODS: dict[str, tuple[str, Callable[..., LatentSystem]]] = {
    "vae": ("VAE", vae),
    "iwae": ("IWAE, 5 draws", partial(iwae, samples=5)),
    "planar": ("5 planar flows", partial(planar_vae, flows=5)),
    "iaf": ("IAF, 2 steps", partial(iaf_vae, flows=2, width=128)),
    "hvae": ("HVAE, 3 steps", partial(hvae, steps=3, step=0.05)),
}
"""Names in the table, and ours; the peer's are in peers_pythae.py."""


@dataclass(frozen=True)
class Effort:
    """How much is trained and scored."""

    images: int
    epochs: int
    limit: int
    samples: int


def opened(data_dir: str | None, images: int) -> Data:
    """Binarized MNIST, its first so many images; a fifth as many for validation."""
    data = curvae.data.load("binarized_mnist", data_dir=data_dir)
    return replace(data, train=first(data.train, images), validation=first(data.validation, images // 5))


def first(table: ArrayTable, count: int) -> ArrayTable:
    """The first rows of a table."""
    return ArrayTable(table.raw[:count], table.transform, training=table.training)


def made(method: str, data: Data) -> LatentSystem:
    """Our system; its encoder's scales start at 1, as those in peers_pythae.py do."""
    torch.manual_seed(SEED)
    system = METHODS[method][1](data.spec, latent=LATENT, hidden=HIDDEN)
    encoder = next(each for each in system.inference.modules() if isinstance(each, MLP))
    *_, weight, bias = encoder.parameters()
    for parameter in (weight, bias):
        parameter.data[LATENT : 2 * LATENT].zero_()
    return system


def ours(method: str, data: Data, effort: Effort, folder: Path) -> dict[str, Any]:
    """Time and memory of our run, whose folder stays."""

    def work(epochs: int, path: Path) -> None:
        training.fit(made(method, data), data, epochs, BATCH, RATE, SEED, path, "cpu", progress=False)

    work(1, folder / "warm")
    return measured(lambda: work(effort.epochs, folder / "run")) | {"torch": torch.__version__}


def adopted(path: Path, data: Data) -> LatentSystem:
    """The peer's encoder and decoder in a curvae system; its log-variances become log-scales."""
    system = vae(data.spec, latent=LATENT, hidden=HIDDEN)
    with np.load(path) as found:
        for name, network in {"encoder": system.inference.encoder, "decoder": system.model.decoder}.items():
            theirs = [found[key] for key in found.files if key.startswith(f"{name}.net.")]
            for parameter, value in zip(network.parameters(), theirs, strict=True):
                parameter.data.copy_(torch.from_numpy(value))
    *_, weight, bias = system.inference.encoder.parameters()
    for parameter in (weight, bias):
        parameter.data[LATENT:].mul_(0.5)
    return system.eval()


def said(*command: str | Path) -> dict[str, Any]:
    """What a process prints as its last line."""
    done = subprocess.run([str(word) for word in command], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def scored(system: LatentSystem, data: Data, effort: Effort) -> NDArray[np.float64]:
    """log p(x) of each test datum, from the common proposal."""
    return score(system, data.test, samples=effort.samples, limit=effort.limit)["log_likelihood_laplace"]


def compare(method: str, data: Data, effort: Effort, peer: str, data_dir: str | None, work: Path) -> dict[str, Any]:
    """Both libraries, one after the other, each in a process of its own."""
    weights, folder = work / f"{method}.npz", work / method
    sizes = {"latent": LATENT, "hidden": HIDDEN, "epochs": effort.epochs, "batch": BATCH, "seed": SEED, "rate": RATE}
    flags = [word for name, value in sizes.items() for word in (f"--{name}", str(value))]
    theirs = said(peer, HERE / "peers_pythae.py", method, work, weights, *flags)
    effort_flags = ["--images", str(effort.images), "--epochs", str(effort.epochs)]
    where = [] if data_dir is None else ["--data-dir", data_dir]
    mine = said(sys.executable, __file__, "--alone", method, "--folder", folder, *effort_flags, *where)
    values = [scored(adopted(weights, data), data, effort), scored(training.load(folder / "run"), data, effort)]
    for found, value in zip((theirs, mine), values, strict=True):
        found["cpu_seconds_an_epoch"] = found["cpu_seconds"] / effort.epochs
        found["growth_mib"] = found["peak_mib"] - found["before_mib"]
        found["log_likelihood"] = float(value.mean())
    ahead = Estimate.of(values[1] - values[0])
    return {"pythae": theirs, "curvae": mine, "difference": {"value": ahead.value, "stderr": ahead.stderr}}


def run(effort: Effort, peer: str, data_dir: str | None, methods: list[str]) -> dict[str, Any]:
    """Every method."""
    data, rows = opened(data_dir, effort.images), {}
    with tempfile.TemporaryDirectory() as folder:
        for name in ("train", "validation"):
            np.save(Path(folder) / f"{name}.npy", getattr(data, name).raw.flatten(1).numpy())
        for method in methods:
            rows[method] = compare(method, data, effort, peer, data_dir, Path(folder))
            print(f"{method:>8} {line(rows[method])}", flush=True)
    how = {**vars(effort), "latent": LATENT, "hidden": HIDDEN, "batch": BATCH, "rate": RATE, "seed": SEED}
    return {"how": {**how, "python": sys.version.split()[0]}, "methods": rows}


def line(row: Mapping[str, Any]) -> str:
    """Cells of a row: both libraries' time, memory and log p(x), with ratios of peer to ours."""
    theirs, mine = row["pythae"], row["curvae"]
    cells = []
    for key, form in {"cpu_seconds_an_epoch": ".2f", "growth_mib": ".0f"}.items():
        cells += [f"{theirs[key]:{form}}", f"{mine[key]:{form}}", f"{theirs[key] / mine[key]:.2f}"]
    ahead = row["difference"]
    cells += [f"{theirs['log_likelihood']:.2f}", f"{mine['log_likelihood']:.2f}"]
    return " | ".join([*cells, f"{ahead['value']:+.2f} ± {ahead['stderr']:.2f}"])


def table(content: Mapping[str, Any]) -> str:
    """All rows in Markdown."""
    head = (
        "| method | CPU s an epoch, pythae | curvae | ratio | MiB at the peak, pythae | curvae | ratio "
        "| log p(x), pythae | curvae | curvae less pythae |"
    )
    rows = [f"| {METHODS[method][0]} | {line(row)} |" for method, row in content["methods"].items()]
    return "\n".join([head, "|" + "---|" * 10, *rows]) + "\n"


def publish(content: Mapping[str, Any], page: Path = PAGE) -> None:
    """Replace the table between the page's marks."""
    before, rest = page.read_text().split(MARKS[0])
    page.write_text(before + MARKS[0] + table(content) + MARKS[1] + rest.split(MARKS[1])[1])


def main() -> None:
    """Measure where a peer is given, then write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="the Python of the peer's environment")
    parser.add_argument("--data-dir")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--limit", type=int, default=1000, help="test data")
    parser.add_argument("--samples", type=int, default=200, help="draws a datum")
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    logging.getLogger("lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    effort = Effort(chosen.images, chosen.epochs, chosen.limit, chosen.samples)
    if chosen.alone:
        print(json.dumps(ours(chosen.alone, opened(chosen.data_dir, effort.images), effort, chosen.folder)))
        return
    if chosen.peer:
        content = run(effort, chosen.peer, chosen.data_dir, chosen.methods)
        chosen.results.write_text(json.dumps(content, indent=1) + "\n")
    if chosen.results == RESULTS:
        publish(json.loads(RESULTS.read_text()))


if __name__ == "__main__":
    main()
