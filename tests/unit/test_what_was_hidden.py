"""Pictures whose lower half was hidden and is drawn: by a density, and by a model with latents; and their page."""

from pathlib import Path

import numpy as np
import pytest
import torch

from curvae.data import from_array
from curvae.evaluation import evaluate, read_evaluation
from curvae.report import write_report
from curvae.systems import nice, vae
from folders import folder

SYSTEMS = {"density": lambda spec: nice(spec, hidden=8), "latents": lambda spec: vae(spec, latent=2, hidden=8)}


def shown(path: Path, make, data) -> tuple[dict, str]:
    """What an evaluation saved of pictures, and the page."""
    run = folder(path, make(data.spec), data)
    evaluate(run, [], samples=10, limit=10, chains=False, progress=False)
    return dict(read_evaluation(run.path).pictures), write_report(run.path).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SYSTEMS)
def test_the_upper_half_stays_and_the_lower_one_is_drawn_twice(tmp_path, name):
    data = from_array(torch.rand(200, 6, 4, 1).round(decimals=2))
    assert data.spec.event == (1, 6, 4)
    arrays, page = shown(tmp_path / name, SYSTEMS[name], data)
    hidden, drawn, originals = arrays["hidden"], arrays["completed"], arrays["originals"][:8]
    gone = np.isnan(hidden)
    assert hidden.shape == originals.shape
    assert gone.reshape(8, 6, 4)[:, 3:].all()
    assert not gone.reshape(8, 6, 4)[:, :3].any()
    np.testing.assert_allclose(hidden[~gone], originals[~gone], atol=1e-6)
    one, two = drawn.reshape(2, *hidden.shape)
    for each in (one, two):
        np.testing.assert_allclose(each[~gone], originals[~gone], atol=1e-5)
        assert np.isfinite(each).all()
    assert (one[gone] != two[gone]).all(), "two draws, not one shown twice"
    section = page.split('<section id="completions">')[1].split("</section>")[0]
    assert "<h2>What was hidden</h2>" in section
    assert section.count("<img") == 1
    assert "the lower half is hidden" in section


def test_of_tables_there_is_no_such_part(tmp_path):
    data = from_array(torch.randn(100, 5))
    arrays, page = shown(tmp_path / "table", SYSTEMS["latents"], data)
    assert not arrays.keys() & {"hidden", "completed"}
    assert "<b>What was hidden</b> left out: this evaluation saved no completed pictures." in page
