"""The study of inference knows every method, or says why not, and counts what is asked of the decoder."""

import sys
from pathlib import Path

import pytest
import torch

import methods
from curvae.model import LatentVariableModel
from curvae.networks import MLP
from curvae.priors import StandardNormal
from curvae.typing import Batch, DataSpec

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def beside(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(BENCHMARKS)
    yield
    for name in ("inference_families", "inference_counts"):
        sys.modules.pop(name, None)


def test_every_method_has_a_row_or_a_reason():
    from inference_families import FAMILIES, LEFT_OUT

    missing = methods.INFERENCES.keys() - FAMILIES.keys() - LEFT_OUT.keys()
    assert not missing, f"give {sorted(missing)} a row in benchmarks/inference_families.py, or a reason in LEFT_OUT"
    assert not FAMILIES.keys() & LEFT_OUT.keys()


def test_every_family_can_be_made_and_begins_as_the_trained_encoder():
    from inference_families import FAMILIES, Networks

    model, batch = _model(), Batch(torch.rand(6, 20), torch.arange(6))
    trained = MLP(20, [8, 8], 2 * 3)
    networks = Networks(DataSpec((20,)), 3, 8, 2, trained)
    for family in FAMILIES.values():
        posterior = family.make(networks).eval()(model, batch).posterior
        assert posterior.draw(4).z.shape[1:] == (6, 3)
    start = FAMILIES["amortized"].make(networks)(model, batch).posterior
    assert torch.equal(start.mean, trained(batch.x)[:, :3])


def test_counts_of_a_newton_step():
    from curvae.inference import AmortizedMean, Laplace
    from inference_counts import counting

    model, batch = _model(), Batch(torch.rand(6, 20), torch.arange(6))
    with counting() as counts, torch.no_grad():
        model.decode(torch.zeros(5, 6, 3))
        assert (counts.decoder, counts.precision) == (30, 0)
        Laplace(AmortizedMean(MLP(20, [8], 3)), steps=1)(model, batch)
    assert counts.precision == 6
    assert counts.decoder > 30
    assert counts.product == 0


def _model() -> LatentVariableModel:
    from curvae.likelihoods import Gaussian

    return LatentVariableModel(StandardNormal(3), MLP(3, [8, 8], 20), Gaussian(20))
