"""Fixtures for every test: one thread, one seed, and the folder of real data sets where there is one."""

import os
from pathlib import Path

import pytest
import torch

from curvae.curvature import native

torch.set_num_threads(1)

_ROOT = Path(__file__).resolve().parent.parent
_SEED = int(os.environ.get("CURVAE_TEST_SEED", "0"))


@pytest.fixture(autouse=True)
def _seed() -> None:
    """Every test starts from the same random numbers, in whatever order they run; CURVAE_TEST_SEED names others."""
    torch.manual_seed(_SEED)


@pytest.fixture(scope="session", autouse=True)
def _kernel() -> None:
    """Compiled before a test looks at what a command says on stderr."""
    native.available()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real data sets: CURVAE_TEST_DATA, or ``data`` in a folder ``shared`` beside the repository."""
    folder = Path(os.environ.get("CURVAE_TEST_DATA") or _ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip("no folder of data sets: set CURVAE_TEST_DATA to one")
    return folder
