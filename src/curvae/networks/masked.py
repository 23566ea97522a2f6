"""A decoder of pictures that sees, beside the latents, the pixels before each one, as far as a window reaches."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn
from torch.nn import functional

from curvae.argument_checks import check_least

Event = tuple[int, int, int]
VALUES = 2**19
"""Of a layer at a time, where no gradient is asked for: draws by the thousand then take no more memory than eta."""


class MaskedDecoder(nn.Module):
    """(N, D) and (N, C, H, W) -> (N, P): what z says of each pixel, and what the pixels before it say.

    ``eta = b(z) + W h_L``; ``h_1 = A * x + M m(z)``, ``h_{l+1} = h_l + B_l * relu(h_l)``, with b and m, maps of the
    size of the picture, from one network of z. The convolutions A and B are masked, M is not: every pixel sees all of
    z. Pixels come row by row. Pixel (i, j) sees those of the ``window`` rows above it that are at most ``window``
    columns away, and the ``window`` pixels before it in its row: all of these and no others. The channels of a pixel
    are independent, given what it sees. W starts at 0, so that a decoder starts at b.

    Half of the units of a layer see the rows above alone; the other half see these and what stands to the left: no
    pixel of the window hides in a blind spot.

    Reference: van den Oord, Kalchbrenner, Vinyals, Espeholt, Graves and Kavukcuoglu, *Conditional Image Generation
    with PixelCNN Decoders*, NIPS 2016; Chen et al., *Variational Lossy Autoencoder*, ICLR 2017.

    Differences: residual layers without gates.

    Args:
        network: from (N, D) to P + maps H W values: b, flat as the likelihood has it, then m.
        event: C, H and W.
        kernels: odd widths of the convolutions; ``window`` is the sum of their halves, rounded down.
        channels: units of each layer at a pixel.
        maps: number of maps m.
        outputs: values that the likelihood takes for each element.
        categories: of each element, where it is one: it is then seen as so many zeros and ones.
        front: how pixels are seen, each by itself: counts by their logarithm, say.

    Raises:
        ValueError: kernels that are none, even or below 1, or a first one of 1 before wider ones; fewer than 2
            channels, or than 1 of anything else.

    Example:
        >>> decoder = MaskedDecoder(nn.Linear(2, 64 + 64), (1, 8, 8), kernels=[5, 3], maps=1)
        >>> decoder.window, decoder(torch.zeros(3, 2), torch.zeros(3, 1, 8, 8)).shape
        (3, torch.Size([3, 64]))
    """

    def __init__(
        self,
        network: nn.Module,
        event: Event,
        kernels: Sequence[int],
        channels: int = 16,
        maps: int = 4,
        outputs: int = 1,
        categories: int = 1,
        front: nn.Module | None = None,
    ):
        super().__init__()
        check_least("MaskedDecoder", 2, channels=channels)
        check_least("MaskedDecoder", 1, maps=maps, outputs=outputs, categories=categories, kernels=len(kernels))
        first, *others = kernels
        if first == 1 and max(kernels) > 1:
            raise ValueError(f"MaskedDecoder: the first kernel alone sees pixels, so it must be wider; got {kernels}.")
        self.network = network
        self.event = event
        self.categories = categories
        self.front = front or nn.Identity()
        self.window = sum(each // 2 for each in kernels)
        self.channels = channels
        self.maps = maps
        self.first = MaskedConv(event[0] * categories, channels, first, seen=False)
        self.context = nn.Conv2d(maps, channels, 1, bias=False)
        self.others = nn.ModuleList(MaskedConv(channels, channels, each) for each in others)
        self.head = nn.Conv2d(channels, event[0] * outputs, 1, bias=False)
        nn.init.zeros_(self.head.weight)

    def forward(self, z: Float[Tensor, "N D"], x: Shaped[Tensor, "N C H W"]) -> Float[Tensor, "N P"]:
        _, height, width = self.event
        rows = max(1, len(z) if torch.is_grad_enabled() else VALUES // (self.channels * height * width))
        return torch.cat([self._eta(*part) for part in zip(z.split(rows), x.split(rows), strict=True)])

    def _eta(self, z: Float[Tensor, "N D"], x: Shaped[Tensor, "N C H W"]) -> Float[Tensor, "N P"]:
        base, maps = self._of_latents(z)
        return (base + self._of_pixels(x, maps)).flatten(1)

    @torch.no_grad()
    def ancestral(
        self, z: Float[Tensor, "N D"], draw: Callable[[Float[Tensor, "N P"]], Shaped[Tensor, "N C H W"]]
    ) -> Float[Tensor, "N C H W"]:
        """x, pixel by pixel: each is drawn given z and the pixels that it sees, which makes an exact draw of p(x | z).

        Args:
            z: latents.
            draw: of the likelihood, x given eta, each element by itself.
        """
        base, maps = self._of_latents(z)
        eta, (channels, height, width) = base.clone(), self.event
        x = eta.new_zeros(len(z), channels, height, width)
        for i in range(height):
            for j in range(width):
                rows = slice(max(0, i - self.window), i + 1)
                columns = slice(max(0, j - self.window), j + self.window + 1)
                near = self._of_pixels(x[..., rows, columns], maps[..., rows, columns])
                eta[:, :, i, j] += near[:, :, -1, j - columns.start]
                x[:, :, i, j] = draw(eta.flatten(1))[:, :, i, j].to(x.dtype)
        return x

    def _of_latents(self, z: Float[Tensor, "N D"]) -> tuple[Float[Tensor, "N C H W K"], Float[Tensor, "N M H W"]]:
        """b(z), and m(z)."""
        channels, height, width = self.event
        out = self.network(z)
        size = out.shape[1] - self.maps * height * width
        return out[:, :size].unflatten(1, (channels, height, width, -1)), out[:, size:].unflatten(
            1, (self.maps, height, width)
        )

    def _of_pixels(self, x: Shaped[Tensor, "N C h w"], maps: Float[Tensor, "N M h w"]) -> Float[Tensor, "N C h w K"]:
        """What the pixels of a part of a picture, with the maps there, say of it."""
        h = self.first(self._as_numbers(x, maps)) + self.context(maps)
        for layer in self.others:
            h = h + layer(functional.relu(h))
        return self.head(functional.relu(h)).unflatten(1, (self.event[0], -1)).movedim(2, -1)

    def _as_numbers(self, x: Shaped[Tensor, "N C h w"], like: Tensor) -> Float[Tensor, "N Q h w"]:
        """As they are seen: categories as zeros and ones."""
        if self.categories == 1:
            return self.front(x.to(like.dtype))
        known = torch.arange(self.categories, device=x.device).reshape(-1, 1, 1)
        return (x.unsqueeze(2) == known).to(like.dtype).flatten(1, 2)


class MaskedConv(nn.Conv2d):
    """A convolution of the same size that sees nothing below a pixel and, of its row, no more than its mask lets it.

    The first half of the outputs are of rows above alone, the second of what stands to the left, too. So are the
    inputs, where there are layers before (``seen``), and these may be seen at the pixel itself; raw pixels may not.

    Raises:
        ValueError: an even kernel, or one below 1.

    Example:
        >>> MaskedConv(1, 4, 3, seen=False).mask[[0, 3], 0].int().tolist()   # of rows above; and of those to the left
        [[[1, 1, 1], [0, 0, 0]], [[1, 1, 1], [1, 0, 0]]]
    """

    mask: Tensor

    def __init__(self, inputs: int, outputs: int, kernel: int, seen: bool = True):
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"MaskedConv: kernel must be odd, 1 or more; got {kernel}.")
        self.reach = kernel // 2
        super().__init__(inputs, outputs, (self.reach + 1, kernel))
        self.register_buffer("mask", causal_mask(inputs, outputs, self.reach, seen), persistent=False)

    def forward(self, input: Float[Tensor, "N I h w"]) -> Float[Tensor, "N O h w"]:
        padded = functional.pad(input, (self.reach, self.reach, self.reach, 0))
        return functional.conv2d(padded, self.weight * self.mask, self.bias)


def causal_mask(inputs: int, outputs: int, half: int, seen: bool) -> Bool[Tensor, "O I k w"]:
    """What :class:`MaskedConv` sees of the rows from ``half`` above to its own, and of ``half`` columns either side."""
    mask = torch.ones(outputs, inputs, half + 1, 2 * half + 1, dtype=torch.bool)
    row, (above, left) = mask[:, :, -1], (slice(0, outputs // 2), slice(outputs // 2, outputs))
    raw = slice(inputs // 2 if seen else 0, inputs)  # the others know nothing of their own row
    row[above, raw] = False
    row[left, raw, half + seen :] = False
    return mask


def kernels_for(window: int, layers: int) -> list[int]:
    """Odd kernels of so many layers whose halves sum to the window, as even as can be, the widest first.

    Example:
        >>> kernels_for(15, 3), kernels_for(2, 3)
        ([11, 11, 11], [3, 3, 1])
    """
    check_least("kernels", 0, window=window)
    check_least("kernels", 1, layers=layers)
    half, wider = divmod(window, layers)
    return [2 * (half + (layer < wider)) + 1 for layer in range(layers)]
