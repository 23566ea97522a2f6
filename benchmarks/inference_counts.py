"""What inference asks of the decoder, counted: rows through it, precisions formed, and products with them."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

from torch import Tensor

from curvae.curvature import ROUTES, Point
from curvae.curvature.matrix_free import Products
from curvae.model import LatentVariableModel

PRECISIONS = ("local", "local_at")
VALUES = ("point", "log_joint", "log_likelihood", "slope", "grad_at", "residual")


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

        def call(route: Any, z: Tensor | Point, *rest: Any) -> Any:
            if self._busy:
                return function(route, z, *rest)
            at = z.z if isinstance(z, Point) else z
            setattr(self, kind, getattr(self, kind) + at.numel() // at.shape[-1])
            self._busy = True
            try:
                return function(route, z, *rest)
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
        kinds = {**dict.fromkeys(PRECISIONS, "precision"), **dict.fromkeys(VALUES, "decoder")}
        for route in ROUTES:
            for name, kind in kinds.items():
                stack.enter_context(patch.object(route, name, counts.watched(getattr(route, name), kind)))
        decode = counts.watched(LatentVariableModel.decode, "decoder")
        stack.enter_context(patch.object(LatentVariableModel, "decode", decode))
        product = counts.watched(Products.likelihood_product, "product")
        stack.enter_context(patch.object(Products, "likelihood_product", product))
        yield counts
