"""Folders of pythae's models, read without it; tests/adopters compares them with pythae itself."""

import json
import logging
import os
import pickle
from pathlib import Path

import pytest
import torch

import curvae
from adopted import OPTIONS, pictures, pythae_folder, saved, use
from command_line import says
from curvae.adopters import AdoptionError
from curvae.adopters.pythae_flows import FlowCenter, MaskedFlow, PlanarRadialFlow
from curvae.distributions.transformed import TransformedPosterior
from curvae.inference import Laplace

EVENT = (1, 5, 5)


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def rows(binary: bool = True, count: int = 60) -> torch.Tensor:
    x = pictures(count, EVENT)
    return (x > 0.5).float() if binary else x


@pytest.mark.parametrize("loss", ["bce", "mse"])
@pytest.mark.parametrize("name", OPTIONS)
def test_every_model_becomes_a_run_that_opens_again(tmp_path, name, loss):
    folder, x = pythae_folder(tmp_path / "model", name, loss=loss), rows(loss == "bce")
    fitted = curvae.adopt(folder, saved(x, tmp_path), out="run")
    assert fitted.run.config["adopted"]["source"] == f"pythae {name}"
    assert fitted.run.config["adopted"]["difference"] < 1e-9
    again, weights = curvae.load("run"), torch.load(folder / "model.pt")["model_state_dict"]
    assert again.schema.unit == "data as given"
    torch.testing.assert_close(again.posterior(x[:4]).mean, fitted.posterior(x[:4]).mean, rtol=0, atol=0)
    z = torch.randn(5, 3)
    hidden = (z @ weights["decoder.layers.0.0.weight"].mT + weights["decoder.layers.0.0.bias"]).relu()
    mean = (hidden @ weights["decoder.layers.1.0.weight"].mT + weights["decoder.layers.1.0.bias"]).sigmoid()
    torch.testing.assert_close(torch.from_numpy(again.decode(z.numpy())).flatten(1).float(), mean, rtol=1e-4, atol=1e-6)
    assert again.score(x[:3], samples=20).log_likelihood.shape == (3,)


def test_every_command_works_on_it(tmp_path, capsys):
    folder = pythae_folder(tmp_path / "model", "VAE")
    saved(rows(), tmp_path)
    out = says(capsys, "adopt", str(folder), "rows.npy", "--out", "run", noting="equal to")
    assert "next: curvae evaluate run" in out
    use(tmp_path / "run", capsys)


@pytest.mark.parametrize("name", ["VAE_IAF", "VAMP", "WAE_MMD"])
def test_evaluate_refine_and_report_work_on_the_others(tmp_path, capsys, name):
    folder = pythae_folder(tmp_path / "model", name)
    curvae.adopt(folder, saved(rows(), tmp_path), out="run")
    flags = {} if name == "WAE_MMD" else {"refine": ["--steps", "2", "--to", "refined.npz"]}
    use(tmp_path / "run", capsys, without=("calibrate", "score", "ood", "encode"), **flags)


def test_a_log_variance_is_halved_exactly(tmp_path):
    folder, x = pythae_folder(tmp_path / "model", "VAE"), rows()
    q = curvae.adopt(folder, x, out="run").posterior(x[:4])
    weights = torch.load(folder / "model.pt")["model_state_dict"]
    hidden = (x[:4].flatten(1) @ weights["encoder.layers.0.0.weight"].mT + weights["encoder.layers.0.0.bias"]).relu()
    log_variance = hidden @ weights["encoder.log_var.weight"].mT + weights["encoder.log_var.bias"]
    torch.testing.assert_close(q.covariance.diagonal(dim1=-2, dim2=-1).log(), log_variance, rtol=1e-4, atol=1e-5)


def test_a_planar_step_that_is_no_bijection_gives_a_start_alone(tmp_path, caplog):
    folder = pythae_folder(tmp_path / "model", "VAE_LinNF")
    assert isinstance(curvae.adopt(folder, rows(), out="a").posterior(rows()[:2]), TransformedPosterior)
    found = torch.load(folder / "model.pt")
    found["model_state_dict"]["net.0.u"] = -3 * found["model_state_dict"]["net.0.w"] / 0.1
    torch.save(found, folder / "model.pt")
    with caplog.at_level(logging.INFO, "curvae"):
        fitted = curvae.adopt(folder, rows(), out="b")
    assert "w'u < -1 and is no bijection" in caplog.text
    assert isinstance(fitted.system.inference, Laplace)
    assert isinstance(fitted.system.inference.start.encoder, FlowCenter)
    assert fitted.run.config["replayable"] is True


