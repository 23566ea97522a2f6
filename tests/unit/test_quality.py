"""Samples against data: what equal distributions give, what misses a mode or adds one, and definitions by hand."""

from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch

from curvae.cli import main
from curvae.data import from_array
from curvae.evaluation import Quality, quality
from curvae.evaluation.samples.features import fit_features
from curvae.evaluation.samples.quality import kernel_distance, likeness
from curvae.io.typed import conform
from curvae.systems import vae


def normal(seed: int, count: int = 400, size: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(count, size))


def test_equal_distributions():
    found = likeness(normal(0), normal(1))
    assert found.precision > 0.9
    assert found.recall > 0.9
    assert found.density == pytest.approx(1, abs=0.1)
    assert found.coverage > 0.9
    assert abs(found.kernel.value) < 4 * found.kernel.stderr


def test_a_missed_mode_costs_recall_and_an_invented_one_precision():
    two = np.concatenate([normal(0), normal(1) + 10])
    one = np.concatenate([normal(2), normal(3)])
    missed, invented = likeness(two, one), likeness(one, two)
    assert missed.precision > 0.9
    assert missed.recall == pytest.approx(0.5, abs=0.06)
    assert missed.coverage == pytest.approx(0.5, abs=0.06)
    assert invented.precision == pytest.approx(0.5, abs=0.06)
    assert invented.density == pytest.approx(0.5, abs=0.1)
    assert invented.recall > 0.9
    assert missed.kernel.value > 10 * missed.kernel.stderr


def test_all_four_shares_are_those_of_their_definition():
    real, made, k = normal(0, 12, 2), normal(1, 12, 2) * 1.5, 3

    def reach(points: np.ndarray, i: int) -> float:
        return sorted(np.linalg.norm(points - points[i], axis=1))[k]

    ball = [[np.linalg.norm(real[i] - m) <= reach(real, i) for i in range(12)] for m in made]
    other = [[np.linalg.norm(made[i] - r) <= reach(made, i) for i in range(12)] for r in real]
    found = likeness(real, made, k)
    assert found.precision == np.mean([any(row) for row in ball])
    assert found.recall == np.mean([any(row) for row in other])
    assert found.density == pytest.approx(np.sum(ball) / (k * 12))
    assert found.coverage == np.mean(np.any(ball, 0))


def test_the_kernel_distance_is_that_of_its_definition_and_unbiased():
    x, y = normal(0, 6, 2), normal(1, 6, 2)
    terms = [
        (a @ b / 2 + 1) ** 3 + (c @ d / 2 + 1) ** 3 - (a @ d / 2 + 1) ** 3 - (b @ c / 2 + 1) ** 3
        for i, (a, c) in enumerate(zip(x, y, strict=True))
        for j, (b, d) in enumerate(zip(x, y, strict=True))
        if i != j
    ]
    assert kernel_distance(x, y).value == pytest.approx(np.mean(terms))
    values = [kernel_distance(normal(2 * i, 40), normal(2 * i + 1, 40)).value for i in range(300)]
    assert abs(np.mean(values)) < 4 * np.std(values) / 300**0.5


def test_its_standard_error_is_the_spread_over_samples():
    """Of 200 pairs that differ; the ratio has a standard error of about 8 %."""
    found = [kernel_distance(normal(2 * i, 200), normal(2 * i + 1, 200) + 0.5) for i in range(200)]
    ratio = np.std([one.value for one in found]) / np.sqrt(np.mean([one.stderr**2 for one in found]))
    assert 0.7 < ratio < 1.3
    with pytest.raises(ValueError, match="two sets of one size; got 5 and 6"):
        kernel_distance(normal(0, 5), normal(0, 6))


def test_features_of_tables_are_white_and_those_of_images_always_the_same():
    torch.manual_seed(0)
    table = torch.randn(200, 4) @ torch.randn(4, 4)
    flat = torch.cat([table, table[:, :1]], 1)  # a column twice
    features, _ = fit_features(flat)
    assert features(flat).shape == (200, 4)
    torch.testing.assert_close(features(flat).T.cov(), torch.eye(4).double(), atol=1e-4, rtol=0)
    images = torch.rand(30, 1, 12, 10)
    one, two = (fit_features(images) for _ in range(2))
    assert one[1] == "random convolutional features"
    assert torch.equal(one[0](images), two[0](images))
    alone, whole = one[0](images[:1]), one[0](images)[:1]
    torch.testing.assert_close(alone, whole, atol=1e-4, rtol=1e-4)


def test_a_system_stands_between_its_controls():
    torch.manual_seed(0)
    centers = 6 * torch.randn(5, 4)
    data = from_array(centers[torch.arange(600) % 5] + 0.3 * torch.randn(600, 4))
    system = vae(data.spec, latent=2, hidden=8).train()
    found = quality(system, data)
    assert found is not None
    assert list(found.rows) == ["train", "samples", "means", "reconstructions", "noise"]
    assert found.count == len(data.test) == 90
    assert found.rows["train"].precision > 0.8 > found.rows["noise"].precision + 0.2
    assert conform(asdict(found), Quality) == found == quality(system, data)
    assert system.training
    few = quality(system, data, limit=30)
    assert few is not None
    assert few.count == 30


def test_nothing_is_said_of_few_data_of_holes_or_of_categories():
    few = from_array(torch.randn(30, 3))
    assert quality(vae(few.spec, latent=2, hidden=8), few) is None
    holes = from_array(torch.randn(300, 3), mask=torch.rand(300, 3) > 0.2)
    assert quality(vae(holes.spec, latent=2, hidden=8), holes) is None


def test_the_command_shows_the_controls(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = str(tmp_path / "run")
    assert main(["fit", "vae", "digits", "--latent", "2", "--hidden", "8", "--epochs", "1", "--out", run]) == 0
    capsys.readouterr()
    assert main(["evaluate", run, "--samples", "30", "--limit", "40", "--quality"]) == 0
    told = capsys.readouterr().out
    for words in ("training data (best case)", "reconstructions", "bad case", "information of z on x"):
        assert words in told
