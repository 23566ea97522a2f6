"""Run and load: what a folder gives back, and what is refused."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

import curvae
from curvae import training
from curvae.curvature import native
from curvae.systems import vae, vlae
from curvae.training import RunError
from curvae.training.run import weights
from folders import reseal
from training_toys import Toy, content, data_of

GLOBAL: dict[str, Path] = {}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> "curvae.RunFolder":
    data = curvae.data.load("digits")
    return training.fit(
        vlae(data.spec, latent=2, hidden=16), data, epochs=2, out=tmp_path_factory.mktemp("runs") / "run"
    )


@pytest.fixture
def folder(trained: "curvae.RunFolder", tmp_path: Path) -> Path:
    """A copy, to be damaged."""
    return Path(shutil.copytree(trained.path, tmp_path / "run"))


def test_the_folder_is_complete(trained: "curvae.RunFolder"):
    names = {each.name for each in trained.path.iterdir()}
    model, transform = {"model.safetensors", "model.json"}, {"transform.safetensors", "transform.json"}
    assert names == {"config.yaml", "environment.json", "metrics.csv", "schema.json", "status.json"} | model | transform
    assert trained.config["system"]["name"] == "vlae"
    assert trained.config["system"]["arguments"]["hidden"] == 16
    assert trained.config["replayable"]
    assert trained.environment["torch"] == torch.__version__
    assert trained.environment["curvature"] == native.kernel_in_use()
    assert trained.environment["data_checksum"] == trained.data().checksum
    assert yaml.safe_load((trained.path / "config.yaml").read_text())["training"]["epochs"] == 2


def test_a_run_opened_again_gives_the_same_back(trained: "curvae.RunFolder"):
    run, memory = curvae.RunFolder.open(trained.path), trained.data()
    data = run.data()
    assert data is not memory
    assert torch.equal(data.train.x, memory.train.x)
    assert torch.equal(run.transform()(memory.test.raw), memory.test.x)
    first, second = trained.system(), run.system()
    assert not second.training
    x = memory.test.x[:5]
    assert torch.equal(first.posterior(x).mean, second.posterior(x).mean)
    assert torch.equal(first.posterior(x).mean, training.load(trained.path).posterior(x).mean)
    assert curvae.RunFolder.open(run) is run


def test_the_configuration_makes_the_same_run_again(trained: "curvae.RunFolder", tmp_path: Path):
    from curvae import registry

    config = trained.config
    data = curvae.data.reopen(config["data"])
    torch.manual_seed(5)
    system = registry.build(config["system"]["name"], config["system"]["arguments"], data.spec)
    again = training.fit(system, data, **config["training"], out=tmp_path / "again")
    assert again.config == config


def test_an_array_must_be_passed_again(tmp_path: Path):
    data = data_of()
    run = training.fit(vae(data.spec, latent=2, hidden=8), data, epochs=1, out=tmp_path / "run")
    assert run.data() is data
    with pytest.raises(RunError, match=r"was trained on an array in memory; pass it, RunFolder.open\(path, data=...\)"):
        curvae.RunFolder.open(run.path).data()
    assert curvae.RunFolder.open(run.path, data).data() is data
    torch.testing.assert_close(curvae.RunFolder.open(run.path).transform()(data.test.raw), data.test.x)


def test_own_parts_need_the_system(tmp_path: Path):
    data = data_of()

    def make() -> "curvae.systems.System":
        return vae(data.spec, latent=2, hidden=8, decoder=nn.Linear(2, 3))

    run = training.fit(make(), data, epochs=1, out=tmp_path / "run")
    assert not run.config["replayable"]
    assert run.config["system"]["arguments"]["decoder"] == "custom: torch.nn.modules.linear.Linear"
    with pytest.raises(RunError, match=r"cannot describe \(decoder=torch.nn.modules.linear.Linear\); .* system="):
        training.load(run.path)
    assert isinstance(training.load(run.path, system=make()), curvae.systems.LatentSystem)
    with pytest.raises(
        RunError,
        match=r"model.safetensors: inference.encoder.5.bias: expected shape \(8,\), got \(4,\)",
    ):
        training.load(run.path, system=vae(data.spec, latent=4, hidden=8, decoder=nn.Linear(4, 3)))
    with pytest.raises(RunError, match="expected the 5 tensors of Toy"):
        training.load(run.path, system=Toy())


def test_without_out_the_folder_is_numbered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    data = data_of()
    paths = [training.fit(vae(data.spec, latent=2, hidden=8), data, epochs=1).path for _ in range(2)]
    assert [str(path) for path in paths] == ["runs/vae-array-1", "runs/vae-array-2"]


def refused(path: Path, message: str) -> None:
    with pytest.raises(RunError, match=message) as error:
        training.load(path)
    assert "\n" not in str(error.value)


def test_what_is_missing_is_named(folder: Path, tmp_path: Path):
    refused(tmp_path / "nothing", "nothing: expected the folder of a run, found none")
    (folder / "model.safetensors").unlink()
    refused(folder, "model.safetensors: expected a file, found none; has the run saved a model yet")
    (folder / "model.json").unlink()
    refused(folder, "model.json: expected a file, found none; is this the whole folder of a run")
    with pytest.raises(RunError, match=r"config.yaml: expected a file, found none"):
        curvae.RunFolder.open(tmp_path)


def test_a_truncated_file_is_named(folder: Path):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    for length in (0, 5, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(folder, "model.safetensors: expected safetensors, got .*; copy it anew")
    path.write_bytes(whole + b"more")
    refused(folder, "model.safetensors: expected safetensors, got .*; copy it anew")


def test_a_header_that_begins_like_a_pickle_is_read(tmp_path: Path):
    """The first byte is the low byte of the header's length: 0x80 now and then, as in a pickle."""
    path = tmp_path / "model.safetensors"
    contents = (weights.to_safetensors({"a" * n: torch.ones(2)}) for n in range(1, 300))
    path.write_bytes(next(content for content in contents if content[:1] == b"\x80"))
    assert next(iter(weights.read_tensors(path).values())).tolist() == [1, 1]


