"""The importance-weighted autoencoder for data with missing values."""

from torch import nn

from curvae.likelihoods import Likelihood
from curvae.objectives import Iwae
from curvae.systems.base import LatentSystem, register
from curvae.systems.missing_parts import Fill, encoder_with_gaps
from curvae.systems.parts import Gradient, estimator_for, standard_generative_model
from curvae.systems.stages import single
from curvae.systems.starts import start_for
from curvae.typing import DataSpec


@register("missing-iwae", "missing")
def missing_iwae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    samples: int = 20,
    fill: Fill = "zero",
    sees_mask: bool = True,
    gradient: Gradient = "standard",
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """Importance-weighted autoencoder for data with missing values: the bound of what was observed, MIWAE elsewhere.

    ``log 1/K sum_k p(x_o | z_k) p(z_k) / q(z_k | x_o)``, right where values are missing at random. ``curvae impute``
    fills in by weighted draws. Where nothing is missing and the encoder sees no mask it is ``iwae``, to the last digit.

    Reference: Mattei and Frellsen, *MIWAE: Deep Generative Modelling and Imputation of Incomplete Data Sets*, ICML
    2019.

    Differences: the encoder sees which values are missing, unless ``sees_mask=False``; ReLU networks that start at
    PPCA of what was observed; one noise for each column, where theirs depends on z.

    Args:
        samples: draws K per example in the bound.
        fill: what the encoder sees in the place of a missing value: "zero", or "learned", a number for each column.
        sees_mask: whether the encoder also sees which values are missing.

    Raises:
        ValueError: no such word for ``fill``; data given known errors, exposure or covariates, which this encoder does
            not take.

    Example:
        >>> missing_iwae(DataSpec((6,)), latent=2, hidden=32).inference.start.encoder[2].in_features   # values and mask
        12
    """
    objective = Iwae(estimator=estimator_for(gradient))
    model = standard_generative_model(spec, latent, hidden, depth, decoder, likelihood)
    inference = encoder_with_gaps(spec, latent, hidden, depth, fill, sees_mask)
    return LatentSystem(model, inference, objective, samples, single(start_for(start, decoder)))
