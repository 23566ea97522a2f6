"""The compiled search takes the steps that torch takes, and says where it cannot."""

from dataclasses import replace
from typing import NamedTuple

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from curvae.curvature import Backtracking, Gram, Layerwise, Newton, PaperSchedule, linearize, native
from curvae.curvature.solvers import compiled_newton
from curvae.curvature.solvers.bfgs import BFGS
from curvae.inference import AmortizedGaussian, Laplace
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.networks import MLP
from curvae.priors import StandardNormal
from fuzz import examples
from searches import searched
from zoo import batch_of

COPIES = 8
"""Searches by torch that begin with other rounding."""
SPREADS = 10.0

NEEDS_COMPILER = pytest.mark.skipif(not native.available(), reason="no C compiler here")


class OtherPrior(StandardNormal):
    """Whatever it overrides."""


def problem(latent=3, hidden=(20, 31), data=60, scale=0.3, prior=None, activation: type[nn.Module] = nn.ReLU):
    """A route, and starts far from the modes."""
    outputs = max(hidden) + 5
    decoder = MLP(latent, list(hidden), outputs, activation)
    model = LatentVariableModel(prior or StandardNormal(latent), decoder, Gaussian(outputs, scale=scale)).double()
    with torch.no_grad():
        batch, z = batch_of(model.sample(data)[0].double()), 2 * torch.randn(data, latent, dtype=torch.float64)
        return linearize(model, batch, z), z


def by_torch(monkeypatch, solver: Newton, route, z, *rest):
    with monkeypatch.context() as patch:
        patch.setenv("CURVAE_KERNEL", "0")
        return searched(solver, route, z, *rest)


class Answer(NamedTuple):
    """What a search says of each datum: where it ends, the log joint there, and what it saw before each step."""

    end: Tensor
    log_joint: Tensor
    seen: Tensor
    grad_norms: Tensor

    @classmethod
    def of(cls, route, found, visits: int) -> "Answer":
        """The last of what was seen holds for the steps that were not needed."""
        end, seen = found
        padded = [*seen, *[seen[-1]] * (visits - len(seen))]
        seen, grad_norms = (torch.stack(values) for values in zip(*padded, strict=True))
        return cls(end, route.at(end).log_joint.detach(), seen, grad_norms)

    @property
    def rows_first(self) -> "Answer":
        return Answer(self.end, self.log_joint, self.seen.mT, self.grad_norms.mT)


def spread(monkeypatch, solver: Newton, route, z, theirs: Answer, *rest) -> Answer:
    """How far torch's own answers lie from one another where the start and the data differ by rounding.

    A sum of n products is the exact one of numbers that are changed by n units of rounding, in whatever order it is
    taken (Higham, *Accuracy and Stability of Numerical Algorithms*, section 3.1).
    """
    rows, least = torch.arange(len(z)).repeat(COPIES), route.model.likelihood.size * torch.finfo(z.dtype).eps
    frame, begin, visits = route.frame.take(rows), z[rows] * (1 + least * torch.randn_like(z[rows])), len(theirs.seen)
    many = Gram(replace(frame, slope=frame.slope * (1 + least * torch.randn_like(frame.slope))), begin)
    again = Answer.of(many, by_torch(monkeypatch, solver, many, begin, *rest), visits).rows_first
    apart = [
        (copies.unflatten(0, (COPIES, -1)) - once).abs().amax(0)
        for copies, once in zip(again, theirs.rows_first, strict=True)
    ]
    return Answer(*apart).rows_first


