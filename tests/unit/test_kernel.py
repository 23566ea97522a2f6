"""The compiled kernel against dense torch, its gradient against finite differences, and the ways it gives up."""

import copy
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from curvae.curvature import kernel, native

NEEDS_KERNEL = pytest.mark.skipif(not native.available(), reason="no C compiler here")


def problem(widths: list[int], batch: int, on: float = 0.5, dtype: torch.dtype = torch.float64):
    """Random weights, masks, symmetric G and adjoint."""
    weights = [torch.randn(after, before, dtype=dtype) for before, after in pairwise(widths)]
    masks = [(torch.rand(batch, width) < on).to(dtype) for width in widths[1:]]
    gram = torch.randn(widths[-1], widths[-1], dtype=dtype)
    adjoint = torch.randn(batch, widths[0], widths[0], dtype=dtype)
    return weights, masks, gram + gram.mT, adjoint + adjoint.mT


def reference(weights: list[Tensor], masks: list[Tensor], gram: Tensor, adjoint: Tensor):
    """Lam, dW and dG from the formula read aloud, and autograd."""
    leaves = [*(weight.clone().requires_grad_() for weight in weights), gram.clone().requires_grad_()]
    m = torch.eye(weights[0].shape[1], dtype=gram.dtype)
    for weight, mask in zip(leaves, masks, strict=False):
        m = torch.diag_embed(mask.to(gram.dtype)) @ (weight @ m)
    lam = m.mT @ leaves[-1] @ m
    *dweights, dgram = torch.autograd.grad(lam, leaves, adjoint)
    return lam.detach(), dweights, dgram


def agree(found: Tensor, expected: Tensor, tolerance: float = 1e-12) -> None:
    scale = float(expected.abs().max()) if expected.numel() else 1.0
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance * max(scale, 1.0))


def check(weights: list[Tensor], masks: list[Tensor], gram: Tensor, adjoint: Tensor, tolerance: float = 1e-12) -> None:
    """The kernel, forward and backward."""
    lam, dweights, dgram = reference(weights, masks, gram, adjoint)
    found = kernel.precision(weights, masks, gram)
    back = kernel.precision_backward(weights, masks, gram, adjoint)
    assert found is not None
    assert back is not None
    agree(found, lam, tolerance)
    agree(back[1], dgram, tolerance)
    for ours, theirs in zip(back[0], dweights, strict=True):
        agree(ours, theirs, tolerance)


@NEEDS_KERNEL
@settings(max_examples=150, deadline=None)
@given(
    latent=st.integers(1, 67),
    hidden=st.lists(st.integers(1, 70), min_size=1, max_size=3),
    batch=st.integers(1, 5),
    on=st.sampled_from([0.1, 0.5, 0.9]),
    single=st.booleans(),
    seed=st.integers(0, 2**31),
)
def test_any_shape_agrees_with_autograd(latent, hidden, batch, on, single, seed) -> None:
    torch.manual_seed(seed)
    dtype, tolerance = (torch.float32, 2e-4) if single else (torch.float64, 1e-12)
    check(*problem([latent, *hidden], batch, on, dtype), tolerance=tolerance)


@NEEDS_KERNEL
@pytest.mark.parametrize("on", [0.0, 1.0])
@pytest.mark.parametrize("widths", [[3, 20], [16, 40, 17], [70, 5, 1, 9], [50, 200, 150]])
def test_all_units_off_or_on(on, widths) -> None:
    check(*problem(widths, 3, on))


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


@pytest.mark.parametrize("switch", ["1", "0"])
@pytest.mark.parametrize("widths", [[2, 5], [3, 6, 4], [4, 3, 5, 2]])
def test_gradcheck(switch, widths, monkeypatch) -> None:
    monkeypatch.setenv("CURVAE_KERNEL", switch)
    weights, masks, root, _ = problem(widths, 3, 0.7)

    def run(root: Tensor, *weights: Tensor) -> Tensor:
        return kernel.relu_precision(list(weights), masks, root @ root.mT)

    assert torch.autograd.gradcheck(run, (root.requires_grad_(), *(weight.requires_grad_() for weight in weights)))


def test_both_ways_give_the_same_whatever_the_adjoint(monkeypatch) -> None:
    weights, masks, gram, _ = problem([5, 40, 33], 7)
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
def test_threads_change_nothing() -> None:
    given = problem([6, 50, 45], 37)
    torch.set_num_threads(3)
    try:
        check(*given)
    finally:
        torch.set_num_threads(1)


def test_switched_off(monkeypatch) -> None:
    monkeypatch.setenv("CURVAE_KERNEL", "0")
    weights, masks, gram, adjoint = problem([3, 8], 2)
    assert not native.available()
    assert kernel.precision(weights, masks, gram) is None
    assert kernel.precision_backward(weights, masks, gram, adjoint) is None


@pytest.mark.parametrize("compiler", ["/bin/false", "no-such-compiler-here", "true", "env false"])
def test_no_compiler_that_works(compiler, monkeypatch, tmp_path, capfd) -> None:
    monkeypatch.setenv("CURVAE_CACHE", str(tmp_path))
    monkeypatch.setenv("CC", compiler)
    weights, masks, gram, adjoint = problem([3, 8, 4], 2)
    assert not native.available()
    agree(kernel.relu_precision(weights, masks, gram), reference(weights, masks, gram, adjoint)[0])
    assert capfd.readouterr() == ("", "")


def test_a_cache_that_cannot_be_written(monkeypatch, tmp_path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("CURVAE_CACHE", str(blocked))
    assert not native.available()


@NEEDS_KERNEL
def test_compiled_once_into_the_cache(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("CURVAE_CACHE", str(tmp_path))
    assert native.available()
    (made,) = [path for path in Path(tmp_path).rglob("*") if path.is_file()]
    stamp = made.stat().st_mtime_ns
    native._load.cache_clear()
    assert native.available()
    assert made.stat().st_mtime_ns == stamp


def test_what_the_kernel_cannot_do_is_left_to_torch() -> None:
    weights, masks, gram, _ = problem([3, 8], 2)
    half = [weight.half() for weight in weights]
    assert kernel.precision(half, masks, gram.half()) is None
    assert kernel.precision(half, masks, gram) is None
    assert kernel.precision(weights, masks, gram[:4, :4]) is None
    meta = [weight.to("meta") for weight in weights]
    assert kernel.precision(meta, [mask.to("meta") for mask in masks], gram.to("meta")) is None


def test_no_second_derivative() -> None:
    weights, masks, gram, _ = problem([3, 8], 2)
    weight = weights[0].requires_grad_()
    lam = kernel.relu_precision([weight], masks, gram)
    (slope,) = torch.autograd.grad(lam.square().sum(), weight, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()


def test_inputs_stay_as_they_were() -> None:
    given = problem([5, 20, 11], 3)
    before = copy.deepcopy(given)
    kernel.precision(*given[:3])
    kernel.precision_backward(*given)
    for now, then in zip([*given[0], *given[1], *given[2:]], [*before[0], *before[1], *before[2:]], strict=True):
        assert torch.equal(now, then)
