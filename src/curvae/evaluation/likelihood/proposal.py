"""Proposals: ways to draw z for every system with continuous latents, so that models are compared."""

import math
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor

from curvae.curvature import ConjugateGradient
from curvae.inference import (
    AveragedCurvature,
    AveragedLaplace,
    Inference,
    Inferred,
    Laplace,
    MatrixFreeLaplace,
    MultimodalLaplace,
)
from curvae.model import LatentVariableModel, require_continuous
from curvae.posteriors import (
    DensityPosterior,
    DiagonalGaussian,
    FullGaussian,
    ImplicitGaussian,
    Mixture,
    Posterior,
    PrecisionGaussian,
    StudentMixture,
)
from curvae.systems import HasModel
from curvae.typing import Batch

STEPS = 8
"""Newton steps of the common proposal: enough to forget where a system's own posterior started them."""
LARGE = 2048
"""The most latents for which the common proposal forms the precision of each example, and knows its determinant."""
SEVERAL = 64
"""The most latents for which several modes are looked for: in more dimensions no draw of the prior falls near one."""
STARTS, CANDIDATES = 4, 512
"""Searches for each example, all but the first from the best of so many draws of the prior."""
SCOUTS, REACH = 0.15, 9.0
"""Share of the draws from components wider than that, and by what factor."""
WIDTH = 1.3
"""Factor on the covariance of the common proposal, up to 16 latents; see :func:`width_for`.

Measured on a VLAE and a VAE of MNIST (D = 16, 256 hidden units, 500 draws): from 1.0 over 1.1 to 1.3 the share of data
with k-hat above 0.7 falls from 27 over 23 to 12 % and from 32 over 33 to 22 %, and the error per example by a quarter;
at 2.0 that error is back where it was at 1.0.
"""


class Widened(Inference):
    r"""Another method's Gaussian posterior, ``N(m, width * C)`` instead of ``N(m, C)``.

    Importance weights have a finite variance only where the target's variance is below twice the proposal's in every
    direction, and a Laplace posterior sees the curvature at the mode alone: beyond the next kink of a ReLU decoder the
    target can be far wider. Widening covers that, against the heavy tail that a narrow proposal gives the weights.
    Where C was exact it costs
    ``ESS / S = (sqrt(2 width - 1) / width)^D``: at ``width = 1.3`` that is 0.65 for D = 16 and 0.25 for D = 50.

    Args:
        inference: the method, whose posterior must be Gaussian.
        width: factor on the covariance.

    Raises:
        ValueError: width not positive.

    Example:
        >>> import torch
        >>> from curvae.inference import AmortizedGaussian
        >>> inference = AmortizedGaussian(torch.nn.Linear(5, 6))
        >>> batch = Batch(torch.ones(4, 5), torch.arange(4))
        >>> own, wide = inference(None, batch).posterior, Widened(inference, 4.0)(None, batch).posterior
        >>> torch.allclose(wide.variance, 4 * own.variance), torch.equal(wide.mean, own.mean)
        (True, True)
    """

    def __init__(self, inference: Inference, width: float = WIDTH):
        super().__init__()
        if not width > 0:
            raise ValueError(f"Widened: width is a factor on the covariance and must be positive; got {width}.")
        self.inference = inference
        self.width = width

    def forward(self, model: LatentVariableModel | None, batch: Batch) -> Inferred:
        inferred: Inferred = self.inference(model, batch)
        return inferred._replace(posterior=widen(inferred.posterior, self.width))


def with_wide_components(law: StudentMixture, share: float = SCOUTS, width: float = REACH) -> StudentMixture:
    """A mixture that gives a share of its draws to copies of its components of a far larger covariance.

    What lies beyond the next kink of a decoder then gets a draw or two, of so large a weight that k-hat sees it.

    Example:
        >>> q = StudentMixture(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1, 1), torch.zeros(1, 1), None)
        >>> with_wide_components(q, 0.5, 3.0).covariance.tolist()
        [[[2.0]]]
    """
    wide, logits = law.widened(width), law.logits.log_softmax(-1)
    both = torch.cat([logits + math.log1p(-share), logits + math.log(share)], 1)
    return StudentMixture(torch.cat([law.loc, wide.loc], 1), torch.cat([law.packed, wide.packed], 1), both, law.freedom)


