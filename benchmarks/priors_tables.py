"""The tables of docs/studies/priors.md from the cells of ``priors.py``: means over seeds, differences paired by row."""

import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from curvae.evaluation import Estimate
from fits.cells import over_seeds
from pages import between

PAGE = Path(__file__).parents[1] / "docs" / "studies" / "priors.md"
Row = dict[str, Any]
Groups = dict[tuple[str, ...], list[Row]]


def written_tables(priors: list[Row], exact: list[Row], clusters: list[Row]) -> None:
    """Put all into the page."""
    equal = [row for row in priors if row["budget"] == "updates"]
    tables = {
        "likelihood": likelihoods(equal),
        "latents": latents(equal),
        "time": equal_time(priors),
        "exact": densities(exact),
        "clusters": clustered(clusters),
    }
    text = PAGE.read_text()
    for name, table in tables.items():
        begin, end = (f"<!-- benchmarks/priors.py, {name}: {word} -->\n" for word in ("begin", "end"))
        text = between(text, begin, end, table)
    PAGE.write_text(text)


def grouped(rows: Sequence[Row], *keys: str) -> Groups:
    groups: Groups = defaultdict(list)
    for row in rows:
        groups[tuple(row[key] for key in keys)].append(row)
    return groups


def head(*names: str) -> list[str]:
    return ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]


def line(*values: str) -> str:
    return "| " + " | ".join(values) + " |"


def mean(rows: Sequence[Row], key: str) -> float:
    return float(np.mean([row[key] for row in rows]))


def with_error(rows: Sequence[Row], key: str) -> str:
    value, error = over_seeds([row[key] for row in rows], [row[f"{key}_error"] for row in rows])
    return f"{value:.2f} ± {error:.2f}"


def ahead(rows: Sequence[Row], base: Sequence[Row], signed: bool = True) -> str:
    """Of the same rows of data and the same seeds: the mean difference, and that of each seed."""
    other = {row["seed"]: row for row in base}
    pairs = [(row, other[row["seed"]]) for row in rows if row["seed"] in other]
    if not pairs:
        return ""
    each = [Estimate.paired(np.array(a["each"], float), np.array(b["each"], float)) for a, b in pairs]
    value, error = over_seeds([one.value for one in each], [one.stderr for one in each])
    seeds = ", ".join(f"{one.value:+.1f}" for one in each)
    return f"{value:+.2f} ± {error:.2f}" + (f" ({seeds})" if signed and len(each) > 1 else "")


def likelihoods(rows: Sequence[Row]) -> str:
    """log p(x), and how far each prior is ahead of N(0, I)."""
    lines = head(
        "data", "system", "prior", "seeds", "log p(x)", "against N(0, I), paired", "flagged", "ELBO", "AUROC", "CPU s"
    )  # fmt: skip
    groups = grouped(rows, "data", "posterior", "prior")
    for (data, posterior, prior), some in groups.items():
        base = groups.get((data, posterior, "normal"), [])
        numbers = with_error(some, "log_likelihood"), "0" if prior == "normal" else ahead(some, base)
        flagged, auroc = f"{mean(some, 'flagged'):.1%}", f"{mean(some, 'auroc'):.3f}"
        lines.append(
            line(data, f"`{posterior}`", prior, str(len(some)), *numbers, flagged, with_error(some, "elbo"), auroc,
                 f"{mean(some, 'seconds'):.0f}")
        )  # fmt: skip
    return "\n".join(lines) + "\n"


