"""Who looks on while a run trains: progress, callbacks and a logger of Lightning; no part of its configuration."""

import importlib.util
from collections.abc import Sequence
from typing import Any, NamedTuple

from curvae.training.errors import RunError

LOGGERS = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
"""Name of a logger -> the package that it needs."""


class Monitoring(NamedTuple):
    """Who looks on; see :func:`curvae.fit`."""

    progress: bool = True
    callbacks: Sequence[Any] = ()
    """Of ``lightning.pytorch.Callback``."""
    logger: Any = None
    """A name of :data:`LOGGERS`, or a ``lightning.pytorch.loggers.Logger``."""


def check_logger(logger: Any) -> None:
    """
    Raises:
        ValueError: a name that no logger has.
        RunError: the package of this logger is not installed.

    Example:
        >>> check_logger("tensorbord")
        Traceback (most recent call last):
        ...
        ValueError: logger: expected one of tensorboard, wandb, mlflow, or a Logger of Lightning; got 'tensorbord'.
    """
    if not isinstance(logger, str):
        return
    if logger not in LOGGERS:
        names = ", ".join(LOGGERS)
        raise ValueError(f"logger: expected one of {names}, or a Logger of Lightning; got {logger!r}.")
    if importlib.util.find_spec(LOGGERS[logger]) is None:
        extra = "track" if logger == "tensorboard" else logger
        raise RunError(f"logger: {logger!r} needs a package that is not installed; run: pip install 'curvae[{extra}]'.")
