"""Priors under two posteriors, densities that are exact, and clusters: what each is worth on 10,000 pictures.

    python benchmarks/priors.py FOLDER priors       # 24 cells a seed, some 35 CPU minutes
    python benchmarks/priors.py FOLDER time         # then those that take longer, by the clock of N(0, I)
    python benchmarks/priors.py FOLDER exact        # 12 cells a seed, some 10 CPU minutes
    python benchmarks/priors.py FOLDER clusters     # 36 cells, some 10 CPU minutes
    python benchmarks/priors.py FOLDER priors --data fashion --systems vae --seeds 1
    python benchmarks/priors.py --table             # only writes the tables of docs/studies/priors.md

FOLDER holds the data as docs/fits.md says. A cell is one fit and what the evaluator says of it: a line of
``results/priors/priors.jsonl``, ``exact.jsonl`` or ``clusters.jsonl``. What was cut off goes on.
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

import argparse
import itertools
import logging
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.cluster import KMeans
from sklearn.metrics import roc_auc_score
from torch.distributions import MultivariateNormal

import curvae
from curvae import training
from curvae.data import ArrayTable, Data
from curvae.evaluation import agreement, information, quality, score, summarize
from curvae.evaluation.evaluate import levels
from curvae.priors import Prior
from curvae.systems import HasModel, System
from fits.cells import Cells
from priors_tables import written_tables

RESULTS = Path(__file__).parent / "results" / "priors"
ROWS = {"train": 10_000, "validation": 2000, "test": 1000}
SIZES = {"latent": 16, "hidden": 128}
PRIORS = ("normal", "flow", "vamp", "mixture", "tilted", "autoregressive")
SCORED, DRAWS, COMPARED = 200, 100, 500
"""Rows of the test part and of the other set whose log p(x) is estimated; draws of each proposal; samples compared."""
UPDATES = {"priors": 2000, "exact": 2000, "clusters": 1000}
SEEDS = {"priors": (0, 1), "exact": (0, 1), "clusters": (0, 1, 2)}
EXACT: dict[str, tuple[str, dict[str, Any]]] = {
    "vae": ("vae", {}),
    "vae, flow prior": ("vae", {"prior": "flow"}),
    "vlae": ("vlae", {}),
    "nice": ("nice", {}),
    "flow-ae": ("flow-ae", {}),
    "probabilistic-ae": ("probabilistic-ae", {}),
}
CLUSTERED: dict[str, tuple[str, dict[str, Any]]] = {
    "vae, mixture prior": ("vae", {"latent": 12, "prior": "mixture"}),
    "vlae, mixture prior": ("vlae", {"latent": 12, "prior": "mixture"}),
    "ladder-clustering": ("ladder-clustering", {"latent": 4, "layers": 3}),
    "ladder-clustering, deepest": ("ladder-clustering", {"latent": 4, "layers": 3, "clustered": "deepest"}),
}
CLASSES = 10
Row = dict[str, Any]


def opened(name: str, folder: Path, kind: str) -> Data:
    """10,000 training rows of a set: binary, or grey levels with noise, which have a density; digits as they are."""
    if name == "digits":
        return curvae.data.load("digits")
    if name == "mnist" and kind == "priors":  # Larochelle's, which has no labels
        data = curvae.data.load("binarized_mnist", data_dir=folder)
    else:
        how: dict[str, Any] = {"dequantize": True} if kind == "exact" else {"binarize": "static"}
        full = {"mnist": "mnist", "fashion": "fashion_mnist"}[name]
        data = curvae.data.load(full, data_dir=folder, validation=50_000, **how)
    return replace(data, **{part: some(getattr(data, part), count) for part, count in ROWS.items()})


def some(table: ArrayTable, count: int) -> ArrayTable:
    """Rows at random, always the same: the first ones of a published file need not be like the others."""
    chosen = table.take(torch.randperm(len(table), generator=torch.Generator().manual_seed(0))[:count])
    return replace(chosen, training=table.training)


def strangers(data: Data, other: Data) -> ArrayTable:
    """Test rows of another set, as the model sees its own."""
    return other.test if data.spec.support == "binary" else replace(other.test, transform=data.transform)


def fitted(word: str, data: Data, seed: int, updates: int, **options: Any) -> tuple[System, float]:
    """The system and the CPU seconds of training."""
    torch.manual_seed(seed)
    sizes = {"hidden": SIZES["hidden"]} if word == "nice" else SIZES
    system = curvae.registry.system(word)(data.spec, **sizes | options)
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        how = {"seed": seed, "out": f"{folder}/run", "device": "cpu", "progress": False}
        training.fit(system, data, max_updates=updates, **how)
    return system.eval(), time.process_time() - began


def judged(system: System, data: Data, other: Data) -> Row:
    """What the evaluator says of the first test rows, and how well log p(x) tells those of another set from them."""
    how = {"limit": SCORED, "samples": DRAWS, "chains": False}
    scores = score(system, data.test, **how)
    strange = score(system, strangers(data, other), **how)["log_likelihood"]
    own: NDArray = scores["log_likelihood"]
    found, both = summarize(scores, levels(data), samples=DRAWS), np.concatenate([own, strange])
    known = np.arange(len(both)) < len(own)
    said, alike = information(system, data.test, SCORED), quality(system, data, limit=COMPARED)
    row: Row = {"flagged": found.flagged / found.count, "auroc": float(roc_auc_score(known, np.nan_to_num(both)))}
    for name in ("log_likelihood", "elbo", "kl", "bits_per_dim"):
        if (value := getattr(found, name)) is not None:
            row |= {name: value.value, f"{name}_error": value.stderr}
    if said is not None:
        row |= {"information": [None if said.mutual_lower is None else round(said.mutual_lower.value, 3)]}
        row["information"].append(round(said.mutual_upper.value, 3))
    if alike is not None:
        row |= {f"kernel_{name}": round(likeness.kernel.value, 5) for name, likeness in alike.rows.items()}
        row["kernel_error"] = round(alike.rows["samples"].kernel.stderr, 5)
    return row | {"active": found.active_units, "each": np.round(own, 2).tolist()}


@torch.no_grad()
def moved(prior: Prior, draws: int = 4000) -> Row:
    """KL(p, N(0, I)) of a prior, and KL(p, N(m, S)) to the normal with its moments: nats, by its own draws."""
    z = prior.sample(draws, torch.Generator().manual_seed(0))
    log_p, z = prior.log_prob(z).double(), z.double()
    own = MultivariateNormal(z.mean(0), z.T.cov())
    normal = MultivariateNormal(torch.zeros(prior.size).double(), torch.eye(prior.size).double())
    return {
        "from_standard": float((log_p - normal.log_prob(z)).mean()),
        "from_normal": float((log_p - own.log_prob(z)).mean()),
    }


def prior_cell(data: Data, other: Data, posterior: str, prior: str, seed: int, updates: int) -> Row:
    system, seconds = fitted(posterior, data, seed, updates, prior=prior)
    assert isinstance(system, HasModel)
    return {"updates": updates, "seconds": seconds} | moved(system.parts().model.prior) | judged(system, data, other)


def exact_cell(data: Data, other: Data, name: str, seed: int, updates: int) -> Row:
    word, options = EXACT[name]
    system, seconds = fitted(word, data, seed, updates, **options)
    return {"updates": updates, "seconds": seconds} | judged(system, data, other)


def cluster_cell(data: Data, method: str, seed: int, updates: int) -> Row:
    """Clusters of the test rows against their labels; of several blocks the one that is best on validation rows."""
    began, blocks = time.process_time(), 1
    if method in CLUSTERED:
        word, options = CLUSTERED[method]
        system: Any = fitted(word, data, seed, updates, **options)[0]
        tables = (data.validation, data.test)
        tried, held = (torch.cat([system.clusters(batch.x) for batch in t.batches(200)]).argmax(-1) for t in tables)
        blocks = tried.shape[1]
        nmi = [agreement(labels(data.validation), each.numpy(), CLASSES).nmi for each in tried.T]
        clusters = held[:, int(np.argmax(nmi))].numpy()
    else:
        known, asked = (codes(method, data, seed, updates)(table) for table in (data.train, data.test))
        clusters = KMeans(CLASSES, n_init=10, random_state=seed).fit(known).predict(asked)
    found = agreement(labels(data.test), clusters, CLASSES)
    row = {"updates": updates, "seconds": time.process_time() - began, "blocks": blocks}
    return row | {"accuracy": found.accuracy, "nmi": found.nmi, "ari": found.ari, "used": found.used}


def codes(method: str, data: Data, seed: int, updates: int) -> Callable[[ArrayTable], NDArray]:
    """What k-means sees of a row: its pixels, or the mean of a VAE's posterior."""
    if method == "k-means on pixels":
        return lambda table: table.x.flatten(1).double().numpy()
    system: Any = fitted("vae", data, seed, updates, latent=12)[0]
    return lambda table: system.posterior(table.x).mean.double().numpy()