class Evil:
    def __reduce__(self):
        return GLOBAL.__setitem__, ("opened", Path())


def test_a_pickle_is_never_opened(folder: Path):
    for name in ("model.pt", "model.ckpt", "model.pkl"):
        (folder / name).write_bytes(pickle.dumps(Evil()))
        refused(folder / name, "got a pickle, which can run any code; curvae never opens one")
    torch.save({"a": torch.zeros(2)}, folder / "model.safetensors")
    refused(folder, "got a pickle")
    (folder / "model.safetensors").write_bytes(pickle.dumps(Evil()))
    refused(folder / "model.safetensors", "got a pickle")
    np.save(folder / "other.npy", np.zeros(3))
    refused(folder / "other.npy", "other.npy: expected safetensors, got")
    assert not GLOBAL


def test_an_unknown_format_or_system_is_named(folder: Path):
    about = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**about, "format": 99}))
    refused(folder, "expected format 1 or 2, got 99; read it with the version of curvae that wrote it")
    (folder / "model.json").write_text(json.dumps({**about, "system": {"name": "vae", "arguments": {}}}))
    refused(folder, "expected what curvae wrote, got something that was changed since")
    (folder / "model.json").write_text(json.dumps(about))
    reseal(folder / "model.json", {"system": {"name": "vlea", "arguments": {}}})
    refused(folder, "Did you mean 'vlae'")
    reseal(folder / "model.json", {"system": {"name": "vlae", "arguments": {"with": 1}}})
    refused(folder, "unexpected keyword argument 'with'; was it saved by another version")
    (folder / "model.json").write_text("{")
    refused(folder, "expected JSON, got")
    (folder / "model.json").write_text("[]")
    refused(folder, "expected names and values, got list")


def test_reading_changes_nothing(trained: "curvae.RunFolder"):
    before = content(trained.path)
    run = curvae.RunFolder.open(trained.path)
    run.data(), run.system(), run.metrics(), run.transform(), run.state
    assert content(trained.path) == before
