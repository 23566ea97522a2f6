"""The will-it-move test: whether the codes of a set of rows follow another prior more readily than known ones do."""

import copy
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from curvae.data import ArrayTable
from curvae.priors import Prior
from curvae.systems import LatentSystem
from curvae.systems.device import batch_to_system
from curvae.typing import Batch

BATCH = 256


class WillItMoveScores(NamedTuple):
    """Negative bound of each row after a short training, under the original prior: the larger, the less known."""

    asked: Float[Tensor, " A"]
    known: Float[Tensor, " K"]
    """Of the held-out rows of the model's own kind that were trained beside them."""


def will_it_move(
    system: LatentSystem,
    train: ArrayTable,
    asked: ArrayTable,
    known: ArrayTable,
    other: Prior,
    steps: int = 5,
    rate: float = 5e-5,
    weight: float = 0.1,
    seed: int = 0,
) -> WillItMoveScores:
    """Negative bounds after some steps that draw the codes of both sets towards another prior.

    A copy of the system takes ``steps`` steps of Adam on ``-bound(train) - weight (bound'(asked) + bound'(known))``,
    where bound' has the prior ``other`` in place of the system's. Rows of the kind that the system was trained on are
    held in place by the training batch; others are free to move. It is a test of a set, not of a row: all rows that are
    asked for should be of one kind.

    Reference: Floto, Kremer and Nica, *The Tilted Variational Autoencoder*, ICLR 2023.

    Differences: every set is tested, where published code passes over the first six. Numbers of steps, rate and weight
    are those of that code.

    Args:
        system: stays as it is.
        train: rows that it was trained on, of which each step takes a batch at random.
        asked: rows that may be unknown.
        known: held-out rows of the system's own kind.
        other: a prior over as many latents, as a :class:`curvae.priors.TiltedNormal` of another tilt.
        steps: of the training; 0 gives the plain score.
        rate: Adam's.
        weight: of both sets in the loss.
        seed: of batches and draws.

    Raises:
        ValueError: another number of latents, a negative number of steps or a weight below 0.

    Example:
        >>> import curvae, torch
        >>> from curvae.priors import TiltedNormal
        >>> data = curvae.data.from_array(torch.randn(60, 4), seed=0)
        >>> system = curvae.systems.tilted_vae(data.spec, latent=2, hidden=8, tilt=4)
        >>> found = will_it_move(system, data.train, data.validation, data.test, TiltedNormal(2, 8))
        >>> len(found.asked) == len(data.validation), len(found.known) == len(data.test)
        (True, True)
    """
    if other.size != system.model.prior.size:
        raise ValueError(f"other: expected a prior over {system.model.prior.size} latents; got {other.size}.")
    if steps < 0 or weight < 0:
        raise ValueError(f"will_it_move: expected steps and weight of 0 or more; got {steps} and {weight}.")
    with torch.random.fork_rng(), torch.enable_grad():
        torch.manual_seed(seed)
        moved = copy.deepcopy(system).train()
        _move(moved, train, [_whole(moved, rows) for rows in (asked, known)], other, steps, rate, weight)
        return WillItMoveScores(*(_scores(moved.eval(), rows) for rows in (asked, known)))


def _move(
    system: LatentSystem, train: ArrayTable, sets: list[Batch], other: Prior, steps: int, rate: float, weight: float
) -> None:
    other = copy.deepcopy(other).to(sets[0].x.device, sets[0].x.dtype)
    optimizer = torch.optim.Adam([value for value in system.parameters() if value.requires_grad], rate)
    for _ in range(steps):
        batch = batch_to_system(system, train.batch(torch.randint(len(train), (min(BATCH, len(train)),))))
        loss = _loss(system, batch) + weight * sum(_loss(system, rows, other) for rows in sets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def _loss(system: LatentSystem, batch: Batch, prior: Prior | None = None) -> Tensor:
    """The training loss, under another prior if one is given."""
    own = system.model.prior
    system.model.prior = prior or own
    try:
        return -system.bound(batch).surrogate.mean()
    finally:
        system.model.prior = own


def _whole(system: LatentSystem, rows: ArrayTable) -> Batch:
    return batch_to_system(system, rows.batch(torch.arange(len(rows))))


@torch.no_grad()
def _scores(system: LatentSystem, rows: ArrayTable) -> Float[Tensor, " N"]:
    parts = torch.arange(len(rows)).split(BATCH)
    return torch.cat([-system.bound(batch_to_system(system, rows.batch(part))).value for part in parts])
