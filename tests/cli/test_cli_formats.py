"""Commands on files that are no text: the same flags, the same columns."""

from pathlib import Path

import numpy as np
import pytest

from curvae.cli import main

pandas = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")
pytest.importorskip("openpyxl")


@pytest.fixture
def frame(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    columns = {"id": np.arange(60), "u": random.normal(size=60), "n": random.poisson(3, 60)}
    return pandas.DataFrame(columns | {"day": pandas.Timestamp("2020-01-01"), "class": ["QSO", "STAR"] * 30})


def test_what_is_told_of_a_file(frame, capsys: pytest.CaptureFixture[str]):
    frame.to_parquet("a.parquet")
    assert main(["data", "a.parquet", "--label", "class"]) == 0
    told = capsys.readouterr().out
    assert "60 rows, 5 columns" in told
    assert "trouble: column 'day': expected real numbers, got dates" in told
    assert "--drop day" in told
    assert "proposal: --drop id" in told
    assert "next" not in told


def test_from_parquet_to_latents_of_a_sheet(frame, capsys: pytest.CaptureFixture[str]):
    frame.to_parquet("a.parquet")
    fit = ["fit", "vae", "a.parquet", "--label", "class", "--drop", "id,day", "--kind", "n=count", "--out", "run"]
    assert main([*fit, "--latent", "2", "--hidden", "8", "--max-updates", "2", "--no-progress"]) == 0
    frame[["class", "day", "n", "u"]].to_excel("new.xlsx", index=False, sheet_name="night 2")
    assert main(["encode", "run", "new.xlsx", "--to", "z.csv"]) == 0
    assert main(["encode", "run", "a.parquet", "--to", "same.csv"]) == 0
    ours, theirs = (pandas.read_csv(name) for name in ("z.csv", "same.csv"))
    np.testing.assert_allclose(ours["z0_mean"], theirs["z0_mean"], atol=1e-6)
    assert ours["class"].tolist() == frame["class"].tolist()
    capsys.readouterr()
    frame.drop(columns="u").to_parquet("less.parquet")
    assert main(["encode", "run", "less.parquet", "--to", "no.csv"]) != 0
    assert "u is missing among" in capsys.readouterr().err
