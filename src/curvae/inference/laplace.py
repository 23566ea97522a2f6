"""Laplace inference: the posterior mode by Newton's method, and a full-covariance Gaussian there."""

import torch
from torch import Tensor

from curvae import linalg
from curvae.curvature import Backtracking, Local, Route, StepRule, Trace, ascend, route_for
from curvae.curvature.search import newton
from curvae.inference.inference import Inference, Inferred, prefixed
from curvae.model import LatentVariableModel
from curvae.posteriors import PrecisionGaussian
from curvae.typing import Batch, Info, PerDatum


class Laplace(Inference):
    r"""``q(z | x) = N(mu, Lam(mu)^-1)``: mu is found from the encoder's mean by Newton steps on log p(x, z).

    With ``J = d eta / dz`` and the likelihood's expected information F, one step is
    ``mu <- mu + a Lam^-1 grad log p(x, mu)``, ``Lam = J' F J + prior precision``; for a Gaussian output this is the
    update of Park, Kim and Kim, *Variational Laplace Autoencoders*, ICML 2019.

    By default the search runs without autograd, steps are accepted only if they raise the log joint, and the last
    Newton step is differentiated: at a fixed point that is the exact gradient of the mode. The encoder then learns from
    ``encoder_bound = -1/2 (mu0 - mu)' Lam (mu0 - mu)``, everything but its own mean mu0 detached.

    Args:
        start: the inference whose posterior's ``center`` is mu0.
        steps: number T of Newton steps; 0 keeps the encoder's mean.
        rule: how long each step is.
        unroll: differentiate through every step, as the paper does; the encoder then learns through the steps.
        route: a route of the curvature engine; the cheapest that fits if not given.
        tolerance: Newton decrement (nats), what the ELBO loses to a mean off the mode, below which a datum is ok.

    Info: ``log_joint`` and ``grad_norm`` (T+1, B), ``status`` (B,).

    Raises:
        ValueError: negative steps.

    Example:
        >>> import torch
        >>> from curvae.inference import AmortizedGaussian, Laplace
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(3), torch.nn.Linear(3, 10), Gaussian(10, scale=0.3))
        >>> inference = Laplace(AmortizedGaussian(torch.nn.Linear(10, 6)), steps=1)
        >>> q = inference(model, Batch(torch.randn(8, 10), torch.arange(8))).posterior
        >>> q.mean.shape, q.covariance.shape, q.draw(5).z.shape
        (torch.Size([8, 3]), torch.Size([8, 3, 3]), torch.Size([5, 8, 3]))
    """

    def __init__(
        self,
        start: Inference,
        steps: int = 4,
        rule: StepRule | None = None,
        unroll: bool = False,
        route: type[Route] | None = None,
        tolerance: float = 0.1,
    ):
        super().__init__()
        if steps < 0:
            raise ValueError(f"Laplace: steps must be 0 or more; got {steps}.")
        self.start = start
        self.steps = steps
        self.rule = rule or Backtracking()
        self.unroll = unroll
        self.route = route
        self.tolerance = tolerance

    def forward(self, model: LatentVariableModel, batch: Batch) -> Inferred:
        begin = self.start(model, batch)
        mu0 = begin.posterior.center
        with torch.autocast(mu0.device.type, enabled=False):
            mu0 = mu0.to(batch.x.dtype) if batch.x.is_floating_point() else mu0.float()
            route, z, visited = self._search(model, batch, mu0)
            mu, visited, stuck = self._last_step(route, z, visited) if self.steps else (z, [], _nowhere(z))
            here = route.local(mu)
            bound = None if self.unroll or self.steps == 0 else _encoder_bound(mu0, mu, here.precision)
            factor, info = self._describe([*visited, here], stuck)
        posterior = PrecisionGaussian.from_factor(mu, factor)
        return Inferred(posterior, {**begin.info, **info}, bound, prefixed("start", begin.state))

    def _search(self, model: LatentVariableModel, batch: Batch, mu0: Tensor) -> tuple[Route, Tensor, list[Local]]:
        """The route, built once for search and gradient alike, and all steps but the last."""
        steps = max(self.steps - 1, 0)
        route = route_for(model, batch, mu0.detach(), self.route)
        if self.unroll or self.steps == 0:
            return route, *ascend(route, mu0, steps, self.rule)
        with torch.no_grad():
            return route, *ascend(route, mu0, steps, self.rule, self.tolerance * 1e-3)

    def _last_step(self, route: Route, z: Tensor, visited: list[Local]) -> tuple[Tensor, list[Local], Tensor]:
        here, step = newton(route, z)
        with torch.no_grad():
            length = self.rule.length(self.steps - 1, route, z, here, step).unsqueeze(-1)
        # by default the value is that of the accepted step, the gradient that of the full one
        taken = length * step if self.unroll else length * step.detach() + (step - step.detach())
        return z + taken, [*visited, here], (length == 0).squeeze(-1)

    def _describe(self, visited: list[Local], stuck: Tensor) -> tuple[Tensor, Info]:
        """The factor of the precision at the end, and what the search did, padded to T + 1 entries."""
        end = visited[-1]
        factor, ok = linalg.cholesky(end.precision)
        decrement = 0.5 * (end.grad * linalg.solve_spd(factor, end.grad)).sum(-1).detach()
        padding = [end] * (self.steps + 1 - len(visited))
        trace = Trace.of([*visited, *padding], decrement, stuck, ok, self.tolerance)
        return factor, {"log_joint": trace.log_joint, "grad_norm": trace.grad_norm, "status": trace.status}


def _nowhere(z: Tensor) -> Tensor:
    return torch.zeros(len(z), dtype=torch.bool, device=z.device)


def _encoder_bound(mu0: Tensor, mu: Tensor, precision: Tensor) -> PerDatum:
    """``-1/2 (mu0 - mu)' Lam (mu0 - mu)``, all but mu0 detached: the log joint that mu0 misses."""
    offset = mu0 - mu.detach()
    return -0.5 * torch.einsum("bi,bij,bj->b", offset, precision.detach(), offset)
