"""Laplace inference for large latent spaces: Newton steps by conjugate gradients, no Jacobian formed."""

from collections.abc import Callable

import torch
from torch import Tensor

from curvae import linalg
from curvae.argument_checks import check_least
from curvae.curvature import ConjugateGradient, MatrixFree, Record, SearchHistory, Solver, has_changed
from curvae.curvature.routes.matrix_free import stochastic_log_det
from curvae.curvature.solvers.conjugate_gradient import solve
from curvae.inference.implicit import with_gradient
from curvae.inference.inference import Continued, Inference, Inferred, as_precise, prefixed
from curvae.model import LatentVariableModel
from curvae.posteriors import GaussianPosterior, ImplicitGaussian, Posterior, PrecisionGaussian
from curvae.typing import Batch, Info, PerDatum


class MatrixFreeLaplace(Continued):
    """``q(z | x) = N(mu, Lam(mu)^-1)`` as in ``Laplace``, with Lam known by its products alone.

    A Newton step is the first few iterations of conjugate gradients on ``Lam d = grad log p(x, mu)``, each of one
    product (two decoder passes), preconditioned by the encoder's variance: where q is the best diagonal Gaussian that
    is exactly ``1 / diag Lam``. Any decoder whose rows are independent will do, and nothing of size P x D is formed.

    At the mode, Lam is formed by D products where D is at most ``dense``, and the posterior is as exact as that of
    ``Laplace``. Beyond, it is an ``ImplicitGaussian``: draws by perturb-and-solve, and the log-determinant by
    stochastic Lanczos quadrature, whose error shifts the log-weights of an example. See there for what that means.

    The model learns through the mode by the implicit function theorem, ``mu' = Lam^-1 (grad log p(x, mu))'`` with mu
    held fixed on the right, solved in the backward pass. The encoder learns from
    ``encoder_bound = -1/2 (mu0 - mu)' Lam (mu0 - mu)``, everything but its own mean mu0 detached.

    As in ``Laplace``, the decoder is evaluated in evaluation mode, whatever mode it is in.

    Differences from ``Laplace``: no gradient flows through the precision, that is through the spread of the draws and
    the determinant; the bound is the same, as q is only a proposal.

    Args:
        start: the inference whose posterior's ``center`` is mu0.
        steps: number T of Newton steps; 0 keeps the encoder's mean.
        solver: what the steps are made of; more iterations of conjugate gradients cost more than they gain
            (``benchmarks/matrix_free.py``).
        precondition: by the variance of the encoder's posterior, where that is a Gaussian.
        tolerance: Newton decrement (nats), what the ELBO loses to a mean off the mode, below which an example is ok.
        dense: the most dimensions for which Lam is formed, once, at the mode: D products, fewer than the
            ``probes * lanczos`` of the estimate, and (B, D, D) in memory.
        probes: of the log-determinant beyond.
        lanczos: products for each probe.

    Info: ``log_joint`` and ``grad_norm`` (T+1, B), ``status`` (B,), ``steps`` (B,), how many really moved an example,
    ``gained`` (B,), the nats by which the log joint rose, ``log_det`` and ``log_det_error`` (B,).

    Raises:
        ValueError: negative steps, or fewer than 1 probe or Lanczos step.

    Example:
        >>> import torch
        >>> from curvae.inference import AmortizedGaussian, MatrixFreeLaplace
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(300), torch.nn.Linear(300, 10), Gaussian(10, scale=0.3))
        >>> inference = MatrixFreeLaplace(AmortizedGaussian(torch.nn.Linear(10, 600)))
        >>> found = inference(model, Batch(torch.randn(8, 10), torch.arange(8)))
        >>> found.posterior.draw(5).z.shape, found.info["log_det_error"].shape
        (torch.Size([5, 8, 300]), torch.Size([8]))
    """

    def __init__(
        self,
        start: Inference,
        steps: int = 4,
        solver: Solver | None = None,
        precondition: bool = True,
        tolerance: float = 0.1,
        dense: int = 256,
        probes: int = 16,
        lanczos: int = 20,
    ):
        super().__init__(start)
        check_least("MatrixFreeLaplace", 0, steps=steps)
        check_least("MatrixFreeLaplace", 1, probes=probes, lanczos=lanczos)
        self.steps = steps
        self.solver = solver or ConjugateGradient()
        self.precondition = precondition
        self.tolerance = tolerance
        self.dense = dense
        self.probes = probes
        self.lanczos = lanczos

    def forward(self, model: LatentVariableModel, batch: Batch) -> Inferred:
        begin = self.start(model, batch)
        mu0 = begin.posterior.center
        with torch.autocast(mu0.device.type, enabled=False), model.evaluating():
            mu0 = as_precise(mu0, batch)
            with torch.no_grad():
                near, seen = self._search(model, batch, mu0.detach(), begin.posterior)
                precision, inverse, ok, info = self._precision(near)
                grad = near.grad()
                left = 0.5 * (grad * inverse(grad)).sum(-1)
                info = {**begin.info, **info, **self._trace(seen, Record.of(near.log_joint, grad), left, ok).info}
            if self.steps == 0:
                mu, bound = mu0, None
            else:
                mu = with_gradient(near.z, lambda z: near.at(z).grad(), inverse)
                bound = _encoder_bound(mu0, near)
        if isinstance(precision, MatrixFree):
            return Inferred(ImplicitGaussian(mu, info["log_det"], near), info, bound, prefixed("start", begin.state))
        posterior = PrecisionGaussian(mu, precision)
        return Inferred(posterior, info, bound, prefixed("start", begin.state))

    def _search(
        self, model: LatentVariableModel, batch: Batch, z: Tensor, begin: Posterior
    ) -> tuple[MatrixFree, list[Record]]:
        """The point reached, and what was seen on the way."""
        variance = begin.variance.to(z) if self.precondition and isinstance(begin, GaussianPosterior) else None
        near, seen = self.solver.search(MatrixFree.of(model, batch, z, variance), self.steps, 1e-3 * self.tolerance)
        assert isinstance(near, MatrixFree)
        return near, seen

    def _precision(self, near: MatrixFree) -> tuple[Tensor | MatrixFree, Callable[[Tensor], Tensor], Tensor, Info]:
        """The factor of Lam or its products, the solution with it, whether that is sound, and its determinant."""
        if near.z.shape[-1] <= self.dense:
            factor, ok = linalg.cholesky(near.local().precision)
            log_det = 2 * linalg.half_log_det(factor)
            info = {"log_det": log_det, "log_det_error": torch.zeros_like(log_det)}
            return factor, lambda v: linalg.solve_spd(factor, v), ok, info
        value, error = stochastic_log_det(near.product, near.z, self.probes, self.lanczos)
        info = {"log_det": value, "log_det_error": error}
        return near, lambda v: solve(near.product, v), torch.ones_like(value, dtype=torch.bool), info

    def _trace(self, seen: list[Record], end: Record, left: PerDatum, ok: Tensor) -> SearchHistory:
        """What the search did, padded to T + 1 entries; ``left`` are the nats to the mode."""
        last = seen[-1] if seen else end
        padding = [last] * (self.solver.visits(self.steps) - len(seen))
        stuck = ~has_changed(last.log_joint, end.log_joint)
        return SearchHistory.of([*seen, *padding, end], left, stuck, ok, self.tolerance)


def _encoder_bound(mu0: Tensor, near: MatrixFree) -> PerDatum:
    """``-1/2 (mu0 - mu)' Lam (mu0 - mu)``, all but mu0 detached: the log joint that mu0 misses."""
    offset = mu0 - near.z
    fixed = offset.detach()
    with torch.no_grad():
        image = near.product(fixed)
    return -0.5 * ((2 * offset - fixed) * image).sum(-1)
