"""Opening the data of a run again."""

from collections.abc import Mapping
from typing import Any

from curvae.data.data import Data
from curvae.data.errors import DataError
from curvae.data.files import from_file
from curvae.data.sets import load
from curvae.data.transforms import Transform


def reopen(recipe: Mapping[str, Any], transform: Transform | None = None, checksum: str | None = None) -> Data:
    """The data that a recipe describes, under the transform that was stored beside it.

    Args:
        recipe: ``Data.recipe``, as it was or after a journey through JSON.
        transform: used instead of fitting one anew.
        checksum: ``Data.checksum`` of then.

    Raises:
        DataError: the data were in memory only, or are not those of then.

    >>> digits = load("digits", seed=3)
    >>> reopen(digits.recipe, checksum=digits.checksum).checksum == digits.checksum
    True
    """
    if recipe.get("name") == "array" and "path" not in recipe:
        raise DataError("recipe: expected a data set or a file, got an array in memory; pass it to from_array again.")
    arguments = dict(recipe) if transform is None else {**recipe, "transform": transform}
    data = from_file(**arguments) if "path" in recipe else load(**arguments)
    if checksum not in (None, data.checksum):
        raise DataError(f"data: expected checksum {checksum}, got {data.checksum}; the files have changed since then.")
    return data
