"""The baselines of a system: of its likelihood, with as many latents."""

from curvae import likelihoods
from curvae.baselines.baseline import Baseline
from curvae.baselines.fits import fit
from curvae.baselines.sequences import fit_sequence_baseline
from curvae.likelihoods import Likelihood
from curvae.systems import CanRollOut, HasModel, System
from curvae.typing import DataSpec, Table


def fit_system_baselines(system: System, train: Table, spec: DataSpec) -> tuple[Baseline, ...]:
    """The baselines of a system, see :func:`curvae.baselines.fit`.

    A system with a model has that model's likelihood and as many latents as its prior has dimensions. Any other is
    taken to have the default likelihood of its data, and as many latents as its argument ``latent`` says, if any. One
    of sequences has a linear state-space model beside these.

    Args:
        system: what is to be compared.
        train: its training data, in its units.
        spec: what the data are.

    Example:
        >>> import torch
        >>> from curvae.data import from_array
        >>> from curvae.systems import vae
        >>> data = from_array(torch.randn(100, 3))
        >>> [each.label for each in fit_system_baselines(vae(data.spec, latent=2, hidden=8), data.train, data.spec)]
        ['PPCA, 2 latents', 'factor analysis, 2 latents']
    """
    likelihood, latent = _parts(system, spec)
    found = fit(train, likelihood, latent)
    return (*found, fit_sequence_baseline(train, likelihood)) if isinstance(system, CanRollOut) else found


def _parts(system: System, spec: DataSpec) -> tuple[Likelihood, int | None]:
    if isinstance(system, HasModel):
        model = system.parts().model
        return model.likelihood, sum(model.prior.blocks)
    arguments = {} if system.recipe is None else system.recipe.arguments
    latent = arguments.get("latent")
    return likelihoods.default(spec), latent if type(latent) is int and latent > 0 else None
