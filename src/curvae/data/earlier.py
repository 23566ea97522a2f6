"""Data by what an earlier run knows of its own: new ones in its units, under its transform, split anew; or the same."""

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain, product, repeat
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from curvae.argument_checks import check_seed
from curvae.data.all_rows import KEY, on_all_rows
from curvae.data.data import Data, Rows, build_data
from curvae.data.datasets.known_sets import load
from curvae.data.errors import DataError, DataWarning
from curvae.data.schema import Column, Kind, Origin, Schema
from curvae.data.stored import rows_in_memory
from curvae.data.tables.assembling import resolve_options
from curvae.data.tables.files import from_file, match_file, stem
from curvae.data.tables.frames import in_memory, is_frame, library_of
from curvae.data.tables.kinds import with_kinds
from curvae.data.tables.matching import Matched, match, missing_of
from curvae.data.tables.splits import parted
from curvae.data.transforms import Transform
from curvae.data.validation import check_range, check_transformed
from curvae.io.reading import Reading

SHARES = (0.7, 0.15, 0.15)
SWITCHES = ("binarize", "dequantize", "logit", "standardize")
"""What a known set is opened with, beside its split."""


class Earlier(NamedTuple):
    """The data of an earlier run."""

    schema: Schema
    transform: Transform
    recipe: Mapping[str, Any]


def like_array(
    earlier: Earlier,
    x: Any,
    labels: Any = None,
    mask: Any = None,
    *,
    columns: Sequence[Any] | None = None,
    positions: Sequence[int] | None = None,
    split: Sequence[float | int] = SHARES,
    missing: str | None = None,
    seed: int = 0,
    name: str = "array",
) -> Data:
    """New rows in an array, a tensor or a frame.

    Args:
        earlier: the data of the earlier run.
        x: the rows, in its units; columns with names are found by them.
        labels: one a row, or the column of a frame; by default the run's.
        mask: of the shape of x, True = observed.
        columns: names of the features in x, where they are not called as in the run.
        positions: places of the features in x, likewise.
        split: shares of training, validation and test rows.
        missing: what a missing value is; by default as in the run.
        seed: of the split.
        name: of the data, for reports.

    Raises:
        DataError: a feature is missing, a value is not of the run's kind, a shape does not fit.
    """
    how, _ = resolve_options("like_array", None, None, {"columns": columns, "positions": positions, "missing": missing})
    found = match(earlier.schema, "x", x, labels, mask, how)
    held = {"holder": "frame", "frame": library_of(in_memory(x))} if is_frame(x) else {"holder": "array"}
    schema = replace(_schema(earlier.schema, name, missing), **held, origins=())
    return _data(earlier, found, schema, split, seed, {"name": "array"})


def like_file(
    earlier: Earlier,
    path: str | Path,
    columns: Sequence[str | int] | None = None,
    label: str | int | None = None,
    *,
    reading: Reading | None = None,
    split: Sequence[float | int] = SHARES,
    seed: int = 0,
    name: str | None = None,
    **single: Any,
) -> Data:
    """New rows in a file.

    Args:
        earlier: the data of the earlier run.
        path: a ``.npy``, ``.npz``, ``.csv``, ``.tsv`` or ``.txt`` file, plain or compressed.
        columns: names of the features in the file, where they are not called as in the run.
        label: the column with the labels; by default the run's.
        reading: what of it is to be read otherwise than in the run, see :class:`curvae.data.Reading`.
        split: shares of training, validation and test rows.
        seed: of the split.
        name: by default the file's.
        single: single options of reading by name, as ``missing="mask"``.

    Raises:
        DataError: a broken file; or see :func:`like_array`.
    """
    name, said = name or stem(Path(path)), {"columns": columns, "label": label, "key": earlier.recipe.get("key")}
    said |= {"transpose": earlier.recipe.get("transpose")}
    said = {key: value for key, value in said.items() if value is not None} | single
    how, _ = resolve_options("like_file", reading, None, said)
    found = match_file(earlier.schema, Path(path).expanduser(), how)
    known = replace(_schema(earlier.schema, name, missing_of(earlier.schema, how)), holder="file")
    schema = replace(known, origins=(Origin.of(path),))
    recipe = {"split": list(split), "missing": schema.missing, "seed": seed, "name": name, "like": "earlier"}
    return _data(earlier, found, schema, split, seed, {"path": str(path), **how.recipe(), **recipe})


