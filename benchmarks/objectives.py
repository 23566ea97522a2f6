"""What each objective learns on small data: the 8 x 8 digits, one network, a few hundred steps, three seeds.

Every objective gets the same networks, first weights, order of data, optimizer and, where it takes several draws, the
same number of them. Models are compared by the evaluator's log p(x) under the common proposal, which does not ask how
they were trained; differences are paired by example and seed. Seconds are CPU time on one thread.

    python benchmarks/objectives.py [--epochs 30] [--target benchmarks/results/objectives.json]
    python benchmarks/objectives.py --table      # writes the file's table into docs/studies/objectives.md, no training
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")

from typing import Any

from curvae import objectives as of
from curvae.objectives import DoublyReparameterized, Objective, StickingTheLanding
from curvae.systems import baggins, bilbo
from curvae.systems.parts import standard_system
from paired import Make, ahead, alike, compared, main

DRAWS, GROUPS = 8, 2
SEEDS = (0, 1, 2)
STL, DREG = StickingTheLanding(), DoublyReparameterized()
OBJECTIVES: dict[str, tuple[Objective, int]] = {
    "elbo": (of.elbo, DRAWS),
    "elbo, 1 draw": (of.elbo, 1),
    "elbo, STL": (of.MonteCarloElbo(estimator=STL), DRAWS),
    "iwae": (of.Iwae(), DRAWS),
    "iwae, STL": (of.Iwae(estimator=STL), DRAWS),
    "iwae, DReG": (of.Iwae(estimator=DREG), DRAWS),
    "miwae": (of.Miwae(GROUPS), DRAWS // GROUPS),
    "piwae": (of.Piwae(GROUPS), DRAWS // GROUPS),
    "ciwae, 0.05": (of.Ciwae(0.05), DRAWS),
    "renyi, 0.5": (of.Renyi(0.5), DRAWS),
    "f-divergence": (of.FDivergence(), DRAWS),
    "cubo, DReG": (of.Cubo(estimator=DREG), DRAWS),
    "wake": (of.WakePhi(), DRAWS),
    "wake, DReG": (of.WakePhi(doubly=True), DRAWS),
    "skew, 0.5": (of.SkewJensenShannon(), 1),
    "mutual": (of.MutualDivergence(), 1),
}


def systems() -> dict[str, Make]:
    """Everything that is compared, the base first."""
    plain = {
        name: alike(standard_system, objective=objective, samples=draws)
        for name, (objective, draws) in OBJECTIVES.items()
    }
    return {**plain, "bilbo": alike(bilbo), "baggins": alike(baggins)}


def table(content: dict[str, Any]) -> str:
    """The rows in Markdown, best model first."""
    lines = [
        "| objective | kind | log p(x), common proposal | against `elbo`, paired | of each seed "
        "| log p(x), own posterior | ELBO | k-hat > 0.7 | training, CPU s |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, each in sorted(content["systems"].items(), key=lambda item: -item[1]["log_likelihood"]):
        lines.append(
            f"| `{name}` | {each['kind']} | {each['log_likelihood']:.2f} | {ahead(name, content)} "
            f"| {each['own']:.2f} | {each['elbo']:.2f} | {each['khat_above_0.7']:.0%} "
            f"| {each['training_seconds']:.1f} |"
        )
    return "\n".join(lines) + "\n"


def run(epochs: int) -> dict[str, Any]:
    """Every objective."""
    return compared(systems(), SEEDS, epochs, draws=DRAWS, groups=GROUPS)


if __name__ == "__main__":
    main("objectives", __doc__, 30, run, table)
