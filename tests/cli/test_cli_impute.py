"""``curvae impute``, ``reconstruct``, ``traverse`` and ``sample --given``: files in the data's own units."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import curvae
from command_line import fails, says
from curvae.cli import main

HOLES = """id,class,g,u,note,r
a,STAR,0.25,,first,-0.125
b,STAR,,,"second, with a comma",1e-1
c,STAR,1.5,0.5,,2.0
"""


@pytest.fixture
def holes() -> Path:
    Path("holes.csv").write_text(HOLES)
    return Path("holes.csv")


def test_a_file_comes_back_without_gaps(table_run: Path, holes: Path, capsys: pytest.CaptureFixture[str]):
    """All of its columns in their order, observed ones to the last digit, filled ones as Fitted fills them."""
    words = ["impute", str(table_run), str(holes), "--intervals", "cells.csv", "--level", "0.5"]
    out = says(capsys, *words, noting="ignored 'id', 'note'")
    assert out.splitlines()[0] == "3 cells filled in, in 2 of 3 rows: filled.csv"
    assert out.splitlines()[1].startswith("effective draws of a row: median ")
    found, given = pd.read_csv("filled.csv"), pd.read_csv(holes)
    assert list(found) == list(given)
    for name in ("id", "class", "g", "u", "r"):
        seen = given[name].notna()
        assert found[name][seen].tolist() == given[name][seen].tolist()
    assert found["note"].fillna("").tolist() == ["first", "second, with a comma", ""]
    filled = curvae.load(table_run).imputed(given[["u", "g", "r"]], level=0.5)
    np.testing.assert_array_equal(found[["u", "g", "r"]], filled.filled)
    cells = pd.read_csv("cells.csv")
    assert cells["row"].tolist() == [0, 1, 1]
    assert cells["column"].tolist() == ["u", "u", "g"]
    np.testing.assert_allclose(cells[["lower", "upper"]], filled.cells[["lower", "upper"]].astype(float))
    fails(capsys, words, 1, "filled.csv: expected nothing there")


def test_chains_say_how_they_mix(
    table_run: Path, holes: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("curvae.evaluation.samples.engines.APART", 1)
    monkeypatch.setattr("curvae.evaluation.samples.engines.CHAINS", 50)
    words = ["impute", str(table_run), str(holes), "--by", "chains", "--intervals", "cells.csv", "--to", "c.npz"]
    out = says(capsys, *words, noting="ignored")
    assert out.splitlines()[2].startswith("R-hat of the chains of a row: median ")
    assert pd.read_csv("cells.csv")["r_hat"].between(0.9, 3).all()
    with np.load("c.npz") as arrays:
        assert np.isnan(arrays["r_hat"]).tolist() == [False, False, True]


def test_several_draws_and_arrays(table_run: Path, holes: Path, capsys: pytest.CaptureFixture[str]):
    says(capsys, "impute", str(table_run), str(holes), "--draws", "3", "--to", "d.csv", noting="ignored")
    found = pd.read_csv("d.csv")
    assert list(found) == ["draw", "id", "class", "g", "u", "note", "r"]
    assert found["draw"].tolist() == [1, 1, 1, 2, 2, 2, 3, 3, 3]
    assert found["u"].nunique() == 7
    says(capsys, "impute", str(table_run), str(holes), "--draws", "3", "--to", "d.npz", noting="ignored")
    with np.load("d.npz") as arrays:
        assert arrays["x"].shape == (3, 3, 3)
        np.testing.assert_array_equal(arrays["x"][:, :, 0].flatten(), found["u"])
        assert arrays["missing"].sum() == 3
        assert arrays["label"].tolist() == ["STAR"] * 3
    says(capsys, "impute", str(table_run), "test", "--to", "t.csv")
    assert list(pd.read_csv("t.csv")) == ["row", "u", "g", "r", "class"]


def test_flags_of_impute_are_checked(table_run: Path, holes: Path, capsys: pytest.CaptureFixture[str]):
    start = ["impute", str(table_run), str(holes)]
    fails(capsys, [*start, "--draws", "-1"], 2, "--draws: expected a whole number from 0 to 1,000,000,000, got -1")
    fails(capsys, [*start, "--level", "1"], 2, "--level: expected a probability in (0, 1)")
    fails(capsys, [*start, "--intervals", "x.npz"], 2, "--intervals: expected a file name that ends in .csv")
    fails(capsys, [*start, "--to", "x.txt"], 2, "--to: expected a file name")


def test_rows_given_columns(table_run: Path, run: Path, capsys: pytest.CaptureFixture[str]):
    start = ["sample", str(table_run), "--n", "20", "--to", "s.csv"]
    out = says(capsys, *start, "--given", "u=-0.5", "--given", "g=1.25")
    assert out.splitlines()[1].startswith("effective draws of the latents: ")
    found = pd.read_csv("s.csv")
    assert set(found["u"]) == {-0.5}
    assert set(found["g"]) == {1.25}
    assert found["r"].nunique() == 20
    assert "where it has learned little: u" in says(capsys, *start, "--force", "--given", "u=1000")
    fails(capsys, [*start, "--force", "--given", "u"], 2, "--given: expected column=value, got 'u'")
    fails(capsys, [*start, "--force", "--given", "z=1"], 1, "--given: expected columns out of u, g, r, got 'z'")
    fails(capsys, [*start, "--force", "--given", "class=STAR"], 1, "got the label 'class'")
    fails(capsys, ["sample", str(run), "--given", "x0=1"], 1, "--given: expected a run on a table")


def test_reconstructions(table_run: Path, run: Path, capsys: pytest.CaptureFixture[str]):
    source = str(table_run.parent / "stars.csv")
    assert says(capsys, "reconstruct", str(table_run), source, "--to", "r.csv") == "60 reconstructions: r.csv\n"
    found = pd.read_csv("r.csv")
    assert list(found) == ["row", "u", "g", "r", "class"]
    expected = curvae.load(table_run).reconstruct(pd.read_csv(source))
    np.testing.assert_array_equal(found[["u", "g", "r"]], expected)
    says(capsys, "reconstruct", str(run), "test")
    with np.load("reconstructions.npz") as arrays:
        assert arrays["x"].shape == (359, 1, 8, 8)
        assert set(arrays) == {"row", "x", "label"}
    fails(capsys, ["reconstruct", str(run), "test"], 1, "--force")


def test_traversals_of_tables_and_pictures(table_run: Path, run: Path, capsys: pytest.CaptureFixture[str]):
    out = says(capsys, "traverse", str(table_run), "--steps", "3")
    assert out == "z0, z1: 3 values each, over the range of the posterior: traversal.csv\n"
    found = pd.read_csv("traversal.csv")
    assert list(found) == ["latent", "value", "u", "g", "r"]
    expected = curvae.load(table_run).traverse(steps=3)
    np.testing.assert_array_equal(found[["u", "g", "r"]], expected.x)
    says(capsys, "traverse", str(run), "--latent", "1", "--row", "3", "--to", "t.png")
    assert Path("t.png").read_bytes().startswith(b"\x89PNG")
    says(capsys, "traverse", str(run), "--to", "t.npz")
    with np.load("t.npz") as arrays:
        assert arrays["x"].shape == (18, 1, 8, 8)
    for words, code, part in (
        (["--to", "x.txt"], 2, "--to: expected a file name that ends in .csv, .npz or .png"),
        (["--steps", "1"], 2, "--steps: expected 2 or more, got 1"),
        (["--latent", "2"], 1, "--latent: expected 0 to 1, got 2"),
        (["--row", "12"], 2, "--row: expected a row of the test part, 0 to "),
        (["--to", "x.png"], 2, "--to: expected .csv or .npz of data that are no pictures"),
    ):
        fails(capsys, ["traverse", str(table_run), "--force", *words], code, part)
    assert not Path("x.png").exists()


@pytest.mark.parametrize("name", ["impute", "reconstruct", "traverse", "sample", "score", "encode"])
def test_a_help_is_short(name: str, capsys: pytest.CaptureFixture[str]):
    assert main([name, "--help"]) == 0
    assert len(capsys.readouterr().out.splitlines()) < 40
