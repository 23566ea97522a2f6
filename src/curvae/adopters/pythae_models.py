"""Models of pythae: the folder that ``model.save`` leaves, or a model that is loaded. pythae itself is not needed."""

import copy
import logging
from typing import Any

import torch
from torch import nn

from curvae.adopters.candidate import Candidate, as_event, fit_noise, rows_for, system_of
from curvae.adopters.faithful import AdoptionError, SourceModel
from curvae.adopters.pythae_files import CODED, GAUSSIAN, Described, Weights, described
from curvae.adopters.pythae_flows import FlowCenter, MaskedFlow, MaskedLayer, PlanarRadialFlow
from curvae.adopters.pythae_source import (
    own_elbo,
    pseudo_inputs,
    source_code,
    source_flow_code,
    source_mean,
    written_elbo,
)
from curvae.adopters.reading import Codes, FlatDecoder, GaussianEncoder, without_sigmoid
from curvae.data import Data
from curvae.flows import Flow
from curvae.likelihoods import Bernoulli, Gaussian, Likelihood
from curvae.networks import Layers
from curvae.priors import AggregateNormal, Prior, VampPrior
from curvae.systems import LatentSystem, Recipe

log = logging.getLogger("curvae")
FLOOR = 1e-4
"""What pythae adds to the determinant of a planar step."""
CODES = 5000
"""Training rows whose codes say what the prior of an autoencoder is."""


def adopt_pythae(source: Any, data: Data) -> Candidate:
    """A model of pythae: VAE, BetaVAE, IWAE, VAE_LinNF, VAE_IAF, VAMP, WAE_MMD, RAE_L2, RAE_GP or AE.

    ``bce`` is a Bernoulli likelihood whose logits are those before the decoder's sigmoid, ``mse`` a Gaussian of noise
    1. WAE and RAE have neither noise nor posterior: the noise is fitted to training rows, and posteriors are Laplace's,
    at a mode that is searched for from the code; the prior of WAE is N(0, I), that of RAE and AE the normal law of the
    codes of training rows. A planar flow that is no bijection gives no density, and only a start for that search.

    Args:
        source: the folder, which is read without unpickling anything, or the model.
        data: rows in the units of the model.

    Raises:
        AdoptionError: networks of the user's own in a folder, a model of another kind, rows of another shape.
    """
    found = described(source)
    if found.name not in (*GAUSSIAN, *CODED):
        raise AdoptionError(f"pythae: expected one of {', '.join((*GAUSSIAN, *CODED))}; got {found.name}.")
    event = as_event(data.spec, found.event, "pythae")
    if found.binary:
        _check_range(data)
    if not found.own("decoder") and found.weights["decoder.layers.0.0.weight"].shape[1] != found.latent:
        size = found.weights["decoder.layers.0.0.weight"].shape[1]
        raise AdoptionError(f"pythae: expected weights of {found.latent} latents, got those of {size}.")
    told = f"pythae {found.name}" + ("" if found.live is None else ", loaded")
    make = _gaussian if found.name in GAUSSIAN else _coded
    try:
        return make(found, data, event)._replace(told=told)
    except (KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:160].rstrip(".")
        raise AdoptionError(f"pythae: expected the weights of a {found.name}, got others: {reason}.") from None


def _check_range(data: Data) -> None:
    """
    Raises:
        AdoptionError: values that have no cross-entropy.
    """
    x = rows_for(data, CODES).x
    if float(x.min()) < 0 or float(x.max()) > 1:
        got = f"{float(x.min()):.3g} to {float(x.max()):.3g}"
        raise AdoptionError(f"pythae: expected values in [0, 1], whose loss is bce, got {got}: is it the pixel range?")


def _gaussian(found: Described, data: Data, event: tuple[int, ...]) -> Candidate:
    """A model with a Gaussian encoder, and perhaps a flow or a prior of pseudo-inputs."""
    encoder, flow = _encoder(found, event), _flow(found)
    likelihood: Likelihood = Bernoulli(data.spec.event) if found.binary else Gaussian(data.spec.event, scale=1.0)
    parts: dict[str, nn.Module | None] = {"decoder": _decoder(found), "likelihood": likelihood, "encoder": encoder}
    if isinstance(flow, PlanarRadialFlow) and not flow.bijective:
        log.info("adopt: a planar step has w'u < -1 and is no bijection: its ELBO is no bound, and q is searched for.")
        parts["encoder"] = FlowCenter(encoder, flow)
        system = system_of(data.spec, found.latent, parts, codes=True)
        return Candidate(system, SourceModel(code=source_flow_code(found, flow), mean=source_mean(found)), "")
    system = system_of(data.spec, found.latent, {**parts, "flow": flow, "prior": _prior(found, data)})
    elbo = written_elbo(found, _with_floor_of(_flow(found))) if found.live is None else own_elbo(found)
    return Candidate(system, SourceModel(elbo=elbo, mean=source_mean(found)), "", as_source=_with_floor)


