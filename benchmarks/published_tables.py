"""The tables of docs/studies/published.md, from the files that benchmarks/published.py left."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from curvae.evaluation import Estimate
from published_cells import DATASETS, METHODS, NETWORKS, kind

PAGE = Path(__file__).parents[1] / "docs" / "studies" / "published.md"
MARKS = "<!-- benchmarks/published.py: begin -->\n", "<!-- benchmarks/published.py: end -->\n"
BASE = "vae"
NAMES = {"vae": "VAE", "sa-vae": "SA-VAE", "householder": "VAE + HF", "iaf": "VAE + IAF", "vlae": "VLAE"}

Content = dict[str, Any]


class Group(NamedTuple):
    """What may be compared: the runs of one data set, network and budget."""

    data: str
    network: str
    runs: Mapping[str, Mapping[int, Content]]
    """By method and seed."""

    @property
    def any(self) -> Content:
        """One of the runs."""
        return next(iter(next(iter(self.runs.values())).values()))


def read(folder: Path) -> list[Group]:
    """All groups, in the order of networks, data sets, methods and seeds."""
    found: dict[tuple[str, ...], dict[str, dict[int, Content]]] = {}
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text())
        cell = content["cell"]
        place = (cell["network"], cell["data"], json.dumps(content["asked"], sort_keys=True))
        found.setdefault(place, {}).setdefault(cell["method"], {})[cell["seed"]] = content
    ordered = sorted(found, key=lambda place: (list(NETWORKS).index(place[0]), list(DATASETS).index(place[1]), place))
    return [
        Group(place[1], place[0], {name: found[place][name] for name in METHODS if name in found[place]})
        for place in ordered
    ]


def each(runs: Mapping[int, Content], what: str) -> dict[int, NDArray]:
    """Values of each datum, by seed."""
    return {seed: np.array(content["each"][what], dtype=float) for seed, content in runs.items()}


def ahead(group: Group, method: str, what: str) -> tuple[Estimate, list[float]] | None:
    """A method less the VAE, paired by datum and seed, and each seed's.

    The error is over data, of means over seeds, and over seeds where there are several: after a few epochs one seed of
    the plain VAE may be tens of nats from the next, which no number of data shows.
    """
    if BASE not in group.runs:
        return None
    ours, theirs = each(group.runs[method], what), each(group.runs[BASE], what)
    if not (seeds := sorted(ours.keys() & theirs.keys())):
        return None
    differences = np.stack([ours[seed] - theirs[seed] for seed in seeds])
    differences = differences[:, np.isfinite(differences).all(0)]
    over_data, over_seeds = Estimate.of(differences.mean(0)), Estimate.of(differences.mean(1))
    error = over_data.stderr if len(seeds) == 1 else float(np.hypot(over_data.stderr, over_seeds.stderr))
    return replace(over_data, stderr=error), differences.mean(1).tolist()


def mean(runs: Mapping[int, Content], *keys: str) -> float:
    """The mean over seeds of a number in the files; NaN where one has none."""
    values = []
    for content in runs.values():
        value: Any = content
        for key in keys:
            value = None if value is None else value[key]
        values.append(np.nan if value is None else value)
    return float(np.mean(values))


def values(runs: Mapping[int, Content], proposal: str) -> str:
    """Mean log p(x), and each seed's where there are several."""
    seeds = [runs[seed]["evaluation"][proposal]["log_likelihood"]["value"] for seed in sorted(runs)]
    return f"{np.mean(seeds):.2f}" + (f" ({', '.join(f'{value:.0f}' for value in seeds)})" if len(seeds) > 1 else "")


def difference(group: Group, method: str, what: str) -> str:
    """A method against the VAE, in words."""
    found = ahead(group, method, what)
    if found is None or method == BASE:
        return ""
    total, seeds = found
    apart = f" ({', '.join(f'{value:+.1f}' for value in seeds)})" if len(seeds) > 1 else ""
    return f"{total.value:+.2f} ± {total.stderr:.2f}{apart}"


def row(group: Group, method: str) -> str:
    """One method."""
    runs = group.runs[method]
    family, count = kind(method)
    bits = mean(runs, "evaluation", "bits_per_dim", "value")
    cells = [
        NAMES[family],
        str(count or ""),
        values(runs, "laplace"),
        difference(group, method, "common"),
        values(runs, "own"),
        difference(group, method, "own"),
        f"{mean(runs, 'evaluation', 'elbo', 'value'):.2f}",
        f"{mean(runs, 'evaluation', 'laplace', 'khat', 'flagged'):.0%}",
        "" if np.isnan(bits) else f"{bits:.3f}",
        f"{mean(runs, 'training', 'best_epoch'):.0f} of {mean(runs, 'training', 'epochs'):.0f}",
        seconds(mean(runs, "training", "cpu_seconds")),
        ", ".join(map(str, sorted(runs))),
    ]
    return f"| {' | '.join(cells)} |"


def seconds(value: float) -> str:
    """CPU seconds, where a run was not cut off."""
    return "" if np.isnan(value) else f"{value:.0f}"


def budget(asked: Mapping[str, Any]) -> str:
    """A budget, in words."""
    minutes = None if asked["minutes"] is None else f"{asked['minutes']:g} CPU minutes"
    epochs = None if asked["epochs"] is None else f"{asked['epochs']} epochs"
    return " and at most ".join(part for part in (minutes, epochs) if part)


def table(group: Group) -> str:
    """A group's heading, budget and rows in Markdown."""
    one, (latent, hidden) = group.any, NETWORKS[group.network]
    train, validation, _ = one["data"]["rows"]
    heading = f"### {group.data}, {group.network} network (D = {latent}, H = {hidden})"
    how = (
        f"{one['data']['name']}, {one['data']['unit']}; {budget(one['asked'])} for each run, {train:,} images for "
        f"training, {validation:,} for validation; {one['evaluation']['count']:,} test images, "
        f"{one['asked']['samples']} draws."
    )
    head = (
        "| method | T | log p(x), common proposal | against the VAE | log p(x), own posterior | against the VAE | ELBO "
        "| k-hat > 0.7 | bits/dim | best epoch | training, CPU s | seeds |"
    )
    rows = [row(group, method) for method in group.runs]
    return "\n".join([heading, "", how, "", head, "|" + "---|" * 12, *rows]) + "\n"


def publish(folder: Path, page: Path = PAGE) -> None:
    """Replace the tables between the page's marks."""
    before, rest = page.read_text().split(MARKS[0])
    tables = "\n".join(table(group) for group in read(folder))
    page.write_text(before + MARKS[0] + tables + MARKS[1] + rest.split(MARKS[1])[1])
