"""What a run knows of its data: columns and their kinds, units, missing values, where the file was."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from math import isfinite, prod
from pathlib import Path
from typing import Annotated, Any, Literal, NotRequired, TypedDict, get_args

from curvae.data.dialect import Decision, Dialect
from curvae.data.errors import DataError
from curvae.io.typed import OneOf, Range, conform
from curvae.typing import DataSpec, Noise, Support

NO_FEATURES = ("label", "ignored", "error", "exposure", "weight", "covariate")
"""Kinds of columns that are not modelled: labels, what is not looked at, and what is known of each row."""
BESIDE = -1
"""Place of labels that are no column of the table, but came beside it."""

Kind = Literal[
    "real",
    "positive",
    "count",
    "binary",
    "category",
    "ordinal",
    "label",
    "ignored",
    "error",
    "exposure",
    "weight",
    "covariate",
]
Holder = Literal["array", "frame", "file", "set"]
FrameKind = Literal["pandas", "polars", "pyarrow"]
FLOATS, WHOLE = (
    ("float16", "float32", "float64"),
    ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)
DTYPES = ("bool", *WHOLE, *FLOATS)
DECLARED = tuple(kind for kind in get_args(Kind) if kind not in ("error", "exposure", "weight", "covariate"))
"""Kinds that a user says a column is of; the others have words of their own."""


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Args:
        name: as the user has it; its number in text where nothing has a name.
        kind: what its values are. "label" is for evaluation only, "ignored" is not looked at; the rest are features.
        dtype: NumPy's name of the type that its values come back in.
        place: its number in the file, frame or array it came from; -1 for labels that came beside it.
        constant: its one value, where it does not vary over the training rows.
        vocabulary: words of a label, or codes of a category, in the order of their codes; None for numbers.
        of: the feature that it is the known error of.
        center: what is taken off a covariate, its training mean.
        scale: what an exposure or a covariate is divided by, so that training rows are of size 1.
    """

    name: str
    kind: Kind = "real"
    dtype: Annotated[str, OneOf(DTYPES)] = "float64"
    place: Annotated[int, Range(BESIDE, 2**31)] = 0
    constant: float | None = None
    vocabulary: tuple[str, ...] | None = None
    of: str | None = None
    center: float | None = None
    scale: float | None = None

    @property
    def is_feature(self) -> bool:
        """Whether the model sees it."""
        return self.kind not in NO_FEATURES


@dataclass(frozen=True)
class LongTable:
    """What the columns of a table are that has a row for each step of a sequence."""

    column: str
    """Which sequence a row belongs to."""
    features: tuple[str, ...]
    """What the model sees of a step, in its order."""


@dataclass(frozen=True)
class Origin:
    """Where a file of data was: as it was named, and so that it is found again from elsewhere."""

    given: str
    absolute: str
    near: str | None = None
    """Its path from the folder of the run: a run that is moved together with its data finds them."""

    @classmethod
    def of(cls, path: str | Path) -> "Origin":
        """That of a file named from here."""
        return cls(str(path), str(Path(path).expanduser().absolute()))

    def seen_from(self, folder: Path) -> "Origin":
        """With its path from the folder of a run; without one where there is none (another drive)."""
        try:
            return replace(self, near=Path(os.path.relpath(self.absolute, folder.absolute())).as_posix())
        except ValueError:
            return self

    def candidates(self, folder: Path, data_dir: Path | None = None) -> list[Path]:
        """Files that may be it, the most probable first; with ``data_dir`` that of this name there alone."""
        if data_dir is not None:
            return [data_dir / Path(self.absolute).name]
        near = [] if self.near is None else [Path(os.path.normpath(folder.absolute() / self.near))]
        every = [*near, Path(self.absolute), Path(self.given).expanduser().absolute()]
        return list(dict.fromkeys(path for path in every if path.exists())) or [Path(self.absolute)]


