"""Which transform fits a data set: the default of the field, or what the switches ask for."""

from torch import Generator

from curvae.data.errors import DataError
from curvae.data.stored import Raw, StoredRows
from curvae.data.transforms.base import FIXED_NOISE, Chain, Transform
from curvae.data.transforms.elementwise import (
    Binarization,
    Dequantization,
    Identity,
    Logit,
    MeanSubtraction,
    Scale,
    Standardization,
)


def image_transform(
    x: Raw,
    levels: int | None,
    mask: Raw | None = None,
    binarize: str | None = None,
    dequantize: bool = False,
    logit: bool = False,
    standardize: bool = False,
) -> Transform:
    """The transform of images ``x`` ``(N, C, H, W)`` with that many grey levels, fitted on them.

    Args:
        x: training images: integers ``0 .. levels - 1``, or pixels in [0, 1] where ``levels`` is None.
        levels: number of grey levels; 2 = binary, left as they are.
        mask: what of ``x`` is observed.
        binarize: ``"static"`` or ``"dynamic"``; excludes the other switches.
        dequantize: add uniform noise within a level.
        logit: map the unit interval to the real line; then no mean is subtracted.
        standardize: divide by the standard deviation too.

    >>> import torch
    >>> x = torch.tensor([0, 255], dtype=torch.uint8).reshape(2, 1, 1, 1)
    >>> image_transform(x, 256)(x).flatten()
    tensor([-0.5000,  0.5000])
    """
    _check_switches(levels, binarize, dequantize, logit or standardize)
    if levels == 2:
        return Identity()
    pixels = Scale(1.0 if levels is None else 1 / (levels - 1))
    if binarize:
        return Chain(pixels, Binarization(dynamic=binarize == "dynamic"))
    steps: list[Transform] = [Dequantization(levels) if dequantize and levels else pixels]
    if logit:
        steps.append(Logit())
    if standardize or not logit:
        made, generator = Chain(*steps), Generator(x.device).manual_seed(FIXED_NOISE)
        y = x.through(made) if isinstance(x, StoredRows) else made(x, generator)
        steps.append(Standardization.fit(y, mask) if standardize else MeanSubtraction.fit(y, mask))
    return Chain(*steps)


def _check_switches(levels: int | None, binarize: str | None, dequantize: bool, others: bool) -> None:
    if binarize not in (None, "static", "dynamic"):
        raise DataError(f"binarize: expected 'static', 'dynamic' or None, got {binarize!r}.")
    if binarize and (dequantize or others):
        raise DataError(
            "binarize: expected alone, got dequantize, logit or standardize with it; leave one of them out."
        )
    if levels == 2 and (binarize or dequantize or others):
        raise DataError(
            "binarize, dequantize, logit, standardize: expected none for binary data, got one; leave it out."
        )
    if levels is None and dequantize:
        raise DataError("dequantize: expected integer grey levels, got pixels in [0, 1]; leave it out.")
