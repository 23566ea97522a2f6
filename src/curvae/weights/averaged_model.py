"""A model averaged over draws of its decoder's weights."""

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.model import LatentVariableModel
from curvae.typing import Context


class AveragedModel(LatentVariableModel):
    r"""``p(x, z) = p(z) 1/M sum_m p(x | z, theta_m)``, so that ``log p(x) = log 1/M sum_m p(x | theta_m)``.

    What asks for eta alone, as the search for a mode does, gets that of the center.

    Args:
        center: the model at the center of the posterior over weights.
        members: the same with weights drawn from it.

    Example:
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.priors import StandardNormal
        >>> one, two = (LatentVariableModel(StandardNormal(1), nn.Linear(1, 1), Gaussian(1)) for _ in range(2))
        >>> x, z = torch.zeros(1, 1), torch.ones(1, 1)
        >>> each = torch.stack([member.log_likelihood(x, z) for member in (one, two)])
        >>> bool(AveragedModel(one, [one, two]).log_likelihood(x, z).isclose(each.exp().mean(0).log()))
        True
    """

    def __init__(self, center: LatentVariableModel, members: Sequence[LatentVariableModel]):
        super().__init__(center.prior, center.decoder, center.likelihood, center.autoregressive, center.conditioning)
        self._context, self._everywhere = center._context, center._everywhere
        self.center = center
        self.members = nn.ModuleList(members)

    def log_likelihood(
        self, x: Tensor, z: Float[Tensor, "*S B D"], mask: Tensor | None = None
    ) -> Float[Tensor, "*S B"]:
        each = torch.stack([member.log_likelihood(x, z, mask) for member in self._each])
        return each.logsumexp(0) - math.log(len(each))

    def expectation(self, z: Float[Tensor, "B D"], x: Tensor | None = None) -> Tensor:
        return torch.stack([member.expectation(z, x) for member in self._each]).mean(0)

    def sample_given(self, z: Float[Tensor, "B D"], generator: torch.Generator | None = None) -> Tensor:
        """Each x from one of the members, any with the same probability."""
        device = z.device if generator is None else generator.device
        which = torch.randint(len(self.members), (len(z),), generator=generator, device=device).to(z.device)
        drawn = torch.stack([member.sample_given(z, generator) for member in self._each])
        return drawn[which, torch.arange(len(z), device=z.device)]

    @property
    def _each(self) -> list[LatentVariableModel]:
        return [member for member in self.members if isinstance(member, LatentVariableModel)]

    def _with(self, context: Context, everywhere: bool = False) -> "AveragedModel":
        return AveragedModel(
            self.center._with(context, everywhere), [member._with(context, everywhere) for member in self._each]
        )
