"""The table of benchmarks/trust.py: shares of p-values, and cells that are measured once."""

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import trust

    yield trust
    for name in ("trust", "pages"):
        sys.modules.pop(name, None)


def test_cells_are_measured_once_and_become_tables(benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    fault = {"ranks p": [0.9, 0.02, 0.3, 0.01], "local p": [0.01, 0.2, 0.01, 0.6], "local all": 0.04, "rows p": 0.5}
    seconds = {"ranks s": 1.0, "local s": 2.0, "rows s": 3.0}
    monkeypatch.setattr(benchmark, "of_fault", lambda name, seed: fault | seconds)
    monkeypatch.setattr(benchmark, "of_data", lambda name, seed: {"rows p": 0.01, "first": 0.4})
    cells = tmp_path / "cells.jsonl"
    for repetitions in (1, 2, 2):
        benchmark.measure(repetitions, cells)
    lines = [json.loads(line) for line in cells.read_text().splitlines()]
    assert len(lines) == 2 * (len(benchmark.FAULTS) + len(benchmark.DATA))
    page = benchmark.page(cells)
    assert "| too narrow | 100 | 0 | 100 | 100 | 50 | 100 | (0) |" in page
    assert "| rotated | (100) | 0 |" in page
    assert "| too narrow where x is large | 100 | 0 | 100 | 100 | 50 |" in page
    assert "| … at rows where q is right |  |  |  |  | 0 |" in page
    assert "| shifted by 0.5 | 100 | 40 |" in page
    assert "2 repetitions; CPU seconds of each: ranks 1.00, L-C2ST 2.00, rows 3.00." in page
