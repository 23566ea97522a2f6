"""What a model of pythae says of itself: its ELBO, its codes, its means, in float64."""

import copy
from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, linear, relu

from curvae.adopters.faithful import Elbo
from curvae.adopters.pythae_files import Described, Weights
from curvae.adopters.reading import output_of
from curvae.flows import Flow
from curvae.linalg import LOG_2PI
from curvae.typing import Batch


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


def source_mean(found: Described) -> Callable[[Tensor], Tensor]:
    if found.own("decoder"):
        decoder = _in_float64(found.live.decoder)
        return lambda z: output_of(decoder(z)).flatten(1)
    weights = _double(found)
    return lambda z: _decoded(weights, z)


def source_code(found: Described) -> Callable[[Tensor], Tensor]:
    if found.own("encoder"):
        encoder = _in_float64(found.live.encoder)
        return lambda x: encoder(x.reshape(len(x), *found.event)).embedding
    weights = _double(found)
    return lambda x: _encoded(weights, x, "embedding")


def source_flow_code(found: Described, flow: Flow) -> Callable[[Tensor], Tensor]:
    code, twin = source_code(found), copy.deepcopy(flow).double()
    return lambda x: twin(code(x).unsqueeze(0)).z.squeeze(0)


def _constant(found: Described) -> float:
    """Of the density of a Gaussian of noise 1, which pythae leaves out of its losses."""
    return 0.0 if found.binary else 0.5 * LOG_2PI * torch.Size(found.event).numel()


def own_elbo(found: Described) -> Elbo:
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


def written_elbo(found: Described, flow: Flow | None) -> Elbo:
    """By the formulas of its losses, from the weights in the file; its flow as pythae computes it."""
    weights = _double(found)
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
    inputs = pseudo_inputs(weights)
    mean, log_variance = (_encoded(weights, inputs, head) for head in ("embedding", "log_var"))
    each = -0.5 * (log_variance + (z.unsqueeze(1) - mean).square() / log_variance.exp()).sum(2)
    return each.logsumexp(1) - torch.tensor(float(len(inputs))).log()


def pseudo_inputs(weights: Weights) -> Float[Tensor, "K P"]:
    """``clamp(W e_k + b, 0, 1)``."""
    return (weights["pseudo_inputs.0.weight"].mT + weights["pseudo_inputs.0.bias"]).clamp(0, 1)
