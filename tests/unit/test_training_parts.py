"""The pieces of training, one by one."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import curvae
from curvae.data import ArrayTable
from curvae.systems import Recipe
from curvae.training import RunError
from curvae.training.loop.loader import Batches, sizes
from curvae.training.loop.running_means import Means
from curvae.training.loop.state import write_state
from curvae.training.run import files
from curvae.training.run import metrics as log
from curvae.training.run.metrics import MetricsWriter, Row
from curvae.training.run.serialization import as_json
from curvae.training.setup import devices
from curvae.training.setup.length import divide
from curvae.training.setup.settings import derive


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=5), st.integers(0, 300))
def test_epochs_divide_without_a_rest(shares: list[float], more: int):
    epochs = len(shares) + more
    counts = divide(epochs, shares)
    assert sum(counts) == epochs
    assert min(counts) >= 1
    wanted = [share / sum(shares) * epochs for share in shares]
    if min(wanted) >= 1:
        assert all(abs(count - want) < 1 for count, want in zip(counts, wanted, strict=True))


def remembers(module: nn.Module) -> None:
    """Its buffer ``table`` has a row for each training example."""
    module.per_example, module.remember = ("table",), print


def test_a_stage_without_a_share_gets_no_epoch():
    assert divide(5, [1.0, 0.0, 1.5]) == [2, 0, 3]
    assert divide(1, [0.0, 2.0]) == [0, 1]
    with pytest.raises(ValueError, match="expected 2 or more, one for each stage of training; got 1"):
        divide(1, [0.0, 2.0, 1.0])


def test_derived_seeds_differ():
    places = [(stream, epoch, rank) for stream in range(4) for epoch in range(50) for rank in range(2)]
    assert len({derive(0, *place) for place in places}) == len(places)
    assert derive(1, 2, 3) == derive(1, 2, 3)


def test_each_epoch_has_an_order_of_its_own_and_sees_every_row():
    table, epoch = ArrayTable(torch.arange(10.0)[:, None], training=True), iter([0, 1, 0])
    batches = Batches(table, 4, seed=1, epoch=lambda: next(epoch))
    first, second, again = (torch.cat([shard.batch.index for shard in batches]).tolist() for _ in range(3))
    assert sorted(first) == sorted(second) == list(range(10))
    assert first == again != second
    plain_order = torch.cat([shard.batch.x[:, 0] for shard in Batches(table, 4)])
    assert plain_order.tolist() == list(range(10))


@given(st.integers(1, 400), st.integers(2, 60))
def test_no_batch_has_a_single_row(rows: int, size: int):
    """But the only row of a table; the batches hold all rows, and no more than one too many."""
    found = sizes(rows, size)
    assert sum(found) == rows
    assert min(found) >= min(2, rows)
    assert max(found) <= size + 1
    assert found[:-1] == [size] * (len(found) - 1)


def test_batches_of_one_row_where_they_are_asked_for():
    assert sizes(3, 1) == [1, 1, 1]


def test_the_batches_have_the_sizes_that_they_say():
    table = ArrayTable(torch.arange(9.0)[:, None], training=True)
    for size in (1, 2, 4, 8, 9, 20):
        batches = Batches(table, size, epoch=lambda: 0)
        assert [len(shard.batch.x) for shard in batches] == sizes(9, size)


def test_state_is_copied_or_written_by_row():
    module = nn.Module()
    module.register_buffer("table", torch.zeros(4, 2))
    module.register_buffer("plain", torch.zeros(3))
    remembers(module)
    index = torch.tensor([3, -1, 0])
    value = torch.arange(6.0).reshape(3, 2)
    write_state(module, {"table": value, "plain": torch.ones(3)}, index, rows=4)
    assert module.table.tolist() == [[4, 5], [0, 0], [0, 0], [0, 1]]
    assert module.plain.tolist() == [1, 1, 1]


def test_a_batch_of_the_whole_table_is_still_written_by_row():
    module = nn.Module()
    module.register_buffer("table", torch.zeros(3))
    remembers(module)
    write_state(module, {"table": torch.tensor([5.0, 6.0, 7.0])}, torch.tensor([2, 0, 1]), rows=3)
    assert module.table.tolist() == [6, 7, 5]


def test_a_buffer_that_only_looks_like_a_table_is_replaced():
    """As many rows as the batch and the table have; the order of the batch is not its business."""
    module = nn.Module()
    module.register_buffer("weight", torch.zeros(3, 2))
    value = torch.arange(6.0).reshape(3, 2)
    write_state(module, {"weight": value}, torch.tensor([2, 0, 1]), rows=3)
    assert torch.equal(module.weight, value)


def test_state_that_does_not_fit_is_named():
    module = nn.Module()
    module.register_buffer("plain", torch.zeros(3))
    module.register_buffer("table", torch.zeros(4, 2))
    remembers(module)
    for wrong in (torch.zeros(3, 2), torch.zeros(2, 3), torch.zeros(4, 2)):
        with pytest.raises(RunError, match=r"state\['table'\]: expected a value of shape \(2, 2\)"):
            write_state(module, {"table": wrong}, torch.arange(2), rows=4)
    with pytest.raises(RunError, match=r"expected names of buffers of the system, got 'other\.step'"):
        write_state(module, {"other.step": torch.zeros(())}, torch.arange(2), rows=4)
    with pytest.raises(RunError, match=r"state\['plain'\]: expected a value of shape \(3,\) .*; got \(5,\)"):
        write_state(module, {"plain": torch.zeros(5)}, torch.arange(2), rows=4)


def test_means_of_what_is_there():
    means = Means(["a", "b"])
    assert all(math.isnan(value) for value in means.read().values())
    means.add("a", torch.tensor([1.0, 2.0, 6.0]))
    assert means.read(lambda value: value * 2)["a"] == 3.0


def test_a_row_survives_the_file(tmp_path: Path):
    book = MetricsWriter(tmp_path)
    book.write(Row("one", 1, 10, 0.5, -1.25, math.nan, 3.0, 1e-9, 0.125, 2))
    read = log.read_metrics(book.path)
    assert tuple(read) == log.COLUMNS
    assert read["train_bound"] == [-1.25]
    assert math.isnan(read["validation_bound"][0])
    assert (read["stage"], read["skipped"], read["grad_norm"]) == (["one"], [2], [1e-9])


def test_rows_of_an_earlier_version_get_the_columns_of_this_one(tmp_path: Path):
    book = MetricsWriter(tmp_path)
    book.path.write_text("stage,epoch,step,kl,level\none,1,10,0.5,1\none,2,20,,\n")
    book.write(Row("two", 3, 30, kl=0.25))
    assert book.path.read_text().startswith(",".join([*log.COLUMNS, "level"]) + "\n")
    read = log.read_metrics(book.path)
    assert repr(read["level"]) == "[1.0, nan, nan]"
    assert (read["stage"], read["step"]) == (["one", "one", "two"], [10, 20, 30])
    assert read["kl"][::2] == [0.5, 0.25]
    assert math.isnan(read["kl"][1])


def test_a_column_is_added_where_it_first_appears(tmp_path: Path):
    book = MetricsWriter(tmp_path)
    book.write(Row("one", 1, info={"acceptance": 0.5}))
    book.write(Row("two", 2, info={"energy": -2.0}))
    book.keep(2)
    MetricsWriter(tmp_path).write(Row("two", 3, 7, info={"energy": -1.0, "step": 0.25}))
    assert book.path.read_text().splitlines()[0] == ",".join([*log.COLUMNS, "acceptance", "energy", "info_step"])
    read = log.read_metrics(book.path)
    assert repr([read[name] for name in ("acceptance", "energy", "info_step")]) == (
        "[[0.5, nan, nan], [nan, -2.0, -1.0], [nan, nan, 0.25]]"
    )
    assert read["step"] == [0, 0, 7]


def test_files_are_replaced_whole(tmp_path: Path):
    path = tmp_path / "file.json"
    files.write_json(path, {"a": 1})
    files.write_json(path, {"a": 2})
    assert files.read_json(path) == {"a": 2}
    assert [each.name for each in tmp_path.iterdir()] == ["file.json"]
    with pytest.raises(RunError, match="cannot be written"):
        files.write_file(tmp_path / "no" / "file", "x")


def test_a_module_that_remembers_how_it_was_made_is_recorded():
    module = nn.Linear(2, 3)
    module.recipe = Recipe("torch.nn.Linear", {"in_features": 2, "out_features": 3})
    assert as_json(module) == {"class_path": "torch.nn.Linear", "init_args": {"in_features": 2, "out_features": 3}}


def test_public_names_are_there():
    for name in curvae.__all__:
        assert getattr(curvae, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        curvae.nonsense  # noqa: B018


@pytest.mark.parametrize(
    ("environment", "first"),
    [({}, True), ({"LOCAL_RANK": "1"}, False), ({"LOCAL_RANK": "0"}, True), ({"RANK": "2", "LOCAL_RANK": "0"}, False)],
)
def test_the_first_process_is_known_from_the_start(
    environment: dict[str, str], first: bool, monkeypatch: pytest.MonkeyPatch
):
    """As Lightning sees it, which is not asked."""
    from lightning.fabric.utilities.rank_zero import _get_rank

    for name in devices.RANKS:
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert devices.is_first() == first == ((_get_rank() or 0) == 0)


@pytest.mark.parametrize("count", [2, 3, 999])
def test_a_cpu_takes_as_many_processes_as_it_has_cores(count: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(devices, "PROCESSES", 2)
    if count == 2:
        assert devices.resolve_device("cpu", count) == "cpu"
    else:
        with pytest.raises(RunError, match=f"devices: expected at most 2 on cpu, got {count}"):
            devices.resolve_device("cpu", count)