def labels(table: ArrayTable) -> NDArray:
    assert table.label is not None
    return table.label.numpy()


def run_priors(given: argparse.Namespace, done: Cells, budget: str) -> None:
    """Every prior under both posteriors; of equal time, as many updates as take the seconds of N(0, I)."""
    both = {name: opened(name, given.folder, "priors") for name in ("mnist", "fashion")}
    updates = given.updates or UPDATES["priors"]
    for seed, name, posterior, prior in itertools.product(seeds(given), both, given.systems, PRIORS):
        place: Row = {"data": name, "posterior": posterior, "prior": prior, "budget": budget, "seed": seed}
        if name not in given.data or tuple(place.values()) in done:
            continue
        count = updates if budget == "updates" else planned(done, place, updates)
        if count:
            other = both["fashion" if name == "mnist" else "mnist"]
            done.add(place | prior_cell(both[name], other, posterior, prior, seed, count))


def planned(done: Cells, place: Row, updates: int) -> int:
    """Updates of equal time, by the cells of equal updates; 0 where these are missing, or take no longer."""
    at = {row["prior"]: row["seconds"] for row in done.rows if agrees(row, place | {"budget": "updates"})}
    if not {"normal", place["prior"]} <= at.keys() or at[place["prior"]] < 1.2 * at["normal"]:
        return 0
    return round(updates * at["normal"] / at[place["prior"]])


