"""What is known of each row, on the command line: said once when a run is trained, found by name from then on."""

from pathlib import Path

import numpy as np
import pytest

from command_line import TINY, fails, says
from curvae.cli import main

FLAGS = ["--errors", "u=u_err,g=g_err", "--covariates", "night", "--weights", "n"]
HEADER = "u,g,r,u_err,g_err,night,n"


def lines(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    x, errors = rng.normal(size=(count, 3)), rng.random((count, 2)).round(3)
    rows = zip(
        x.round(4).tolist(), errors.tolist(), ["mon", "tue"] * (count // 2), rng.integers(1, 4, count), strict=True
    )
    return [",".join(map(str, [*values, *known, night, n])) for values, known, night, n in rows]


def save(path: str | Path, header: str, rows: list[str]) -> None:
    Path(path).write_text("\n".join([header, *rows]) + "\n")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is given errors, a category and weights; read, never written."""
    folder = tmp_path_factory.mktemp("context")
    save(folder / "sky.csv", HEADER, lines(60))
    assert main(["fit", "vae", str(folder / "sky.csv"), *FLAGS, *TINY, "--out", str(folder / "run")]) == 0
    return folder


def test_another_file_is_read_by_the_names_of_what_is_known(folder: Path, capsys: pytest.CaptureFixture[str]):
    rows = [line.split(",") for line in lines(6, seed=1)]
    save("same.csv", HEADER, [",".join(row) for row in rows])
    save("other.csv", "night,n,g_err,r,g,u,u_err", [",".join(row[j] for j in (5, 6, 4, 2, 1, 0, 3)) for row in rows])
    save("worse.csv", HEADER, [",".join([*row[:3], "2.0", *row[4:]]) for row in rows])
    for name in ("same", "other", "worse"):
        says(capsys, "encode", str(folder / "run"), f"{name}.csv", "--to", f"{name}.npz")
        says(capsys, "score", str(folder / "run"), f"{name}.csv", "--to", f"{name}-scores.csv", "--samples", "20")
    with np.load("same.npz") as same, np.load("other.npz") as other, np.load("worse.npz") as worse:
        np.testing.assert_array_equal(same["mean"], other["mean"])
        assert not np.allclose(same["mean"], worse["mean"])


def test_what_is_known_and_missing_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]):
    rows = [line.split(",") for line in lines(6, seed=1)]
    save("blind.csv", "u,g,r,night,n", [",".join(row[:3] + row[5:]) for row in rows])
    save("day.csv", HEADER, [",".join([*row[:5], "sun", row[6]]) for row in rows])
    run = str(folder / "run")
    fails(
        capsys, ["encode", run, "blind.csv"], 1, "expected the error column 'u_err' among u, g, r, night, n, got none"
    )
    fails(capsys, ["encode", run, "day.csv"], 1, "expected one of mon, tue, as in the run, got 'sun' in row 0")


def test_it_is_kept_with_the_run_and_said_again(folder: Path, capsys: pytest.CaptureFixture[str]):
    run = str(folder / "run")
    says(capsys, "evaluate", run, "--samples", "20")
    says(capsys, "sample", run, "--n", "5", "--to", "drawn.csv")
    assert Path("drawn.csv").read_text().splitlines()[0] == "u,g,r"
    assert main(["fit", "--config", run, "--out", "again", "--seed", "1"]) == 0
    assert "u=u_err" in Path("again/config.yaml").read_text()


def test_every_door_takes_along_what_is_known(folder: Path, capsys: pytest.CaptureFixture[str]):
    run, rows = str(folder / "run"), [line.split(",") for line in lines(6, seed=1)]
    save("holes.csv", HEADER, [",".join(["", *row[1:3], "", *row[4:]]) for row in rows])
    says(capsys, "impute", run, "holes.csv", "--to", "filled.csv")
    filled = Path("filled.csv").read_text().splitlines()
    assert filled[0] == HEADER
    assert [line.split(",")[1:] for line in filled[1:]] == [[*row[1:3], "", *row[4:]] for row in rows]
    says(capsys, "reconstruct", run, "holes.csv", "--missing", "mask", "--to", "rebuilt.csv")
    says(capsys, "traverse", run, "--row", "1", "--to", "moved.csv")
    given = ["--given", "night=mon", "--given", "u=0.5", "--given", "u_err=0.1"]
    says(capsys, "sample", run, *given, "--n", "3", "--to", "given.csv")
    assert all(line.startswith("0.5,") for line in Path("given.csv").read_text().splitlines()[1:])
    fails(capsys, ["sample", run, *given[2:], "--to", "no.csv"], 1, "expected the covariate 'night' of the row, too")
    says(capsys, "gaps", run, "--data", "2", "--steps", "2")
    fails(capsys, ["calibrate", run, "--count", "20"], 1, "calibrate: expects a model of rows alone")


def test_a_dry_run_and_splits_beside_what_is_known(folder: Path, capsys: pytest.CaptureFixture[str]):
    """Each part has its share of the nights, which are covariates as well."""
    sky = str(folder / "sky.csv")
    told = says(capsys, "fit", "vae", sky, *FLAGS, "--stratify", "night", *TINY, "--out", "dry", "--dry-run")
    assert "u, g, r" in told
    assert not Path("dry").exists()


def test_flags_that_do_not_fit_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]):
    sky = str(folder / "sky.csv")
    begin = ["fit", "vae", sky, *TINY, "--out", "new"]
    for flags, line in (
        (["--errors", "x=u_err"], "errors: expected those of features, got x=u_err"),
        (["--errors", "u=sigma"], "expected the error column 'sigma' among"),
        (["--exposure", "n", "--drop", "night"], "exposure: expected with counts, got"),
    ):
        fails(capsys, [*begin, *flags], 1, line)
        assert not Path("new").exists()
