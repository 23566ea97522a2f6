"""The variational Laplace autoencoder."""

from collections.abc import Callable

import torch
from torch import nn

from curvae.curvature import Newton, PaperSchedule
from curvae.inference import AmortizedGaussian, Inference, Laplace, refit
from curvae.likelihoods import Likelihood
from curvae.objectives import Bound, monte_carlo_elbo
from curvae.systems.base import LatentSystem, Level, Stage, register
from curvae.systems.parts import standard_encoder, standard_model, train
from curvae.typing import Batch, DataSpec, Table

NOISE_ROWS = 512
"""Training data from which a budget's runs take the output noise under the refined posterior, after each epoch."""


@register("vlae")
def vlae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    steps: int = 2,
    bfgs: int = 8,
    warmup: float = 0.5,
    budget: bool = False,
    memory: bool = False,
    published: bool = False,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
) -> LatentSystem:
    """Variational Laplace autoencoder: the posterior's mode by Newton's method, a full covariance there.

    Reference: Park, Kim and Kim, *Variational Laplace Autoencoders*, ICML 2019.

    Differences: by default the search takes full Newton steps with backtracking and its last step is differentiated;
    ``published=True`` takes the paper's step ``0.5 / (t + 1)`` and differentiates through all of them. Training starts
    as a plain VAE for a share ``warmup`` of the epochs, which costs far less per epoch; 0 trains as the paper does.

    Args:
        spec: shape and support of the data (``data.spec``).
        latent: number of latent dimensions D.
        hidden: width of the hidden layers.
        depth: number of hidden layers, in encoder and decoder.
        steps: number of Newton steps.
        bfgs: cheap quasi-Newton steps after each Newton step but the last; none where ``published``.
        warmup: share of the epochs, in [0, 1), trained as a plain VAE first.
        budget: refine more or less from epoch to epoch, as the inference gap comes to be worth the time, in place of
            ``warmup``: a plain VAE's step, one Newton step, or all of them. Whatever they were trained with, the
            weights that are kept have the output noise of the refined posterior.
        memory: start the search for a training datum at the mode of its last visit; keeps N x D numbers.
        published: the paper's step schedule, unrolled, instead of backtracking Newton.
        encoder: your own network, from a batch of data to 2 D values.
        decoder: your own network, from (N, D) to the likelihood's parameters.
        likelihood: your own; by default Gaussian with one learned variance, Bernoulli or categorical, by the data.

    Raises:
        ValueError: warmup outside [0, 1); ``budget`` with ``published``, which takes all steps always.

    Example:
        >>> [stage.name for stage in vlae(DataSpec((64,)), latent=2, hidden=32).stages()]
        ['vae', 'laplace']
    """
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup is a share of the epochs, in [0, 1); got {warmup}.")
    if budget and published:
        raise ValueError("budget chooses among numbers of steps, published takes all always; choose one of them.")
    model = standard_model(spec, latent, hidden, depth, decoder, likelihood)
    start = AmortizedGaussian(encoder or standard_encoder(spec, latent, hidden, depth))
    solver = Newton(PaperSchedule()) if published else Newton(bfgs=bfgs)
    inference = Laplace(start, steps, solver, unroll=published)

    def keep(table: Table) -> None:
        inference.remember(len(table) if memory else 0, latent)

    def fit_noise(table: Table) -> None:
        rows = torch.linspace(0, len(table) - 1, min(len(table), NOISE_ROWS)).long()
        mask = None if table.mask is None else table.mask[rows]
        refit(model, inference.with_steps(1), Batch.of(table.x[rows], mask))

    def bound_of(inference: Inference) -> Callable[[Batch], Bound]:
        return lambda batch: system.bound_of(inference, batch)

    if budget:
        counts = sorted({min(steps, 1), steps})
        refined = [Level(f"{n} steps", bound_of(inference.with_steps(n)), 3.5 + 0.5 * n) for n in counts]
        levels = (Level("amortized", bound_of(start), 1.0), *refined)
        stages = (train(model, "laplace", keep, levels=levels, finish=fit_noise),)
    elif warmup:
        first = train(model, "vae", bound=bound_of(start), share=warmup)
        stages = (first, Stage("laplace", prepare=keep, share=1 - warmup))
    else:
        stages = (train(model, "laplace", keep),)
    system = LatentSystem(model, inference, monte_carlo_elbo, stages=stages)
    return system
