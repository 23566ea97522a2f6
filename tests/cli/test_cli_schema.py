"""The command line and what a run knows of its data: names, labels, places, precision."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest

from command_line import TINY, fails, says

RANDOM = np.random.default_rng(0)
STAMPS = 1.7e9 + RANDOM.normal(0, 10, 60)


def save(path: str | Path, header: str, rows: np.ndarray, kinds: list[str] | None = None) -> None:
    lines = [",".join(repr(float(value)) for value in row) for row in rows]
    lines = lines if kinds is None else [f"{line},{kind}" for line, kind in zip(lines, kinds, strict=True)]
    Path(path).write_text("\n".join([header, *lines]) + "\n")


def table(path: str) -> list[dict[str, str]]:
    with Path(path).open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A table with words for labels and a run on it, trained from another folder; read, never written."""
    from curvae.cli import main

    folder = tmp_path_factory.mktemp("schema")
    rows = np.stack([RANDOM.normal(size=60), STAMPS, RANDOM.normal(-5, 0.1, 60)], 1)
    save(folder / "t.csv", "u,time,r,kind", rows, ["cat", "dog", "owl"] * 20)
    words = ["fit", "vae", str(folder / "t.csv"), "--label", "kind", *TINY, "--out", str(folder / "run")]
    assert main(words) == 0
    return folder


def test_columns_in_another_order(folder: Path, capsys: pytest.CaptureFixture[str]):
    rows = np.stack([RANDOM.normal(size=5), STAMPS[:5], RANDOM.normal(-5, 0.1, 5)], 1)
    save("same.csv", "u,time,r", rows)
    save("other.csv", "r,u,time", rows[:, [2, 0, 1]])
    save("foreign.csv", "mass,age,flux", rows)
    for name in ("same", "other"):
        says(capsys, "encode", str(folder / "run"), f"{name}.csv", "--to", f"{name}.npz")
    with np.load("same.npz") as same, np.load("other.npz") as other:
        np.testing.assert_array_equal(same["mean"], other["mean"])
    for command in (
        ["encode", str(folder / "run"), "foreign.csv"],
        ["evaluate", str(folder / "run"), "--data", "foreign.csv"],
    ):
        fails(capsys, command, 1, "foreign.csv: expected the run's columns u, time, r, but", "among mass, age, flux")
    says(capsys, "encode", str(folder / "run"), "foreign.csv", "--columns", "mass,age,flux", "--to", "named.npz")
    says(capsys, "encode", str(folder / "run"), "foreign.csv", "--positions", "0,1,2", "--to", "placed.npz")
    with np.load("same.npz") as same, np.load("named.npz") as named, np.load("placed.npz") as placed:
        np.testing.assert_array_equal(same["mean"], named["mean"])
        np.testing.assert_array_equal(same["mean"], placed["mean"])


def test_labels_keep_their_words(folder: Path, capsys: pytest.CaptureFixture[str]):
    rows = np.stack([RANDOM.normal(size=4), STAMPS[:4], RANDOM.normal(-5, 0.1, 4)], 1)
    save("new.csv", "u,time,r,kind", rows, ["owl", "dog", "owl", "dog"])
    says(capsys, "encode", str(folder / "run"), "new.csv", "--to", "z.csv")
    assert [row["kind"] for row in table("z.csv")] == ["owl", "dog", "owl", "dog"]
    says(capsys, "encode", str(folder / "run"), "new.csv", "--to", "z.npz")
    with np.load("z.npz") as found:
        assert found["label"].tolist() == ["owl", "dog", "owl", "dog"]


