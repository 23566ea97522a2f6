"""Known data sets: layouts written by hand, downloads without a network, and the real files where there are any."""

import gzip
import hashlib
import io
import json
import struct
import tarfile
from pathlib import Path

import numpy as np
import pooch
import pytest
import torch
from scipy.io import savemat

from curvae.cache import cache_folder
from curvae.data import DataError, load, names, reopen
from curvae.data.datasets.fetch import Files, Remote, download
from curvae.data.datasets.known_sets import SOURCES
from curvae.data.datasets.mnist import BINARIZED_HASHES
from curvae.data.transforms import Identity, restore

RANDOM = np.random.default_rng(0)


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(folder, compress=False):
    folder.mkdir(parents=True, exist_ok=True)
    for prefix, count in (("train", 60), ("t10k", 10)):
        images = RANDOM.integers(0, 256, (count, 28, 28), dtype=np.uint8)
        for stem, array in (("images-idx3", images), ("labels-idx1", images[:, 0, 0] % 10)):
            path = folder / f"{prefix}-{stem}-ubyte"
            if compress:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(idx(array)))
            else:
                path.write_bytes(idx(array))


def cifar_records(count):
    return b"".join(bytes([i % 10]) + RANDOM.integers(0, 256, 3072, dtype=np.uint8).tobytes() for i in range(count))


CIFAR_MEMBERS = [f"data_batch_{i}.bin" for i in range(1, 6)] + ["test_batch.bin"]


def test_default_preprocessing_is_that_of_the_paper(tmp_path):
    write_mnist(tmp_path / "mnist", compress=True)
    data = load("mnist", tmp_path)
    assert (len(data.train), len(data.validation), len(data.test)) == (50, 10, 10)
    assert data.spec[:5] == ((1, 28, 28), "real", 2, "mnist", "shared")
    assert data.transform.unit == "pixels in [0,1], not dequantized"
    assert data.train.x.mean(0).abs().max() < 1e-6
    pixels = data.train.raw / 255
    torch.testing.assert_close(data.validation.x, data.validation.raw / 255 - pixels.mean(0))
    torch.testing.assert_close(data.transform.picture(data.train.x), pixels)
    assert data.train.training
    assert not data.validation.training


@pytest.mark.parametrize("layout", ["mnist", "MNIST/raw", "."])
@pytest.mark.parametrize("compress", [True, False])
def test_layouts_of_idx_files(tmp_path, layout, compress):
    write_mnist(tmp_path / layout, compress)
    assert load("mnist", tmp_path).train.label is not None


def test_splits_depend_on_the_seed_alone(tmp_path):
    write_mnist(tmp_path)
    first, again, other = load("mnist", tmp_path), load("mnist", str(tmp_path)), load("mnist", tmp_path, seed=1)
    assert first.checksum == again.checksum != other.checksum
    torch.testing.assert_close(first.test.raw, other.test.raw)
    merged = torch.cat([first.train.raw, first.validation.raw]).flatten(1).double().sum(1).sort().values
    torch.testing.assert_close(
        merged, torch.cat([other.train.raw, other.validation.raw]).flatten(1).double().sum(1).sort().values
    )


@pytest.mark.parametrize(("validation", "count"), [(0.1, 6), (5, 5), (None, 10)])
def test_validation_by_share_or_count(tmp_path, validation, count):
    write_mnist(tmp_path)
    assert len(load("mnist", tmp_path, validation=validation).validation) == count


@pytest.mark.parametrize(
    ("switches", "support", "unit", "random"),
    [
        ({"binarize": "static"}, "binary", "binary pixels (probabilities, not densities)", False),
        ({"binarize": "dynamic"}, "binary", "binary pixels (probabilities, not densities)", True),
        ({"dequantize": True}, "real", "grey levels 0..16, dequantized with uniform noise", True),
        ({"dequantize": True, "logit": True}, "real", "grey levels 0..16, dequantized with uniform noise", True),
        ({"standardize": True}, "real", "pixels in [0,1], not dequantized", False),
    ],
)
def test_switches(switches, support, unit, random):
    data = load("digits", **switches)
    assert (data.spec.support, data.transform.unit, data.transform.random) == (support, unit, random)
    recipe = json.loads(json.dumps(data.recipe))
    again = reopen(recipe, restore(*data.transform.state()), data.checksum)
    torch.testing.assert_close(again.test.x, data.test.x)
    if support == "binary":
        assert set(data.train.x.unique().tolist()) == {0.0, 1.0}


