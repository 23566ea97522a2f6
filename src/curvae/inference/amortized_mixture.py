"""A mixture of posteriors, each from its own inference method, with weights from a network."""

from collections.abc import Sequence

import torch
from torch import nn

from curvae.inference.inference import AffinePosterior, Inference, Inferred, prefixed, start_at
from curvae.model import LatentVariableModel
from curvae.networks import run_encoder
from curvae.posteriors import DensityPosterior, Mixture
from curvae.typing import Batch


class AmortizedMixture(Inference):
    """``Q(z | x) = sum_k pi_k(x) q_k(z | x)`` with ``pi(x) = softmax(gate(x))``: one feed-forward pass.

    Trained by ``monte_carlo_elbo`` it is the plain mixture with the stratified bound; by ``RecursiveElbo`` the
    recursive one, where each component learns what those before it leave out.

    Args:
        components: K inference methods whose posteriors have a density.
        gate: the network of the weights, from a batch of data to K logits.

    Raises:
        ValueError: no components; in use, a posterior without a density, or not K logits.

    Example:
        >>> import torch
        >>> from curvae.inference import AmortizedGaussian, AmortizedMixture
        >>> parts = [AmortizedGaussian(torch.nn.Linear(5, 6)) for _ in range(2)]
        >>> inference = AmortizedMixture(parts, gate=torch.nn.Linear(5, 2))
        >>> inference(None, Batch(torch.zeros(4, 5), torch.arange(4))).posterior.draw(3).z.shape   # 3 of each
        torch.Size([6, 4, 3])
    """

    def __init__(self, components: Sequence[Inference], gate: nn.Module):
        super().__init__()
        if not components:
            raise ValueError("AmortizedMixture: expects 1 or more components; got none.")
        self.components = nn.ModuleList(components)
        self.gate = gate
        self.alone = all(component.alone for component in components)

    def forward(self, model: LatentVariableModel | None, batch: Batch) -> Inferred:
        parts = [component(model, batch) for component in self.components]
        for part in parts:
            if not isinstance(part.posterior, DensityPosterior):
                raise ValueError(
                    f"AmortizedMixture: expects components with a density; got {type(part.posterior).__name__}."
                )
        bounds = [part.encoder_bound for part in parts if part.encoder_bound is not None]
        states = [prefixed(f"components.{k}", part.state) for k, part in enumerate(parts)]
        state = {name: value for each in states for name, value in each.items()}
        posterior = Mixture(tuple(part.posterior for part in parts), run_encoder(self.gate, batch))
        return Inferred(posterior, encoder_bound=torch.stack(bounds).sum(0) if bounds else None, state=state)

    def start_from(self, posterior: AffinePosterior) -> bool:
        """Every component starts there; their other weights differ, so that they part in training."""
        taken = [start_at(component, posterior) for component in self.components]
        return all(taken)
