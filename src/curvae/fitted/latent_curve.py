"""How many latents: the same system trained with several numbers of them, compared on held-out rows."""

import inspect
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from curvae import registry
from curvae.fitted.fit_and_load import as_data, fit, split_options
from curvae.noise import keep_random_states

if TYPE_CHECKING:
    from curvae.evaluation import LatentCurve

FOLDER = "latent-{}"
"""Of the run with so many latents."""


def latent_curve(
    system: str,
    data: Any,
    latent: str | Iterable[int] = range(1, 9),
    out: str | Path | None = None,
    samples: int = 200,
    *,
    label: Any = None,
    progress: bool = True,
    **options: Any,
) -> "LatentCurve":
    """Train a system with several numbers of latents, and see which is enough.

    Each is an ordinary run, ``out/latent-1`` and so on. The same call again takes up the one that was cut off and
    leaves finished ones as they are. They are compared on the validation part, row by row, by the evaluator's estimate
    of log p(x); ``out`` also gets ``latent-curve.csv`` and ``latent-curve.png``.

    Args:
        system: the name of a system that has an argument ``latent``.
        data: as :func:`curvae.fit` takes them.
        latent: ``"1:8"`` (both ends), ``"1,2,4,8"``, or whole numbers.
        out: the folder of all runs; by default ``runs/<system>-<data>-latents-<number>``.
        samples: draws for each row and proposal.
        label: see :func:`curvae.fit`.
        progress: see :func:`curvae.fit`.
        options: further ones of :func:`curvae.fit`.

    Raises:
        ValueError: numbers of latents that are none, a system without an argument ``latent`` or without evidence.
        RunError: a folder in ``out`` holds something else.

    Example:
        >>> import numpy as np, tempfile
        >>> x = np.random.default_rng(0).normal(size=(200, 3))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     curve = latent_curve("vae", x, "1:2", f"{folder}/runs", hidden=8, epochs=2, progress=False)
        >>> [size.latent for size in curve.sizes], curve.sizes[0].difference_stderr >= 0
        ([1, 2], True)
    """
    from curvae.evaluation.comparison.latent_curve import measure_curve, require_evidence, sizes_of
    from curvae.report.latent_curve import draw_latent_curve
    from curvae.training.errors import FinishedError
    from curvae.training.run.claim import next_name
    from curvae.training.run.run_folder import RunFolder

    sizes = sizes_of(latent)
    if "latent" not in inspect.signature(registry.system(system)).parameters:
        raise ValueError(f"latent: expected a system with this argument, got {system!r}.")
    taken = inspect.signature(fit).parameters
    ours = {name: value for name, value in options.items() if name in taken}
    arguments, theirs = split_options(
        system, data, {name: value for name, value in options.items() if name not in taken}
    )
    with keep_random_states():
        table = as_data(data, label, theirs)
        require_evidence(registry.system(system)(table.spec, **arguments, latent=sizes[0]))
        folder = next_name(f"{system}-{table.recipe.get('name', 'data')}-latents") if out is None else Path(out)
        folder, runs = folder.expanduser(), {}
        for size in sizes:
            place = folder / FOLDER.format(size)
            try:
                runs[size] = fit(system, table, out=place, progress=progress, latent=size, **ours, **arguments).run
            except FinishedError:
                runs[size] = RunFolder(place, table)
        curve = measure_curve(runs, samples, progress)
        curve.write(folder)
        draw_latent_curve(curve, folder)
    return curve