def latents(rows: Sequence[Row]) -> str:
    """What the latents say, how far the prior has moved, and how like data its draws are, between two controls."""
    lines = head(
        "data", "system", "prior", "KL(q, p)", "information between", "active", "KL(p, N(0, I))", "KL(p, N(m, S))",
        "kernel distance, 1e-3",
    )  # fmt: skip
    for (data, posterior, prior), some in grouped(rows, "data", "posterior", "prior").items():
        ends = [np.mean([row["information"][k] for row in some]) for k in (0, 1)]
        ours = some[0] if prior != "normal" else {"from_standard": 0.0, "from_normal": 0.0}
        kl = [
            f"{(mean(some, key) if prior != 'normal' else ours[key]):.2f}" for key in ("from_standard", "from_normal")
        ]
        kernel = over_seeds([row["kernel_samples"] for row in some], [row["kernel_error"] for row in some])
        lines.append(
            line(data, f"`{posterior}`", prior, f"{mean(some, 'kl'):.2f}", f"{ends[0]:.1f} and {ends[1]:.1f}",
                 f"{mean(some, 'active'):.1f}", *kl, f"{1000 * kernel[0]:.1f} ± {1000 * kernel[1]:.1f}")
        )  # fmt: skip
    for (data,), some in grouped(rows, "data").items():
        for name, words in {"train": "training rows", "noise": "matched Gaussian"}.items():
            lines.append(line(data, words, *[""] * 6, f"{1000 * mean(some, f'kernel_{name}'):.1f}"))
    return "\n".join(lines) + "\n"


def equal_time(rows: Sequence[Row]) -> str:
    """Priors that take longer, with as many updates as take the seconds of N(0, I)."""
    lines = head("data", "system", "prior", "seeds", "updates", "CPU s", "log p(x)", "against N(0, I), paired")
    normal = grouped([row for row in rows if row["prior"] == "normal"], "data", "posterior")
    timed = [row for row in rows if row["budget"] == "time"]
    for (data, posterior, prior), some in grouped(timed, "data", "posterior", "prior").items():
        base = normal.get((data, posterior), [])
        theirs = mean([row for row in base if row["seed"] in {each["seed"] for each in some}], "seconds")
        lines.append(
            line(data, f"`{posterior}`", prior, str(len(some)), f"{mean(some, 'updates'):,.0f}",
                 f"{mean(some, 'seconds'):.0f} (N(0, I): {theirs:.0f})", with_error(some, "log_likelihood"),
                 ahead(some, base))
        )  # fmt: skip
    return "\n".join(lines) + "\n"


def densities(rows: Sequence[Row]) -> str:
    """Exact densities beside VAEs, in the same units."""
    lines = head(
        "data", "system", "seeds", "log p(x)", "against `vae`, paired", "flagged", "bits per pixel", "AUROC",
        "kernel distance, 1e-3", "CPU s",
    )  # fmt: skip
    groups = grouped(rows, "data", "system")
    for (data, system), some in groups.items():
        base = groups.get((data, "vae"), [])
        kernel = over_seeds([row["kernel_samples"] for row in some], [row["kernel_error"] for row in some])
        exact = not any("elbo" in row for row in some)
        lines.append(
            line(data, f"`{system.split(',')[0]}`{system[len(system.split(',')[0]):]}", str(len(some)),
                 with_error(some, "log_likelihood"), "0" if system == "vae" else ahead(some, base),
                 "exact" if exact else f"{mean(some, 'flagged'):.1%}", f"{mean(some, 'bits_per_dim'):.3f}",
                 f"{mean(some, 'auroc'):.3f}", f"{1000 * kernel[0]:.1f} ± {1000 * kernel[1]:.1f}",
                 f"{mean(some, 'seconds'):.0f}")
        )  # fmt: skip
    return "\n".join(lines) + "\n"


def clustered(rows: Sequence[Row]) -> str:
    """NMI and accuracy: the mean over seeds, and the least and the most of them."""
    lines = head("data", "clusters by", "seeds", "NMI", "accuracy", "clusters used", "CPU s")
    for (data, method), some in grouped(rows, "data", "method").items():
        scores = [spanned([row[key] for row in some]) for key in ("nmi", "accuracy")]
        used = f"{mean(some, 'used'):.1f}"
        lines.append(line(data, method, str(len(some)), *scores, used, f"{mean(some, 'seconds'):.0f}"))
    return "\n".join(lines) + "\n"


def spanned(values: Sequence[float]) -> str:
    """The mean, and between what it lies.

    >>> spanned([0.5, 0.7])
    '0.600 (0.500 to 0.700)'
    """
    text = f"{math.fsum(values) / len(values):.3f}"
    return text if len(values) == 1 else f"{text} ({min(values):.3f} to {max(values):.3f})"
