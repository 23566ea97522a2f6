"""``AutoencoderKL`` of diffusers: pictures in [-1, 1], latents that are pictures too."""

import copy
import importlib
import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.adopters.candidate import Candidate, as_event, fit_noise, rows_for, system_of
from curvae.adopters.conventions import Convention, Networks, suspects_of
from curvae.adopters.faithful import AdoptionError, SourceModel
from curvae.adopters.pairs import TRIED, check_convention
from curvae.data import Data
from curvae.likelihoods import Gaussian
from curvae.linalg import LOG_2PI
from curvae.typing import Batch

CONFIG, KIND = "config.json", "AutoencoderKL"
LEAST, MOST = -30.0, 20.0
"""Bounds of the log-variances."""
ModelElbo = Callable[[Any, Tensor, Tensor], Tensor]
"""(model, x, noise) -> the ELBO of each row, noise in the shape of the latents."""


class KLEncoder(nn.Module):
    """Means and log-scales (B, 2 D) of an ``AutoencoderKL``, log-variances clamped to [-30, 20] as there.

    Args:
        config: arguments of the ``AutoencoderKL``.
        event: shape of a picture, (C, H, W).
    """

    def __init__(self, config: Mapping[str, Any], event: Sequence[int]):
        super().__init__()
        model = autoencoder(config)
        self.config, self.event = dict(config), list(event)
        self.encoder, self.quant_conv = model.encoder, model.quant_conv or nn.Identity()

    def forward(self, x: Float[Tensor, "B *event"]) -> Float[Tensor, "B Q"]:
        mean, log_variance = self.quant_conv(self.encoder(x.reshape(len(x), *self.event))).chunk(2, 1)
        return torch.cat([mean.flatten(1), 0.5 * log_variance.clamp(LEAST, MOST).flatten(1)], 1)


class KLDecoder(nn.Module):
    """Pictures (N, P), flat, of latents (N, D), flat, by the decoder of an ``AutoencoderKL``; no scaling factor.

    Args:
        config: arguments of the ``AutoencoderKL``.
        latents: shape of the latents of a picture, (C, H, W).
    """

    def __init__(self, config: Mapping[str, Any], latents: Sequence[int]):
        super().__init__()
        model = autoencoder(config)
        self.config, self.latents = dict(config), list(latents)
        self.decoder, self.post_quant_conv = model.decoder, model.post_quant_conv or nn.Identity()

    def forward(self, z: Float[Tensor, "N D"]) -> Float[Tensor, "N P"]:
        return self.decoder(self.post_quant_conv(z.reshape(len(z), *self.latents))).flatten(1)


def autoencoder(config: Mapping[str, Any]) -> Any:
    """A new ``AutoencoderKL``.

    Raises:
        AdoptionError: diffusers is not there.
    """
    kind = _diffusers().AutoencoderKL
    known = inspect.signature(kind.__init__).parameters
    return kind(**{name: value for name, value in config.items() if name in known})


def is_autoencoder_kl(source: Any) -> bool:
    """Whether it is an ``AutoencoderKL``, or the folder of one."""
    if isinstance(source, str | Path):
        path = Path(source) / CONFIG
        return path.is_file() and KIND in path.read_text(encoding="utf-8", errors="replace")
    return type(source).__name__ == KIND and type(source).__module__.startswith("diffusers.")


