"""The contract of a transform, and how transforms are chained."""

import json
from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from hashlib import sha256
from math import prod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Generator, Tensor

ROWS = 4096
"""That are looked at, or transformed, at a time."""
FIXED_NOISE = 20210
"""Seed of the noise of a transform where it must be the same every time."""


class Meaning(NamedTuple):
    """What the values of a transform mean; by default, what those before it did."""

    unit: str = ""
    """What they are, in words."""
    peak: float | None = None
    """Raw value shown as white in a picture; None where the transform does not know one."""
    levels: float = 1.0
    """Grey levels within 1 of the unit."""
    random: bool = False
    """Whether a call draws noise."""


AS_BEFORE = Meaning()


@dataclass(frozen=True, eq=False)
class Transform(ABC):
    """A map ``y = f(raw)`` that acts on every element by itself; fitted parameters are tensors of the event's shape.

    A density over raw data follows from one over model space, ``log p(raw) = log p(y) + log_det(y)`` in nats,
    and :attr:`unit` says in words what it is then a density over. Calls give float32; the arithmetic is in
    float64 where ``raw`` is.

    For authors: implement ``_forward``, ``_backward`` and ``_log_slope`` for one element; ``_meaning`` says if the
    values change theirs.
    """

    _meaning: ClassVar[Meaning] = AS_BEFORE

    @abstractmethod
    def _forward(self, raw: Tensor, generator: Generator | None) -> Tensor: ...

    @abstractmethod
    def _backward(self, y: Tensor) -> Tensor: ...

    @abstractmethod
    def _log_slope(self, y: Tensor) -> Tensor:
        """``log |dy/draw|`` of every element, of the shape of ``y``."""

    @property
    def random(self) -> bool:
        """Whether a call draws noise."""
        return self._meaning.random

    @property
    def unit(self) -> str:
        """What ``log p(y) + log_det(y)`` is a density over, in words."""
        return self._meaning.unit or "data as given"

    @property
    def peak(self) -> float | None:
        """Raw value shown as white in a picture; None where the transform does not know one."""
        return self._meaning.peak

    @property
    def levels_per_unit(self) -> float:
        """Grey levels within 1 of :attr:`unit`, for bits per dimension of one level; 1 where values are levels."""
        return self._meaning.levels

    def __call__(self, raw: Tensor, generator: Generator | None = None) -> Tensor:
        """Raw data ``(B, *event)`` of any dtype to model space ``(B, *event)``, float32."""
        return self._forward(raw if raw.dtype == torch.float64 else raw.float(), generator).float()

    def inverse(self, y: Tensor) -> Tensor:
        """Model space back to raw units, in float64 where the device has it; noise is taken off where it can be.

        A column with a large offset keeps its resolution: time stamps of 1.7e9 seconds have none of it in float32.
        """
        return self._backward(y if y.device.type == "mps" else y.double())

    def log_det(self, y: Tensor, mask: Tensor | None = None) -> Tensor:
        """``log |dy/draw|`` in nats, ``(B,)``, at the transformed ``y``, summed over the event's observed elements."""
        slope = self._log_slope(y)
        return (slope if mask is None else torch.where(mask, slope, 0)).flatten(1).sum(1)

    def picture(self, y: Tensor) -> Tensor:
        """Model space to grey levels or colors in [0, 1]."""
        return (self.inverse(y) / (self.peak or 1.0)).clamp(0, 1).float()

    def state(self) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """What :func:`curvae.data.transforms.restore` needs: a part for JSON and a part for safetensors."""
        numbers: dict[str, Any] = {"kind": type(self).__name__}
        tensors: dict[str, Tensor] = {}
        for name, value in ((field.name, getattr(self, field.name)) for field in fields(self)):
            if isinstance(value, tuple):  # transforms: the tensors of part i have names that begin with "i."
                states = [part.state() for part in value]
                numbers[name] = [of_part for of_part, _ in states]
                tensors |= {f"{i}.{key}": tensor for i, (_, own) in enumerate(states) for key, tensor in own.items()}
            else:
                (tensors if isinstance(value, Tensor) else numbers)[name] = value
        return numbers, tensors

    @property
    def fingerprint(self) -> str:
        """Its kind and eight digits that stand for all its numbers: equal where two transforms do the same.

        >>> from curvae.data.transforms import Scale
        >>> Scale(1 / 255).fingerprint == Scale(1 / 255).fingerprint, Scale(1 / 255).fingerprint == Scale(1).fingerprint
        (True, False)
        """
        numbers, tensors = self.state()
        digest = sha256(json.dumps(numbers, sort_keys=True).encode())
        for name, value in sorted(tensors.items()):
            digest.update(f"{name}{value.dtype}{tuple(value.shape)}".encode())
            digest.update(value.contiguous().cpu().numpy().data)
        kinds = [part["kind"] for part in numbers.get("parts", [numbers])]
        return f"{', '.join(kinds)} {digest.hexdigest()[:8]}"


@dataclass(frozen=True, eq=False, init=False)
class Chain(Transform):
    """Transforms one after the other, the first applied first: ``Chain(f, g)(raw) = g(f(raw))``.

    >>> from curvae.data.transforms import Dequantization, Logit
    >>> chain = Chain(Dequantization(256), Logit(0.05))
    >>> chain.random, chain.unit
    (True, 'grey levels 0..255, dequantized with uniform noise')
    >>> raw = torch.tensor([[0.0, 128.0, 255.0]])
    >>> chain.inverse(chain(raw))
    tensor([[  0., 128., 255.]], dtype=torch.float64)
    """

    parts: tuple[Transform, ...]

    def __init__(self, *parts: Transform):
        object.__setattr__(self, "parts", parts)

    def _forward(self, raw: Tensor, generator: Generator | None) -> Tensor:
        for part in self.parts:
            raw = part._forward(raw, generator)
        return raw

    def _backward(self, y: Tensor) -> Tensor:
        for part in reversed(self.parts):
            y = part._backward(y)
        return y

    def _log_slope(self, y: Tensor) -> Tensor:
        total = torch.zeros_like(y)
        for part in reversed(self.parts):
            total = total + part._log_slope(y)
            y = part._backward(y)
        return total

    @property
    def _meaning(self) -> Meaning:
        """The last unit, the first peak; noise where any part draws it."""
        each = [part._meaning for part in self.parts]
        unit = next((one.unit for one in reversed(each) if one.unit), "")
        peak = next((one.peak for one in each if one.peak is not None), None)
        return Meaning(unit, peak, prod(one.levels for one in each), any(one.random for one in each))
