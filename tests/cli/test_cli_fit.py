"""``curvae fit``: what it leaves, what it leaves alone, how it goes on; modules of the user's own."""

import errno
import importlib
import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

import curvae
from command_line import TINY, contents, fails, numbers, says
from curvae.cli import main

DECODER = """
import torch

class Decoder(torch.nn.Linear):
    '''Own.

    Args:
        latent: number of latent dimensions.
    '''

    def __init__(self, latent: int = 2, outputs: int = 64):
        super().__init__(latent, outputs)
"""


def test_fit_says_where_the_run_lies_and_what_is_next(capsys: pytest.CaptureFixture[str]):
    first, *_, run, following = says(capsys, "fit", "vae", "digits", *TINY).splitlines()
    assert first.startswith("validation, nats: bound ")
    assert "in closed form: PPCA, 2 latents " in first
    assert (run, following) == ("run: runs/vae-digits-1", "next: curvae evaluate runs/vae-digits-1")


def test_the_start_counts_as_the_best_where_training_only_loses(capsys: pytest.CaptureFixture[str]):
    words = ["--latent", "2", "--hidden", "16", "--max-updates", "60", "--learning-rate", "0.5", "--no-progress"]
    out = says(capsys, "fit", "vae", "digits", *words, "--out", "worse")
    best = json.loads(Path("worse/status.json").read_text())["best"]
    assert f"validation, nats: bound {best:.2f};" in out


@pytest.mark.parametrize("flag", ["--restarts 2", "--latent 3", "--config runs/b", "--continue=runs/b"])
def test_what_the_run_says_is_no_flag_of_a_fit_from_it(flag: str, capsys: pytest.CaptureFixture[str]):
    clash = flag.replace("=", " ").split()[0]
    words = ["fit", "--from", "runs/a", "digits", *flag.split()]
    said = {"--continue": "--continue: expected without --from"}.get(clash, f"--from: expected without {clash}")
    fails(capsys, words, 2, said)


