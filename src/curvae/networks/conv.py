"""A small convolutional pair for images of any size."""

import torch
from torch import Tensor, nn

Event = tuple[int, int, int]


class ConvEncoder(nn.Sequential):
    """(N, C, H, W) -> (N, outputs): two convolutions of stride 2, then two linear layers.

    Example:
        >>> import torch
        >>> ConvEncoder((1, 28, 28), 32)(torch.zeros(2, 1, 28, 28)).shape
        torch.Size([2, 32])
    """

    def __init__(self, event: Event, outputs: int, width: int = 32, hidden: int = 256):
        channels, height, length = event
        super().__init__(
            nn.Conv2d(channels, width, 4, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(2 * width * _twice(height) * _twice(length), hidden),
            nn.ReLU(),
            nn.Linear(hidden, outputs),
        )


class ConvDecoder(nn.Module):
    """(N, latent) -> (N, channels * per_element, H, W): the mirror of ``ConvEncoder``, cropped to the event.

    Example:
        >>> import torch
        >>> ConvDecoder(16, (1, 28, 28))(torch.zeros(2, 16)).shape
        torch.Size([2, 1, 28, 28])
    """

    def __init__(self, latent: int, event: Event, width: int = 32, hidden: int = 256):
        super().__init__()
        channels, self.height, self.length = event
        small = (2 * width, -(-self.height // 4), -(-self.length // 4))
        self.layers = nn.Sequential(
            nn.Linear(latent, hidden),
            nn.ReLU(),
            nn.Linear(hidden, torch.Size(small).numel()),
            nn.ReLU(),
            nn.Unflatten(1, small),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            nn.ReLU(),
            nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1),
        )

    def forward(self, z: Tensor) -> Tensor:
        return self.layers(z)[:, :, : self.height, : self.length]


def _twice(size: int) -> int:
    """Side after two convolutions of kernel 4, stride 2, padding 2."""
    for _ in range(2):
        size = size // 2 + 1
    return size