def like_set(
    earlier: Earlier,
    name: str,
    data_dir: str | Path | None = None,
    validation: float | int | None = None,
    seed: int = 0,
) -> Data:
    """A known data set, in pictures of the same shape and unit as those of the run.

    Args:
        earlier: the data of the earlier run.
        name: of the set.
        data_dir: a folder with its files; None = download into the cache.
        validation: fraction or number of training rows to hold out; by default a sixth.
        seed: of the split.

    Raises:
        DataError: pictures of another shape or unit.
    """
    switches = {each: earlier.recipe[each] for each in SWITCHES} if "binarize" in earlier.recipe else {}
    fresh = load(name, data_dir, validation=validation, seed=seed, **switches)
    ours, theirs = _nature(earlier.schema, earlier.transform), _nature(fresh.schema, fresh.transform)
    if ours != theirs:
        raise DataError(f"{name}: expected {ours}, as in the run, got {theirs}; train on it anew.")
    return load(name, data_dir, earlier.transform, validation=validation, seed=seed, **switches)


def _nature(schema: Schema, transform: Transform) -> str:
    return f"{schema.spec.support} data of shape {schema.spec.event}, {transform.unit}"


def _schema(earlier: Schema, name: str, missing: str | None) -> Schema:
    missing = missing or earlier.missing
    spec = earlier.spec._replace(name=name)
    return replace(earlier, spec=spec, missing="mask" if missing == "mask" else "error")


def _data(
    earlier: Earlier, found: Matched, schema: Schema, split: Sequence[float | int], seed: int, recipe: Mapping[str, Any]
) -> Data:
    """The rows that were matched, looked at, split and described."""
    check_seed(seed, DataError)
    rows, names = found.rows, list(schema.names) or None
    what = str(recipe.get("path", "x"))
    _check_type(what, rows, schema)
    check_range(what, rows.raw, rows.mask, names)
    check_transformed(what, rows.raw, earlier.transform, rows.mask, names)
    parts = parted(rows, None, split, seed)
    seen = with_kinds(schema.columns, [rows], parts[0], schema.spec)
    raw = rows_in_memory(rows.raw)
    whole = chain((raw == raw.floor()).flatten(1).all(0).tolist(), repeat(True))
    columns = tuple(map(_holding, schema.columns, seen, whole)) if schema.features else schema.columns
    fractions = any(np.dtype(column.dtype).kind == "f" for column in columns if column.is_feature)
    dtype = "float64" if fractions and np.dtype(schema.dtype).kind != "f" else schema.dtype
    return build_data(parts, earlier.transform, recipe, replace(schema, columns=columns, dtype=dtype))


def _check_type(what: str, rows: Rows, schema: Schema) -> None:
    """Grey levels and shares of one are not told from each other by shape or name."""
    whole = np.dtype(schema.dtype).kind in "biu"
    if not schema.features and whole == rows.raw.is_floating_point():
        kind = "whole numbers" if whole else "fractions"
        got = str(rows.raw.dtype).removeprefix("torch.")
        raise DataError(
            f"{what}: expected pictures in {kind} ({schema.dtype}), as in the run, got {got}; convert them."
        )


def _holding(old: Column, new: Column, whole: bool) -> Column:
    """A column that holds what the earlier run saw and what is there now; constant only where it still is."""
    kind: Kind = old.kind
    if old.is_feature and old.kind != new.kind:
        kind = "count" if {old.kind, new.kind} == {"binary", "count"} else "real"
    fits = np.dtype(old.dtype).kind == "f" or (whole and (old.dtype != "bool" or kind == "binary"))
    return replace(old, kind=kind, dtype=old.dtype if fits else "float64", constant=new.constant)


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
    if KEY in recipe:
        before = {name: value for name, value in recipe.items() if name != KEY}
        return _same(on_all_rows(reopen(before, transform, recipe[KEY], schema, folder, data_dir)), checksum)
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
