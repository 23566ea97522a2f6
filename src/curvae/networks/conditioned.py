"""Networks of layers that are also given what is known of each row."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.networks.mlp import Front
from curvae.typing import Batch, Conditions, Context

LEAST = 1e-3
"""Of an error, as an encoder sees it by its logarithm."""


@runtime_checkable
class SeesContext(Protocol):
    """An encoder that is called as ``encoder(x, context)``."""

    sees_context: bool


class ContextEncoder(nn.Module):
    """An encoder of layers that also sees covariates, and logarithms of exposure and errors; counts over exposure.

    Args:
        network: layers of which the first linear one takes the row; its weights are kept, and new ones made.
        features: E, size of one row.
        given: what is known of each row.

    Raises:
        ValueError: a network of another kind.

    Example:
        >>> encoder = ContextEncoder(nn.Sequential(nn.Linear(2, 3)), 2, Conditions(exposure=True))
        >>> encoder(torch.ones(4, 2), Context(exposure=torch.ones(4))).shape
        torch.Size([4, 3])
    """

    sees_context = True

    def __init__(self, network: nn.Module, features: int, given: Conditions):
        super().__init__()
        self.given = given
        fronts, self.body = _widened(network, features * given.errors + given.exposure + given.covariates)
        self.front = nn.Sequential(*fronts)

    def forward(self, x: Tensor, context: Context | None) -> Tensor:
        return self.body(self.seen(x, context))

    def seen(self, x: Tensor, context: Context | None) -> Float[Tensor, "B I"]:
        """What the first layer is given: the row, then what is known of it."""
        known = Context() if context is None else context
        parts = [self.front(_by_trust(over_exposure(x, context), context).flatten(1))]
        if self.given.covariates and known.covariates is not None:
            parts.append(known.covariates.to(parts[0]))
        if self.given.exposure and known.exposure is not None:
            parts.append(known.exposure.to(parts[0]).log().unsqueeze(1))
        if self.given.errors and known.errors is not None:
            parts.append(known.errors.to(parts[0]).flatten(1).clamp(min=LEAST).log())
        return torch.cat(parts, 1)


class ContextDecoder(nn.Module):
    """A decoder of layers, called as ``decoder(z, covariates)``.

    Args:
        network: layers of which the first linear one takes z; its weights are kept, and new ones made.
        covariates: C, how many numbers.

    Raises:
        ValueError: a network of another kind.

    Example:
        >>> ContextDecoder(nn.Sequential(nn.Linear(2, 3)), 4)(torch.ones(5, 2), torch.ones(5, 4)).shape
        torch.Size([5, 3])
    """

    def __init__(self, network: nn.Module, covariates: int):
        super().__init__()
        _, self.body = _widened(network, covariates)

    def forward(self, z: Tensor, covariates: Tensor) -> Tensor:
        return self.body(torch.cat([z, covariates.to(z)], -1))


def run_encoder(encoder: nn.Module, batch: Batch) -> Tensor:
    """What an encoder gives of a batch; one that sees context is given it."""
    if isinstance(encoder, SeesContext) and encoder.sees_context:
        return encoder(batch.x, batch.context)
    return encoder(batch.x)


def over_exposure(x: Tensor, context: Context | None) -> Tensor:
    """Counts divided by their exposure, where there is one."""
    if context is None or context.exposure is None:
        return x
    return x / context.exposure.to(x).reshape(-1, *[1] * (x.ndim - 1))


def _by_trust(x: Tensor, context: Context | None) -> Tensor:
    """``x / (1 + v)`` of values of known error variance v: one that says nothing is 0, as if it were missing."""
    if context is None or context.errors is None:
        return x
    return x / (1 + context.errors.to(x).square())


def layers_of(network: nn.Module) -> nn.Module:
    """The layers behind what puts the row and what is known of it together."""
    return network.body if isinstance(network, ContextEncoder | ContextDecoder) else network


def _widened(network: nn.Module, more: int) -> tuple[list[nn.Module], nn.Sequential]:
    """What comes before the first linear layer, and the layers from there, that one with so many inputs more."""
    parts = [network] if isinstance(network, nn.Linear) else [*network] if isinstance(network, nn.Sequential) else []
    fronts: list[nn.Module] = [part for part in parts if isinstance(part, nn.Flatten | Front)]
    layers = parts[len(fronts) :]
    if not layers or parts[: len(fronts)] != fronts or not isinstance(first := layers[0], nn.Linear):
        got = type(network).__name__
        raise ValueError(f"context: expected a network of layers that begin with a linear one, got {got}.")
    wider = nn.Linear(first.in_features + more, first.out_features, first.bias is not None)
    wider = wider.to(first.weight)
    with torch.no_grad():
        wider.weight.normal_(std=float(first.weight.std()) if first.weight.numel() > 1 else 1.0)
        wider.weight[:, : first.in_features] = first.weight
        if first.bias is not None:
            wider.bias.copy_(first.bias)
    return fronts, nn.Sequential(wider, *layers[1:])
