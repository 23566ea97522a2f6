"""Opening the data of a run again."""

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Any

from curvae.data.data import Data
from curvae.data.datasets.sets import load
from curvae.data.errors import DataError, DataWarning
from curvae.data.like import Earlier, like_file
from curvae.data.schema import Origin, Schema
from curvae.data.tables.files import from_file
from curvae.data.transforms import Transform


def reopen(
    recipe: Mapping[str, Any],
    transform: Transform | None = None,
    checksum: str | None = None,
    schema: Schema | None = None,
    folder: Path | None = None,
    data_dir: Path | None = None,
) -> Data:
    """The data that a recipe describes, under the transform that was stored beside it.

    Args:
        recipe: ``Data.recipe``, as it was or after a journey through JSON.
        transform: used instead of fitting one anew.
        checksum: ``Data.checksum`` of then.
        schema: ``Data.schema`` of then; says where files may be.
        folder: of the run that the schema was saved in.
        data_dir: the folder in which the files are now.

    Raises:
        DataError: the data were in memory only, or are not those of then.

    >>> digits = load("digits", seed=3)
    >>> reopen(digits.recipe, checksum=digits.checksum).checksum == digits.checksum
    True
    """
    if recipe.get("name") == "array" and "path" not in recipe:
        raise DataError("recipe: expected a data set or a file, got an array in memory; pass it to from_array again.")
    arguments = _current(recipe) if transform is None else {**_current(recipe), "transform": transform}
    if "like" in recipe and (transform is None or schema is None):
        raise DataError(
            "recipe: expected the transform and schema of the run, which these data were read by, got none."
        )
    if "path" not in recipe:
        moved = arguments if data_dir is None else {**arguments, "data_dir": str(data_dir)}
        return _same(load(**moved), checksum)
    read: Callable[..., Data] = from_file
    if transform is not None and schema is not None and arguments.pop("like", None):
        arguments.pop("transform")
        read = functools.partial(like_file, Earlier(schema, transform, recipe))
    places = [{"path": recipe["path"], **({"test": recipe["test"]} if recipe.get("test") else {})}]
    if schema is not None and schema.origins:
        places = _places(schema.origins, folder or Path(), data_dir)
    elif data_dir is not None:
        places = _places([Origin.of(path) for path in places[0].values() if path], Path(), data_dir)
    return _first(functools.partial(read, **arguments), places, checksum)


def _places(origins: Sequence[Origin], folder: Path, data_dir: Path | None) -> list[dict[str, Any]]:
    """Where the file and that of the test part may be, together."""
    each = [origin.candidates(folder, data_dir) for origin in origins]
    return [dict(zip(("path", "test"), paths, strict=False)) for paths in product(*each)]


def _first(read: Callable[..., Data], places: Sequence[Mapping[str, Any]], checksum: str | None) -> Data:
    """The first files that are those of then; what was left out of them was said then."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DataWarning)
        for place in places[:-1]:
            with suppress(DataError):
                return _same(read(**place), checksum)
        return _same(read(**places[-1]), checksum)


def _same(data: Data, checksum: str | None) -> Data:
    if checksum not in (None, data.checksum):
        raise DataError(f"data: expected checksum {checksum}, got {data.checksum}; the files have changed since then.")
    return data


def _current(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe in today's words: curvae 0.1.0 let columns be names and numbers in one list."""
    columns = recipe.get("columns")
    if "positions" in recipe or not columns or not any(isinstance(column, int) for column in columns):
        return dict(recipe)
    return {**recipe, "columns": None, "positions": columns}