def agrees(row: Row, place: Row) -> bool:
    return all(row[key] == value for key, value in place.items() if key != "prior")


def run_exact(given: argparse.Namespace, done: Cells) -> None:
    both = {name: opened(name, given.folder, "exact") for name in ("mnist", "fashion")}
    for seed, name, system in itertools.product(seeds(given), both, EXACT):
        if name in given.data and (name, system, seed) not in done:
            other = both["fashion" if name == "mnist" else "mnist"]
            cell = exact_cell(both[name], other, system, seed, given.updates or UPDATES["exact"])
            done.add({"data": name, "system": system, "seed": seed} | cell)


def run_clusters(given: argparse.Namespace, done: Cells) -> None:
    for name in ("digits", "mnist"):
        data = opened(name, given.folder, "clusters")
        for seed, method in itertools.product(seeds(given), methods()):
            if (name, method, seed) not in done:
                cell = cluster_cell(data, method, seed, given.updates or UPDATES["clusters"])
                done.add({"data": name, "method": method, "seed": seed} | cell)


def methods() -> Iterator[str]:
    yield from ("k-means on pixels", "k-means on means of a vae", *CLUSTERED)


def seeds(given: argparse.Namespace) -> tuple[int, ...]:
    return tuple(given.seeds or SEEDS[given.kind])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("kind", nargs="?", choices=("priors", "time", "exact", "clusters"))
    parser.add_argument("--data", nargs="+", default=["mnist", "fashion"], choices=("mnist", "fashion"))
    parser.add_argument("--systems", nargs="+", default=["vae", "vlae"], choices=("vae", "vlae"), help="of the priors")
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--updates", type=int, help="another length than that of the page")
    parser.add_argument("--target", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true")
    given = parser.parse_args()
    logging.getLogger("lightning").setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    prior_cells = Cells(given.target / "priors.jsonl", "data", "posterior", "prior", "budget", "seed")
    exact_cells = Cells(given.target / "exact.jsonl", "data", "system", "seed")
    cluster_cells = Cells(given.target / "clusters.jsonl", "data", "method", "seed")
    if not given.table:
        if given.folder is None or given.kind is None:
            parser.error("expected FOLDER and one of priors, time, exact, clusters; or --table")
        match given.kind:
            case "priors":
                run_priors(given, prior_cells, "updates")
            case "time":
                given.kind = "priors"
                run_priors(given, prior_cells, "time")
            case "exact":
                run_exact(given, exact_cells)
            case _:
                run_clusters(given, cluster_cells)
    if given.table:
        written_tables(prior_cells.rows, exact_cells.rows, cluster_cells.rows)


if __name__ == "__main__":
    main()
