"""The published comparison trains what is missing, once, and its tables come from its files alone."""

import json
import sys
from pathlib import Path

import pytest

import curvae

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def beside(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import published_cells

    monkeypatch.setitem(published_cells.NETWORKS, "small", published_cells.Network(2, 8))
    yield
    for name in ("published", "published_cells", "published_tables"):
        sys.modules.pop(name, None)


def run(folder: Path, *methods: str, epochs: int | None = 1, minutes: float | None = None, data: str = "digits"):
    import published
    from published_cells import plan

    cells = list(plan(["small"], [data], methods, [0]))
    budget = published.Budget(epochs, minutes, samples=30, limit=20)
    published.run(cells, budget, None if data == "digits" else str(folder), folder / "r", folder / "runs", "cpu")


def files(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in (folder / "r").glob("*.json")}


def never(*args: object, **kwargs: object):
    raise AssertionError("nothing was to be trained")


def test_each_cell_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run(tmp_path, "vae")
    first = files(tmp_path)
    run(tmp_path, "vlae-1", "vae")
    assert list(first) == ["digits-small-vae-0.json"]
    assert first.items() < (both := files(tmp_path)).items()
    monkeypatch.setattr(curvae, "fit", never)
    run(tmp_path, "vlae-1", "vae")
    assert files(tmp_path) == both


def test_a_run_cut_off_before_its_file_is_evaluated_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run(tmp_path, "vae")
    (path,) = (tmp_path / "r").glob("*.json")
    before = json.loads(path.read_text())
    path.unlink()
    monkeypatch.setattr(curvae, "fit", never)
    run(tmp_path, "vae")
    after = json.loads(path.read_text())
    assert after["each"] == before["each"]
    assert before["training"]["cpu_seconds"] > 0
    assert after["training"]["cpu_seconds"] is None


def test_another_budget_is_refused(tmp_path: Path):
    run(tmp_path, "vae")
    with pytest.raises(SystemExit, match="another budget"):
        run(tmp_path, "vae", epochs=2)


def test_minutes_become_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import published

    monkeypatch.setattr(published, "pace", lambda *_: 2.0)
    run(tmp_path, "vae", epochs=None, minutes=0.1)
    (path,) = (tmp_path / "r").glob("*.json")
    assert json.loads(path.read_text())["training"]["epochs"] == 3


def test_the_pace_is_that_of_whole_epochs():
    import published
    from published_cells import Cell

    assert 0 < published.pace(Cell("digits", "small", "vae", 0), curvae.data.load("digits"), "cpu") < 20


def test_missing_data_are_skipped_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run(tmp_path, "vae", "vlae-1", data="svhn")
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("svhn: skipped (")
    assert files(tmp_path) == {}


def test_the_table_comes_from_the_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from published_tables import MARKS, publish, read

    run(tmp_path, "vae", "vlae-1")
    monkeypatch.setattr(curvae, "fit", never)
    (page := tmp_path / "page.md").write_text(f"before\n{MARKS[0]}old\n{MARKS[1]}after\n")
    publish(tmp_path / "r", page)
    text = page.read_text()
    (group,) = read(tmp_path / "r")
    value = group.runs["vlae-1"][0]["evaluation"]["laplace"]["log_likelihood"]["value"]
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text
    assert f"| VLAE | 1 | {value:.2f} | " in text
    assert "1 epochs for each run" in text


def test_differences_are_paired_and_leave_out_what_is_not_finite():
    from published_tables import Group, ahead

    def content(values: list[float | None]) -> dict:
        return {"each": {"common": values}}

    runs = {"vae": {0: content([1.0, 2.0, 3.0])}, "vlae-1": {0: content([2.0, None, 5.0]), 1: content([0.0, 0.0, 0.0])}}
    total, seeds = ahead(Group("digits", "small", runs), "vlae-1", "common")
    assert total.value == 1.5
    assert seeds == [1.5]


def test_the_error_of_several_seeds_knows_that_they_differ():
    from published_tables import Group, ahead

    def of(each: list[list[float]]) -> dict:
        return {seed: {"each": {"common": values}} for seed, values in enumerate(each)}

    runs = {"vae": of([[0.0, 0.0], [0.0, 0.0]]), "vlae-1": of([[1.0, 3.0], [11.0, 13.0]])}
    total, seeds = ahead(Group("digits", "small", runs), "vlae-1", "common")
    assert seeds == [2.0, 12.0]
    assert total.value == 7.0
    assert total.stderr == pytest.approx((1.0**2 + 5.0**2) ** 0.5)  # 1 over data, 5 over seeds


def test_systems_are_the_published_ones():
    from published_cells import METHODS, Cell

    spec = curvae.data.load("digits").spec
    made = {name: Cell("digits", "small", name, 0).system(spec) for name in METHODS}
    assert made["vlae-4"].inference.steps == 4
    assert made["vlae-4"].inference.unroll
    assert [stage.name for stage in made["vlae-4"].stages()] == ["laplace"]
    assert made["sa-vae-8"].inference.refiner.steps == 8
    assert len(made["iaf-2"].inference.flow.steps) == 2
