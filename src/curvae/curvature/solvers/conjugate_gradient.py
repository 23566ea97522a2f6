"""Conjugate gradients, and the search whose Newton steps they find: Gauss-Newton-CG, with no matrix formed."""

from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from curvae import linalg
from curvae.curvature.linearization import Linearization, Product
from curvae.curvature.solvers.line_search import Backtracking, StepRule
from curvae.curvature.solvers.solver import Solver, State, Step
from curvae.typing import Latent


@dataclass(frozen=True)
class ConjugateGradient(Solver):
    """Newton steps ``Lam d = grad`` solved by a few iterations of conjugate gradients, each one product with Lam.

    The products follow one linearization of the decoder a step; Lam is not formed. Stopped early, d is still an ascent
    direction. Where an estimate is known of ``diag Lam^-1`` (``MatrixFree``), it is the preconditioner.

    Reference: truncated Newton (Dembo and Steihaug, *Math. Programming* 1983) with the Gauss-Newton matrix.

    Args:
        rule: how long each step is.
        iterations: of conjugate gradients in a step, at most; D are exact but for rounding.
        forcing: residual, relative to the gradient, at which they stop earlier.

    Raises:
        ValueError: fewer than 1 iteration.

    Example:
        >>> import torch
        >>> from curvae.curvature import linearize
        >>> from curvae.likelihoods import Gaussian
        >>> from curvae.model import LatentVariableModel
        >>> from curvae.priors import StandardNormal
        >>> from curvae.typing import Batch
        >>> decoder = torch.nn.Linear(1, 2)
        >>> torch.nn.init.ones_(decoder.weight); torch.nn.init.zeros_(decoder.bias)
        Parameter containing: ...
        >>> model = LatentVariableModel(StandardNormal(1), decoder, Gaussian(2))
        >>> start, batch = torch.zeros(1, 1), Batch(torch.ones(1, 2), torch.tensor([-1]))
        >>> near, seen = ConjugateGradient().search(linearize(model, batch, start), steps=1)
        >>> f"{near.z.item():.4f}"   # J'x / (J'J + 1)
        '0.6667'
    """

    rule: StepRule = field(default_factory=Backtracking)
    iterations: int = 3
    forcing: float = 1e-2

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"ConjugateGradient: iterations must be 1 or more; got {self.iterations}.")

    def init(self, here: Linearization) -> tuple[Linearization, State]:
        return here, ()

    def step(self, t: int, here: Linearization, state: State) -> Step:
        grad = here.grad()
        d = conjugate_gradients(here.product, grad, self.iterations, self.forcing, here.frame.variance).solution
        there, length = self.rule.advance(t, here, grad, d).taken(here)
        return Step(grad, there, 0.5 * torch.linalg.vecdot(grad, d), length != 0)


class ConjugateGradientResult(NamedTuple):
    """What conjugate gradients found for each vector of each example."""

    solution: Float[Tensor, "*S B D"]
    residual: Float[Tensor, "*S B"]
    """``|target - Lam solution|`` by the recursion."""
    iterations: Int[Tensor, "*S B"]
    converged: Bool[Tensor, "*S B"]


def conjugate_gradients(
    product: Product, target: Latent, iterations: int, tolerance: float, diagonal: Float[Tensor, "B D"] | None = None
) -> ConjugateGradientResult:
    """Solves ``Lam y = target`` by preconditioned conjugate gradients from y = 0, each vector by itself.

    A vector is left alone once its residual is below ``tolerance * |target|``, or where Lam shows itself not positive
    or not finite. Stopped early, y is still an ascent direction for target = gradient, and
    ``1/2 target'y`` what a step to it gains in the quadratic model.

    Args:
        product: ``v -> Lam v``.
        target: (*S, B, D).
        iterations: at most this many; D are enough but for rounding.
        tolerance: relative to the norm of the target.
        diagonal: the preconditioner, an estimate of the diagonal of ``Lam^-1`` or of ``1 / diag Lam``.

    Example:
        >>> import torch
        >>> solved = conjugate_gradients(lambda v: 2 * v, torch.ones(1, 3), iterations=5, tolerance=1e-6)
        >>> solved.solution.tolist(), solved.iterations.item()
        ([[0.5, 0.5, 0.5]], 1)
    """
    scale = torch.ones_like(target) if diagonal is None else diagonal.expand_as(target)
    aim = tolerance * target.norm(dim=-1)
    solution, residual, size = torch.zeros_like(target), target, target.norm(dim=-1)
    direction = scale * residual
    rho = (residual * direction).sum(-1)
    used = torch.zeros_like(size, dtype=torch.long)
    active = size > aim
    for iteration in range(iterations):
        if _may_stop(active, iteration) and not bool(active.any()):
            break
        image = product(direction)
        bend = (direction * image).sum(-1)
        active = active & (bend > 0) & bend.isfinite()
        length, moves = (rho / bend).unsqueeze(-1), active.unsqueeze(-1)
        solution = torch.where(moves, solution + length * direction, solution)
        residual = torch.where(moves, residual - length * image, residual)
        used = used + active
        size = residual.norm(dim=-1)
        active = active & (size > aim)
        old, rho = rho, (residual * scale * residual).sum(-1)
        direction = scale * residual + torch.where(active, rho / old, 0.0).unsqueeze(-1) * direction
    return ConjugateGradientResult(solution, size, used, size <= aim)


def _may_stop(active: Tensor, iteration: int) -> bool:
    """Whether to look who is not done; on a GPU only now and then, as a few needless products cost less."""
    return linalg.can_sync(active) or (iteration % 16 == 15 and not torch.compiler.is_compiling())


def solve(product: Product, target: Latent) -> Latent:
    """``Lam^-1 target`` as exactly as the precision of the numbers lets one hope."""
    return conjugate_gradients(product, target, 2 * target.shape[-1] + 10, tight(target.dtype)).solution


def tight(dtype: torch.dtype) -> float:
    """The relative residual of ``solve``: 2e-12 in float64, 6e-6 in float32."""
    return torch.finfo(dtype).eps ** 0.75
