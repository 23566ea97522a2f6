"""Models of pythae, trained by it for a few steps: its own ELBO is ours. Runs where it is installed (make adopters)."""

import copy
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import curvae
from adopted import OPTIONS, pictures, use
from curvae.adopters import AdoptionError
from curvae.adopters.faithful import difference, double_precision
from curvae.adopters.pythae_files import described
from curvae.adopters.pythae_models import _flow, _with_floor_of
from curvae.adopters.pythae_source import own_elbo, written_elbo
from curvae.typing import Batch

pytest.importorskip("pythae", reason="make adopters has it")
logging.getLogger("pythae").setLevel(logging.ERROR)
EVENT = (1, 5, 5)


def made(name: str, loss: str = "bce", **networks: nn.Module):
    import pythae.models as models

    kind = getattr(models, name)
    config = getattr(models, f"{name}_Config" if hasattr(models, f"{name}_Config") else f"{name}Config")
    losses = {} if name in ("WAE_MMD", "RAE_L2") else {"reconstruction_loss": loss}
    return kind(config(input_dim=EVENT, latent_dim=3, **losses, **OPTIONS[name]), **networks)


def rows(loss: str = "bce") -> torch.Tensor:
    x = pictures(80, EVENT)
    return (x > 0.5).float() if loss == "bce" else x


def trained(model, x: torch.Tensor, steps: int = 20):
    torch.manual_seed(0)
    optimizer = torch.optim.Adam(model.parameters(), 1e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        model({"data": x}).loss.backward()
        optimizer.step()
    return model.eval()


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("loss", ["bce", "mse"])
@pytest.mark.parametrize("name", OPTIONS)
def test_a_loaded_model_and_its_folder_are_the_same_run(tmp_path, name, loss):
    torch.manual_seed(1)
    x = rows(loss)
    model = trained(made(name, loss), x)
    model.save(str(tmp_path / "model"))
    np.save("rows.npy", x.numpy())
    live = curvae.adopt(model, "rows.npy", out="live")
    folder = curvae.adopt(tmp_path / "model", "rows.npy", out="folder")
    assert live.run.config["adopted"]["difference"] < 1e-6
    assert folder.run.digest() == live.run.digest()
    assert curvae.load("live").score(x[:3], samples=20).log_likelihood.shape == (3,)


@pytest.mark.parametrize("loss", ["bce", "mse"])
@pytest.mark.parametrize("name", ["VAE", "BetaVAE", "IWAE", "VAE_LinNF", "VAE_IAF", "VAMP"])
def test_its_losses_written_again_are_its_losses(name, loss):
    """What a folder is compared with where pythae is not there."""
    torch.manual_seed(2)
    x = rows(loss)
    model = trained(made(name, loss), x)
    found = described(model)
    batch, noise = Batch.of(x[:8].double()), torch.randn(8, 3).double()
    with double_precision(), torch.no_grad():
        written = written_elbo(found, _with_floor_of(_flow(found)))(batch, noise)
        assert difference(written, own_elbo(found)(batch, noise)) < 1e-7


def test_every_command_works_on_a_trained_one(tmp_path, capsys):
    torch.manual_seed(3)
    x = rows()
    np.save("rows.npy", x.numpy())
    curvae.adopt(trained(made("IWAE"), x), "rows.npy", out="run")
    use(tmp_path / "run", capsys)


def own_networks(sigmoid: bool = True):
    from pythae.models.base.base_utils import ModelOutput
    from pythae.models.nn import BaseDecoder, BaseEncoder

    class Encoder(BaseEncoder):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 6))

        def forward(self, x):
            mean, log_variance = self.net(x).chunk(2, 1)
            return ModelOutput(embedding=mean, log_covariance=log_variance)

    class Decoder(BaseDecoder):
        def __init__(self):
            super().__init__()
            self.net = nn.Sequential(nn.Linear(3, 25), nn.Unflatten(1, EVENT), nn.Sigmoid())

        def forward(self, z):
            return ModelOutput(reconstruction=self.net(z))

    return {"encoder": Encoder(), "decoder": Decoder()}


@pytest.mark.parametrize("name", ["VAE", "VAE_IAF", "VAMP", "RAE_L2"])
def test_networks_of_the_users_own_are_adopted_from_the_model(tmp_path, name):
    torch.manual_seed(4)
    x = rows()
    model = trained(made(name, **own_networks()), x)
    before = copy.deepcopy(model.state_dict())
    fitted = curvae.adopt(model, x, out="run")
    assert fitted.run.config["adopted"]["difference"] < 1e-6
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert fitted.run.config["replayable"] is False
    assert curvae.load("run", system=fitted.system).posterior(x[:3]).mean.shape == (3, 3)
    model.save(str(tmp_path / "model"))
    with pytest.raises(AdoptionError, match=r"encoder.pkl: expected pythae's default networks, got a pickle"):
        curvae.adopt(tmp_path / "model", x, out="other")


def test_a_model_in_train_mode_is_adopted_as_it_is_evaluated(tmp_path):
    torch.manual_seed(5)
    x = rows()
    model = trained(made("VAE", **own_networks()), x).train()
    q = curvae.adopt(model, x, out="run").posterior(x[:4])
    torch.testing.assert_close(q.mean, model.eval().encoder(x[:4]).embedding.detach())
