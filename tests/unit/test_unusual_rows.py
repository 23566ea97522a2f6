"""The least likely rows of a table, told in words, names and units of its columns; and names in the report."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import curvae
from curvae.data import ArrayTable, Schema
from curvae.data.schema import Column
from curvae.data.transforms import Standardization
from curvae.evaluation.ood import ColumnScores, UnusualRows
from curvae.evaluation.ood.unusual_rows import reasons_of
from curvae.report import write_report
from curvae.report.snapshot import read_snapshot
from curvae.typing import DataSpec


def test_reasons_are_in_own_units_and_words():
    """The largest first, from 2 standard deviations on; a category by its probability, whatever is missing by none."""
    kinds = (Column("u"), Column("n", "count", "int64"), Column("kind", "category", "int64", vocabulary=("elm", "oak")))
    schema = Schema(DataSpec((3,), "mixed"), kinds)
    raw = torch.tensor([[17.25, 40.0, 1.0], [18.0, 3.0, 0.0]], dtype=torch.float64)
    transform = Standardization(torch.tensor([18.0, 0.0, 0.0]), torch.tensor([2.0, 1.0, 1.0]))
    nan = torch.nan
    scores = ColumnScores(
        log_prob=torch.tensor([[-3.0, -30.0, -8.0], [-1.0, nan, -0.1]]),
        expected=torch.tensor([[0.25, 4.0, nan], [0.0, nan, nan]]),
        deviations=torch.tensor([[-4.0, 12.0, nan], [1.9, nan, nan]]),
    )
    first, second = reasons_of(schema, ArrayTable(raw, transform), scores)
    assert [reason.text for reason in first] == [
        "n 40, expected 4.0 ± 3.0 (+12.0)",
        "u 17.25, expected 18.50 ± 0.31 (-4.0)",
        "kind oak, probability 0.00034",
    ]
    assert first[2].size == pytest.approx(3.58, abs=0.01)  # two-sided, of a normal law
    assert second == []


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An evaluated run on a labeled table with a word, one of whose test rows has a wrong cell."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=400)
    frame = pd.DataFrame(
        {
            "mass": 100 + 10 * z + rng.normal(size=400),
            "width": 3 - z + 0.1 * rng.normal(size=400),
            "tree": np.where(z + 0.3 * rng.normal(size=400) > 0, "oak", "elm"),
            "site": np.where(z > 1, "hill", "vale"),
        }
    )
    folder = tmp_path_factory.mktemp("unusual")
    options = {"label": "site", "latent": 1, "hidden": 16, "max_updates": 300, "progress": False, "device": "cpu"}
    wrong = curvae.data.from_array(frame.copy(), "site").test.row.numpy()[5]  # pyright: ignore
    frame.loc[wrong, "mass"] = 200.0
    fitted = curvae.fit("vlae", frame, out=folder / "run", seed=0, **options)  # pyright: ignore
    curvae.evaluate(fitted, samples=50, progress=False)
    (folder / "wrong").write_text(str(wrong))
    return fitted.path


def test_the_report_tells_which_rows_are_unusual_and_why(path: Path, tmp_path: Path):
    wrong = int((path.parent / "wrong").read_text())
    found = curvae.load(path).evaluation.metrics[UnusualRows.name]  # pyright: ignore
    assert found.section is not None
    row, level, why = found.section.rows[0]
    assert row.startswith(f"row {wrong} (")
    assert row.endswith(("(hill)", "(vale)"))
    assert float(level.split()[0].replace("−", "-")) < -50
    assert why.startswith("mass 200.0, expected ")
    assert len(found.section.rows) == 10
    run = Path(shutil.copytree(path, tmp_path / "run"))
    page = write_report(run).read_text()
    assert "The most unusual rows" in page
    assert f"row {wrong} (" in page


def test_columns_and_labels_have_their_names(path: Path):
    run = read_snapshot(path)
    assert run.columns == ("mass", "width", "tree")
    assert run.label is not None
    assert run.label.name == "site"
    assert set(run.pictures["labels"]) == {"hill", "vale"}


def test_pictures_have_none(tmp_path: Path):
    x = np.random.default_rng(0).normal(size=(80, 1, 2, 2))
    options = {"latent": 1, "hidden": 8, "max_updates": 20, "progress": False, "device": "cpu"}
    fitted = curvae.fit("vae", x, out=tmp_path / "run", **options)  # pyright: ignore
    assert UnusualRows.name not in curvae.evaluate(fitted, samples=20, progress=False).metrics
