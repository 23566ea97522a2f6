"""Without looking at values (on a GPU, in a compiled graph) the same search, in one graph."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from curvae import linalg
from curvae.curvature import ConjugateGradient, Gradient, Layerwise, LevenbergMarquardt, Newton, PaperSchedule
from curvae.inference import AmortizedGaussian, Laplace
from curvae.networks import MLP
from curvae.objectives import Bound, monte_carlo_elbo
from curvae.systems import LatentSystem
from curvae.training.loop.compiled_bound import Compiled
from curvae.typing import Batch
from zoo import relu_model

KINDS = {
    "newton": {"solver": Newton(bfgs=2), "tolerance": 0.0},
    "layerwise": {"solver": Newton(bfgs=2), "tolerance": 0.0, "route": Layerwise},
    "published": {"solver": Newton(PaperSchedule()), "unroll": True},
    "levenberg-marquardt": {"solver": LevenbergMarquardt(tries=2), "tolerance": 0.0},
    "conjugate-gradient": {"solver": ConjugateGradient(), "tolerance": 0.0},
    "gradient": {"solver": Gradient(), "tolerance": 0.0},
}


def system_and_batch(kind: str, steps: int = 3):
    torch.manual_seed(0)  # also in a process of its own
    model, batch = relu_model("gaussian-shared", hidden=(8, 9))
    start = AmortizedGaussian(MLP(10, [16], 6).double())
    return LatentSystem(model, Laplace(start, steps, **KINDS[kind]), monte_carlo_elbo), batch


def outcome(system, bound, batch):
    torch.manual_seed(0)
    system.zero_grad()
    found = bound(batch)
    found.surrogate.sum().backward()
    return found.value.detach(), *(parameter.grad.clone() for parameter in system.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_all_data_take_all_steps(kind, monkeypatch):
    system, batch = system_and_batch(kind)
    expected = outcome(system, system.bound, batch)
    monkeypatch.setattr(linalg, "can_sync", lambda tensor: False)
    for value, other in zip(outcome(system, system.bound, batch), expected, strict=True):
        torch.testing.assert_close(value, other, atol=1e-7, rtol=1e-7)


def test_one_graph_holds_the_whole_step():
    """No value is looked at on the way: ``fullgraph`` would refuse; and what cannot be compiled runs.

    In its own process, without the type checks.
    """
    here = Path(__file__).parent
    code = (
        f"import sys; sys.path[:0] = [{str(here)!r}, {str(here.parent)!r}]; from test_static import *; "
        "one_graph(); traced(); one_size(); not_compiled()"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-2000:]


class Eager:
    """A backend that counts its graphs and runs them as they are."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph.forward


def compare(system, bound, batch) -> None:
    for value, other in zip(outcome(system, bound, batch), outcome(system, system.bound, batch), strict=True):
        torch.testing.assert_close(value, other, atol=1e-7, rtol=1e-7)


def one_graph() -> None:
    """A step of training is one graph, and the next step takes the same one."""
    for kind in KINDS:
        torch.compiler.reset()  # graphs are counted against a limit
        (system, batch), backend = system_and_batch(kind, steps=2), Eager()
        whole = torch.compile(system.bound, fullgraph=True, backend=backend)
        compare(system, whole, batch)
        compare(system, whole, batch)
        assert backend.graphs == 1


def traced() -> None:
    """The backward pass can be traced too, as a true backend does."""
    torch.compiler.reset()
    system, batch = system_and_batch("newton", steps=1)
    compare(system, torch.compile(system.bound, fullgraph=True, backend="aot_eager"), batch)


def one_size() -> None:
    """Two of three batches are of the size that is compiled, in one graph; the last goes without."""
    torch.compiler.reset()
    (system, batch), backend = system_and_batch("gradient", steps=1), Eager()
    step = Compiled(system.bound, len(batch.x), backend)
    for part in (batch, batch, Batch(batch.x[:3], batch.index[:3])):
        compare(system, step, part)
    assert backend.graphs == 1


def not_compiled() -> None:
    def backend(graph, inputs):
        raise RuntimeError("no compiler here")

    def bound(batch):
        return Bound(batch.x.sum(-1), 2 * batch.x.sum(-1))

    step, batch = Compiled(bound, 2, backend), Batch(torch.ones(2, 3), torch.arange(2))
    with pytest.warns(UserWarning, match="compile: goes on without .*no compiler here"):
        assert step(batch).value.tolist() == [3, 3]
    assert step(batch).surrogate.tolist() == [6, 6]


def test_a_matrix_that_needs_jitter_gets_it_there_too(monkeypatch):
    matrix = torch.stack([torch.eye(3), torch.ones(3, 3)])
    factor, ok = linalg.cholesky(matrix)
    monkeypatch.setattr(linalg, "can_sync", lambda tensor: False)
    other, same = linalg.cholesky(matrix)
    assert ok.tolist() == same.tolist() == [True, False]
    torch.testing.assert_close(factor, other)
