"""Autoencoders with a posterior over their decoder's weights."""

from collections.abc import Callable
from typing import Literal

from torch import nn

from curvae.likelihoods import Likelihood
from curvae.systems.base import LatentSystem, register
from curvae.systems.iwae import iwae
from curvae.systems.vae import vae
from curvae.systems.vlae import vlae
from curvae.systems.weight_posteriors import WeightWord, with_weight_posterior
from curvae.typing import DataSpec

BaseWord = Literal["vae", "vlae", "iwae"]
BASES: dict[str, Callable[..., LatentSystem]] = {"vae": vae, "vlae": vlae, "iwae": iwae}


@register("bayesian-vae", "weights")
def bayesian_vae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    weights: WeightWord = "last-layer",
    base: BaseWord = "vae",
    draws: int = 8,
    prior_precision: float | None = None,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """VAE with a posterior over its decoder's weights: predictions average over draws, and may disagree.

    Reference: Daxberger and Hernández-Lobato, *Bayesian Variational Autoencoders for Unsupervised Out-of-Distribution
    Detection*, arXiv:1912.05651, 2019.

    Differences: the encoder is trained with the base, and with all members of an ensemble; where weights are drawn
    later it stays as it is. More posteriors over weights than theirs, which is sghmc.

    Args:
        weights: the posterior (docs, Weights): last-layer, diagonal, subnetwork, ensemble, swag, sgld, sghmc,
            bayes-by-backprop.
        base: the system that is trained.
        draws: models that predictions average over; of an ensemble its members.
        prior_precision: of the weights, but for ensemble and swag; None = learned.

    Raises:
        ValueError: no such word, or fewer than 1 draw.

    Example:
        >>> bayesian_vae(DataSpec((64,)), latent=2, hidden=32, weights="swag").weights.rank
        20
    """
    networks = {"encoder": encoder, "decoder": decoder, "likelihood": likelihood, "start": start}
    made = BASES[base](spec, latent=latent, hidden=hidden, depth=depth, **networks)
    return with_weight_posterior(made, weights, draws, prior_precision)
