"""The report of a run: one self-contained HTML page, made from the run folder's files and nothing else."""

from pathlib import Path

from curvae.evaluation import formatting
from curvae.io import atomic
from curvae.renamed import renamed
from curvae.report import (
    blocks,
    gallery,
    geodesic_plot,
    learning,
    loadings,
    page,
    roll_outs,
    sections,
    style,
    verdict_sentences,
)
from curvae.report.snapshot import Snapshot, read_snapshot
from curvae.training.run import files, layout

__all__ = ["html", "write_report"]

__getattr__ = renamed(__name__, {"write": "curvae.report.write_report"})


def write_report(run_path: str | Path) -> Path:
    """Write ``report.html`` into a run folder, over an older one; returns its path.

    The page needs no network and no other file. Parts whose data are missing are left out, with one line saying why.

    Args:
        run_path: the folder that ``curvae fit`` wrote, evaluated or not.

    Raises:
        RunError: no run folder there, a file of it that cannot be read, or the page cannot be written.

    Example:
        >>> write_report("runs/nothing-here")
        Traceback (most recent call last):
        curvae.training.errors.RunError: runs/nothing-here: expected the folder of a run, found none.
    """
    run = read_snapshot(run_path)
    target = Path(run_path) / layout.REPORT
    atomic.remove_stale(target.parent)
    files.write_file(target, html(run))
    return target


def html(run: Snapshot) -> str:
    """The page of a run that was read."""
    with style.use_report_style():
        parts = [
            sections.findings_section(run),
            sections.run_section(run),
            sections.results_section(run),
            learning.learning_section(run),
            *(gallery.picture_section(run, slug) for slug in ("reconstructions", "samples", "completions")),
            *roll_outs.roll_out_sections(run),
            *geodesic_plot.geodesic_sections(run),
            sections.quality_section(run),
            *loadings.loading_sections(run),
            *blocks.block_sections(run),
            *(gallery.picture_section(run, slug) for slug in ("latent", "covariances", "search")),
            sections.per_example_section(run),
            sections.divergence_section(run),
            sections.information_section(run),
            *sections.other_metric_sections(run),
            sections.gaps_section(run),
            sections.calibration_section(run),
            sections.unknown_section(run),
        ]
    version = str(run.config.get("curvae", "")).strip()
    foot = f"Written by curvae {version} from the files of {run.name}. All log-densities are in nats."
    return page.page(
        f"{run.system} on {run.data}", f"Run `{run.name}`", _headline(run), verdict_sentences.verdict(run), parts, foot
    )


def _headline(run: Snapshot) -> str:
    if run.evaluation is None:
        return "Not evaluated yet"
    found = run.evaluation.log_likelihood
    return f"log p(x) = {formatting.format_estimate(found)} nats" if found else "No log-likelihood"
