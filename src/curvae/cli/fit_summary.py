"""The last lines of ``curvae fit``."""

import shlex
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING

from curvae.cli.errors import Interrupted
from curvae.cli.parsing import given

if TYPE_CHECKING:
    from curvae.training import RunFolder

ROWS = 4096
"""That are scored at a time."""


def print_fit_summary(run: "RunFolder") -> None:
    """The last lines of a fit: baselines on the validation data, verdicts, where the run lies and what comes next."""
    import torch

    from curvae.baselines import fit_system_baselines
    from curvae.verdicts import bound_verdicts, last_stage, training_verdicts

    data, metrics = run.data(), run.metrics()
    rows = data.validation
    known = [
        each for each in fit_system_baselines(run.system(), data.train.sample, data.spec) if each.density is not None
    ]
    parts = [(each, [each.log_prob(some.x, some.mask, some.context) for some in rows.batches(ROWS)]) for each in known]
    means = {each.label: float(torch.cat(found).mean()) for each, found in parts}
    bounds = metrics["validation_bound"][last_stage(metrics)]
    judged = [run.status.get("best")] if run.system().stages()[-1].monitor == "value" else []
    best = max((value for value in (*bounds, *judged) if value is not None and value == value), default=float("-inf"))
    if starts := run.restarts:
        told = ", ".join(f"{_reached(bound)} (seed {seed})" for seed, bound in starts.items())
        print(f"starts, best validation bound in nats: {told}; the best is kept")
    if means:
        beside = "; ".join(f"{name} {value:.2f}" for name, value in means.items())
        print(f"validation, nats: bound {best:.2f}; in closed form: {beside}")
    for each in (*training_verdicts(metrics, f"curvae fit --continue {run.path}"), *bound_verdicts(best, means)):
        print(f"verdict: {each}")
    print(f"run: {run.path}\nnext: curvae evaluate {run.path}")


def _reached(bound: float) -> str:
    return f"{bound:.2f}" if isfinite(bound) else "diverged"


@contextmanager
def interruptible(command: str) -> Iterator[None]:
    """Whatever interrupts a fit, the command that goes on with it is named."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):  # Ctrl-C, and what Lightning makes of SIGTERM
        raise Interrupted(f"{command} goes on from here.") from None


def resume_command(words: Sequence[str], folder: Path | str) -> str:
    """The command line that goes on with what it left in this folder."""
    out = [] if given("--out", words) else ["--out", str(folder)]
    return shlex.join(["curvae", "fit", *words, *out])
