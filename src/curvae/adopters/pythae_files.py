"""What is known of a model of pythae: read from its folder without unpickling anything, or from the model itself."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from curvae.adopters.faithful import AdoptionError
from curvae.io import FileError, formats

Weights = Mapping[str, Tensor]
CONFIG, WEIGHTS, PICKLES = "model_config.json", "model.pt", {"encoder": "encoder.pkl", "decoder": "decoder.pkl"}
GAUSSIAN = ("VAE", "BetaVAE", "IWAE", "VAE_LinNF", "VAE_IAF", "VAMP")
"""Models whose encoders give a Gaussian."""
CODED = ("WAE_MMD", "RAE_L2", "RAE_GP", "AE")
"""Models whose encoders give a point."""


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


def described(source: Any) -> Described:
    if isinstance(source, nn.Module):
        config = {**vars(source.model_config)}
        return Described(source.model_name, config, {**source.state_dict()}, source)  # pyright: ignore[reportArgumentType]
    folder = Path(source)
    config = _read_config(folder / CONFIG)
    name = str(config.get("name", "")).removesuffix("Config").removesuffix("_")
    own = [name for part, name in PICKLES.items() if not config.get(f"uses_default_{part}", True)]
    if own:
        raise AdoptionError(
            f"{folder / own[0]}: expected pythae's default networks, got a pickle of your own, which can run any code "
            "and is not opened. Load the model in Python and pass it: curvae.adopt(model, data)."
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
    if not (
        isinstance(shape, list)
        and all(isinstance(each, int) for each in shape)
        and isinstance(config.get("latent_dim"), int)
    ):
        raise AdoptionError(
            f"{path}: expected the configuration of a model with input_dim and latent_dim, got "
            f"{json.dumps(config)[:80]}."
        )
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
        raise AdoptionError(
            f"{path}: expected tensors alone, got {type(error).__name__}; it is not opened otherwise."
        ) from None
    weights = found.get("model_state_dict") if isinstance(found, dict) else None
    if not isinstance(weights, Mapping):
        raise AdoptionError(f"{path}: expected model_state_dict, got none; is this the model.pt that model.save made?")
    return weights
