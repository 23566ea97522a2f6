"""Files, written whole and read with suspicion; what they mean is said elsewhere.

``atomic`` is the one way to write, ``regular`` the one way to open; ``formats`` turns bytes into values and any failure
into a :class:`FileError`, ``typed`` values into the types that were promised.
"""

from curvae.io.errors import FileError

__all__ = ["FileError"]
