"""Data sets, their splits and their transforms with log-determinants.

Begin at ``data``: three tables (``array_table``), and what is known of them (``schema``). ``tables`` makes it of the
user's own rows, ``text`` reads tables in text files of any dialect, ``formats`` files of other programs, ``datasets``
known sets, with the checks of ``validation`` and the file ``readers``; ``transforms`` lead to the model and back.
``earlier`` and ``own_units`` read and write by what an earlier run knows, ``all_rows`` holds none of them out;
``missing`` makes holes, for studies of them.
"""

from curvae.data.all_rows import on_all_rows
from curvae.data.array_table import ArrayTable
from curvae.data.data import Data
from curvae.data.datasets.known_sets import load, names
from curvae.data.dialect import Decision, Dialect
from curvae.data.earlier import Earlier, like_array, like_file, like_set, reopen
from curvae.data.errors import DataAdvice, DataError, DataWarning
from curvae.data.missing import mar_mask, mcar_mask, mnar_mask
from curvae.data.schema import Column, Schema
from curvae.data.tables.arrays import from_array
from curvae.data.tables.assembling import Options
from curvae.data.tables.files import from_file
from curvae.data.tables.matching import match
from curvae.data.transforms import Transform
from curvae.io.reading import Reading

__all__ = [
    "ArrayTable",
    "Column",
    "Data",
    "DataAdvice",
    "DataError",
    "DataWarning",
    "Decision",
    "Dialect",
    "Earlier",
    "Options",
    "Reading",
    "Schema",
    "Transform",
    "from_array",
    "from_file",
    "like_array",
    "like_file",
    "like_set",
    "load",
    "mar_mask",
    "match",
    "mcar_mask",
    "mnar_mask",
    "names",
    "on_all_rows",
    "reopen",
]
