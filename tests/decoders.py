"""Decoders of every make, from (N, 3), all tiny: what users bring, beside the chains of layers that we know ourselves.

An entry makes a module in float32; ``pair`` gives it together with its reference, the same in float64.
"""

import copy
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations
from torch.utils.checkpoint import checkpoint

from curvae.networks import MLP

SIZE = 3
WIDTH = 4
TOKENS = 3
IMAGE = (WIDTH, 4, 4)

Map = Callable[..., Any]
Wrap = Callable[[nn.Module], nn.Module]


class Between(nn.Module):
    """A linear layer up, the thing itself, a linear layer down: what a decoder mostly is."""

    def __init__(self, middle: nn.Module, shape: tuple[int, ...] = (TOKENS, WIDTH), outputs: int = 5):
        super().__init__()
        self.up, self.middle, self.shape = nn.Linear(SIZE, torch.Size(shape).numel()), middle, shape
        width = middle(torch.zeros(2, *shape)).flatten(1).shape[1]
        self.down = nn.Linear(width, outputs)

    def forward(self, z: Tensor) -> Tensor:
        return self.down(self.middle(self.up(z).unflatten(1, self.shape)).flatten(1))


class Do(nn.Module):
    """A function as a layer."""

    def __init__(self, function: Map, *layers: nn.Module):
        super().__init__()
        self.function, self.layers = function, nn.ModuleList(layers)

    def forward(self, h: Tensor) -> Tensor:
        return self.function(h, *self.layers)


def image(*layers: nn.Module) -> nn.Module:
    """Layers on images of (4, 4, 4)."""
    return Between(nn.Sequential(*layers), IMAGE)


def function(of: Map, *layers: nn.Module, shape: tuple[int, ...] = (TOKENS, WIDTH)) -> nn.Module:
    return Between(Do(of, *layers), shape)


# --------------------------------------------------------------------------------------------------- attention


class Attention(nn.Module):
    """Every token looks at every one."""

    def __init__(self, **options):
        super().__init__()
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True, **options)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.attention(h, h, h)[0]


class Queries(nn.Module):
    """A transformer decoder: learned queries look at the latents."""

    def __init__(self):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(5, WIDTH))
        self.layer = nn.TransformerDecoderLayer(WIDTH, 2, 8, batch_first=True)

    def forward(self, h: Tensor) -> Tensor:
        return self.layer(self.queries.expand(len(h), -1, -1), h)


def encoder_layer(**options) -> nn.Module:
    return nn.TransformerEncoderLayer(WIDTH, 2, 8, batch_first=True, **options)


def stack() -> nn.Module:
    return nn.TransformerEncoder(encoder_layer(norm_first=True, activation="gelu"), 1, enable_nested_tensor=False)


def causal(h: Tensor) -> Tensor:
    return functional.scaled_dot_product_attention(h, h, h, is_causal=True)


# ------------------------------------------------------------------------------------- blocks of diffusers' decoder