def test_the_flow_of_masked_networks_is_undone():
    torch.manual_seed(0)
    flow = MaskedFlow(4, 3, [8, 8]).double()
    degrees = [torch.arange(4), torch.arange(8) % 3, torch.arange(8) % 3]
    for network in flow.networks:
        layers = [each for each in network if hasattr(each, "mask")]
        for layer, before, after in zip(layers[:-1], degrees, degrees[1:], strict=False):
            layer.mask.copy_(after.unsqueeze(1) >= before)
        layers[-1].mask.copy_((degrees[-1] < degrees[0].unsqueeze(1)).repeat(2, 1))
    z = torch.randn(5, 2, 4).double()
    there = flow(z)
    back = flow.inverse(there.z)
    torch.testing.assert_close(back.z, z)
    torch.testing.assert_close(back.log_det, -there.log_det)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda one: flow(one.reshape(1, 1, 4)).z.flatten()))(z.reshape(-1, 4))
    torch.testing.assert_close(there.log_det.flatten(), jacobian.det().abs().log())
    flow.start_at_identity(torch.empty(0), torch.empty(0))
    assert float(flow(z).log_det.detach().abs().max()) == 0


def test_planar_and_radial_steps_have_their_determinants():
    torch.manual_seed(1)
    flow = PlanarRadialFlow(3, ["Planar", "Radial", "Planar"]).double()
    for parameter in flow.parameters():
        parameter.data = 0.5 * torch.randn_like(parameter)
    z = torch.randn(6, 3).double()
    jacobian = torch.func.vmap(torch.func.jacrev(lambda one: flow(one.reshape(1, 1, 3)).z.flatten()))(z)
    torch.testing.assert_close(flow(z.unsqueeze(0)).log_det[0], jacobian.det().abs().log())
    flow.start_at_identity(torch.empty(0), torch.empty(0))
    torch.testing.assert_close(flow(z.unsqueeze(0)).z[0], z)
    with pytest.raises(ValueError, match="expected steps that are Planar or Radial; got 'Sylvester'"):
        PlanarRadialFlow(3, ["Sylvester"])


def test_a_pickle_of_the_users_own_is_not_opened(tmp_path):
    folder = pythae_folder(tmp_path / "model", "VAE")
    words = json.loads((folder / "model_config.json").read_text()) | {"uses_default_decoder": False}
    (folder / "model_config.json").write_text(json.dumps(words))

    class Evil:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "ran"),)

    (folder / "decoder.pkl").write_bytes(pickle.dumps(Evil()))
    with pytest.raises(AdoptionError, match=r"decoder.pkl: expected .* got a pickle .* curvae.adopt\(model"):
        curvae.adopt(folder, rows(), out="run")
    torch.save({"model_state_dict": Evil()}, folder / "model.pt")
    words["uses_default_decoder"] = True
    (folder / "model_config.json").write_text(json.dumps(words))
    with pytest.raises(AdoptionError, match=r"model.pt: expected tensors alone, got UnpicklingError"):
        curvae.adopt(folder, rows(), out="run")
    assert not (tmp_path / "ran").exists()


def spoiled(folder: Path, **words: object) -> Path:
    told = json.loads((folder / "model_config.json").read_text()) | words
    (folder / "model_config.json").write_text(json.dumps(told))
    return folder


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"name": "HVAEConfig"}, "expected one of VAE, .* got HVAE"),
        ({"input_dim": [5, 5, 4]}, r"expected rows of shape \(5, 5, 4\), got \(1, 5, 5\)"),
        ({"input_dim": None}, "expected the configuration of a model with input_dim and latent_dim"),
        ({"latent_dim": 4}, "expected weights of 4 latents, got those of 3"),
    ],
)
def test_a_folder_that_does_not_fit_is_one_line(tmp_path, words, told):
    folder = spoiled(pythae_folder(tmp_path / "model", "VAE"), **words)
    with pytest.raises(AdoptionError, match=told):
        curvae.adopt(folder, rows(), out="run")
    assert not Path("run").exists()


def test_channels_last_are_suspected_by_their_shape(tmp_path):
    folder = pythae_folder(tmp_path / "model", "VAE", event=(5, 5, 3))
    with pytest.raises(AdoptionError, match=r"of shape \(5, 5, 3\), got \(3, 5, 5\): is it the order of channels"):
        curvae.adopt(folder, pictures(60), out="run")


def test_missing_weights_are_one_line(tmp_path):
    folder = pythae_folder(tmp_path / "model", "VAE")
    (folder / "model.pt").unlink()
    with pytest.raises(AdoptionError, match=r"model.pt: expected the weights of a model, found none"):
        curvae.adopt(folder, rows(), out="run")


def test_other_folders_are_no_models(tmp_path):
    with pytest.raises(ValueError, match=r"source: expected one of these: .* got the path"):
        curvae.adopt(tmp_path, rows())


def test_values_beyond_0_and_1_have_no_cross_entropy(tmp_path):
    folder = pythae_folder(tmp_path / "model", "VAE")
    with pytest.raises(AdoptionError, match=r"expected values in .0, 1., .* got .* to 255"):
        curvae.adopt(folder, 255 * rows(), out="run")


def test_the_floor_of_a_determinant_is_pythaes_and_not_ours(tmp_path):
    folder = pythae_folder(tmp_path / "model", "VAE_LinNF")
    fitted = curvae.adopt(folder, rows(), out="run")
    assert fitted.system.inference.flow.floor == 0
    assert fitted.run.config["system"]["arguments"]["flow"]["init_args"]["floor"] == 0
