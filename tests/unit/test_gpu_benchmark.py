"""The benchmark for GPUs runs where there is none."""

import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("kind", ["vae", "default"])
def test_a_step_is_taken_as_it_is(kind: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import gpu

    cpu = torch.device("cpu")
    found = gpu.measure(gpu.step_of(kind, (20, 16, 2), 8, cpu), 1, cpu)
    assert found.ms > 0
    assert not found.captured


def teardown_module():
    for name in ("gpu", "engine", "baseline"):
        sys.modules.pop(name, None)
