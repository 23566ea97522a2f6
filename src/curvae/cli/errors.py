"""What goes wrong, told in one line on stderr; nothing of it is a traceback unless CURVAE_DEBUG=1."""

import errno
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from difflib import get_close_matches
from typing import TextIO

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


class UsageError(Exception):
    """A command line that cannot be read as it was written."""


class CommandError(Exception):
    """A command that was understood and cannot be carried out."""


class Interrupted(Exception):
    """Ctrl-C, with a line that says how to go on."""


def guarded(command: Callable[[Sequence[str]], None], words: Sequence[str]) -> int:
    """Run a command; its exit code, after one line on stderr if it failed."""
    _open_streams()
    try:
        command(words)
        sys.stdout.flush()
        return OK
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else OK
    except BrokenPipeError:  # who read it has seen enough
        _silence(sys.stdout)
        return FAILED
    except (KeyboardInterrupt, Interrupted) as stop:
        print_error(f"\ncurvae: interrupted{f': {stop}' if str(stop) else '.'}")
        return INTERRUPTED
    except Exception as error:
        if os.environ.get("CURVAE_DEBUG") == "1":
            raise
        print_error(f"curvae: error: {error_line(error)}")
        return USAGE if isinstance(error, UsageError) else FAILED


def print_error(line: str) -> None:
    """A line on stderr, where there still is one."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def _open_streams() -> None:
    """Streams that can be written to: closed ones lead nowhere, a letter that one does not have is spelled out."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper) and stream.errors != "backslashreplace":
            stream.reconfigure(errors="backslashreplace")


def _silence(stream: TextIO) -> None:
    """Let what is still to be flushed at the end go nowhere."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def error_line(error: Exception) -> str:
    """The error in one line.

    >>> error_line(UsageError("--latent: expected a whole number,\\n  got 'x'."))
    "--latent: expected a whole number, got 'x'."
    """
    line = " ".join(str(error).split())
    if line and isinstance(error, (UsageError, CommandError, ValueError, ImportError)):
        return line
    if is_disk_full(error):
        return f"{_file(error)}the disk is full; free some space, then give the same command again."
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return f"out of memory{f' ({line})' if line else ''}; take a smaller --batch-size or --hidden."
    if isinstance(error, OSError) and error.strerror:
        return f"{_file(error)}{error.strerror}; check the path and its permissions."
    if isinstance(error, OSError) and line:
        return line
    return f"{type(error).__name__}: {line or 'no message'}; CURVAE_DEBUG=1 shows where it came from."


def is_disk_full(error: BaseException) -> bool:
    """Whether a full disk is at the root of it, whoever noticed it first."""
    return any(
        (isinstance(e, OSError) and e.errno in (errno.ENOSPC, errno.EDQUOT))
        or "No space left on device" in str(e)
        or "PytorchStreamWriter failed writing" in str(e)
        for e in _chain(error)
    )


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``; did you mean X?`` if something known is close, else the empty string.

    >>> did_you_mean("vlea", ["vae", "vlae"])
    '; did you mean vlae?'
    """
    near = get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean {near[0]}?" if near else ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _file(error: BaseException) -> str:
    name = next((e.filename for e in _chain(error) if isinstance(e, OSError) and e.filename), None)
    return f"{name}: " if name else ""
