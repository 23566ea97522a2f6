"""A precision corrected by steps, against the textbook's matrix and a quadratic."""

import torch

from curvae.curvature import Newton, route_for
from curvae.curvature.bfgs import BFGS, CAUTION
from searches import smooth_model
from zoo import points, relu_model

CLOSE = {"atol": 1e-9, "rtol": 1e-9}


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
        found = found.after(s, y, expected)
        torch.testing.assert_close(found.solve(vector), torch.linalg.solve(matrix, vector), **CLOSE)


def test_a_step_against_the_curvature_teaches_nothing():
    start, s = spd(), torch.randn(5, 4, dtype=torch.float64)
    vector = torch.randn(5, 4, dtype=torch.float64)
    for fall in (-s, torch.zeros_like(s), 0.01 * s):
        found = BFGS.of(start).after(s, fall, (s * s).sum(-1))
        torch.testing.assert_close(found.solve(vector), torch.linalg.solve(start, vector), **CLOSE)


def test_no_step_forgets_all_before_it():
    start, s = spd(), torch.randn(5, 4, dtype=torch.float64)
    found = BFGS.of(start).after(s, 3 * s, (s * s).sum(-1))
    none, rest = torch.zeros_like(s), (torch.arange(5) < 2).double()
    after = found.after(s * rest.unsqueeze(-1), s * rest.unsqueeze(-1), (s * s).sum(-1) * rest)
    vector = torch.randn(5, 4, dtype=torch.float64)
    plain = torch.linalg.solve(start, vector)
    torch.testing.assert_close(after.solve(vector)[2:], plain[2:], **CLOSE)
    assert (after.solve(vector) - plain)[:2].abs().max() > 1e-3
    torch.testing.assert_close(after.after(none, none, none[:, 0]).solve(vector), plain, **CLOSE)


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
