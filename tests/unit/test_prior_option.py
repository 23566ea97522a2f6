"""``prior=`` of every system: where another prior starts, what a run remembers of it, flow-prior-vae's stages."""

import logging
import math
import pickle

import pytest
import torch

import curvae
from curvae.data import from_array
from curvae.priors import FlowPrior, MixturePrior, StandardNormal, VampPrior
from curvae.systems import flow_prior_vae, vae, vlae
from curvae.systems.base import SYSTEMS
from curvae.systems.priors import encoder_posteriors
from curvae.training import RunFolder, fit
from curvae.typing import Batch, DataSpec


def table(rows: int = 300, missing: bool = False):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 2, generator=generator) @ torch.randn(2, 6, generator=generator)
    x = x + 0.3 * torch.randn(rows, 6, generator=generator)
    if missing:
        x[torch.rand(x.shape, generator=generator) < 0.1] = torch.nan
    return from_array(x.double(), missing="mask" if missing else "error")


def started(name: str, data, **arguments):
    system = SYSTEMS[name](data.spec, latent=2, hidden=16, **arguments).double().eval()
    system.stages()[0].start(system, data)
    return system


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("start", ["linear", "random"])
@pytest.mark.parametrize("word", ["mixture", "vamp"])
@pytest.mark.parametrize("name", ["vlae", "mixture-vae"])
def test_a_prior_from_data_starts_where_the_encoder_starts(name, word, start, missing, caplog):
    """Clusters are as near the aggregate of posteriors as N(0, I), or nearer; pseudo-inputs are rows."""
    data = table(missing=missing)
    with caplog.at_level(logging.INFO, "curvae"):
        system = started(name, data, prior=word, start=start)
    kind = {"mixture": "MixturePrior", "vamp": "VampPrior"}[word]
    assert f"prior: {kind} starts at {len(data.train)} training rows, where the encoder starts." in caplog.text
    q = encoder_posteriors(system, Batch.of(data.train.x.double()))
    z = q.draw(4).z.flatten(0, 1)
    with torch.no_grad():
        aggregate = q.log_prob(z.unsqueeze(1).expand(-1, len(q.loc), -1)).logsumexp(-1) - math.log(len(q.loc))
        ours, normal = ((aggregate - prior.log_prob(z)).mean() for prior in (system.model.prior, StandardNormal(2)))
    assert word == "vamp" or ours < max(0.5, normal + 0.2)
    if word == "vamp":
        assert torch.equal(system.model.prior.inputs[0], data.train.x[0].double())


def test_langevin_has_no_encoder_and_starts_by_its_posterior():
    prior = started("langevin-ae", table(), prior="mixture").model.prior
    assert isinstance(prior, MixturePrior)
    assert (prior.loc != 0).any()


@pytest.mark.parametrize("support", ["binary", "category"])
def test_other_data(support):
    x = (torch.rand(120, 6) < 0.4).long()
    data = from_array(x.float() if support == "binary" else x, support=support)
    for word in ("flow", "vamp", "mixture"):
        system = vae(data.spec, latent=2, hidden=16, prior=word)
        system.stages()[0].start(system, data)
        assert system.bound(data.train.batch(torch.arange(9))).value.isfinite().all()


@pytest.mark.parametrize("word", ["flow", "vamp", "mixture", "autoregressive"])
def test_a_run_remembers_its_prior(tmp_path, word):
    data = curvae.data.load("digits")
    torch.manual_seed(0)
    system = vlae(data.spec, latent=2, hidden=16, prior=word)
    run = fit(system, data, max_updates=6, out=tmp_path / "run", progress=False)
    again = RunFolder.open(run.path).system()
    assert type(again.model.prior) is type(system.model.prior)
    z = torch.randn(5, 2)
    torch.testing.assert_close(again.model.prior.log_prob(z), system.model.prior.log_prob(z))
    assert again.recipe.arguments["prior"] == word
    assert curvae.load(run.path).sample(3).shape == (3, 1, 8, 8)


def test_a_copy_of_a_system_has_the_copy_of_its_encoder():
    system = vae(DataSpec((5,)), latent=2, hidden=8, prior="vamp")
    other = pickle.loads(pickle.dumps(system))
    z = torch.randn(4, 2)
    torch.testing.assert_close(other.model.prior.log_prob(z), system.model.prior.log_prob(z))
    with torch.no_grad():
        for parameter in other.inference.parameters():
            parameter.add_(0.3)
    assert (other.model.prior.log_prob(z) != system.model.prior.log_prob(z)).all()
    assert isinstance(system.model.prior, VampPrior)
    assert {key for key in system.state_dict() if "prior" in key} == {"model.prior.inputs"}


@pytest.mark.parametrize("fitting", ["joint", "after", "alternating"])
def test_what_each_way_of_fitting_trains(fitting):
    stages = flow_prior_vae(DataSpec((6,)), latent=2, hidden=8, fitting=fitting, rounds=2).stages()
    names = {
        "joint": ["train"],
        "after": ["networks", "prior"],
        "alternating": ["networks-1", "prior-1", "networks-2", "prior-2"],
    }[fitting]
    assert [stage.name for stage in stages] == names
    assert sum(stage.share for stage in stages) == pytest.approx(1)
    for stage in stages[1:]:
        assert ("model.prior" in stage.trained) == stage.name.startswith("prior")
    with pytest.raises(ValueError, match="fitting: expected joint, after or alternating"):
        flow_prior_vae(DataSpec((6,)), fitting="alternating", rounds=0)


def test_fitted_after_the_networks_it_leaves_them_alone_and_gains(tmp_path):
    """The divergence falls, and nothing else changes."""
    data = curvae.data.load("digits")
    torch.manual_seed(0)
    system = flow_prior_vae(data.spec, latent=4, hidden=32, flows=2, width=16, fitting="after")
    run = fit(system, data, max_updates=60, out=tmp_path / "run", progress=False)
    metrics = run.metrics()
    last = metrics["validation_bound"][-1]
    rows = zip(metrics["validation_bound"], metrics["stage"], strict=True)
    assert last >= max(bound for bound, stage in rows if stage == "networks") - 0.5
    prior = system.model.prior
    assert isinstance(prior, FlowPrior)
    assert any((parameter != 0).any() for parameter in prior.parameters())
