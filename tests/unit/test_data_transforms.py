"""Transforms against automatic differentiation and against their own inverses."""

import json
import math

import pytest
import torch

from curvae.data import DataError
from curvae.data.transforms import (
    Binarization,
    Chain,
    Dequantization,
    Identity,
    Logit,
    MeanSubtraction,
    Scale,
    Standardization,
    restore,
)
from curvae.data.transforms.images import image_transform

EVENT = (2, 3)
MEAN, SPREAD = torch.linspace(-1, 2, 6).reshape(EVENT).double(), torch.linspace(0.5, 3, 6).reshape(EVENT).double()
EXACT = {
    "identity": Identity(),
    "mean": MeanSubtraction(MEAN),
    "standardization": Standardization(MEAN, SPREAD),
    "dequantization": Dequantization(4),
    "logit": Logit(0.05),
    "chain": Chain(Dequantization(4), Logit(0.1), Standardization(MEAN, SPREAD)),
    "nested": Chain(Chain(Logit(0.2), MeanSubtraction(MEAN)), Standardization(MEAN, SPREAD)),
}
ALL = EXACT | {"scale": Scale(1 / 255), "threshold": Binarization(False, 0.3), "bernoulli": Binarization(True)}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def unit_interval() -> torch.Tensor:
    return torch.rand(5, *EVENT, dtype=torch.float64)


@pytest.mark.parametrize("transform", EXACT.values(), ids=EXACT)
def test_log_det_is_that_of_the_jacobian(transform):
    raw = unit_interval()
    y = transform._forward(raw, seeded())
    jacobian = torch.autograd.functional.jacobian(lambda r: transform._forward(r, seeded()), raw)
    blocks = torch.stack([jacobian[b, :, :, b].reshape(6, 6) for b in range(5)])  # pyright: ignore
    torch.testing.assert_close(transform.log_det(y), torch.linalg.slogdet(blocks).logabsdet, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("transform", [t for t in EXACT.values() if not t.random], ids=lambda t: type(t).__name__)
def test_inverse_undoes_the_call(transform):
    raw = unit_interval()
    torch.testing.assert_close(transform.inverse(transform._forward(raw, None)), raw, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("levels", [2, 17, 256, 1024])
def test_noise_stays_within_its_level(levels):
    raw = torch.arange(levels).repeat(200)[:, None]
    chain = Chain(Dequantization(levels), Logit())
    y = Dequantization(levels)(raw, seeded())
    assert y.min() > 0
    assert y.max() < 1
    torch.testing.assert_close(Dequantization(levels).inverse(y), raw.double())
    assert (chain.inverse(chain(raw, seeded())) == raw).float().mean() > 0.999  # float32 rounds at the edges


def test_dequantization_noise_is_uniform():
    noise = Dequantization(4)(torch.full((20_000, 1), 2), seeded()) * 4 - 2
    counts = torch.histc(noise, 10, 0, 1)
    assert ((counts - 2000).square() / 2000).sum() < 27.9  # chi-squared, 9 degrees of freedom: fails once in 1,000


@pytest.mark.parametrize("transform", ALL.values(), ids=ALL)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float32, torch.float64])
def test_calls_give_float32_of_the_same_shape(transform, dtype):
    y = transform((unit_interval() * 2).to(dtype) * 0 + 1, seeded())
    assert y.dtype == torch.float32
    assert y.shape == (5, *EVENT)
    assert transform.log_det(y).shape == (5,)


@pytest.mark.parametrize("transform", ALL.values(), ids=ALL)
def test_state_survives_json_and_tensors(transform):
    numbers, tensors = transform.state()
    again = restore(json.loads(json.dumps(numbers)), {name: value.clone() for name, value in tensors.items()})
    raw = unit_interval()
    torch.testing.assert_close(again(raw, seeded()), transform(raw, seeded()))
    assert again.unit == transform.unit
    assert again.random == transform.random


