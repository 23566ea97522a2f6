"""The tables of docs/studies/solvers.md, from the numbers that benchmarks/solvers.py wrote."""

from pathlib import Path
from typing import Any

from pages import between

PAGE = Path(__file__).parents[1] / "docs" / "studies" / "solvers.md"
SHARE = 0.02
"""Of the mean gap before the search: what may be left to count as there in the summary."""

Content = dict[str, Any]


def summary(content: Content) -> str:
    """Time until all but a share is gained, for each solver and decoder."""
    names = list(content["models"])
    lines = ["| solver | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    solvers = list(next(iter(content["models"].values()))["solvers"])
    for solver in solvers:
        cells = [_reached(content["models"][name], solver) for name in names]
        lines.append(f"| {solver} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _reached(model: Content, solver: str) -> str:
    """The first number of steps that leaves so little; else what is left after the last."""
    begin, rows = model["start"]["mean"], model["solvers"][solver]
    for row in rows:
        if row["mean"] <= SHARE * begin:
            return f"{row['microseconds']:.0f} µs ({row['steps']})"
    return f"{rows[-1]['mean'] / begin:.1%} left ({rows[-1]['steps']})"


def patterns(content: Content) -> str:
    """Mean gap and time of each number of steps and BFGS steps."""
    counts = list(next(iter(content["models"].values()))["patterns"])
    lines = ["| decoder | steps | " + " | ".join(f"{each} BFGS" for each in counts) + " |"]
    lines.append("|---|---|" + "---|" * len(counts))
    for name, model in content["models"].items():
        for rows in zip(*model["patterns"].values(), strict=True):
            cells = [f"{row['mean']:.2f} ({row['microseconds']:.0f})" for row in rows]
            lines.append(f"| {name} | {rows[0]['steps']} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def full(content: Content) -> str:
    """Everything that was measured, a table for each decoder."""
    return "\n".join(_one(name, model) for name, model in content["models"].items())


def _one(name: str, model: Content) -> str:
    start = model["start"]
    sizes = f"D = {model['latent']}, P = {model['outputs']}, {model['data']:,} test data, {model['route']} route"
    begin = f"before the search {start['mean']:.2f} nats are missing, and more than {start['worst']:.2f} to 1 % of them"
    lines = [
        f"### {name}\n\n{sizes}; {begin}.\n",
        "| solver | steps | gap, mean | median | worst 1 % above | µs | log joints | gradients | Λ | products |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for solver, rows in model["solvers"].items():
        for row in rows:
            gaps = " | ".join(f"{row[each]:.3f}" for each in ("mean", "median", "worst"))
            counts = " | ".join(
                f"{row[each]:.1f}" for each in ("log_joints", "gradients", "precisions", "products")
            )  # fmt: skip
            lines.append(f"| {solver} | {row['steps']} | {gaps} | {row['microseconds']:.0f} | {counts} |")
    return "\n".join(lines) + "\n"


def publish(content: Content, page: Path = PAGE) -> None:
    """Replace the tables between the page's marks."""
    text = page.read_text()
    for name, table in {"summary": summary, "patterns": patterns, "full": full}.items():
        first, last = (f"<!-- benchmarks/solvers.py: {name} {end} -->\n" for end in ("begins", "ends"))
        text = between(text, first, last, table(content))
    page.write_text(text)
