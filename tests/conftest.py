"""Fixtures for every test: one thread, one seed, and the folder of real data sets where there is one."""

import json
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import chance
import slow
from curvae.curvature.native.library import library

torch.set_num_threads(1)

_ROOT = Path(__file__).resolve().parent.parent
_SEED = int(os.environ.get("CURVAE_TEST_SEED", "0"))


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("chance", "statistical tests over many seeds (make seeds)")
    group.addoption("--seeds", type=int, default=0, help="run each statistical test with the seeds 1 to this number")
    group.addoption("--record", type=Path, help="append what they measure to this file; what it holds is not run again")

    parser.addoption("--slow", type=int, default=1, help="of the tests in slow.txt one of so many, by the commit")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A statistical test once a seed, if asked for."""
    if (count := metafunc.config.getoption("seeds")) and metafunc.definition.get_closest_marker("statistical"):
        metafunc.parametrize("seed", range(1, count + 1), indirect=True, ids=lambda seed: f"seed{seed}")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What is recorded already is not run again; one seed of every test comes before the next seed of any.

    Of slow tests only those of the commit are left, where that is asked for.
    """
    if (parts := config.getoption("slow")) > 1:
        items[:], dropped = slow.deselected(list(slow.left_out(parts)), items)
        config.hook.pytest_deselected(items=dropped)
    if not config.getoption("seeds"):
        return
    file: Path | None = config.getoption("record")
    lines = file.read_text().splitlines() if file and file.exists() else []
    done = {(cell["test"], cell["seed"]) for cell in map(json.loads, lines)}
    left = [item for item in items if _cell(item) not in done and item.get_closest_marker("statistical")]
    items[:] = sorted(left, key=lambda item: _cell(item)[1])


def _cell(item: pytest.Item) -> tuple[str, int]:
    """The test without its seed, and the seed."""
    parameters = getattr(item, "callspec", None)
    number = parameters.params.get("seed", _SEED) if parameters else _SEED
    return re.sub(rf"\[seed{number}\]|(?<=\[)seed{number}-|-seed{number}(?=[-\]])", "", item.nodeid), number


@pytest.fixture(autouse=True)
def seed(request: pytest.FixtureRequest) -> Iterator[int]:
    """Every test starts from the same random numbers, in whatever order they run; CURVAE_TEST_SEED gives others."""
    test, number = _cell(request.node)
    random.seed(number)
    np.random.seed(number)  # noqa: NPY002
    torch.manual_seed(number)
    with chance.recorded(test, number, request.config.getoption("record")):
        yield number


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    """NumPy's random numbers of the seed."""
    return np.random.default_rng(seed)


@pytest.fixture(scope="session", autouse=True)
def _kernel() -> None:
    """Compiled before a test looks at what a command says on stderr."""
    for dtype in (torch.float32, torch.float64):
        library(dtype)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets: CURVAE_TEST_DATA, or ``data`` in a folder ``shared`` beside the repository."""
    folder = Path(os.environ.get("CURVAE_TEST_DATA") or _ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no folder of data sets: set CURVAE_TEST_DATA to one")
    return folder
