"""Models of pythae: the folder that ``model.save`` leaves, or a model that is loaded. pythae itself is not needed."""

import copy
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, linear, relu

from curvae.adopters.candidate import Candidate, as_event, fit_noise, rows_for, system_of
from curvae.adopters.faithful import AdoptionError, Elbo, Source
from curvae.adopters.pythae_flows import FlowCenter, MaskedFlow, MaskedLayer, PlanarRadialFlow
from curvae.adopters.reading import Codes, FlatDecoder, GaussianEncoder, output_of, without_sigmoid
from curvae.data import Data
from curvae.flows import Flow
from curvae.io import FileError, formats
from curvae.likelihoods import Bernoulli, Gaussian, Likelihood
from curvae.linalg import LOG_2PI
from curvae.networks import Layers
from curvae.priors import AggregateNormal, Prior, VampPrior
from curvae.systems import LatentSystem, Recipe
from curvae.typing import Batch

log = logging.getLogger("curvae")
Weights = Mapping[str, Tensor]
CONFIG, WEIGHTS, PICKLES = "model_config.json", "model.pt", ("encoder.pkl", "decoder.pkl")
GAUSSIAN = ("VAE", "BetaVAE", "IWAE", "VAE_LinNF", "VAE_IAF", "VAMP")
"""Models whose encoders give a Gaussian."""
CODED = ("WAE_MMD", "RAE_L2", "RAE_GP", "AE")
"""Models whose encoders give a point."""
FLOOR = 1e-4
"""What pythae adds to the determinant of a planar step."""
CODES = 5000
"""Training rows whose codes say what the prior of an autoencoder is."""


class Described(NamedTuple):
    """A model of pythae, apart from the classes that it was made of."""

    name: str
    config: Mapping[str, Any]
    weights: Weights
    live: Any = None
    """The model itself, where it is loaded."""

    @property
    def event(self) -> tuple[int, ...]:
        """Shape of a row."""
        return tuple(self.config["input_dim"])

    @property
    def latent(self) -> int:
        return int(self.config["latent_dim"])

    @property
    def binary(self) -> bool:
        """Whether the reconstruction loss is the binary cross-entropy."""
        return self.name in GAUSSIAN and self.config.get("reconstruction_loss", "mse") == "bce"

    def own(self, part: str) -> bool:
        """Whether the encoder, or the decoder, is of the user's own class."""
        return not self.config.get(f"uses_default_{part}", True)


def is_pythae(source: Any) -> bool:
    """Whether it is the folder of a model of pythae, or such a model."""
    if isinstance(source, str | Path):
        return (Path(source) / CONFIG).is_file()
    return isinstance(source, nn.Module) and type(source).__module__.startswith("pythae.")


def adopt_pythae(source: Any, data: Data) -> Candidate:
    """A model of pythae: VAE, BetaVAE, IWAE, VAE_LinNF, VAE_IAF, VAMP, WAE_MMD, RAE_L2, RAE_GP or AE.

    ``bce`` is a Bernoulli likelihood whose logits are those before the decoder's sigmoid, ``mse`` a Gaussian of noise 1.
    WAE and RAE have neither noise nor posterior: the noise is fitted to training rows, and posteriors are Laplace's, at
    a mode that is searched for from the code; the prior of WAE is N(0, I), that of RAE and AE the normal law of the
    codes of training rows. A planar flow that is no bijection gives no density, and only a start for that search.

    Args:
        source: the folder, which is read without unpickling anything, or the model.
        data: rows in the units of the model.

    Raises:
        AdoptionError: networks of the user's own in a folder, a model of another kind, rows of another shape.
    """
    found = _described(source)
    if found.name not in (*GAUSSIAN, *CODED):
        raise AdoptionError(f"pythae: expected one of {', '.join((*GAUSSIAN, *CODED))}; got {found.name}.")
    event = as_event(data.spec, found.event, "pythae")
    told = f"pythae {found.name}" + ("" if found.live is None else ", loaded")
    make = _gaussian if found.name in GAUSSIAN else _coded
    return make(found, data, event)._replace(told=told)


def _gaussian(found: Described, data: Data, event: tuple[int, ...]) -> Candidate:
    """A model with a Gaussian encoder, and perhaps a flow or a prior of pseudo-inputs."""
    encoder, flow = _encoder(found, event), _flow(found)
    likelihood: Likelihood = Bernoulli(data.spec.event) if found.binary else Gaussian(data.spec.event, scale=1.0)
    parts: dict[str, nn.Module | None] = {"decoder": _decoder(found), "likelihood": likelihood, "encoder": encoder}
    if isinstance(flow, PlanarRadialFlow) and not flow.bijective:
        log.info("adopt: a planar step has w'u < -1 and is no bijection: its ELBO is no bound, and q is searched for.")
        parts["encoder"] = FlowCenter(encoder, flow)
        system = system_of(data.spec, found.latent, parts, codes=True)
        return Candidate(system, Source(code=_flow_code(found, flow), mean=_mean(found)), "")
    system = system_of(data.spec, found.latent, {**parts, "flow": flow, "prior": _prior(found, data)})
    elbo = _written_elbo(found) if found.live is None else _own_elbo(found)
    return Candidate(system, Source(elbo=elbo, mean=_mean(found)), "", as_source=_with_floor)