def compare(monkeypatch, solver: Newton, route, z, steps: int, tolerance: float) -> None:
    """End and trace are those of torch, up to rounding.

    What was learned across a ridge enlarges rounding, for a few data to 10^12 times what it was; in torch as well,
    whose answers differ as much where its start does by a unit in the last place. The compiled search is one more such
    answer: it may lie some times their spread away, and no further.
    """
    found = compiled_newton.compiled_search(route.at(z), solver.rule, solver.visits(steps), solver.visits(1), tolerance)
    assert found is not None
    ours = Answer.of(route, (found[0].z, found[1]), solver.visits(steps))
    theirs = Answer.of(route, by_torch(monkeypatch, solver, route, z, steps, tolerance), solver.visits(steps))
    apart = spread(monkeypatch, solver, route, z, theirs, steps, tolerance)
    excess = Answer(*((a - b).abs() - SPREADS * c for a, b, c in zip(ours, theirs, apart, strict=True)))
    assert (excess.end <= 1e-5 + 1e-6 * theirs.end.abs()).all()
    assert (excess.log_joint <= 1e-5 + 1e-8 * theirs.log_joint.abs()).all()
    assert (excess.seen <= 1e-5 + 1e-8 * theirs.seen.abs()).all()
    assert (excess.grad_norms <= 1e-3 + 1e-6 * theirs.grad_norms.abs()).all()
    assert excess.log_joint.median() < 1e-9
    assert (excess.seen.median(-1).values < 1e-9).all()


@NEEDS_COMPILER
@settings(max_examples=examples(60), deadline=None)
@given(
    latent=st.integers(1, 40),
    hidden=st.lists(st.integers(1, 70), min_size=1, max_size=3),
    data=st.integers(1, 101),
    steps=st.integers(1, 4),
    bfgs=st.integers(0, 8),
    tolerance=st.sampled_from([0.0, 1e-3, 1.0]),
    seed=st.integers(0, 1000),
)
@example(latent=30, hidden=[67, 2], data=52, steps=3, bfgs=6, tolerance=0.0, seed=231)  # rounding becomes 2e-3
def test_the_steps_are_those_of_torch(latent, hidden, data, steps, bfgs, tolerance, seed) -> None:
    torch.manual_seed(seed)
    route, z = problem(latent, hidden, data)
    with pytest.MonkeyPatch.context() as patch:
        compare(patch, Newton(bfgs=bfgs), route, z, steps, tolerance)


@NEEDS_COMPILER
def test_every_kind_of_step_is_among_them(monkeypatch) -> None:
    """Full, shorter and none: far starts of a sharp model, and another rule's settings."""
    for rule in (Backtracking(), Backtracking(shortest=0.3, worth=5.0, sufficient=0.4)):
        route, z = problem(4, (30, 30), 200, scale=0.05)
        solver = Newton(rule, bfgs=1)
        seen = searched(solver, route, z, 4)[1]
        rises = torch.stack([one.log_joint for one in seen]).diff(dim=0)
        assert (rises > 0).any()
        assert (rises == 0).any()
        compare(monkeypatch, solver, route, z, 4, 0.0)


@NEEDS_COMPILER
def test_what_led_nowhere_is_forgotten_as_in_torch(monkeypatch) -> None:
    """Where a step in vain teaches nothing all pairs go; a search that keeps them finds the few starts it matters to.

    Narrow deep chains with little noise have most of them, about 1 in 200.
    """
    solver, known = Newton(bfgs=8), BFGS.after

    def kept(bend: BFGS, step, fall, expected, taken) -> BFGS:
        return known(bend, step, fall, expected, torch.ones_like(taken))

    ours, theirs, keeping = [], [], []
    for _ in range(6):
        route, z = problem(8, (16, 16, 16), 1000, scale=0.1)
        ours.append(route.at(searched(solver, route, z, 1)[0]).log_joint)
        theirs.append(route.at(by_torch(monkeypatch, solver, route, z, 1)[0]).log_joint)
        with monkeypatch.context() as patch:
            patch.setattr(BFGS, "after", kept)
            keeping.append(route.at(by_torch(monkeypatch, solver, route, z, 1)[0]).log_joint)
    matters = (torch.cat(keeping) - torch.cat(theirs)).abs() > 1e-3
    assert matters.any()
    assert (torch.cat(ours) - torch.cat(theirs))[matters].abs().median() < 1e-6


@NEEDS_COMPILER
def test_it_never_falls_and_nearly_reaches_the_mode() -> None:
    route, z = problem(5, (40, 40), 100)
    end, seen = searched(Newton(), route, z, 30)
    rises = torch.stack([one.log_joint for one in seen]).diff(dim=0)
    assert (rises >= 0).all()
    again = searched(Newton(), route, end, 5)[0]
    torch.testing.assert_close(route.at(again).log_joint, route.at(end).log_joint, rtol=0, atol=1e-6)


