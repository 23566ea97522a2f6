"""Amortized mean with the inverse Fisher information of the decoder as covariance: no search, no variance head."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae import linalg
from curvae.argument_checks import check_least
from curvae.curvature import Linearization, MatrixFree, Status, linearize
from curvae.curvature.routes.matrix_free import stochastic_log_det
from curvae.inference.encoder_start import outputs, write_posterior
from curvae.inference.inference import AffinePosterior, Amortized, Inferred, as_precise
from curvae.model import LatentVariableModel
from curvae.posteriors import ImplicitGaussian, PrecisionGaussian
from curvae.typing import Batch, Info


class FisherGaussian(Amortized):
    r"""``q(z | x) = N(m(x), M^-1)`` with ``M = J' F J + prior precision`` at ``m(x) = encoder(x)``.

    ``J = d eta / dz`` and F is the likelihood's Fisher information about eta, ``1 / variance`` for a Gaussian output
    and ``p (1 - p)`` for a Bernoulli one. The encoder gives D values only; the covariance, correlations included, is
    what the decoder says of that point. Where the encoder's mean is the mode this is the Laplace posterior.

    Up to ``dense`` dimensions M is formed and factored. Beyond, q is an ``ImplicitGaussian``, which draws without it:
    ``z = m + M^-1 y`` by conjugate gradients, ``y = e1 + J'F^(1/2) e2`` distributed as N(0, M). Its log-determinant is
    an estimate, and no gradient flows through M.

    M sees the decoder's slope alone: it is positive definite whatever the reconstruction, and is the Hessian of
    ``-log p(x, z)`` where the decoder is linear or the reconstruction perfect.

    Args:
        encoder: the network, from a batch of data to D values.
        through: whether gradients flow through M, which takes second derivatives of the decoder. Without them the ELBO
            loses the gradient of a covariance that is near its best, exactly 0 where the decoder is linear.
        dense: the most dimensions for which M is formed.
        route: a route of the curvature engine; the cheapest that fits if not given.
        probes: of the log-determinant beyond ``dense``.
        lanczos: products for each probe.

    Info: ``log_joint`` and ``grad_norm`` (1, B) at the mean, ``status`` (B,): whether M could be factored as it is.
    Beyond ``dense``, ``log_det`` and ``log_det_error`` (B,).

    Raises:
        ValueError: fewer than 1 probe or Lanczos step; in use, an encoder that does not give D values.

    Reference: after Zacherl, Frank and Ensslin, *Probabilistic Autoencoder Using Fisher Information*, Entropy 23 (2021)
    1640. Whether gradients flow through M there is not known to us.

    Example:
        >>> import torch
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(3), torch.nn.Linear(3, 10), Gaussian(10, scale=0.3))
        >>> q = FisherGaussian(torch.nn.Linear(10, 3))(model, Batch(torch.randn(8, 10), torch.arange(8))).posterior
        >>> q.mean.shape, q.covariance.shape
        (torch.Size([8, 3]), torch.Size([8, 3, 3]))
    """

    alone = False

    def __init__(
        self,
        encoder: nn.Module,
        through: bool = True,
        dense: int = 256,
        route: type[Linearization] | None = None,
        probes: int = 16,
        lanczos: int = 20,
    ):
        super().__init__(encoder)
        check_least("FisherGaussian", 1, probes=probes, lanczos=lanczos)
        self.through = through
        self.dense = dense
        self.route = route
        self.probes = probes
        self.lanczos = lanczos

    def start_from(self, posterior: AffinePosterior) -> bool:
        return write_posterior(self.encoder, posterior, outputs(self.encoder), scales=False)

    def forward(self, model: LatentVariableModel, batch: Batch) -> Inferred:
        mean = self.encoded(batch, model.prior.size, "D")
        with torch.autocast(mean.device.type, enabled=False), model.evaluating():
            mean = as_precise(mean, batch)
            infer = self._formed if model.prior.size <= self.dense else self._free
            return infer(model, batch, mean)

    def _formed(self, model: LatentVariableModel, batch: Batch, mean: Float[Tensor, "B D"]) -> Inferred:
        near = linearize(model, batch, mean.detach(), self.route)
        with torch.set_grad_enabled(self.through and torch.is_grad_enabled()):
            here = near.at(mean).local()
            factor, ok = linalg.cholesky(here.precision)
        return Inferred(PrecisionGaussian(mean, factor), _info(here.log_joint, here.grad, ok))

    def _free(self, model: LatentVariableModel, batch: Batch, mean: Float[Tensor, "B D"]) -> Inferred:
        with torch.no_grad():
            near = MatrixFree.of(model, batch, mean.detach())
            log_det, error = stochastic_log_det(near.product, near.z, self.probes, self.lanczos)
            info = _info(near.log_joint, near.grad(), torch.ones_like(log_det, dtype=torch.bool))
        info = {**info, "log_det": log_det, "log_det_error": error}
        return Inferred(ImplicitGaussian(mean, log_det, near), info)


def _info(log_joint: Tensor, grad: Tensor, ok: Tensor) -> Info:
    """There is no search that could fall short: only what M and the values are like."""
    status = torch.where(ok, Status.OK, Status.NOT_PSD)
    status = torch.where(log_joint.isfinite() & grad.isfinite().all(-1), status, Status.NONFINITE)
    return {"log_joint": log_joint.detach()[None], "grad_norm": grad.detach().norm(dim=-1)[None], "status": status}
