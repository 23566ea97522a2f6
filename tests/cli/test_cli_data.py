"""``curvae data``, and the flags of reading: what is decided is said, and new files are read the same way."""

from pathlib import Path

import numpy as np
import pytest

from command_line import TINY, says
from curvae.cli import main

RANDOM = np.random.default_rng(0)
HEAD = "id;u;g;n;same;sex;when;u2"


def line(i: int) -> str:
    u, g = RANDOM.normal(), -999 if i % 9 == 0 else RANDOM.normal()
    cells = [
        i + 100,
        f"{u:.3f}",
        f"{g:.3f}",
        RANDOM.poisson(2),
        7,
        "MFI"[i % 3],
        f"2020-01-{i % 28 + 1:02d}",
        f"{u:.3f}",
    ]
    return ";".join(map(str, cells)).replace(".", ",")


@pytest.fixture
def table() -> str:
    Path("t.csv").write_text("\n".join([HEAD, *map(line, range(60))]) + "\n")
    return "t.csv"


def test_everything_is_said_at_once_with_its_remedy(table: str, capsys: pytest.CaptureFixture[str]):
    told = says(capsys, "data", table)
    for part in (
        "60 rows, 8 columns",
        "semicolons",
        "--decimal , or --decimal .",
        "one value alone in 'same'; proposal: --drop same",
        "a number for each row in 'id', as names of rows have; proposal: --drop id",
        "the same values as in another column in 'u2'; proposal: --drop u2",
        "-999 in 'g', far from its other values; proposal: --missing-value -999",
        "counts in 'n'",
        "words in 'sex', taken for categories; proposal: --label sex if they are labels",
        "trouble: expected numbers, got '2020-01-01' in line 2, column 'when'; dates",
        "mend the trouble, then: curvae fit vlae t.csv",
    ):
        assert part in told


FLAGS = [
    "--drop",
    "when,u2,same",
    "--row-names",
    "id",
    "--missing-value",
    "-999,9999",
    "--kind",
    "sex=category,n=count",
]


def test_flags_of_a_fit_hold_for_new_files(table: str, capsys: pytest.CaptureFixture[str]):
    told = says(capsys, "data", table, *FLAGS)
    assert "trouble" not in told
    assert "next: curvae fit vlae t.csv --drop when,u2,same --row-names id --missing-value -999,9999 --kind" in told
    assert main(["fit", "vae", table, *FLAGS, *TINY, "--out", "run"]) == 0
    capsys.readouterr()
    says(capsys, "sample", "run", "--n", "20", "--to", "s.csv")
    rows = [row.split(",") for row in Path("s.csv").read_text().splitlines()]
    assert rows[0] == ["u", "g", "n", "sex"]
    assert {row[3] for row in rows[1:]} <= set("MFI")
    assert all(row[2].isdecimal() for row in rows[1:])
    Path("new.csv").write_text("sex;g;n;u\nF;-999;1;1,234\nM;0,5;2;2,345\n")
    says(capsys, "encode", "run", "new.csv", "--to", "z.npz")
    Path("point.csv").write_text("sex,g,n,u\nF,,1,1.234\nM,0.5,2,2.345\n")
    says(capsys, "encode", "run", "point.csv", "--to", "p.npz")
    with np.load("z.npz") as comma, np.load("p.npz") as point:
        np.testing.assert_array_equal(comma["mean"], point["mean"])


def test_a_fit_says_what_it_decided(table: str, capsys: pytest.CaptureFixture[str]):
    assert main(["fit", "vae", table, *FLAGS, "--print_config"]) == 0
    told = capsys.readouterr().err
    assert "curvae: note: t.csv: between cells: semicolons; decimals: comma" in told
    assert "curvae data t.csv says how to change it" in told


def test_arrays_of_numbers_have_columns_too(capsys: pytest.CaptureFixture[str]):
    np.save("a.npy", RANDOM.poisson(2, (60, 3)).astype(np.uint16))
    told = says(capsys, "data", "a.npy")
    assert "counts in '0', '1', '2', which a Gaussian takes for real numbers; proposal: --support count" in told
