"""What a run would take, told before it is begun."""

import re
from pathlib import Path

import pytest
import torch

import curvae
from command_line import fails, says
from curvae.training.fits.rehearsal import rehearse
from curvae.training.setup.settings import TrainingSettings

WORDS = ("fit", "vlae", "digits", "--latent", "2", "--hidden", "8", "--dry-run")


def test_it_says_what_a_run_would_take_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    out = says(capsys, *WORDS, "--epochs", "10", "--out", "run")
    assert list(tmp_path.iterdir()) == []
    for part in ("Data(digits: ", " parameters, ", "stage vae", "stage laplace", "time ", "memory ", "128, 0.002"):
        assert part in out
    updates = [int(found) for found in re.findall(r"(\d+) updates of", out)]
    assert sum(updates) == 10 * 10  # 1,198 rows in batches of 128


def test_what_a_run_would_refuse_is_refused(capsys: pytest.CaptureFixture[str]):
    fails(capsys, [*WORDS, "--epochs", "1"], 1, "--epochs: expected 2 or more, one for each stage of training; got 1.")


def test_nothing_changes_and_nothing_is_drawn():
    data = curvae.data.load("digits")
    system = curvae.systems.vae(data.spec, latent=2, hidden=8)
    before, state = {name: value.clone() for name, value in system.state_dict().items()}, torch.get_rng_state()
    found = rehearse(system, data, TrainingSettings(minutes=1))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in system.state_dict().items())
    assert found.stages[0].updates == int(60 / found.stages[0].step)
    assert found.memory is None or found.memory > 1e7
