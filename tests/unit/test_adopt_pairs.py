"""Adopted pairs: the same numbers as the source's own, and every trap by its name."""

import copy
import logging
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

import curvae
from adopted import linear_pair, pictures
from curvae.adopters import AdoptionError
from curvae.adopters.conventions import Convention, Networks, changes_of, suspects_of
from curvae.adopters.faithful import SourceModel, one_draw_elbo, prove
from curvae.adopters.reading import LOG_SCALE, GaussianEncoder, without_sigmoid
from curvae.likelihoods import Bernoulli, Gaussian
from curvae.typing import Batch

LOG_2PI = math.log(2 * math.pi)
READ: dict[str, Callable[[Tensor], Tensor]] = {
    "log-variance": lambda v: (0.5 * v).exp(),
    "variance": lambda v: v.sqrt(),
    "scale": lambda v: v,
    "log-scale": lambda v: v.exp(),
}
"""To the standard deviation, written again."""


class Spread(nn.Module):
    """Means, and spreads that are positive: any of the four may be read of them."""

    def __init__(self, size: int, latent: int):
        super().__init__()
        self.net = nn.Linear(size, 2 * latent)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mean, spread = self.net(x).chunk(2, 1)
        return mean, 0.1 + spread.square()


def gaussian_elbo(spread: str = "log-variance", **other: float) -> Callable[..., Tensor]:
    """That of somebody else's loss, noise 1, with what is told of it otherwise."""

    def elbo(encoder: nn.Module, decoder: nn.Module, x: Tensor, noise: Tensor) -> Tensor:
        seen = other.get("factor", 1.0) * x + other.get("offset", 0.0)
        found = encoder(seen)
        mean, v = found if isinstance(found, tuple) else found.chunk(2, 1)
        scale = READ[spread](v)
        out = decoder(other.get("scaling", 1.0) * (mean + scale * noise))
        squares = (seen.flatten(1) - out.flatten(1)).square()
        fit = -0.5 * (squares + other.get("constant", 1.0) * LOG_2PI)
        fit = fit.mean(1) if other.get("mean") else fit.sum(1)
        fit = -squares.sum(1) if other.get("squared") else fit
        return fit - (0.5 * (mean**2 + scale**2 - 1) - scale.log()).sum(1)

    return elbo


def adopt(tmp_path, pair, x, **options):
    return curvae.adopt(pair, x, out=tmp_path / "run", **options)


def test_the_posterior_is_the_encoders_and_nothing_bounds_it(tmp_path):
    torch.manual_seed(0)
    encoder, decoder = nn.Linear(5, 4), nn.Linear(2, 5)
    with torch.no_grad():
        encoder.bias[2:] = torch.tensor([-29.0, 19.0])  # scales exp(-14.5) and exp(9.5): ours would be bounded
    x = torch.randn(100, 5)
    fitted = adopt(tmp_path, (encoder, decoder), x, elbo=gaussian_elbo())
    q, (mean, log_variance) = fitted.posterior(x[:7]), encoder(x[:7]).chunk(2, 1)
    torch.testing.assert_close(q.mean, mean.detach())
    torch.testing.assert_close(q.covariance.diagonal(dim1=-2, dim2=-1).log(), log_variance.detach(), rtol=1e-5, atol=0)
    told = fitted.run.config["adopted"]
    assert told["difference"] < 1e-12
    assert told["compared"] == "ELBO of 8 rows on the same noise"
    assert fitted.run.state == "finished"
    assert fitted.schema.unit == "data as given"


@pytest.mark.parametrize("said", READ)
@pytest.mark.parametrize("true", READ)
def test_every_reading_of_a_spread_is_told_from_the_others(tmp_path, said, true):
    torch.manual_seed(1)
    pair, x = (Spread(5, 2), nn.Linear(2, 5)), torch.randn(60, 5)
    if said == true:
        assert (
            adopt(tmp_path, pair, x, spread=said, elbo=gaussian_elbo(true)).run.config["adopted"]["difference"] < 1e-9
        )
        return
    with pytest.raises(AdoptionError, match=f"equal if the encoder gives a {true}: pass spread='{true}'"):
        adopt(tmp_path, pair, x, spread=said, elbo=gaussian_elbo(true))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("other", "words"),
    [
        ({"constant": 0.0}, "leaves out the constant of the density"),
        ({"squared": True}, "squared errors are not halved"),
        ({"mean": True}, "a mean over the 5 elements of a row, and not their sum"),
        ({"factor": 2.0, "offset": -1.0}, "its networks see 2 x - 1, pixels of another range"),
        ({"factor": 1 / 255}, "its networks see x / 255"),
        (
            {"mean": True, "constant": 0.0},
            r"leaves out the constant of the density.*, and its reconstruction term is a",
        ),
    ],
)
def test_what_a_loss_does_otherwise_is_named(tmp_path, other, words):
    torch.manual_seed(2)
    pair = nn.Linear(5, 4), nn.Linear(2, 5)
    with pytest.raises(AdoptionError, match=words):
        adopt(tmp_path, pair, torch.randn(60, 5), elbo=gaussian_elbo(**other))


