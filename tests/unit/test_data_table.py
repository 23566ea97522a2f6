"""Tables: batches, noise, masks, indices."""

import math

import pytest
import torch

from curvae.data import ArrayTable, DataError
from curvae.data.transforms import Dequantization, MeanSubtraction, Standardization

ROWS = torch.arange(12.0).reshape(4, 3)
INDEX = torch.tensor([3, 0, 3])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_batches_are_rows_in_the_order_asked_for():
    table = ArrayTable(ROWS, MeanSubtraction(torch.ones(3)), label=torch.tensor([5, 6, 7, 8]))
    batch = table.batch(INDEX)
    torch.testing.assert_close(batch.x, ROWS[INDEX] - 1)
    assert batch.label is not None
    assert batch.label.tolist() == [8, 5, 8]
    assert batch.mask is None
    assert len(table) == 4


def test_only_the_training_table_gives_row_numbers():
    assert ArrayTable(ROWS, training=True).batch(INDEX).index.tolist() == [3, 0, 3]
    assert ArrayTable(ROWS).batch(INDEX, training=True).index.tolist() == [-1, -1, -1]


def test_masked_elements_are_zero_whatever_stood_there():
    mask = ROWS != 4
    raw = torch.where(mask, ROWS, math.nan)
    table = ArrayTable(raw, Standardization(torch.ones(3), torch.ones(3)), mask=mask)
    assert table.x[1, 1] == 0
    assert table.batch(torch.tensor([1])).x.tolist() == [[2.0, 0.0, 4.0]]
    noisy = ArrayTable(raw, Dequantization(16), mask=mask).batch(torch.tensor([1]), seeded(), training=True)
    assert noisy.x[0, 1] == 0
    assert noisy.mask is not None
    assert noisy.mask.tolist() == [[True, False, True]]


def test_training_noise_is_fresh_and_follows_the_generator():
    table = ArrayTable(torch.zeros(4, 3, dtype=torch.uint8), Dequantization(256))
    first, second = (table.batch(INDEX, training=True).x for _ in range(2))
    assert not torch.equal(first, second)
    assert not torch.equal(first[0], first[2])
    torch.testing.assert_close(table.batch(INDEX, seeded(1)).x, table.batch(INDEX, seeded(1)).x)


def test_evaluation_noise_does_not_depend_on_the_batches():
    table = ArrayTable(torch.zeros(4, 3, dtype=torch.uint8), Dequantization(256))
    one_by_one = torch.cat([table.batch(torch.tensor([i])).x for i in range(4)])
    torch.testing.assert_close(one_by_one, table.x)
    torch.testing.assert_close(ArrayTable(table.raw, table.transform).x, table.x)


def test_small_floats_and_bits_become_float32():
    for dtype in (torch.bool, torch.uint8, torch.float16, torch.float64):
        assert ArrayTable(ROWS.to(dtype)).batch(INDEX).x.dtype == torch.float32


def test_what_is_asked_for_in_a_validation_can_be_trained_on_later():
    table = ArrayTable(ROWS, mask=ROWS > 2)
    with torch.inference_mode():
        assert not table.x.is_inference()


def test_moving_keeps_everything():
    table = ArrayTable(ROWS, label=torch.arange(4), mask=ROWS > 2, training=True).to("cpu")
    assert table.training
    assert repr(table) == "ArrayTable(4 x (3,), labeled, masked)"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ArrayTable(ROWS * math.nan), "raw: expected finite values, got 12 NaN or infinite; pass a mask"),
        (lambda: ArrayTable(ROWS, label=torch.zeros(3)), "label: expected 4 rows as in raw, got 3"),
        (
            lambda: ArrayTable(ROWS, mask=torch.ones(4, 2) > 0),
            r"mask: expected bool of shape \(4, 3\) as raw, got",
        ),
        (lambda: ArrayTable(ROWS, mask=torch.ones(4, 3)), r"mask: .*, got torch.float32 \(4, 3\); True = observed."),
    ],
)
def test_misuse(make, message):
    with pytest.raises(DataError, match=message):
        make()