def test_replay_gives_the_same_numbers(run: Path, capsys: pytest.CaptureFixture[str]):
    says(capsys, "fit", "--config", str(run / "config.yaml"), "--out", "again", "--no-progress")
    assert numbers(Path("again")) == numbers(run)
    assert (Path("again") / "config.yaml").read_bytes() == (run / "config.yaml").read_bytes()
    assert (Path("again") / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


def test_flags_override_a_configuration(run: Path, capsys: pytest.CaptureFixture[str]):
    printed = yaml.safe_load(
        says(capsys, "fit", "--config", str(run), "--latent", "3", "--seed", "5", "--print-config")
    )
    expected = yaml.safe_load((run / "config.yaml").read_text())
    expected["system"]["arguments"]["latent"] = 3
    expected["training"]["seed"] = 5
    assert printed == expected


def test_replay_of_a_file(table_run: Path, capsys: pytest.CaptureFixture[str]):
    says(capsys, "fit", "--config", str(table_run), "--out", "again", "--no-progress")
    assert (Path("again") / "config.yaml").read_bytes() == (table_run / "config.yaml").read_bytes()
    assert numbers(Path("again")) == numbers(table_run)


def table(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.random.default_rng(len(path.name)).normal(size=(60, 3))
    path.write_text("u,g,r\n" + "".join(",".join(f"{value:.4f}" for value in row) + "\n" for row in rows))


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Path:
    """The home of a run on data named from there, and this is another folder."""
    home = tmp_path / "home"
    table(home / "data" / "stars.csv")
    table(home / "data" / "test.csv")
    monkeypatch.chdir(home)
    says(capsys, "fit", "vae", "data/stars.csv", "--test", "data/test.csv", *TINY, "--out", "run")
    (tmp_path / "away").mkdir()
    monkeypatch.chdir(tmp_path / "away")
    return home


def test_replay_from_another_folder_finds_the_files(elsewhere: Path, capsys: pytest.CaptureFixture[str]):
    """Where they were, whatever is called the same here; and beside the run, if both were moved."""
    table(Path("data/stars.csv"))
    says(capsys, "fit", "--config", str(elsewhere / "run"), "--out", "again", "--no-progress")
    assert numbers(Path("again")) == numbers(elsewhere / "run")
    moved = elsewhere.rename("moved")
    says(capsys, "fit", "--config", str(moved / "run"), "--out", "third", "--no-progress")
    assert numbers(Path("third")) == numbers(moved / "run")
    data = yaml.safe_load((Path("third") / "config.yaml").read_text())["data"]
    assert data["path"] == str(moved.absolute() / "data" / "stars.csv")
    assert data["test"] == str(moved.absolute() / "data" / "test.csv")


def test_replay_without_its_files_says_where_they_were(elsewhere: Path, capsys: pytest.CaptureFixture[str]):
    (elsewhere / "data" / "stars.csv").unlink()
    words = ["fit", "--config", str(elsewhere / "run"), "--out", "again"]
    fails(capsys, words, 1, f"{elsewhere / 'data' / 'stars.csv'}: expected a file, got nothing there; check the path.")


def test_a_configuration_alone_finds_files_beside_it(elsewhere: Path, capsys: pytest.CaptureFixture[str]):
    config = (elsewhere / "run" / "config.yaml").rename(elsewhere / "c.yaml")
    says(capsys, "fit", "--config", str(config), "--out", "again", "--no-progress")
    assert numbers(Path("again")) == numbers(elsewhere / "run")
    shutil.copytree(elsewhere / "data", "data")
    says(capsys, "fit", "--config", str(config.rename("c.yaml")), "--out", "third", "--no-progress")
    assert (Path("third") / "config.yaml").read_bytes() == Path("c.yaml").read_bytes()


def test_a_finished_run_is_left_alone(copy: Path, capsys: pytest.CaptureFixture[str]):
    before = contents(copy)
    fails(capsys, ["fit", "vae", "digits", *TINY, "--out", str(copy)], 1, "--out: the run in", "is finished already")
    assert contents(copy) == before


def test_a_run_of_another_configuration_is_left_alone(copy: Path, capsys: pytest.CaptureFixture[str]):
    before = contents(copy)
    fails(capsys, ["fit", "vae", "digits", "--out", str(copy)], 1, "another configuration", "Choose another out.")
    assert contents(copy) == before


def test_a_folder_with_something_else_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    fails(capsys, ["fit", "vae", "digits", *TINY, "--out", "mine"], 1, "--out: mine holds something", "untouched")
    assert contents(tmp_path / "mine") == {"thesis.tex": b"years of work"}


def test_ctrl_c_and_the_command_that_goes_on(
    run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    from curvae.training.loop.checkpoint import Session

    finish = Session.save_round

    def stop(self: Session, *args: object, **kwargs: object) -> None:
        finish(self, *args, **kwargs)  # pyright: ignore[reportArgumentType]
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Session, "save_round", stop)
        assert main(["fit", "vae", "digits", *TINY, "--out", "cut"]) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "\ncurvae: interrupted: curvae fit --config cut --out cut goes on from here.\n"
    says(capsys, "fit", "--config", "cut", "--out", "cut", "--no-progress")
    assert numbers(Path("cut")) == numbers(run)


def test_full_disk(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    from curvae.io import atomic

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic.os, "replace", full)
    fails(capsys, ["fit", "vae", "digits", *TINY, "--out", "run"], 1, "No space left on device", "make room")
    assert not Path("run").exists()


def test_own_module(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "our_nets.py").write_text(DECODER)
    monkeypatch.syspath_prepend(str(tmp_path))
    words = ["fit", "vae", "digits", *TINY, "--decoder", "our_nets.Decoder", "--decoder.latent", "2", "--out", "own"]
    says(capsys, *words, noting="vae starts as it is: it has networks of your own")
    decoder = yaml.safe_load(Path("own/config.yaml").read_text())["system"]["arguments"]["decoder"]
    assert decoder == {"class_path": "our_nets.Decoder", "init_args": {"latent": 2, "outputs": 64}}
    fails(capsys, ["sample", "own"], 1, "has a part of your own, our_nets.Decoder; --trust our_nets")
    says(capsys, "sample", "own", "--trust", "our_nets")
    for config in ("own", "own/config.yaml"):
        words = ["fit", "--config", config, "--out", "again"]
        fails(capsys, words, 1, f"{config}: has a part of your own, our_nets.Decoder; --trust our_nets")
    again = ["fit", "--config", "own", "--out", "again", "--trust", "our_nets", "--no-progress"]
    says(capsys, *again, noting="starts as it is")
    assert numbers(Path("again")) == numbers(Path("own"))


def test_an_own_module_from_python_is_named(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """No file says how it was made, however much it is trusted."""
    (tmp_path / "our_nets.py").write_text(DECODER)
    monkeypatch.syspath_prepend(str(tmp_path))
    own = importlib.import_module("our_nets").Decoder(2)
    data = curvae.data.load("digits")
    curvae.fit(curvae.systems.vae(data.spec, latent=2, decoder=own), data, max_updates=2, out="own", progress=False)
    line = "has parts that a file cannot describe (decoder=our_nets.Decoder); make the system as you did then"
    fails(capsys, ["sample", "own", "--trust", "our_nets"], 1, line)


SPY = "open('imported', 'w').close()\n"


@pytest.mark.parametrize("decoder", ["spy.Decoder", {"class_path": "spy.Decoder"}, [{"class_path": "spy.Decoder"}]])
def test_a_configuration_alone_imports_nothing(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], decoder: object
):
    (tmp_path / "spy.py").write_text(SPY + DECODER)
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["system"]["arguments"]["decoder"] = decoder
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(config))
    for words in (["fit", "--config", "c.yaml"], ["fit", "--config", "c.yaml", "--help"]):
        fails(capsys, words, 1, "c.yaml: has a part of your own, spy.Decoder; --trust spy imports it")
    assert not (tmp_path / "imported").exists()


@pytest.mark.parametrize("text", ["a: [", "&a [*a]", "system: 1", "system: {}\ndata: {}", "- 1", "[" * 9999])
def test_what_is_no_configuration_is_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str):
    (tmp_path / "c.yaml").write_text(text)
    fails(capsys, ["fit", "--config", "c.yaml"], 2, "--config: c.yaml: expected", "the config.yaml of a run")


