"""Data sets, their splits and their transforms with log-determinants."""

from curvae.data.arrays import from_array
from curvae.data.data import Data
from curvae.data.errors import DataError, DataWarning
from curvae.data.files import from_file
from curvae.data.like import Earlier, like_array, like_file, like_set
from curvae.data.matching import match
from curvae.data.reopening import reopen
from curvae.data.schema import Column, Schema
from curvae.data.sets import load, names
from curvae.data.table import ArrayTable
from curvae.data.transforms import Transform

__all__ = [
    "ArrayTable",
    "Column",
    "Data",
    "DataError",
    "DataWarning",
    "Earlier",
    "Schema",
    "Transform",
    "from_array",
    "from_file",
    "like_array",
    "like_file",
    "like_set",
    "load",
    "match",
    "names",
    "reopen",
]