def adopt_autoencoder_kl(
    source: Any, data: Data, *, noise: float | None = None, elbo: ModelElbo | None = None
) -> Candidate:
    """An ``AutoencoderKL`` of diffusers: a Gaussian of one noise around its pictures, latents under N(0, I).

    Latents are those of the autoencoder itself. Pipelines multiply them by its ``scaling_factor`` for their diffusion
    model; nothing here does.

    Args:
        source: the model, or the folder that ``save_pretrained`` left, with its weights in safetensors.
        data: pictures; of 8-bit ones [-1, 1] is made.
        noise: standard deviation of a pixel; None = fitted to training rows in closed form, as the model has none.
        elbo: the source's own, where somebody has one; by default it is made of its encode, decode and kl.

    Raises:
        AdoptionError: diffusers is not there, other files than safetensors, pictures of another shape, range or order
            of channels, or another ELBO.
    """
    model = _loaded(source) if isinstance(source, str | Path) else copy.deepcopy(source)
    model = model.float().eval()
    config = {name: value for name, value in dict(model.config).items() if not name.startswith("_")}
    channels = int(config["in_channels"])
    event = as_event(data.spec, (channels, *_size(data.spec.event, channels)), "AutoencoderKL")
    with torch.no_grad():
        latents = tuple(model.encode(rows_for(data, 1).x.reshape(1, *event)).latent_dist.mean.shape[1:])
    encoder, decoder = KLEncoder(config, event), KLDecoder(config, latents)
    _take(encoder, model, ("encoder", "quant_conv"))
    _take(decoder, model, ("decoder", "post_quant_conv"))
    likelihood = Gaussian(data.spec.event, learn="shared") if noise is None else Gaussian(data.spec.event, scale=noise)
    parts = {"decoder": decoder, "likelihood": likelihood, "encoder": encoder}
    system = system_of(data.spec, torch.Size(latents).numel(), parts)
    fit_noise(system, data)
    networks, reading = Networks.of(encoder, decoder, likelihood), Convention("log-scale")
    check_convention(networks, reading, rows_for(data, TRIED // 8).x, data.spec.event)
    twin = copy.deepcopy(model).double().eval()
    variance = float(copy.deepcopy(likelihood).double().variance.detach()[0])

    def theirs(batch: Batch, eps: Tensor) -> Tensor:
        x, eps = batch.x.reshape(len(batch.x), *event), eps.reshape(len(eps), *latents)
        return _own_elbo(twin, x, eps, variance) if elbo is None else elbo(twin, x, eps)

    scaling = float(config.get("scaling_factor") or 1.0)
    suspects = suspects_of(networks, reading, data.spec.event, scaling)
    return Candidate(system, SourceModel(elbo=theirs), "diffusers AutoencoderKL", suspects)


def _own_elbo(model: Any, x: Tensor, noise: Tensor, variance: float) -> Tensor:
    """By the model's own encode, decode and kl."""
    q = model.encode(x).latent_dist
    apart = (x - model.decode(q.mean + q.std * noise).sample).flatten(1)
    constant = apart.shape[1] * (LOG_2PI + float(torch.tensor(variance).log()))
    return -0.5 * (apart.square().sum(1) / variance + constant) - q.kl()


def _take(part: nn.Module, model: nn.Module, names: Sequence[str]) -> None:
    """The model's weights of these modules."""
    state = {key: value for key, value in model.state_dict().items() if key.startswith(tuple(f"{n}." for n in names))}
    part.load_state_dict(state)


def _size(event: tuple[int, ...], channels: int) -> tuple[int, ...]:
    """Height and width of a picture.

    Raises:
        AdoptionError: it has none, or its channels come last.
    """
    if len(event) == 3 and event[0] != channels and event[2] == channels:
        raise AdoptionError(
            f"AutoencoderKL: expected pictures of shape ({channels}, H, W), got {event}: is it the order of channels, "
            "first or last?"
        )
    if len(event) != 3 or event[0] != channels:
        raise AdoptionError(f"AutoencoderKL: expected pictures of shape ({channels}, H, W), got {event}.")
    return event[1:]


def _loaded(folder: str | Path) -> Any:
    """The model in a folder, which holds safetensors alone.

    Raises:
        AdoptionError: no such files, or pickled ones.
    """
    kind = _diffusers().AutoencoderKL
    try:
        return kind.from_pretrained(str(folder), use_safetensors=True, local_files_only=True)
    except (OSError, ValueError, json.JSONDecodeError) as error:
        reason = " ".join(str(error).split())[:160].rstrip(".")
        raise AdoptionError(
            f"{folder}: expected an AutoencoderKL with its weights in safetensors, got: {reason}."
        ) from None


def _diffusers() -> Any:
    try:
        return importlib.import_module("diffusers")
    except ImportError:
        raise AdoptionError("AutoencoderKL: expected the package diffusers, got none; pip install diffusers.") from None
