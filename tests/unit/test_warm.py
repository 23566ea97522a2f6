"""A fit that begins at the weights of another run: its data are read as that run's, and it says where it came from."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import curvae
from curvae import training
from curvae.data import DataError, DataWarning
from curvae.training import RunError, fit_from
from curvae.training.loop.checkpoint import Session
from training_toys import Toy, data_of

pandas = pytest.importorskip("pandas")

OPTIONS: dict[str, Any] = {"epochs": 2, "progress": False, "device": "cpu"}
NAMES = ["u", "g", "n"]


def frame(seed: int, rows: int = 120) -> Any:
    random = np.random.default_rng(seed)
    columns = {"u": random.normal(1000, 10, rows), "g": random.normal(size=rows), "n": random.poisson(4, rows)}
    return pandas.DataFrame(columns | {"class": np.array(["cat", "dog"] * (rows // 2))})


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> "curvae.Fitted":
    """A run on a frame; read, never written."""
    out = tmp_path_factory.mktemp("warm") / "a"
    return curvae.fit("vae", frame(0), latent=2, hidden=8, label="class", out=out, **OPTIONS)


def test_it_begins_at_the_weights_of_the_run(earlier: "curvae.Fitted", tmp_path: Path, monkeypatch):
    """Its linear start is left out, its units are the run's, and the run stays as it was."""
    began, before = [], {name: value.clone() for name, value in earlier.system.state_dict().items()}
    begin = Session.begin

    def begun(self):
        began.append({name: value.clone() for name, value in self.system.state_dict().items()})
        begin(self)

    monkeypatch.setattr(Session, "begin", begun)
    new = frame(1)[["n", "class", "g", "u"]].assign(g=3 * frame(1)["g"])
    found = curvae.fit(earlier, new, out=tmp_path / "b", **OPTIONS)
    for name, value in before.items():
        assert torch.equal(began[0][name], value)
        assert torch.equal(earlier.system.state_dict()[name], value)
    assert found.run.digest() != earlier.run.digest()
    assert found.schema.names == ("u", "g", "n")
    assert found.schema.vocabulary == ("cat", "dog")
    x = torch.tensor([[1000.0, 1.0, 3.0]])
    assert torch.equal(found.transform()(x), earlier.transform()(x))
    assert found.run.data().train.x.std(0)[1] > 2.5
    assert len(found.run.data().train) == 84


def test_it_says_where_it_came_from(earlier: "curvae.Fitted", tmp_path: Path):
    found = curvae.fit(earlier, frame(1), out=tmp_path / "b", **OPTIONS)
    assert found.run.config.get("warm_start") == {"run": str(earlier.path), "weights": earlier.run.digest()}
    assert found.run.config["system"] == earlier.run.config["system"]
    assert found.run.config.get("replayable") is False
    assert curvae.load(found.path).encode(frame(1)).shape == (120, 7)


def test_it_is_no_worse_than_the_run_on_its_rows(earlier: "curvae.Fitted", tmp_path: Path):
    """Where it starts is a candidate: a rate that ruins everything leaves the weights of the run."""
    options = OPTIONS | {"learning_rate": 5.0, "schedule": "constant", "clip": None}
    found = curvae.fit(earlier, frame(1), out=tmp_path / "b", **options)
    assert found.run.digest() == earlier.run.digest()


def test_it_goes_on_where_it_was_cut_off(earlier: "curvae.Fitted", tmp_path: Path, monkeypatch):
    whole = curvae.fit(earlier, frame(1), out=tmp_path / "whole", **OPTIONS)
    finish = Session.save_round
    with monkeypatch.context() as patched:

        def cut(self, *args):
            finish(self, *args)
            self.save(args[0])
            raise KeyboardInterrupt

        patched.setattr(Session, "save_round", cut)
        with pytest.raises(KeyboardInterrupt):
            curvae.fit(earlier, frame(1), out=tmp_path / "cut", **OPTIONS)
    found = curvae.fit(earlier, frame(1), out=tmp_path / "cut", **OPTIONS)
    assert found.metrics()["validation_bound"] == whole.metrics()["validation_bound"]
    assert found.run.digest() == whole.run.digest()


def test_other_weights_do_not_go_on_with_it(earlier: "curvae.Fitted", tmp_path: Path):
    mine = curvae.fit(earlier, frame(1), out=tmp_path / "a", **OPTIONS)
    curvae.fit(mine, frame(2), out=tmp_path / "b", **OPTIONS)
    training.train_on(mine.run, epochs=2, learning_rate=0.05, progress=False)
    with pytest.raises(RunError, match=r"another configuration \(warm_start.weights was"):
        curvae.fit(curvae.load(tmp_path / "a", data=mine.run.memory), frame(2), out=tmp_path / "b", **OPTIONS)


def test_a_file_is_opened_again(earlier: "curvae.Fitted", tmp_path: Path):
    """By the schema of the run, with the columns in another order and one too many; moved together, it is found."""
    path = tmp_path / "one" / "new.csv"
    path.parent.mkdir()
    frame(3).assign(extra=1.0)[["extra", "n", "class", "u", "g"]].to_csv(path, index=False)
    with pytest.warns(DataWarning, match="ignored 'extra'"):
        found = curvae.fit(earlier, path, out=tmp_path / "one" / "b", split_seed=4, **OPTIONS)
    data = found.run.data()
    path.parent.rename(tmp_path / "two")
    again = curvae.load(tmp_path / "two" / "b").run.data()
    assert again.checksum == data.checksum
    assert torch.equal(again.train.x, data.train.x)
    assert again.schema.names == data.schema.names == ("u", "g", "n")
    assert again.spec == data.spec
    assert again.test.label is not None
    assert data.test.label is not None
    assert torch.equal(again.test.label, data.test.label)
    assert curvae.evaluate(tmp_path / "two" / "b", samples=20, limit=5, progress=False).count == 5
    assert training.train_on(tmp_path / "two" / "b", epochs=1, progress=False).state == "finished"


