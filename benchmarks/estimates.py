"""How far log p(x) from ``evaluate`` can be trusted: k-hat, and what long annealing says of the same rows.

    python benchmarks/estimates.py FOLDER RUNS            # 6 CPU minutes of training, once, and 20 of measuring
    python benchmarks/estimates.py FOLDER RUNS --only abalone
    python benchmarks/estimates.py FOLDER RUNS --list

FOLDER holds the data as docs/fits.md says, RUNS what was trained: whatever is there is used. A cell is a model and a
way to estimate, of the first rows of its test set, beside the truth: by a grid where there are two latents, elsewhere
by annealing along 1,000 temperatures with 24 chains, which is kept in RUNS. Each cell is a line of
``results/estimates.jsonl``; what was cut off goes on.
"""

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import curvae
import curvae.registry
from curvae.data import ArrayTable
from curvae.evaluation import estimate, score
from curvae.evaluation.likelihood import annealing
from curvae.evaluation.likelihood.estimation import flagged
from curvae.evaluation.likelihood.importance import posterior_weights
from curvae.evaluation.likelihood.proposal import widen, width_for
from curvae.inference import Laplace
from curvae.systems import HasModel, System
from curvae.training import fit

sys.path.insert(0, str(Path(__file__).parent / "fits"))
import cells
import images

import tables
from pages import written

HERE = Path(__file__).parent
PAGE = HERE.parent / "docs" / "studies" / "estimates.md"
MODELS: dict[str, dict[str, Any]] = {
    "abalone-vlae": {"data": "abalone", "rows": 400, "latent": 2, "training": {}},
    "white-vlae": {"data": "white", "rows": 400, "latent": 5, "training": {}},
    "mnist-vlae": {"data": "mnist", "rows": 300, "latent": 16, "training": {"max_updates": 7640}},
    "mnist-vae": {"data": "mnist", "rows": 300, "latent": 16, "training": {"max_updates": 4615}},
}
WAYS = ("laplace", "modes", "evaluate", "evaluate 2,000", "own")
WORDS = {
    "laplace": "one Laplace posterior, 500 draws",
    "modes": "several modes, without chains, 500 draws",
    "evaluate": "`evaluate`, 500 draws",
    "evaluate 2,000": "`evaluate --samples 2000`",
    "own": "the system's own posterior, 500 draws",
}


def opened(name: str, folder: Path) -> curvae.data.Data:
    data = MODELS[name]["data"]
    return images.opened(data, folder) if data == "mnist" else tables.opened(data, folder, 0)


def trained(name: str, folder: Path, runs: Path) -> tuple[System, ArrayTable]:
    """The system, trained where it is not there yet, and the rows that are measured."""
    data, about = opened(name, folder), MODELS[name]
    if not (runs / name / "model.json").exists():
        torch.manual_seed(0)
        system = curvae.registry.system(name.split("-")[1])(data.spec, latent=about["latent"])
        fit(system, data, seed=0, out=runs / name, progress=False, **about["training"])
    return curvae.load(runs / name).system.eval(), data.test


def by(way: str, system: System, table: ArrayTable, rows: int) -> dict[str, np.ndarray]:
    """Estimates, their errors and limits, k-hat and flags of the first rows."""
    if way.startswith("evaluate") or way == "modes":
        found = score(system, table, samples=2000 if "2,000" in way else 500, limit=rows, chains=way != "modes", seed=1)
        names = ("log_likelihood", "stderr_best", "limit_best", "khat_best")
        return dict(zip(("value", "stderr", "limit", "khat"), (found[name] for name in names), strict=True)) | {
            "flagged": flagged(found)
        }
    assert isinstance(system, HasModel)
    model, start = system.parts()[:2]
    batch = table.batch(torch.arange(min(rows, len(table))))
    with torch.no_grad():
        q = (start if way == "own" else Laplace(start, 8))(model, batch).posterior
        q = q if way == "own" else widen(q, width_for(model.prior.size))
        weights = posterior_weights(model, q, batch, 500, generator=torch.Generator().manual_seed(1))
    found = estimate(weights.log_w.numpy(), weights.log_c.numpy())
    bad = ~(found.khat <= 0.7)
    return {
        "value": found.log_likelihood,
        "stderr": found.stderr,
        "limit": found.limit,
        "khat": found.khat,
        "flagged": bad,
    }


