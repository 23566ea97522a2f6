"""A learned mixture of Gaussians."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.argument_checks import check_least
from curvae.distributions.gaussian import DiagonalGaussian
from curvae.distributions.kl import kl, register_kl
from curvae.linalg import soft_bound, soft_unbound
from curvae.priors.prior import Prior


class MixturePrior(Prior):
    """``p(z) = sum_c pi_c N(z; m_c, diag(s_c^2))``: C components, all their parameters learned.

    ``log s_c`` is softly bounded to [-7, 7]. The precision is ``sum_c r_c S_c^-1`` with the responsibilities r: never
    below the Hessian of ``-log p(z)``, and equal to it where one component has all of z. Components start around draws
    of N(0, I); :meth:`start_at` puts them where the posteriors of data are.

    Args:
        size: number of latent dimensions D.
        components: their number C; with 1 this is a normal.
        spread: standard deviation of their means at first; with 0 all are N(0, I), until :meth:`start_at` parts them.

    Raises:
        ValueError: size or components below 1.

    Example:
        >>> prior = MixturePrior(2, components=5)
        >>> z = prior.sample(4)
        >>> prior.log_prob(z).shape, prior.responsibilities(z).sum(-1).round().tolist()
        (torch.Size([4]), [1.0, 1.0, 1.0, 1.0])
    """

    def __init__(self, size: int, components: int = 10, spread: float = 1.0):
        super().__init__()
        check_least("MixturePrior", 1, size=size, components=components)
        self.blocks = (size,)
        self.quadratic = components == 1
        self.logits = nn.Parameter(torch.zeros(components))
        self.loc = nn.Parameter(spread * torch.randn(components, size) if components > 1 else torch.zeros(1, size))
        self.log_scale = nn.Parameter(torch.zeros(components, size))

    @property
    def laws(self) -> DiagonalGaussian:
        """All components, as a batch of C."""
        return DiagonalGaussian(self.loc, soft_bound(self.log_scale))

    def component(self, c: int) -> DiagonalGaussian:
        """``p(z | y = c)``."""
        laws = self.laws
        return DiagonalGaussian(laws.loc[c], laws.log_scale[c])

    def log_prob(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B"]:
        return torch.logsumexp(self._joint(z), -1)

    def responsibilities(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B C"]:
        """``p(y = c | z)``: which component z is of. At z of q(z | x) its mean is q(y | x)."""
        return self._joint(z).softmax(-1)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n D"]:
        which = torch.multinomial(self.logits.softmax(-1), n, replacement=True, generator=generator)
        noise = torch.randn(n, self.size, generator=generator, device=self.loc.device, dtype=self.loc.dtype)
        return DiagonalGaussian(self.laws.loc[which], self.laws.log_scale[which]).from_noise(noise)

    def score(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D"]:
        """``sum_c r_c S_c^-1 (m_c - z)``."""
        laws = self.laws
        inverse = (-2 * laws.log_scale).exp()
        r = self.responsibilities(z)
        return r @ (inverse * laws.loc) - (r @ inverse) * z

    def precision(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B D D"]:
        return torch.diag_embed(self.responsibilities(z) @ (-2 * self.laws.log_scale).exp())

    @torch.no_grad()
    def start_at(self, x: Float[Tensor, "N *event"], q: DiagonalGaussian) -> None:
        """Components at the clusters (k-means, C of them) of the means of posteriors, each as wide as these together.

        Of fewer rows than components the others stay where they are.
        """
        from sklearn.cluster import KMeans

        means, variance = q.loc.double().cpu(), q.variance.double().cpu()
        count = min(len(self.loc), len(means))
        label = torch.from_numpy(KMeans(count, n_init="auto", random_state=0).fit_predict(means.numpy())).long()
        member = nn.functional.one_hot(label, count).double()
        size = member.sum(0).clamp(min=1)
        center = member.mT @ means / size.unsqueeze(-1)
        spread = member.mT @ ((means - center[label]).square() + variance) / size.unsqueeze(-1)
        self.logits[:count] = (size / size.sum()).log().to(self.logits)
        self.logits[count:] = math.log(1e-3)
        self.loc[:count] = center.to(self.loc)
        self.log_scale[:count] = soft_unbound(0.5 * spread.clamp(min=1e-6).log()).to(self.log_scale)

    def _joint(self, z: Float[Tensor, "*B D"]) -> Float[Tensor, "*B C"]:
        each = z.unsqueeze(-2).expand(*z.shape[:-1], *self.loc.shape)
        return self.logits.log_softmax(-1) + self.laws.log_prob(each)


@register_kl(DiagonalGaussian, MixturePrior)
def _(q: DiagonalGaussian, p: MixturePrior) -> Float[Tensor, "*B 1"] | None:
    """Closed for one component."""
    return kl(q, p.laws) if len(p.logits) == 1 else None
