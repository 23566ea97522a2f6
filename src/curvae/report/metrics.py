"""The parts of the page that metrics say themselves: a table, a note and a figure."""

from curvae.evaluation.calibration import calibration
from curvae.evaluation.gaps import results as gaps
from curvae.evaluation.information import information
from curvae.evaluation.samples import quality
from curvae.report.page import Section
from curvae.report.read import Snapshot
from curvae.report.sections import drawn, left_out, not_evaluated


def quality_of(run: Snapshot) -> Section:
    """Samples and reconstructions against held-out data."""
    if run.evaluation is None:
        return Section("quality", quality.TITLE, absent=not_evaluated(run))
    found = run.evaluation.quality
    return drawn(quality.absent(run.name) if found is None else found.section(run.evaluation.split))


def information_of(run: Snapshot) -> Section:
    """What latents say about data, and the aggregate posterior against the prior."""
    if run.evaluation is None:
        return Section("information", information.TITLE, absent=not_evaluated(run))
    found = run.evaluation.information
    if found is None:
        return Section("information", information.TITLE, absent=left_out(run, information.ABSENT))
    return drawn(found.section())


def of_others(run: Snapshot) -> list[Section]:
    """What metrics found that are not of every report."""
    found = run.evaluation.metrics.values() if run.evaluation else ()
    return [drawn(each.section) for each in found if each.section is not None]


def gaps_of(run: Snapshot) -> Section:
    """The inference gap in its parts, and other families on the same decoder."""
    if run.gaps is None:
        return Section("gaps", gaps.TITLE, absent=left_out(run, run.missing("gaps")))
    return drawn(run.gaps.section(), run.gaps.picture(), run.gaps.warnings)


def calibration_of(run: Snapshot) -> Section:
    """Ranks and coverage on data drawn from the model."""
    if run.calibration is None:
        return Section("calibration", calibration.TITLE, absent=left_out(run, run.missing("calibrate")))
    return drawn(run.calibration.section(), run.calibration.picture())
