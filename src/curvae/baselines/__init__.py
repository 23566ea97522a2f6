"""Models in closed form that a deep one has to beat, in the same units and on the same rows.

``baseline`` is what such a model is; ``fits`` says which ones a likelihood has, ``densities`` are those that are no
linear-Gaussian model, ``system_baselines`` finds the likelihood and the number of latents of a trained system.

Example:
    >>> import torch
    >>> from curvae import baselines, data
    >>> from curvae.likelihoods import Gaussian
    >>> _ = torch.manual_seed(0)
    >>> table = data.from_array(torch.randn(300, 2) @ torch.randn(2, 5) + 0.1 * torch.randn(300, 5))
    >>> for each in baselines.fit(table.train, Gaussian(5, learn="element"), latent=2):
    ...     print(each.label, each.log_prob(table.validation.x).shape)
    PPCA, 2 latents torch.Size([45])
    factor analysis, 2 latents torch.Size([45])
"""

from curvae.baselines.baseline import NAMES, Baseline, Density, label
from curvae.baselines.densities import BernoulliColumns, CategoricalColumns
from curvae.baselines.fits import fit
from curvae.baselines.system_baselines import fit_system_baselines
from curvae.renamed import renamed

__all__ = [
    "NAMES",
    "Baseline",
    "BernoulliColumns",
    "CategoricalColumns",
    "Density",
    "fit",
    "fit_system_baselines",
    "label",
]

_BEFORE = {
    "fit_beside": "curvae.baselines.fit_system_baselines",
}
__getattr__ = renamed(__name__, _BEFORE)
