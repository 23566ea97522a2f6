"""How an evaluation goes, with the running log-likelihood."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

from curvae.evaluation.likelihood.scores import Report
from curvae.progress import progress


@contextmanager
def bar(total: int, wanted: bool = True) -> Iterator[Report | None]:
    """A function to call with the rows done and the running estimate; None where nothing is to be shown.

    Example:
        >>> with bar(10, wanted=False) as report:
        ...     report is None
        True
    """
    if not wanted:
        yield None
        return
    with progress(total) as work:
        yield lambda done, running: work.show(done, f"evaluating {done}/{total}", _said(running))


def _said(running: float) -> str:
    return "" if math.isnan(running) else f"log p(x) {running:.2f} nats"
