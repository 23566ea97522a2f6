"""Mode search where the information varies from datum to datum: with one in place of all of them."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.curvature.decoded import Decoded
from curvae.curvature.route import Route
from curvae.curvature.search import Seen, StepRule
from curvae.curvature.shared import Bound, Information, Shared
from curvae.curvature.solvers import Newton, Solver


@dataclass(frozen=True)
class Majorized(Solver):
    """A search with one information for all data; each one's own is then needed once, at the end.

    For a likelihood whose information varies with eta (Bernoulli, categorical) and a decoder that ends in a linear
    layer: ``Lam0 = M'(W'F0 W)M + prior precision`` costs what it does for a Gaussian, as W'F0 W is formed once a batch.
    With the :class:`Bound` every full step climbs by what it promises or more, within a linear piece of the decoder;
    it is shorter than Newton's, the more so the surer the model is. :class:`Typical` takes longer ones, which the step
    rule has to watch. Elsewhere (Gaussian likelihoods, other decoders) this is the inner solver, unchanged.

    Args:
        information: what stands for the information.
        inner: the solver; its quasi-Newton steps learn what the one information misses.

    Example:
        >>> import torch
        >>> from curvae.inference import AmortizedGaussian, Laplace
        >>> from curvae.likelihoods import Bernoulli
        >>> from curvae.model import LatentVariableModel
        >>> from curvae.priors import StandardNormal
        >>> from curvae.typing import Batch
        >>> model = LatentVariableModel(StandardNormal(3), torch.nn.Linear(3, 10), Bernoulli(10))
        >>> inference = Laplace(AmortizedGaussian(torch.nn.Linear(10, 6)), solver=Majorized())
        >>> levels = inference(model, Batch(torch.ones(8, 10), torch.arange(8))).info["log_joint"]
        >>> bool((levels.diff(dim=0) >= -1e-4).all())
        True
    """

    information: Information = field(default_factory=Bound)
    inner: Solver = field(default_factory=Newton)

    @property
    def rule(self) -> StepRule:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.rule

    @property
    def settles(self) -> bool:
        return True

    def visits(self, steps: int) -> int:
        return self.inner.visits(steps)

    @torch.no_grad()
    def search(
        self, route: Route, z: Float[Tensor, "B D"], steps: int, tolerance: float = 0.0
    ) -> tuple[Float[Tensor, "B D"], list[Seen]]:
        shared = Shared.of(route.model, route.batch, self.information) if isinstance(route, Decoded) else None
        return self.inner.search(shared or route, z, steps, tolerance)
