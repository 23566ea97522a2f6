"""How work goes, on standard error: a bar on a terminal, elsewhere a line every now and then."""

import contextlib
import os
import sys
import time
from abc import abstractmethod
from datetime import timedelta
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from rich.console import Console


class Progress(contextlib.AbstractContextManager["Progress"]):
    """Work that is underway; whatever ends it, the terminal is as it was.

    Example:
        >>> with progress(total=3) as work:        # standard error is no terminal here
        ...     for step in range(3):
        ...         work.show(step, "fitting", "bound -1.50")    # and 30 seconds have not passed
    """

    every: ClassVar[float]
    """Seconds between two moments that are worth showing."""
    in_between: ClassVar[bool]
    """Whether what comes before the time is shown all the same."""

    def __init__(self, last: float):
        self._last = last

    def due(self) -> bool:
        """Whether it is time to look."""
        return time.monotonic() - self._last >= self.every

    def show(self, done: int, title: str, words: str) -> None:
        """So much is done.

        Args:
            done: of the total.
            title: what is at work, and where it stands.
            words: the numbers so far.
        """
        if self.in_between or self.due():
            self._show(done, title, words)
            self._last = time.monotonic()

    @abstractmethod
    def _show(self, done: int, title: str, words: str) -> None: ...


class Bar(Progress):
    """A bar on a terminal."""

    every = 0.2
    in_between = True

    def __init__(self, total: int, done: int, console: "Console"):
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Rich

        super().__init__(last=-self.every)
        columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Rich(*columns, TextColumn("{task.fields[words]}"), console=console, auto_refresh=False)
        self._task = self._bar.add_task("", total=total, completed=done, words="")

    def __enter__(self) -> "Progress":
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def _show(self, done: int, title: str, words: str) -> None:
        self._bar.update(self._task, completed=done, description=title, words=words, refresh=True)


class Lines(Progress):
    """A line every half a minute, with the time that is left."""

    every = 30.0
    in_between = False

    def __init__(self, total: int, done: int):
        super().__init__(last=time.monotonic())
        self._total, self._first, self._started = total, done, self._last

    def __exit__(self, *_: object) -> None:
        """The lines stand as they are."""

    def _show(self, done: int, title: str, words: str) -> None:
        passed = (time.monotonic() - self._started) / max(1, done - self._first)
        left = timedelta(seconds=round(passed * max(0, self._total - done)))
        say(f"{title}  {words}  {left} left")


def progress(total: int, done: int = 0, console: "Console | None" = None) -> Progress:
    """A bar where standard error is a terminal, lines elsewhere.

    Args:
        total: steps of the work.
        done: steps that were done before.
        console: standard error if not given.
    """
    if console is None and not on_terminal():
        return Lines(total, done)
    from rich.console import Console

    return Bar(total, done, console or Console(stderr=True))


def on_terminal() -> bool:
    """Whether standard error is a terminal that can move its cursor."""
    stream = sys.stderr
    if stream is None or stream.closed:
        return False
    return stream.isatty() and os.environ.get("TERM") not in ("dumb", "unknown")


def say(line: str) -> None:
    """A line on standard error, if there is anybody to read it."""
    if sys.stderr is not None:
        with contextlib.suppress(OSError, ValueError):  # closed, or a pipe that nobody reads any more
            print(line, file=sys.stderr, flush=True)