class ResnetBlock(nn.Module):
    """diffusers' ``ResnetBlock2D``: group norm, SiLU, convolution, twice."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm1, self.norm2 = nn.GroupNorm(2, channels), nn.GroupNorm(2, channels)
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.dropout = nn.Dropout(0.1)

    def forward(self, h: Tensor) -> Tensor:
        inner = self.conv1(functional.silu(self.norm1(h)))
        return h + self.conv2(self.dropout(functional.silu(self.norm2(inner))))


class AttentionBlock(nn.Module):
    """diffusers' ``Attention`` in the middle of a VAE's decoder: tokens are views of a picture."""

    def __init__(self, channels: int):
        super().__init__()
        self.group_norm = nn.GroupNorm(2, channels)
        self.to_q, self.to_k, self.to_v, self.to_out = (nn.Linear(channels, channels) for _ in range(4))

    def forward(self, h: Tensor) -> Tensor:
        count, channels, height, width = h.shape
        tokens = h.view(count, channels, height * width).transpose(1, 2)
        tokens = self.group_norm(tokens.transpose(1, 2)).transpose(1, 2)
        heads = [to(tokens).view(count, -1, 1, channels).transpose(1, 2) for to in (self.to_q, self.to_k, self.to_v)]
        out = functional.scaled_dot_product_attention(*heads).transpose(1, 2).reshape(count, -1, channels)
        return h + self.to_out(out).transpose(-1, -2).reshape(h.shape)


class Upsample(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        return self.conv(functional.interpolate(h, scale_factor=2.0, mode="nearest"))


def diffusers_decoder() -> nn.Module:
    return image(
        nn.Conv2d(WIDTH, WIDTH, 3, padding=1),
        ResnetBlock(WIDTH),
        AttentionBlock(WIDTH),
        ResnetBlock(WIDTH),
        Upsample(WIDTH),
        nn.GroupNorm(2, WIDTH),
        nn.SiLU(),
        nn.Conv2d(WIDTH, 2, 3, padding=1),
    )


class ChannelsLast(nn.Module):
    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body.to(memory_format=torch.channels_last)

    def forward(self, h: Tensor) -> Tensor:
        return self.body(h.contiguous(memory_format=torch.channels_last))


# -------------------------------------------------------------------------------------------------- convolutions


def padded(mode: str) -> nn.Module:
    return image(nn.Conv2d(WIDTH, 3, 3, padding="same", padding_mode=mode, dilation=1), nn.SiLU())


def upsampled(mode: str) -> nn.Module:
    return image(nn.Upsample(scale_factor=2, mode=mode), nn.Conv2d(WIDTH, 2, 3))


def transposed() -> nn.Module:
    return image(nn.ConvTranspose2d(WIDTH, 3, 4, 2, 1), nn.BatchNorm2d(3), nn.ReLU(), nn.ConvTranspose2d(3, 1, 3))


def recurrent(kind: type[nn.RNNBase], **options) -> nn.Module:
    return function(lambda h, net: net(h)[0], kind(WIDTH, 3, batch_first=True, **options))


def cell(h: Tensor, net: nn.GRUCell) -> Tensor:
    """One step after the other, each fed with the state before."""
    states = [h[:, 0, :]]
    for _ in range(3):
        states.append(net(h[:, 1], states[-1]))
    return torch.stack(states, 1)


# ----------------------------------------------------------------------------------------------- custom functions


class Cube(torch.autograd.Function):
    """As it was written before ``setup_context``."""

    @staticmethod
    def forward(ctx, h):
        ctx.save_for_backward(h)
        return h**3

    @staticmethod
    def backward(ctx, cotangent):
        (h,) = ctx.saved_tensors
        return 3 * h**2 * cotangent


class NewCube(torch.autograd.Function):
    """With ``setup_context``, but neither forward mode nor a rule for vmap."""

    @staticmethod
    def forward(h):
        return h**3

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    backward = Cube.backward


class Once(torch.autograd.Function):
    """Differentiable once."""

    forward = Cube.forward

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, cotangent):
        (h,) = ctx.saved_tensors
        return 3 * h**2 * cotangent


# ------------------------------------------------------------------------------------- what functions can contain


def in_place(h: Tensor, *_) -> Tensor:
    h = h + 1
    h += 0.5
    h[:, 0] = h[:, 1].exp()
    h[:, 2].mul_(2.0)
    out = torch.zeros_like(h)
    out[:, :2] = h[:, 1:]
    out.index_add_(1, torch.tensor([2]), h[:, :1])
    return functional.relu(out, inplace=True)


def complex_inside(h: Tensor) -> Tensor:
    waves = torch.fft.rfft(h, dim=-1)
    waves = waves * torch.exp(0.3j * torch.arange(waves.shape[-1]))
    return torch.fft.irfft(waves, n=h.shape[-1], dim=-1) + waves.abs().mean(-1, keepdim=True)


def gated(h: Tensor) -> Tensor:
    """Asks what the values are."""
    return h.sin() if bool(h.mean() > -1e9) and h.sum().item() > -1e9 else h.cos()


def sparse(h: Tensor) -> Tensor:
    graph = torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]]).to_sparse().to(h)
    return torch.stack([torch.sparse.mm(graph, one) for one in h])


def slope_inside(h: Tensor) -> Tensor:
    return h - 0.1 * torch.func.grad(lambda at: (at**4).sum())(h)


def energy_inside(h: Tensor) -> Tensor:
    with torch.enable_grad():
        at = h if h.requires_grad else h.detach().requires_grad_()
        return h - 0.1 * torch.autograd.grad((at**4).sum(), at, create_graph=True)[0]


def warped(h: Tensor) -> Tensor:
    angle = h[:, 0, 0, 0]
    rows = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], -1).view(-1, 2, 2)
    grid = functional.affine_grid(torch.cat([rows, torch.zeros_like(rows[..., :1])], -1), list(h.shape), False)
    return functional.grid_sample(h, 0.7 * grid, align_corners=False)


def radial(h: Tensor) -> Tensor:
    return torch.exp(-torch.cdist(h, h.new_tensor([[0.3, -0.2, 0.1, 0.5], [1.0, 0.4, -0.6, 0.2]])))


class Tied(nn.Module):
    """Used twice, once transposed."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(SIZE, 6))

    def forward(self, z: Tensor) -> Tensor:
        return torch.tanh(torch.tanh(z @ self.weight) @ self.weight.mT) @ self.weight


