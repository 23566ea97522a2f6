"""The last fit, on all rows: as long as an earlier run took to its best, in its units, nothing held out or claimed."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import curvae
from curvae.data import DataError, from_array, on_all_rows, reopen
from curvae.report import write_report
from curvae.training import RunError, RunFolder, refit
from curvae.training.fits.refit import updates_at_best
from curvae.training.loop.checkpoint import Session
from curvae.typing import Batch

OPTIONS: dict[str, Any] = {"progress": False, "device": "cpu"}
SIZES = {"latent": 2, "hidden": 8}


@pytest.fixture(scope="module")
def earlier(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run on a file; read, never written."""
    folder = tmp_path_factory.mktemp("refit")
    rows = np.random.default_rng(0).normal(size=(120, 2)) @ np.random.default_rng(1).normal(size=(2, 5))
    np.savetxt(folder / "a.csv", rows + 0.3, delimiter=",", header="a,b,c,d,e", comments="")
    return curvae.fit("vlae", folder / "a.csv", epochs=6, out=folder / "run", **SIZES, **OPTIONS).run


def test_all_rows_are_in_training_once():
    x = torch.arange(60.0).reshape(30, 2)
    weights = torch.arange(1.0, 31)
    table = np.concatenate([x, weights.unsqueeze(1)], 1)
    data = from_array(table, np.arange(30), weights="2")
    every = on_all_rows(data)
    assert every.train.row is not None
    assert every.train.label is not None
    assert sorted(every.train.row.tolist()) == list(range(30))
    raw = every.train.raw[:]
    assert torch.equal(raw[every.train.row.argsort()].float(), x)
    assert torch.equal(every.train.row, every.train.label)
    assert every.train.context is not None
    assert every.train.context.weight is not None
    assert torch.equal(every.train.context.weight, weights[every.train.row])
    assert every.train.training
    assert every.checksum != data.checksum
    with pytest.raises(DataError, match="expected data of which some are held out"):
        on_all_rows(every)


def test_its_data_are_opened_again(earlier: RunFolder):
    data = on_all_rows(earlier.data())
    again = reopen(data.recipe, data.transform, data.checksum, data.schema, earlier.path)
    assert torch.equal(again.train.x, data.train.x)
    assert not again.held_out
    with pytest.raises(DataError, match="checksum"):
        reopen(data.recipe, data.transform, earlier.data().checksum, data.schema, earlier.path)


def test_rows_stay_in_their_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for module in ("readers", "tables.mapped"):
        monkeypatch.setattr(f"curvae.data.{module}.LEAST", 1)
    x = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    np.save(tmp_path / "a.npy", x)
    data = curvae.data.from_file(tmp_path / "a.npy", standardize=False)
    every = on_all_rows(data)
    assert not isinstance(every.train.raw, torch.Tensor)
    assert np.array_equal(every.train.raw[:].numpy(), x)
    assert every.train.row is not None
    assert every.train.row.tolist() == list(range(40))
    np.save(tmp_path / "b.npy", x)
    apart = curvae.data.from_file(tmp_path / "a.npy", test=tmp_path / "b.npy", standardize=False)
    with pytest.raises(DataError, match="in one file"):
        on_all_rows(apart)


def test_it_takes_the_updates_of_the_best_and_keeps_the_last(
    earlier: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    begun, begin = [], Session.begin

    def first(self: Session) -> None:
        begun.append({name: value.clone() for name, value in self.system.state_dict().items()})
        begin(self)

    monkeypatch.setattr(Session, "begin", first)
    found = refit(earlier, out=tmp_path / "all", progress=False)
    again = refit(earlier.path, out=tmp_path / "again", progress=False)
    assert found.digest() == again.digest() != earlier.digest()
    updates = updates_at_best(earlier)
    assert found.config["training"]["max_updates"] == found.metrics()["step"][-1] == updates
    assert found.config.get("refit") == {"run": str(earlier.path), "weights": earlier.digest()}
    assert found.data().transform.fingerprint == earlier.data().transform.fingerprint
    saved = [each for each in found.system().state_dict().values() if each.is_floating_point()]
    start = [each for each in begun[0].values() if each.is_floating_point()]
    assert any(not torch.equal(one, other) for one, other in zip(saved, start, strict=True))
    with pytest.raises(RunError, match="refit that before it"):
        refit(found)


def test_last_weights_are_kept_though_others_were_better(
    earlier: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A rate that ruins everything: with rows held out the start is kept, and there is nothing to refit."""
    bad = earlier.path.parent / "bad"
    options = {"learning_rate": 5.0, "schedule": "constant", "clip": None, "patience": 0, "out": bad}
    run = curvae.fit("vae", earlier.path.parent / "a.csv", epochs=3, **options, **SIZES, **OPTIONS).run
    with pytest.raises(RunError, match="better than its start"):
        refit(run, out=tmp_path / "all")
    assert not (tmp_path / "all").exists()
    monkeypatch.setattr("curvae.training.fits.refit.updates_at_best", lambda run: 3)
    ruined = refit(run, out=tmp_path / "all", progress=False)
    rows = ruined.data().validation.x
    with torch.no_grad():
        first, last = (each.system().bound(Batch.of(rows)).value.mean() for each in (run, ruined))
    assert last < first - 1


@pytest.mark.parametrize(
    ("bounds", "best", "expected"),
    [((1.0, 3.0, 2.0), 3.0, 20), ((1.0, 2.0, 3.0), 3.0, 30), ((1.0, 2.0, 3.0), 4.0, 0), ((np.nan, 2.0, 1.0), 2.0, 20)],
)
def test_which_update_was_the_best(
    earlier: RunFolder, monkeypatch: pytest.MonkeyPatch, bounds: tuple[float, ...], best: float, expected: int
):
    """Planted metrics after a first stage of 0 updates; a stage that began at its best has the updates before it."""
    for before in (0, 5):
        rows = {
            "stage": ["first"] * (before > 0) + ["last"] * 3,
            "step": [5] * (before > 0) + [before + s for s in (10, 20, 30)],
        }
        rows |= {name: [9.0] * (before > 0) + list(bounds) for name in ("validation_bound", "validation_surrogate")}
        monkeypatch.setattr(RunFolder, "metrics", lambda self, rows=rows: rows)
        monkeypatch.setattr(RunFolder, "status", {"best": best})
        if before + expected:
            assert updates_at_best(earlier) == before + expected
        else:
            with pytest.raises(RunError, match="better than its start"):
                updates_at_best(earlier)


def test_nothing_is_claimed_of_new_rows(earlier: RunFolder, tmp_path: Path):
    run = refit(earlier, out=tmp_path / "all", progress=False)
    with pytest.raises(ValueError, match=f"expected held-out rows.*evaluate {earlier.path}"):
        curvae.evaluate(run, samples=20, progress=False)
    assert "none is held out" in write_report(run.path).read_text()
    other = curvae.evaluate(run, data=earlier.data(), samples=20, progress=False)
    assert other.count == 18
    fitted = curvae.load(run.path)
    assert fitted.score(earlier.data().test.raw[:3].numpy()).log_likelihood.shape == (3,)
