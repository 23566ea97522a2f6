"""Files of other programs: each holds the numbers that were written, and each hostile one is refused in one line."""

import datetime as dt
import gzip
import io
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import io as scipy_io
from scipy import sparse

import curvae
from curvae.data import DataAdvice, DataError, Reading, from_array, from_file, match, reopen
from curvae.data.readers import map_npy
from curvae.data.tables.files import match_file
from curvae.data.tables.summary import summarized

pandas = pytest.importorskip("pandas")

RANDOM = np.random.default_rng(0)
ROWS = 40
TABLE = pandas.DataFrame(
    {
        "u": RANDOM.integers(-4000, 4000, ROWS) / 64,  # exact in every decimal and binary form
        "g": RANDOM.integers(-4000, 4000, ROWS) / 64,
        "n": RANDOM.poisson(3, ROWS),
        "class": RANDOM.choice(["QSO", "STAR"], ROWS),
    }
)
CHECKSUM = from_array(TABLE, "class").checksum
COUNTS = RANDOM.poisson(0.5, (ROWS, 6))
COUNTED = from_array(COUNTS.astype(np.float32)).checksum
GENES = ["a", "b", "c", "d", "e", "a"]


def astropy_table() -> Any:
    return pytest.importorskip("astropy.table").Table.from_pandas(TABLE)


WRITERS: dict[str, Callable[[Path], Any]] = {
    "a.parquet": lambda path: TABLE.to_parquet(path),
    "numbered.pq": lambda path: TABLE.set_index(np.arange(ROWS)[::-1] + 0.5).to_parquet(path),
    "a.feather": lambda path: TABLE.to_feather(path),
    "a.arrow": lambda path: pytest.importorskip("polars").DataFrame(TABLE).write_ipc_stream(path),
    "a.xlsx": lambda path: TABLE.to_excel(path, index=False),
    "numbered.xlsx": lambda path: TABLE.to_excel(path),
    "a.fits": lambda path: astropy_table().write(path),
    "a.fits.gz": lambda path: astropy_table().write(path),
    "a.vot": lambda path: astropy_table().write(path, format="votable"),
    "a.ecsv": lambda path: astropy_table().write(path),
    "a.dat": lambda path: TABLE.to_csv(path, index=False, sep="|"),
}


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", WRITERS)
def test_tables_of_every_program_hold_the_same_data(here: Path, name: str):
    WRITERS[name](here / name)
    data = from_file(name, label="class")
    assert data.checksum == CHECKSUM
    assert data.schema.names == ("u", "g", "n")
    assert [column.dtype for column in data.schema.features] == ["float64", "float64", "int64"]
    assert data.schema.vocabulary == ("QSO", "STAR")
    assert reopen(data.recipe, data.transform, data.checksum, data.schema).checksum == data.checksum
    assert [each.kind for each in summarized(Path(name), Reading(label="class")).columns] == [
        "real", "real", "count", "label",
    ]  # fmt: skip
    chosen = from_file(name, columns=["g"], kind={"n": "ignored"})
    assert chosen.schema.names == ("g",)


@pytest.mark.parametrize("name", ["a.parquet", "a.xlsx", "a.fits"])
def test_later_rows_are_matched_by_name(here: Path, name: str):
    TABLE.to_csv("a.csv", index=False)
    data = from_file("a.csv", label="class", test=None)
    order = TABLE[["class", "n", "g", "u"]]
    {"a.parquet": order.to_parquet, "a.xlsx": lambda path: order.to_excel(path, index=False)}.get(
        name, lambda path: pytest.importorskip("astropy.table").Table.from_pandas(order).write(path)
    )(name)
    found = match_file(data.schema, Path(name))
    np.testing.assert_array_equal(found.rows.raw, TABLE[["u", "g", "n"]].to_numpy(float))
    assert found.labels is not None
    assert list(found.labels.astype(str)) == TABLE["class"].tolist()
    assert from_file("a.csv", label="class", test=name).test.raw.shape == (ROWS, 3)
    order.drop(columns="g").to_parquet("less.parquet")
    with pytest.raises(DataError, match="g is missing among class, n, u"):
        match_file(data.schema, Path("less.parquet"))


