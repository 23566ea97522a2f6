"""Rows that stay in their file: the same data, never all of them at once."""

import numpy as np
import pytest
import torch

import curvae
from curvae.cli.fit_summary import print_fit_summary
from curvae.data import DataError, Options, Reading, from_array, from_file
from curvae.data import stored as limits
from curvae.data.stored import StoredRows
from curvae.data.tables import mapped
from curvae.data.tables.mapped import MappedArray
from curvae.training.loop.loader import Batches

ROWS, WIDTH = 6000, 4


@pytest.fixture
def left(monkeypatch):
    """Every mapped file is a large one."""
    monkeypatch.setattr(mapped, "LEAST", 1)


@pytest.fixture
def in_blocks(left, monkeypatch):
    """And larger than memory; blocks of 512 rows, 1,024 of which are shuffled together."""
    monkeypatch.setattr(limits, "MOST_AT_RANDOM", 0)
    monkeypatch.setattr(limits, "WINDOW", 1024 * WIDTH * 4)
    monkeypatch.setattr(mapped, "BLOCK", 512 * WIDTH * 4)


def saved(tmp_path, x):
    path = tmp_path / "x.npy"
    np.save(path, x)
    return path


def numbers(rng, dtype=np.float32):
    return rng.normal(3, 2, size=(ROWS, WIDTH)).astype(dtype)


def same(one, two):
    """Two data are the same to the last digit, however they are held."""
    assert one.checksum == two.checksum
    assert one.schema.columns == two.schema.columns
    for name in ("train", "validation", "test"):
        ours, theirs = getattr(one, name), getattr(two, name)
        assert len(ours) == len(theirs)
        assert torch.equal(ours.row, theirs.row)
        some = torch.randperm(len(ours))[:300]
        ours, theirs = ours.batch(some), theirs.batch(some)
        assert torch.equal(ours.x, theirs.x)
        assert torch.equal(ours.index, theirs.index)
        assert (ours.mask is None) == (theirs.mask is None)
        assert ours.mask is None or torch.equal(ours.mask, theirs.mask)
        assert ours.label is None or torch.equal(ours.label, theirs.label)


OF_NUMBERS = [np.float32, np.float64, np.float16, ">f4", np.int16, np.uint8]


@pytest.mark.parametrize("dtype", OF_NUMBERS)
def test_data_are_those_in_memory(tmp_path, rng, left, dtype):
    x = numbers(rng, dtype)
    found = from_array(np.load(saved(tmp_path, x), mmap_mode="r"))
    assert isinstance(found.train.raw, StoredRows)
    same(found, from_array(x))


def test_chosen_columns_and_a_label_are_those_in_memory(tmp_path, rng, left):
    x = numbers(rng)
    x[:, 1] = rng.integers(3, size=ROWS)
    how = Reading(positions=[3, 0], label=1)
    found = from_array(np.load(saved(tmp_path, x), mmap_mode="r"), reading=how)
    same(found, from_array(x, reading=how))
    assert found.train.raw.shape[1:] == (2,)


def test_missing_values_are_those_in_memory(tmp_path, rng, left):
    x = numbers(rng)
    x[rng.random(x.shape) < 0.1] = np.nan
    x[rng.random(x.shape) < 0.1] = -999
    how = Reading(missing="mask", missing_value=[-999])
    found = from_array(np.load(saved(tmp_path, x), mmap_mode="r"), reading=how)
    assert isinstance(found.train.mask, StoredRows)
    same(found, from_array(x, reading=how))


@pytest.mark.parametrize("options", [Options(support="mixed"), Options(support="positive"), Options(standardize=False)])
def test_options_do_what_they_do_in_memory(tmp_path, rng, left, options):
    x = np.abs(numbers(rng)) + 1
    x[:, 2] = rng.integers(2, size=ROWS) if options.support == "mixed" else x[:, 2]
    same(from_array(np.load(saved(tmp_path, x), mmap_mode="r"), options=options), from_array(x, options=options))


def test_pictures_are_those_in_memory(tmp_path, rng, left):
    x = rng.integers(256, size=(500, 8, 8, 3)).astype(np.uint8)
    found = from_array(np.load(saved(tmp_path, x), mmap_mode="r"))
    assert found.spec.event == (3, 8, 8)
    same(found, from_array(x))


