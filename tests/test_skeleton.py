"""The skeleton of the documentation is a method that works."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
import torch

from curvae.inference import AmortizedGaussian
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.priors import StandardNormal
from curvae.typing import Batch

PATH = Path(__file__).parent.parent / "docs" / "skeletons" / "inference_method.py"


@pytest.fixture(scope="module")
def skeleton() -> ModuleType:
    spec = importlib.util.spec_from_file_location("inference_method", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def model() -> LatentVariableModel:
    decoder = torch.nn.Sequential(torch.nn.Linear(3, 16), torch.nn.ReLU(), torch.nn.Linear(16, 10))
    return LatentVariableModel(StandardNormal(3), decoder, Gaussian(10, scale=0.5))


BATCH = Batch(torch.linspace(-1, 1, 80).reshape(8, 10), torch.arange(8))


def test_refinement_never_lowers_the_log_joint(skeleton: ModuleType, model: LatentVariableModel):
    inference = skeleton.GradientRefined(AmortizedGaussian(torch.nn.Linear(10, 6)), steps=10, rate=0.5)
    with torch.inference_mode():
        inferred = inference(model, BATCH)
        reached = model.log_joint(BATCH.x, inferred.posterior.mean.unsqueeze(0)).squeeze(0)
    log_joint = inferred.info["log_joint"]
    assert log_joint.shape == inferred.info["grad_norm"].shape == (11, 8)
    assert (log_joint.diff(dim=0) >= 0).all()
    torch.testing.assert_close(reached, log_joint[-1])


def test_gradient_reaches_the_encoder(skeleton: ModuleType, model: LatentVariableModel):
    encoder = torch.nn.Linear(10, 6)
    skeleton.GradientRefined(AmortizedGaussian(encoder))(model, BATCH).posterior.draw(1).z.sum().backward()
    assert encoder.weight.grad is not None
    assert encoder.weight.grad.abs().sum() > 0


def test_misuse_is_named(skeleton: ModuleType):
    with pytest.raises(ValueError, match=r"steps must be >= 0 and rate > 0; got steps=-1, rate=0\.1"):
        skeleton.GradientRefined(AmortizedGaussian(torch.nn.Linear(10, 6)), steps=-1)
