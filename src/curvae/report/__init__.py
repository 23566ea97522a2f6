"""The report of a run: one self-contained HTML page, made from the run folder's files and nothing else."""

import os
import tempfile
from pathlib import Path

from curvae.report import gallery, learning, page, posterior, quality, sections, style, words
from curvae.report.read import ReportError, Run, read

__all__ = ["ReportError", "html", "write"]

NAME = "report.html"


def write(run_path: str | Path) -> Path:
    """Write ``report.html`` into a run folder, over an older one; returns its path.

    The page needs no network and no other file. Parts whose data are missing are left out, with one line saying why.

    Args:
        run_path: the folder that ``curvae fit`` wrote, evaluated or not.

    Raises:
        ReportError: no run folder there, a file of it that cannot be read, or the page cannot be written.

    Example:
        >>> write("runs/nothing-here")
        Traceback (most recent call last):
        curvae.report.read.ReportError: runs/nothing-here: no such run folder; name the folder that ...
    """
    run = read(run_path)
    target = Path(run_path) / NAME
    try:
        _replace(target, html(run))
    except OSError as error:
        raise ReportError(
            f"{target}: cannot be written ({error.strerror or error}); free the place and try again."
        ) from error
    return target


def html(run: Run) -> str:
    """The page of a run that was read."""
    with style.applied():
        parts = [
            sections.findings(run),
            sections.what_was_run(run),
            sections.results(run),
            learning.learning(run),
            gallery.reconstructions(run),
            gallery.samples(run),
            quality.quality(run),
            gallery.latent(run),
            gallery.covariances(run),
            gallery.search(run),
            sections.per_datum(run),
            sections.divergence(run),
            posterior.information(run),
            posterior.gaps(run),
            posterior.calibration(run),
        ]
    version = str(run.config.get("curvae", "")).strip()
    foot = f"Written by curvae {version} from the files of {run.name}. All log-densities are in nats."
    return page.page(
        f"{run.system} on {run.data}", f"Run `{run.name}`", _headline(run), words.verdict(run), parts, foot
    )


def _headline(run: Run) -> str:
    if run.evaluation is None:
        return "Not evaluated yet"
    found = run.evaluation.log_likelihood
    return f"log p(x) = {words.measured(found)} nats" if found else "No log-likelihood"


def _replace(target: Path, text: str) -> None:
    """Write beside the target and move it into place, so that a reader never sees half a page."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(name).chmod(0o644)
        os.replace(name, target)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