def write_10x(folder: Path) -> Path:
    scipy_io.mmwrite(folder / "s1_matrix.mtx", sparse.coo_matrix(COUNTS.T))
    packed = gzip.compress((folder / "s1_matrix.mtx").read_bytes())
    (folder / "s1_matrix.mtx.gz").write_bytes(packed)
    lines = "".join(f"E{j}\t{gene}\tGene Expression\n" for j, gene in enumerate(GENES))
    (folder / "s1_features.tsv.gz").write_bytes(gzip.compress(lines.encode()))
    (folder / "s1_barcodes.tsv").write_text("".join(f"cell{i}\n" for i in range(ROWS)))
    return folder / "s1_matrix.mtx.gz"


def cells() -> Any:
    anndata = pytest.importorskip("anndata")
    rows, columns = (pandas.Index(each, dtype=object) for each in ([f"c{i}" for i in range(ROWS)], [*GENES[:5], "f"]))
    obs = pandas.DataFrame({"type": pandas.Categorical(TABLE["class"].astype(object)), "batch": 1}, index=rows)
    found = anndata.AnnData(sparse.csr_matrix(np.log1p(COUNTS)), obs=obs, var=pandas.DataFrame(index=columns))
    found.layers["counts"] = sparse.csr_matrix(COUNTS.astype(np.float32))
    return found


def test_matrices_of_counts_hold_the_same_data(here: Path):
    sparse.save_npz("a.npz", sparse.csr_matrix(COUNTS.astype(float)))
    scipy_io.mmwrite("a.mtx", sparse.coo_matrix(COUNTS))
    scipy_io.mmwrite("turned.mtx", sparse.coo_matrix(COUNTS.T))
    scipy_io.savemat("a.mat", {"data": sparse.csc_matrix(COUNTS.astype(float))})
    cells().write_h5ad("a.h5ad")
    cells().write_zarr("a.zarr")
    for path, options in (
        ("a.npz", {}), ("a.mtx", {}), ("turned.mtx", {"transpose": True}), ("a.mat", {}), ("a.h5ad", {"key": "counts"}),
        ("a.zarr", {"key": "counts"}),
    ):  # fmt: skip
        data = from_file(path, **options)
        assert data.checksum == COUNTED, path
        assert [column.kind for column in data.schema.features] == ["count"] * 6
    for held in (sparse.csr_matrix(COUNTS), sparse.coo_array(COUNTS.astype(np.uint8))):
        assert from_array(held).checksum == COUNTED


def test_names_beside_a_matrix_are_found(here: Path):
    path = write_10x(here)
    with pytest.warns(DataAdvice, match=r"turned: rows of the file are columns.*1 of them come twice"):
        data = from_file(path)
    assert data.checksum == COUNTED
    assert data.schema.names == ("a", "b", "c", "d", "e", "a-1")
    assert match_file(data.schema, path).rows.raw.shape == (ROWS, 6)
    assert from_file(path, transpose=False).spec.event == (ROWS,)
    (here / "s1_features.tsv.gz").unlink()
    assert from_file(path).spec.event == (ROWS,)  # nothing says what is what


def test_cells_are_split_by_columns_of_obs(here: Path):
    found = cells()
    words = {"donor": [f"d{i % 7}" for i in range(ROWS)], "part": np.resize(["train", "validation", "test"], ROWS)}
    for name, values in words.items():
        found.obs[name] = pandas.Series(list(values), dtype=object, index=found.obs.index)
    found.write_h5ad("a.h5ad")
    types = TABLE["class"].to_numpy()
    for read in (from_file, from_array):
        x = "a.h5ad" if read is from_file else found
        by_donor = read(x, group="donor")
        assert by_donor.schema.names == ("a", "b", "c", "d", "e", "f")
        parts = [set((table.row % 7).tolist()) for table in (by_donor.train, by_donor.validation, by_donor.test)]
        assert sum(map(len, parts)) == len(set.union(*parts)) == 7
        told = read(x, split_column="part").test.row
        assert told.tolist() == np.flatnonzero(found.obs["part"] == "test").tolist()
        shares = read(x, label="type", stratify="type")
        for table in (shares.train, shares.test):
            assert (types[table.row] == "STAR").mean() == pytest.approx((types == "STAR").mean(), abs=1 / len(table))
        with pytest.raises(DataError, match="'donors'"):
            read(x, group="donors")