def notes(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    from curvae.cli import main

    capsys.readouterr()
    assert main(words) == 0
    return capsys.readouterr().err.splitlines()


def test_what_is_passed_over_is_said_in_a_line(folder: Path, capsys: pytest.CaptureFixture[str]):
    rows = np.stack([np.arange(2), RANDOM.normal(size=2), STAMPS[:2], RANDOM.normal(-5, 0.1, 2)], 1)
    save("new.csv", "id,u,time,r,kind", rows, ["owl", "elf"])
    assert notes(capsys, "encode", str(folder / "run"), "new.csv", "--to", "z.csv") == [
        "curvae: note: new.csv: ignored 'id', which the run does not have.",
        "curvae: note: new.csv: label 'elf' is none of cat, dog, owl, as in the run; it counts as no label.",
    ]
    assert [row["kind"] for row in table("z.csv")] == ["owl", "elf"]


def test_rows_can_be_matched_with_the_file(folder: Path, capsys: pytest.CaptureFixture[str]):
    says(capsys, "encode", str(folder / "run"), "test", "--to", "part.csv")
    says(capsys, "encode", str(folder / "run"), str(folder / "t.csv"), "--to", "all.csv")
    whole = {row["row"]: row for row in table("all.csv")}
    part = table("part.csv")
    assert next(iter(part[0])) == "row"
    assert len(part) == 9
    for row in part:
        assert row["kind"] == whole[row["row"]]["kind"]
        assert float(row["z0_mean"]) == pytest.approx(float(whole[row["row"]]["z0_mean"]), abs=1e-5)


def test_samples_have_names_and_resolution(folder: Path, capsys: pytest.CaptureFixture[str]):
    says(capsys, "sample", str(folder / "run"), "--n", "200", "--to", "s.csv")
    rows = table("s.csv")
    assert list(rows[0]) == ["u", "time", "r"]
    times = np.array([float(row["time"]) for row in rows])
    assert len(np.unique(times)) > 150
    assert np.std(times) < 50
    says(capsys, "sample", str(folder / "run"), "--n", "200", "--to", "s.npz")
    with np.load("s.npz") as found:
        np.testing.assert_array_equal(found["x"][:, 1], times)  # the text holds every digit


def test_whole_and_constant_columns_come_back_as_such(capsys: pytest.CaptureFixture[str]):
    lines = [
        f"{count},{value:.3f},7.5" for count, value in zip(RANDOM.poisson(3, 60), RANDOM.normal(size=60), strict=True)
    ]
    Path("t.csv").write_text("n,x,same\n" + "\n".join(lines) + "\n")
    said = notes(capsys, "fit", "vae", "t.csv", *TINY, "--out", "run")
    assert said[0] == "curvae: note: t.csv: one value alone in 'same'; proposal: --drop same."
    assert said[1].startswith("curvae: note: t.csv: counts in 'n', which a Gaussian takes for real numbers; proposal: ")
    assert said[1].endswith(" --kind n=count.")
    assert len(said) == 2
    told = says(capsys, "sample", "run", "--n", "20", "--to", "s.csv")
    assert "never varied in training, and drawn as one value: same" in told
    rows = table("s.csv")
    assert {row["same"] for row in rows} == {"7.5"}
    assert all(row["n"].isdecimal() for row in rows)


def test_a_run_that_was_moved_with_its_data(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    moved = Path(shutil.copytree(folder, tmp_path / "moved"))
    (folder / "t.csv").rename(folder / "away.csv")
    try:
        words = ("--samples", "5", "--no-progress")
        says(capsys, "evaluate", str(moved / "run"), *words)
        (moved / "elsewhere").mkdir()
        (moved / "t.csv").rename(moved / "elsewhere" / "t.csv")
        fails(capsys, ["evaluate", str(moved / "run"), *words], 1, "t.csv: expected a file, got nothing there")
        says(capsys, "evaluate", str(moved / "run"), "--data-dir", str(moved / "elsewhere"), *words)
        says(capsys, "evaluate", str(moved / "run"), "--data", str(moved / "elsewhere" / "t.csv"), *words)
        says(capsys, "encode", str(moved / "run"), "test", "--data-dir", str(moved / "elsewhere"), "--to", "z.csv")
        (moved / "elsewhere" / "t.csv").write_text((folder / "away.csv").read_text().replace("owl", "elf"))
        (moved / "elsewhere" / "t.csv").write_text((folder / "away.csv").read_text().replace("-5.", "-6."))
        command = ["evaluate", str(moved / "run"), "--data-dir", str(moved / "elsewhere"), *words]
        fails(capsys, command, 1, "expected checksum", "the files have changed since then")
    finally:
        (folder / "away.csv").rename(folder / "t.csv")


def test_a_test_file_in_another_order(capsys: pytest.CaptureFixture[str]):
    rows = RANDOM.normal([0, 100], [1, 20], size=(40, 2))
    save("t.csv", "u,g,kind", rows, ["cat", "dog"] * 20)
    save("test.csv", "g,u,more,kind", np.stack([rows[:, 1], rows[:, 0], rows[:, 0]], 1), ["dog", "cat"] * 20)
    words = ("fit", "vae", "t.csv", "--test", "test.csv", "--label", "kind", *TINY, "--out", "run")
    assert notes(capsys, *words) == ["curvae: note: test.csv: ignored 'more', which the run does not have."]
    says(capsys, "encode", "run", "test", "--to", "a.npz")
    says(capsys, "encode", "run", "t.csv", "--to", "b.npz")
    with np.load("a.npz") as test, np.load("b.npz") as train:
        np.testing.assert_allclose(test["mean"], train["mean"], atol=1e-6)
        assert test["label"].tolist() == ["dog", "cat"] * 20


def test_columns_are_names_and_positions_have_a_flag(capsys: pytest.CaptureFixture[str]):
    save("t.csv", "5,0", RANDOM.normal([0, 100], 1, size=(40, 2)))
    says(capsys, "fit", "vae", "t.csv", "--header", "--columns", "0", *TINY, "--out", "named")
    says(capsys, "fit", "vae", "t.csv", "--header", "--positions", "0", *TINY, "--out", "placed")
    for name, header in (("named", "0"), ("placed", "5")):
        says(capsys, "sample", name, "--to", f"{name}.csv")
        assert Path(f"{name}.csv").read_text().splitlines()[0] == header
    fails(
        capsys,
        ["fit", "vae", "t.csv", "--header", "--columns", "1", *TINY],
        1,
        "got 1; a number counts columns in --positions",
    )


def test_data_sets_by_either_spelling(capsys: pytest.CaptureFixture[str]):
    for word in ("fashion-mnist", "fashion_mnist", "Fashion-MNIST"):
        fails(capsys, ["fit", "vae", word, "--data-dir", "."], 1, "fashion_mnist: expected one of", "check --data-dir")
    fails(capsys, ["fit", "vae", "fashon-mnist"], 2, "did you mean fashion-mnist?")


def test_proposals_are_flags(capsys: pytest.CaptureFixture[str]):
    """Those for all columns of a table too, which no file says of itself."""
    Path("n.csv").write_text("a,b\n" + "".join(f"{a},{b}\n" for a, b in RANDOM.poisson(3, (60, 2))))
    [said] = notes(capsys, "fit", "vae", "n.csv", *TINY, "--out", "run")
    assert said.endswith("which a Gaussian takes for real numbers; proposal: --support count.")
