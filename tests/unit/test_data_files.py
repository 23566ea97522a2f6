"""Own data from files: text tables, arrays, archives."""

import gzip
import json

import numpy as np
import pytest
import torch

from curvae.data import DataError, from_array, from_file, reopen
from curvae.data.transforms import restore

TABLE = np.random.default_rng(0).normal(size=(40, 3))
ROWS = "\n".join(",".join(map(str, row)) for row in TABLE) + "\n"
STARS = "u,g,class\n" + "1.5,2.5,STAR\n3.5,2.0,QSO\n" * 20
NAMED = "name,g\n" + "".join(f"ara{i},{i}.5\n" for i in range(40))


def written(folder, name, content):
    path = folder / name
    path.write_bytes(gzip.compress(content.encode()) if name.endswith(".gz") else content.encode())
    return path


def count(data):
    return len(data.train) + len(data.validation) + len(data.test)


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.txt"])
@pytest.mark.parametrize("prefix", ["", "u,g,r\n", "\ufeffu,g,r\n", "\n"])
def test_text_tables_hold_the_same_numbers(tmp_path, name, prefix):
    assert from_file(written(tmp_path, name, prefix + ROWS)).checksum == from_array(TABLE).checksum


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_other_delimiters(tmp_path, delimiter):
    path = written(tmp_path, "a.csv", ROWS.replace(",", delimiter))
    assert from_file(path).checksum == from_array(TABLE).checksum


def test_columns_and_label_by_name_or_number(tmp_path):
    path = written(tmp_path, "stars.csv", STARS)
    by_name = from_file(path, columns=["g", "u"], label="class")
    assert by_name.checksum == from_file(path, positions=[1, 0], label=-1).checksum
    assert by_name.train.label is not None
    np.testing.assert_array_equal(by_name.train.label == 1, by_name.train.raw[:, 0] == 2.5)  # QSO 0, STAR 1
    assert from_file(path, columns=["u", "class"], label="class").spec.event == (1,)
    assert by_name.spec.name == "stars"


def test_headers_can_be_forced(tmp_path):
    path = written(tmp_path, "years.csv", "2019,2020\n" + "1.5,2.5\n" * 20)
    assert len(from_file(path, header=True, columns=["2020"]).train) == 14
    assert count(from_file(path)) == 20  # whole numbers above decimals, far from all of them
    assert count(from_file(path, header=False)) == 21


def test_missing_cells(tmp_path):
    path = written(tmp_path, "a.csv", ROWS + "1.0,,NA\n?,nan,2.0\n")
    assert from_file(path, missing="mask").spec.event == (3,)
    with pytest.raises(DataError, match=r"got 4 NaN, the first in row 40, column 1; .* missing='mask'"):
        from_file(path)


def test_arrays(tmp_path):
    np.save(tmp_path / "a.npy", TABLE)
    assert from_file(tmp_path / "a.npy").checksum == from_array(TABLE).checksum
    labeled = from_file(tmp_path / "a.npy", label=2)
    assert labeled.spec.event == (2,)
    assert labeled.train.label is not None
    assert from_file(tmp_path / "a.npy", columns=[0]).spec.event == (1,)


def test_archives(tmp_path):
    np.savez(tmp_path / "a.npz", x=TABLE, y=np.arange(40), z=TABLE[:, :1])
    data = from_file(tmp_path / "a.npz", label="y")
    assert data.spec.event == (3,)
    assert data.train.label is not None
    assert from_file(tmp_path / "a.npz", key="z").spec.event == (1,)
    np.savez(tmp_path / "b.npz", only=TABLE)
    assert from_file(tmp_path / "b.npz").checksum == from_array(TABLE).checksum


def test_a_test_file(tmp_path):
    path, test = written(tmp_path, "a.csv", STARS), written(tmp_path, "b.csv", "u,g,class\n1,2,STAR\n3,4,QSO\n")
    data = from_file(path, label="class", test=test)
    assert data.test.raw.tolist() == [[1, 2], [3, 4]]
    assert data.test.label is not None
    assert data.test.label.tolist() == [1, 0]


def test_files_can_be_reopened(tmp_path):
    path = written(tmp_path, "a.csv", STARS)
    data = from_file(path, label="class", split=(0.5, 0.25, 0.25), columns=["u"], seed=3)
    recipe = json.loads(json.dumps(data.recipe))
    again = reopen(recipe, checksum=data.checksum)
    torch.testing.assert_close(again.test.x, data.test.x)
    stored = reopen(recipe, restore(*data.transform.state()))
    assert stored.recipe["transform"] == "own"
    with pytest.raises(DataError, match=r"transform: expected an object, got 'own'"):
        reopen(stored.recipe)