def test_a_difference_without_a_name_is_refused_too(tmp_path):
    pair = nn.Linear(5, 4), nn.Linear(2, 5)
    with pytest.raises(AdoptionError, match="no other reading of it gives the same"):
        adopt(tmp_path, pair, torch.randn(60, 5), elbo=lambda e, d, x, noise: x.sum(1))
    with pytest.raises(AdoptionError, match="no other reading of it gives the same"):
        adopt(tmp_path, pair, torch.randn(60, 5), elbo=lambda *given: (1 + 1e-5) * gaussian_elbo()(*given))
    assert adopt(tmp_path, pair, torch.randn(60, 5), elbo=lambda *given: (1 + 1e-8) * gaussian_elbo()(*given))
    with pytest.raises(AdoptionError, match=r"one of each row, \(8,\), got \(\)"):
        adopt(tmp_path, pair, torch.randn(60, 5), elbo=lambda e, d, x, noise: x.sum())


def test_a_scaling_factor_is_suspected_where_one_is_known():
    torch.manual_seed(3)
    encoder, decoder, law = nn.Linear(5, 4), nn.Linear(2, 5), Gaussian(5, scale=1.0)
    networks = Networks.of(encoder, decoder, law)
    batch, noise = Batch.of(torch.randn(4, 5).double()), torch.randn(4, 2).double()
    for scaling in (0.18215, 1 / 0.18215):
        theirs = gaussian_elbo(scaling=scaling)(networks.encoder, networks.decoder, batch.x, noise)
        suspects = suspects_of(networks, Convention(), (5,), 0.18215)
        found = next(each for each in suspects if torch.allclose(each.elbo(batch, noise), theirs, rtol=1e-9))
        assert f"multiplies latents by {scaling:.6g}, a scaling factor" in found.words


def test_train_mode_is_named_or_seen_by_its_noise(tmp_path):
    torch.manual_seed(4)
    normed, x = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)), 3 + torch.randn(60, 5)
    for _ in range(20):
        normed(x)
    decoder = nn.Linear(2, 5)
    with pytest.raises(AdoptionError, match=r"it was in train mode, which normalizes by the batch: call .eval\(\)"):
        adopt(tmp_path, (normed.train(), decoder), x, elbo=gaussian_elbo())
    before = {name: value.clone() for name, value in normed.state_dict().items()}
    assert (
        adopt(tmp_path, (normed.eval(), decoder), x, elbo=gaussian_elbo()).run.config["adopted"]["difference"] < 1e-12
    )
    assert all(torch.equal(value, before[name]) for name, value in normed.state_dict().items())
    dropped = nn.Sequential(nn.Linear(5, 4), nn.Dropout(0.5)).train()
    with pytest.raises(AdoptionError, match="another each time: it draws on its own, or dropout is on in train mode"):
        adopt(tmp_path, (dropped, decoder), x, elbo=gaussian_elbo())


