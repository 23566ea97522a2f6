"""Loggers of Lightning by name, in the run folder unless the environment names a server."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger

from curvae.training.loop.checkpoint import Session

PROJECT = "curvae"
"""Of Weights & Biases, unless WANDB_PROJECT names another, and of MLflow."""

SERVER = os.environ.get("MLFLOW_TRACKING_URI")
"""Of MLflow, read before MLflow itself sets it to that of the first run."""


@contextmanager
def open_logger(logger: Any, session: Session) -> Iterator[Logger | None]:
    """The logger of a run for a while, which goes on where that of an earlier process of the run ended.

    Weights & Biases takes one run a process: what is opened here is finished here, so that the next fit has its own.

    Args:
        logger: a name, or a logger, which is taken as it is.
        session: of the run; it keeps under which identifier a service knows the run.
    """
    found = _named(logger, session) if isinstance(logger, str) else logger
    code = 1
    try:
        yield found
        code = 0
    finally:
        if isinstance(logger, str) and isinstance(found, WandbLogger):
            found.experiment.finish(exit_code=code)


def _named(name: str, session: Session) -> Logger:
    if name == "tensorboard":
        return TensorBoardLogger(session.path, name=name, version="", purge_step=session.position.step + 1)
    found = SERVICES[name](session, session.tracked.get(name))
    if session.writes:
        _ = found.experiment
        session.tracked[name] = str(found.version)
    return found


def _wandb(session: Session, identifier: str | None) -> WandbLogger:
    project = None if "WANDB_PROJECT" in os.environ else PROJECT
    return WandbLogger(session.path.name, session.path, identifier, project=project)


def _mlflow(session: Session, identifier: str | None) -> MLFlowLogger:
    uri = SERVER or f"sqlite:///{session.path.absolute()}/mlflow.db"
    return MLFlowLogger(PROJECT, session.path.name, tracking_uri=uri, run_id=identifier)


SERVICES: dict[str, Callable[[Session, str | None], WandbLogger | MLFlowLogger]] = {"wandb": _wandb, "mlflow": _mlflow}
