"""What inference asks of the decoder, counted: rows through it, precisions formed, and products with them."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from torch import Tensor

from curvae.curvature import ROUTES, Linearization, MatrixFree
from curvae.curvature.routes.last_linear_route import LastLayerLinearization
from curvae.model import LatentVariableModel


@dataclass
class Counts:
    """Rows, over all data.

    ``decoder``: forward passes, with or without the gradient that follows; on a route of the curvature engine, which
    need not go through the decoder, its values and gradients. ``precision``: matrices Lam. ``product``: vectors that
    were multiplied with one.
    """

    decoder: int = 0
    precision: int = 0
    product: int = 0
    _busy: bool = False

    def watched(self, function: Callable[..., Any], kind: str) -> Callable[..., Any]:
        """A method that counts, unless another one that does has called it."""

        def call(near: Any, *rest: Any) -> Any:
            if self._busy:
                return function(near, *rest)
            at: Tensor = rest[0] if rest else near.z
            setattr(self, kind, getattr(self, kind) + at.numel() // at.shape[-1])
            self._busy = True
            try:
                return function(near, *rest)
            finally:
                self._busy = False

        return call


@contextmanager
def counting() -> Iterator[Counts]:
    """Count meanwhile, for all models; compiled code, which could not be seen, is off.

    Example:
        >>> import torch
        >>> from curvae.curvature import local
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.priors import StandardNormal
        >>> from curvae.typing import Batch
        >>> from curvae.model import LatentVariableModel
        >>> model = LatentVariableModel(StandardNormal(2), torch.nn.Linear(2, 3), Gaussian(3))
        >>> with counting() as counts:
        ...     _ = model.decode(torch.zeros(5, 4, 2))
        ...     _ = local(model, Batch(torch.ones(4, 3), torch.arange(4)), torch.zeros(4, 2))
        >>> counts.decoder, counts.precision
        (20, 4)
    """
    counts = Counts()
    with ExitStack() as stack:
        stack.enter_context(patch.dict(os.environ, CURVAE_KERNEL="0"))
        watched = [
            (LatentVariableModel, "decode", "decoder"),
            (LastLayerLinearization, "log_likelihood", "decoder"),
            *((route, "_evaluated", "decoder") for route in ROUTES),
            (Linearization, "grad", "decoder"),
            (Linearization, "residual", "decoder"),
            (Linearization, "local", "precision"),
            (MatrixFree, "_information", "product"),
        ]
        for owner, name, kind in watched:
            stack.enter_context(patch.object(owner, name, counts.watched(getattr(owner, name), kind)))
        yield counts