def test_layers_and_labels_of_anndata(here: Path):
    found = cells()
    found.write_h5ad("a.h5ad")
    with pytest.warns(DataAdvice, match=r"values: X of X, counts; beside the values: batch \(obs\)"):
        data = from_file("a.h5ad", label="type")
    assert data.schema.names == ("a", "b", "c", "d", "e", "f")
    assert data.schema.vocabulary == ("QSO", "STAR")
    assert data.checksum == from_array(found, "type").checksum
    assert from_file("a.h5ad", key="counts").checksum == from_array(found, key="counts").checksum == COUNTED
    new = match(data.schema, "x", found)
    assert new.labels is not None
    assert list(new.labels) == TABLE["class"].tolist()
    assert match(data.schema, "x", found, reading=Reading(key="counts")).rows.raw.max() == COUNTS.max()
    assert from_file("a.h5ad", label="b").schema.names == ("a", "c", "d", "e", "f")
    with pytest.raises(DataError, match="expected key= as one of X, counts, got 'raw'"):
        from_file("a.h5ad", key="raw")
    with pytest.raises(DataError, match="expected key= as one of X, counts, got 'raw'"):
        from_array(found, key="raw")


def test_values_of_a_sparse_matrix_are_kept_to_the_last_digit():
    for value in (0.1, 2.0**24 + 1, -(2.0**40) - 1):
        x = np.where(COUNTS > 0, COUNTS * value, 0)
        data = from_array(sparse.csr_matrix(x))
        assert data.train.raw.dtype == torch.float64
        assert data.checksum == from_array(x).checksum
    assert from_array(sparse.csr_matrix(COUNTS > 0)).spec.support == "binary"


def test_a_run_on_a_layer_takes_later_cells_from_it(here: Path):
    found = cells()
    options = {"latent": 1, "hidden": 4, "max_updates": 1, "progress": False}
    fitted = curvae.fit("vae", found, label="type", key="counts", out=here / "run", **options)
    found.write_h5ad("a.h5ad")
    again, dense = curvae.load(here / "run"), found.layers["counts"].toarray()
    for x in (found, "a.h5ad"):
        np.testing.assert_allclose(again.encode(x).mean, fitted.encode(dense).mean, atol=1e-6)
        assert list(again.encode(x).label) == TABLE["class"].tolist()


def test_a_matrix_that_does_not_fit_is_refused(monkeypatch: pytest.MonkeyPatch):
    wide = sparse.csr_matrix((10**9, 100), dtype=np.float32)
    monkeypatch.setattr("curvae.memory.available_bytes", lambda: 10**9)
    with pytest.raises(DataError, match=r"got 400 GB where 1.0 GB are free; choose columns with columns="):
        from_array(wide)


def test_sparse_matrices_of_other_numbers_are_refused(here: Path):
    scipy_io.savemat("a.mat", {"x": sparse.csc_matrix(COUNTS + 1j * COUNTS)})
    for x in ("a.mat", sparse.csr_matrix(COUNTS + 1j)):
        with pytest.raises(DataError, match="expected real numbers, got complex numbers; pass real and imaginary"):
            from_file(x) if isinstance(x, str) else from_array(x)
    sparse.save_npz("a.npz", sparse.csr_matrix(COUNTS))
    with pytest.warns(DataAdvice, match=r"sparse: .* % of 40 x 6 values are not 0; all are kept in memory"):
        from_file("a.npz")


def test_matlab_files(here: Path):
    x = TABLE[["u", "g", "n"]].to_numpy(float)
    words = np.array(TABLE["class"].tolist(), dtype=object)
    scipy_io.savemat("a.mat", {"X": x, "y": words, "note": {"by": "me"}})
    data = from_file("a.mat", label="y")
    assert data.checksum == CHECKSUM
    assert data.schema.vocabulary == ("QSO", "STAR")
    scipy_io.savemat("coded.mat", {"measured": x, "y": np.arange(ROWS)[:, None]})
    assert from_file("coded.mat", label="y").checksum == CHECKSUM
    scipy_io.savemat("old.mat", {"measured": x}, format="4")
    assert from_file("old.mat").checksum == CHECKSUM
    scipy_io.savemat("two.mat", {"a": x, "b": x})
    with pytest.raises(DataError, match="expected a key out of a, b, got None; say key="):
        from_file("two.mat")
    assert from_file("two.mat", key="b").checksum == CHECKSUM
    with pytest.raises(DataError, match="expected a matrix of numbers, got a struct in 'note'"):
        from_file("a.mat", key="note")
    Path("new.mat").write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\0\2IM" + bytes(500))
    with pytest.raises(DataError, match=r"up to version 7, got one of 7\.3; save it in MATLAB with save"):
        from_file("new.mat")


