"""Laplace inference: the posterior mode by Newton's method, and a full-covariance Gaussian there."""

from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from curvae import linalg
from curvae.argument_checks import check_least
from curvae.curvature import (
    Gram,
    Linearization,
    Mode,
    Newton,
    Record,
    SearchHistory,
    Solver,
    last_step,
    linearize,
    take_newton_steps,
)
from curvae.inference.implicit import with_gradient
from curvae.inference.inference import Continued, Inference, Inferred, as_precise, prefixed
from curvae.model import BatchModel, LatentVariableModel
from curvae.posteriors import PrecisionGaussian
from curvae.priors import Prior
from curvae.typing import Batch, Info, PerDatum


class Laplace(Continued):
    r"""``q(z | x) = N(mu, Lam(mu)^-1)``: mu is found from the encoder's mean by Newton steps on log p(x, z).

    With ``J = d eta / dz`` and the likelihood's expected information F, one step is
    ``mu <- mu + a Lam^-1 grad log p(x, mu)``, ``Lam = J' F J + prior precision``; for a Gaussian output this is the
    update of Park, Kim and Kim, *Variational Laplace Autoencoders*, ICML 2019.

    By default the search runs without autograd, steps are accepted only if they raise the log joint, and the last
    Newton step is differentiated: at a fixed point that is the exact gradient of the mode. The encoder then learns from
    ``encoder_bound = -1/2 (mu0 - mu)' Lam (mu0 - mu)``, everything but its own mean mu0 detached.

    The decoder is evaluated in evaluation mode (dropout off, batch normalization by its running statistics), whatever
    mode it is in; afterwards it is in that mode again.

    On the Gram route of a ReLU decoder under a normal prior, where Lam is constant within a linear piece, the
    covariance is that of the piece where the last step began: one Jacobian less, exact once the search has settled.

    Args:
        start: the inference whose posterior's ``center`` is mu0.
        steps: number of Newton steps; 0 keeps the encoder's mean.
        solver: what the steps before the last one are made of, and how long every step is.
        unroll: differentiate through every step, as the paper does; the encoder then learns through the steps. These
            are Newton steps by the solver's rule.
        route: a route of the curvature engine; the cheapest that fits if not given.
        tolerance: Newton decrement (nats), what the ELBO loses to a mean off the mode, below which an example is ok.
        constant: the posterior is held constant for the gradient. At the mode the ELBO has next to no slope in it: with
            an exact posterior this is the gradient of log p(x) (Fisher's identity). It spares the derivative of the
            last step, the dearest part of an update.

    With a memory (:meth:`remember`) the search for a training example starts at the mode found on its last visit, where
    that is the better start; the modes are state, so they are saved with the run. Other data start at mu0.

    Info: ``log_joint`` and ``grad_norm`` (T+1, B) over all T points that the solver may visit, ``status`` (B,),
    ``steps`` (B,), how many steps really moved an example, and ``gained`` (B,), the nats by which the log joint rose.

    Raises:
        ValueError: negative steps, or ``constant`` with ``unroll``.

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

    per_example: ClassVar[tuple[str, ...]] = ("modes",)
    modes: Float[Tensor, "N D"]

    def __init__(
        self,
        start: Inference,
        steps: int = 2,
        solver: Solver | None = None,
        unroll: bool = False,
        route: type[Linearization] | None = None,
        tolerance: float = 0.1,
        constant: bool = False,
    ):
        if unroll and constant:
            raise ValueError("Laplace: unroll differentiates every step, constant none; choose one of them.")
        super().__init__(start)
        check_least("Laplace", 0, steps=steps)
        self.steps = steps
        self.solver = solver or Newton()
        self.unroll = unroll
        self.route = route
        self.tolerance = tolerance
        self.constant = constant
        self.register_buffer("modes", torch.empty(0, 0))

    def remember(self, rows: int, prior: Prior) -> None:
        """Keep the modes of ``rows`` training data under this prior; none is known yet."""
        size = (rows, sum(prior.blocks))
        self.modes = torch.full(size, torch.nan, dtype=self.modes.dtype, device=self.modes.device)

    def forward(self, model: LatentVariableModel, batch: Batch, steps: int | None = None) -> Inferred:
        """The posterior of each example; ``steps`` in place of our own number of them."""
        check_least("Laplace", 0, steps=steps)
        steps = self.steps if steps is None else steps
        begin = self.start(model, batch)
        mu0 = begin.posterior.center
        with torch.autocast(mu0.device.type, enabled=False), model.evaluating():
            mu0 = as_precise(mu0, batch)
            with torch.set_grad_enabled(torch.is_grad_enabled() and not self.constant):
                near = linearize(model, batch, mu0.detach(), self.route)
            if self.unroll or steps == 0:
                found = self._unrolled(near.at(mu0), steps)
            else:
                found = self._searched(self._begin(near, batch), steps)
        bound = None if self.unroll or steps == 0 else _encoder_bound(mu0, found.mean, found.precision)
        posterior = PrecisionGaussian(found.mean, found.factor)
        info = {**begin.info, **self._info(found, steps)}
        state = {"modes": found.mean.detach()} if len(self.modes) else {}
        state |= prefixed("start", begin.state)
        if isinstance(near, Gram) and near.cheap and not self.constant:
            return Inferred(posterior, info, bound, state, BatchModel(model, near.log_likelihood))
        return Inferred(posterior, info, bound, state)

    def _unrolled(self, near: Linearization, steps: int) -> Mode:
        """Every step differentiated, and the precision at the end."""
        near, seen = take_newton_steps(near, steps, self.solver.rule)
        here = near.local()
        seen = [*seen, Record.of(here.log_joint, here.grad)]
        factor, ok = linalg.cholesky(here.precision)
        left = 0.5 * torch.linalg.vecdot(here.grad, linalg.solve_spd(factor, here.grad)).detach()
        return Mode(near.z, here.precision, factor, seen, left, torch.zeros_like(ok), ok)

    @torch.no_grad()
    def _begin(self, near: Linearization, batch: Batch) -> Linearization:
        """At the encoder's mean, or at the mode remembered where that has the higher log joint."""
        if len(self.modes) == 0:
            return near
        known = self.modes[batch.index.clamp(min=0)].to(near.z.dtype)
        usable = (batch.index >= 0) & known.isfinite().all(-1)
        there = near.at(torch.where(usable.unsqueeze(-1), known, near.z))
        here = near.at(near.z)
        return there.where(there.log_joint > here.log_joint, here)

    def _searched(self, begin: Linearization, steps: int) -> Mode:
        """A search without gradients, a last step with them, and the precision."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.constant):
            if self.solver.runs_to_convergence:
                return self._settled(begin, steps)
            near, seen = self.solver.search(begin, steps - 1, self.tolerance)
            mode = last_step(near, len(seen), self.solver.rule)
            return mode._replace(seen=[*seen, *mode.seen])

    def _settled(self, begin: Linearization, steps: int) -> Mode:
        """A search to the end, without gradients; then the precision, which the derivative of the mode awaits."""
        near, seen = self.solver.search(begin, steps, 0.1 * self.tolerance)
        factors: list[Tensor] = []
        mu = with_gradient(near.z, lambda mode: near.at(mode).grad(), lambda v: linalg.solve_spd(factors[0], v))
        end = near.at(mu)
        here = end.local()
        factor, ok = linalg.cholesky(here.precision)
        factors.append(factor.detach())
        with torch.no_grad():
            grad = here.grad.detach()
            step = linalg.solve_spd(factors[0], grad)
            tried = self.solver.rule.advance(len(seen), end.detach(), grad, step)
            left = 0.5 * torch.linalg.vecdot(grad, step)
        seen = [*seen, Record.of(here.log_joint, grad)]
        return Mode(mu, here.precision, factor, seen, left, tried.good.logical_not(), ok)

    def _info(self, found: Mode, steps: int) -> Info:
        """What the search did, padded to T + 1 entries."""
        *seen, end = found.seen
        if self.unroll or steps == 0:
            total = steps
        else:
            total = self.solver.visits(steps) if self.solver.runs_to_convergence else self.solver.visits(steps - 1) + 1
        padding = [seen[-1] if seen else end] * (total - len(seen))
        trace = SearchHistory.of([*seen, *padding, end], found.left, found.stuck, found.ok, self.tolerance)
        return trace.info


def _encoder_bound(mu0: Tensor, mu: Tensor, precision: Tensor) -> PerDatum:
    """``-1/2 (mu0 - mu)' Lam (mu0 - mu)``, all but mu0 detached: the log joint that mu0 misses."""
    with torch.no_grad():  # linear in mu0 for autograd: a product with Lam less
        offset = mu0 - mu
        slope = (precision @ offset.unsqueeze(-1)).squeeze(-1)
    return 0.5 * torch.linalg.vecdot(offset, slope) - torch.linalg.vecdot(mu0 - mu.detach(), slope)