def _with_floor(system: LatentSystem) -> None:
    """The determinants of planar steps as pythae computes them."""
    for module in system.modules():
        if isinstance(module, PlanarRadialFlow):
            module.floor = FLOOR


def _coded(found: Described, data: Data, event: tuple[int, ...]) -> Candidate:
    """An autoencoder."""
    encoder = Codes(copy.deepcopy(found.live.encoder), event) if found.own("encoder") else _layers(found, "embedding")
    prior = None if found.name == "WAE_MMD" else _law_of_codes(encoder, found.latent, data)
    likelihood = Gaussian(data.spec.event, learn="shared")
    parts = {"decoder": _decoder(found), "likelihood": likelihood, "encoder": encoder, "prior": prior}
    system = system_of(data.spec, found.latent, parts, codes=True)
    fit_noise(system, data)
    return Candidate(system, Source(code=_code(found), mean=_mean(found)), "")


# --- reading -----------------------------------------------------------------------------------------------------------


def _described(source: Any) -> Described:
    if isinstance(source, nn.Module):
        config = {**vars(source.model_config)}
        return Described(source.model_name, config, {**source.state_dict()}, source)  # pyright: ignore[reportArgumentType]
    folder = Path(source)
    config = _read_config(folder / CONFIG)
    name = str(config.get("name", "")).removesuffix("Config").removesuffix("_")
    own = [each for each, part in zip(PICKLES, ("encoder", "decoder"), strict=True) if not config.get(f"uses_default_{part}", True)]
    if own:
        raise AdoptionError(
            f"{folder / own[0]}: expected pythae's default networks, got a pickle of your own, which can run any code and "
            "is not opened. Load the model in Python and pass it: curvae.adopt(model, data)."
        )
    return Described(name, config, _read_weights(folder / WEIGHTS))


def _read_config(path: Path) -> Mapping[str, Any]:
    """
    Raises:
        AdoptionError: it is no configuration of pythae's.
    """
    try:
        config = formats.read_json(path)
    except (FileError, OSError) as error:
        raise AdoptionError(f"{error}; is this the folder that model.save made?") from None
    shape = config.get("input_dim") if isinstance(config, dict) else None
    if not (isinstance(shape, list) and all(isinstance(each, int) for each in shape) and isinstance(config.get("latent_dim"), int)):
        raise AdoptionError(f"{path}: expected the configuration of a model with input_dim and latent_dim, got {json.dumps(config)[:80]}.")
    return config


def _read_weights(path: Path) -> Weights:
    """
    Raises:
        AdoptionError: no file, or one that holds more than tensors.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise AdoptionError(f"{path}: expected the weights of a model, found none.") from None
    except Exception as error:
        raise AdoptionError(f"{path}: expected tensors alone, got {type(error).__name__}; it is not opened otherwise.") from None
    weights = found.get("model_state_dict") if isinstance(found, dict) else None
    if not isinstance(weights, Mapping):
        raise AdoptionError(f"{path}: expected model_state_dict, got none; is this the model.pt that model.save made?")
    return weights


# --- networks ----------------------------------------------------------------------------------------------------------


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
    flow.parts.load_state_dict({name.removeprefix("net."): value for name, value in found.weights.items() if name.startswith("net.")})
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
        prior.inputs.copy_(_pseudo_inputs(found.weights).reshape(count, *data.spec.event))
    arguments = {"size": found.latent, "event": list(data.spec.event), "components": count}
    object.__setattr__(prior, "recipe", Recipe("curvae.priors.VampPrior", arguments))
    return prior


def _pseudo_inputs(weights: Weights) -> Float[Tensor, "K P"]:
    """``clamp(W e_k + b, 0, 1)``."""
    return (weights["pseudo_inputs.0.weight"].mT + weights["pseudo_inputs.0.bias"]).clamp(0, 1)


@torch.no_grad()
def _law_of_codes(encoder: nn.Module, latent: int, data: Data) -> Prior:
    """The normal law of the codes of training rows: RAE's density after training."""
    codes = encoder(rows_for(data, CODES).x).double()
    prior = AggregateNormal(latent)
    prior.mean.copy_(codes.mean(0))
    prior.covariance.copy_(codes.mT.cov().reshape(latent, latent))
    return prior


# --- what the source says ----------------------------------------------------------------------------------------------


