"""``curvae fit SYSTEM DATA --latent 1:8``: a run for each number of latents, and a held-out curve over them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curvae.cli.errors import UsageError, print_error
from curvae.cli.fit_summary import interruptible, resume_command
from curvae.cli.parsing import given

if TYPE_CHECKING:
    from curvae.data import Data
    from curvae.systems import System

FLAG = "--latent"


def asked(flags: Sequence[str]) -> tuple[int, ...]:
    """The numbers of latents of a range or a list; () where there is none of them.

    Raises:
        UsageError: a range that is none.
    """
    word = given(FLAG, flags) or ""
    if not {":", ","} & set(word):
        return ()
    from curvae.evaluation.comparison.latent_curve import sizes_of

    try:
        return sizes_of(word)
    except ValueError as error:
        raise UsageError(f"--{error}") from None


def first(flags: Sequence[str], sizes: Sequence[int]) -> list[str]:
    """The flags with the first of these numbers of latents, as they are read for one run.

    >>> first(["--latent", "1:3", "--seed=1"], [1, 2, 3]), first(["--latent=4,8"], [4, 8]), first(["--seed=1"], [])
    (['--latent', '1', '--seed=1'], ['--latent=4'], ['--seed=1'])
    """
    return list(flags) if not sizes else list(_replaced(flags, str(sizes[0])))


def _replaced(flags: Sequence[str], size: str) -> Iterator[str]:
    for before, word in zip(chain([""], flags), flags, strict=False):
        if before == FLAG:
            yield size
        else:
            yield f"{FLAG}={size}" if word.startswith(f"{FLAG}=") else word


def fit_each(
    sizes: Sequence[int],
    build: Callable[[int], "System"],
    data: "Data",
    training: Mapping[str, Any],
    words: Sequence[str],
) -> None:
    """Train what is not trained yet, then print and draw the curve.

    Args:
        sizes: numbers of latents.
        build: a system with so many, its weights drawn from the seed.
        data: of all runs.
        training: arguments of training; ``out`` is the folder of all runs.
        words: SYSTEM, DATA and flags, as they go on from here.
    """
    from curvae.evaluation.comparison.latent_curve import measure_curve, require_evidence
    from curvae.report.latent_curve import draw_latent_curve
    from curvae.training import RunFolder, fit
    from curvae.training.errors import FinishedError

    folder, runs, shown = Path(training["out"]), {}, training["progress"]
    with interruptible(resume_command(words, folder)):
        for number, size in enumerate(sizes, start=1):
            system, place = build(size), folder / f"latent-{size}"
            require_evidence(system)
            print_error(f"{number}/{len(sizes)}: {place}") if shown else None
            try:
                runs[size] = fit(system, data, **{**training, "out": place})
            except FinishedError:
                runs[size] = RunFolder(place, data, system)
        curve = measure_curve(runs, progress=shown)
    table, picture = curve.write(folder), draw_latent_curve(curve, folder)
    print(curve.to_text(), end="")
    print(f"written: {table}, {picture}\nnext: curvae evaluate {folder / f'latent-{curve.fewest}'}")