class Picked(nn.Module):
    """A mixture of learned codes, and a look into a table."""

    def __init__(self):
        super().__init__()
        self.codes, self.place = nn.Parameter(torch.randn(5, WIDTH)), nn.Embedding(TOKENS, WIDTH)

    def forward(self, h: Tensor) -> Tensor:
        soft = (h @ self.codes.mT).softmax(-1) @ self.codes
        return (soft + self.place(torch.arange(TOKENS))).sort(1).values.cumsum(1)


def hooked() -> nn.Module:
    decoder = Between(nn.Linear(WIDTH, WIDTH))
    decoder.middle.register_forward_pre_hook(lambda _module, given: (given[0].sin(),))
    decoder.middle.register_forward_hook(lambda _module, _given, out: 2 * out)
    decoder.middle.register_full_backward_hook(lambda _module, _into, _out: None)
    return decoder


def hooked_chain() -> nn.Module:
    decoder = nn.Sequential(nn.Linear(SIZE, 6), nn.ReLU(), nn.Linear(6, 9))
    decoder[1].register_forward_hook(lambda _module, _given, out: out.square())
    return decoder


def normed(wrap: Callable[[nn.Module], nn.Module]) -> nn.Module:
    decoder = nn.Sequential(wrap(nn.Linear(SIZE, 6)), nn.Tanh(), wrap(nn.Linear(6, 5)))
    decoder(torch.randn(2, SIZE))
    return decoder


def rematerialized(h: Tensor, net: nn.Module) -> Tensor:
    return checkpoint(lambda at: net(at).tanh(), h, use_reentrant=False)


# -------------------------------------------------------------------------------------------------- low precision


class Rounded(nn.Module):
    """Takes the latents to its own precision, and what it gives back to theirs."""

    def __init__(self, body: nn.Module, dtype: torch.dtype):
        super().__init__()
        self.body, self.dtype = body.to(dtype), dtype

    def forward(self, z: Tensor) -> Tensor:
        return self.body(z.to(self.dtype)).to(z.dtype)


class Autocast(nn.Module):
    def __init__(self, body: nn.Module):
        super().__init__()
        self.body = body

    def forward(self, z: Tensor) -> Tensor:
        with torch.autocast(z.device.type, torch.bfloat16):
            return self.body(z).float()


def small() -> nn.Module:
    return Between(Attention())


def convolved() -> nn.Module:
    return nn.Sequential(nn.Linear(SIZE, 9), nn.Unflatten(1, (1, 3, 3)), nn.Conv2d(1, 2, 2), nn.SiLU())


def plain() -> nn.Module:
    return nn.Sequential(nn.Linear(SIZE, 6), nn.Tanh(), nn.GroupNorm(2, 6), nn.Linear(6, 5))


def smooth() -> nn.Module:
    return nn.Sequential(nn.Linear(SIZE, 6), nn.Tanh(), nn.LayerNorm(6), nn.Linear(6, 5))


class Mirrored:
    """A decoder and what it is in float64, where ``.double()`` does not give that."""

    def __init__(self, decoder: nn.Module, reference: nn.Module):
        self.decoder, self.reference = decoder, reference


Make = Callable[[], nn.Module | Mirrored]


