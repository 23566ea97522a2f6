"""The comparison of rivals: lengths, order, paired differences, and a page that says what its lines say."""

import argparse
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from curvae.data import from_array

KEYS = ("log_likelihood", "elbo", "khat", "own")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    monkeypatch.syspath_prepend(BENCHMARKS / "fits")
    import rivals

    data = from_array(torch.randn(300, 11) @ torch.randn(11, 11), name="white")
    monkeypatch.setattr(rivals, "opened", lambda name, folder, seed: data)
    monkeypatch.setattr(rivals, "TURNS", 2)
    yield rivals
    for name in ("rivals", "cells", "images", "tables", "pages"):
        sys.modules.pop(name, None)


def line(word: str, seed: int, ahead: float, mode: str = "time") -> dict:
    row = {"data": "white", "system": word, "mode": mode, "seed": seed, "updates": 10, "cpu_seconds": 1.0}
    row |= {"log_likelihood": 5 + ahead, "elbo": 4.0, "khat": 0.0, "own": 0.5}
    return row | ({"each": [1.0]} if word == "vae" else {"ahead": ahead, "error": 0.1})


def test_cells_are_measured_once_in_the_order_of_their_worth(benchmark, tmp_path: Path, monkeypatch):
    values = iter(torch.randn(2, 40).numpy())
    monkeypatch.setattr(benchmark.images, "trained", lambda *_: 1.0)
    monkeypatch.setattr(benchmark, "scored", lambda *_: dict.fromkeys(KEYS, next(values)))
    given = argparse.Namespace(
        folder=tmp_path, only=["white"], modes=["time"], seeds=[0], scale=0.004, target=tmp_path, list=False
    )
    assert [place[1] for place in benchmark.wanted(given)] == list(benchmark.SYSTEMS)
    benchmark.SYSTEMS = {word: benchmark.SYSTEMS[word] for word in ("vae", "vlae")}
    rows = benchmark.measure(given)
    assert [row["system"] for row in rows] == ["vae", "vlae"]
    assert rows[0]["updates"] == 12
    assert rows[1]["ahead"] == pytest.approx(rows[1]["log_likelihood"] - rows[0]["log_likelihood"], abs=0.01)
    assert 0 < rows[1]["error"] < 1
    assert benchmark.measure(given) == rows


def test_equal_time_and_equal_updates(benchmark):
    data = benchmark.opened("white", None, 0)
    vlae = benchmark.made("white", "vlae", data, 0)
    dear = 0.7 + 0.3 / vlae.stages()[1].cost
    cells = [benchmark.length(("white", "vlae", mode, 0), vlae, [1.0, 5.0], 1.0) for mode in ("time", "updates")]
    assert cells[0] == round(3000 * dear / (0.7 + 0.3 / vlae.stages()[1].cost * 5.0))
    assert cells[1] == 1500


def test_what_is_scored(benchmark):
    """All four of each row, and the ELBO below log p(x) in the mean."""
    data = benchmark.opened("white", None, 0)
    system = benchmark.made("white", "vae", data, 0)
    system.stages()[0].start(system, data)
    found = benchmark.scored(system, data)
    assert {len(value) for value in found.values()} == {len(data.test)}
    assert np.mean(found["log_likelihood"] - found["elbo"]) > -0.05


def test_the_page_says_who_is_ahead_by_more_than_two_errors(benchmark):
    rows = [line("vae", seed, 0.0) for seed in (0, 1)]
    rows += [line("vlae", 0, 2.0), line("vlae", 1, 2.2), line("iwae", 0, -1.0), line("iwae", 1, -3.0)]
    rows += [line("ia-vae", 0, -1.0), line("ia-vae", 1, -1.0), line("vae", 0, 0.0, "updates")]
    page = benchmark.listed(rows)
    assert max(len(line) for line in page.splitlines() if not line.startswith("|")) <= 160
    assert "| white | `vlae` | 2 | 10 | 1 | 7.10 | +2.10 ± 0.10 | 4.00 | 3.10 | 50% | 0% |" in page
    said = " ".join(page.split())
    assert "more than two errors: `vlae`; level: `iwae`; behind: `ia-vae`. The ELBO is nearest" in said
    assert "`iwae`: -1.00 nats below" in said
    assert page.index("Equal CPU time") < page.index("`vlae`") < page.index("Equal updates")
