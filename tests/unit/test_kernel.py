"""The compiled kernel against dense torch, its gradient against finite differences, and the ways it gives up."""

import copy
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from curvae.curvature import native
from curvae.curvature.native import kernel
from fuzz import examples

NEEDS_KERNEL = pytest.mark.skipif(not native.available(), reason="no C compiler here")


def problem(widths: list[int], batch: int, on: float = 0.5, dtype: torch.dtype = torch.float64, own: bool = False):
    """Random weights, masks, G (symmetric, or each item's own diagonal) and adjoint."""
    weights = [torch.randn(after, before, dtype=dtype) for before, after in pairwise(widths)]
    masks = [(torch.rand(batch, width) < on).to(dtype) for width in widths[1:]]
    gram = torch.randn(batch, 1, widths[-1], dtype=dtype) if own else torch.randn(widths[-1], widths[-1], dtype=dtype)
    adjoint = torch.randn(batch, widths[0], widths[0], dtype=dtype)
    return weights, masks, gram if own else gram + gram.mT, adjoint + adjoint.mT


def reference(weights: list[Tensor], masks: list[Tensor], gram: Tensor, adjoint: Tensor):
    """Lam, dW and dG from the formula read aloud, and autograd."""
    leaves = [*(weight.clone().requires_grad_() for weight in weights), gram.clone().requires_grad_()]
    m = torch.eye(weights[0].shape[1], dtype=gram.dtype)
    for weight, mask in zip(leaves, masks, strict=False):
        m = torch.diag_embed(mask.to(gram.dtype)) @ (weight @ m)
    lam = m.mT @ (leaves[-1].squeeze(1).diag_embed() if gram.ndim == 3 else leaves[-1]) @ m
    *dweights, dgram = torch.autograd.grad(lam, leaves, adjoint)
    return lam.detach(), dweights, dgram


def agree(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    scale = float(expected.abs().max()) if expected.numel() else 1.0
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * max(scale, 1.0))


def check(weights: list[Tensor], masks: list[Tensor], gram: Tensor, adjoint: Tensor, tolerance: float = 1e-12) -> None:
    """The kernel, forward with and without what it keeps, and backward, which only reads that."""
    lam, dweights, dgram = reference(weights, masks, gram, adjoint)
    for keep in (False, True):
        found = kernel.precision(weights, masks, gram, keep)
        assert found is not None
        agree(found[0], lam, tolerance)
        assert torch.equal(found[0], found[0].mT)
        assert bool(found[1]) == keep
    before = copy.deepcopy(found[1])
    for _ in range(2):
        back = kernel.precision_backward(weights, masks, gram, found[1], adjoint)
        assert back is not None
        agree(back[1], dgram, tolerance)
        for ours, theirs in zip(back[0], dweights, strict=True):
            agree(ours, theirs, tolerance)
    for now, then in zip(found[1], before, strict=True):
        assert torch.equal(now, then)


