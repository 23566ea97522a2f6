"""Adopted runs: what the folder holds, what opens it again, and that every command works on it."""

import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import curvae
from adopted import SMALL, linear_pair, pictures, saved, use
from command_line import fails
from curvae.adopters.pythae_flows import MaskedFlow
from curvae.adopters.recipes import recipe_of, with_recipe
from curvae.cli import main
from curvae.inference import AffinePosterior, AmortizedFlow, AmortizedGaussian
from curvae.likelihoods import Gaussian
from curvae.networks import MLP
from curvae.typing import Batch


@pytest.fixture
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Own(nn.Module):
    """A class of the user's, which no file can tell of."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


@pytest.mark.usefixtures("_here")
def test_every_command_works_on_an_adopted_pair(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    x = pictures(80)
    fitted = curvae.adopt(linear_pair(x), saved(x, tmp_path), out="run")
    use(tmp_path / "run", capsys)
    again = curvae.load("run")
    torch.testing.assert_close(again.posterior(x[:5]).mean, fitted.posterior(x[:5]).mean, rtol=0, atol=0)
    assert again.evaluation is not None
    assert type(again.system.model.decoder).__name__ == "Layers"
    assert len(Path("scores.csv").read_text().splitlines()) == 13


@pytest.mark.usefixtures("_here")
def test_the_exact_posterior_of_a_linear_model_is_its_own(tmp_path: Path):
    """ELBO = log p(x) of probabilistic PCA: an adopted exact posterior has no gap."""
    x = pictures(80)
    fitted = curvae.adopt(linear_pair(x), saved(x, tmp_path), out="run", noise=0.05)
    found = curvae.evaluate(fitted.run, settings=curvae.evaluation.Settings(samples=50), progress=False)
    assert float(found.log_likelihood.value - found.elbo.value) == pytest.approx(0, abs=5e-3)


@pytest.mark.usefixtures("_here")
def test_the_same_call_opens_the_run_again(tmp_path: Path):
    x = pictures(80)
    pair, rows = linear_pair(x), saved(x, tmp_path)
    first = curvae.adopt(pair, rows, out="run")
    written = (tmp_path / "run" / "model.json").read_bytes()
    assert curvae.adopt(pair, rows, out="run").run.digest() == first.run.digest()
    assert (tmp_path / "run" / "model.json").read_bytes() == written
    with torch.no_grad():
        pair[1][0].bias.add_(0.01)
    with pytest.raises(curvae.RunError, match="is finished already"):
        curvae.adopt(pair, rows, out="run")


@pytest.mark.usefixtures("_here")
def test_own_classes_are_opened_with_the_system(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    x = pictures(80)
    encoder, decoder = linear_pair(x)
    fitted = curvae.adopt((Own(encoder), Own(decoder)), saved(x, tmp_path), out="run")
    assert fitted.run.config["replayable"] is False
    fails(capsys, ["evaluate", "run"], 1, "has parts that a file cannot describe", "curvae.load(path, system=...)")
    with pytest.raises(curvae.RunError, match="has parts that a file cannot describe"):
        _ = curvae.load("run").system
    again = curvae.load("run", system=fitted.system)
    torch.testing.assert_close(again.posterior(x[:5]).mean, fitted.posterior(x[:5]).mean)
    assert curvae.evaluate(fitted.run, progress=False).count == 12


@pytest.mark.usefixtures("_here")
def test_training_goes_on_from_an_adopted_run(tmp_path: Path):
    from curvae.training import fit_from, train_on

    x = pictures(80)
    fitted = curvae.adopt(linear_pair(x), saved(x, tmp_path), out="run")
    before = fitted.run.metrics()["validation_bound"]
    run = train_on(curvae.load("run").run, epochs=1, progress=False)
    assert run.metrics()["stage"] == ["kept", "train"]
    assert run.metrics()["validation_bound"][0] == before[0]
    assert fit_from(run, run.data(), epochs=1, out="next", progress=False).state == "finished"


@pytest.mark.usefixtures("_here")
def test_a_decoder_alone_is_searched(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    x = pictures(80)
    encoder, decoder = linear_pair(x)
    fitted = curvae.adopt(decoder, saved(x, tmp_path), latent=3, noise=0.05, out="run")
    assert fitted.run.config["adopted"]["compared"] == "decoder outputs at 8 latents"
    torch.testing.assert_close(fitted.posterior(x[:5]).mean, encoder(x[:5])[:, :3].detach(), rtol=1e-3, atol=1e-3)
    use(tmp_path / "run", capsys, without=("calibrate", "score", "ood", "refine", "encode", "sample"))


@pytest.mark.usefixtures("_here")
def test_an_encoder_is_fitted_to_a_decoder_that_stays(tmp_path: Path):
    x = pictures(200)
    encoder, decoder = linear_pair(x)
    options = {"latent": 3, "noise": 0.05, "encoder": "fit", "hidden": 32, "progress": False}
    fitted = curvae.adopt(decoder, saved(x, tmp_path), max_updates=150, out="run", **options)
    state = fitted.system.model.decoder.state_dict()
    assert all(torch.equal(value, state[name]) for name, value in decoder.state_dict().items())
    assert fitted.run.config["adopted"]["source"] == "a decoder"
    exact = encoder(x[:20])[:, :3].detach()
    assert float((curvae.load("run").posterior(x[:20]).mean - exact).square().mean()) < 0.5


@pytest.mark.usefixtures("_here")
def test_batch_normalization_stays_while_an_encoder_is_fitted(tmp_path: Path):
    x = torch.randn(60, 5)
    decoder = nn.Sequential(nn.Linear(2, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Dropout(0.3), nn.Linear(6, 5))
    fitted = curvae.adopt(
        decoder, saved(x, tmp_path), latent=2, encoder="fit", hidden=8, epochs=2, progress=False, out="run"
    )
    assert torch.equal(fitted.system.model.decoder[1].running_mean, torch.zeros(6))


def test_what_a_decoder_needs_is_said(tmp_path: Path):
    x = torch.randn(60, 5)
    with pytest.raises(ValueError, match="latent: expected the number of latents that the decoder takes, got None"):
        curvae.adopt(nn.Linear(2, 5), x, out=tmp_path / "run")
    with pytest.raises(ValueError, match="encoder: expected search or fit; got 'no'"):
        curvae.adopt(nn.Linear(2, 5), x, latent=2, encoder="no", out=tmp_path / "run")
    with pytest.raises(ValueError, match="expected 5 values a row for Gaussian, got 4"):
        curvae.adopt(nn.Linear(2, 4), x, latent=2, out=tmp_path / "run")


CONVOLUTIONS = [
    nn.Unflatten(1, (2, 2, 1)),
    nn.Conv2d(2, 4, (3, 1), padding="same"),
    nn.BatchNorm2d(4, affine=False),
    nn.ConvTranspose2d(4, 4, 3, stride=2, output_padding=1),
    nn.GroupNorm(2, 4),
    nn.Upsample(scale_factor=2),
]


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(
            nn.Flatten(), nn.Linear(4, 3, bias=False), nn.GELU("tanh"), nn.LayerNorm(3), nn.Linear(3, 2), nn.Sigmoid()
        ),
        nn.Sequential(*CONVOLUTIONS),
        MLP(4, [8], 2),
        nn.Sequential(nn.Sequential(nn.Linear(4, 2)), nn.Dropout(0.2), nn.LeakyReLU(0.3)),
    ],
    ids=["linear", "convolutions", "MLP", "nested"],
)
def test_layers_of_torch_are_told_to_a_file(network):
    found = recipe_of(network.eval())
    assert found is not None
    told = json.loads(json.dumps({"class_path": found.name, "init_args": dict(found.arguments)}))
    again = curvae.registry.make(told).eval()
    again.load_state_dict(network.state_dict())
    assert recipe_of(again) is not None
    torch.testing.assert_close(again(x := torch.randn(3, 4)), network(x), rtol=0, atol=0)


def shared() -> nn.Module:
    layer = nn.Linear(3, 3)
    return nn.Sequential(layer, nn.ReLU(), layer)


def hooked() -> nn.Module:
    network = nn.Sequential(nn.Linear(3, 3))
    network[0].register_forward_hook(lambda module, inputs, out: 2 * out)
    return network


@pytest.mark.parametrize(
    "network",
    [
        shared(),
        hooked(),
        nn.utils.parametrizations.weight_norm(nn.Linear(3, 3)),
        nn.Sequential(Own(nn.Linear(3, 3))),
        nn.Sequential(nn.Linear(3, 3).double()),
        nn.GRU(3, 3),
    ],
    ids=["shared", "hooked", "weight norm", "own", "double", "GRU"],
)
def test_what_a_file_cannot_tell_of_is_not_told(network):
    assert recipe_of(network) is None or isinstance(network, nn.GRU)
    assert not hasattr(with_recipe(network), "recipe") or isinstance(network, nn.GRU)


@pytest.mark.usefixtures("_here")
def test_a_layer_whose_recipe_lies_is_not_replayed(tmp_path: Path):
    """A module of torch that was changed after it was made gives other values than its arguments do."""
    x = torch.randn(60, 5)
    decoder = nn.Sequential(nn.Linear(2, 5), nn.Softplus(beta=1.0))
    decoder[1].forward = lambda z: z.sinh()
    fitted = curvae.adopt((nn.Linear(5, 4), decoder), saved(x, tmp_path), out="run")
    assert fitted.run.config["replayable"] is False


def test_encoders_without_our_bound_start_as_they_are():
    posterior = AffinePosterior(torch.zeros(2, 5), torch.zeros(2), torch.zeros(2))
    encoder = MLP(5, [16], 4)
    before = [each.clone() for each in encoder.parameters()]
    for inference in (
        AmortizedGaussian(encoder, bounded=False),
        AmortizedFlow(encoder, MaskedFlow(2, 1, [4]), bounded=False),
    ):
        assert not inference.start_from(posterior)
        q = inference(None, Batch.of(torch.zeros(1, 5))).posterior
        scale = getattr(q, "start", q).log_scale
        torch.testing.assert_close(scale, encoder(torch.zeros(1, 5))[:, 2:])
    assert all(torch.equal(a, b) for a, b in zip(before, encoder.parameters(), strict=True))


def test_nobody_trains_an_adopted_system_by_its_name(capsys: pytest.CaptureFixture[str]):
    fails(capsys, ["fit", "adopted", "digits"], 2, "SYSTEM: expected one that is trained", "curvae adopt takes one")
    assert "adopted" not in curvae.registry.systems()
    with pytest.raises(ValueError, match="expected an encoder of a Gaussian before a flow, got none"):
        curvae.systems.adopted(curvae.DataSpec((5,)), 2, nn.Linear(2, 5), Gaussian(5), flow=MaskedFlow(2, 1, [4]))


def test_a_recipe_names_the_class_of_the_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    """A module that says how it is made is opened by commands that trust its module."""
    monkeypatch.chdir(tmp_path)
    lines = ["import torch", "class Decoder(torch.nn.Linear):"]
    lines += ["    def __init__(self, width: int):", "        super().__init__(3, width)"]
    Path("our_decoders.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(str(tmp_path))
    from our_decoders import Decoder

    x = pictures(80)
    encoder, _ = linear_pair(x)
    decoder = Decoder(75)
    decoder.recipe = curvae.systems.Recipe("our_decoders.Decoder", {"width": 75})
    curvae.adopt((encoder, decoder), saved(x, tmp_path), out="run")
    assert main(["evaluate", "run", "--trust", "our_decoders", *SMALL["evaluate"]]) == 0, capsys.readouterr().err
    fails(capsys, ["evaluate", "run"], 1, "--trust our_decoders imports it from this folder")