def truth(name: str, system: System, table: ArrayTable, runs: Path) -> dict[str, np.ndarray]:
    """By a grid or by long annealing, once."""
    place, rows = runs / f"{name}.truth.npz", min(MODELS[name]["rows"], len(table))
    if not place.exists():
        found = on_grid(system, table, rows) if MODELS[name]["latent"] == 2 else by_annealing(system, table, rows)
        np.savez(place, **found)
    return dict(np.load(place))


def on_grid(
    system: System, table: ArrayTable, rows: int, ends: float = 6.0, steps: int = 2400
) -> dict[str, np.ndarray]:
    """By quadrature in two dimensions."""
    assert isinstance(system, HasModel)
    model, x = system.parts().model, table.batch(torch.arange(rows)).x
    axis = torch.linspace(-ends, ends, steps + 1)
    points = torch.stack(torch.meshgrid(axis, axis, indexing="ij"), -1).view(-1, 1, 2)
    total = torch.full((rows,), -torch.inf, dtype=torch.float64)
    with torch.no_grad():
        for z in points.split(10_000):
            level = model.prior.log_prob(z) + model.likelihood.log_prob(x, model.decode(z).expand(-1, rows, -1))
            total = torch.logaddexp(total, level.double().logsumexp(0))
    value = (total + 2 * np.log(2 * ends / steps)).numpy()
    return {"log_likelihood": value, "stderr": 0 * value, "spread": 0 * value}


def by_annealing(system: System, table: ArrayTable, rows: int) -> dict[str, np.ndarray]:
    annealing.MOST = 1  # as many temperatures for all
    found = annealing.annealed_importance_sampling(system, table, 1000, rows, chains=24, seed=2)
    return {key: found[f"{key}_ais"] for key in ("log_likelihood", "stderr", "spread")}


def cell(name: str, way: str, folder: Path, runs: Path) -> dict[str, Any]:
    system, table = trained(name, folder, runs)
    begin = time.process_time()
    found = by(way, system, table, MODELS[name]["rows"])
    seconds = (time.process_time() - begin) / len(found["value"])
    row = {
        "model": name, "way": way, "rows": len(found["value"]), "ms": 1000 * seconds,
        "value": float(found["value"].mean()), "khat": float(np.mean(~(found["khat"] <= 0.7))),
        "flagged": float(found["flagged"].mean()),
    }  # fmt: skip
    if MODELS[name]["data"] == "mnist":  # where 1,000 temperatures leave weights that spread by nats
        return row
    exact = truth(name, system, table, runs)
    good = ~found["flagged"] & (exact["spread"] < 1)
    gap = found["value"] - exact["log_likelihood"]
    off = np.abs(gap) > 3 * np.hypot(found["stderr"], exact["stderr"])
    gap, off = gap[good], off[good]
    ends = {"low": float(-gap.min()), "high": float(gap.max()), "mean": float(gap.mean())}
    return row | {"compared": len(gap), "off": float(off.mean()), **ends}


def table(rows: list[dict[str, Any]]) -> str:
    lines = [
        "| model | estimate | log p(x) | k-hat > 0.7 | flagged | off by 3 errors | too low, high, at most | mean error "
        "| ms |",
        "|" + "---|" * 9,
    ]
    for name in MODELS:
        for row in sorted((row for row in rows if row["model"] == name), key=lambda row: WAYS.index(row["way"])):
            shares = f"{row['value']:.2f} | {row['khat']:.1%} | {row['flagged']:.1%}"
            truth = "| | "
            if "off" in row:
                ends = f"{max(row['low'], 0):.2f}, {max(row['high'], 0):.2f}"
                truth = f"{row['off']:.1%} of {row['compared']} | {ends} | {row['mean']:+.3f}"
            lines.append(f"| {name} | {WORDS[row['way']]} | {shares} | {truth} | {row['ms']:.0f} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--only", nargs="+", default=list(MODELS))
    parser.add_argument("--list", action="store_true", help="only write the table, from what is there")
    given = parser.parse_args()
    torch.set_num_threads(1)
    done = cells.Cells(HERE / "results" / "estimates.jsonl", "model", "way")
    for name in [] if given.list else given.only:
        for way in WAYS:
            if (name, way) not in done:
                done.add(cell(name, way, given.folder, given.runs))
    written(PAGE, "estimates", table(done.rows))


if __name__ == "__main__":
    main()