def test_one_array_is_mapped_not_read(here: Path):
    x = TABLE[["u", "g", "n"]].to_numpy(float)
    for name, array in {"a": x, "fortran": np.asfortranarray(x), "big": x.astype(">f8")}.items():
        np.save(name, array)
        assert isinstance(map_npy(Path(f"{name}.npy")), np.memmap)
        assert from_file(f"{name}.npy").checksum == CHECKSUM
    before = Path("a.npy").read_bytes()
    data = from_file("a.npy", missing_value=[x[0, 0]])
    assert data.train.mask is not None
    map_npy(Path("a.npy"))[:] = 0
    assert Path("a.npy").read_bytes() == before
    np.save("turned", x.T)
    assert from_file("turned.npy", transpose=True).checksum == CHECKSUM
    Path("cut.npy").write_bytes(before[:-8])
    Path("more.npy").write_bytes(before + b"0")
    Path("packed.npy.gz").write_bytes(gzip.compress(before))
    assert from_file("packed.npy.gz").checksum == CHECKSUM
    for name in ("cut.npy", "more.npy"):
        with pytest.raises(DataError, match=r"expected a .npy array of numbers"):
            from_file(name)


def workbook(here: Path, name: str, *sheets: tuple[str, list[list[Any]]]) -> str:
    book = pytest.importorskip("openpyxl").Workbook()
    book.remove(book.active)
    for title, rows in sheets:
        sheet = book.create_sheet(title)
        for row in rows:
            sheet.append(row)
    book.save(here / name)
    return name


NUMBERS = [[1.25 * i, 0.5 * i * i, i % 3 == 0] for i in range(20)]


def test_sheets_as_people_make_them(here: Path):
    rows = [["Station 5, measured by Ann"], [], ["u", "g", "wet"], ["mag", "mag", None]]
    rows += [*NUMBERS, ["total", 190.0, None]]
    name = workbook(here, "a.xlsx", ("notes", []), ("data", rows), ("more", [["x"], [1]]))
    with pytest.warns(DataAdvice, match=r"sheet: data; there are also more; above the names: 2 lines.*units: .*mag"):
        data = from_file(name)
    assert data.schema.names == ("u", "g", "wet")
    assert [column.kind for column in data.schema.features][2] == "binary"
    found = match_file(data.schema, Path(name)).rows.raw
    np.testing.assert_array_equal(found, np.array(NUMBERS, float))
    assert len(summarized(Path(name), Reading(key="more")).columns) == 1
    with pytest.raises(DataError, match="expected key= as one of notes, data, more, got 'x'"):
        from_file(name, key="x")
    with pytest.raises(DataError, match="expected a sheet with cells, got none in 'notes'"):
        from_file(name, key="notes")


def test_cells_that_are_no_numbers(here: Path):
    rows = [["u", "day", "gap"], *([i, dt.datetime(2020, 1, 1 + i), "#DIV/0!" if i == 3 else i / 4] for i in range(20))]
    name = workbook(here, "a.xlsx", ("data", rows))
    with pytest.raises(DataError, match=r"got '2020-01-01' in line 2, column 'day'; dates: leave the column out"):
        from_file(name)
    with pytest.warns(DataAdvice, match="taken for missing: #DIV/0!"):
        data = from_file(name, drop=["day"], missing="mask")
    assert sum(int((~table.mask).sum()) for table in (data.train, data.validation, data.test)) == 1  # pyright: ignore
    name = workbook(here, "german.xlsx", ("data", [["u", "g"], *([f"{i},5", f"{i},25"] for i in range(20))]))
    assert from_file(name).train.raw.max() < 20
    name = workbook(here, "formulas.xlsx", ("data", [["u", "g"], *([i, f"=A{i + 2}*2"] for i in range(20))]))
    with pytest.raises(DataError, match="got a formula in B2 of sheet 'data' that was never computed; open it"):
        from_file(name)


def test_archives_that_inflate_without_measure_are_refused(here: Path):
    with zipfile.ZipFile("a.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", bytes(10**8))
    with pytest.raises(DataError, match=r"expected at most .* bytes out of .* compressed ones"):
        from_file("a.xlsx")


