"""A VAE and a VLAE of one recipe at equal CPU time of training, on images: log p(x) and ELBO of 1,000 test images.

    python benchmarks/fits/images.py FOLDER --seconds 60      # MNIST, both systems, three seeds: 10 CPU minutes
    python benchmarks/fits/images.py FOLDER --data fashion cifar10 --seconds 60 --seeds 0
    python benchmarks/fits/images.py FOLDER --list

FOLDER holds the data as docs/fits.md says. A cell is a data set with a network, a system, a time and a seed: a line of
``results/fits/images.jsonl``. First some hundred updates of each stage are timed; then a fit has as many updates as
take the seconds. What is written is the CPU time that it took, with its looks at the validation data; judging is not
counted. Judged by 100 draws of the common proposal.
"""

import itertools
import json
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

import curvae
from curvae.data import Data, from_array
from curvae.evaluation.likelihood.importance import estimates, posterior_weights
from curvae.evaluation.likelihood.proposal import common_proposal
from curvae.systems import System
from curvae.training import fit

sys.path.insert(0, str(Path(__file__).parents[1]))
import cells

from pages import written

IMAGES, DRAWS = 1000, 100
SETS = ("mnist", "mnist-large", "fashion", "omniglot", "binarized", "cifar10")


def opened(name: str, folder: Path) -> Data:
    """Pixels in [0, 1] less their mean; the split of the data set, or by seed 0."""
    if name.startswith("mnist"):
        return curvae.data.load("mnist", data_dir=folder / "mnist")
    if name == "fashion":
        return curvae.data.load("fashion_mnist", data_dir=folder / "fashion_mnist")
    sys.path.insert(0, str(folder))
    import unpack  # of the folder of data

    if name == "cifar10":
        x, _ = unpack.cifar10_12000()
        return from_array(x[:10_000], test=x[10_000:], split=(0.9, 0.1, 0.0), name=name)
    if name == "omniglot":
        return from_array(unpack.area28(unpack.omniglot105()), split=(0.75, 0.1, 0.15), name=name)
    parts = [unpack.binarized_mnist(each).reshape(-1, 28, 28).astype(np.float32) for each in ("train", "valid", "test")]
    return from_array(np.concatenate(parts[:2]), test=parts[2], split=(5 / 6, 1 / 6, 0.0), support="binary", name=name)


def made(name: str, word: str, data: Data, seed: int, options: Mapping[str, Any]) -> System:
    torch.manual_seed(seed)
    hidden, latent = (500, 50) if name == "mnist-large" else (256, 16)
    return curvae.registry.system(word)(data.spec, latent=latent, hidden=hidden, **options)


def trained(system: System, data: Data, seed: int, training: Mapping[str, Any]) -> float:
    """CPU seconds of a fit, with all that it does once."""
    begin = time.process_time()
    with tempfile.TemporaryDirectory() as place:
        fit(system, data, seed=seed, out=f"{place}/run", progress=False, **training)
    return time.process_time() - begin


def per_update(name: str, word: str, data: Data, options: Mapping[str, Any], updates: int = 400) -> float:
    """CPU seconds of an update of this system's last stage, its share of a validation pass included."""
    timed = {**options, "warmup": 1e-6} if word == "vlae" else options  # one update of a plain VAE, then refined ones
    _, few, many = (trained(made(name, word, data, 0, timed), data, 0, {"max_updates": n}) for n in (20, 20, updates))
    return (many - few) / (updates - 20)


@torch.no_grad()
def judged(system: System, data: Data) -> dict[str, float]:
    system.eval()
    likelihood, shape, bound = [], [], []
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    for rows in torch.arange(IMAGES).split(100):
        batch = data.test.batch(rows)
        proposal = common_proposal(system)(system.model, batch).posterior
        found = estimates(posterior_weights(system.model, proposal, batch, DRAWS, 2**25, generator=generator))
        likelihood.append(torch.as_tensor(found.log_likelihood))
        shape.append(torch.as_tensor(found.khat))
        bound.append(system.bound(batch).value)
    values = torch.cat(likelihood)
    return {
        "log_likelihood": float(values.mean()),
        "stderr": float(values.std() / IMAGES**0.5),
        "elbo": float(torch.cat(bound).mean()),
        "khat_above": float((torch.cat(shape) > 0.7).double().mean()),
    }


def planned(system: System, time: float, per: Sequence[float]) -> int:
    """Updates that take so much time, ``per`` that of an update of each stage."""
    return round(time / mean_cost(system, per))


def mean_cost(system: System, per: Sequence[float]) -> float:
    """Of an update over all stages: each has its share of the time by what its updates are said to cost."""
    counts = [stage.share / stage.cost for stage in system.stages()]
    return sum(count * each for count, each in zip(counts, per, strict=False)) / sum(counts)


def listed(rows: list[dict[str, Any]]) -> str:
    """A line for each data set, time and system: means over the seeds, and how the VLAE is ahead."""
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row["data"], row["budget"], row["system"]].append(row)
    lines = ["| data | CPU s meant | system | seeds | CPU s | log p(x) | ELBO | ahead of the VAE |", "|" + "---|" * 8]
    for (name, budget, word), group in sorted(groups.items()):
        means = {key: np.mean([row[key] for row in group]) for key in ("cpu_seconds", "log_likelihood", "elbo")}
        other = {row["seed"]: row["log_likelihood"] for row in groups.get((name, budget, "vae"), [])}
        ahead = [row["log_likelihood"] - other[row["seed"]] for row in group if row["seed"] in other and word != "vae"]
        said = ", ".join(f"{value:+.1f}" for value in ahead)
        numbers = f"{means['cpu_seconds']:.0f} | {means['log_likelihood']:.1f} | {means['elbo']:.1f} | {said}"
        lines.append(f"| {name} | {budget:g} | {word} | {len(group)} | {numbers} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = cells.parser(__doc__)
    parser.add_argument("--data", nargs="+", default=["mnist"], choices=SETS)
    parser.add_argument("--seconds", nargs="+", type=float, default=[60])
    parser.add_argument("--cost", type=json.loads, help="CPU seconds of an update by system, where they are known")
    given = parser.parse_args()
    torch.set_num_threads(1)
    found = cells.Cells(cells.place(given, "images"), "data", "system", "budget", "seed")
    for name in [] if given.list else given.data:
        data = opened(name, given.folder)
        cost = given.cost or {word: per_update(name, word, data, given.options) for word in ("vae", "vlae")}
        print(name, {word: f"{1000 * value:.2f} ms an update" for word, value in cost.items()}, flush=True)
        for seconds, seed, word in itertools.product(given.seconds, given.seeds, given.systems):
            if (name, word, seconds, seed) in found:
                continue
            system = made(name, word, data, seed, given.options)
            updates = planned(system, seconds, [cost["vae"], cost["vlae"]])
            took = trained(system, data, seed, {"max_updates": updates, **given.training})
            row = {"data": name, "system": word, "budget": seconds, "seed": seed, "updates": updates}
            found.add(row | {"cpu_seconds": took, **judged(system, data)})
    print(listed(found.rows), end="")
    if not given.trial and given.target == cells.RESULTS:
        written(cells.PAGE, "fits/images", listed(found.rows))


if __name__ == "__main__":
    main()