class Sigmoid(nn.Module):
    """A decoder that ends in a function, not in a module."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, z: Tensor) -> Tensor:
        return self.layer(z).sigmoid()


def bernoulli_elbo(encoder: nn.Module, decoder: nn.Module, x: Tensor, noise: Tensor) -> Tensor:
    """Of a decoder of logits, or of one that ends in a sigmoid."""
    mean, v = encoder(x).chunk(2, 1)
    out = decoder(mean + (0.5 * v).exp() * noise)
    if float(out.min()) >= 0 and float(out.max()) <= 1:
        fit = (x * out.log() + (1 - x) * (1 - out).log()).sum(1)
    else:
        fit = -binary_cross_entropy_with_logits(out, x, reduction="none").sum(1)
    return fit - 0.5 * (mean**2 + v.exp() - 1 - v).sum(1)


@pytest.mark.parametrize("last", ["module", "function"])
def test_probabilities_are_told_from_logits(tmp_path, last):
    torch.manual_seed(5)
    layer = nn.Linear(2, 6)
    x = torch.bernoulli(torch.full((80, 6), 0.4))
    decoder = nn.Sequential(layer, nn.Sigmoid()) if last == "module" else Sigmoid(layer)
    pair = nn.Linear(6, 4), decoder
    with pytest.raises(AdoptionError, match=r"expected logits, got values that all lie in .0, 1.: a sigmoid's outputs"):
        adopt(tmp_path, pair, x, outputs="natural")
    with pytest.raises(AdoptionError, match=r"expected probabilities, got values from .* logits"):
        adopt(tmp_path, (pair[0], nn.Linear(2, 6)), x, outputs="probabilities")
    fitted = adopt(tmp_path, pair, x, elbo=bernoulli_elbo)
    assert fitted.run.config["adopted"]["difference"] < 1e-9
    z = torch.randn(4, 2)
    eta = fitted.system.model.decode(z)
    torch.testing.assert_close(eta, layer(z), rtol=1e-4, atol=1e-4)
    assert isinstance(fitted.system.model.decoder, nn.Sequential) == (last == "module")


def test_logits_within_0_and_1_are_found_by_the_elbo(tmp_path):
    """Values in [0, 1] are taken for probabilities where nothing is said; an ELBO knows better."""
    torch.manual_seed(6)
    encoder, decoder, law = nn.Linear(6, 4), nn.Linear(2, 6), Bernoulli(6)
    networks = Networks.of(encoder, decoder, law)
    batch, noise = Batch.of(torch.bernoulli(torch.full((4, 6), 0.4)).double()), torch.randn(4, 2).double()
    said = Convention(probabilities=True)
    theirs = networks.elbo(Convention(), batch.x, noise)
    words = [
        each.words for each in suspects_of(networks, said, (6,)) if torch.allclose(each.elbo(batch, noise), theirs)
    ]
    assert words[0] == "the decoder gives logits: pass outputs='natural'"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: 255 * x, "x / 255"),
        (lambda x: 2 * x - 1, r"\(x \+ 1\) / 2"),
        (lambda x: x / 255, "255 x"),
        (lambda x: x.reshape(len(x), 5, 5, 3).permute(0, 3, 1, 2).reshape(x.shape), "channels last"),
    ],
)
def test_rows_of_another_range_or_order_are_seen_without_an_elbo(tmp_path, change, words):
    x = pictures()
    pair = linear_pair(x)
    assert adopt(tmp_path, pair, x, transform=curvae.data.transforms.Identity()).evaluation is None
    with pytest.raises(AdoptionError, match=rf"explain -?\d+%; they explain \d+% if .*{words}"):
        curvae.adopt(pair, change(x), out=tmp_path / "other", transform=curvae.data.transforms.Identity())


def test_rows_with_channels_last_are_seen_where_the_networks_know_them_first(tmp_path):
    x = pictures()
    same = curvae.data.transforms.Identity()
    data = curvae.data.from_array(x.permute(0, 2, 3, 1).flatten(1), event=(5, 5, 3), transform=same)
    with pytest.raises(AdoptionError, match=r"they explain \d+% if its networks see channels first"):
        curvae.adopt(linear_pair(x), data, out=tmp_path / "run")


def test_eight_bit_pictures_become_pixels(tmp_path):
    x = pictures()
    levels = (255 * x).round().to(torch.uint8)
    fitted = adopt(tmp_path, linear_pair(x), levels)
    assert fitted.transform().unit.startswith("pixels in [0,1]")
    own = fitted.posterior(levels[:5]).mean
    torch.testing.assert_close(own, linear_pair(x)[0](levels[:5] / 255)[:, :3].detach(), rtol=1e-3, atol=1e-3)


def test_without_an_elbo_another_spread_is_a_line_of_the_log(tmp_path, caplog):
    x = pictures()
    with caplog.at_level(logging.INFO, "curvae"):
        adopt(tmp_path, linear_pair(x), x, noise=0.05, spread="log-scale", transform=curvae.data.transforms.Identity())
    assert "nats higher if the encoder gives a log-variance" in caplog.text


def test_a_noise_that_nobody_holds_is_fitted(tmp_path):
    x = pictures(noise=0.3)
    fitted = adopt(tmp_path, linear_pair(x, noise=0.03), x, transform=curvae.data.transforms.Identity())
    left = (x - fitted.system.reconstruct(x)).square().mean().sqrt()
    assert float(fitted.system.model.likelihood.variance.detach().sqrt()) == pytest.approx(float(left), rel=0.15)


@pytest.mark.parametrize("form", ["tuple", "tensor", "normal", "names", "picture"])
def test_encoders_may_give_a_gaussian_in_several_forms(form):
    mean, v = torch.randn(3, 2), torch.randn(3, 2)

    class Own(nn.Module):
        def forward(self, x):
            match form:
                case "tuple":
                    return mean, v
                case "tensor":
                    return torch.cat([mean, v], 1)
                case "normal":
                    return torch.distributions.Normal(mean, (0.5 * v).exp())
                case "names":
                    found = nn.Module()
                    found.mu, found.logvar = mean, v
                    return found
                case _:
                    return torch.cat([mean, v], 1).reshape(3, 4, 1, 1)

    found = GaussianEncoder(Own())(torch.zeros(3, 5))
    torch.testing.assert_close(found, torch.cat([mean, 0.5 * v], 1))


def test_what_is_no_gaussian_is_refused():
    class Three(nn.Module):
        def forward(self, x):
            return x, x, x

    with pytest.raises(ValueError, match=r"expected a pair of means and spreads.* got a tuple of 3"):
        GaussianEncoder(Three())(torch.zeros(3, 5))
    with pytest.raises(ValueError, match="spread: expected one of log-variance, variance, scale, log-scale; got 'sd'"):
        GaussianEncoder(nn.Linear(3, 4), "sd")


def test_networks_that_do_not_go_together_are_refused(tmp_path):
    x = torch.randn(60, 5)
    with pytest.raises(AdoptionError, match=r"encoder: expected a network that takes \(N, 5\)"):
        adopt(tmp_path, (nn.Linear(4, 4), nn.Linear(2, 5)), x)
    with pytest.raises(AdoptionError, match=r"decoder: expected a network that takes latents \(N, 2\)"):
        adopt(tmp_path, (nn.Linear(5, 4), nn.Linear(3, 5)), x)
    with pytest.raises(AdoptionError, match="decoder: expected 5 values a row for Gaussian, got 6"):
        adopt(tmp_path, (nn.Linear(5, 4), nn.Linear(2, 6)), x)
    with pytest.raises(ValueError, match="'elbow'; did you mean elbo"):
        adopt(tmp_path, (nn.Linear(5, 4), nn.Linear(2, 5)), x, elbow=None)
    with pytest.raises(ValueError, match=r"source: expected one of these: .* got a dict"):
        curvae.adopt({}, x)
    with pytest.raises(ValueError, match=r"data: expected rows to evaluate a pair .* on, got None"):
        curvae.adopt((nn.Linear(5, 4), nn.Linear(2, 5)))


def test_the_users_networks_stay_as_they_are(tmp_path):
    encoder, decoder = nn.Linear(5, 4).double(), nn.Linear(2, 5).train()
    before = copy.deepcopy((encoder.state_dict(), decoder.state_dict()))
    encoder.float()
    adopt(tmp_path, (encoder, decoder), torch.randn(60, 5))
    assert decoder.training
    assert not hasattr(encoder, "recipe")
    assert all(
        torch.equal(a.float(), b.float())
        for a, b in zip(before[1].values(), decoder.state_dict().values(), strict=True)
    )


def test_the_default_reading_is_what_the_system_does():
    """Suspects are judged by formulas written a second time: unchanged, they give what the system gives."""
    torch.manual_seed(7)
    for law, probabilities in ((Gaussian(5, scale=0.7), False), (Bernoulli(5), False), (Bernoulli(5), True)):
        encoder, decoder = nn.Linear(5, 4), Sigmoid(nn.Linear(2, 5)) if probabilities else nn.Linear(2, 5)
        networks = Networks.of(encoder, decoder, law)
        system = curvae.systems.adopted(
            curvae.DataSpec((5,)), 2, networks.decoder, law, GaussianEncoder(networks.encoder)
        )
        if probabilities:
            system.model.decoder = without_sigmoid_or_logit(networks.decoder)
        batch, noise = Batch.of(torch.rand(4, 5).double()), torch.randn(4, 2).double()
        q = system.double().inference(system.model, batch).posterior
        ours = one_draw_elbo(system.model, q, batch, noise)
        for closed, expected in zip((False, True), ours, strict=True):
            found = networks.elbo(Convention(probabilities=probabilities, closed=closed), batch.x, noise)
            torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def without_sigmoid_or_logit(decoder: nn.Module) -> nn.Module:
    assert without_sigmoid(decoder, torch.randn(3, 2)) is None
    return curvae.adopters.reading.FlatDecoder(decoder, probabilities=True)


def test_a_wrong_decoder_is_seen_by_its_means():
    system = curvae.systems.adopted(curvae.DataSpec((5,)), 2, nn.Linear(2, 5), Gaussian(5), nn.Linear(5, 4))
    with pytest.raises(AdoptionError, match="expected the means that the source's decoder gives"):
        prove(system, SourceModel(mean=lambda z: torch.zeros(len(z), 5)), Batch.of(torch.randn(4, 5)))
    with pytest.raises(AdoptionError, match="expected the codes that the source gives"):
        prove(system, SourceModel(code=lambda x: torch.zeros(len(x), 2)), Batch.of(torch.randn(4, 5)))


def test_every_change_is_another_reading():
    changes = [*changes_of(Bernoulli((3, 4, 4)), Convention(), (3, 4, 4), 0.5)]
    assert len({each.words for each in changes}) == len(changes) == 3 + 1 + 1 + 1 + 2 + 4 + 2
    assert set(LOG_SCALE) == set(READ)
