"""A network whose weights another, smaller one changes for each example."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from curvae.networks.mlp import MLP


class ModulatedMLP(nn.Module):
    r"""``h_l = relu((1 + a_l(x)) * (W_l h_{l-1} + b_l) + c_l(x))`` with ``(a, c) = hyper(x)``, then a linear layer.

    So every example has an MLP of its own, with weights ``diag(1 + a_l(x)) W_l`` and biases ``(1 + a_l(x)) b_l +
    c_l(x)`` in its hidden layers, in one pass. At rest (``a = c = 0``) all have the shared one.

    Args:
        inputs: size of one example, flat.
        hidden: widths of the hidden layers of the shared network; at least one.
        outputs: size of the output.
        hyper: width of the one hidden layer of the hypernetwork.

        front: what x goes through first, for both networks.

    Raises:
        ValueError: no hidden layer to modulate, or a hypernetwork without units.

    Example:
        >>> import torch
        >>> network = ModulatedMLP(12, [32, 32], 4, hyper=8)
        >>> x = torch.randn(5, 3, 4)
        >>> network(x).shape, torch.equal(network(x), network.shared(x))
        (torch.Size([5, 4]), False)
        >>> network.rest()
        >>> torch.allclose(network(x), network.shared(x))
        True
    """

    def __init__(
        self, inputs: int, hidden: Sequence[int], outputs: int, hyper: int = 64, front: nn.Module | None = None
    ):
        super().__init__()
        if not hidden or hyper < 1:
            raise ValueError(
                "ModulatedMLP: expects 1 or more hidden layers and a hypernetwork of 1 or more units; got "
                f"hidden={[*hidden]}, hyper={hyper}."
            )
        self.widths, self.front = [*hidden], front or nn.Identity()
        self.hyper = MLP(inputs, [hyper], 2 * sum(hidden))
        self.shared = MLP(inputs, hidden, outputs)  # after the other: a network's last linear layer gives its outputs
        with torch.no_grad():
            for parameter in self.hyper[-1].parameters():
                parameter.mul_(0.1)

    @torch.no_grad()
    def rest(self) -> None:
        """Nothing is modulated, until training changes that: only the hypernetwork's last layer is 0."""
        for parameter in self.hyper[-1].parameters():
            parameter.zero_()

    def forward(self, x: Tensor) -> Tensor:
        x = self.front(x)
        scales, shifts = self.hyper(x).chunk(2, dim=-1)
        flat, *layers, last = self.shared
        h, linear, activations = flat(x), layers[::2], layers[1::2]
        parts = zip(linear, activations, scales.split(self.widths, -1), shifts.split(self.widths, -1), strict=True)
        for layer, activation, scale, shift in parts:
            h = layer(h)
            h = activation(torch.addcmul(h + shift, h, scale))
        return last(h)
