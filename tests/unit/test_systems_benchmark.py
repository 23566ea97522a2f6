"""The comparison of systems says what its runs say."""

import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    import systems

    yield systems
    for name in ("systems", "paired", "pages"):
        sys.modules.pop(name, None)


def scores(shift: float) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    values = rng.normal(size=50)
    return {"log_likelihood_laplace": values + shift, "elbo": values - 1, "squared_error": np.full(50, 3.0 + shift)}


def test_differences_are_paired_by_datum(benchmark):
    base, ours = [scores(0), scores(0)], [scores(2), scores(4)]
    found = benchmark.row(ours, base, [1.0, 3.0])
    assert found["difference"] == pytest.approx(3)
    assert found["stderr"] == pytest.approx(0, abs=1e-12)
    assert found["difference_of_each_seed"] == pytest.approx([2, 4])
    assert (found["squared_error"], found["training_seconds"]) == (6, 2)


def test_no_evidence_means_squared_errors_alone(benchmark):
    runs = [{"squared_error": np.ones(5)}]
    assert "difference" not in benchmark.row(runs, runs, [1.0])


def test_the_page_holds_every_row_once(benchmark, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    page = tmp_path / "page.md"
    marks = [
        f"<!-- benchmarks/systems.py, {name}: {word} -->\n" for name in benchmark.GROUPS for word in ("begin", "end")
    ]
    page.write_text("".join(marks))
    monkeypatch.setattr(benchmark, "RESULTS", tmp_path)
    base = [scores(0)]
    rows = {"vae": benchmark.row(base, base, [1.0]), "vlae": benchmark.row([scores(2)], base, [5.0])}
    for name in benchmark.GROUPS:
        (tmp_path / f"{name}.json").write_text(benchmark.json.dumps({"systems": rows}))
    for _ in range(2):
        benchmark.publish(page)
        text = page.read_text()
        assert text.count("| `vlae` |") == 2
        assert text.index("| `vlae` |") < text.index("| `vae` |")
        assert "| vlae | 0.0000 | 1.67 |" in text
