"""From what was taken apart to data: looked at, labeled, split, transformed, described."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import chain
from typing import Any, Literal, cast, get_args

import torch
from numpy.typing import NDArray

from curvae.argument_checks import check_seed
from curvae.data.context import given_by, with_units
from curvae.data.data import Data, Rows, build_data
from curvae.data.errors import DataError
from curvae.data.schema import Column, Origin, Schema
from curvae.data.stored import StoredRows, rows_in_memory
from curvae.data.tables.advice import advise
from curvae.data.tables.content import Content, checked_rows, relabeled
from curvae.data.tables.context import with_context
from curvae.data.tables.kinds import as_declared, mixed_kinds, with_kinds
from curvae.data.tables.labels import coded
from curvae.data.tables.splits import Keys, Split, parted
from curvae.data.text.numbers import MISSING
from curvae.data.transforms import Identity, MeanSubtraction, Standardization, Transform
from curvae.data.transforms.base import ROWS
from curvae.data.transforms.images import image_transform
from curvae.data.validation import check_range, check_transformed, to_event
from curvae.io.reading import Reading
from curvae.memory import blocks
from curvae.typing import Conditions, DataSpec, Support

SPLIT_BY = ("split_column", "group", "stratify")


@dataclass(frozen=True)
class Options:
    """How rows become data, whatever they came in.

    Args:
        support: ``"real"``, ``"binary"``, ``"count"``, ``"positive"`` or ``"category"`` (integers from 0); by default
            what all columns are said to be, else guessed between the first two.
        categories: number of categories; by default the largest code + 1.
        split: shares of training, validation and test rows; in Python also the rows of each part by number, as
            ``{"train": [...], "validation": [...], "test": [...]}``.
        split_column: the column that says train, validation or test of each row; in Python also one word a row.
        group: the column of groups; rows of one stay in one part. In Python also one word a row.
        stratify: the column of classes; each has its share of every part. In Python also one word a row.
        standardize: to mean 0 and variance 1 by the training rows; by default for real tables only. Real images
            otherwise lose their mean.
        transform: used instead; its place in a recipe stays empty.
        event: shape of one example, where the rules do not give it (sequences, say).
        seed: of the split.
        name: of the data, for reports; by default the file's.
    """

    support: str | None = None
    categories: int | None = None
    split: Split = (0.7, 0.15, 0.15)
    split_column: str | NDArray[Any] | None = None
    group: str | NDArray[Any] | None = None
    stratify: str | NDArray[Any] | None = None
    standardize: bool | None = None
    transform: Transform | None = None
    event: Sequence[int] | None = None
    seed: int = 0
    name: str | None = None

    def recipe(self) -> dict[str, Any]:
        """What was said, as JSON has it."""
        said = {each.name: getattr(self, each.name) for each in fields(self)}
        said = {name: value for name, value in said.items() if name not in SPLIT_BY or value is not None}
        lists = {"split": _listed(self.split), "event": self.event and list(self.event)}
        return said | lists | {"transform": self.transform and "own"}

    @property
    def split_by(self) -> dict[str, Any]:
        """What the split goes by beside shares: names of columns, or values."""
        return {name: value for name in SPLIT_BY if (value := getattr(self, name)) is not None}


def _listed(split: Split) -> Any:
    if isinstance(split, Mapping):
        return {name: [int(row) for row in rows] for name, rows in split.items()}
    return list(split)


def resolve_options(
    what: str, reading: Reading | None, options: Options | None, single: Mapping[str, Any]
) -> tuple[Reading, Options]:
    """How a table is read and becomes data; single options by name.

    Raises:
        TypeError: there is no such option.
    """
    parts: tuple[Any, Any] = reading or Reading(), options or Options()
    known = [{each.name for each in fields(part)} for part in parts]
    if unknown := sorted(single.keys() - set().union(*known)):
        raise TypeError(
            f"{what}: there is no option {unknown[0]!r}; expected one of {', '.join(sorted(set().union(*known)))}."
        )
    made = [
        replace(part, **{name: value for name, value in single.items() if name in names})
        for part, names in zip(parts, known, strict=True)
    ]
    return made[0], made[1]


def assemble(
    contents: Sequence[Content],
    reading: Reading,
    options: Options,
    recipe: Mapping[str, Any],
    origins: Sequence[Origin] = (),
) -> Data:
    """Data of one content, or of one and a test part of its own; ``origins`` are their files."""
    check_seed(options.seed, DataError)
    content = relabeled(contents[0])
    missing = reading.missing or ("mask" if reading.missing_value is not None else "error")
    event = options.event
    if content.sequence is not None:
        missing, event = "mask", content.x.shape[1:]
    shape = partial(to_event, event=event)
    noisy = options.transform is not None and options.transform.random
    contents = [_in_memory(each) if noisy or each.context is not None else each for each in contents]
    parts = [checked_rows(each, missing, shape, markers=reading.markers) for each in contents]
    parts = [
        with_context(each.what, rows, each.context, content.columns, reading.markers)
        for each, rows in zip(contents, parts, strict=True)
    ]
    _check_shapes(parts)
    for each, rows in zip(contents, parts, strict=True):
        check_range(each.what, rows.raw, rows.mask, each.names)
    parts, vocabulary = _labeled(contents, parts)
    spec = _spec(content, parts, reading, options)
    keys = Keys.of({**options.split_by, **content.beside}, len(parts[0].raw))
    split = parted(parts[0], parts[1] if len(parts) > 1 else None, options.split, options.seed, keys)
    columns = with_kinds(with_units(content.columns, split[0].context), parts, split[0], spec)
    columns = _known(as_declared(content.what, columns, parts, reading.kinds), vocabulary)
    schema = Schema(
        spec,
        columns,
        content.named,
        content.dtype,
        missing="mask" if missing == "mask" else "error",
        markers=(*(sorted(MISSING) if content.holder == "file" else ()), *reading.markers),
        holder=content.holder,
        frame=content.frame,
        origins=tuple(origins),
        dialect=content.dialect,
        decisions=content.decisions,
        sequence=content.sequence,
    )
    fitted = options.transform or _transform(split[0], spec, options.standardize)
    for each, rows in zip(contents, parts, strict=True):
        check_transformed(each.what, rows.raw, fitted, rows.mask, each.names)
    advise(content.what, schema, parts[0])
    return build_data(split, fitted, recipe, schema)


def _spec(content: Content, parts: Sequence[Rows], reading: Reading, options: Options) -> DataSpec:
    """What a system has to know of the data."""
    kinds = mixed_kinds(content.columns, parts, reading.kinds, options.support)
    support = "mixed" if kinds else _support(parts, options.support or _of_kinds(content.columns, reading.kinds))
    event = tuple(parts[0].raw.shape[1:])
    noise = "element" if support in ("real", "positive") and len(event) < 3 else "shared"
    given = _checked_given(given_by(content.columns), support)
    categories = _categories(parts, support, options.categories)
    return DataSpec(event, support, categories, options.name or "array", noise, kinds, given)


def _in_memory(content: Content) -> Content:
    """With all rows read: noise, and what is known of rows, is that of rows in memory."""
    return content._replace(x=content.x[:]) if isinstance(content.x, StoredRows) else content


def _labeled(contents: Sequence[Content], parts: Sequence[Rows]) -> tuple[list[Rows], tuple[str, ...] | None]:
    """Rows with codes for their labels, and the words of these."""
    called = ("labels", "test_labels")
    given = [(what, each.labels, len(rows.raw)) for what, each, rows in zip(called, contents, parts, strict=False)]
    found = coded(given)
    return [rows._replace(label=codes) for rows, codes in zip(parts, found.codes, strict=True)], found.vocabulary


def _known(columns: Sequence[Any], vocabulary: tuple[str, ...] | None) -> tuple[Any, ...]:
    """The columns, the label with its words."""
    return tuple(replace(each, vocabulary=vocabulary) if each.kind == "label" else each for each in columns)


def _checked_given(given: Conditions, support: str) -> Conditions:
    """What a model is given, where it can be of data of this support."""
    if given.exposure and support != "count":
        raise DataError(f"exposure: expected with counts, got {support} data; say support='count' if they are.")
    if given.errors and support != "real":
        raise DataError(f"errors: expected with real data, got {support} data; leave them out.")
    return given


def _check_shapes(parts: Sequence[Rows]) -> None:
    expected = tuple(parts[0].raw.shape[1:])
    for rows in parts[1:]:
        if (got := tuple(rows.raw.shape[1:])) != expected:
            raise DataError(f"test: expected data of shape {expected} as x, got {got}.")


def _support(parts: Sequence[Rows], support: str | None) -> Support:
    """The support asked for, if the observed values allow it; guessed as binary or real."""
    if support not in (None, *get_args(Support)):
        raise DataError(f"support: expected one of {', '.join(get_args(Support))}; got {support!r}.")
    if support == "real":
        return "real"
    if support in ("count", "positive"):
        _check_values(parts, support)
        return support
    binary = all(bool(((x == 0) | (x == 1)).all()) for part in parts for x in part.raw.split(ROWS))
    if support == "binary" and not binary:
        odd = next(float(v) for part in parts for x in part.raw.split(ROWS) for v in x.unique() if v not in (0, 1))
        raise DataError(f"support: expected only 0 and 1 as support is 'binary', got {odd:g}; say support='real'.")
    return cast(Support, support) if support else ("binary" if binary else "real")


def _of_kinds(columns: Sequence[Column], kinds: Mapping[str, str]) -> str | None:
    """The support of data whose features are all said to be of one kind; None = it is seen from the values."""
    said = {kinds.get(column.name) for column in columns if column.is_feature}
    return next(iter(said)) if len(said) == 1 and said <= {"real", "count", "positive", "binary"} else None


def _check_values(parts: Sequence[Rows], support: Literal["count", "positive"]) -> None:
    """Counts are integers from 0, positive numbers above 0, where they are observed."""
    known = "integers from 0" if support == "count" else "numbers above 0"
    for x, seen in chain.from_iterable(blocks(part.raw, part.mask, ROWS) for part in parts):
        bad = (x < 0) | (x != x.floor()) if support == "count" else x <= 0
        bad = bad if seen is None else bad & seen
        if bool(bad.any()):
            odd = float(x[bad][0])
            raise DataError(f"x: expected {known} as support is {support!r}, got {odd:g}; say support='real'.")


def _categories(parts: Sequence[Rows], support: Support, categories: int | None) -> int:
    if support != "category":
        return 2
    values = torch.cat([some.double().unique() for part in parts for some in part.raw.split(ROWS)]).unique()
    odd = values[(values < 0) | (values != values.floor())]
    if len(odd):
        raise DataError(f"x: expected integers 0, 1, ... as support is 'category', got {odd[0]:g}; code them from 0.")
    count = int(values.max()) + 1
    if categories is not None and count > categories:
        raise DataError(f"categories: expected more than the largest code, {count - 1}, got {categories}.")
    return categories or count


def _transform(train: Rows, spec: DataSpec, standardize: bool | None) -> Transform:
    """The default of the data's kind, fitted on the training rows."""
    support = spec.support
    if support == "mixed":
        return _of_columns(train, spec, standardize is not False)
    if support != "real":
        if standardize:
            raise DataError(
                f"standardize: expected False for {support} data, got True; say support='real' or leave it out."
            )
        return Identity()
    if train.raw.ndim == 3:
        return Identity() if standardize is False else _over_steps(train)
    if train.raw.ndim != 4:
        return Identity() if standardize is False else Standardization.fit(train.raw, train.mask)
    if train.raw.dtype == torch.uint8:
        return image_transform(train.raw, 256, train.mask, standardize=bool(standardize))
    if all(bool(x.min() >= 0) and bool(x.max() <= 1) for x in train.raw.split(ROWS)):
        return image_transform(train.raw, None, train.mask, standardize=bool(standardize))
    fit = Standardization.fit if standardize else MeanSubtraction.fit
    return fit(train.raw, train.mask)


def _over_steps(train: Rows) -> Standardization:
    """Of sequences (N, T, F): each column by its moments over all steps."""
    raw, steps = rows_in_memory(train.raw), train.raw.shape[1]
    mask = None if train.mask is None else rows_in_memory(train.mask).flatten(0, 1)
    found = Standardization.fit(raw.flatten(0, 1), mask)
    return Standardization(*(each.expand(steps, -1).clone() for each in (found.mean, found.scale)))


def _of_columns(train: Rows, spec: DataSpec, standardize: bool) -> Standardization:
    """Of mixed data: real columns are standardized, all others stay."""
    found = Standardization.fit(train.raw, train.mask)
    mean, scale = torch.zeros_like(found.mean), torch.ones_like(found.scale)
    if standardize and (columns := spec.groups().get(("real", 2))):
        mean[columns], scale[columns] = found.mean[columns], found.scale[columns]
    return Standardization(mean, scale)
