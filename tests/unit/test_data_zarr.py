"""Arrays of zarr: a folder or an archive, alone or in a group; of large ones some chunks at a time."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from test_data_stored import same

import curvae
from curvae.cli import main
from curvae.data import DataError, from_array, from_file
from curvae.data import stored as limits
from curvae.data.formats import zarr_arrays
from curvae.data.stored import StoredRows

zarr = pytest.importorskip("zarr")
ROWS, WIDTH = 3000, 4


def numbers(rng, dtype="float32"):
    return rng.normal(3, 2, size=(ROWS, WIDTH)).astype(dtype)


def saved(path, x, rows=500, **options):
    zarr.create_array(path, data=x, chunks=(rows, *x.shape[1:]), **options)
    return path


@pytest.fixture
def large(monkeypatch):
    """Every array is; two blocks of 500 rows are shuffled together."""
    for module in (limits, zarr_arrays):
        monkeypatch.setattr(module, "MOST_AT_RANDOM", 0)
    monkeypatch.setattr(zarr_arrays, "BLOCK", 1)
    monkeypatch.setattr(limits, "WINDOW", 2 * 500 * WIDTH * 4)


@pytest.mark.parametrize("format", [2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "int32", "uint8", "bool"])
def test_a_small_array_is_that_in_memory(tmp_path, rng, dtype, format):
    x = numbers(rng, dtype)
    same(from_file(saved(tmp_path / "x.zarr", x, zarr_format=format)), from_array(x))


@pytest.mark.parametrize("options", [{}, {"rows": 100, "shards": (500, WIDTH)}, {"rows": 700}, {"rows": 4000}])
def test_a_large_one_is_too(tmp_path, rng, large, options):
    x = numbers(rng)
    x[::7, 1] = np.nan
    found = from_file(saved(tmp_path / "x.zarr", x, **options), missing="mask")
    assert isinstance(found.train.raw, StoredRows)
    same(found, from_array(x, missing="mask"))


@pytest.mark.parametrize("dtype", ["float64", "float16", "int32", "uint8"])
def test_a_large_one_of_any_type(tmp_path, rng, large, dtype):
    x = numbers(rng, dtype)
    same(from_file(saved(tmp_path / "x.zarr", x)), from_array(x))


def test_an_epoch_reads_each_block_once(tmp_path, rng, large, monkeypatch):
    """But for the one window that the first batch of the next one is still drawn from."""
    train = from_file(saved(tmp_path / "x.zarr", numbers(rng))).train
    train.raw.source._kept.clear()
    read, block = [], zarr_arrays.ZarrRows.block
    monkeypatch.setattr(
        zarr_arrays.ZarrRows, "block", lambda self, number: (read.append(number), block(self, number))[1]
    )
    for rows in train.raw.shuffled(torch.Generator().manual_seed(0)).split(64):
        train.batch(rows)
    assert sorted(read) == list(range(6))


def test_rows_from_everywhere_need_not_fit_into_a_window(tmp_path, rng, large):
    x = numbers(rng)
    rows = from_file(saved(tmp_path / "x.zarr", x)).train.raw.source
    some = torch.randperm(ROWS)[:900]
    assert torch.equal(rows.read(some), torch.from_numpy(x)[some])


def test_a_block_that_cannot_be_read_spoils_no_other(tmp_path, rng, large, monkeypatch):
    x = numbers(rng)
    rows, block = from_file(saved(tmp_path / "x.zarr", x)).train.raw.source, zarr_arrays.ZarrRows.block
    rows.read(slice(0, 2000))

    def gone(self, number):
        raise OSError("gone")

    monkeypatch.setattr(zarr_arrays.ZarrRows, "block", gone)
    with pytest.raises(OSError, match="gone"):
        rows.read(slice(2500, 2600))
    monkeypatch.setattr(zarr_arrays.ZarrRows, "block", block)
    for part in (slice(2000, 2500), slice(0, 500), slice(1500, 2000), slice(0, 2000)):
        assert torch.equal(rows.read(part), torch.from_numpy(x)[part])


def test_small_chunks_are_read_together(tmp_path, rng, large, monkeypatch):
    monkeypatch.setattr(zarr_arrays, "BLOCK", 1000 * WIDTH * 4)
    found = from_file(saved(tmp_path / "x.zarr", numbers(rng), rows=30))
    assert found.train.raw.source.counts.tolist() == [1020, 1020, 960]


def test_an_archive_and_pictures(tmp_path, rng):
    x = rng.integers(256, size=(60, 8, 8)).astype("uint8")
    with zarr.storage.ZipStore(tmp_path / "x.zarr.zip", mode="w") as store:
        zarr.create_array(store, data=x)
    same(from_file(tmp_path / "x.zarr.zip"), from_array(x))


@pytest.fixture
def group(tmp_path, rng):
    found = zarr.open_group(tmp_path / "g.zarr", mode="w")
    found.create_array("flux", data=numbers(rng))
    found.create_array("kind", data=rng.integers(3, size=ROWS))
    return tmp_path / "g.zarr"


def test_a_group_has_data_and_labels_by_key(group):
    held = zarr.open(group)
    found = from_file(group, key="flux", label="kind")
    whole = from_array(held["flux"][...], held["kind"][...])
    assert torch.equal(found.train.label, whole.train.label)
    assert torch.equal(found.train.x, whole.train.x)
    assert found.schema.label.name == "kind"
    with pytest.raises(DataError, match=r"g.zarr: expected a key out of .*, got None; say key= or label="):
        from_file(group)


def test_a_run_reads_another_one(tmp_path, rng, large):
    x = numbers(rng)
    path, run = saved(tmp_path / "x.zarr", x), tmp_path / "run"
    fitted = curvae.fit("vae", path, out=run, latent=2, hidden=8, max_updates=20, progress=False)
    shutil.move(path, tmp_path / "moved.zarr")
    latents = tmp_path / "z.npz"
    assert main(["encode", str(run), str(tmp_path / "moved.zarr"), "--to", str(latents), "--no-rotate"]) == 0
    assert np.allclose(np.load(latents)["mean"], fitted.posterior(x).mean, atol=1e-5)


PICKLED = {"id": "pickle", "protocol": 5}


@pytest.mark.parametrize(
    "said", [{"compressor": PICKLED}, {"filters": [PICKLED]}, {"dtype": "|O", "filters": [PICKLED]}]
)
def test_nothing_is_unpickled(tmp_path, rng, said):
    path = saved(tmp_path / "x.zarr", numbers(rng), rows=ROWS, zarr_format=2)
    known = json.loads((path / ".zarray").read_text())
    (path / ".zarray").write_text(json.dumps({**known, "compressor": None, **said}))
    (path / "0.0").write_bytes(pickle.dumps(Touches(tmp_path / "touched")))
    with pytest.raises(DataError, match=r"x\.zarr: expected a folder or archive of zarr, got"):
        from_file(path)
    assert not (tmp_path / "touched").exists()


def test_older_libraries_which_unpickle_are_refused(tmp_path, rng, monkeypatch):
    path = saved(tmp_path / "x.zarr", numbers(rng))
    monkeypatch.setattr(zarr, "__version__", "2.18.7")
    with pytest.raises(DataError, match=r"expected zarr 3 to read it, got 2\.18\.7; run: pip install -U 'zarr>=3'"):
        from_file(path)


class Touches:
    """Makes a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("damage", ["metadata", "chunk", "empty", "shape"])
def test_what_is_broken_is_one_line(tmp_path, rng, damage):
    path = saved(tmp_path / "x.zarr", numbers(rng))
    match damage:
        case "metadata":
            (path / "zarr.json").write_text("{")
        case "chunk":
            next(each for each in (path / "c").rglob("*") if each.is_file()).write_bytes(b"no chunk")
        case "empty":
            shutil.rmtree(path)
            zarr.open_group(path, mode="w")
        case "shape":
            known = json.loads((path / "zarr.json").read_text())
            (path / "zarr.json").write_text(json.dumps(known | {"shape": [10**12, WIDTH]}))
    with pytest.raises(DataError) as caught:
        from_file(path)
    assert "\n" not in str(caught.value)
    assert "x.zarr" in str(caught.value)


def test_what_is_not_there_or_nothing_of_zarr(tmp_path):
    with pytest.raises(DataError, match="expected a file, got nothing there"):
        from_file(tmp_path / "x.zarr")
    (tmp_path / "x.zip").write_bytes(b"PK")
    with pytest.raises(DataError, match=r"x.zip: expected a folder or archive of zarr, got .*"):
        from_file(tmp_path / "x.zip")
