"""A law of binary latents that attract one another."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.distributions.discrete_posteriors import DiscretePosterior, one_hot
from curvae.distributions.max_flow import maximize_pairwise
from curvae.distributions.posterior import ParametricPosterior
from curvae.noise import uniform


@dataclass(frozen=True, eq=False)
class PairwiseBinary(ParametricPosterior, DiscretePosterior):
    """``q(z | x) proportional to exp(sum_i h_i b_i + sum_{i<j} w_ij b_i b_j)`` with ``w = softplus(couplings) >= 0``.

    ``b_i`` is 1 where variable i is in its second category, so that z = (1 - b_1, b_1, 1 - b_2, ...), ``D = 2 N``.

    The law is exact, by a sum over all 2^N values: its draws are draws of that Gibbs distribution, and log q is
    normalized. The maximizer is exact too, by a minimum cut for each draw and example, on the CPU.

    Differences: the published sampler perturbs each variable and maximizes; that law is near the Gibbs distribution
    but has no known probability, so that it could not be weighed.

    Args:
        fields: h.
        couplings: of the pairs i < j, row by row, E = N (N - 1) / 2 of them.

    Raises:
        ValueError: couplings not of that number, or more than 16 variables.

    Reference: after Lorberbom, Gane, Jaakkola and Hazan, *Direct Optimization through arg max for Discrete Variational
    Auto-Encoder*, NeurIPS 2019.

    Example:
        >>> import torch
        >>> q = PairwiseBinary(torch.zeros(4, 3), torch.full((4, 3), 2.0))
        >>> q.draw(5).z.shape, f"{q.mean[0, 1].item():.2f}"   # attraction turns variables on
        (torch.Size([5, 4, 6]), '0.98')
    """

    names = ("fields", "couplings")
    fields: Float[Tensor, "B N"]
    couplings: Float[Tensor, "B E"]

    def __post_init__(self) -> None:
        expected = self.variables * (self.variables - 1) // 2
        if self.couplings.shape[1] != expected:
            raise ValueError(
                f"PairwiseBinary: {self.variables} variables have {expected} couplings; got {self.couplings.shape[1]}."
            )
        _ = self.states

    @property
    def variables(self) -> int:
        return self.fields.shape[1]

    @property
    def categories(self) -> int:
        return 2

    def potential(self, z: Float[Tensor, "S B D"]) -> Float[Tensor, "S B"]:
        on = z[..., 1::2]
        first, second = self._pairs
        together = on[..., first] * on[..., second]
        return (on * self.fields).sum(-1) + (together * self._attraction).sum(-1)

    @property
    def log_normalizer(self) -> Float[Tensor, " B"]:
        return self._levels.logsumexp(-1)

    @property
    def entropy(self) -> Float[Tensor, " B"]:
        log_q = self._levels.log_softmax(-1)
        return -(log_q.exp() * log_q).sum(-1)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Float[Tensor, "n B D"]:
        mass = self._levels.detach().double().softmax(-1).cumsum(-1)
        u = uniform(mass.new_empty(n, len(mass)), generator).mT.contiguous()
        where = torch.searchsorted(mass, u * mass[:, -1:], right=True).clamp(max=mass.shape[-1] - 1)
        return self.states[where.mT]

    def maximize(self, bonus: Float[Tensor, "n B D"]) -> Float[Tensor, "n B D"]:
        gain = bonus[..., 1::2] - bonus[..., 0::2]
        single = (self.fields.detach() + gain).flatten(0, 1).cpu().double().numpy()
        pair = self._matrix.expand(len(bonus), -1, -1, -1).flatten(0, 1).cpu().double().numpy()
        on = torch.from_numpy(maximize_pairwise(single, pair)).to(self.fields.device)
        return one_hot(on.long(), 2, self.fields).unflatten(0, bonus.shape[:2])

    @property
    def center(self) -> Float[Tensor, "B D"]:
        """The most probable value."""
        return self.states[self._levels.argmax(-1)]

    @property
    def mean(self) -> Float[Tensor, "B D"]:
        """The probability of each category of each variable."""
        return self._levels.softmax(-1) @ self.states

    @property
    def covariance(self) -> Float[Tensor, "B D D"]:
        products = (self.states.unsqueeze(-1) * self.states.unsqueeze(-2)).flatten(1)
        second = (self._levels.softmax(-1) @ products).unflatten(-1, (self.states.shape[-1],) * 2)
        return second - self.mean.unsqueeze(-1) * self.mean.unsqueeze(-2)

    @property
    def _pairs(self) -> Tensor:
        return torch.triu_indices(self.variables, self.variables, 1, device=self.fields.device)

    @property
    def _attraction(self) -> Float[Tensor, "B E"]:
        return torch.nn.functional.softplus(self.couplings)

    @property
    def _matrix(self) -> Float[Tensor, "B N N"]:
        """w, symmetric, without gradient."""
        first, second = self._pairs
        upper = self.fields.new_zeros(len(self.fields), self.variables, self.variables)
        upper[:, first, second] = self._attraction.detach()
        return upper + upper.mT

    @property
    def _levels(self) -> Float[Tensor, "B M"]:
        """H of all values, by two matrix products."""
        on = self.states[:, 1::2]
        first, second = self._pairs
        return self.fields @ on.mT + self._attraction @ (on[:, first] * on[:, second]).mT
