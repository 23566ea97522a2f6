"""Networks in the conventions of those who trained them, as ours expect them: means and log-scales, flat outputs."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Independent, Normal

LOG_SCALE: Mapping[str, Callable[[Tensor], Tensor]] = {
    "log-variance": lambda value: 0.5 * value,
    "variance": lambda value: 0.5 * value.log(),
    "scale": lambda value: value.log(),
    "log-scale": lambda value: value,
}
"""From what the second half of an encoder's outputs may be to the logarithm of the standard deviation."""
NAMED = (("embedding", "log_covariance"), ("mean", "log_variance"), ("mu", "logvar"), ("mean", "logvar"))
"""Attributes by which encoders give means and log-variances."""
OUTPUT = ("reconstruction", "sample")
"""Attributes by which decoders give their output."""
NEAR = 1e-9
"""Difference of two outputs in float64 that are the same."""


class GaussianEncoder(nn.Module):
    """Means and log-scales (B, 2 D) of a network that gives a Gaussian in another way; no bound is put on them.

    Args:
        network: from rows to a pair, a tensor of both one after the other in its first dimension, a normal law of
            torch, or an object with one of the pairs of attributes of :data:`NAMED`.
        spread: what the second of a pair is.
        event: shape in which the network takes a row; None = as it comes.

    Raises:
        ValueError: no such word for spread; in use, something else than a Gaussian.

    Example:
        >>> encoder = GaussianEncoder(nn.Linear(3, 4), "log-variance")
        >>> encoder(torch.zeros(5, 3)).shape
        torch.Size([5, 4])
    """

    def __init__(self, network: nn.Module, spread: str = "log-variance", event: Sequence[int] | None = None):
        super().__init__()
        if spread not in LOG_SCALE:
            raise ValueError(f"spread: expected one of {', '.join(LOG_SCALE)}; got {spread!r}.")
        self.network = network
        self.spread = spread
        self.event = event

    def forward(self, x: Float[Tensor, "B *event"]) -> Float[Tensor, "B Q"]:
        found = self.network(x if self.event is None else x.reshape(len(x), *self.event))
        if isinstance(found, Independent):
            found = found.base_dist
        if isinstance(found, Normal):
            return torch.cat([found.loc.flatten(1), found.scale.flatten(1).log()], 1)
        mean, spread = gaussian_pair(found)
        return torch.cat([mean.flatten(1), LOG_SCALE[self.spread](spread.flatten(1))], 1)


class FlatDecoder(nn.Module):
    """A network that takes latents in a shape, and gives its output within something else or as probabilities.

    Args:
        network: from latents to a tensor, or to an object with one of the attributes of :data:`OUTPUT`.
        latents: shape in which it takes the latents of a row; None = flat.
        probabilities: it gives those of ones; their logits are what comes out.

    Raises:
        ValueError: in use, no tensor.

    Example:
        >>> FlatDecoder(nn.Conv2d(2, 3, 1), latents=(2, 4, 4))(torch.zeros(5, 32)).shape
        torch.Size([5, 48])
    """

    def __init__(self, network: nn.Module, latents: Sequence[int] | None = None, probabilities: bool = False):
        super().__init__()
        self.network = network
        self.latents = latents
        self.probabilities = probabilities

    def forward(self, z: Float[Tensor, "N D"]) -> Float[Tensor, "N P"]:
        out = output_of(self.network(z if self.latents is None else z.reshape(len(z), *self.latents))).flatten(1)
        return torch.logit(out, eps=torch.finfo(out.dtype).eps) if self.probabilities else out


class Codes(nn.Module):
    """The code (B, D) of an autoencoder, whatever else its encoder gives.

    Args:
        network: from rows to a tensor, or to an object with an attribute ``embedding``.
        event: shape in which it takes a row; None = as it comes.

    Example:
        >>> Codes(nn.Linear(3, 2))(torch.zeros(5, 3)).shape
        torch.Size([5, 2])
    """

    def __init__(self, network: nn.Module, event: Sequence[int] | None = None):
        super().__init__()
        self.network = network
        self.event = event

    def forward(self, x: Float[Tensor, "B *event"]) -> Float[Tensor, "B D"]:
        found = self.network(x if self.event is None else x.reshape(len(x), *self.event))
        return (found if isinstance(found, Tensor) else found.embedding).flatten(1)


def gaussian_pair(found: Any) -> tuple[Tensor, Tensor]:
    """Means and spreads in what an encoder gives.

    Raises:
        ValueError: they cannot be told apart from anything else.
    """
    if isinstance(found, Tensor) and found.ndim > 1 and found.shape[1] % 2 == 0:
        mean, spread = found.chunk(2, 1)
        return mean, spread
    if isinstance(found, tuple | list) and len(found) == 2:
        return found[0], found[1]
    for names in NAMED:
        if all(isinstance(getattr(found, name, None), Tensor) for name in names):
            mean, spread = (getattr(found, name) for name in names)
            return mean, spread
    got = f"a {type(found).__name__}" + (f" of {len(found)}" if isinstance(found, tuple | list) else "")
    raise ValueError(
        f"encoder: expected a pair of means and spreads, or a tensor of both, 2 D values a row; got {got}. Wrap it in "
        "a module that returns the two."
    )


def output_of(found: Any) -> Tensor:
    """The tensor in what a decoder gives.

    Raises:
        ValueError: there is none.
    """
    if isinstance(found, tuple | list) and len(found) == 1:
        found = found[0]
    for name in OUTPUT:
        found = getattr(found, name, found) if not isinstance(found, Tensor) else found
    if not isinstance(found, Tensor):
        raise ValueError(
            f"decoder: expected a tensor, got a {type(found).__name__}; wrap it in a module that gives one."
        )
    return found


@torch.no_grad()
def without_sigmoid(network: nn.Module, z: Float[Tensor, "N ..."]) -> nn.Module | None:
    """A decoder of probabilities without its last sigmoid, which then gives their logits; None where it has none.

    The last ``nn.Sigmoid`` among its modules is left out, and the sigmoid of what comes must be what came.

    Args:
        network: the decoder.
        z: latents to try it on.

    Example:
        >>> without_sigmoid(nn.Sequential(nn.Linear(2, 3), nn.Sigmoid()), torch.randn(4, 2))
        Sequential(
          (0): Linear(in_features=2, out_features=3, bias=True)
        )
    """
    names = [name for name, module in network.named_modules() if isinstance(module, nn.Sigmoid)]
    if not names or not names[-1]:
        return None
    peeled = copy.deepcopy(network).double().eval()
    before = output_of(peeled(z.double()))
    parent, _, leaf = names[-1].rpartition(".")
    peeled = copy.deepcopy(network)
    owner = peeled.get_submodule(parent)
    if owner is peeled and isinstance(owner, nn.Sequential) and leaf == str(len(owner) - 1):
        peeled = owner[:-1]
    else:
        setattr(owner, leaf, nn.Identity())
    after = output_of(copy.deepcopy(peeled).double().eval()(z.double()))
    return peeled if bool(((after.sigmoid() - before).abs() < NEAR).all()) else None
