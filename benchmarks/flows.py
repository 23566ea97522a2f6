"""What a richer posterior is worth on small data: the 8 x 8 digits, one network, one budget, two seeds.

Every system has the same decoder, encoder trunk, likelihood, first seed, order of data and optimizer. Models are
compared by the evaluator's log p(x) under the common proposal, posteriors by how far the ELBO lies below it;
differences are paired by datum and seed. Seconds are CPU time on one thread.

    python benchmarks/flows.py [--epochs 60] [--target benchmarks/results/flows.json]
    python benchmarks/flows.py --table      # writes the file's table into docs/studies/flows.md, no training
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from typing import Any

from curvae import systems as of
from paired import SIZES, Make, ahead, alike, compared, main

SEEDS = (0, 1)
WIDTH = SIZES["hidden"]
SYSTEMS: dict[str, Make] = {
    "vae": alike(of.vae),
    "householder-vae, 7": alike(of.householder_vae, reflections=7),
    "planar-vae, 10": alike(of.planar_vae, flows=10),
    "radial-vae, 10": alike(of.radial_vae, flows=10),
    "iaf-vae, 2": alike(of.iaf_vae, flows=2, width=WIDTH),
    "coupling-vae, 4": alike(of.coupling_vae, flows=4, width=WIDTH),
    "spline-vae, 2": alike(of.spline_vae, flows=2, width=WIDTH),
    "sa-vae, 10": alike(of.sa_vae, steps=10, rate=5e-4),
    "vlae, 3": alike(of.vlae),
}


def table(content: dict[str, Any]) -> str:
    """The rows in Markdown, smallest gap first."""
    lines = [
        "| system, steps | log p(x) - ELBO | log p(x), common proposal | against `vae`, paired | of each seed "
        "| log p(x), own posterior | effective draws | k-hat > 0.7 | training, CPU s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, each in sorted(content["systems"].items(), key=lambda item: item[1]["gap"]):
        lines.append(
            f"| `{name}` | {each['gap']:.2f} ± {each['gap_stderr']:.2f} | {each['log_likelihood']:.2f} "
            f"| {ahead(name, content)} | {each['own']:.2f} | {each['ess_own']:.0f} of {content['how']['samples']} "
            f"| {each['khat_above_0.7']:.0%} | {each['training_seconds']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def run(epochs: int) -> dict[str, Any]:
    """Every system."""
    return compared(SYSTEMS, SEEDS, epochs)


if __name__ == "__main__":
    main("flows", __doc__, 60, run, table)
