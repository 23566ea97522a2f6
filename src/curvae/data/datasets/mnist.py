"""MNIST, Fashion-MNIST and Larochelle's binarized MNIST."""

from collections.abc import Mapping

from curvae.data.datasets.fetch import Files, Remote
from curvae.data.datasets.sources import Part, PublishedSet
from curvae.data.readers import read_amat, read_idx, read_packed

MNIST_SITE = "https://ossci-datasets.s3.amazonaws.com/mnist"
MNIST_HASHES = {
    "train-images-idx3-ubyte": "md5:f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "train-labels-idx1-ubyte": "md5:d53e105ee54ea40749a09fcbcd1e9432",
    "t10k-images-idx3-ubyte": "md5:9fb629c4189551a2d022fa330f9573f3",
    "t10k-labels-idx1-ubyte": "md5:ec29112dd5afa0611ce80d1b7f02629c",
}
FASHION_SITE = "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion"
FASHION_HASHES = {
    "train-images-idx3-ubyte": "md5:8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "train-labels-idx1-ubyte": "md5:25c81989df183df01b3e8a0aad5dffbe",
    "t10k-images-idx3-ubyte": "md5:bef4ecab320f06d8554ea6380940ec79",
    "t10k-labels-idx1-ubyte": "md5:bb300cfdad3c16e7a12a480ee83cd310",
}
BINARIZED_SITE = "https://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist"
BINARIZED_HASHES = {
    "train": "ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
    "valid": "1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
    "test": "e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
}


def mnist(files: Files) -> PublishedSet:
    """60,000 + 10,000 handwritten digits of 28 x 28 pixels."""
    return _idx("mnist", files, ("mnist/", "MNIST/raw/", ""), MNIST_SITE, MNIST_HASHES)


def fashion_mnist(files: Files) -> PublishedSet:
    """60,000 + 10,000 pictures of clothes of 28 x 28 pixels; MNIST's file names, so keep them in their own folder."""
    return _idx("fashion_mnist", files, ("fashion_mnist/", "FashionMNIST/raw/", ""), FASHION_SITE, FASHION_HASHES)


def binarized_mnist(files: Files) -> PublishedSet:
    """Larochelle's fixed binarization of MNIST, 50,000 + 10,000 + 10,000; the order is not MNIST's, no labels."""
    train, validation, test = (_binarized(files, split) for split in ("train", "valid", "test"))
    return PublishedSet("binarized_mnist", train, test, validation, levels=2)


def _idx(name: str, files: Files, folders: tuple[str, ...], site: str, hashes: Mapping[str, str]) -> PublishedSet:
    def read(stem: str):
        remote = Remote(f"{site}/{stem}.gz", hashes[stem])
        return read_idx(files.need(name, *(folder + stem for folder in folders), remote=remote))

    train, train_label, test, test_label = (read(stem) for stem in hashes)
    return PublishedSet(name, Part(train[:, None], train_label), Part(test[:, None], test_label))


def _binarized(files: Files, split: str) -> Part:
    if packed := files.find(f"binarized_mnist/{split}_packed.npy"):
        bits = read_packed(packed, 784)
    else:
        stem = f"binarized_mnist_{split}.amat"
        remote = Remote(f"{BINARIZED_SITE}/{stem}", BINARIZED_HASHES[split])
        bits = read_amat(files.need("binarized_mnist", f"binarized_mnist/{stem}", stem, remote=remote), 784)
    return Part(bits.reshape(-1, 1, 28, 28))