@NEEDS_KERNEL
@settings(max_examples=examples(150), deadline=None)
@given(
    latent=st.integers(1, 67),
    hidden=st.lists(st.integers(1, 70), min_size=1, max_size=3),
    batch=st.integers(1, 5),
    on=st.sampled_from([0.1, 0.5, 0.9]),
    single=st.booleans(),
    own=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_any_shape_agrees_with_autograd(latent, hidden, batch, on, single, own, seed) -> None:
    torch.manual_seed(seed)
    dtype, tolerance = (torch.float32, 2e-4) if single else (torch.float64, 1e-12)
    check(*problem([latent, *hidden], batch, on, dtype, own), tolerance=tolerance)


@NEEDS_KERNEL
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("on", [0.0, 1.0])
@pytest.mark.parametrize("widths", [[3, 20], [16, 40, 17], [70, 5, 1, 9], [50, 200, 150]])
def test_all_units_off_or_on(on, widths, own) -> None:
    check(*problem(widths, 3, on, own=own))


@NEEDS_KERNEL
def test_an_item_with_a_dead_layer_beside_live_ones() -> None:
    weights, masks, gram, adjoint = problem([4, 30, 20], 6)
    masks[0][1] = 0
    masks[1][4] = 0
    check(weights, masks, gram, adjoint)


@pytest.mark.parametrize("on", ["kernel", "torch"])
def test_an_empty_batch(on, monkeypatch) -> None:
    if on == "torch":
        monkeypatch.setenv("CURVAE_KERNEL", "0")
    weights, masks, gram, _ = problem([3, 8, 5], 0)
    leaves = [weight.requires_grad_() for weight in weights]
    lam = kernel.relu_precision(leaves, masks, gram)
    assert lam.shape == (0, 3, 3)
    lam.sum().backward()
    assert all(not weight.grad.any() for weight in leaves)


@NEEDS_KERNEL
def test_bool_masks_and_strided_inputs() -> None:
    weights, masks, gram, adjoint = problem([9, 34, 21], 4)
    strided = [weight.mT.contiguous().mT for weight in weights]
    wide = torch.stack([adjoint, adjoint], -1)[..., 0]
    check(strided, [mask.bool().mT.contiguous().mT for mask in masks], gram.mT, wide)


@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("switch", ["1", "0"])
@pytest.mark.parametrize("widths", [[2, 5], [3, 6, 4], [4, 3, 5, 2]])
def test_gradcheck(switch, widths, own, monkeypatch) -> None:
    monkeypatch.setenv("CURVAE_KERNEL", switch)
    weights, masks, root, _ = problem(widths, 3, 0.7, own=own)

    def run(root: Tensor, *weights: Tensor) -> Tensor:
        return kernel.relu_precision(list(weights), masks, root.square() if own else root @ root.mT)

    assert torch.autograd.gradcheck(run, (root.requires_grad_(), *(weight.requires_grad_() for weight in weights)))


@pytest.mark.parametrize("own", [False, True])
def test_both_ways_give_the_same_whatever_the_adjoint(monkeypatch, own) -> None:
    weights, masks, gram, _ = problem([5, 40, 33], 7, own=own)
    leaves = [weight.requires_grad_() for weight in weights] + [gram.requires_grad_()]
    slope = torch.randn(7, 5, 5, dtype=torch.float64)  # not symmetric
    results = []
    for switch in "10":
        monkeypatch.setenv("CURVAE_KERNEL", switch)
        lam = kernel.relu_precision(leaves[:-1], masks, leaves[-1])
        results.append([lam.detach(), *torch.autograd.grad(lam, leaves, slope)])
    for ours, theirs in zip(*results, strict=True):
        agree(ours, theirs)


@NEEDS_KERNEL
@pytest.mark.parametrize("own", [False, True])
def test_threads_change_nothing(own) -> None:
    given = problem([6, 50, 45], 37, own=own)
    torch.set_num_threads(3)
    try:
        check(*given)
    finally:
        torch.set_num_threads(1)


@NEEDS_KERNEL
def test_switched_off(monkeypatch) -> None:
    weights, masks, gram, adjoint = problem([3, 8], 2)
    _, kept = kernel.precision(weights, masks, gram, keep=True)
    monkeypatch.setenv("CURVAE_KERNEL", "0")
    assert not native.available()
    assert kernel.precision(weights, masks, gram) is None
    assert kernel.precision_backward(weights, masks, gram, kept, adjoint) is None


def test_what_the_kernel_cannot_do_is_left_to_torch() -> None:
    weights, masks, gram, _ = problem([3, 8], 2)
    half = [weight.half() for weight in weights]
    assert kernel.precision(half, masks, gram.half()) is None
    assert kernel.precision(half, masks, gram) is None
    assert kernel.precision(weights, masks, gram[:4, :4]) is None
    assert kernel.precision(weights, masks, gram[:2].unsqueeze(1)[:1]) is None
    meta = [weight.to("meta") for weight in weights]
    assert kernel.precision(meta, [mask.to("meta") for mask in masks], gram.to("meta")) is None


def test_no_second_derivative() -> None:
    weights, masks, gram, _ = problem([3, 8], 2)
    weight = weights[0].requires_grad_()
    lam = kernel.relu_precision([weight], masks, gram)
    (slope,) = torch.autograd.grad(lam.square().sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


@pytest.fixture
def calls(monkeypatch) -> list[str]:
    """The names of the compiled functions that run."""
    seen: list[str] = []
    run = native.call
    monkeypatch.setattr(native, "call", lambda name, *rest: seen.append(name) or run(name, *rest))
    return seen


@NEEDS_KERNEL
@pytest.mark.parametrize(("widths", "rows"), [([3, 6], [1]), ([3, 6, 4], [0, 2]), ([20, 9, 4, 7], [0, 1, 2])])
def test_what_is_kept_are_the_active_rows_of_two_layers(widths, rows) -> None:
    """M_2 .. M_L and G M_L, and M_1 is not: it is a copy of rows of W_0."""
    weights, masks, gram, _ = problem(widths, 5)
    _, (kept, starts) = kernel.precision(weights, masks, gram, keep=True)
    expected = sum(times * mask.sum(1).long() for times, mask in zip(rows, masks, strict=True))
    ends = expected.cumsum(0)
    assert len(kept) == ends[-1]
    assert torch.equal(starts, ends - expected)
    m = torch.diag_embed(masks[0]) @ weights[0]
    for layer, mask in zip(weights[1:], masks[1:], strict=True):
        m = torch.diag_embed(mask) @ layer @ m
    for item, on in enumerate(masks[-1].bool()):
        agree(kept[ends[item] - on.sum() : ends[item], : widths[0]], (gram @ m[item])[on])


@NEEDS_KERNEL
def test_where_each_item_has_a_diagonal_of_its_own_one_layer_is_kept_less() -> None:
    weights, masks, gram, _ = problem([3, 6, 4], 5, own=True)
    _, (kept, _) = kernel.precision(weights, masks, gram, keep=True)
    assert len(kept) == masks[1].sum()


@NEEDS_KERNEL
@pytest.mark.parametrize("wanted", ["nothing", "no_grad", "weight", "gram"])
def test_kept_only_where_a_gradient_is_wanted(wanted) -> None:
    weights, masks, gram, _ = problem([3, 8, 6], 4)
    (gram if wanted == "gram" else weights[1]).requires_grad_(wanted != "nothing")
    saved: list[Tensor] = []
    with (
        torch.set_grad_enabled(wanted != "no_grad"),
        torch.autograd.graph.saved_tensors_hooks(lambda tensor: saved.append(tensor) or tensor, lambda tensor: tensor),
    ):
        lam = kernel.relu_precision(weights, masks, gram)
    assert lam.requires_grad == bool(saved) == (wanted in ("weight", "gram"))
    inputs = {tensor.data_ptr() for tensor in (*weights, *masks, gram)}
    assert [tuple(one.shape) for one in saved if one.data_ptr() not in inputs] == (
        [kernel.room(2 * int(masks[1].sum()), weights[0]).shape, (4,)] if saved else []
    )


@NEEDS_KERNEL
def test_the_gradient_is_compiled_unless_something_else_asks_for_it(calls) -> None:
    weights, masks, gram, adjoint = problem([3, 8, 6], 4)
    leaf = weights[0].clone().requires_grad_()
    lam = kernel.relu_precision([leaf, weights[1]], masks, gram)
    (slope,) = torch.autograd.grad(lam, leaf, adjoint)
    assert calls == ["precision", "precision_backward"]

    def run(weight: Tensor) -> Tensor:
        return (kernel.relu_precision([weight, weights[1]], masks, gram) * adjoint).sum()

    agree(torch.func.grad(run)(weights[0]), slope)
    agree(slope, reference(weights, masks, gram, adjoint)[1][0])
    assert calls.count("precision_backward") == 1


@NEEDS_KERNEL
def test_a_gradient_that_nobody_passes_on() -> None:
    class Stop(torch.autograd.Function):
        @staticmethod
        def forward(ctx, value):
            return value.clone()

        @staticmethod
        def backward(ctx, slope):
            return None

    weights, masks, gram, _ = problem([3, 8], 2)
    weight = weights[0].requires_grad_()
    stopped = Stop.apply(kernel.relu_precision([weight], masks, gram)).sum()
    (stopped + weight.sum()).backward()
    assert torch.equal(weight.grad, torch.ones_like(weight))


@NEEDS_KERNEL
def test_whatever_the_default_device() -> None:
    given = problem([3, 8, 6], 4)
    with torch.device("meta"):
        lam, kept = kernel.precision(*given[:3], keep=True)
        (slope, _), _ = kernel.precision_backward(*given[:3], kept, given[3])
    expected = reference(*given)
    agree(lam, expected[0])
    agree(slope, expected[1][0])


@NEEDS_KERNEL
def test_inputs_stay_as_they_were() -> None:
    given = problem([5, 20, 11], 3)
    before = copy.deepcopy(given)
    _, kept = kernel.precision(*given[:3], keep=True)
    kernel.precision_backward(*given[:3], kept, given[3])
    for now, then in zip([*given[0], *given[1], *given[2:]], [*before[0], *before[1], *before[2:]], strict=True):
        assert torch.equal(now, then)
