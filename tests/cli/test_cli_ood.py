"""``curvae ood``: a line for each row, a column for each score, and the same in the run."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import curvae
from command_line import fails, says

FEW = ("--samples", "4", "--steps", "1", "--reference", "10", "--no-progress")


def test_rows_of_a_file_told_from_the_runs_own(copy_of_table: Path, capsys: pytest.CaptureFixture[str]):
    """The numbers of Python; both sets in one file; the run keeps what was found."""
    lines = ["u,g,r", *(f"{10 + i},-{20 + i},30" for i in range(7))]
    Path("new.csv").write_text("\n".join(lines) + "\n")
    out = says(capsys, "ood", str(copy_of_table), "new.csv", "--against", "test", *FEW)
    found = pd.read_csv("unknown.csv")
    test = curvae.load(copy_of_table).unknown("new.csv", against="test", samples=4, steps=1, reference=10)
    assert list(found["data"]) == ["new.csv"] * 7 + ["test"] * test.others
    assert list(found["row"][:7]) == list(range(7))
    for name, values in test.values.items():
        np.testing.assert_allclose(found[name][:7], values, rtol=1e-5)
        np.testing.assert_allclose(found[name][7:], test.values_against[name], rtol=1e-5)
    assert "AUROC" in out
    assert "curvae fit bayesian-vae" in out
    assert (copy_of_table / "ood.json").exists()
    fails(capsys, ["ood", str(copy_of_table), "new.csv", *FEW], 1, "--force")


def test_rows_alone(copy_of_table: Path, capsys: pytest.CaptureFixture[str]):
    out = says(capsys, "ood", str(copy_of_table), "validation", "--to", "unknown.npz", *FEW)
    with np.load("unknown.npz") as found:
        assert {"data", "row", "negative_log_likelihood", "likelihood_regret"} <= set(found)
    assert "Of validation rows" in out
    fails(capsys, ["ood", str(copy_of_table), "validation", "--to", "unknown.txt"], 2, "--to: expected a file name")