def width_for(latents: int) -> float:
    r"""Width of the common proposal in D dimensions: ``1 + 0.3 min(1, sqrt(16 / D))``.

    Widening costs ``ESS / S = (sqrt(2 w - 1) / w)^D``, about ``exp(-D (w - 1)^2 / 2)``: a fixed width would leave one
    draw in ten million at D = 600. So ``w - 1`` falls as ``1 / sqrt(D)``, and ``ESS / S`` stays near 0.5.

    Example:
        >>> [round(width_for(latents), 3) for latents in (2, 16, 64, 1600)]
        [1.3, 1.3, 1.15, 1.03]
        >>> [round(((2 * w - 1) ** 0.5 / w) ** d, 2) for d in (16, 64, 1600) if (w := width_for(d))]
        [0.65, 0.58, 0.51]
    """
    return 1 + (WIDTH - 1) * min(1.0, math.sqrt(16 / latents))


def widen(posterior: Posterior, width: float) -> DensityPosterior:
    """``N(m, C)`` to ``N(m, width * C)``; each component of a mixture of them, which then is drawn from as one.

    Raises:
        TypeError: a posterior that is not one of the Gaussians.
    """
    scale = width**0.5
    match posterior:
        case DiagonalGaussian():
            return DiagonalGaussian(posterior.loc, posterior.log_scale + math.log(scale))
        case FullGaussian():
            return FullGaussian(posterior.loc, _scaled(posterior.packed, scale))
        case PrecisionGaussian():
            return PrecisionGaussian(posterior.loc, posterior.factor / scale)
        case ImplicitGaussian():
            return replace(posterior, width=width * posterior.width)
        case Mixture():
            return with_wide_components(StudentMixture.of(posterior).widened(width))
        case _:
            raise TypeError(f"widen: expects a Gaussian posterior; got {type(posterior).__name__}.")


def common_proposal(
    system: HasModel,
    steps: int = STEPS,
    width: float | None = None,
    average: AveragedCurvature | None = None,
    several: bool = True,
) -> Inference:
    """The Laplace posteriors at the modes found, widened: a search begins at the center of the system's own posterior.

    Three others begin at draws of the prior that explain the example best, up to 64 latents; beyond, there is one
    search. The proposal depends on the model and the example; the system's inference only says where that one begins.
    Beyond 2,048 latents no precision is formed: steps, draws and densities go by its products, and the log-determinant
    is an estimate, half of whose error (``log_det_error``) is in log p(x), and much alike for all data.

    Args:
        system: with a model of continuous latents.
        steps: Newton steps.
        width: factor on the covariance; that of :func:`width_for` if not given.
        average: rounds of averaged curvature after a single search, which see how far a target reaches beyond the kinks
            nearby. For up to 2,048 latents. ``docs/studies/averaged-curvature.md`` has what they do to k-hat.
        several: whether more than one mode is looked for.

    Raises:
        ValueError: discrete latents, which have no curvature.
    """
    model, start = system.parts()[:2]
    require_continuous(model, "common proposal")
    size = sum(model.prior.blocks)
    search = Laplace(start, steps) if size <= LARGE else _matrix_free(start, steps)
    if average is not None:
        search = AveragedLaplace(search, average)
    elif several and size <= SEVERAL:
        search = MultimodalLaplace(start, STARTS, partial(Laplace, steps=steps), candidates=CANDIDATES)
    return Widened(search, width_for(size) if width is None else width)


def _matrix_free(start: Inference, steps: int) -> Inference:
    return MatrixFreeLaplace(start, steps, ConjugateGradient(iterations=20), dense=0, probes=64)


def defensive_mixture(own: DensityPosterior, common: DensityPosterior) -> Mixture:
    """Half the system's own posterior, half the common proposal, drawn stratum by stratum.

    Its weights are at most twice those of either part where that part has its mass, so one bad part cannot spoil them:
    a defensive mixture (Hesterberg, Technometrics 1995).

    Example:
        >>> left, right = (DiagonalGaussian(torch.full((1, 1), m), torch.zeros(1, 1)) for m in (-2.0, 2.0))
        >>> defensive_mixture(left, right).mean.item()
        0.0
    """
    return Mixture((own, common), torch.zeros(len(own.center), 2, dtype=own.center.dtype, device=own.center.device))


def _scaled(packed: Tensor, scale: float) -> Tensor:
    """A triangular factor, whose diagonal is stored as its logarithm, times a constant."""
    shift = torch.full_like(packed.diagonal(dim1=-2, dim2=-1), math.log(scale))
    below = packed.tril(-1) * scale
    return below + torch.diag_embed(packed.diagonal(dim1=-2, dim2=-1) + shift)
