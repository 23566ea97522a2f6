"""Rates of failure from statistics: known tails, and what the pages say of recorded cells."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import seeds

    yield seeds
    for name in ("seeds", "pages"):
        sys.modules.pop(name, None)


def quantiles(law, count: int = 2000) -> np.ndarray:
    return law.ppf((np.arange(count) + 0.5) / count)


def test_rates_of_known_tails(benchmark):
    """Exponential and Pareto ones as they are; a lighter one from above."""
    for law in (stats.expon(), stats.genpareto(0.2)):
        threshold = law.isf(1e-3)
        assert benchmark.exceeds(quantiles(law), threshold) == pytest.approx(1e-3, rel=0.35)
    assert 1e-6 < benchmark.exceeds(np.abs(quantiles(stats.norm())), 5.0) < 1e-3
    assert benchmark.exceeds(np.ones(100), 1.0) == 0
    assert benchmark.exceeds(np.ones(100), 0.9) == 1
    assert np.isnan(benchmark.exceeds(np.arange(24.0), 30))


def test_cells_become_a_page(benchmark, tmp_path: Path):
    """One check by its law, one by its tail; a failure is counted."""
    cells, page = tmp_path / "cells.jsonl", tmp_path / "page.md"
    normal = quantiles(stats.norm(), 50)
    lines = [
        {"test": "tests/unit/test_a.py::test_b[c|d]", "seed": i, "seconds": 0.25, "checks": checks}
        for i, z in enumerate(normal)
        for checks in [{"law": [z, 5.0, 6e-7], "none": [z, 2.0, None]}]
    ]
    cells.write_text("".join(json.dumps(line) + "\n" for line in lines))
    content = benchmark.collect(cells)
    ends = [(name, end) for name in ("summary", "table") for end in ("begins", "ends")]
    page.write_text("".join(f"<!-- benchmarks/seeds.py: {name} {end} -->\n" for name, end in ends))
    benchmark.publish(content, page)
    benchmark.publish(content, page)
    text = page.read_text()
    assert "1 tests, 50 cells (50 to 50 seeds a test), 1 failures.\nOne seed of all costs 0 s" in text
    assert "below 1 in 1,000 for 0 tests, above for 1," in text
    assert "| test_a: b[c\\|d] | law | 50 | " in text
    assert "| 5 | 6e-07 |" in text


def test_published_cells_are_not_run_again(benchmark, tmp_path: Path):
    """What is restored is what was published, seed by seed; recorded cells are never overwritten."""
    cells, results = tmp_path / "runs" / "cells.jsonl", tmp_path / "results.json"
    checks = {
        "law": {"statistics": [0.5, 6.0], "threshold": 5.0, "rate": 6e-7},
        "none": {"statistics": [1.0, 2.0], "threshold": 3, "rate": None},
    }
    content = {"tests/unit/test_a.py::test_b": {"seconds": 0.25, "checks": checks}}
    benchmark.restore(cells, results)
    assert not cells.exists()
    results.write_text(json.dumps(content))
    benchmark.restore(cells, results)
    assert [json.loads(line)["seed"] for line in cells.read_text().splitlines()] == [1, 2]
    assert benchmark.collect(cells) == content
    cells.write_text("")
    benchmark.restore(cells, results)
    assert not cells.read_text()
