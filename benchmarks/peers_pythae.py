"""Train one model of pythae 0.1.2 and leave its weights: run by benchmarks/peers.py with the peer's own Python.

Knows nothing of curvae. The networks are plain Linear and ReLU layers, initialized as curvae's are.
"""

import argparse
import contextlib
import itertools
import json
import logging
import math
import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from pythae.data.datasets import BaseDataset
from pythae.models import (
    HVAE,
    IWAE,
    VAE,
    VAE_IAF,
    HVAEConfig,
    IWAEConfig,
    VAE_IAF_Config,
    VAE_LinNF,
    VAE_LinNF_Config,
    VAEConfig,
)
from pythae.models.base.base_utils import ModelOutput
from pythae.models.nn import BaseDecoder, BaseEncoder
from pythae.trainers import BaseTrainer, BaseTrainerConfig
from torch import nn

from peers_clock import measured

OUTPUTS = 784


def mlp(*widths: int) -> nn.Sequential:
    """Linear and ReLU layers."""
    layers: list[nn.Module] = []
    gain = 2 ** (0.5 * (len(widths) - 2) / (len(widths) - 1))
    for inputs, outputs in itertools.pairwise(widths):
        layer = nn.Linear(inputs, outputs)
        nn.init.normal_(layer.weight, std=gain / math.sqrt(outputs))
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class Encoder(BaseEncoder):
    """Means and log-variances, these 0 to begin with."""

    def __init__(self, latent: int, hidden: int):
        super().__init__()
        self.net = mlp(OUTPUTS, hidden, hidden, 2 * latent)
        for parameter in self.net[-1].parameters():
            parameter.data[latent:].zero_()

    def forward(self, x):
        mean, log_variance = self.net(x).chunk(2, dim=-1)
        return ModelOutput(embedding=mean, log_covariance=log_variance)


class Decoder(BaseDecoder):
    """Probabilities of the pixels; their logits where the model asks for those."""

    def __init__(self, latent: int, hidden: int, logits: bool):
        super().__init__()
        self.net = mlp(latent, hidden, hidden, OUTPUTS)
        self.logits = logits

    def forward(self, z):
        eta = self.net(z)
        return ModelOutput(reconstruction=eta if self.logits else eta.sigmoid())


def made(method: str, latent: int, hidden: int):
    """The model, with curvae's counts of draws, flows and steps."""
    common = {"input_dim": (OUTPUTS,), "latent_dim": latent, "reconstruction_loss": "bce"}
    kind, config = {
        "vae": lambda: (VAE, VAEConfig(**common)),
        "iwae": lambda: (IWAE, IWAEConfig(**common, number_samples=5)),
        "planar": lambda: (VAE_LinNF, VAE_LinNF_Config(**common, flows=["Planar"] * 5)),
        "iaf": lambda: (VAE_IAF, VAE_IAF_Config(**common, n_made_blocks=2, n_hidden_in_made=2, hidden_size=128)),
        "hvae": lambda: (
            HVAE,
            HVAEConfig(**common, n_lf=3, eps_lf=0.05, beta_zero=0.3, learn_eps_lf=True, learn_beta_zero=True),
        ),
    }[method]()
    return kind(config, encoder=Encoder(latent, hidden), decoder=Decoder(latent, hidden, method == "hvae"))


def train(chosen: argparse.Namespace, tables: dict[str, BaseDataset], epochs: int) -> dict[str, torch.Tensor]:
    """The best weights by the validation loss."""
    torch.manual_seed(chosen.seed)
    model = made(chosen.method, chosen.latent, chosen.hidden)
    with tempfile.TemporaryDirectory() as folder:
        config = BaseTrainerConfig(
            output_dir=folder,
            num_epochs=epochs,
            learning_rate=chosen.rate,
            per_device_train_batch_size=chosen.batch,
            per_device_eval_batch_size=chosen.batch,
            seed=chosen.seed,
            no_cuda=True,
        )
        trainer = BaseTrainer(model, tables["train"], tables["validation"], config)
        trainer.train()
        (path,) = Path(folder).glob("*/final_model/model.pt")
        return torch.load(path, weights_only=True)["model_state_dict"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("method")
    parser.add_argument("data", type=Path)
    parser.add_argument("weights", type=Path)
    for name in ("latent", "hidden", "epochs", "batch", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    logging.disable(logging.CRITICAL)
    arrays = {name: np.load(chosen.data / f"{name}.npy") for name in ("train", "validation")}
    tables = {
        name: BaseDataset(torch.from_numpy(x).float(), torch.zeros(len(x), dtype=torch.long))
        for name, x in arrays.items()
    }
    del arrays
    found = {}

    def work() -> None:
        found.update(train(chosen, tables, chosen.epochs))

    with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        train(chosen, tables, 1)
        result = measured(work)
    np.savez(chosen.weights, **{name: value.numpy() for name, value in found.items()})
    print(json.dumps({**result, "torch": torch.__version__}))


if __name__ == "__main__":
    main()
