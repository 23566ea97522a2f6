"""CIFAR-10 and SVHN: color pictures of 32 x 32 pixels."""

import tarfile
from pathlib import Path

import numpy as np

from curvae.data.datasets.fetch import Files, Remote
from curvae.data.datasets.sources import Part, PublishedSet
from curvae.data.errors import DataError
from curvae.data.readers import read_bytes, read_cifar, read_jpegs, read_mat

CIFAR = Remote("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", "md5:c32a1d4ab5d03f1284b67883e8d87530")
CIFAR_BATCHES = ("data_batch_1.bin", "data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin", "data_batch_5.bin")
CIFAR_ARCHIVES = ("cifar-10-binary.tar.gz", "cifar10/cifar-10-binary.tar.gz")
CIFAR_PICKLES = ("cifar-10-batches-py/data_batch_1", "cifar-10-python.tar.gz", "cifar10/cifar-10-python.tar.gz")
JPEGS = "cifar10/cifar10_jpeg_10000_2000.jpegs"
SVHN_SITE = "https://ufldl.stanford.edu/housenumbers"
SVHN_HASHES = {
    "train_32x32.mat": "md5:e26dedcc434d2e4c54c9b2d4a06d8373",
    "test_32x32.mat": "md5:eb5a983be6a315427106f1b164d9cef3",
}


def cifar10(files: Files) -> PublishedSet:
    """50,000 + 10,000 pictures, from the *binary* version; ``cifar10-jpeg`` if a given folder has only JPEG copies."""
    folders = ("cifar-10-batches-bin/", "cifar10/cifar-10-batches-bin/", "cifar10/", "")
    unpacked = files.find(*(folder + CIFAR_BATCHES[0] for folder in folders))
    if unpacked is None and files.find(*CIFAR_ARCHIVES) is None:
        if files.find(JPEGS) is not None:
            return cifar10_jpeg(files)
        _refuse_pickles(files)
    names = (*CIFAR_BATCHES, "test_batch.bin")
    if unpacked is not None:
        *train, test = [read_bytes(unpacked.with_name(name)) for name in names]
    else:
        *train, test = _members(files.need("cifar10", *CIFAR_ARCHIVES, remote=CIFAR), names)
    return PublishedSet("cifar10", Part(*read_cifar(b"".join(train), "cifar10")), Part(*read_cifar(test, "cifar10")))


def cifar10_jpeg(files: Files) -> PublishedSet:
    """10,000 + 2,000 pictures of CIFAR-10 as JPEG copies: for comparing methods, not for bits per dimension."""
    x, label = read_jpegs(files.need("cifar10-jpeg", JPEGS))
    return PublishedSet("cifar10-jpeg", Part(x[:10_000], label[:10_000]), Part(x[10_000:], label[10_000:]))


def svhn(files: Files) -> PublishedSet:
    """73,257 + 26,032 street-view house numbers, cropped to their middle digit."""
    train, test = (_svhn(files, name) for name in SVHN_HASHES)
    return PublishedSet("svhn", train, test)


def _svhn(files: Files, name: str) -> Part:
    remote = Remote(f"{SVHN_SITE}/{name}", SVHN_HASHES[name])
    x, label = read_mat(files.need("svhn", f"svhn/{name}", f"SVHN/{name}", name, remote=remote), "X", "y")
    return Part(np.ascontiguousarray(x.transpose(3, 2, 0, 1)), label.ravel().astype(np.int64) % 10)


def _members(archive: Path, names: tuple[str, ...]) -> list[bytes]:
    try:
        with tarfile.open(archive) as tar:
            found = {Path(member.name).name: member for member in tar if member.isfile()}
            return [tar.extractfile(found[name]).read() for name in names]  # pyright: ignore[reportOptionalMemberAccess]
    except Exception as error:  # a damaged archive raises anything, of zlib's and its own
        raise DataError(f"{archive}: expected {len(names)} batches of CIFAR-10, got {error}; fetch it anew.") from None


def _refuse_pickles(files: Files) -> None:
    if path := files.find(*CIFAR_PICKLES):
        raise DataError(
            f"{path}: expected the binary version, got Python pickles; take cifar-10-binary.tar.gz instead."
        )
