"""Mode search: Newton steps on log p(x, z) with the Gauss-Newton precision, and what a search says of itself."""

from dataclasses import dataclass
from enum import IntEnum
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from curvae import linalg
from curvae.curvature.linearization import Linearization
from curvae.curvature.solvers.line_search import StepRule
from curvae.typing import Info, Matrix, PerDatum


class Status(IntEnum):
    """How the search for one example ended; what is above KINK counts as not ok."""

    OK = 0
    """Within the tolerance of the mode."""
    KINK = 1
    """No step along the Newton direction raises the log joint: a ridge between two linear pieces of the decoder."""
    MAX_STEPS = 2
    """The steps ran out first."""
    NOT_PSD = 3
    """The precision needed jitter."""
    NONFINITE = 4
    """A value was not finite."""


def not_ok(status: Int[Tensor, " B"]) -> Bool[Tensor, " B"]:
    """Whether a search did not end where it should: out of steps, jitter needed, or a value not finite."""
    return status > Status.KINK


class Record(NamedTuple):
    """What a search saw of each example before a step."""

    log_joint: PerDatum
    grad_norm: PerDatum

    @classmethod
    def of(cls, log_joint: PerDatum, grad: Float[Tensor, "B D"]) -> "Record":
        """The values, detached."""
        return cls(log_joint.detach(), grad.detach().norm(dim=-1))

    def updated(self, rows: Int[Tensor, " n"], part: "Record") -> "Record":
        """With the values of some of the data replaced."""
        return Record(*(old.index_copy(0, rows, new) for old, new in zip(self, part, strict=True)))


class Mode(NamedTuple):
    """Where a search has led: the mode of each example, the precision there, and how far it is from done."""

    mean: Float[Tensor, "B D"]
    precision: Matrix
    factor: Matrix
    """The lower Cholesky factor of the precision."""
    seen: list[Record]
    left: PerDatum
    """Newton decrement at the mean: the nats that one more step promises."""
    stuck: Bool[Tensor, " B"]
    """Whether the last step could not raise the log joint."""
    ok: Bool[Tensor, " B"]
    """Whether the precision needed no jitter."""


@dataclass(frozen=True)
class SearchHistory:
    """What a search did, step by step: entry t holds the values before step t, the last one those at the end."""

    log_joint: Float[Tensor, "T1 B"]
    grad_norm: Float[Tensor, "T1 B"]
    status: Int[Tensor, " B"]

    @classmethod
    def of(
        cls, seen: list[Record], left: PerDatum, stuck: Bool[Tensor, " B"], ok: Tensor, tolerance: float
    ) -> "SearchHistory":
        """From what was seen, the nats left to the mode, and what went wrong."""
        log_joint, grad_norm = (torch.stack(values) for values in zip(*seen, strict=True))
        status = torch.where(stuck, Status.KINK, Status.MAX_STEPS)
        status = torch.where(left <= tolerance, Status.OK, status)
        status = torch.where(ok, status, Status.NOT_PSD)
        finite = log_joint[-1].isfinite() & grad_norm[-1].isfinite()
        return cls(log_joint, grad_norm, torch.where(finite, status, Status.NONFINITE))

    @property
    def info(self) -> Info:
        """All of it, by name."""
        names = ("log_joint", "grad_norm", "status", "steps", "gained")
        return {name: getattr(self, name) for name in names}

    @property
    def steps(self) -> Int[Tensor, " B"]:
        """How many steps changed the log joint of each example."""
        return has_changed(self.log_joint[:-1], self.log_joint[1:]).sum(0)

    @property
    def gained(self) -> PerDatum:
        """The nats by which the log joint rose."""
        return self.log_joint[-1] - self.log_joint[0]


def has_changed(before: Float[Tensor, "*T B"], after: Float[Tensor, "*T B"]) -> Bool[Tensor, "*T B"]:
    """Whether a log joint has changed by more than rounding."""
    return (after - before).abs() > 8 * torch.finfo(after.dtype).eps * after.abs()


def take_newton_steps(near: Linearization, steps: int, rule: StepRule) -> tuple[Linearization, list[Record]]:
    """``steps`` Newton steps, all of them, for all data, with gradients where they are on.

    The step d solves ``r = grad - Lam d = 0``, so ``d' = Lam^-1 r'`` with d held fixed inside r: its derivative needs
    the residual, which is a few vector products, and no derivative of Lam or of its factor.
    """
    seen: list[Record] = []
    for t in range(steps):
        with torch.no_grad():
            here = near.detach()
            local = here.local()
            factor, _ = linalg.cholesky(local.precision)
            step = linalg.solve_spd(factor, local.grad)
            seen.append(Record.of(local.log_joint, local.grad))
            there, length = rule.advance(t, here, local.grad, step).taken(here)
        if not torch.is_grad_enabled():
            near = there
            continue
        residual = near.residual(step)
        step = step + linalg.solve_spd(factor, residual - residual.detach())
        near = near.at(near.z + length.unsqueeze(-1) * step)
    return near, seen
