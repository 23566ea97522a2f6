"""The command line: strings become objects here and in ``registry.py``, nowhere else."""

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

from curvae.cli.errors import UsageError, did_you_mean, guarded
from curvae.progress import say

__all__ = ["main"]

LOG = logging.getLogger("curvae")
COMMANDS = {
    "fit": ("train a system on data", "curvae.cli.fit", "fit"),
    "adopt": ("a model that was trained elsewhere as a run", "curvae.cli.adopt", "adopt"),
    "evaluate": ("log-likelihoods of a run, with errors and warnings", "curvae.cli.runs", "evaluate"),
    "report": ("write the report of a run, one HTML page", "curvae.cli.runs", "report"),
    "compare": ("runs side by side, paired by datum", "curvae.cli.runs", "compare"),
    "sample": ("draw new data from the model of a run", "curvae.cli.latents", "sample"),
    "encode": ("posterior means and covariances of data", "curvae.cli.latents", "encode"),
    "score": ("log p(x) of each row, and which of its columns are unusual", "curvae.cli.score", "score_"),
    "ood": ("how unknown each row is, by all scores, and how well they tell", "curvae.cli.ood", "ood"),
    "impute": ("what is missing in a table, filled in, with intervals", "curvae.cli.impute", "impute_"),
    "denoise": ("rows with known noise, cleaned, and how well each value is known", "curvae.cli.denoise", "denoise_"),
    "reconstruct": ("data as the latents of a run carry them", "curvae.cli.decoding", "reconstruct_"),
    "traverse": ("what each latent does, one at a time", "curvae.cli.decoding", "traverse_"),
    "refine": ("posteriors made better by steps on their ELBO, and by how much", "curvae.cli.refine", "refine"),
    "calibrate": (
        "whether posteriors are right, on data from the model",
        "curvae.cli.posterior_checks",
        "calibrate",
    ),
    "gaps": ("where the distance of the ELBO to log p(x) comes from", "curvae.cli.posterior_checks", "gaps"),
    "bracket": ("log p(x) between two bounds, on data drawn from the model", "curvae.cli.posterior_checks", "bracket"),
    "data": ("what is in a file, what was decided of it, and what to mend", "curvae.cli.data_summary", "data"),
    "list": ("systems and data sets", "curvae.cli.info", "list_"),
    "doctor": ("versions, devices, threads, caches, and what to mend", "curvae.cli.info", "doctor"),
}
"""Every command: its line, and the module and function that carry it out; a module is imported when it is needed."""

HELP = """usage: curvae COMMAND ...

Deep latent-variable models with an honest posterior.

commands:
{commands}

flags:
  -h, --help   show this, or the help of a command: curvae fit --help
  --version    show the version

examples:
  curvae fit vlae digits --latent 8 --hidden 128 --out runs/digits-vlae
  curvae evaluate runs/digits-vlae
  curvae report runs/digits-vlae
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        argv: its words without the program's name; those of the process if not given.

    Returns:
        The exit code: 0, or 2 if the line cannot be read, 1 if it cannot be carried out, 130 after Ctrl-C.
    """
    with log_to_stderr():
        return guarded(_run, sys.argv[1:] if argv is None else argv)


def _run(words: Sequence[str]) -> None:
    first = words[0] if words else "--help"
    if first in ("-h", "--help"):
        print(HELP.format(commands="\n".join(f"  {name:<12} {line}" for name, (line, *_) in COMMANDS.items())), end="")
    elif first == "--version":
        print(f"curvae {_version()}")
    else:
        _command(first)(words[1:])


def _command(name: str) -> Callable[[Sequence[str]], None]:
    if name not in COMMANDS:
        raise UsageError(f"{name}: no such command{did_you_mean(name, COMMANDS) or '; curvae --help lists them.'}")
    _, module, function = COMMANDS[name]
    return getattr(import_module(module), function)


def _version() -> str:
    from importlib.metadata import version

    return version("curvae")


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        say(f"curvae: {record.getMessage()}")


@contextmanager
def log_to_stderr() -> Iterator[None]:
    """The library's log, a line a message on stderr: what takes long, and what goes another way than was asked for.

    Example:
        >>> with log_to_stderr():
        ...     LOG.isEnabledFor(logging.INFO)
        True
    """
    handler, level = _Lines(), LOG.level
    LOG.addHandler(handler)
    LOG.setLevel(logging.INFO)
    try:
        yield
    finally:
        LOG.removeHandler(handler)
        LOG.setLevel(level)
