"""Files written by hand here, whole and broken."""

import gzip
import io
import lzma
import struct
import sys

import numpy as np
import pytest
from scipy.io import savemat

from curvae.data import DataError
from curvae.data.readers import (
    read_amat,
    read_bytes,
    read_cifar,
    read_idx,
    read_jpegs,
    read_mat,
    read_npy,
    read_npz,
    read_packed,
)

IMAGES = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
IDX = b"\0\0\x08\x03" + struct.pack(">3I", 2, 3, 4) + IMAGES.tobytes()


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content)
    return path


def npy(array):
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


@pytest.mark.parametrize(("suffix", "pack"), [("", bytes), (".gz", gzip.compress), (".xz", lzma.compress)])
def test_idx_plain_and_compressed(tmp_path, suffix, pack):
    np.testing.assert_array_equal(read_idx(written(tmp_path, "images" + suffix, pack(IDX))), IMAGES)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a", IDX[:-1], "expected 40 bytes, got 39; the file is cut short"),
        ("a", IDX + b"0", "expected 40 bytes, got 41"),
        ("a", IDX[:9], "expected 16 bytes, got 9"),
        ("a", b"<html>", r"expected an IDX file of bytes \(magic 00 00 08\), got 3c 68 74"),
        ("a", b"", "got nothing"),
        ("a.gz", gzip.compress(IDX, mtime=0)[:-12], "expected a whole .gz file, got .*; fetch or save it anew"),
        ("a.gz", b"<html>", "expected a whole .gz file"),
        ("a.xz", lzma.compress(IDX)[:-12], "expected a whole .xz file"),
        ("a.xz", b"<html>", "expected a whole .xz file"),
    ],
)
def test_broken_idx(tmp_path, name, content, message):
    with pytest.raises(DataError, match=message) as error:
        read_idx(written(tmp_path, name, content))
    assert "\n" not in str(error.value)


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"expected a file, got nothing there; check the path"):
        read_bytes(tmp_path / "none")


def test_amat(tmp_path):
    path = written(tmp_path, "train.amat", b"0 1 1 0 \n1 1 0 0 \n")
    assert read_amat(path, 4).tolist() == [[0, 1, 1, 0], [1, 1, 0, 0]]
    with pytest.raises(DataError, match=r"expected a multiple of 5 values, got 8"):
        read_amat(path, 5)
    with pytest.raises(DataError, match=r"expected text of 0 and 1, got b'MATLAB'"):
        read_amat(written(tmp_path, "mat.amat", b"MATLAB 5.0"))


def test_packed_bits(tmp_path):
    bits = np.random.default_rng(0).integers(0, 2, (6, 5, 13), dtype=np.uint8)
    path = written(tmp_path, "bits.npy.xz", lzma.compress(npy(np.packbits(bits, axis=-1))))
    np.testing.assert_array_equal(read_packed(path, 13), bits)
    with pytest.raises(DataError, match=r"expected packed bits, uint8 \(..., 3\), got uint8 \(6, 5, 2\)"):
        read_packed(path, 17)


def test_arrays_of_objects_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"expected a \.npy array of numbers, got Object arrays cannot be loaded"):
        read_npy(written(tmp_path, "a.npy", npy(np.array([{}], dtype=object))))
    np.savez(tmp_path / "a.npz", x=np.array([{}], dtype=object))
    with pytest.raises(
        DataError, match=r"a\.npz: expected a \.npy array of numbers, got Object arrays cannot be loaded"
    ):
        read_npz(tmp_path / "a.npz")


@pytest.mark.parametrize("content", [b"", b"PK not a zip", npy(IMAGES)[:-3]])
def test_broken_arrays(tmp_path, content):
    path = written(tmp_path, "a", content)
    with pytest.raises(DataError, match=r"expected"):
        read_npy(path)
    with pytest.raises(DataError, match=r"expected"):
        read_npz(path)


def test_cifar_records():
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 32, 32), dtype=np.uint8)
    content = b"".join(bytes([label]) + image.tobytes() for label, image in zip([3, 9], pixels, strict=True))
    x, label = read_cifar(content, "batch")
    np.testing.assert_array_equal(x, pixels)
    assert label.tolist() == [3, 9]
    with pytest.raises(DataError, match=r"batch: expected records of 3073 bytes, got 6145 bytes"):
        read_cifar(content[:-1], "batch")


def test_mat(tmp_path):
    savemat(tmp_path / "a.mat", {"X": np.eye(3), "y": np.ones(2)})
    x, y = read_mat(tmp_path / "a.mat", "X", "y")
    assert x.shape == (3, 3)
    assert y.shape == (1, 2)
    with pytest.raises(DataError, match=r"expected the arrays .'X', 'z'., got none named 'z'"):
        read_mat(tmp_path / "a.mat", "X", "z")
    with pytest.raises(DataError, match=r"expected a MATLAB v5 file"):
        read_mat(written(tmp_path, "b.mat", b"no such thing" * 20), "X")


def jpeg_bundle(count=3):
    from PIL import Image

    pictures = []
    for i in range(count):
        buffer = io.BytesIO()
        Image.fromarray(np.full((8, 8, 3), 40 * i, np.uint8)).save(buffer, "JPEG")
        pictures.append(buffer.getvalue())
    offsets = np.cumsum([0] + [len(picture) for picture in pictures]).astype("<u4")
    return struct.pack("<I", count) + offsets.tobytes() + bytes(range(count)) + b"".join(pictures)


def test_jpegs(tmp_path):
    pytest.importorskip("PIL")
    x, label = read_jpegs(written(tmp_path, "a.jpegs", jpeg_bundle()))
    assert x.shape == (3, 3, 8, 8)
    assert x[:, 0, 0, 0].tolist() == [0, 40, 80]
    assert label.tolist() == [0, 1, 2]
    with pytest.raises(DataError, match=r"the file is cut short"):
        read_jpegs(written(tmp_path, "b.jpegs", jpeg_bundle()[:-1]))
    with pytest.raises(DataError, match=r"expected JPEG pictures of one size"):
        read_jpegs(written(tmp_path, "c.jpegs", jpeg_bundle().replace(b"\xff\xd8", b"\0\0")))


def test_jpegs_without_pillow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(DataError, match=r"expected Pillow to read JPEG copies, got none; run: pip install"):
        read_jpegs(tmp_path / "a.jpegs")