def test_a_known_set_in_the_same_unit(tmp_path: Path):
    digits = curvae.fit("vae", "digits", latent=2, hidden=8, binarize="static", out=tmp_path / "a", **OPTIONS)
    found = curvae.fit(digits, "digits", split_seed=7, out=tmp_path / "b", **OPTIONS)
    assert found.schema.spec.support == "binary"
    again = curvae.load(tmp_path / "b").run.data()
    assert again.spec == digits.schema.spec
    assert set(again.train.x.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(again.train.raw, digits.run.data().train.raw)


def test_pictures_in_another_unit_are_refused(tmp_path: Path):
    digits = curvae.fit("vae", "digits", latent=2, hidden=8, out=tmp_path / "a", **OPTIONS)
    pictures = np.random.default_rng(0).random((60, 8, 8))
    with pytest.raises(DataError, match=r"x: expected pictures in whole numbers \(uint8\), as in the run, got float64"):
        curvae.fit(digits, pictures, out=tmp_path / "b", **OPTIONS)
    found = curvae.fit(digits, (16 * pictures).astype("uint8"), out=tmp_path / "b", **OPTIONS)
    assert curvae.load(found.path, data=found.run.memory).run.data().train.x.abs().max() <= 1
    binary = curvae.fit("vae", "digits", latent=2, hidden=8, binarize="static", out=tmp_path / "c", **OPTIONS)
    with pytest.raises(DataError, match="expected binary data of shape"):
        curvae.data.like_set(digits.run.earlier()._replace(schema=binary.schema), "digits")


def test_kinds_hold_both(earlier: "curvae.Fitted", tmp_path: Path):
    """A count that has fractions now is drawn with fractions."""
    new = frame(1).assign(n=np.linspace(0.1, 5, 120))
    found = curvae.fit(earlier, new, out=tmp_path / "b", **OPTIONS)
    assert [column.kind for column in earlier.schema.features] == ["positive", "real", "count"]
    assert [column.kind for column in found.schema.features] == ["positive", "real", "real"]
    assert (found.sample(20)["n"] % 1 != 0).any()
    assert (earlier.sample(20)["n"] % 1 == 0).all()


def test_whole_numbers_that_are_none_any_more_come_back_as_fractions(tmp_path: Path):
    random = np.random.default_rng(0)
    old = random.integers(-9, 9, (100, 2))
    run = curvae.fit("vae", old, latent=1, hidden=8, out=tmp_path / "a", **OPTIONS)
    found = curvae.fit(run, pandas.DataFrame(old / 2), out=tmp_path / "b", **OPTIONS)
    assert [column.dtype for column in run.schema.features] == ["int64"] * 2
    assert [column.dtype for column in found.schema.features] == ["float64"] * 2
    assert (found.sample(20) % 1 != 0).to_numpy().any()


@pytest.mark.parametrize(
    ("new", "message"),
    [
        (frame(1).drop(columns="g"), "x: expected the run's columns u, g, n, but g is missing among u, n, class"),
        (frame(1).rename(columns={"g": "r"}), "but g is missing among u, r, n, class; name them so"),
        (np.zeros((50, 2)), "x: expected 3 columns, u, g, n, got 2"),
        (frame(1).assign(g="red"), "'g'"),
    ],
)
def test_columns_that_do_not_fit_are_one_line(earlier: "curvae.Fitted", tmp_path: Path, new: Any, message: str):
    with pytest.raises(DataError, match=message) as error:
        curvae.fit(earlier, new, out=tmp_path / "b", **OPTIONS)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "b").exists()


def test_misuse(earlier: "curvae.Fitted", tmp_path: Path):
    for options, message in (
        ({"restarts": 2}, "restarts: expected 1 with a system that has its weights, got 2"),
        ({"latent": 3}, "expected an option of the system or the data, got 'latent'"),
        ({"standardize": False}, "expected an option of the system or the data, got 'standardize'"),
    ):
        with pytest.raises(ValueError, match=message):
            curvae.fit(earlier, frame(1), out=tmp_path / "b", **options, **OPTIONS)
    with pytest.raises(ValueError, match="data: expected rows, a file or a known set, read as those of the run"):
        curvae.fit(earlier, data_of(), out=tmp_path / "b", **OPTIONS)
    assert list(tmp_path.iterdir()) == []


def test_what_was_kept_for_each_example_begins_anew(tmp_path: Path):
    """Of 50 rows then, of 80 now: a stage that does not yet remember sees none."""
    system = Toy()
    run = training.fit(system, data_of(), batch_size=50, out=tmp_path / "a", **OPTIONS)
    assert len(system.visits) == 50
    run = training.RunFolder(run.path, data_of(), system)
    seen = []
    prepare = Toy.size
    Toy.size = lambda self, data: (seen.append(len(self.visits)), prepare(self, data))[1]
    try:
        found = fit_from(run, data_of(80), out=tmp_path / "b", batch_size=80, **OPTIONS)
    finally:
        Toy.size = prepare
    assert seen == [0]
    assert len(training.load(found.path, Toy()).get_buffer("visits")) == 80
    assert len(system.visits) == 50
