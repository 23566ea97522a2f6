"""The parts of the page on blocks of latents: what each level does, and the clusters of each mixture, as pictures."""

from itertools import accumulate

import numpy as np

from curvae.evaluation import formatting
from curvae.report import page, pictures, style
from curvae.report.page import PageSection
from curvae.report.snapshot import Arrays, Snapshot


def block_sections(run: Snapshot) -> list[PageSection]:
    """Traversals and clusters; nothing for a run that has none."""
    found = run.pictures
    if run.evaluation is None or "blocks" not in found:
        return []
    shown = []
    if "traversals" in found:
        shown.append(PageSection("levels", "What each level does", page.grid(_levels(found))))
    if "clusters" in found:
        shown.append(PageSection("clusters", "Clusters", page.grid(_clusters(found))))
    return shown


def _levels(arrays: Arrays) -> list[str]:
    """A sheet for each block, a row for each of its latents."""
    sizes, moved = arrays["blocks"], arrays["traversal_latent"]
    rows = arrays["traversals"].reshape(len(moved), -1, *arrays["traversals"].shape[1:])
    limits, ends = pictures.gray_range(arrays["originals"]), [0, *accumulate(sizes.tolist())]
    tags = []
    for k in range(len(sizes)):
        of = (moved >= ends[k]) & (moved < ends[k + 1])
        names = ", ".join(f"z{d}" for d in moved[of])
        caption = (
            f"{_name(k, len(sizes))}: {names}, a row each, between the 2.5 % and the 97.5 % quantile of the prior; "
        )
        caption += "all other latents are those of the first datum. A row in which nothing moves is a latent not used."
        tags.append(
            _tag(rows[of].reshape(-1, *rows.shape[2:]), rows.shape[1], limits, "Traversals of latents.", caption)
        )
    return tags


def _clusters(arrays: Arrays) -> list[str]:
    """A sheet for each mixture, a row for each of its components."""
    every, sizes = arrays["cluster_shares"], arrays["blocks"]
    sheets = arrays["clusters"].reshape(len(every), -1, *arrays["clusters"].shape[1:])
    limits = pictures.gray_range(arrays["originals"])
    tags = []
    for sheet, shares, block in zip(sheets, every, arrays["cluster_blocks"], strict=True):
        used = int((shares > 0).sum())
        count = formatting.format_count(len(shares), "component", "components")
        caption = f"{_name(int(block), len(sizes))}: a row for each of {count}. First the decoder’s mean "
        caption += "at its center, then the first data of which it is the most probable "
        caption += f"component; {used} are used, by {_percents(shares)} of the data."
        tags.append(_tag(sheet, len(sheet) // len(shares), limits, "Components and data of them.", caption))
    return tags


def _tag(images: np.ndarray, columns: int, limits: tuple[float, float], alt: str, caption: str) -> str:
    return page.figure_tag(style.png_of(pictures.tiles(images, columns, limits)), alt, caption, "wide pixels")


def _name(block: int, count: int) -> str:
    if count == 1:
        return "All latents"
    return f"Block {block + 1} of {count}" + (", the deepest" if block == 0 else "")


def _percents(shares: np.ndarray) -> str:
    return ", ".join(f"{100 * share:.0f}" for share in shares) + " %"