@dataclass(frozen=True)
class Schema:
    """What is known of the data of a run, saved with it, and what every later row is read by.

    Args:
        spec: shape and support of an example, number of categories, name of the data.
        columns: of a table: features in the order in which the model sees them, then label and ignored columns. Images
            have at most a label.
        named: whether columns have names of the user's; without them, columns go by their place.
        dtype: NumPy's name of the type of arrays in the data's own units.
        unit: what a density of the data in their own units is a density over.
        missing: what a missing value is: "mask" leaves it out, "error" refuses it.
        markers: what stands for a missing value: cells of a text file in lower case, and what was declared.
        holder: what the data came in.
        origins: where the files were: that of the data, and that of a test part of its own.
        checksum: of the data, see :class:`curvae.data.Data`.
        dialect: of a text file, how it was read.
        decisions: what was decided of a file, in words.
        frame: library of the frame that the data came in; what is drawn comes in one of the same.
        sequence: columns of a long table, whose sequences are the examples.

    >>> label = Column("class", "label", vocabulary=("QSO", "STAR"))
    >>> schema = Schema(DataSpec((2,)), (Column("u"), Column("g"), label))
    >>> schema.names, schema.vocabulary, Schema.from_dict(schema.to_dict()) == schema
    (('u', 'g'), ('QSO', 'STAR'), True)
    """

    spec: DataSpec
    columns: tuple[Column, ...] = ()
    named: bool = True
    dtype: str = "float64"
    unit: str = "data as given"
    missing: Literal["error", "mask"] = "error"
    markers: tuple[str, ...] = ()
    holder: Holder = "array"
    origins: tuple[Origin, ...] = field(default=())
    checksum: str = ""
    dialect: Dialect | None = None
    decisions: tuple[Decision, ...] = ()
    frame: FrameKind = "pandas"
    sequence: LongTable | None = None

    @property
    def features(self) -> tuple[Column, ...]:
        """The columns that the model sees, in its order; none for images."""
        return tuple(column for column in self.columns if column.is_feature)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features."""
        return tuple(column.name for column in self.features)

    @property
    def label(self) -> Column | None:
        """The column of labels, if there is one."""
        return next((column for column in self.columns if column.kind == "label"), None)

    @property
    def vocabulary(self) -> tuple[str, ...] | None:
        """Words of the labels in the order of their codes; None where labels are numbers, or there are none."""
        return None if self.label is None else self.label.vocabulary

    @property
    def is_table(self) -> bool:
        """Whether examples are rows of a table: of columns with names, of a frame or of a text file; no pictures."""
        return bool(self.features) and (self.named or self.holder == "frame" or self.is_text)

    @property
    def characters(self) -> tuple[str, ...] | None:
        """Of rows of characters, which are no columns of a table, what their codes stand for; else None."""
        words = {column.vocabulary for column in self.features}
        return None if self.is_table or len(words) != 1 else words.pop()

    @property
    def is_text(self) -> bool:
        """Whether the data came in a text file."""
        return self.dialect is not None or any(".csv" in Path(origin.given).suffixes for origin in self.origins)

    @property
    def constants(self) -> tuple[str, ...]:
        """Names of the features that do not vary over the training rows."""
        return tuple(column.name for column in self.features if column.constant is not None)

    def beside(self, folder: Path) -> "Schema":
        """As it is saved in the folder of a run: files are known by their path from there, too."""
        return replace(self, origins=tuple(origin.seen_from(folder) for origin in self.origins))

    def to_dict(self) -> dict[str, Any]:
        """Only what JSON has; the inverse of :meth:`from_dict`."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        values |= {"spec": self.spec.to_dict(), "columns": [_brief(column) for column in self.columns]}
        values |= {name: [asdict(each) for each in values[name]] for name in ("origins", "decisions")}
        values |= {
            name: each and asdict(each) for name, each in (("dialect", self.dialect), ("sequence", self.sequence))
        }
        return _listed(values)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Schema":
        """The schema of a run's file.

        Raises:
            DataError: it says anything that a schema cannot say.
        """
        try:
            found = conform({name: values[name] for name in Written.__annotations__ if name in values}, Written)
            schema = cls(DataSpec.from_dict(found.pop("spec")), **found)
        except ValueError as error:
            raise DataError(f"schema: {error}; the file is damaged.") from None
        unique("schema", [column.name for column in schema.columns if column.kind != "ignored"])
        if odd := [
            column for column in schema.columns if column.constant is not None and not isfinite(column.constant)
        ]:
            got = f"got {odd[0].constant} as the constant of {odd[0].name!r}"
            raise DataError(f"schema: columns: expected finite numbers, {got}; the file is damaged.")
        if schema.features and len(schema.features) != prod(schema.spec.event):
            got = f"got {len(schema.features)} for examples of shape {schema.spec.event}"
            raise DataError(f"schema: expected {prod(schema.spec.event)} features, {got}; the file is damaged.")
        return schema

    @classmethod
    def bare(cls, spec: DataSpec, label: str | int | None = None, columns: Sequence[Any] | None = None) -> "Schema":
        """That of a run of which nothing else was written down (by curvae 0.1.0): columns go by their place."""
        count = spec.event[0] if len(spec.event) == 1 else 0
        named = columns is not None and len(columns) == count and all(isinstance(name, str) for name in columns)
        names = columns if columns is not None and named else list(map(str, range(count)))
        features = [Column(name, place=place) for place, name in enumerate(names)]
        place = count if isinstance(label, str) else BESIDE if label is None else label % (count + 1)
        labeled = [] if label is None else [Column(f"{label}", "label", place=place)]
        return cls(spec, (*features, *labeled), named=named, holder="file")


class WrittenGiven(TypedDict):
    """A :class:`curvae.typing.Conditions` in a file."""

    errors: bool
    exposure: bool
    covariates: Annotated[int, Range(0, 2**31)]


class WrittenSpec(TypedDict):
    """A :class:`curvae.DataSpec` in a file."""

    event: tuple[Annotated[int, Range(1, 2**31)], ...]
    support: Support
    categories: Annotated[int, Range(1, 2**31)]
    name: str
    noise: NotRequired[Noise]
    kinds: NotRequired[tuple[str, ...]]
    given: NotRequired[WrittenGiven]


class Written(TypedDict):
    """A schema in a file."""

    spec: WrittenSpec
    columns: tuple[Column, ...]
    named: bool
    dtype: Annotated[str, OneOf(DTYPES)]
    unit: str
    missing: Literal["error", "mask"]
    markers: tuple[str, ...]
    holder: Holder
    origins: tuple[Origin, ...]
    checksum: str
    dialect: NotRequired[Dialect | None]
    decisions: NotRequired[tuple[Decision, ...]]
    frame: NotRequired[FrameKind]
    sequence: NotRequired[LongTable | None]


def _brief(column: Column) -> dict[str, Any]:
    """A column without what is as usual."""
    usual = Column(column.name)
    return {name: value for name, value in asdict(column).items() if name == "name" or value != getattr(usual, name)}


def _listed(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _listed(part) for name, part in value.items()}
    return [_listed(part) for part in value] if isinstance(value, list | tuple) else value


def unique(what: str, names: Sequence[str]) -> None:
    """Complain of a name that two columns have.

    Raises:
        DataError: naming it.
    """
    twice = next((name for name in names if names.count(name) > 1), None) if len(set(names)) < len(names) else None
    if twice is not None:
        raise DataError(f"{what}: expected each column to have a name of its own, got {twice!r} twice; rename one.")
