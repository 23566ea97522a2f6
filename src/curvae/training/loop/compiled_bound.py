"""A stage's bound as one compiled graph, where that works; the bound itself otherwise."""

import warnings
from collections.abc import Callable
from typing import Any

import torch

from curvae.objectives import Bound
from curvae.typing import Batch


class Compiled:
    """``bound(batch)``, compiled for batches of ``rows`` examples; others, the last of an epoch say, go without.

    On CUDA the graph is captured too, forward and backward, so that a small network does not wait for the launches of
    its kernels. What cannot be compiled runs as it is, after one warning that says why.

    Args:
        bound: of each example of a batch.
        rows: size of the batches that are worth a graph.
        backend: of ``torch.compile``.

    Example:
        >>> compiled = Compiled(lambda batch: Bound(batch.x.sum(-1), batch.x.sum(-1)), rows=128)
        >>> compiled(Batch(torch.ones(2, 3), torch.arange(2))).value.tolist()   # too few rows: as it is
        [3.0, 3.0]
    """

    def __init__(self, bound: Callable[[Batch], Bound], rows: int, backend: str | Callable[..., Any] = "inductor"):
        self.bound = bound
        self.rows = rows
        self.backend = backend
        self._graph: Callable[[Batch], Bound] | None = None
        self._failed = False
        self._captured = backend == "inductor" and torch.cuda.is_available()

    def __call__(self, batch: Batch) -> Bound:
        if self._failed or len(batch.x) != self.rows:
            return self.bound(batch)
        if self._graph is not None:
            return self._run(self._graph, batch)
        try:
            mode = "reduce-overhead" if self._captured else None
            self._graph = torch.compile(self.bound, dynamic=False, backend=self.backend, mode=mode)
            return self._run(self._graph, batch)
        except Exception as error:
            self._failed = True
            reason = " ".join(str(error).split())[:200]
            warnings.warn(f"compile: goes on without ({type(error).__name__}: {reason})", stacklevel=2)
            return self.bound(batch)

    def _run(self, graph: Callable[[Batch], Bound], batch: Batch) -> Bound:
        if self._captured:
            torch.compiler.cudagraph_mark_step_begin()
        return graph(batch)