def _double(found: Described) -> Weights:
    return {name: value.double() if value.is_floating_point() else value for name, value in found.weights.items()}


def _encoded(weights: Weights, x: Tensor, head: str) -> Tensor:
    """What the default encoder gives, layer by layer."""
    hidden = relu(linear(x.flatten(1), weights["encoder.layers.0.0.weight"], weights["encoder.layers.0.0.bias"]))
    return linear(hidden, weights[f"encoder.{head}.weight"], weights[f"encoder.{head}.bias"])


def _decoded(weights: Weights, z: Tensor) -> Tensor:
    """What the default decoder gives, its sigmoid included."""
    hidden = relu(linear(z, weights["decoder.layers.0.0.weight"], weights["decoder.layers.0.0.bias"]))
    return linear(hidden, weights["decoder.layers.1.0.weight"], weights["decoder.layers.1.0.bias"]).sigmoid()


def _in_float64(model: nn.Module) -> Any:
    """A copy, with the tensors that it keeps outside of its state."""
    twin = copy.deepcopy(model).double().eval()
    for module in twin.modules():
        for name, value in vars(module).items():
            if isinstance(value, Tensor) and value.is_floating_point():
                setattr(module, name, value.double())
    return twin


def _mean(found: Described) -> Callable[[Tensor], Tensor]:
    if found.own("decoder"):
        decoder = _in_float64(found.live.decoder)
        return lambda z: output_of(decoder(z)).flatten(1)
    weights = _double(found)
    return lambda z: _decoded(weights, z)


def _code(found: Described) -> Callable[[Tensor], Tensor]:
    if found.own("encoder"):
        encoder = _in_float64(found.live.encoder)
        return lambda x: encoder(x.reshape(len(x), *found.event)).embedding
    weights = _double(found)
    return lambda x: _encoded(weights, x, "embedding")


def _flow_code(found: Described, flow: Flow) -> Callable[[Tensor], Tensor]:
    code, twin = _code(found), copy.deepcopy(flow).double()
    return lambda x: twin(code(x).unsqueeze(0)).z.squeeze(0)


def _constant(found: Described) -> float:
    """Of the density of a Gaussian of noise 1, which pythae leaves out of its losses."""
    return 0.0 if found.binary else 0.5 * LOG_2PI * torch.Size(found.event).numel()


def _own_elbo(found: Described) -> Elbo:
    """By the model's own ``forward``, one row at a time, its noise given."""
    twin = _in_float64(found.live)
    if hasattr(twin, "n_samples"):
        twin.n_samples = 1

    def elbo(batch: Batch, noise: Tensor) -> Tensor:
        rows = []
        for row, eps in zip(batch.x.reshape(len(batch.x), 1, *found.event), noise, strict=True):
            twin._sample_gauss = lambda mean, scale, eps=eps: (mean + eps.reshape(mean.shape) * scale, eps)
            out = twin({"data": row})
            rows.append(-(out.recon_loss + out.reg_loss))
        return torch.stack(rows).reshape(-1) - _constant(found)

    return elbo


def _written_elbo(found: Described) -> Elbo:
    """By the formulas of its losses, from the weights in the file."""
    weights, flow = _double(found), _flow(found)
    if isinstance(flow, PlanarRadialFlow):
        flow.floor = FLOOR
    flow = None if flow is None else flow.double()

    def elbo(batch: Batch, noise: Tensor) -> Tensor:
        x = batch.x
        mean, log_variance = (_encoded(weights, x, head) for head in ("embedding", "log_var"))
        first = mean + (0.5 * log_variance).exp() * noise
        z, log_det = (first, 0.0) if flow is None else (each.squeeze(0) for each in flow(first.unsqueeze(0)))
        out, flat = _decoded(weights, z), x.flatten(1)
        loss = binary_cross_entropy(out, flat, reduction="none") if found.binary else 0.5 * (out - flat).square()
        if found.name in ("VAE", "BetaVAE"):
            divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1)
        else:
            log_q = -0.5 * (log_variance + (first - mean).square() / log_variance.exp()).sum(1) - log_det
            divergence = log_q - _log_prior(found, weights, z)
        return -(loss.sum(1) + divergence) - _constant(found)

    return elbo


def _log_prior(found: Described, weights: Weights, z: Tensor) -> Tensor:
    """Without its constant, as that of q is left out, too."""
    if found.name != "VAMP":
        return -0.5 * z.square().sum(1)
    inputs = _pseudo_inputs(weights)
    mean, log_variance = (_encoded(weights, inputs, head) for head in ("embedding", "log_var"))
    each = -0.5 * (log_variance + (z.unsqueeze(1) - mean).square() / log_variance.exp()).sum(2)
    return each.logsumexp(1) - torch.tensor(float(len(inputs))).log()
