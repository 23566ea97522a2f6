"""Several starts of one recipe: the best is kept, what was cut off goes on, the folder says what each reached."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

import curvae
from curvae import training
from curvae.cli.fit_summary import print_fit_summary
from curvae.data import from_array
from curvae.report import write_report
from curvae.systems import vae
from curvae.training import RunError, RunFolder, fit_restarts
from curvae.training.errors import DivergedError, FinishedError
from curvae.training.fits import restarts as module
from curvae.training.loop.checkpoint import Session

OPTIONS = {"epochs": 3, "learning_rate": 0.01, "progress": False, "device": "cpu"}

STILL = {"epochs": 1, "learning_rate": 1e-9, "progress": False, "device": "cpu"}


def rows(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(120, 4)) @ np.random.default_rng(1).normal(size=(4, 4))


def started(data, out: Path, restarts: int = 3, **options) -> RunFolder:
    def build(seed: int):
        torch.manual_seed(seed)
        return vae(data.spec, latent=2, hidden=8, start="random")

    return fit_restarts(build, data, restarts, out=out, **(OPTIONS | options))


def test_the_best_start_is_kept_and_made_again_by_its_seed(tmp_path: Path):
    data = from_array(rows())
    run = started(data, tmp_path / "run", seed=5)
    alone = {}
    for seed in (5, 6, 7):
        torch.manual_seed(seed)
        system = vae(data.spec, latent=2, hidden=8, start="random")
        alone[seed] = training.fit(system, data, seed=seed, out=tmp_path / f"alone-{seed}", **OPTIONS)
    assert run.restarts == {seed: each.status["best"] for seed, each in alone.items()}
    best = max(alone, key=lambda seed: max(alone[seed].metrics()["validation_bound"]))
    assert len(set(run.restarts.values())) == 3
    assert run.config == alone[best].config
    assert run.digest() == alone[best].digest()
    assert run.metrics()["validation_bound"] == alone[best].metrics()["validation_bound"]
    assert run.schema == alone[best].schema
    assert run.state == "finished"
    assert {each.name for each in tmp_path.iterdir()} == {"run", *(f"alone-{seed}" for seed in alone)}
    loaded = curvae.load(run.path, data=data)
    assert loaded.run.restarts == run.restarts
    assert alone[best].restarts == {}


def test_a_fit_that_was_cut_off_goes_on_where_it_was(tmp_path: Path, monkeypatch):
    """Ctrl-C in the second start: the first is not trained again, the second goes on, all ends as it would have."""
    data, rounds = from_array(rows()), []
    whole = started(data, tmp_path / "whole")
    finish, save = Session.save_round, Session.save

    def cut(self, *args):
        finish(self, *args)
        save(self, args[0])
        rounds.append(self.path.name)
        if rounds[-2:] == ["seed-1", "seed-1"]:
            raise KeyboardInterrupt

    monkeypatch.setattr(Session, "save_round", cut)
    with pytest.raises(KeyboardInterrupt):
        started(data, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    rounds.append("cut")
    found = started(data, tmp_path / "run")
    assert rounds == ["seed-0"] * 3 + ["seed-1"] * 2 + ["cut", "seed-1"] + ["seed-2"] * 3
    assert found.restarts == whole.restarts
    assert found.digest() == whole.digest()
    assert not (tmp_path / "run.starts").exists()


@pytest.mark.parametrize("where", ["before it is moved", "after it was moved"])
def test_killed_while_the_best_is_moved_it_is_moved_by_the_next_call(tmp_path: Path, monkeypatch, where: str):
    data = from_array(rows())
    with monkeypatch.context() as patched:

        def dies(*args, **kwargs):
            raise KeyboardInterrupt

        patched.setattr(module, "move_run" if where.startswith("before") else "discard", dies)
        with pytest.raises(KeyboardInterrupt):
            started(data, tmp_path / "run")
    if where.startswith("before"):
        monkeypatch.setattr(Session, "save_round", None)  # nothing is trained again
        started(data, tmp_path / "run")
    else:
        with pytest.raises(FinishedError, match="is finished already"):
            started(data, tmp_path / "run")
    assert [each.name for each in tmp_path.iterdir()] == ["run"]
    assert len(RunFolder.open(tmp_path / "run", data).restarts) == 3


def test_what_is_there_already_is_left_untouched(tmp_path: Path):
    data = from_array(rows())
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="holds something that is not a run of curvae"):
        started(data, tmp_path / "run")
    assert [each.name for each in tmp_path.rglob("*")] == ["run", "thesis.txt"]


def test_other_options_do_not_go_on_with_the_starts_of_before(tmp_path: Path, monkeypatch):
    data = from_array(rows())
    with monkeypatch.context() as patched:

        def dies(*args):
            raise KeyboardInterrupt

        patched.setattr(module, "_kept", dies)
        with pytest.raises(KeyboardInterrupt):
            started(data, tmp_path / "run", restarts=1)
    with pytest.raises(RunError, match=r"another configuration \(training.epochs was 3, is 4\)"):
        started(data, tmp_path / "run", epochs=4)


def test_a_named_system_is_drawn_anew_for_each_start(tmp_path: Path):
    """A part that is given keeps its weights: every start begins from those, not from what an earlier one left."""
    x, hidden = rows(), {"latent": 2, "hidden": 8, "start": "random"}
    own = torch.nn.Linear(2, 4)
    before = own.weight.detach().clone()
    fitted = curvae.fit("vae", x, restarts=2, out=tmp_path / "run", decoder=own, **hidden, **OPTIONS)
    assert torch.equal(own.weight, before)
    alone = curvae.fit("vae", x, seed=1, out=tmp_path / "one", decoder=own, **hidden, **OPTIONS)
    assert fitted.run.restarts[1] == alone.run.status.get("best")
    assert fitted.encode(x).mean.shape == (120, 2)


def test_misuse_is_one_line(tmp_path: Path):
    data = from_array(rows())
    system = vae(data.spec, latent=2, hidden=8)
    with pytest.raises(
        ValueError, match="restarts: expected 1 with a system that has its weights, got 2; name a system"
    ):
        curvae.fit(system, data, restarts=2, out=tmp_path / "run", **OPTIONS)
    with pytest.raises(ValueError, match="restarts: expected 1 with several devices, got 3"):
        started(data, tmp_path / "run", devices=2)
    with pytest.raises(ValueError, match="restarts must be 1 or more; got 0"):
        curvae.fit("vae", rows(), restarts=0, out=tmp_path / "run", **OPTIONS)
    with pytest.raises(ValueError, match="seed: expected an integer"):
        started(data, tmp_path / "run", seed=2**32 - 2)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_a_start_is_left_alone(tmp_path: Path):
    """Beside the starts, before and after; and so are starts that another number of them left."""
    out = tmp_path / "run"
    others = tmp_path / "run.starts" / "seed-7", tmp_path / "run.starts" / "notes"
    for other in others:
        other.mkdir(parents=True)
        (other / "precious.txt").write_text("hi")
    data = from_array(rows())
    for _ in range(2):  # the second time it is finished already
        with suppress(FinishedError):
            started(data, out, restarts=2)
    assert all((other / "precious.txt").read_text() == "hi" for other in others)
    assert sorted(each.name for each in (tmp_path / "run.starts").iterdir()) == ["notes", "seed-7"]


def test_starts_are_judged_by_the_same_draws(tmp_path: Path):
    """All of them begin at one linear model, and an update of nothing leaves them there."""
    data = from_array(rows())
    bounds = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        run = training.fit(vae(data.spec, latent=2, hidden=8), data, seed=seed, out=tmp_path / f"{seed}", **STILL)
        bounds.append(run.status["best"])
    assert bounds[0] == pytest.approx(bounds[1], abs=1e-5)


def test_few_rows_are_judged_by_several_draws(tmp_path: Path):
    """18 rows by one draw each have a deviation of some tenths of a nat; by 28 draws a fifth of it."""
    data = from_array(rows())
    torch.manual_seed(0)
    system = vae(data.spec, latent=2, hidden=8)
    run = training.fit(system, data, seed=0, out=tmp_path / "run", **STILL)
    batch = data.validation.batch(torch.arange(len(data.validation)))
    single = torch.stack([system.bound(batch).value.mean() for _ in range(200)]).detach()
    assert abs(run.status["best"] - single.mean()) < 5 * single.std() / 28**0.5 + 1e-3
    assert single.std() > 0.02


def test_counts_and_folders_are_looked_at(tmp_path: Path):
    for restarts, message in ((True, "must be a whole number; got True"), (1001, "1,000 or fewer")):
        with pytest.raises(ValueError, match=message):
            started(from_array(rows()), tmp_path / "run", restarts=restarts)
    with pytest.raises(ValueError, match=r"expected the name of a folder, got '\.'"):
        started(from_array(rows()), Path())
    with pytest.raises(ValueError, match=r"patience: .* got True"):
        started(from_array(rows()), tmp_path / "run", patience=True)


def some_diverge(data, out: Path, bad: set[int], restarts: int = 3) -> RunFolder:
    """Starts with these seeds have an encoder that is not finite once it is trained."""

    def build(seed: int):
        torch.manual_seed(seed)
        system = vae(data.spec, latent=2, hidden=8, start="random")
        if seed in bad:
            system.model.decoder.register_full_backward_hook(lambda module, given, _: (given[0] * torch.nan,))
        return system

    return fit_restarts(build, data, restarts, out=out, **OPTIONS)


def test_a_start_that_diverges_is_passed_over(tmp_path: Path, capsys):
    data = from_array(rows())
    run = some_diverge(data, tmp_path / "run", bad={1})
    assert run.restarts[1] == -np.inf
    assert np.isfinite([run.restarts[0], run.restarts[2]]).all()
    assert run.status["best"] == max(run.restarts.values())
    assert "start with seed 1 is passed over: training stopped" in capsys.readouterr().err
    assert [each.name for each in tmp_path.iterdir()] == ["run"]
    print_fit_summary(run)
    assert "diverged (seed 1)" in capsys.readouterr().out


def test_where_all_starts_diverge_it_says_so(tmp_path: Path):
    with pytest.raises(DivergedError, match="expected one of 2 starts to end, got none"):
        some_diverge(from_array(rows()), tmp_path / "run", bad={0, 1}, restarts=2)
    assert not (tmp_path / "run").exists()


def test_a_single_fit_does_not_get_in_the_way_of_starts(tmp_path: Path, monkeypatch):
    data = from_array(rows())
    with monkeypatch.context() as patched:

        def dies(*args):
            raise KeyboardInterrupt

        patched.setattr(module, "_kept", dies)
        with pytest.raises(KeyboardInterrupt):
            started(data, tmp_path / "run", restarts=2)
    system = vae(data.spec, latent=2, hidden=8)
    with pytest.raises(RunError, match=r"run\.starts holds starts that have not ended; go on with them"):
        training.fit(system, data, out=tmp_path / "run", **OPTIONS)
    assert not (tmp_path / "run").exists()
    assert len(started(data, tmp_path / "run", restarts=2).restarts) == 2


def test_the_report_names_the_starts(tmp_path: Path):
    run = started(from_array(rows()), tmp_path / "run", restarts=2)
    assert "2, the best is kept" in write_report(run.path).read_text()
