"""The variational Laplace autoencoder."""

import math

from torch import nn

from curvae.curvature import Newton, PaperSchedule
from curvae.inference import AmortizedGaussian, AveragedCurvature, AveragedLaplace, Laplace
from curvae.likelihoods import Likelihood
from curvae.objectives import monte_carlo_elbo
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import standard_encoder, standard_generative_model
from curvae.systems.stages import BoundBy, Remember, Stage, warmed_up
from curvae.systems.starts import start_for
from curvae.typing import DataSpec


def refined_cost(spec: DataSpec, latent: int, hidden: int, rounds: int = 0) -> float:
    """Of an update with the Newton search, in updates of a plain VAE: timed at 2 to 50 latents, 10 to 3,072 values."""
    curvature = latent * hidden / (6 * (math.prod(spec.event) + hidden))
    return 1.7 + curvature + rounds * (1.5 + 1.8 * curvature)


@register("vlae", "first")
def vlae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    steps: int = 2,
    bfgs: int = 4,
    warmup: float = 0.7,
    memory: bool = False,
    published: bool = False,
    rounds: int = 0,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """Variational Laplace autoencoder: the posterior's mode by Newton's method, a full covariance there.

    Reference: Park, Kim and Kim, *Variational Laplace Autoencoders*, ICML 2019.

    Differences: by default the search takes full Newton steps with backtracking; ``published=True`` takes the paper's
    step ``0.5 / (t + 1)`` and differentiates through all of them. Training starts as a plain VAE for a share ``warmup``
    of the time, which costs far less per update; the decoder that comes of it is then trained with the posterior held
    constant. With 0 the posterior is refined from the first update, and its last step differentiated.

    Args:
        steps: number of Newton steps.
        bfgs: cheap quasi-Newton steps after each Newton step but the last; none where ``published``.
        warmup: share of the time, in [0, 1), trained as a plain VAE first.
        memory: start the search for a training example at the mode of its last visit; keeps N x D numbers.
        published: the paper's step schedule, unrolled, instead of backtracking Newton.
        rounds: of averaged curvature after the search, towards the best Gaussian; ours.

    Raises:
        ValueError: warmup outside [0, 1).

    Example:
        >>> [stage.name for stage in vlae(DataSpec((64,)), latent=2, hidden=32).stages()]
        ['vae', 'laplace']
    """
    model = standard_generative_model(spec, latent, hidden, depth, decoder, likelihood)
    first = AmortizedGaussian(encoder or standard_encoder(spec, latent, hidden, depth))
    solver = Newton(PaperSchedule()) if published else Newton(bfgs=bfgs)
    search = "inference.start" if rounds else "inference"
    prepare = (Remember(search),) if memory else ()
    stage = Stage("laplace", cost=refined_cost(spec, latent, hidden, rounds), prepare=prepare)
    begin = start_for(start, encoder, decoder)
    stages = warmed_up(stage, warmup, BoundBy(f"{search}.start"), begin, judged=BoundBy())
    inference = Laplace(first, steps, solver, unroll=published, constant=warmup > 0 and not published)
    if rounds:
        inference = AveragedLaplace(inference, AveragedCurvature(rounds))
    return LatentSystem(model, inference, monte_carlo_elbo, stages=stages)
