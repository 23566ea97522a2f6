"""A run folder as a whole: nothing in it that was not written so, and nothing half of one state, half of another."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

import curvae
from curvae import evaluation, report, training
from curvae.evaluation import compare, evaluate, read_evaluation
from curvae.systems import System, vae
from curvae.training import RunError, RunFolder
from curvae.training.loop.checkpoint import Session
from curvae.training.run import files, layout, weights
from curvae.training.run.metrics import MetricsWriter
from folders import folder, reseal, rewrite
from training_toys import Toy, content, data_of, not_finite

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
import fuzz_run_folder


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    data = data_of()
    return folder(tmp_path / "run", vae(data.spec, latent=2, hidden=8), data)


def opened(run: RunFolder) -> RunFolder:
    return RunFolder.open(run.path, run.memory)


def test_every_file_of_a_run_has_its_place_in_the_layout(tmp_path: Path):
    run = training.fit(vae(data_of().spec, latent=2, hidden=8), data_of(), epochs=2, out=tmp_path / "run")
    evaluate(run, samples=30, limit=4, progress=False)
    report.write_report(run.path)
    known = {*layout.LAYOUT, layout.EVALUATIONS, layout.SNAPSHOTS}
    assert {each.name for each in run.path.iterdir()} <= known


@pytest.mark.parametrize("change", ["bit", "swap", "type", "other run", "cast"])
def test_other_weights_are_never_loaded(run: RunFolder, tmp_path: Path, change: str):
    path = run.path / "model.safetensors"
    whole, tensors = path.read_bytes(), weights.read_tensors(path)
    names = [name for name, value in tensors.items() if value.shape == (8,)]
    if change == "bit":
        path.write_bytes(whole[:-3] + bytes([whole[-3] ^ 1]) + whole[-2:])
    elif change == "swap":
        path.write_bytes(weights.to_safetensors({**tensors, names[0]: tensors[names[1]], names[1]: tensors[names[0]]}))
    elif change == "type":
        path.write_bytes(whole.replace(b'"F32"', b'"I32"', 1))
    elif change == "cast":
        path.write_bytes(weights.to_safetensors({name: value.double() for name, value in tensors.items()}))
    else:
        data = data_of()
        other = folder(tmp_path / "other", vae(data.spec, latent=2, hidden=8), data)
        shutil.copy(other.path / "model.safetensors", path)
    assert path.read_bytes() != whole
    with pytest.raises(RunError, match=r"model.safetensors: expected the weights that model.json tells of"):
        training.load(run.path)


def test_in_format_1_what_can_be_checked_is(run: RunFolder):
    """It has no digest; types and shapes are those of the system, exactly."""
    fuzz_run_folder.first_format(run.path)
    path = run.path / "model.safetensors"
    tensors = weights.read_tensors(path)
    expected = run.trained.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in training.load(run.path).state_dict().items())
    path.write_bytes(path.read_bytes().replace(b'"F32"', b'"I32"', 1))
    with pytest.raises(RunError, match=r"expected torch.float32, got torch.int32"):
        training.load(run.path)
    first = next(name for name, value in tensors.items() if value.ndim == 2)
    path.write_bytes(weights.to_safetensors({**tensors, first: tensors[first][:1]}))
    with pytest.raises(RunError, match="expected shape"):
        training.load(run.path)


def test_a_run_of_format_1_is_read(run: RunFolder):
    evaluate(run, samples=30, progress=False)
    fuzz_run_folder.first_format(run.path)
    old = opened(run)
    assert old.evaluation.stale is None
    assert old.transform().fingerprint == run.memory.transform.fingerprint
    assert "without saying of which weights" in report.write_report(run.path).read_text()


@pytest.mark.parametrize("name", ["model.json", "transform.json", "transform.safetensors"])
def test_what_belongs_to_the_weights_is_what_was_written(run: RunFolder, name: str):
    path = run.path / name
    whole = path.read_bytes()
    changed = whole.replace(b'"hidden": 8', b'"hidden": 9').replace(b"Standardization", b"MeanSubtraction")
    path.write_bytes(changed if changed != whole else whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(RunError, match=rf"{name}: expected"):
        run.system() if name == "model.json" else run.transform()


def interrupted(monkeypatch: pytest.MonkeyPatch, at: int) -> None:
    """The ``at``-th file to be put in its place is not, nor what comes after."""
    original, count = os.replace, iter(range(1, 99))

    def replace(source: object, target: object) -> None:
        if next(count) >= at:
            raise KeyboardInterrupt
        original(source, target)

    monkeypatch.setattr(os, "replace", replace)


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_weights_are_the_old_ones_or_the_new_wherever_writing_ends(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, at: int
):
    new = {
        name: value + 1 if value.is_floating_point() else value
        for name, value in weights.read_weights(run.path)[1].items()
    }
    old = run.digest()
    with monkeypatch.context() as patched:
        interrupted(patched, at)
        if at < 4:
            with pytest.raises(KeyboardInterrupt):
                weights.write_weights(run.path, new)
        else:
            weights.write_weights(run.path, new)
    expected = old if at < 3 else files.digest(weights.to_safetensors(new))
    assert RunFolder(run.path).model().sha256 == expected
    newer = {name: value + 1 if value.is_floating_point() else value for name, value in new.items()}
    with monkeypatch.context() as patched:
        interrupted(patched, 2)
        with pytest.raises(KeyboardInterrupt):
            weights.write_weights(run.path, newer)
    assert RunFolder(run.path).model().sha256 == expected
    weights.write_weights(run.path, newer)
    assert len(layout.read_document(run.path, "model.json")["weights"]) == 1
    assert [each.name for each in run.path.iterdir() if each.name.startswith(".")] == []


@pytest.mark.parametrize("at", range(1, 7))
def test_an_evaluation_is_the_old_one_or_the_new_wherever_writing_ends(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, at: int
):
    first = evaluate(run, samples=30, progress=False)
    original, count = Path.replace, iter(range(1, 99))

    def moved(self: Path, target: Path) -> Path:
        if next(count) > at - 4:
            raise KeyboardInterrupt
        return original(self, target)

    with monkeypatch.context() as patched:
        if at < 4:
            interrupted(patched, at)
        else:
            patched.setattr(Path, "replace", moved)
        with pytest.raises(KeyboardInterrupt) if at < 6 else pytest.MonkeyPatch.context():
            evaluate(run, samples=31, progress=False)
    found = read_evaluation(run.path)
    assert found.result.samples == (30 if at < 4 else 31)
    assert found.arrays["draws"].tolist() == [found.result.samples] * len(found.arrays["index"])
    last = evaluate(run, samples=32, progress=False)
    assert read_evaluation(run.path).result == last != first
    assert [each.name for each in run.path.iterdir() if each.name.startswith(".")] == []


@pytest.mark.parametrize("name", ["evaluation.json", "evaluation.npz", "pictures.npz"])
def test_files_of_two_evaluations_are_refused_together(run: RunFolder, tmp_path: Path, name: str):
    evaluate(run, samples=30, progress=False)
    other = Path(shutil.copytree(run.path, tmp_path / "other"))
    evaluate(RunFolder(other, run.memory, run.trained), samples=31, progress=False)
    shutil.copy(other / name, run.path / name)
    for use in (
        lambda: report.write_report(run.path),
        lambda: compare([run.path, other]),
        lambda: opened(run).evaluation,
    ):
        with pytest.raises(RunError, match=r"expected the arrays that evaluation.json names, got those of another"):
            use()


def test_what_was_found_of_other_weights_is_stale(run: RunFolder, tmp_path: Path):
    evaluate(run, samples=30, progress=False)
    evaluation.gaps(run, data=2, steps=2, samples=20, progress=False)
    whole = Path(shutil.copytree(run.path, tmp_path / "whole"))
    value = read_evaluation(run.path).result.log_likelihood.value
    assert opened(run).evaluation.stale is False
    new = {
        name: part + 1 if part.is_floating_point() else part for name, part in weights.read_weights(run.path)[1].items()
    }
    weights.write_weights(run.path, new)
    assert opened(run).evaluation.stale is True
    with pytest.raises(RunError, match=r"stale: .* was evaluated on other weights; run `curvae evaluate"):
        compare([run.path, whole])
    page = report.write_report(run.path).read_text()
    assert "stale: it is of other weights than the run has now; run <code>curvae evaluate run</code> again" in page
    assert "run <code>curvae gaps run</code> again" in page
    assert f"{abs(value):.2f}"[:5] not in page


def test_an_evaluation_of_other_data_leaves_the_runs_own_alone(run: RunFolder, tmp_path: Path):
    evaluate(run, samples=30, progress=False)
    before = content(run.path)
    evaluate(run, samples=30, data=data_of(80), progress=False)
    evaluate(run, samples=30, split="validation", progress=False)
    after = content(run.path)
    assert {name: after[name] for name in before} == before
    found = opened(run).evaluations()
    assert [name.rpartition("-")[0] for name in found] == ["array-test", "array-validation"]
    assert [each.result.split for each in found.values()] == ["test", "validation"]


def test_readers_of_a_damaged_run_know_one_error(tmp_path: Path):
    """The small version of benchmarks/fuzz_run_folder.py, without pages."""
    said: list[str] = []
    counts = fuzz_run_folder.fuzz(60, 7, 0.0, said.append)
    assert said == []
    assert sum(number for line, number in counts.items() if line.startswith("cases")) == 60


@pytest.mark.parametrize("name", [name for name in layout.LAYOUT if name.endswith((".json", ".yaml"))])
def test_readers_say_which_file_and_how_to_mend_it(run: RunFolder, name: str):
    (run.path / name).write_text("[1, 2]")
    with pytest.raises(RunError, match=rf"{name}: expected names and values, got list; .*(anew|again)"):
        layout.read_document(run.path, name)


class Broken(nn.Linear):
    """A decoder that gives NaN in one column where it is told to, once training has begun."""

    def __init__(self, when: str):
        super().__init__(2, 3)
        self.when, self.begun = when, False

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        out = super().forward(z)
        self.begun = self.begun or (self.training and torch.is_grad_enabled() and len(z) > 20)
        broken = self.begun and (self.when == "always" or not self.training)
        return torch.cat([out[..., :2], out[..., 2:] * torch.nan], -1) if broken else out


def broken(when: str) -> System:
    return vae(data_of().spec, latent=2, hidden=8, decoder=Broken(when))


@pytest.mark.parametrize("when", ["always", "evaluation"])
def test_a_decoder_that_gives_nan_is_to_blame(tmp_path: Path, when: str):
    with pytest.raises(RunError, match=r"the output of model.decoder \(Broken\), column 2 of 3") as error:
        training.fit(broken(when), data_of(), epochs=2, out=tmp_path / "run", max_skipped=3)
    assert "\n" not in str(error.value)
    run = RunFolder.open(tmp_path / "run")
    assert run.state == "stopped"
    assert run.status["reason"] == str(error.value)


def test_a_run_whose_every_step_was_skipped_does_not_finish(tmp_path: Path):
    system = Toy()
    system.at = dict.fromkeys(range(1, 99), not_finite)
    with pytest.raises(RunError, match=r"after stage 'one': every step was skipped"):
        training.fit(system, data_of(), epochs=4, batch_size=50, out=tmp_path / "run")
    assert RunFolder.open(tmp_path / "run").state == "stopped"


def test_nan_is_never_best(tmp_path: Path):
    """The first epoch gives none; the second is kept, and what comes after it is compared with that."""
    run = training.fit(Toy(), data_of(), epochs=4, out=tmp_path / "run")
    session = Session(Toy(), run.path, MetricsWriter(run.path), writes=False)
    for score in (np.nan, np.inf, -3.0, np.nan, -2.0, -5.0):
        session.judge(score, passes=1)
    assert session.position.best == -2.0
    assert session.position.stale == 1


def test_values_beyond_float32_are_refused_by_row_and_column():
    x = np.random.default_rng(0).normal(size=(60, 3))
    x[7, 2] = 1.7e308
    with pytest.raises(curvae.data.DataError, match="the first in row 7, column 'r'; drop"):
        curvae.data.from_array(x, columns=["u", "g", "r"])
    x[7, 2] = 1e30
    data = curvae.data.from_array(x)
    with pytest.raises(curvae.data.DataError, match=r"raw: .* the first in row 1, column 0; drop"):
        curvae.data.ArrayTable(torch.tensor([[0.0, 0, 0], [1e200, 0, 0]], dtype=torch.float64), data.transform).x  # noqa: B018


def test_a_configuration_of_another_format_names_who_wrote_it(run: RunFolder):
    config = yaml.safe_load((run.path / "config.yaml").read_text())
    (run.path / "config.yaml").write_text(yaml.safe_dump(config | {"format": 3, "curvae": "9.1"}))
    with pytest.raises(RunError, match=r"expected format 1 or 2, got 3; read it with curvae 9.1, which wrote it"):
        RunFolder.open(run.path)


def test_an_evaluation_with_arrays_of_other_rows_is_refused(run: RunFolder):
    evaluate(run, samples=30, progress=False)
    reseal(run.path / "evaluation.json", {"count": 9})
    with pytest.raises(RunError, match=r"evaluation.npz: .* index: int64 \(10,\) for 9 rows; run `curvae evaluate"):
        read_evaluation(run.path)
    assert json.loads((run.path / "evaluation.json").read_text())["count"] == 9


def test_an_evaluation_with_values_whose_squares_overflow_is_refused(run: RunFolder):
    evaluate(run, samples=30, progress=False)
    found = read_evaluation(run.path).arrays["log_likelihood"]
    rewrite(run.path, log_likelihood=np.where(np.arange(len(found)) == 3, -np.inf, found))
    assert read_evaluation(run.path).arrays["log_likelihood"][3] == -np.inf
    rewrite(run.path, log_likelihood=np.where(np.arange(len(found)) == 3, -1e200, found))
    with pytest.raises(RunError, match=r"evaluation.npz: .* log_likelihood: a value beyond 1e\+150; run `curvae eval"):
        read_evaluation(run.path)


def test_a_killed_command_leaves_the_old_state_or_the_new(tmp_path: Path):
    """The small version of benchmarks/kill_run.py; in a process of its own, which forks."""
    script = Path(fuzz_run_folder.__file__).with_name("kill_run.py")
    command = [sys.executable, str(script), "--points", "1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
