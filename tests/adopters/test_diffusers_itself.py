"""``AutoencoderKL`` of diffusers, small and trained for a few steps. Runs where it is installed (make adopters)."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

import curvae
from adopted import pictures, use
from command_line import fails, says
from curvae.adopters import AdoptionError
from curvae.linalg import LOG_2PI

pytest.importorskip("diffusers", reason="make adopters has it")
EVENT = (3, 8, 8)


def made(attention: bool = True, channels: int = 3):
    from diffusers import AutoencoderKL

    torch.manual_seed(0)
    return AutoencoderKL(
        in_channels=channels,
        out_channels=channels,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        block_out_channels=(4, 8),
        norm_num_groups=2,
        latent_channels=1,
        sample_size=8,
        mid_block_add_attention=attention,
    ).eval()


def trained(model, x: Tensor, steps: int = 30):
    optimizer = torch.optim.Adam(model.parameters(), 3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        q = model.encode(x).latent_dist
        loss = (model.decode(q.mode()).sample - x).square().mean() + 1e-6 * q.kl().mean()
        loss.backward()
        optimizer.step()
    return model.eval()


@pytest.fixture
def levels() -> np.ndarray:
    """8-bit pictures, (N, H, W, C)."""
    return (255 * pictures(60, EVENT)).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def signed(levels: np.ndarray) -> Tensor:
    return torch.from_numpy(levels).permute(0, 3, 1, 2) / 127.5 - 1


@pytest.mark.parametrize("attention", [True, False])
def test_an_autoencoder_is_adopted_and_opens_again(levels, attention):
    model = trained(made(attention), signed(levels))
    np.save("rows.npy", levels)
    fitted = curvae.adopt(model, "rows.npy", out="run")
    assert fitted.run.config["adopted"]["difference"] < 1e-9
    assert fitted.run.config["replayable"] is True
    again, x = curvae.load("run"), signed(levels)
    q, theirs = again.posterior(levels[:4]), model.encode(x[:4]).latent_dist
    torch.testing.assert_close(q.mean, theirs.mean.flatten(1).detach(), rtol=1e-4, atol=1e-5)
    logs = q.covariance.diagonal(dim1=-2, dim2=-1).log()
    torch.testing.assert_close(logs, theirs.logvar.flatten(1).detach(), rtol=1e-4, atol=1e-4)
    apart = (model.decode(theirs.mode()).sample - x[:4]).square().mean().sqrt()
    noise = again.system.model.likelihood.variance.detach().sqrt()
    assert float(noise) == pytest.approx(float(apart.detach()), rel=0.3)


def test_log_variances_beyond_our_bound_are_theirs(levels):
    """q keeps its clamp at -30, a scale of exp(-15)."""
    model = trained(made(False), signed(levels))
    with torch.no_grad():
        model.quant_conv.weight[1:] = 0
        model.quant_conv.bias[1:] = -100.0
    q = curvae.adopt(model, levels, out="run").posterior(levels[:4])
    assert float((2 * q.log_scale).max()) == pytest.approx(-30, abs=1e-4)


def test_every_command_works_on_a_folder_of_safetensors(tmp_path, levels, capsys):
    trained(made(False), signed(levels)).save_pretrained("vae")
    np.save("rows.npy", levels)
    assert "diffusers AutoencoderKL" in says(capsys, "adopt", "vae", "rows.npy", "--out", "run", noting="equal to")
    use(tmp_path / "run", capsys)


def test_other_files_than_safetensors_are_not_opened(levels, capsys):
    made().save_pretrained("vae", safe_serialization=False)
    np.save("rows.npy", levels)
    fails(capsys, ["adopt", "vae", "rows.npy", "--out", "run"], 1, "with its weights in safetensors")


def elbo(scaling: float = 1.0, factor: float = 1.0, offset: float = 0.0, mean: bool = False):
    """A loss that somebody trained with, noise 1, with their mistakes."""

    def loss(model, x: Tensor, noise: Tensor) -> Tensor:
        x = factor * x + offset
        q = model.encode(x).latent_dist
        apart = (x - model.decode(scaling * (q.mean + q.std * noise)).sample).flatten(1).square() + LOG_2PI
        return -0.5 * (apart.mean(1) if mean else apart.sum(1)) - q.kl()

    return loss


@pytest.mark.parametrize(
    ("mistake", "words"),
    [
        ({"scaling": 0.18215}, r"multiplies latents by 0.18215, a scaling factor that is no part of the autoencoder"),
        ({"scaling": 1 / 0.18215}, r"multiplies latents by 5.48998, a scaling factor"),
        ({"mean": True}, r"a mean over the 192 elements of a row"),
        ({"factor": 0.5, "offset": 0.5}, r"its networks see \(x \+ 1\) / 2, pixels of another range"),
    ],
)
def test_what_another_elbo_does_otherwise_is_named(levels, mistake, words):
    model = trained(made(False), signed(levels))
    assert curvae.adopt(model, levels, noise=1.0, elbo=elbo(), out="run").run.state == "finished"
    with pytest.raises(AdoptionError, match=words):
        curvae.adopt(model, levels, noise=1.0, elbo=elbo(**mistake), out="other")


def test_pixels_of_another_range_are_seen_by_their_reconstructions(levels):
    model = trained(made(False), signed(levels), 200)
    with pytest.raises(AdoptionError, match=r"they explain \d+% if its networks see 2 x - 1"):
        curvae.adopt(model, signed(levels) / 2 + 0.5, out="run", noise=1.0)


def test_channels_last_are_told_by_the_shape():
    x = torch.rand(40, 8, 8, 3).flatten(1)
    data = curvae.data.from_array(x, event=(8, 8, 3), transform=curvae.data.transforms.Identity())
    with pytest.raises(AdoptionError, match=r"shape \(3, H, W\), got \(8, 8, 3\): is it the order of channels"):
        curvae.adopt(made(), data, out="run")
    with pytest.raises(AdoptionError, match=r"expected pictures of shape \(1, H, W\), got \(8, 8, 3\)"):
        curvae.adopt(made(channels=1), data, out="run")


def test_the_users_model_stays_as_it_is(levels):
    model = trained(made(False), signed(levels)).half()
    before = copy.deepcopy(model.state_dict())
    fitted = curvae.adopt(model, levels, out="run")
    assert next(model.parameters()).dtype == torch.float16
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert fitted.run.config["adopted"]["difference"] < 1e-9
    assert fitted.run.config["system"]["arguments"]["decoder"]["class_path"].endswith("KLDecoder")
