"""Test log-likelihood against CPU time of training: a plain VAE, the published VLAE, and VLAE with a budget.

With ``--epochs`` instead: runs of known lengths under the budget's own rule, beside the plain VAE that they were at
first, trained on for the same time.

All curves of a seed but "late" and "memory", which go on from a point of the plain VAE, start from the same weights.
They are trained in one process in turns of a few seconds, so that a busy machine is equally busy for each. Time is the
CPU time of training steps and of the budget's own reviews; evaluation is not counted. A run that is cut off is taken up
at its last point.

python benchmarks/budget.py FOLDER-WITH-MNIST --seed 0 --work /tmp/budget
"""

import argparse
import json
from pathlib import Path

import torch

from budget_runner import CURVES, MARKS, PLAIN, TURN, Runner
from curvae import data as sets
from curvae.data import Data


def main() -> None:
    """Train all curves of one seed in turns, up to the next mark, and measure them there."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--curves", nargs="+", default=list(CURVES), choices=list(CURVES))
    parser.add_argument("--work", type=Path, required=True, help="folder for what a later process goes on from")
    parser.add_argument("--target", type=Path, default=Path(__file__).parent / "results" / "budget")
    parser.add_argument("--epochs", nargs="+", type=int, default=[], help="lengths of runs under the budget's rule")
    parser.add_argument("--until", type=float, default=MARKS[-1], help="CPU minutes")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    chosen.work.mkdir(parents=True, exist_ok=True)
    chosen.target.mkdir(parents=True, exist_ok=True)
    data = sets.load("mnist", data_dir=chosen.data)
    if chosen.epochs:
        for epochs in chosen.epochs:
            ruled(data, chosen.seed, chosen.work, chosen.target, epochs)
        return
    names = [name for name in chosen.curves if name != "finish"]
    runners = [Runner(name, data, chosen.seed, chosen.work) for name in names]
    stops = {*MARKS, *(PLAIN * mark for mark in MARKS)}
    for minutes in sorted(stop for stop in stops if stop <= chosen.until):
        while behind := [each for each in runners if each.seconds < 60 * minutes - 0.05]:
            for each in behind:
                each.turn(min(TURN, 60 * minutes - each.seconds))
        for each in runners:
            if minutes in MARKS and len(each.points) <= MARKS.index(minutes):
                each.measure()
                each.save()
                each.report(chosen.target)
            if each.name == "vae" and each.seconds < 60 * minutes + TURN:
                each.keep(minutes)
    if "finish" in chosen.curves:
        finish(data, chosen.seed, chosen.work, chosen.target, [mark for mark in MARKS if mark <= chosen.until])


def ruled(data: Data, seed: int, work: Path, target: Path, epochs: int) -> None:
    """A run of so many epochs under the budget's rule, and the plain VAE that it was, trained on for the same time."""
    runner = Runner("budget", data, seed, work / f"rule-{epochs}")
    runner.length = epochs
    while runner.epoch < epochs:
        runner.turn(TURN)
    plain = Runner("vae", data, seed, work / f"rule-{epochs}", runner.risen) if runner.risen.exists() else runner
    while plain.seconds < runner.seconds:
        plain.turn(min(TURN, runner.seconds - plain.seconds))
    for each in (runner, plain):
        each.measure()
    points = {"budget": runner.points[-1], "vae": plain.points[-1]}
    content = {"seed": seed, "epochs": epochs, **points, "reviews": runner.reviews}
    (target / f"rule-{seed}-{epochs}.json").write_text(json.dumps(content, indent=1) + "\n")


def finish(data: Data, seed: int, work: Path, target: Path, marks: list[float]) -> None:
    """Runs of several lengths, each a plain VAE at first and refined for the rest of its time."""
    points, runner = [], None
    for mark in marks:
        runner = Runner("finish", data, seed, work / f"{mark:g}", work / f"vae-{seed}-{PLAIN * mark:g}.pt")
        if len(runner.points) <= MARKS.index(mark):
            runner.turn(60 * mark - runner.seconds)
            runner.measure()
            runner.save()
        points.append(runner.points[-1])
    if runner:
        runner.points = points
        runner.report(target)


if __name__ == "__main__":
    main()
