"""Laplace inference from several starts: a mixture of the posteriors at the modes found."""

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from curvae.argument_checks import check_least
from curvae.curvature import take_rows
from curvae.inference.inference import AffinePosterior, Continued, Inference, Inferred, prefixed, start_at
from curvae.inference.laplace import Laplace
from curvae.model import LatentVariableModel
from curvae.posteriors import DensityPosterior, DiagonalGaussian, Mixture
from curvae.typing import Batch, Info

AT_ONCE = 2**26
"""Bytes of what candidates are decoded to at a time."""


class MultimodalLaplace(Inference):
    r"""``Q(z | x) = sum_k pi_k N(z; mu_k, Lam(mu_k)^-1)``, the modes mu_k found from K starts; ours.

    The search begins at the encoder's mean and at K - 1 draws of the prior, the same for all data and calls, or at
    those of more such draws that explain the example best. Each component gets the weight that makes Q proportional to
    p(x, z) at its own mode,

    ``pi_k \propto p(x, mu_k) / sum_j q_j(mu_k)``.

    Where the modes lie apart that is Laplace's evidence ``p(x, mu_k) (2 pi)^(D/2) |Lam_k|^(-1/2)``; where m starts
    found one mode, each of the copies gets a share 1/m of it, so that Q is what it would be without them, no draw is
    lost, and nothing has to be decided by a threshold.

    All K B searches are one call of the curvature engine. The gradient is that of ``search`` and flows through the
    weights too; the encoder learns from the search that its own mean began.

    Args:
        start: the inference whose posterior's ``center`` is the first start.
        components: number K of starts.
        search: makes the mode search from its start; ``functools.partial(Laplace, steps=8)`` sets its options.
        seed: of the draws of the prior.
        candidates: draws of the prior that the K - 1 starts are chosen from, for each example by ``log p(x, z)`` and
            apart from each other; 0 for as many as starts, without a choice.

    Info: that of the search of the component with the greatest weight, and ``modes`` (B,): how many different ones
    were found, ``sum_k q_k(mu_k) / sum_j q_j(mu_k)``.

    Raises:
        ValueError: fewer than 1 component, or candidates fewer than other starts, and not 0.

    Example:
        >>> import torch
        >>> from curvae.inference import AmortizedGaussian, MultimodalLaplace
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.priors import StandardNormal
        >>> _ = torch.manual_seed(0)
        >>> class Square(torch.nn.Module):
        ...     def forward(self, z):
        ...         return z**2
        >>> model = LatentVariableModel(StandardNormal(1), Square(), Gaussian(1, scale=0.1))
        >>> inference = MultimodalLaplace(AmortizedGaussian(torch.nn.Linear(1, 2)), components=8)
        >>> found = inference(model, Batch(torch.ones(1, 1), torch.arange(1)))   # z = 1 and z = -1 explain x = 1
        >>> f"{found.info['modes'].item():.2f} {found.posterior.mean.abs().item():.2f}"
        '2.00 0.00'
    """

    def __init__(
        self,
        start: Inference,
        components: int = 4,
        search: Callable[[Inference], Inference] = Laplace,
        seed: int = 0,
        candidates: int = 0,
    ):
        super().__init__()
        check_least("MultimodalLaplace", 1, components=components)
        if candidates:
            check_least("MultimodalLaplace", components - 1, candidates=candidates)
        self.components = components
        self.search = search(Scattered(start, components, seed, candidates))

    @property
    def before(self) -> Inference:
        return self.search

    def start_from(self, posterior: AffinePosterior) -> bool:
        return start_at(self.search, posterior)

    def forward(self, model: LatentVariableModel, batch: Batch) -> Inferred:
        count, copies = len(batch.x), self.components
        tiled = tile_batch(batch, copies)
        found = self.search(model.given(tiled.context), tiled)
        parts = _split(found.posterior, copies)
        modes = torch.stack([part.center for part in parts])
        level = model.log_joint(batch.x, modes, batch.mask)
        density = torch.stack([part.log_prob(modes) for part in parts])
        crowd = torch.logsumexp(density, 0)
        posterior = Mixture(parts, (level - crowd).mT)
        info = _chosen(found.info, posterior.logits.argmax(-1), copies)
        distinct = (density.diagonal(dim1=0, dim2=1).mT - crowd).exp().sum(0).detach()
        bound = None if found.encoder_bound is None else found.encoder_bound[:count]
        return Inferred(posterior, {**info, "modes": distinct}, bound, prefixed("search", found.state))


