"""A precision corrected by steps, against the textbook's matrix and a quadratic."""

import torch
from torch import nn

from curvae.curvature import Newton, route_for
from curvae.curvature.bfgs import BFGS, CAUTION
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.priors import StandardNormal
from searches import smooth_model
from zoo import batch_of, points, relu_model

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


def test_what_is_not_finite_teaches_nothing():
    start, vector = spd(), torch.randn(5, 4, dtype=torch.float64)
    for fall in (torch.inf, torch.nan):
        found = BFGS.of(start).after(vector, torch.full_like(vector, fall), (vector * vector).sum(-1), ~TAKEN)
        torch.testing.assert_close(found.solve(vector), torch.linalg.solve(start, vector), **CLOSE)


class Roof(nn.Module):
    """The farther z_0 is from 0, the farther the first output is from what is seen: a ridge along z_0 = 0."""

    def forward(self, z):
        return torch.stack([10 * z[..., 0].abs(), z[..., 1]], -1)


def test_a_step_in_vain_turns_the_next_one_along_the_ridge():
    """Beside the ridge Newton's direction leads across it, however short the step; what lies beyond is learned."""
    model = LatentVariableModel(StandardNormal(2), Roof(), Gaussian(2, scale=0.1)).double()
    batch, z0 = batch_of(torch.tensor([[-5.0, 2.0]]).double()), torch.tensor([[1e-3, -2.0]]).double()
    route = route_for(model, batch, z0)
    found, _ = Newton(bfgs=8).search(route, z0, 1)
    stuck, _ = Newton(bfgs=0).search(route, z0, 9)
    mode = torch.tensor([[0.0, 2.0 / 1.01]]).double()
    assert torch.equal(stuck, z0)
    torch.testing.assert_close(found, mode, atol=0.01, rtol=0)


def test_a_search_from_one_factor_ends_faster_than_any_frozen_one_can(monkeypatch):
    """A frozen factor shrinks the error by a constant share a step; BFGS learns what the factor misses."""
    model, batch = smooth_model()
    z0 = 2 * points()
    route = route_for(model, batch, z0)
    gap = {}
    for frozen in (False, True):
        with monkeypatch.context() as patch:
            if frozen:
                patch.setattr(BFGS, "after", lambda self, *rest: self)
            end, _ = Newton(bfgs=20).search(route, z0, 1)
        grad = route.local(end).grad
        gap[frozen] = grad.norm(dim=-1).median().item()
    assert gap[False] < 0.01 * gap[True]


def test_it_beats_a_frozen_factor_across_kinks_too(monkeypatch):
    model, batch = relu_model("gaussian", hidden=(40, 40))
    z0 = 2 * points()
    route = route_for(model, batch, z0)
    monkeypatch.setenv("CURVAE_KERNEL", "0")
    learned, _ = Newton(bfgs=8).search(route, z0, 1)
    monkeypatch.setattr(BFGS, "after", lambda self, *rest: self)
    frozen, _ = Newton(bfgs=8).search(route, z0, 1)
    assert route.log_joint(learned).mean() > route.log_joint(frozen).mean()
