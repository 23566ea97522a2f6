"""A precision corrected by steps, against the textbook's matrix and a quadratic."""

import pytest
import torch

from curvae.curvature import Newton, linearize
from curvae.curvature.solvers.bfgs import BFGS, CAUTION
from searches import beside_a_ridge, searched, smooth_model
from zoo import points

CLOSE = {"atol": 1e-9, "rtol": 1e-9}


TAKEN = torch.ones(5, dtype=torch.bool)


def spd(batch: int = 5, size: int = 4) -> torch.Tensor:
    root = torch.randn(batch, size, size, dtype=torch.float64)
    return root @ root.mT + torch.eye(size, dtype=torch.float64)


def updated(matrix: torch.Tensor, s: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """``B + yy'/y's - Bss'B/s'Bs``."""
    along = torch.einsum("bij,bj->bi", matrix, s)
    rise = torch.einsum("bi,bj->bij", y, y) / (y * s).sum(-1)[:, None, None]
    return matrix + rise - torch.einsum("bi,bj->bij", along, along) / (s * along).sum(-1)[:, None, None]


def test_solves_with_the_updated_matrix():
    start, truth, vector = spd(), spd(), torch.randn(5, 4, dtype=torch.float64)
    matrix, found = start, BFGS.of(start)
    for _ in range(3):
        s = torch.randn(5, 4, dtype=torch.float64)
        y = torch.einsum("bij,bj->bi", truth, s)
        expected = torch.einsum("bi,bij,bj->b", s, matrix, s)
        used = (s * y).sum(-1) > CAUTION * expected
        matrix = torch.where(used[:, None, None], updated(matrix, s, y), matrix)
        found = found.after(s, y, expected, TAKEN)
        torch.testing.assert_close(found.solve(vector), torch.linalg.solve(matrix, vector), **CLOSE)


def test_a_step_against_the_curvature_teaches_nothing():
    start, s = spd(), torch.randn(5, 4, dtype=torch.float64)
    vector = torch.randn(5, 4, dtype=torch.float64)
    for fall in (-s, torch.zeros_like(s), 0.01 * s):
        found = BFGS.of(start).after(s, fall, (s * s).sum(-1), TAKEN)
        torch.testing.assert_close(found.solve(vector), torch.linalg.solve(start, vector), **CLOSE)


def test_a_step_in_vain_that_teaches_nothing_forgets_all_before_it():
    """One that teaches something adds to what is known, and one that was taken never takes away."""
    start, s = spd(), torch.randn(5, 4, dtype=torch.float64)
    square, vector = (s * s).sum(-1), torch.randn(5, 4, dtype=torch.float64)
    plain = torch.linalg.solve(start, vector)
    found = BFGS.of(start).after(s, 3 * s, square, TAKEN)
    other = torch.randn_like(s)
    for fall, taken, forgets in ((-other, ~TAKEN, True), (-other, TAKEN, False), (other, ~TAKEN, False)):
        after = found.after(other, fall, (other * other).sum(-1), taken).solve(vector)
        assert ((after - plain).abs().amax(-1) < 1e-9).all() == forgets
    both = found.after(other, 3 * other, (other * other).sum(-1), ~TAKEN)
    torch.testing.assert_close(both.solve(3 * other), other, **CLOSE)


@pytest.mark.parametrize("fall", [torch.inf, -torch.inf, torch.nan])
@pytest.mark.parametrize("step", [(1.0, 2.0, 3.0, 4.0), (1.0, -2.0, 3.0, -4.0)], ids=["one-sign", "both-signs"])
def test_what_is_not_finite_teaches_nothing(fall, step):
    """Neither a curvature of infinity, which is more than any share of the expected one, nor one that is no number."""
    start, step = spd(), torch.tensor(step, dtype=torch.float64).expand(5, 4)
    found = BFGS.of(start).after(step, torch.full_like(step, fall), (step * step).sum(-1), ~TAKEN)
    torch.testing.assert_close(found.solve(step), torch.linalg.solve(start, step), **CLOSE)


def test_a_step_in_vain_turns_the_next_one_along_the_ridge(monkeypatch):
    """Beside the ridge Newton's direction leads across it, however short the step; what lies beyond is learned."""
    model, batch, z0, mode = beside_a_ridge()
    route = linearize(model, batch, z0)
    found, _ = searched(Newton(bfgs=8), route, z0, 2)
    torch.testing.assert_close(found, mode, atol=0.05, rtol=0)
    assert torch.equal(searched(Newton(bfgs=0), route, z0, 9)[0], z0)
    monkeypatch.setattr(BFGS, "after", lambda self, *rest: self)
    assert torch.equal(searched(Newton(bfgs=8), route, z0, 2)[0], z0)


def test_a_search_from_one_factor_ends_faster_than_any_frozen_one_can(monkeypatch):
    """A frozen factor shrinks the error by a constant share a step; BFGS learns what the factor misses."""
    model, batch = smooth_model()
    z0 = 2 * points()
    route = linearize(model, batch, z0)
    gap = {}
    for frozen in (False, True):
        with monkeypatch.context() as patch:
            if frozen:
                patch.setattr(BFGS, "after", lambda self, *rest: self)
            end, _ = searched(Newton(bfgs=20), route, z0, 1)
        grad = route.at(end).local().grad
        gap[frozen] = grad.norm(dim=-1).median().item()
    assert gap[False] < 0.01 * gap[True]
