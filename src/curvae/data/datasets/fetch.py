"""Where the files of a known data set are: a folder of the user's, or a cache filled from public addresses."""

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from textwrap import shorten

from curvae.cache import cache_folder
from curvae.data.errors import DataError

SUFFIXES = ("", ".gz", ".xz")


@dataclass(frozen=True)
class Remote:
    """A public file: its address and the hash that it must have: a SHA-256, ``md5:...``, or ``git:...`` of a blob."""

    url: str
    known_hash: str


@dataclass(frozen=True)
class Files:
    """The files of data sets under ``folder``; without one, downloads."""

    folder: Path | None = None

    def find(self, *names: str) -> Path | None:
        """The first of ``names`` in the folder, plain or with ``.gz`` or ``.xz`` added; None if there is none."""
        if self.folder is None:
            return None
        candidates = (self.folder / (name + suffix) for name in names for suffix in SUFFIXES)
        return next((path for path in candidates if path.is_file()), None)

    def need(self, what: str, *names: str, remote: Remote | None = None) -> Path:
        """As :meth:`find`, or the download of ``remote`` where there is no folder.

        Raises:
            DataError: the folder has none of the files, or the download failed.
        """
        if (path := self.find(*names)) is not None:
            return path
        if self.folder is None and remote is not None:
            return download(what, remote)
        place = f"{self.folder.absolute()}" if self.folder else "no --data-dir (there is no public download)"
        raise DataError(f"{what}: expected one of {', '.join(names)} (or .gz, .xz), got {place}; check --data-dir.")


def download(what: str, remote: Remote) -> Path:
    """The cached copy of a public file, fetched and checked the first time, with a progress bar if tqdm is there."""
    import pooch

    folder, name = cache_folder() / what, remote.url.rpartition("/")[2]
    bar, blob = find_spec("tqdm") is not None, remote.known_hash.startswith("git:")
    try:
        known = None if blob else remote.known_hash
        path = Path(pooch.retrieve(remote.url, known, fname=name, path=folder, progressbar=bar))
        if blob and remote.known_hash != f"git:{_blob(path.read_bytes())}":
            path.unlink()
            raise ValueError("a file with another hash")
        return path
    except (OSError, ValueError) as error:
        reason = shorten(str(error), 90) or type(error).__name__
        mend = f"fetch it elsewhere and pass its folder as data_dir (--data-dir), or put it into {folder}"
        raise DataError(f"{what}: expected to download {remote.url}, got {reason}; {mend}.") from None


def _blob(content: bytes) -> str:
    """The name that Git gives to this content."""
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content, usedforsecurity=False).hexdigest()