class Scattered(Continued):
    """The starts of several searches for each example of a batch that holds ``copies`` of it, one copy after another.

    The first copy starts at the center of ``start``, the others at draws of the prior, or at the best of candidates.

    Args:
        start: the inference for the first copy; it is given each example once.
        copies: number of starts.
        seed: of the draws.
        candidates: draws that the starts are chosen from, see :class:`MultimodalLaplace`.

    Example:
        >>> import torch
        >>> from curvae.inference import AmortizedGaussian
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(3), torch.nn.Linear(3, 5), Gaussian(5))
        >>> inference = Scattered(AmortizedGaussian(torch.nn.Linear(5, 6)), copies=2)
        >>> inference(model, tile_batch(Batch(torch.ones(4, 5), torch.arange(4)), 2)).posterior.center.shape
        torch.Size([8, 3])
    """

    def __init__(self, start: Inference, copies: int, seed: int = 0, candidates: int = 0):
        super().__init__(start)
        self.copies = copies
        self.seed = seed
        self.candidates = candidates

    def forward(self, model: LatentVariableModel, batch: Batch) -> Inferred:
        count = len(batch.x) // self.copies
        once = take_rows(batch, slice(count))
        model = model.given(once.context)
        begin = self.start(model, once)
        center = begin.posterior.center
        generator = torch.Generator(center.device).manual_seed(self.seed)
        draws = model.prior.sample(self.candidates or self.copies - 1, generator).detach().to(center)
        if self.candidates:
            others = likeliest(model, once, draws, self.copies - 1).flatten(0, 1)
        else:
            others = draws.repeat_interleave(count, dim=0)
        loc = torch.cat([center, others])
        return Inferred(DiagonalGaussian(loc, torch.zeros_like(loc)), state=prefixed("start", begin.state))


@torch.no_grad()
def likeliest(
    model: LatentVariableModel, batch: Batch, draws: Float[Tensor, "M D"], count: int
) -> Float[Tensor, "K B D"]:
    """Of draws of z the ``count`` of the highest ``log p(x, z)`` for each example, no two of them close.

    Close are those whose squared distance is less than half of the draws' total variance, a quarter of what it is
    between two of them on average. Every draw is decoded once for all examples.

    Example:
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.priors import StandardNormal
        >>> model = LatentVariableModel(StandardNormal(1), torch.nn.Identity(), Gaussian(1, scale=0.1))
        >>> draws = torch.tensor([[-1.0], [0.9], [1.0], [2.0]])
        >>> likeliest(model, Batch(torch.ones(1, 1), torch.arange(1)), draws, 2).flatten().tolist()
        [1.0, 2.0]
    """
    each = 4 * model.likelihood.size * len(batch.x) * draws.element_size()
    level = torch.cat([_levels(model, batch, part) for part in draws.split(max(1, AT_ONCE // each))])
    near, found = 0.5 * draws.var(0, unbiased=False).sum(), []
    for _ in range(count):
        found.append(draws[level.argmax(0)])
        level = torch.where(torch.cdist(draws, found[-1]).square() <= near, -torch.inf, level)
    return torch.stack(found) if found else draws.new_empty(0, len(batch.x), draws.shape[1])


def _levels(model: LatentVariableModel, batch: Batch, z: Float[Tensor, "M D"]) -> Float[Tensor, "M B"]:
    """``log p(x, z)`` of each draw and example."""
    z = z.unsqueeze(1)
    if not model.by_latents_alone:
        return model.log_joint(batch.x, z.expand(-1, len(batch.x), -1), batch.mask)
    with model.evaluating():
        eta = model.decode(z).expand(-1, len(batch.x), -1)
    return model.prior.log_prob(z) + model.likelihood.log_prob(batch.x, eta, batch.mask)


def tile_batch(batch: Batch, copies: int) -> Batch:
    """The whole batch ``copies`` times over."""
    return batch.take(torch.arange(len(batch.x), device=batch.x.device).repeat(copies))


def _split(posterior: DensityPosterior, copies: int) -> tuple[DensityPosterior, ...]:
    """The posteriors of each copy of the batch."""
    split = {name: value.chunk(copies) for name, value in posterior.tensors.items()}
    return tuple(posterior.with_tensors({name: parts[k] for name, parts in split.items()}) for k in range(copies))


def _chosen(info: Info, which: Int[Tensor, " B"], copies: int) -> Info:
    """Of values (..., K B), those of one copy of each example."""
    count = len(which)
    rows = which * count + torch.arange(count, device=which.device)
    return {name: value[..., rows] for name, value in info.items() if value.shape[-1] == copies * count}
