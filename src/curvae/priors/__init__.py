"""Priors p(z): normalized densities over the latent space.

``prior`` is the idea. ``standard_normal`` and ``uniform_categorical`` are fixed, ``aggregate_normal`` follows the data;
``flow`` (with ``autoregressive``), ``mixture`` and ``vamp`` are learned; ``layered`` has layers, ``product`` blocks.
``assignment`` says which component of a mixture data are of.
"""

from curvae.priors.aggregate_normal import AggregateNormal
from curvae.priors.assignment import assignments, mixtures_of
from curvae.priors.autoregressive import autoregressive_prior, coupling_prior
from curvae.priors.flow import FlowPrior
from curvae.priors.layered import Layered, layered
from curvae.priors.mixture import MixturePrior
from curvae.priors.prior import Prior, StartsAtEncoded, StartsAtNormal
from curvae.priors.product import ProductPrior
from curvae.priors.standard_logistic import StandardLogistic
from curvae.priors.standard_normal import StandardNormal
from curvae.priors.tilted_normal import TiltedNormal
from curvae.priors.uniform_categorical import UniformCategorical
from curvae.priors.vamp import VampPrior
from curvae.renamed import renamed

__all__ = [
    "AggregateNormal",
    "FlowPrior",
    "Layered",
    "MixturePrior",
    "Prior",
    "ProductPrior",
    "StandardLogistic",
    "StandardNormal",
    "StartsAtEncoded",
    "StartsAtNormal",
    "TiltedNormal",
    "UniformCategorical",
    "VampPrior",
    "assignments",
    "autoregressive_prior",
    "coupling_prior",
    "layered",
    "mixtures_of",
]

_LAWS = "FixedNormal", "LearnedNormal", "OneHot", "all_states", "one_hot"
_BEFORE = {
    "Family": "curvae.distributions.ConditionalDistribution",
    **{name: f"curvae.distributions.{name}" for name in _LAWS},
}
__getattr__ = renamed(__name__, _BEFORE)
