"""A posterior of latents and a label: an amortized Gaussian that each label moves in its block."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from curvae.inference.encoder_start import last_layer
from curvae.inference.inference import Continued, Inference, Inferred, prefixed
from curvae.linalg import soft_bound
from curvae.model import LatentVariableModel
from curvae.networks import run_encoder
from curvae.posteriors import DiagonalGaussian, Mixture
from curvae.typing import Batch


class AmortizedLabels(Continued):
    """``q(y, z | x) = q(y | x) N(z; m(x) + a_y(x), diag(s(x) b_y(x))^2)``: each of C labels moves z in one block.

    A labeled :class:`curvae.distributions.Mixture`: with a prior whose block is a mixture of C components, the ELBO
    sums over y exactly. The gate gives ``C (1 + 2 d)`` values: logits, then by label the moves a_y and log b_y, the
    latter softly bounded; the moves start at 0.

    Args:
        start: m and s: an inference that gives diagonal Gaussians.
        gate: the network of labels, from a batch of data.
        labels: C.
        size: d, of the block: the first d latents.

    Raises:
        ValueError: in use, a start without diagonal Gaussians, or a gate that gives another number of values.

    Example:
        >>> from curvae.inference import AmortizedGaussian
        >>> start = AmortizedGaussian(nn.Linear(5, 2 * 3))
        >>> inference = AmortizedLabels(start, nn.Linear(5, 4 * (1 + 2 * 2)), labels=4, size=2)
        >>> q = inference(None, Batch.of(torch.zeros(6, 5))).posterior
        >>> q.logits.shape, q.draw(1).z.shape      # one of each label
        (torch.Size([6, 4]), torch.Size([4, 6, 3]))
    """

    def __init__(self, start: Inference, gate: nn.Module, labels: int, size: int):
        super().__init__(start)
        self.alone = start.alone
        self.gate = gate
        self.labels = labels
        self.size = size
        if (last := last_layer(gate)) is not None:
            with torch.no_grad():
                for parameter in last.parameters():
                    parameter[labels:] = 0

    def forward(self, model: LatentVariableModel | None, batch: Batch) -> Inferred:
        found = self.start(model, batch)  # pyright: ignore[reportArgumentType]
        q, out = found.posterior, run_encoder(self.gate, batch)
        if not isinstance(q, DiagonalGaussian):
            raise ValueError(f"AmortizedLabels: expects a start of diagonal Gaussians; got {type(q).__name__}.")
        if out.shape[1:] != (expected := self.labels * (1 + 2 * self.size),):
            raise ValueError(
                f"AmortizedLabels: the gate must give C (1 + 2 d) = {expected} values; got {tuple(out.shape[1:])}. "
                "Change its last layer."
            )
        logits, moves = out[:, : self.labels], out[:, self.labels :].unflatten(1, (self.labels, 2, self.size))
        laws = tuple(self._moved(q, move) for move in moves.unbind(1))
        return found._replace(posterior=Mixture(laws, logits, labeled=True), state=prefixed("start", found.state))

    def _moved(self, q: DiagonalGaussian, move: Float[Tensor, "B 2 d"]) -> DiagonalGaussian:
        shift, stretch = nn.functional.pad(move, (0, q.loc.shape[-1] - self.size)).unbind(1)
        return DiagonalGaussian(q.loc + shift, q.log_scale + soft_bound(stretch))
