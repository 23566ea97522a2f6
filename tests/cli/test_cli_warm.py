"""``curvae fit --from RUN DATA``: weights of one run, rows of another file."""

import shlex
from pathlib import Path

import numpy as np
import pytest
import yaml

from command_line import contents, fails, numbers, says
from curvae.cli import main
from curvae.training import RunFolder

FEW = ["--epochs", "2", "--no-progress"]


def write(path: str, header: str = "class,r,u,g", scale: float = 1.0) -> None:
    rows = scale * np.random.default_rng(1).normal(size=(80, 3))
    lines = ["STAR," + ",".join(f"{value:.4f}" for value in row) for row in rows]
    Path(path).write_text("\n".join([header, *lines]) + "\n")


def test_a_run_on_new_rows(table_run: Path, capsys: pytest.CaptureFixture[str]):
    write("new.csv", scale=5.0)
    before = contents(table_run)
    out = says(capsys, "fit", "--from", str(table_run), "new.csv", *FEW, "--split-seed", "3", "--seed", "2")
    assert out.endswith("run: runs/vae-new-1\nnext: curvae evaluate runs/vae-new-1\n")
    assert contents(table_run) == before
    run, earlier = RunFolder.open("runs/vae-new-1"), RunFolder.open(table_run)
    assert run.config.get("warm_start") == {"run": str(table_run), "weights": earlier.digest()}
    assert run.config["training"]["seed"] == 2
    assert run.schema.names == ("u", "g", "r")
    assert run.data().train.x.std() > 3
    says(capsys, "evaluate", "runs/vae-new-1", "--samples", "20", "--no-progress")
    says(capsys, "fit", "--continue", "runs/vae-new-1", "--epochs", "1", "--no-progress")
    assert (RunFolder.open("runs/vae-new-1").config.get("warm_start") or {}).get("weights") == earlier.digest()


def test_ctrl_c_and_the_command_that_goes_on(
    table_run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    from curvae.training.loop.checkpoint import Session

    write("new.csv")
    finish = Session.save_round

    def stop(self: Session, *args: object, **kwargs: object) -> None:
        finish(self, *args, **kwargs)  # pyright: ignore[reportArgumentType]
        raise KeyboardInterrupt

    words = ["fit", "new.csv", f"--from={table_run}", *FEW]
    with monkeypatch.context() as patched:
        patched.setattr(Session, "save_round", stop)
        assert main(words) == 130
    again = capsys.readouterr().err.strip().removeprefix("curvae: interrupted: ").removesuffix(" goes on from here.")
    says(capsys, *shlex.split(again)[1:])
    says(capsys, *words, "--out", "whole")
    assert numbers(Path("runs/vae-new-1")) == numbers(Path("whole"))
    assert RunFolder.open("runs/vae-new-1").state == "finished"


def test_what_does_not_fit_is_one_line(table_run: Path, run: Path, capsys: pytest.CaptureFixture[str]):
    words = ["fit", "--from", str(table_run)]
    write("new.csv", "class,u,g,i")
    fails(capsys, [*words, "new.csv"], 1, "expected the run's columns u, g, r, but r is missing among class, u, g, i")
    fails(capsys, [*words, "nothing.csv"], 1, "nothing.csv")
    fails(capsys, [*words, "digits"], 1, "digits: expected real data of shape (3,)", "got real data of shape (1, 8, 8)")
    fails(capsys, ["fit", "--from", "nowhere", "new.csv"], 1, "nowhere: expected the folder of a run")
    fails(capsys, words, 2, "expected DATA too")
    fails(capsys, [*words, "new.csv", "--latent", "3"], 2, "--from: expected without --latent")
    fails(capsys, [*words, "new.csv", "--restarts", "3"], 2, "--from: expected without --restarts")
    assert not Path("runs").exists()


def test_its_configuration_alone_does_not_make_it_again(table_run: Path, capsys: pytest.CaptureFixture[str]):
    write("new.csv")
    says(capsys, "fit", "--from", str(table_run), "new.csv", *FEW, "--out", "new")
    assert yaml.safe_load(Path("new/config.yaml").read_text())["replayable"] is False
    fails(capsys, ["fit", "--config", "new", "--out", "b"], 2, "began at the weights of another run; say", "--from")


def test_help_says_how_data_are_read(capsys: pytest.CaptureFixture[str]):
    out = says(capsys, "fit", "--from", "runs/a", "new.csv", "--help")
    assert "--split-seed" in out
    assert "--standardize" not in out
    assert len(out.splitlines()) <= 54
    assert "--validation" in says(capsys, "fit", "--from", "runs/a", "digits", "--help")


def test_a_run_on_all_rows(table_run: Path, capsys: pytest.CaptureFixture[str]):
    out = says(capsys, "fit", "--refit", str(table_run), "--no-progress", "--out", "all")
    run = RunFolder.open("all")
    rows, updates = len(run.data().train), run.config["training"]["max_updates"]
    assert f"refit on all {rows} rows, {updates} updates; what it does on new rows: curvae evaluate {table_run}" in out
    fails(capsys, ["evaluate", "all"], 1, "expected held-out rows, got a run that was refit on all its rows")
    fails(capsys, ["fit", "--config", "all", "--out", "b"], 2, "say curvae fit --refit that RUN again")
    fails(capsys, ["fit", "--refit", str(table_run), "--latent", "3"], 2, "--refit: expected without --latent")
    fails(capsys, ["fit", "--refit", "all"], 1, "got one that was refit")
