"""``curvae score``: the same numbers as in Python, and the columns that make a row unusual."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import curvae
from command_line import fails, says


def test_scores_of_a_table(table_run: Path, capsys: pytest.CaptureFixture[str]):
    """As Fitted has them; the percentile is a rank among validation rows; the label goes along."""
    lines = (table_run.parent / "stars.csv").read_text().splitlines()
    Path("new.csv").write_text("\n".join([*lines[:6], "0.1,9000.0,0.2,STAR"]) + "\n")
    out = says(capsys, "score", str(table_run), "new.csv", "--samples", "50")
    found, fitted = pd.read_csv("scores.csv"), curvae.load(table_run)
    frame = pd.read_csv("new.csv")[["u", "g", "r"]]
    expected = fitted.score(frame, samples=50)
    for name in ("log_likelihood", "stderr", "flagged", "log_det"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-6)
    known = np.sort(fitted.score("validation", samples=50).log_likelihood)
    below = [100 * (known < each).mean() for each in found["log_likelihood"]]
    np.testing.assert_allclose(found["percentile"], below)
    deviations = fitted.column_scores(frame)
    assert list(deviations.columns) == ["u", "g", "r"]
    np.testing.assert_allclose(found[[f"{name}_deviations" for name in "ugr"]], deviations, rtol=1e-4)
    assert found["reasons"][5].startswith("g +")
    assert list(found["row"]) == list(range(6))
    assert list(found["class"]) == ["STAR"] * 6
    assert "row 5, " in out.splitlines()[2]
    assert ": g +" in out


def test_scores_of_pictures(run: Path, capsys: pytest.CaptureFixture[str]):
    """No reasons unless asked for; arrays in an .npz file."""
    says(capsys, "score", str(run), "test", "--samples", "20", "--to", "scores.npz")
    with np.load("scores.npz") as found:
        assert set(found) == {"row", "log_likelihood", "stderr", "flagged", "log_det", "percentile", "label"}
        assert len(found["row"]) == 359
    fails(capsys, ["score", str(run), "test", "--to", "scores.npz"], 1, "--force")
    fails(capsys, ["score", str(run), "test", "--to", "scores.txt"], 2, "--to: expected a file name")
