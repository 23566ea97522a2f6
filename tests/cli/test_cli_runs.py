"""``curvae evaluate``, ``report`` and ``compare``, and runs that they cannot read."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from command_line import contents, fails, says


def test_evaluate_report_compare(copy: Path, table_run: Path, capsys: pytest.CaptureFixture[str]):
    out = says(capsys, "evaluate", str(copy), "--samples", "30", "--limit", "20")
    for part in ("20 test data, 30 draws each", "log p(x), nats", "ELBO, nats", "k-hat", "active latent dimensions"):
        assert part in out
    assert out.index("PPCA, ") < out.index("  log p(x) less that") < out.index("log p(x), nats")
    assert "paired by datum" in out
    assert out.endswith(f"next: curvae report {copy}\n")
    assert json.loads((copy / "evaluation.json").read_text())["samples"] == 30
    assert says(capsys, "report", str(copy)) == f"{copy / 'report.html'}\n"
    other = shutil.copytree(copy, copy.parent / "other")
    out = says(capsys, "compare", str(copy), str(other), "--figure", "compare.png")
    assert "paired" in out
    assert out.index("PPCA, ") < out.index("copy  ") < out.index("other  ")
    assert "copy, other: factor analysis: left out: " in out
    assert "figure: compare.png" in out
    assert Path("compare.png").read_bytes().startswith(b"\x89PNG")
    fails(capsys, ["compare", str(copy), str(other), "--figure", "compare.png"], 1, "--force writes over it")
    fails(capsys, ["compare", str(copy)], 1, "expected two runs or more, got 1")
    fails(capsys, ["compare", str(copy), str(table_run)], 1, "has no evaluation.json", f"curvae evaluate {table_run}")


OWN = """
from curvae.evaluation import Finding, Measured, Section

class Spread:
    name = "spread"

    def check(self, system): ...

    def compute(self, subject):
        value = float(subject.scores["log_likelihood"].std())
        section = Section("spread", "How far apart", ("Quantity", "Nats"), (("spread", f"{value:.2f}"),))
        return Measured(Finding({"nats": value}, (("spread of log p(x)", "wide"),), ("It spreads.",), section))
"""


def test_a_metric_of_a_module_of_ones_own(copy: Path, capsys: pytest.CaptureFixture[str]):
    Path("own_spread.py").write_text(OWN)
    words = ["evaluate", str(copy), "--samples", "30", "--limit", "20", "--metrics"]
    out = says(capsys, *words, "own_spread.Spread")
    assert "spread of log p(x)" in out
    assert "warning: It spreads.\n" in out
    says(capsys, "report", str(copy))
    assert "<h2>How far apart</h2>" in (copy / "report.html").read_text()
    fails(capsys, [*words, "own_spread.Other"], 2, "--metrics: expected module.Class, a class without arguments")
    fails(capsys, [*words, "json.JSONDecoder"], 2, "expected a curvae.evaluation.Metric, got 'json.JSONDecoder'")


def test_evaluate_on_other_data(copy: Path, capsys: pytest.CaptureFixture[str]):
    np.save("x.npy", np.random.default_rng(0).integers(0, 17, size=(7, 8, 8)).astype(np.uint8))
    before = contents(copy)
    out = says(capsys, "evaluate", str(copy), "--data", "x.npy", "--samples", "30")
    assert "7 test data" in out
    assert f"written: {copy}/evaluations/x-test-" in out
    assert "4 test data" in says(capsys, "evaluate", str(copy), "--data", "digits", "--samples", "30", "--limit", "4")
    after = contents(copy)
    assert {name: after[name] for name in before} == before
    other = shutil.copytree(copy, copy.parent / "other")
    (place,), (again,) = (list((each / "evaluations").glob("x-test-*")) for each in (copy, other))
    assert "paired" in says(capsys, "compare", str(place), str(again))


@pytest.mark.parametrize("command", ["evaluate", "report", "sample"])
def test_no_run(command: str, capsys: pytest.CaptureFixture[str], tmp_path: Path):
    fails(capsys, [command, "nowhere"], 1, "nowhere: expected the folder of a run, got none there")
    fails(capsys, [command, str(tmp_path)], 1, "expected the folder of a run, got one without config.yaml")


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"", "copy it anew, or train again"),
        (b"\x00" * 100, "copy it anew, or train again"),
        (b"PK\x03\x04 a torch.save file", "got a pickle"),
        (b"\x80\x04 a pickle", "got a pickle"),
    ],
)
def test_bad_checkpoints(content: bytes, part: str, copy: Path, capsys: pytest.CaptureFixture[str]):
    (copy / "model.safetensors").write_bytes(content)
    before = contents(copy)
    fails(capsys, ["evaluate", str(copy)], 1, "model.safetensors: expected safetensors", part)
    fails(capsys, ["encode", str(copy), "test"], 1, part)
    assert contents(copy) == before
    assert [path.name for path in Path().iterdir()] == ["copy"]


def test_truncated_checkpoint(copy: Path, capsys: pytest.CaptureFixture[str]):
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    fails(capsys, ["sample", str(copy)], 1, "model.safetensors: expected safetensors, got")


def test_missing_checkpoint(copy: Path, capsys: pytest.CaptureFixture[str]):
    (copy / "model.safetensors").unlink()
    fails(
        capsys,
        ["sample", str(copy)],
        1,
        "model.safetensors: expected a file, found none; has the run saved a model yet?",
    )