@pytest.mark.parametrize(
    ("name", "content", "arguments", "message"),
    [
        ("a.csv", "", {}, r"a.csv: expected a table, got an empty file"),
        ("a.csv", "\n\n", {}, r"expected a table, got an empty file"),
        ("a.csv", "u,g\n", {}, r"expected rows below the header, got none; pass header=False"),
        ("a.csv", "u,g\n1,2\n1,2,3\n", {}, r"expected 2 cells a row as in the first, got 3 in line 3"),
        ("a.csv", NAMED, {}, r"expected numbers, got 'ara0' in line 2, column 'name'; leave the column out"),
        ("a.csv", STARS, {"label": "kind"}, r"expected a column out of u, g, class, got 'kind'; give its name"),
        (
            "a.csv",
            STARS,
            {"columns": [0]},
            r"out of u, g, class, got 0; a number counts columns in positions=",
        ),
        ("a.csv", "u,u\n1,2\n", {"columns": ["u"]}, r"expected one column named 'u', got 2; rename one or say"),
        ("a.csv", STARS, {"columns": ["class"], "label": "class"}, r"expected at least one feature column besides"),
        ("a.json", "{}", {}, r"expected .csv, .tsv, .txt, .npy.* or .zarr .*, got .json suffix"),
        ("a", "", {}, r"got no suffix"),
        ("a.npy", "no array", {}, r"expected a .npy array of numbers"),
        ("a.npz", "no archive", {}, r"expected a .npz archive of numbers"),
    ],
)
def test_misuse(tmp_path, name, content, arguments, message):
    with pytest.raises(DataError, match=message) as error:
        from_file(written(tmp_path, name, content), **arguments)
    assert "\n" not in str(error.value)


def test_other_bytes_are_no_text(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"1,2\n\x00\x01\xff\xfe\n")
    with pytest.raises(DataError, match=r"expected text, got other bytes; save it as UTF-8"):
        from_file(tmp_path / "a.csv")


def test_keys_and_columns_of_arrays(tmp_path):
    np.savez(tmp_path / "a.npz", a=TABLE, b=TABLE)
    with pytest.raises(DataError, match=r"expected a key out of a, b, got None; say key= or label="):
        from_file(tmp_path / "a.npz")
    with pytest.raises(DataError, match=r"expected a key out of a, b, got 'y'"):
        from_file(tmp_path / "a.npz", key="a", label="y")
    np.save(tmp_path / "a.npy", TABLE[:, None])
    with pytest.raises(DataError, match=r"expected a table \(N, F\) to choose columns .*, got shape \(40, 1, 3\)"):
        from_file(tmp_path / "a.npy", columns=[0])


def test_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"none.csv: expected a file, got nothing there; check the path"):
        from_file(tmp_path / "none.csv")


def test_real_sky_survey(shared_data):
    path = shared_data / "sdss" / "skyserver_dr14_10000.csv.gz"
    data = from_file(path, columns=["u", "g", "r", "i", "z"], label="class")
    assert (len(data.train), len(data.validation), len(data.test)) == (7000, 1500, 1500)
    labels = torch.cat([table.label for table in (data.train, data.validation, data.test)])  # pyright: ignore
    assert labels.bincount().tolist() == [4998, 850, 4152]
    assert data.train.raw.min() > 5
    assert data.train.raw.max() < 35
    assert data.spec.name == "skyserver_dr14_10000"


def test_real_tables_without_header(shared_data):
    wine = from_file(shared_data / "uci" / "wine.csv.gz", label=-1)
    assert wine.spec.event == (13,)
    assert wine.train.label is not None
    assert set(wine.train.label.tolist()) == {1, 2, 3}
    breast = from_file(shared_data / "uci" / "breast-cancer-wisconsin.csv.gz", label=9, missing="mask")
    masks = torch.cat([table.mask for table in (breast.train, breast.validation, breast.test)])  # pyright: ignore
    assert (~masks).sum(0).tolist() == [0, 0, 0, 0, 0, 16, 0, 0, 0]


def test_real_counts(shared_data):
    data = from_file(shared_data / "single_cell" / "zeisel_saver_200x3529.npy.xz", standardize=False)
    assert data.spec[:5] == ((3529,), "real", 2, "zeisel_saver_200x3529", "element")
    assert (data.train.x == data.train.x.floor()).all()
    assert data.train.x.min() == 0