def pair(make: Make) -> tuple[nn.Module, nn.Module]:
    """A decoder in evaluation mode and, from the same weights, one in float64."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # makers that torch no longer recommends
        state = torch.get_rng_state()
        found = make()
        if isinstance(found, Mirrored):
            return found.decoder.eval(), found.reference.double().eval()
        torch.set_rng_state(state)
        twin = make()
        assert isinstance(twin, nn.Module)
        return found.eval(), twin.double().eval()


def low(wrap: Wrap, body: nn.Module, dtype: torch.dtype) -> Mirrored:
    """The same rounded weights."""
    reference = copy.deepcopy(body).to(dtype).double()
    return Mirrored(wrap(body.to(dtype)), reference)


def made(wrap: Callable[[nn.Module], Any], body: nn.Module) -> Mirrored:
    return Mirrored(wrap(body.eval()), copy.deepcopy(body))


BFLOAT, HALF = torch.bfloat16, torch.float16


def traced(body: nn.Module) -> nn.Module:
    return torch.jit.trace(body, torch.randn(2, SIZE))


def traced_in_half(body: nn.Module) -> nn.Module:
    return torch.jit.trace(body, torch.randn(2, SIZE, dtype=BFLOAT))


def eager(body: nn.Module) -> Any:
    return torch.compile(body, backend="eager")


def aot(body: nn.Module) -> Any:
    return torch.compile(body, backend="aot_eager")


DECODERS: dict[str, Make] = {
    "multihead-attention": lambda: Between(Attention()),
    "multihead-attention-bias": lambda: Between(Attention(add_bias_kv=True, dropout=0.1)),
    "causal-attention": lambda: function(causal),
    "transformer-layer": lambda: Between(encoder_layer()),
    "transformer": lambda: Between(stack()),
    "transformer-decoder": lambda: Between(Queries()),
    "diffusers": diffusers_decoder,
    "diffusers-channels-last": lambda: Between(ChannelsLast(nn.Sequential(*diffusers_decoder().middle)), IMAGE),
    "group-norm": lambda: image(nn.GroupNorm(2, WIDTH), nn.SiLU()),
    "group-norm-channels-last": lambda: Between(ChannelsLast(nn.Sequential(nn.GroupNorm(2, WIDTH))), IMAGE),
    "instance-norm": lambda: image(nn.InstanceNorm2d(WIDTH, affine=True)),
    "rms-norm": lambda: Between(nn.RMSNorm(WIDTH)),
    "batch-norm-max-pool": lambda: image(nn.BatchNorm2d(WIDTH), nn.MaxPool2d(2)),
    "padding-zeros": lambda: padded("zeros"),
    "padding-reflect": lambda: padded("reflect"),
    "padding-replicate": lambda: padded("replicate"),
    "padding-circular": lambda: padded("circular"),
    "upsample-nearest": lambda: upsampled("nearest"),
    "upsample-bilinear": lambda: upsampled("bilinear"),
    "upsample-bicubic": lambda: upsampled("bicubic"),
    "upsample-area": lambda: function(lambda h: functional.interpolate(h, (7, 7), mode="area"), shape=IMAGE),
    "upsample-antialias": lambda: function(
        lambda h: functional.interpolate(h, (3, 3), mode="bilinear", antialias=True), shape=IMAGE
    ),
    "conv-transpose": transposed,
    "conv-1d": lambda: Between(nn.Conv1d(TOKENS, 4, 3, padding=1, groups=1)),
    "conv-3d": lambda: Between(nn.Conv3d(2, 2, 2), (2, 2, 3, 3)),
    "pixel-shuffle": lambda: image(nn.PixelShuffle(2), nn.Conv2d(1, 2, 3)),
    "fold": lambda: Between(nn.Fold((3, 3), 2), (2 * 4, 4)),
    "gru": lambda: recurrent(nn.GRU),
    "lstm": lambda: recurrent(nn.LSTM, num_layers=2, bidirectional=True),
    "rnn": lambda: recurrent(nn.RNN),
    "gru-cell": lambda: function(cell, nn.GRUCell(WIDTH, WIDTH)),
    "weight-norm": lambda: normed(parametrizations.weight_norm),
    "spectral-norm": lambda: normed(parametrizations.spectral_norm),
    "weight-norm-hook": lambda: normed(nn.utils.weight_norm),
    "spectral-norm-hook": lambda: normed(nn.utils.spectral_norm),
    "compiled": lambda: made(aot, smooth()),
    "compiled-attention": lambda: made(eager, small()),
    "scripted": lambda: made(torch.jit.script, plain()),
    "traced": lambda: made(traced, plain()),
    "scripted-conv": lambda: made(torch.jit.script, convolved()),
    "function-old": lambda: function(Cube.apply),
    "function-new": lambda: function(NewCube.apply),
    "in-place": lambda: function(in_place),
    "relu-in-place": lambda: image(
        nn.Conv2d(WIDTH, 3, 3), nn.ReLU(inplace=True), nn.BatchNorm2d(3), nn.SiLU(inplace=True)
    ),
    "complex": lambda: function(complex_inside),
    "hooks": hooked,
    "hooks-in-a-chain": hooked_chain,
    "tied": Tied,
    "codes": lambda: Between(Picked()),
    "checkpoint": lambda: function(rematerialized, nn.Linear(WIDTH, 3)),
    "asks-values": lambda: function(gated),
    "sparse": lambda: function(sparse),
    "slope-inside": lambda: function(slope_inside),
    "energy-inside": lambda: function(energy_inside),
    "vmap-inside": lambda: function(lambda h, net: torch.vmap(net)(h), nn.Linear(WIDTH, 2)),
    "grid-sample": lambda: function(warped, shape=IMAGE),
    "einsum-sort": lambda: function(lambda h: torch.einsum("ntw,nsw->nts", h, h).topk(2).values),
    "linalg": lambda: function(lambda h: torch.linalg.solve(h @ h.mT + torch.eye(TOKENS).to(h), h)),
    "matrix-exp": lambda: function(lambda h: torch.matrix_exp(0.3 * h @ h.mT)),
    "float64-inside": lambda: function(lambda h: h.double().sin().to(h.dtype)),
    "bfloat16": lambda: low(nn.Identity(), small(), BFLOAT),
    "bfloat16-cast": lambda: low(partial(Rounded, dtype=BFLOAT), small(), BFLOAT),
    "bfloat16-conv": lambda: low(partial(Rounded, dtype=BFLOAT), transposed(), BFLOAT),
    "bfloat16-gru": lambda: low(nn.Identity(), recurrent(nn.GRU), BFLOAT),
    "bfloat16-layers": lambda: low(nn.Identity(), MLP(SIZE, [6, 7], 9), BFLOAT),
    "bfloat16-scripted": lambda: low(torch.jit.script, plain(), BFLOAT),
    "bfloat16-traced": lambda: low(traced_in_half, plain(), BFLOAT),
    "float16": lambda: low(nn.Identity(), smooth(), HALF),
}
"""Exact to 1e-4."""

ROUGH: dict[str, Make] = {
    "autocast": lambda: low(Autocast, small(), torch.float32),
}
"""Within 3e-2: they round on the way, and not where we can keep them from it."""

ONCE: dict[str, Make] = {
    "cdist": lambda: function(radial),
    "once": lambda: function(Once.apply),
}
"""Differentiable once: they have a precision, but no gradient flows through it."""

REFUSED: dict[str, tuple[Make, str]] = {
    "numpy": (
        lambda: function(lambda h: torch.from_numpy(h.numpy() ** 2)),
        "differentiated once, got .*numpy.* layer 'middle' .Do.",
    ),
    "no-grad": (
        lambda: function(torch.no_grad()(torch.sin)),
        "follows z smoothly, got no slope from layer 'middle' .Do.; leave out detach",
    ),
    "detach": (lambda: function(lambda h: h.detach().sin()), "follows z smoothly, got no slope from layer 'middle'"),
    "dropout": (
        lambda: function(functional.dropout),
        "one function of z in evaluation mode, got another output each time from layer 'middle'",
    ),
    "batch-statistics": (
        lambda: image(nn.Conv2d(WIDTH, WIDTH, 1), nn.BatchNorm2d(WIDTH, track_running_stats=False)),
        "rows that do not depend on one another, got .* from layer 'middle.1' .BatchNorm2d.; normalize within a row",
    ),
}
"""And the line that says why."""
