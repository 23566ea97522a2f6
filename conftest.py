"""Every example of a docstring starts from the same random numbers, whatever ran before it."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _seed_of_examples() -> None:
    torch.manual_seed(1234)  # not 0: examples draw data from generators of that seed, and noise must not repeat them
