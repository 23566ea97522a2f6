"""The importance-weighted autoencoder for data that are missing not at random."""

from math import prod

from torch import nn

from curvae.likelihoods import Likelihood
from curvae.objectives import Iwae, NotMiwae
from curvae.systems.base import LatentSystem, register
from curvae.systems.missing_parts import (
    Fill,
    MissingnessWord,
    StartMissingness,
    encoder_with_gaps,
    missingness_for,
    require_path,
)
from curvae.systems.parts import Gradient, estimator_for, standard_generative_model
from curvae.systems.stages import Stage
from curvae.systems.starts import start_for
from curvae.typing import DataSpec


@register("not-miwae", "missing")
def not_miwae(
    spec: DataSpec,
    latent: int = 16,
    hidden: int = 256,
    depth: int = 2,
    samples: int = 20,
    missingness: MissingnessWord = "self",
    fill: Fill = "zero",
    sees_mask: bool = True,
    gradient: Gradient = "standard",
    decoder: nn.Module | None = None,
    likelihood: Likelihood | None = None,
    start: str = "linear",
) -> LatentSystem:
    """Importance-weighted autoencoder with a learned law p(mask | x), for values that are missing not at random.

    Maximizes a bound of log p(x_o, mask); reports that of log p(x_o). What it finds rests on the law that was chosen,
    which data alone cannot confirm. ``curvae impute`` weighs draws by p(mask | x), too.

    Reference: Ipsen, Mattei and Frellsen, *not-MIWAE: Deep Generative Modelling with Missing not at Random Data*, ICLR
    2021.

    Differences: the encoder sees which values are missing, unless ``sees_mask=False``; ReLU networks that start at
    PPCA of what was observed, one noise for each column; imputed are weighted draws, not weighted means of p(x | z).

    Args:
        samples: draws K per example in the bound.
        missingness: "self" (each value by its own size), "self-larger" or "self-smaller" (known which go missing),
            "linear" or "network" (all values together), "constant" (at random).
        fill: what the encoder sees in the place of a missing value: "zero", or "learned", a number for each column.
        sees_mask: whether the encoder also sees which values are missing.

    Raises:
        ValueError: no such word; data that are not real numbers, or given known errors, exposure or covariates; a
            likelihood whose draws have no path gradient.

    Example:
        >>> not_miwae(DataSpec((6,)), latent=2, hidden=32, missingness="self-larger").objective.missingness.lost
        'larger'
    """
    model = standard_generative_model(spec, latent, hidden, depth, decoder, likelihood)
    require_path("not-miwae", spec, model.likelihood)
    law = missingness_for(missingness, prod(spec.event), hidden)
    objective = NotMiwae(law, Iwae(estimator=estimator_for(gradient)))
    inference = encoder_with_gaps(spec, latent, hidden, depth, fill, sees_mask)
    stage = Stage("train", start=StartMissingness(start_for(start, decoder)), monitor="surrogate")
    return LatentSystem(model, inference, objective, samples, (stage,))
