"""Networks that do not fit are named before training starts, with what was expected and what came."""

import inspect
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import methods
from curvae import registry, training
from curvae.data import from_array
from curvae.systems import System, vae, vlae
from curvae.training.setup.network_checks import check_networks
from training_toys import FEATURES, Toy, data_of


class Wrong(nn.Linear):
    """A linear layer whose output something happens to."""

    def __init__(self, inputs: int, outputs: int, change: Callable[[Tensor], object]):
        super().__init__(inputs, outputs)
        self.change = change

    def forward(self, x: Tensor) -> object:
        return self.change(super().forward(x))


def nan(out: Tensor) -> Tensor:
    return out * torch.nan


DECODERS = {
    r"decoder: expected a network that takes \(N, 2\), got RuntimeError: mat1 and mat2": nn.Linear(3, FEATURES),
    r"decoder: expected \(N, 3\) from \(N, 2\), got \(N, 4\); change its last layer": nn.Linear(2, 4),
    r"decoder: expected a tensor from \(N, 2\), got tuple; return one": Wrong(2, FEATURES, lambda out: (out, out)),
    r"decoder: expected a row for each row of \(N, 2\), got \(3,\) from": Wrong(2, FEATURES, lambda out: out.mean(0)),
    r"decoder: expected finite values from \(N, 2\), got NaN or infinity": Wrong(2, FEATURES, nan),
    r"decoder: expected a network that takes \(N, 2\), got RuntimeError": nn.Conv2d(2, 3, 1),
    r"decoder: expected a network that takes \(N, 2\), got RuntimeError: .* dtype": nn.Linear(2, 3).double(),
    r"decoder: expected a network that takes \(N, 2\), got TypeError": nn.Bilinear(2, 2, 3),
}
ENCODERS = {
    r"encoder: expected a network that takes \(N, 3\), got RuntimeError: mat1 and mat2": nn.Linear(4, 4),
    r"encoder: expected what \w+ takes for 2 latent dimensions, .* got it for 3; change": nn.Linear(3, 6),
    r"AmortizedGaussian: the encoder must give 2 D values .* got 5, an odd": nn.Linear(3, 5),
    r"encoder: expected a tensor from \(N, 3\), got tuple": Wrong(3, 4, lambda out: out.chunk(2, -1)),
    r"encoder: expected a row for each row of \(N, 3\), got \(4,\) from": Wrong(3, 4, lambda out: out.mean(0)),
    r"encoder: expected finite values from \(N, 3\), got NaN": Wrong(3, 4, nan),
    r"encoder: expected a network that takes \(N, 3\), got RuntimeError: .* dtype": nn.Linear(3, 4).double(),
}
CASES = [("decoder", *case) for case in DECODERS.items()] + [("encoder", *case) for case in ENCODERS.items()]


@pytest.mark.parametrize("build", [vae, vlae])
@pytest.mark.parametrize(("name", "message", "network"), CASES)
def test_a_network_that_does_not_fit(
    build: Callable[..., System], name: str, message: str, network: nn.Module, tmp_path: Path
):
    data = data_of()
    with pytest.raises(ValueError, match=message) as error:
        training.fit(
            build(data.spec, latent=2, **{name: network}), data, epochs=2, out=tmp_path / "run", progress=False
        )
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def fewest(name: str) -> int:
    """Latents; of codes that are part of the example, half of its elements."""
    return 1 if name in ("flow-ae", "laplacian-ae", "probabilistic-ae", "identifiable-vae") else 4


@pytest.mark.parametrize("name", registry.systems())
def test_every_system_passes_and_stays_as_it_was(name: str):
    data = data_of()
    if name in methods.PICTURES:
        data = from_array(data.train.raw.reshape(-1, 1, 1, 3))
    if name in methods.TEXTS:
        data = from_array(torch.randint(4, (30, 3)).numpy(), support="category")
    build = registry.system(name)
    takes = inspect.signature(build).parameters
    system = build(
        data.spec, **{key: size for key, size in {"latent": fewest(name), "hidden": 4}.items() if key in takes}
    )
    before = {key: value.clone() for key, value in system.state_dict().items()}
    modes = [module.training for module in system.modules()]
    drawn = torch.get_rng_state()
    check_networks(system, data)
    assert torch.equal(torch.get_rng_state(), drawn)
    assert [module.training for module in system.modules()] == modes
    assert all(torch.equal(value, before[key]) for key, value in system.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in system.modules())


def test_running_statistics_do_not_move():
    data = data_of()
    decoder = nn.Sequential(nn.Linear(2, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, FEATURES))
    check_networks(vae(data.spec, latent=2, decoder=decoder), data)
    assert decoder[1].num_batches_tracked == 0
    assert decoder[1].training


def test_what_has_no_networks_has_none_to_try():
    check_networks(Toy(), data_of())


def test_an_error_of_inference_itself_is_left_to_training(monkeypatch: pytest.MonkeyPatch):
    """It may need what the stage prepares."""
    system = vae(data_of().spec, latent=2)
    monkeypatch.setattr(type(system.inference), "forward", lambda *_: {}["table"])
    check_networks(system, data_of())


@pytest.mark.parametrize("rows", [129, 65, 33])
def test_batch_normalization_and_a_last_batch_of_one_row(rows: int, tmp_path: Path):
    data = data_of(rows)
    nets = [
        nn.Sequential(nn.Linear(inputs, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, outputs))
        for inputs, outputs in ((FEATURES, 4), (2, FEATURES))
    ]
    system = vae(data.spec, latent=2, encoder=nets[0], decoder=nets[1])
    run = training.fit(system, data, epochs=2, batch_size=32, out=tmp_path / "run", progress=False)
    assert run.metrics()["step"] == [rows // 32, 2 * (rows // 32)]