def test_a_transform_of_ones_own_must_be_given_again():
    data = load("digits", transform=Identity())
    assert data.train.x.max() == 16
    with pytest.raises(DataError, match=r"transform: expected an object, got 'own'; pass the one"):
        reopen(data.recipe)
    assert reopen(data.recipe, Identity()).train.x.max() == 16


def test_reopening_notices_other_data():
    with pytest.raises(DataError, match=r"data: expected checksum 00, got .*; the files have changed"):
        reopen(load("digits").recipe, checksum="00")


def test_cifar_unpacked_and_archived(tmp_path):
    contents = {name: cifar_records(4) for name in CIFAR_MEMBERS}
    with tarfile.open(tmp_path / "cifar-10-binary.tar.gz", "w:gz") as tar:
        for name, content in contents.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    archived = load("cifar10", tmp_path)
    folder = tmp_path / "unpacked" / "cifar-10-batches-bin"
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    unpacked = load("cifar10", tmp_path / "unpacked")
    assert archived.checksum == unpacked.checksum
    assert archived.spec.event == (3, 32, 32)
    assert (len(archived.train), len(archived.validation), len(archived.test)) == (17, 3, 4)


def test_cifar_pickles_are_refused(tmp_path):
    (tmp_path / "cifar-10-python.tar.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"got Python pickles; take cifar-10-binary.tar.gz instead"):
        load("cifar10", tmp_path)


def test_cifar_archive_cut_short(tmp_path):
    (tmp_path / "cifar-10-binary.tar.gz").write_bytes(gzip.compress(b"nothing"))
    with pytest.raises(DataError, match=r"expected 6 batches of CIFAR-10, got"):
        load("cifar10", tmp_path)


def test_svhn(tmp_path):
    for name, count in (("train", 12), ("test", 3)):
        x = RANDOM.integers(0, 256, (32, 32, 3, count), dtype=np.uint8)
        savemat(tmp_path / f"{name}_32x32.mat", {"X": x, "y": np.full((count, 1), 10, np.uint8)})
    data = load("svhn", tmp_path)
    assert data.spec.event == (3, 32, 32)
    np.testing.assert_array_equal(data.test.raw.permute(2, 3, 1, 0), x)
    assert data.test.label is not None
    assert data.test.label.tolist() == [0, 0, 0]


def test_burdas_omniglot_is_stored_by_columns(tmp_path):
    pictures = RANDOM.random((8, 28, 28))
    columns = pictures.swapaxes(1, 2).reshape(8, 784).T
    alphabets = np.eye(50)[:, :8]
    content = {"data": columns, "target": alphabets, "testdata": columns[:, :2], "testtarget": alphabets[:, :2]}
    savemat(tmp_path / "chardata.mat", content)
    data = load("omniglot", tmp_path)
    np.testing.assert_allclose(data.test.raw[:, 0], pictures[:2], rtol=1e-6)
    assert data.spec.name == "omniglot"
    assert data.test.label is not None
    assert data.test.label.tolist() == [0, 1]


def test_a_folder_that_was_named_from_another_place_is_found_again(tmp_path, monkeypatch):
    write_mnist(tmp_path / "here" / "mnist")
    monkeypatch.chdir(tmp_path)
    data = load("mnist", "here", validation=20)
    monkeypatch.chdir(tmp_path / "here")
    torch.testing.assert_close(reopen(data.recipe).test.x, data.test.x)


def test_binarized_mnist_from_text(tmp_path):
    for split, count in (("train", 5), ("valid", 3), ("test", 2)):
        rows = RANDOM.integers(0, 2, (count, 784))
        text = "".join(" ".join(map(str, row)) + "\n" for row in rows)
        (tmp_path / f"binarized_mnist_{split}.amat").write_text(text)
    data = load("binarized_mnist", tmp_path)
    assert (len(data.train), len(data.validation), len(data.test)) == (5, 3, 2)
    assert data.spec.support == "binary"
    np.testing.assert_array_equal(data.test.x.flatten(1), rows)
    with pytest.raises(DataError, match=r"validation: expected None as binarized_mnist has 3 official rows, got 0.1"):
        load("binarized_mnist", tmp_path, validation=0.1)
    with pytest.raises(DataError, match=r"expected none for binary data"):
        load("binarized_mnist", tmp_path, logit=True)


def test_downloads_go_to_the_cache_once(tmp_path, monkeypatch):
    monkeypatch.setenv("CURVAE_CACHE", str(tmp_path))
    remote, calls = Remote("https://example.org/a/train.gz", "md5:00"), []

    def retrieve(url, known_hash, fname, path, progressbar):
        calls.append((url, known_hash, progressbar))
        return str(path / fname)

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert Files().need("mnist", "train", remote=remote) == tmp_path / "mnist" / "train.gz"
    assert [call[:2] for call in calls] == [("https://example.org/a/train.gz", "md5:00")]


def test_every_download_has_an_address(monkeypatch):
    asked = []

    def refuse(url, *args, **kwargs):
        asked.append(url)
        raise ConnectionError("no network")

    monkeypatch.setattr(pooch, "retrieve", refuse)
    for name in ("mnist", "fashion_mnist", "binarized_mnist", "omniglot", "cifar10", "svhn"):
        with pytest.raises(DataError, match=r"got no network; .*--data-dir") as error:
            load(name)
        assert "\n" not in str(error.value)
    assert all(url.startswith("https://") for url in asked)
    assert len(asked) == 6


def test_a_wrong_hash_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("CURVAE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "a.bin").write_bytes(b"a")

    def copy(url, output_file, pooch):
        Path(output_file).write_bytes(b"a")

    monkeypatch.setattr("pooch.core.choose_downloader", lambda *args, **kwargs: copy)
    with pytest.raises(DataError, match=r"expected to download https://example.org/a.bin, got MD5 hash"):
        download("a", Remote("https://example.org/a.bin", "md5:" + "0" * 32))
    good = Remote("https://example.org/a.bin", "md5:0cc175b9c0f1b6a831c399e269772661")
    assert download("a", good).read_bytes() == b"a"


def test_cache_folder_of_the_platform(monkeypatch):
    monkeypatch.delenv("CURVAE_CACHE", raising=False)
    assert "curvae" in str(cache_folder())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "digit"}, "name: expected one of digits, mnist, .*, got 'digit'; did you mean 'digits'"),
        ({"name": "digits", "binarize": "hard"}, "binarize: expected 'static', 'dynamic' or None, got 'hard'"),
        ({"name": "digits", "binarize": "static", "logit": True}, "binarize: expected alone"),
        ({"name": "digits", "validation": 1.5}, "validation: expected a fraction in .0, 1. or a count in 1..1437"),
        ({"name": "digits", "validation": 5000}, "validation: expected a fraction .*, got 5000"),
        ({"name": "mnist", "data_dir": "nowhere"}, "mnist: expected one of mnist/train.*, got /.*nowhere; check"),
        ({"name": "omniglot-area28"}, "there is no public download"),
    ],
)
def test_misuse(arguments, message):
    with pytest.raises(DataError, match=message) as error:
        load(**arguments)
    assert "\n" not in str(error.value)