def test_restarts_keep_the_best_and_say_what_each_reached(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Cut off in the second start, the command that is named goes on; a moved run still finds its file beside it."""
    from curvae.training import RunFolder
    from curvae.training.loop.checkpoint import Session

    rows = np.random.default_rng(0).normal(size=(120, 3)) @ np.random.default_rng(1).normal(size=(3, 3))
    Path("a.csv").write_text("u,g,r\n" + "\n".join(",".join(map(str, row)) for row in rows))
    words = ["fit", "vae", "a.csv", *TINY, "--start", "random", "--seed", "3"]
    finish = Session.save_round

    def stop(self: Session, *args: object, **kwargs: object) -> None:
        finish(self, *args, **kwargs)  # pyright: ignore[reportArgumentType]
        if self.path.name == "seed-4":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Session, "save_round", stop)
        assert main([*words, "--restarts", "2"]) == 130
    again = capsys.readouterr().err.strip().removeprefix("curvae: interrupted: ").removesuffix(" goes on from here.")
    assert again.endswith("--restarts 2 --out runs/vae-a-1")
    out = says(capsys, *shlex.split(again)[1:])
    assert "starts, best validation bound in nats: " in out
    assert "(seed 3), " in out
    says(capsys, *words, "--out", "runs/alone")
    kept, alone = RunFolder.open("runs/vae-a-1"), RunFolder.open("runs/alone")
    assert list(kept.restarts) == [3, 4]
    assert kept.schema.origins == alone.schema.origins
    several = ["fit", "vae", "a.csv", "--latent", "1:2", "--restarts", "2"]
    fails(capsys, several, 2, "--restarts: expected 1 with several numbers of latents, got 2")


def test_an_argument_that_is_gone_is_left_out_and_named(capsys: pytest.CaptureFixture[str]):
    """``budget`` was one of vlae in curvae 0.1.0."""
    system = {"name": "vlae", "arguments": {"latent": 2, "budget": True}}
    Path("old.yaml").write_text(yaml.safe_dump({"system": system, "data": {"name": "digits"}, "training": {}}))
    assert main(["fit", "--config", "old.yaml", "--print-config"]) == 0
    printed = capsys.readouterr()
    assert "--config: vlae has no budget any more; what is trained is vlae without it." in printed.err
    assert "budget" not in printed.out