def test_the_noise_of_a_transform_is_that_in_memory(tmp_path, rng, left):
    x, transform = rng.integers(256, size=(500, 4)).astype(np.uint8), curvae.data.transforms.Dequantization(256)
    found = from_array(np.load(saved(tmp_path, x), mmap_mode="r"), transform=transform)
    assert not isinstance(found.train.raw, StoredRows)
    same(found, from_array(x, transform=transform))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_value_that_is_none_is_named_by_its_row(tmp_path, rng, left, bad):
    x = numbers(rng)
    x[5000, 2] = bad
    with pytest.raises(DataError, match="the first in row 5000, column 2"):
        from_array(np.load(saved(tmp_path, x), mmap_mode="r"))


def test_a_small_file_is_read(tmp_path, rng):
    assert isinstance(from_file(saved(tmp_path, numbers(rng))).train.raw, torch.Tensor)


def test_changes_in_a_private_mapping_stay(tmp_path, rng, left):
    """The system would forget them where it is told that what was read is not asked for again."""
    x = np.load(saved(tmp_path, numbers(rng)), mmap_mode="c")
    x[:] = 5 + np.arange(ROWS)[:, None]
    found = from_array(x)
    assert torch.equal(found.train.raw[:3][:, 0], 5.0 + found.train.row[:3])
    assert x[10, 0] == 15


class Counted(MappedArray):
    """Counts the rows that are asked for at once."""

    most = 0

    def read(self, rows):
        found = super().read(rows)
        Counted.most = max(Counted.most, len(found))
        return found


def test_no_more_than_some_rows_are_ever_read_at_once(tmp_path, rng, in_blocks, monkeypatch):
    """From the file to the run folder: data, start, steps, validation, axes of latents, closing lines."""
    rows = 40_000
    x = rng.normal(size=(rows, 2)).astype(np.float32) @ rng.normal(size=(2, WIDTH)).astype(np.float32)
    x += rng.normal(size=x.shape).astype(np.float32)
    monkeypatch.setattr(mapped, "MappedArray", Counted)
    monkeypatch.setattr(curvae.data.array_table, "SAMPLE", 4000 * WIDTH)
    Counted.most = 0
    options = {"latent": 2, "hidden": 8, "max_updates": 20, "out": tmp_path / "run", "progress": False}
    fitted = curvae.fit("vae", saved(tmp_path, x), **options)
    assert fitted.axes_for(rotate=True) is not None
    print_fit_summary(fitted.run)
    assert 512 <= Counted.most <= 10_000


def test_a_fit_is_that_of_rows_in_memory_where_the_order_is(tmp_path, rng, left):
    """Up to the last digit: the sample that the start goes by is all rows here, and the shuffle is the same."""
    x, options = numbers(rng), {"latent": 2, "hidden": 8, "max_updates": 60, "progress": False}
    one = curvae.fit("vae", np.load(saved(tmp_path, x), mmap_mode="r"), out=tmp_path / "one", **options)
    two = curvae.fit("vae", x, out=tmp_path / "two", **options)
    assert one.metrics()["validation_bound"] == two.metrics()["validation_bound"]
    for name, value in one.system.state_dict().items():
        assert torch.equal(value, two.system.state_dict()[name]), name


def test_shuffled_blocks_are_each_row_once_and_another_order_each_time(tmp_path, rng, in_blocks):
    raw = from_file(saved(tmp_path, numbers(rng))).train.raw
    orders = [raw.shuffled(torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
    assert all(torch.equal(order.sort().values, torch.arange(len(raw))) for order in orders)
    assert torch.equal(orders[0], orders[1])
    assert not torch.equal(orders[0], orders[2])


def test_a_window_of_shuffled_blocks_is_few_of_them_in_any_order(tmp_path, rng, in_blocks):
    raw = from_file(saved(tmp_path, numbers(rng))).train.raw
    order = raw.shuffled(torch.Generator().manual_seed(0))
    blocks = raw.row[order] // 512
    first = blocks[:600]
    assert len(first.unique()) <= 2
    assert (first[1:] != first[:-1]).float().mean() > 0.3


def test_rows_that_are_numbered_are_those_of_the_order(tmp_path, rng, in_blocks):
    """A method that keeps a state for each row finds its own again, in blocks as in memory."""
    data = from_file(saved(tmp_path, numbers(rng)))
    seen = torch.cat([shard.batch.index for shard in Batches(data.train, 256, 0, lambda: 0)])
    assert torch.equal(seen.sort().values, torch.arange(len(data.train)))


def test_a_state_is_kept_for_every_row_not_for_the_sample(tmp_path, rng, left, monkeypatch):
    monkeypatch.setattr(curvae.data.array_table, "SAMPLE", 400)
    data = from_file(saved(tmp_path, numbers(rng)))
    assert len(data.sample.train) == 100
    assert data.sample.train.total == len(data.train) == 4200