def test_pixels_without_levels_cannot_be_dequantized(tmp_path):
    content = {key: RANDOM.random((784, 6)) for key in ("data", "target", "testdata", "testtarget")}
    savemat(tmp_path / "chardata.mat", content)
    with pytest.raises(DataError, match=r"dequantize: expected integer grey levels, got pixels in"):
        load("omniglot", tmp_path, dequantize=True)


REAL = {
    "mnist": ("mnist", (50_000, 10_000, 10_000), (1, 28, 28)),
    "fashion_mnist": ("fashion_mnist", (50_000, 10_000, 10_000), (1, 28, 28)),
    "binarized_mnist": ("binarized_mnist", (50_000, 10_000, 10_000), (1, 28, 28)),
    "omniglot": ("omniglot-area28", (16_067, 3_213, 13_180), (1, 28, 28)),
    "cifar10": ("cifar10-jpeg", (8_333, 1_667, 2_000), (3, 32, 32)),
}


@pytest.mark.parametrize("name", REAL)
def test_real_files(shared_data, name):
    if name == "cifar10":
        pytest.importorskip("PIL")
    data = load(name, shared_data)
    expected, counts, event = REAL[name]
    assert data.spec.name == expected
    assert (len(data.train), len(data.validation), len(data.test)) == counts
    assert data.spec.event == event
    assert data.train.x.shape[1:] == event
    pixels = data.transform.picture(data.test.x[:1000])
    assert pixels.min() == 0
    assert pixels.max() > 0.99


def test_real_binarization_is_the_published_one(shared_data):
    data = load("binarized_mnist", shared_data)
    text = data.test.raw.reshape(-1, 784).numpy() + 48
    lines = np.full((len(text), 1568), ord(" "), np.uint8)
    lines[:, ::2], lines[:, -1] = text, ord("\n")
    assert hashlib.sha256(lines.tobytes()).hexdigest() == BINARIZED_HASHES["test"]


def test_names_are_all_known():
    assert names() == list(SOURCES)
