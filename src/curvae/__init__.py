"""Deep latent-variable models with an honest posterior."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from curvae import data
    from curvae.adopters import adopt
    from curvae.evaluation import compare, evaluate
    from curvae.fitted import Fitted, fit, latent_curve, load
    from curvae.training import RunError, RunFolder
    from curvae.typing import Batch, DataSpec

__all__ = [
    "Batch",
    "DataSpec",
    "Fitted",
    "RunError",
    "RunFolder",
    "adopt",
    "compare",
    "data",
    "evaluate",
    "fit",
    "latent_curve",
    "load",
]

_LATER = {
    "Batch": "curvae.typing",
    "DataSpec": "curvae.typing",
    "Fitted": "curvae.fitted",
    "RunFolder": "curvae.training",
    "RunError": "curvae.training",
    "adopt": "curvae.adopters",
    "compare": "curvae.evaluation",
    "evaluate": "curvae.evaluation",
    "fit": "curvae.fitted",
    "latent_curve": "curvae.fitted",
    "load": "curvae.fitted",
}


def __getattr__(name: str) -> Any:
    """Import what is heavy when it is first used."""
    if name == "data":
        return importlib.import_module("curvae.data")
    if name not in _LATER:
        raise AttributeError(f"module 'curvae' has no attribute {name!r}")
    return getattr(importlib.import_module(_LATER[name]), name)
