"""A progress bar with the running log-likelihood, on a terminal only."""

from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from curvae.evaluation.scores import Report


@contextmanager
def bar(total: int, wanted: bool = True) -> Iterator[Report | None]:
    """A function to call with the data done and the running estimate; None where nothing is to be shown.

    Example:
        >>> with bar(10, wanted=False) as report:
        ...     report is None
        True
    """
    console = Console(stderr=True)
    if not (wanted and console.is_terminal):
        yield None
        return
    words = TextColumn("log p(x) {task.fields[running]}")
    with Progress("evaluating", BarColumn(), MofNCompleteColumn(), words, TimeRemainingColumn(), console=console) as on:
        task = on.add_task("evaluating", total=total, running="...")
        yield lambda done, running: on.update(task, completed=done, running=f"{running:.2f} nats")