def test_state_survives_safetensors(tmp_path):
    from safetensors.torch import load_file, save_file

    transform = ALL["chain"]
    save_file(transform.state()[1], tmp_path / "transform.safetensors")
    again = restore(transform.state()[0], load_file(tmp_path / "transform.safetensors"))
    raw = unit_interval()
    torch.testing.assert_close(again(raw, seeded()), transform(raw, seeded()))


def test_fits_are_the_moments_of_the_data():
    x = torch.randn(9000, 4) * torch.tensor([1.0, 2.0, 3.0, 4.0]) + 100  # more than one block
    fitted = Standardization.fit(x)
    torch.testing.assert_close(fitted.mean, x.double().mean(0))
    torch.testing.assert_close(fitted.scale, x.double().std(0, correction=0))
    torch.testing.assert_close(MeanSubtraction.fit(x).mean, fitted.mean)


def test_fits_see_observed_values_only():
    x = torch.tensor([[1.0, math.nan], [3.0, 4.0], [500.0, 6.0]])
    mask = torch.tensor([[True, False], [True, True], [False, True]])
    fitted = Standardization.fit(x, mask)
    assert fitted.mean.tolist() == [2.0, 5.0]
    assert fitted.scale.tolist() == [1.0, 1.0]
    assert MeanSubtraction.fit(x, torch.zeros(3, 2, dtype=torch.bool)).mean.tolist() == [0.0, 0.0]


def test_constant_columns_keep_scale_one_and_large_offsets_their_own():
    x = torch.stack([torch.full((50,), 0.1), torch.arange(50) % 2], 1).double() + torch.tensor([0, 1e9]).double()
    assert Standardization.fit(x).scale.tolist() == [1.0, 0.5]
    assert Standardization.fit(x[:, :1].float()).scale.tolist() == [1.0]


def test_dynamic_binarization_has_the_pixels_as_means():
    pixels = torch.tensor([0.0, 0.25, 1.0]).expand(10_000, 3)
    y = Binarization(dynamic=True)(pixels, seeded())
    assert set(y.unique().tolist()) == {0.0, 1.0}
    assert y.mean(0)[[0, 2]].tolist() == [0.0, 1.0]
    assert abs(y.mean(0)[1] - 0.25) < 0.0145  # 3.3 standard errors: fails once in 1,000


def test_masked_elements_count_nothing():
    mask = torch.tensor([[True, False, True]])
    assert Dequantization(256).log_det(torch.zeros(1, 3), mask).item() == pytest.approx(-2 * math.log(256))


def test_units_and_pictures():
    raw = torch.tensor([[0, 51, 255]], dtype=torch.uint8)
    chain = Chain(Scale(1 / 255), MeanSubtraction(torch.tensor([0.1, 0.2, 0.3])))
    torch.testing.assert_close(chain.picture(chain(raw)), torch.tensor([[0.0, 0.2, 1.0]]))
    assert chain.log_det(chain(raw)).item() == 0
    assert chain.unit == "pixels in [0,1], not dequantized"
    assert Chain(Scale(1 / 255), Binarization(True)).unit == "binary pixels (probabilities, not densities)"
    assert Standardization(MEAN, SPREAD).unit == "data as given"
    assert Identity().picture(torch.tensor([[2.0]])).item() == 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Scale(0), "Scale: expected factor > 0, got 0; for 8-bit images pass 1 / 255."),
        (lambda: Dequantization(1), "Dequantization: expected levels >= 2, got 1; pass 256 for 8-bit images."),
        (lambda: Logit(0.5), "Logit: expected 0 < margin < 0.5, got 0.5; 0.05 is usual for images."),
        (lambda: restore({"kind": "Warp"}, {}), "transform: expected a kind out of .*, got 'Warp'"),
    ],
)
def test_misuse(make, message):
    with pytest.raises(DataError, match=message):
        make()


def test_bits_count_each_level_once():
    """A field of that name once hid the property, and dequantized data had 8 bits too many."""
    raw = torch.randint(0, 256, (50, 1, 2, 2), dtype=torch.uint8)
    assert image_transform(raw, 256, dequantize=True).levels_per_unit == 1.0
    assert image_transform(raw, 256).levels_per_unit == 255.0
