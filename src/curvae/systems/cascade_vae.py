"""The cascade of two variational autoencoders that clusters."""

from typing import Literal

from torch import nn

from curvae.inference import AmortizedGaussian
from curvae.likelihoods import Gaussian, Likelihood
from curvae.model import LatentVariableModel
from curvae.networks import MLP
from curvae.objectives import elbo
from curvae.priors import MixturePrior
from curvae.systems.base import LatentSystem, register
from curvae.systems.cascade import FIRST, CascadeSystem, StartOnCodes, channels_of, code_bound, joint_bound
from curvae.systems.parts import check_sizes, elbo_with_warmup, standard_encoder, standard_system
from curvae.systems.priors import StartPrior
from curvae.systems.stages import Prepared, Stage
from curvae.systems.starts import LinearStart
from curvae.typing import DataSpec

NOISE = 0.3
"""Standard deviation to which the second model keeps codes. One that is learned takes all of them for noise: under
N(0, I) codes are alike in all directions."""
MOST = 10
"""Latents of the second model, where nothing is said."""
SHARES = (0.5, 0.2, 0.3)
"""Of the time for the first model, for the second under N(0, I), and for its mixture."""


@register("cascade-vae", "levels", own_prior=True)
def cascade_vae(
    spec: DataSpec,
    latent: int = 16,
    cluster_latent: int | None = None,
    components: int = 2,
    fitting: Literal["in-turn", "joint"] = "in-turn",
    hidden: int = 256,
    cluster_hidden: int = 64,
    depth: int = 2,
    kl_warmup: int = 0,
    encoder: nn.Module | None = None,
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> CascadeSystem:
    """Two VAEs in a cascade: the second models codes and residuals of the first, with a mixture prior: clusters.

    Our reconstruction. What is evaluated and sampled is the first model, a VAE of x; the second only clusters: see
    :class:`curvae.systems.CascadeSystem`.

    Reference: after Sun, Guo, Kim and Brunner, *Unsupervised Star Galaxy Classification with Cascade Variational
    Auto-Encoder*, arXiv:1910.14056, 2019.

    Differences: of that system public text gives the aim, stars apart from galaxies without labels and alike in every
    run, and neither the number of its stages nor what passes between them, sizes, losses or code. Here there are two;
    codes and the logarithm of the mean squared residual of each channel pass; the mixture starts at clusters (k-means)
    of the second model's posterior means, as in variational deep embedding.

    Args:
        cluster_latent: latents of the second model; by default one for each code, 10 at most.
        components: of its mixture, the clusters.
        fitting: in turn, the first model being left as it is then, or from there on jointly, with no gradient of the
            second reaching the first.
        cluster_hidden: width of the hidden layers of the second model.

    Raises:
        ValueError: sizes below 1, no such word.

    Example:
        >>> import torch
        >>> system = cascade_vae(DataSpec((5, 8, 8)), latent=3, hidden=16)
        >>> [stage.name for stage in system.stages()], system.clusters(torch.zeros(7, 5, 8, 8)).shape
        (['first', 'codes', 'clusters'], torch.Size([7, 1, 2]))
    """
    residuals = channels_of(spec)
    cluster_latent = min(MOST, latent + max(1, residuals)) if cluster_latent is None else cluster_latent
    check_sizes(min(cluster_latent, components), cluster_hidden, depth)
    objective = elbo_with_warmup(kl_warmup)
    first = standard_system(spec, latent, hidden, depth, objective, 1, encoder, decoder, likelihood, start)
    second = code_system(latent + max(1, residuals), cluster_latent, components, cluster_hidden, depth)
    stages = stages_of_cascade(fitting, first.stages()[0].start)
    return CascadeSystem(first, second, residuals, stages)


def stages_of_cascade(fitting: str, start: Prepared | None) -> tuple[Stage, ...]:
    """The first model; then the second under N(0, I), then under its mixture, alone or with the first.

    Raises:
        ValueError: no such word.
    """
    if fitting not in ("in-turn", "joint"):
        raise ValueError(f"fitting: expected in-turn or joint; got {fitting!r}.")
    trained, bound = (("second",), code_bound) if fitting == "in-turn" else (("",), joint_bound)
    begun, codes, clusters = SHARES
    return (
        Stage("first", FIRST, share=begun, start=start),
        Stage("codes", trained, bound, share=codes, start=StartOnCodes(LinearStart()), monitor="surrogate"),
        Stage("clusters", trained, bound, share=clusters, start=StartOnCodes(StartPrior(None)), monitor="surrogate"),
    )


def code_system(codes: int, latent: int, components: int, hidden: int, depth: int) -> LatentSystem:
    """A VAE of codes, whose prior is a mixture that is N(0, I) at first."""
    spec = DataSpec((codes,), name="codes")
    decoder, likelihood = MLP(latent, [hidden] * depth, codes), Gaussian(codes, scale=NOISE)
    model = LatentVariableModel(MixturePrior(latent, components, spread=0.0), decoder, likelihood)
    return LatentSystem(model, AmortizedGaussian(standard_encoder(spec, latent, hidden, depth)), elbo)