@NEEDS_COMPILER
def test_dead_units_a_layer_without_bias_and_no_data(monkeypatch) -> None:
    route, z = problem(3, (12, 9), 20)
    first, last = route.frame.hidden[0], route.frame.hidden[2]
    with torch.no_grad():
        first.bias.fill_(-100.0)
    last.bias = None
    route = Gram.of(route.model, batch_of(torch.randn(20, 17).double()), z)
    compare(monkeypatch, Newton(), route, z, 2, 0.0)
    rows = torch.arange(0)
    assert searched(Newton(), route.take(rows), z[rows], 2)[0].shape == (0, 3)


@NEEDS_COMPILER
def test_threads_change_nothing() -> None:
    route, z = problem(4, (20, 20), 90)
    alone = searched(Newton(), route, z, 3)[0]
    torch.set_num_threads(3)
    try:
        assert torch.equal(searched(Newton(), route, z, 3)[0], alone)
    finally:
        torch.set_num_threads(1)


@NEEDS_COMPILER
def test_its_start_stays_as_it_was() -> None:
    route, z = problem()
    before = z.clone()
    searched(Newton(), route, z, 2)
    assert torch.equal(z, before)


@NEEDS_COMPILER
def test_what_is_not_finite_is_left_to_torch() -> None:
    route, z = problem(3, (12, 9), 20)
    z[4] = torch.nan
    route.frame.gram[0, 0] = torch.nan
    assert compiled_newton.compiled_search(route.at(z), Backtracking(), 3, 3, 0.0) is None
    end, _ = searched(Newton(), route, z, 1)
    assert end.shape == z.shape


@NEEDS_COMPILER
def test_one_datum_that_is_not_finite_does_not_touch_the_others(monkeypatch) -> None:
    route, z = problem(3, (12, 9), 20)
    z[4] = torch.nan
    others = torch.tensor([row for row in range(20) if row != 4])
    expected = by_torch(monkeypatch, Newton(), route.take(others), z[others], 2)[0]
    torch.testing.assert_close(searched(Newton(), route, z, 2)[0][others], expected)


@pytest.mark.parametrize(
    "other",
    [
        lambda: (*problem(prior=OtherPrior(3)), Backtracking()),
        lambda: (*problem(activation=nn.Tanh), Backtracking()),
        lambda: (*problem(), PaperSchedule()),
    ],
)
def test_anything_else_is_left_to_torch(other) -> None:
    route, z, rule = other()
    assert compiled_newton.compiled_search(route, rule, 3, 3, 0.0) is None
    assert compiled_newton.compiled_search(type(route)(route.frame, z.float()), Backtracking(), 3, 3, 0.0) is None
    layerwise = Layerwise.of(route.model, batch_of(torch.zeros(2, route.model.likelihood.size).double()), z[:2])
    assert compiled_newton.compiled_search(layerwise, Backtracking(), 3, 3, 0.0) is None


@NEEDS_COMPILER
def test_inference_is_the_same_either_way(monkeypatch) -> None:
    torch.manual_seed(3)
    model = LatentVariableModel(StandardNormal(4), MLP(4, [24, 24], 40, nn.ReLU), Gaussian(40, scale=0.2)).double()
    inference = Laplace(AmortizedGaussian(MLP(40, [16], 8, nn.ReLU))).double()
    batch = batch_of(model.sample(50)[0].detach().double())
    ours = inference(model, batch)
    monkeypatch.setenv("CURVAE_KERNEL", "0")
    theirs = inference(model, batch)
    torch.testing.assert_close(ours.posterior.mean, theirs.posterior.mean, rtol=1e-6, atol=1e-6)
    for name in ("log_joint", "status", "gained"):  # steps counts changes larger than rounding
        torch.testing.assert_close(ours.info[name], theirs.info[name], rtol=1e-8, atol=1e-8)
