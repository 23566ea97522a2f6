"""Copies of systems: what they were, and what training makes of them. Also run as a process of its own."""

import pickle
import sys
from pathlib import Path

import torch

from curvae.data import ArrayTable, Data, from_array
from curvae.systems import System
from curvae.training.loop.state import write_state
from curvae.typing import Batch

ROWS = 16


def data_of(event: tuple[int, ...]) -> Data:
    """A few rows of noise, of another scale than 1."""
    x = 3 * torch.randn(2 * ROWS, *event, generator=torch.Generator().manual_seed(5))
    return from_array(x, event=event, standardize=False)


def trained(system: System, data: Data, steps: int = 2) -> dict[str, torch.Tensor]:
    """The state of a system after every stage is prepared and has taken a few steps on the first rows."""
    torch.manual_seed(7)
    system.train()
    optimizer = torch.optim.Adam(system.parameters(), lr=1e-2)
    for stage in system.stages():
        for prepare in filter(None, (stage.start, *stage.prepare)):
            prepare(system, data)
        for _ in range(steps):
            bound = stage.bound_of(system, first(data.train))
            optimizer.zero_grad()
            (-bound.surrogate.mean()).backward()
            optimizer.step()
            write_state(system, bound.state, torch.arange(8), len(data.train))
        for finish in stage.finish:
            finish(system, data)
    return state(system)


def first(table: ArrayTable) -> Batch:
    return table.batch(torch.arange(8))


def state(system: System) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in system.state_dict().items()}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Equal to the last digit, where a NaN (a state that is not known yet) equals another."""
    return one.keys() == other.keys() and all(
        torch.equal(one[n].nan_to_num(1e9), other[n].nan_to_num(1e9)) for n in one
    )


if __name__ == "__main__":  # python lifecycle.py SYSTEMS: trains each system on its data, and leaves what they became
    torch.set_num_threads(1)
    path = Path(sys.argv[1])
    kept = pickle.loads(path.read_bytes())
    path.write_bytes(pickle.dumps({name: trained(*each) for name, each in kept.items()}))