def test_cells_of_several_numbers_and_missing_ones_in_fits(here: Path):
    table = astropy_table()
    table["mag"] = np.arange(2.0 * ROWS).reshape(ROWS, 2) ** 2
    table["image"] = np.ones((ROWS, 9, 9))
    table["u"].unit = "mag"
    table = pytest.importorskip("astropy.table").Table(table, masked=True)
    table["n"].mask[4] = True
    table.write("a.fits")
    with pytest.raises(DataError, match=r"got shape .*9, 9.* in field 'image'"):
        from_file("a.fits", label="class", missing="mask")
    with pytest.warns(DataAdvice, match=r"units: mag, .*cells of several numbers: mag"):
        data = from_file("a.fits", label="class", drop=["image"], missing="mask")
    assert data.schema.names == ("u", "g", "n", "mag.0", "mag.1")
    assert data.checksum == from_array(table, "class", drop=["image"], missing="mask").checksum
    rows = match_file(data.schema, Path("a.fits")).rows
    assert rows.mask is not None
    assert (~rows.mask).nonzero().tolist() == [[4, 2]]


def test_parts_of_a_fits_file(here: Path):
    fits = pytest.importorskip("astropy.io.fits")
    images = (np.arange(20.0)[:, None, None] * np.ones((4, 5))).astype(">f4")
    part = fits.table_to_hdu(astropy_table())
    part.name = "STARS"
    fits.HDUList([fits.PrimaryHDU(images), part]).writeto("a.fits")
    with pytest.warns(DataAdvice, match="part: STARS of PRIMARY, STARS"):
        assert from_file("a.fits", label="class").checksum == CHECKSUM
    assert from_file("a.fits", key="0").spec.event == (1, 4, 5)
    with pytest.raises(DataError, match="expected key= as one of PRIMARY, STARS, got 'X'"):
        from_file("a.fits", key="X")
    fits.HDUList([fits.PrimaryHDU()]).writeto("none.fits")
    with pytest.raises(DataError, match="expected a table or an image"):
        from_file("none.fits")


DAMAGE = [
    (kept, name)
    for kept in (0, 7, 0.3, 0.7, 0.97)
    for name in (*WRITERS, "a.mat", "a.mtx", "a.h5ad")
    if kept in (0, 7) or name != "a.dat"
]
"""How much is left of which file; text that is cut off in a row is in tests/tables."""


@pytest.mark.parametrize(("kept", "name"), DAMAGE)
def test_damaged_files_are_refused_in_one_line(here: Path, name: str, kept: float):
    if name in WRITERS:
        WRITERS[name](here / name)
    else:
        scipy_io.savemat("a.mat", {"x": COUNTS})
        scipy_io.mmwrite("a.mtx", sparse.coo_matrix(COUNTS))
        cells().write_h5ad("a.h5ad")
    content = Path(name).read_bytes()
    Path(name).write_bytes(content[: int(kept if kept > 1 else kept * len(content))])
    with pytest.raises(DataError, match=name) as error:
        from_file(name)
    assert "\n" not in str(error.value)


def test_what_is_missing_says_how_to_get_it(here: Path, monkeypatch: pytest.MonkeyPatch):
    for name, module, extra in (
        ("a.parquet", "pyarrow.parquet", "parquet"), ("a.feather", "pyarrow.feather", "parquet"),
        ("a.xlsx", "openpyxl", "excel"), ("a.h5ad", "anndata.io", "anndata"), ("a.fits", "astropy.io.fits", "fits"),
    ):  # fmt: skip
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(DataError, match=rf"expected .* to read it, got none .*pip install 'curvae\[{extra}\]'"):
            from_file(name)


def test_other_files_are_told_what_is_read(here: Path):
    odd = {"a.xls": "got Excel 97; save it as .xlsx or .csv", "a.sav": "expected .csv, .tsv, .*got .sav"}
    for name, message in odd.items():
        Path(name).write_bytes(b"anything")
        with pytest.raises(DataError, match=message):
            from_file(name)
    with pytest.raises(DataError, match="expected a file, got nothing there"):
        from_file("none.parquet")


def test_nested_columns_of_parquet(here: Path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    table = pyarrow.table({"u": np.arange(20.0), "v": [[1, 2]] * 20, "day": [dt.date(2020, 1, 1)] * 20})
    parquet.write_table(table, "a.parquet")
    with pytest.raises(DataError, match=r"column 'v': .*got lists.*column 'day': .*got dates.*drop=\['day'\]"):
        from_file("a.parquet")
    told = summarized(Path("a.parquet"), Reading())
    assert [each.kind for each in told.columns] == ["count", "words", "words"]
    assert len(told.troubles) == 2
    empty = io.BytesIO()
    parquet.write_table(table.slice(0, 0).select(["u"]), empty)
    Path("empty.parquet").write_bytes(empty.getvalue())
    with pytest.raises(DataError, match="at least one row"):
        from_file("empty.parquet")
