"""How a posterior over weights is trained, as plain data: what stages prepare, maximize and finish."""

from dataclasses import dataclass
from typing import Any

import torch
from torch.func import functional_call

from curvae.inference import prefixed
from curvae.objectives import Bound
from curvae.systems.counted import counted
from curvae.systems.device import batch_to_system, evaluating
from curvae.systems.stages import Maximized, Prepared
from curvae.typing import Batch, Tables
from curvae.weights import CodedRows, load_weights, named_weights, weight_vector

ROWS = 128
"""At a time."""
DECODER = "model.decoder."


@dataclass(frozen=True)
class FitWeights:
    """The posterior sees training rows at the weights found, each with a draw of its code.

    Args:
        rows: how many, evenly spread; they stand for all of them.
    """

    rows: int = 2000

    def __call__(self, system: Any, data: Tables) -> None:
        with evaluating(system):
            system.weights.rows.fill_(data.train.total)
            system.weights.fit(system.model, coded_rows(system, data, self.rows))


def coded_rows(system: Any, data: Tables, most: int) -> CodedRows:
    """Training rows, evenly spread, each with a draw of its posterior."""
    every = counted(data.train)
    chosen = torch.linspace(0, len(every.x) - 1, min(len(every.x), most)).long()
    batches = [batch_to_system(system, every.take(part)) for part in chosen.split(ROWS)]
    codes = [system.inference(system.model.given(each.context), each).posterior.draw(1).z[0] for each in batches]
    return CodedRows(batches, codes, data.train.total / len(chosen))


def begin_path(system: Any, data: Tables) -> None:
    """The posterior makes room for the weights that an optimizer is about to visit."""
    system.weights.begin(weight_vector(system.model.decoder).detach(), data.train.total)


def center_weights(system: Any, data: Tables) -> None:
    """The decoder that is judged and kept is at the middle of the weights that were visited."""
    if (middle := system.weights.middle()) is not None:
        load_weights(system.model.decoder, middle)


def count_rows(system: Any, data: Tables) -> None:
    """The posterior is told how many training rows there are."""
    system.weights.rows.fill_(data.train.total)


def path_bound(system: Any, batch: Batch) -> Bound:
    """The system's bound; the posterior looks at the weights that the optimizer has come to."""
    bound = system.bound(batch)
    seen = system.weights.visited(weight_vector(system.model.decoder).detach())
    return bound._replace(state={**bound.state, **prefixed("weights", seen)})


def chain_bound(system: Any, batch: Batch) -> Bound:
    """Minus the energy of the decoder's weights, ``N surrogate + log p(theta)``: a chain draws from its exponential.

    What is reported is the system's bound, of one row.
    """
    bound, weights = path_bound(system, batch), system.weights
    log_prior = weights.log_prior(weight_vector(system.model.decoder))
    return bound._replace(surrogate=weights.rows * bound.surrogate + log_prior)


@dataclass(frozen=True)
class OverWeights:
    """A bound in expectation over draws of the decoder's weights, less what these cost each row.

    Args:
        bound: that is averaged; None = the system's.
    """

    bound: Maximized | None = None

    def __call__(self, system: Any, batch: Batch) -> Bound:
        decoder = system.model.decoder
        center = weight_vector(decoder)
        draws = system.weights.training_draws(center)
        each = [
            functional_call(system, named_weights(decoder, draw, DECODER), ("maximized", self.bound, batch))
            for draw in draws
        ]
        cost = system.weights.cost(center) / system.weights.rows.clamp(min=1)
        value = torch.stack([bound.value for bound in each]).mean(0) - cost.detach()
        surrogate = torch.stack([bound.surrogate for bound in each]).mean(0) - cost
        return Bound(value, surrogate, each[0].info, each[0].state)


@dataclass(frozen=True)
class StartMembers:
    """Every member of an ensemble starts as the decoder alone would.

    Args:
        start: of the system.
    """

    start: Prepared | None

    def __call__(self, system: Any, data: Tables) -> None:
        count_rows(system, data)
        if self.start is None:
            return
        decoder, members = system.model.decoder, system.weights.others
        for row, vector in enumerate([*members.detach().clone()]):
            own = weight_vector(decoder).detach()
            load_weights(decoder, vector)
            self.start(system, data)
            members.data[row] = weight_vector(decoder).detach()
            load_weights(decoder, own)
        self.start(system, data)
