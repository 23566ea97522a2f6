"""``curvae bracket``: log p(x) between two bounds, on data that the model of a run makes."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from curvae.cli.flags import Source
from curvae.cli.opening import open_run
from curvae.cli.output import fresh, show, write_json
from curvae.cli.parsing import command


def _path(
    temperatures: int = 300, data: int = 50, chains: int = 16, samples: int = 500, seed: int = 0
) -> dict[str, int]:
    """How the bounds are made.

    Args:
        temperatures: of the path from prior to posterior; more of them bring the bounds together.
        data: number of data drawn from the model.
        chains: in each direction, for each of them.
        samples: draws for the estimate by importance sampling.
        seed: of everything drawn.
    """
    return {"temperatures": temperatures, "count": data, "chains": chains, "samples": samples, "seed": seed}


@command(
    "RUN [flags]",
    "curvae bracket runs/digits-vlae --temperatures 300 --data 50",
    "curvae bracket runs/digits-vlae --temperatures 3000 --data 20 --to bracket.json",
    path=Source("words and flags", _path),
)
def bracket(
    run: Path,
    to: Path | None = None,
    force: bool = False,
    progress: bool = True,
    trust: Sequence[str] | None = None,
    *,
    path: Mapping[str, int],
) -> None:
    """Enclose log p(x) of data drawn from the model of a run, and see whether its estimates lie between the bounds.

    Annealed importance sampling bounds log p(x) from below, and from above where an exact draw of the posterior is
    known, as it is for data that the model made. Bounds that are near one another say how good an estimate is.

    Args:
        to: also write the bounds of each example into this file (.json).
    """
    from curvae import evaluation
    from curvae.evaluation.likelihood.scores import bar

    with fresh(to, force) as numbers, bar(path["count"], progress) as report:
        found = evaluation.bracket(open_run(run, trust or ()).system(), **path, report=report)
        write_json(numbers, found.to_dict())
    show(f"{run}: {found.title}", ["", ""], found.rows())
    print(found.verdict)
