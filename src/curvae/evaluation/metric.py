"""What a metric is: it computes, and what it found says its rows of the table, its warnings and its part of the report.

A new one is one file (or a class of yours), passed to ``evaluate``; its findings are kept in ``evaluation.json`` as
plain data, so that the table and the report are made from the run folder alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from numpy.typing import NDArray

from curvae.data import ArrayTable, Data
from curvae.evaluation.estimate import Scores
from curvae.evaluation.settings import Settings
from curvae.io.typed import Plain
from curvae.latents import Axes
from curvae.systems import System
from curvae.training.run.run_folder import RunFolder
from curvae.typing import EMPTY

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Section:
    """A part of the report: a table with a note below it, or in one line why it is left out."""

    slug: str
    title: str
    header: tuple[str, ...] = ()
    """Names of the columns; numbers stand in all but the first, and but one called "What it is"."""
    rows: tuple[tuple[str, ...], ...] = ()
    note: str = ""
    absent: str = ""


class Picture(NamedTuple):
    """A figure of the report, drawn when the page is made."""

    draw: Callable[[], "Figure"]
    alt: str
    """What it shows, for those who do not see it."""
    caption: str
    """What one should see in it."""


@dataclass(frozen=True)
class Finding:
    """What a metric found, and how it is told.

    Example:
        >>> Finding({"bias": 0.25}, rows=(("bias", "0.25"),)).values["bias"]
        0.25
    """

    values: Mapping[str, Plain] = field(default_factory=dict)
    """Numbers, words, lists and mappings of them."""
    rows: tuple[tuple[str, ...], ...] = ()
    """Of the printed table: name and value."""
    warnings: tuple[str, ...] = ()
    """A sentence each."""
    section: Section | None = None


@dataclass(frozen=True)
class Subject:
    """What a metric is given: a system on its device, a table, and the scores of its first rows."""

    run: RunFolder
    system: System
    data: Data
    table: ArrayTable
    scores: Scores
    """Of each row, from :func:`curvae.evaluation.score`."""
    settings: Settings
    axes: Axes | None = None
    progress: bool = False


class Measured(NamedTuple):
    """What a metric computed: what ``evaluation.json`` says of it, and arrays of a value for each row."""

    value: Any
    """A :class:`Finding`, None where there is nothing to find, or the value of that field of an evaluation."""
    arrays: Mapping[str, NDArray] = EMPTY


@runtime_checkable
class Metric(Protocol):
    """A measure of a run beside its log p(x).

    Example:
        >>> class Spread:
        ...     name = "spread"
        ...
        ...     def check(self, system): ...
        ...
        ...     def compute(self, subject):
        ...         value = float(subject.scores["log_likelihood"].std())
        ...         return Measured(Finding({"nats": value}, rows=(("spread of log p(x)", f"{value:.2f} nats"),)))
        >>> metric: Metric = Spread()
    """

    @property
    def name(self) -> str:
        """Its key in ``evaluation.json``."""
        ...

    def check(self, system: System) -> None:
        """Complain of what cannot be measured, before anything is.

        Raises:
            ValueError: in one line.
        """
        ...

    def compute(self, subject: Subject) -> Measured: ...
