"""The generic route: J by batched Jacobian-vector products, for any decoder whose rows are independent."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from curvae.curvature.route import Local, Route, assemble, chosen, missed
from curvae.model import LatentVariableModel
from curvae.typing import Batch, PerDatum

MEMORY = 2**28
"""Bytes that the Jacobians of the generic route may take at a time."""


class Generic(Route):
    """J by D Jacobian-vector products at once, for any decoder; chunks of the batch keep it within ``memory`` bytes."""

    memory: int = MEMORY

    @classmethod
    def fits(cls, model: LatentVariableModel, batch: Batch) -> bool:
        return True

    @classmethod
    def at(cls, model: LatentVariableModel, batch: Batch, z: Float[Tensor, "B D"]) -> "Generic":
        return cls(model, batch)

    def __init__(self, model: LatentVariableModel, batch: Batch):
        super().__init__(model)
        self.batch = batch

    def take(self, rows: Int[Tensor, " n"]) -> "Generic":
        return Generic(self.model, chosen(self.batch, rows))

    def log_likelihood(self, z: Float[Tensor, "B D"]) -> PerDatum:
        return self.model.log_likelihood(self.batch.x, z, self.batch.mask)

    def likelihood_part(self, z: Float[Tensor, "B D"]) -> Local:
        # a Jacobian, its product with the root of the information, and what forward mode keeps
        bytes_each = 4 * self.model.likelihood.size * z.shape[-1] * z.element_size()
        size = max(1, self.memory // bytes_each)
        parts = [self._chunk(z[start : start + size], slice(start, start + size)) for start in range(0, len(z), size)]
        return Local(*(torch.cat(values) for values in zip(*parts, strict=True)))

    def likelihood_residual(self, z: Float[Tensor, "B D"], step: Float[Tensor, "B D"]) -> Float[Tensor, "B D"]:
        def decode(point: Tensor) -> Tensor:
            return self.model.decode(point, self.batch.x)

        eta, pull = torch.func.vjp(decode, z)[:2]
        tangent = torch.func.jvp(decode, (z,), (step,))[1]
        return pull(missed(self.model, self.batch, eta, tangent))[0]

    def _chunk(self, z: Float[Tensor, "B D"], rows_of: slice) -> Local:
        part = chosen(self.batch, rows_of)
        eye = torch.eye(z.shape[-1], dtype=z.dtype, device=z.device)

        def decode(point: Tensor) -> Tensor:
            return self.model.decode(point, part.x)

        def along(direction: Tensor) -> Tensor:
            return torch.func.jvp(decode, (z,), (direction.expand_as(z),))[1]

        columns = torch.func.vmap(along)(eye)
        return assemble(self.model, part, decode(z), columns.transpose(0, 1))
