"""Mode search where the information varies from example to example: with one in place of all of them."""

from dataclasses import dataclass, field
from typing import ClassVar

from curvae.curvature.linearization import Linearization
from curvae.curvature.routes.decoder_route import Observed
from curvae.curvature.routes.shared_information import Majorizer, Shared, SharedInformation
from curvae.curvature.solvers.line_search import StepRule
from curvae.curvature.solvers.solver import Newton, Solver, State, Step


@dataclass(frozen=True)
class Majorized(Solver):
    """A search with one information for all data; each one's own is then needed once, at the end.

    For a likelihood whose information varies with eta (Bernoulli, categorical) and a decoder that ends in a linear
    layer: ``Lam0 = M'(W'F0 W)M + prior precision`` costs what it does for a Gaussian, as W'F0 W is formed once a batch.
    With the :class:`Majorizer` every full step climbs by what it promises or more, within a linear piece of the
    decoder; it is shorter than Newton's, the more so the surer the model is. :class:`MeanInformation` takes longer
    ones, which the step rule has to watch. Elsewhere (Gaussian likelihoods, other decoders) this is the inner solver,
    unchanged.

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

    information: SharedInformation = field(default_factory=Majorizer)
    inner: Solver = field(default_factory=Newton)
    runs_to_convergence: ClassVar[bool] = True

    @property
    def rule(self) -> StepRule:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.rule

    @property
    def bfgs(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.bfgs

    @property
    def newton(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.newton

    def init(self, here: Linearization) -> tuple[Linearization, State]:
        frame = here.frame
        known = isinstance(frame, Observed)
        shared = Shared.by(self.information, frame.model, frame.batch, here.z) if known else None
        return self.inner.init(shared or here)

    def step(self, t: int, here: Linearization, state: State) -> Step:
        return self.inner.step(t, here, state)
