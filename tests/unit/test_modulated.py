"""Networks modulated for each example: the MLP that each of them then has, and what they are at rest."""

import pytest
import torch

from curvae.networks import ModulatedMLP, linear_capacity, write_affine

F64 = torch.float64


def network(hidden=(9, 8)) -> ModulatedMLP:
    return ModulatedMLP(5, hidden, 7, hyper=6).double()


@pytest.mark.parametrize("hidden", [(9,), (9, 8)])
def test_every_example_has_an_mlp_of_its_own(hidden):
    """Its weights are ``diag(1 + a) W``, its biases ``(1 + a) b + c``, written out for one example after another."""
    modulated, x = network(hidden), torch.randn(4, 5, dtype=F64)
    changes = modulated.hyper(x)
    assert changes.abs().min() > 0
    for row, change in zip(x, changes, strict=True):
        scales, shifts = (part.split(list(hidden)) for part in change.chunk(2))
        own = dict(modulated.shared.named_parameters())
        for layer, (scale, shift) in enumerate(zip(scales, shifts, strict=True)):
            weight, bias = f"{1 + 2 * layer}.weight", f"{1 + 2 * layer}.bias"
            own[weight] = torch.diag(1 + scale) @ own[weight]
            own[bias] = (1 + scale) * own[bias] + shift
        expected = torch.func.functional_call(modulated.shared, own, (row[None],))
        torch.testing.assert_close(modulated(row[None]), expected, atol=1e-12, rtol=1e-12)


def test_at_rest_all_have_the_shared_one_and_the_hypernetwork_learns():
    modulated, x = network(), torch.randn(4, 5, dtype=F64)
    assert not torch.allclose(modulated(x), modulated.shared(x))
    modulated.rest()
    assert torch.equal(modulated(x), modulated.shared(x))
    modulated(x).square().sum().backward()
    assert all((parameter.grad != 0).any() for parameter in modulated.hyper[-1].parameters())


def test_an_affine_map_is_written_exactly():
    modulated = network()
    assert linear_capacity(modulated) == linear_capacity(modulated.shared) == 4
    inward, outward = torch.randn(3, 5, dtype=F64), torch.randn(7, 3, dtype=F64)
    offset, bias = torch.randn(3, dtype=F64), torch.randn(7, dtype=F64)
    write_affine(modulated, inward, offset, outward, bias)
    x = 3 * torch.randn(9, 5, dtype=F64)
    torch.testing.assert_close(modulated(x), (x @ inward.mT + offset) @ outward.mT + bias, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize(("hidden", "hyper"), [((), 4), ((9,), 0)])
def test_misuse(hidden, hyper):
    with pytest.raises(ValueError, match="expects 1 or more hidden layers and a hypernetwork of 1 or more units"):
        ModulatedMLP(5, hidden, 7, hyper)
