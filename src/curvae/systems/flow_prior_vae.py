"""The variational autoencoder with a learned RealNVP prior."""

from dataclasses import replace
from typing import Literal

from torch import nn

from curvae.inference import AmortizedGaussian
from curvae.likelihoods import Likelihood
from curvae.priors import coupling_prior
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import elbo_with_warmup, standard_encoder, standard_generative_model
from curvae.systems.stages import Prepared, Stage, single
from curvae.systems.starts import start_for
from curvae.typing import DataSpec

NETWORKS, PRIOR = ("model.decoder", "model.likelihood", "inference"), ("model.prior",)
SHARE = 0.3
"""Of the time for the prior, where it is fitted by itself."""


@register("flow-prior-vae", "model", own_prior=True)
def flow_prior_vae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    flows: int = 6,
    width: int = 64,
    fitting: Literal["joint", "after", "alternating"] = "joint",
    rounds: int = 3,
    kl_warmup: int = 0,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """VAE whose prior is learned: RealNVP takes z to standard normal noise, and p(z) to the aggregate of posteriors.

    Reference: after Xu et al., *On the Necessity and Effectiveness of Learning the Prior of Variational Auto-Encoder*,
    arXiv:1905.13452, 2019.

    Differences: halves of z alternate, without learned mixing of all dimensions or normalization of activations between
    them; 6 couplings. How the paper divides the time where the prior is not fitted jointly is not known to us.

    Args:
        flows: number of couplings; the identity to begin with.
        width: of the two hidden layers of each coupling's network.
        fitting: of the prior: with the networks, after them, or in turn with them.
        rounds: turns of networks and prior, where they alternate.

    Raises:
        ValueError: fewer than 1 coupling or round.

    Example:
        >>> [stage.name for stage in flow_prior_vae(DataSpec((64,)), latent=2, hidden=32, fitting="after").stages()]
        ['networks', 'prior']
    """
    prior = coupling_prior(latent, flows, [width, width])
    model = standard_generative_model(spec, latent, hidden, depth, decoder, likelihood, prior)
    inference = AmortizedGaussian(encoder or standard_encoder(spec, latent, hidden, depth))
    stages = fitted_by(fitting, rounds, start_for(start, encoder, decoder))
    return LatentSystem(model, inference, elbo_with_warmup(kl_warmup), stages=stages)


def fitted_by(fitting: str, rounds: int, begin: Prepared) -> tuple[Stage, ...]:
    """The stages in which prior and networks are trained.

    Raises:
        ValueError: no such way, or fewer than 1 round.
    """
    if fitting not in ("joint", "after", "alternating") or rounds < 1:
        words = "joint, after or alternating, rounds of 1 or more"
        raise ValueError(f"fitting: expected {words}; got {fitting!r} and {rounds}.")
    if fitting == "joint":
        return single(begin)
    turns = 1 if fitting == "after" else rounds
    ends = [""] if turns == 1 else [f"-{turn + 1}" for turn in range(turns)]
    each = [
        (Stage(f"networks{end}", NETWORKS, share=(1 - SHARE) / turns), Stage(f"prior{end}", PRIOR, share=SHARE / turns))
        for end in ends
    ]
    first, *others = (stage for pair in each for stage in pair)
    return replace(first, start=begin), *others