def _with_floor(system: LatentSystem) -> None:
    """The determinants of planar steps as pythae computes them."""
    for module in system.modules():
        if isinstance(module, Flow):
            _with_floor_of(module)


def _with_floor_of(flow: Flow | None) -> Flow | None:
    if isinstance(flow, PlanarRadialFlow):
        flow.floor = FLOOR
    return flow


def _coded(found: Described, data: Data, event: tuple[int, ...]) -> Candidate:
    """An autoencoder."""
    encoder = Codes(copy.deepcopy(found.live.encoder), event) if found.own("encoder") else _layers(found, "embedding")
    prior = None if found.name == "WAE_MMD" else _law_of_codes(encoder, found.latent, data)
    likelihood = Gaussian(data.spec.event, learn="shared")
    parts = {"decoder": _decoder(found), "likelihood": likelihood, "encoder": encoder, "prior": prior}
    system = system_of(data.spec, found.latent, parts, codes=True)
    fit_noise(system, data)
    return Candidate(system, SourceModel(code=source_code(found), mean=source_mean(found)), "")


def _linear(weights: Weights, *names: str, factor: float | None = None) -> nn.Linear:
    """A layer, or several side by side; ``factor`` on the last."""
    parts = [(weights[f"{name}.weight"], weights[f"{name}.bias"]) for name in names]
    if factor is not None:
        parts[-1] = (factor * parts[-1][0], factor * parts[-1][1])
    weight, bias = (torch.cat(each) for each in zip(*parts, strict=True))
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    return layer


def _layers(found: Described, *heads: str, factor: float | None = None) -> Layers:
    """The default encoder, up to these of its last layers."""
    last = _linear(found.weights, *(f"encoder.{head}" for head in heads), factor=factor)
    return Layers([nn.Flatten(), _linear(found.weights, "encoder.layers.0.0"), nn.ReLU(), last])


def _encoder(found: Described, event: tuple[int, ...]) -> nn.Module:
    """To means and log-scales: half of the log-variances, which is exact."""
    if found.own("encoder"):
        return GaussianEncoder(copy.deepcopy(found.live.encoder), "log-variance", event)
    return _layers(found, "embedding", "log_var", factor=0.5)


def _decoder(found: Described) -> nn.Module:
    """To logits, or to means."""
    if not found.own("decoder"):
        first, last = (_linear(found.weights, f"decoder.layers.{number}.0") for number in (0, 1))
        return Layers([first, nn.ReLU(), last, *([] if found.binary else [nn.Sigmoid()])])
    decoder = copy.deepcopy(found.live.decoder).eval()
    peeled = without_sigmoid(decoder, torch.randn(4, found.latent)) if found.binary else None
    return FlatDecoder(decoder if peeled is None else peeled, None, found.binary and peeled is None)


def _flow(found: Described) -> Flow | None:
    if found.name == "VAE_IAF":
        return _masked_flow(found)
    if found.name != "VAE_LinNF":
        return None
    flow = PlanarRadialFlow(found.latent, found.config["flows"])
    flow.parts.load_state_dict(
        {name.removeprefix("net."): value for name, value in found.weights.items() if name.startswith("net.")}
    )
    return flow


def _masked_flow(found: Described) -> MaskedFlow:
    steps, hidden = found.config["n_made_blocks"], found.config["hidden_size"]
    flow = MaskedFlow(found.latent, steps, [hidden] * found.config["n_hidden_in_made"])
    state = {}
    for step, network in enumerate(flow.networks):
        for number, layer in enumerate(network.children()):
            if isinstance(layer, MaskedLayer):
                names = ("weight", "bias", "mask")
                prefix, theirs = f"{step}.{number}", f"iaf_flow.net.{step}.net.{number}"
                state |= {f"{prefix}.{name}": found.weights[f"{theirs}.{name}"] for name in names}
    flow.networks.load_state_dict(state)
    return flow


def _prior(found: Described, data: Data) -> Prior | None:
    """N(0, I), or the posteriors of pseudo-inputs."""
    if found.name != "VAMP":
        return None
    count = int(found.config["number_components"])
    prior = VampPrior(found.latent, data.spec.event, count)
    with torch.no_grad():
        prior.inputs.copy_(pseudo_inputs(found.weights).reshape(count, *data.spec.event))
    arguments = {"size": found.latent, "event": list(data.spec.event), "components": count}
    object.__setattr__(prior, "recipe", Recipe("curvae.priors.VampPrior", arguments))
    return prior


@torch.no_grad()
def _law_of_codes(encoder: nn.Module, latent: int, data: Data) -> Prior:
    """The normal law of the codes of training rows: RAE's density after training."""
    codes = encoder(rows_for(data, CODES).x).double()
    prior = AggregateNormal(latent)
    prior.mean.copy_(codes.mean(0))
    prior.covariance.copy_(codes.mT.cov().reshape(latent, latent))
    return prior
