"""The layers of a causal transformer one by one, each a module of its own: what mixes places is a layer, too."""

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from curvae.memory import require_memory

HIDDEN = -1e9
"""Score of a place that is not to be seen: its probability is exactly 0, and so is every gradient through it."""


class EarlierTokens(nn.Module):
    """The embedding of the token *before* each place, of a start at the first, and of the place itself.

    Tokens are whole numbers 0 .. count - 1, in any float or integer type.

    Example:
        >>> EarlierTokens(places=6, count=4, width=8)(torch.tensor([[3, 1, 0, 0, 2, 2]])).shape
        torch.Size([1, 6, 8])
    """

    def __init__(self, places: int, count: int, width: int):
        super().__init__()
        require_memory((count + 1 + places) * width, "EarlierTokens")
        self.start = count
        self.tokens = nn.Embedding(count + 1, width)
        self.places = nn.Parameter(0.5 * torch.randn(places, width))

    def forward(self, x: Shaped[Tensor, "B T"]) -> Float[Tensor, "B T W"]:
        before = torch.cat([torch.full_like(x[:, :1], self.start), x[:, :-1]], dim=1)
        return self.tokens(before.long()) + self.places


class AttentionScores(nn.Module):
    """``q_t . k_s / sqrt(width / heads)`` of each head, of places s up to t; later ones are hidden.

    Their softmax over s says how much place t sees of place s.

    Args:
        places: T.
        width: of h.
        heads: among which the width is divided.
        normalized: give the probabilities instead, (B, T, heads * T).

    Example:
        >>> scores = AttentionScores(places=3, width=8, heads=2)(torch.randn(1, 3, 8)).reshape(3, 2, 3)
        >>> scores[0].softmax(-1).tolist()      # the first place sees itself alone
        [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]
    """

    future: Bool[Tensor, "T T"]

    def __init__(self, places: int, width: int, heads: int, normalized: bool = False):
        super().__init__()
        self.heads, self.normalized = heads, normalized
        self.norm, self.query_and_key = nn.LayerNorm(width), nn.Linear(width, 2 * width)
        self.register_buffer("future", later(places), persistent=False)

    def forward(self, h: Float[Tensor, "B T W"]) -> Float[Tensor, "B T heads_times_T"]:
        both = self.query_and_key(self.norm(h)).unflatten(-1, (2 * self.heads, -1)).transpose(1, 2)
        query, key = both.chunk(2, dim=1)
        scores = query @ key.mT / query.shape[-1] ** 0.5
        scores = scores.masked_fill(self.future, HIDDEN)
        scores = scores.softmax(-1) if self.normalized else scores
        return scores.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """``h_t + W sum_s a_ts v_s`` of all heads, for the weights a that it is given; those of later places are left out.

    Example:
        >>> h, weights = torch.randn(1, 3, 8), torch.rand(1, 3, 2 * 3)
        >>> Attention(places=3, width=8, heads=2)(h, weights).shape
        torch.Size([1, 3, 8])
    """

    future: Bool[Tensor, "T T"]

    def __init__(self, places: int, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm, self.value, self.out = nn.LayerNorm(width), nn.Linear(width, width), nn.Linear(width, width)
        self.register_buffer("future", later(places), persistent=False)

    def forward(self, h: Float[Tensor, "B T W"], weights: Float[Tensor, "B T heads_times_T"]) -> Float[Tensor, "B T W"]:
        value = self.value(self.norm(h)).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        seen = weights.unflatten(-1, (self.heads, -1)).transpose(1, 2).masked_fill(self.future, 0.0)
        return h + self.out((seen @ value).transpose(1, 2).flatten(2))


class Residual(nn.Module):
    """``h + MLP(h)`` at each place by itself, normalized first.

    Example:
        >>> Residual(width=8, hidden=16)(torch.randn(1, 3, 8)).shape
        torch.Size([1, 3, 8])
    """

    def __init__(self, width: int, hidden: int):
        super().__init__()
        require_memory(2 * width * hidden, "Residual")
        self.layers = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, h: Float[Tensor, "*B W"]) -> Float[Tensor, "*B W"]:
        return h + self.layers(h)


def readout(width: int, count: int, normalized: bool = False) -> nn.Sequential:
    """From h to logits of the tokens, or to their probabilities.

    >>> readout(8, 4)(torch.randn(1, 3, 8)).shape
    torch.Size([1, 3, 4])
    """
    last = [nn.Softmax(-1)] if normalized else []
    return nn.Sequential(nn.LayerNorm(width), nn.Linear(width, count), *last)


def later(places: int) -> Bool[Tensor, "T T"]:
    """True where the second place comes after the first.

    >>> later(2).tolist()
    [[False, True], [False, False]]
    """
    return torch.ones(places, places, dtype=torch.bool).triu(1)
