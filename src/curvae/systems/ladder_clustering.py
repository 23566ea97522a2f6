"""The variational ladder autoencoder with a mixture over each level, or over the deepest: clustering by level."""

from typing import Literal

from torch import nn

from curvae.argument_checks import check_least
from curvae.inference import AmortizedLabels
from curvae.likelihoods import Likelihood
from curvae.priors import MixturePrior, ProductPrior, StandardNormal
from curvae.systems.base import LatentSystem, register
from curvae.systems.parts import elbo_with_warmup, ladder_parts, standard_network
from curvae.systems.priors import StartPrior
from curvae.systems.stages import BoundBy, Stage, initialize_likelihood
from curvae.typing import DataSpec

NETWORKS = ("model.decoder", "model.likelihood")
LADDER = 0.25
"""Of the time for the ladder under N(0, I)."""
CHEAP, GATE = 0.1, 0.1
"""The same where an update of the rest costs several times as much, and for q(y | x) alone: where it is a network."""
PASS = 0.6
"""Time of an update for each component that the decoder is passed for, in updates of the ladder."""


@register("ladder-clustering", "levels", own_prior=True)
def ladder_clustering(
    spec: DataSpec,
    latent: int = 4,
    layers: int = 3,
    components: int = 10,
    clustered: Literal["every", "deepest"] = "every",
    hidden: int = 256,
    depth: int = 1,
    kl_warmup: int = 500,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
) -> LatentSystem:
    """A variational ladder with a learned mixture of Gaussians over each level: clusters by level of abstraction.

    Reference: after Willetts, Roberts and Holmes, *Disentangling to Cluster: Gaussian Mixture Variational Ladder
    Autoencoders*, arXiv:1909.11501, 2019.

    Differences: weights of components are learned; fully connected networks. Public text does not say how labels are
    inferred there, nor how training starts. Here with mixtures over every level ``q(y | x)`` is the mean of
    ``p(y | z)`` over q(z | x), as in variational deep embedding; with one over the deepest it is a network, q(z | x, y)
    is moved by y there, and the bound sums over y exactly, at one decoder pass for each component.

    Starts at random: a flat ladder under N(0, I) comes first, for a quarter of the time (a tenth with a network of
    labels). Then components start at the clusters (k-means) of its posterior means, which a network of labels learns
    before all else goes on.

    Args:
        latent: size of each level.
        layers: number of levels; D = ``latent * layers``, the deepest first.
        components: of each mixture.
        clustered: levels with a mixture: every one, or the deepest alone, with labels from a network.
        hidden: width of all hidden layers.
        depth: number of hidden layers from each level to the next, in encoder and decoder.

    Raises:
        ValueError: latent, layers, components, hidden or depth below 1, or no such word.

    Example:
        >>> system = ladder_clustering(DataSpec((64,)), latent=2, layers=2, hidden=32, clustered="deepest")
        >>> [stage.name for stage in system.stages()]
        ['ladder', 'labels', 'clusters']
    """
    check_least("ladder_clustering", 1, latent=latent, layers=layers, hidden=hidden, depth=depth)
    prior = mixed_prior(clustered, latent, layers, components)
    model, first = ladder_parts(spec, prior, hidden, depth, encoder, decoder, likelihood)
    if clustered == "every":
        return LatentSystem(model, first, elbo_with_warmup(kl_warmup), stages=from_latents())
    gate = standard_network(spec, components * (1 + 2 * latent), hidden, depth * layers)
    inference = AmortizedLabels(first, gate, components, latent)
    return LatentSystem(model, inference, elbo_with_warmup(kl_warmup), stages=by_network(components))


def mixed_prior(clustered: str, latent: int, layers: int, components: int) -> ProductPrior:
    """Mixtures that are N(0, I) at first over the clustered levels, N(0, I) over the others.

    Raises:
        ValueError: no such word, or a size below 1.
    """
    if clustered not in ("every", "deepest"):
        raise ValueError(f"clustered: expected every or deepest; got {clustered!r}.")
    mixed = [MixturePrior(latent, components, spread=0.0) for _ in range(layers if clustered == "every" else 1)]
    return ProductPrior([*mixed, *(StandardNormal(latent) for _ in range(layers - len(mixed)))])


def from_latents() -> tuple[Stage, ...]:
    """The ladder under N(0, I); then all, from clusters of its posterior means on."""
    ladder = Stage("ladder", (*NETWORKS, "inference"), share=LADDER, start=initialize_likelihood)
    return ladder, Stage("clusters", share=1 - LADDER, start=StartPrior(None))


def by_network(components: int) -> tuple[Stage, ...]:
    """The same, and between them the network of labels learns those clusters; a pass for each costs time."""
    ladder = Stage(
        "ladder", (*NETWORKS, "inference.start"), BoundBy("inference.start"), share=CHEAP, start=initialize_likelihood
    )
    cost = 1 + PASS * components
    labels = Stage("labels", ("inference.gate",), share=GATE, cost=cost, start=StartPrior(None))
    return ladder, labels, Stage("clusters", share=1 - CHEAP - GATE, cost=cost)
