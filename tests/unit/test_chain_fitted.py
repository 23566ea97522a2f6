"""Proposals fitted to short chains: moments against closed forms, evidence against quadrature, rows by themselves."""

from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from chance import deviates
from curvae.data import ArrayTable
from curvae.evaluation import score, summarize
from curvae.evaluation.likelihood import scores as evaluating
from curvae.evaluation.likelihood.chain_fitted import ChainFit
from curvae.evaluation.likelihood.estimation import disagree, flagged
from curvae.evaluation.likelihood.proposal_selection import PROPOSALS
from curvae.inference import AmortizedGaussian, Laplace, MultimodalLaplace
from curvae.objectives import elbo, log_weights
from curvae.posteriors import DiagonalGaussian, Mixture, StudentMixture
from curvae.systems import LatentSystem
from ingredients import diagonal
from zoo import D, LinearGaussian, P, TwoModes


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(torch.initial_seed() % 2**32)


def test_moments_approach_those_of_the_posterior():
    """From N(0, I), which is neither centered nor shaped like it; the start's covariance is shrunk to, a little."""
    oracle = LinearGaussian()
    start = DiagonalGaussian(torch.zeros(8, 3).double(), torch.zeros(8, 3).double())
    q = ChainFit(rounds=6, chains=16, good=-1.0)(oracle.model, oracle.batch, StudentMixture.of(start), generator())
    exact = torch.linalg.inv(oracle.precision()).expand(8, -1, -1)
    sd = exact.diagonal(dim1=1, dim2=2).sqrt()
    assert ((q.mean - oracle.mean()).abs() / sd).max() < 0.5
    ratio = q.factor[:, 0].square().sum(-1).sqrt() / sd
    assert (ratio > 0.9).all()
    assert (ratio < 2.0).all()


@pytest.mark.statistical
def test_the_evidence_of_two_modes():
    """Three examples by 4,000 draws of a proposal from both modes: 3 deviates of the estimates' own errors."""
    oracle = TwoModes()
    first = nn.Linear(1, 2).double()
    inference = MultimodalLaplace(AmortizedGaussian(first), 4, partial(Laplace, steps=10), candidates=200)
    with torch.no_grad():
        start = inference(oracle.model, oracle.batch).posterior
        draws = ChainFit()(oracle.model, oracle.batch, StudentMixture.of(start), generator()).draw(4000, generator())
        w = log_weights(oracle.model, oracle.batch, draws)
    relative = (w - oracle.log_evidence()).exp()
    deviates("evidence", (relative.mean(0) - 1) / (relative.std(0) / 4000**0.5))


def test_chains_correct_a_start_that_is_far_too_narrow():
    """Its own weights are hopeless; those of the fitted proposal have an effective share of 0.3 and more."""
    oracle = LinearGaussian()
    narrow = StudentMixture.of(DiagonalGaussian(oracle.mean(), torch.full((8, 3), -4.0).double()))
    found = {"fitted": ChainFit()(oracle.model, oracle.batch, narrow, generator()), "start": narrow}
    share = {}
    for name, q in found.items():
        w = log_weights(oracle.model, oracle.batch, q.draw(1000, generator())).detach().softmax(0)
        share[name] = 1 / (1000 * w.square().sum(0))
    assert share["start"].max() < 0.2
    assert share["fitted"].min() > 0.3


def test_a_mixture_as_one_law_has_its_density():
    parts = tuple(diagonal(5) for _ in range(3))
    mixture = Mixture(parts, torch.randn(5, 3).double())
    z = torch.randn(4, 5, 3).double()
    torch.testing.assert_close(StudentMixture.of(mixture).log_prob(z), mixture.log_prob(z))


def test_only_gaussians_are_fitted_from():
    with pytest.raises(TypeError, match="StudentMixture: expects Gaussians; got StudentMixture"):
        StudentMixture.of(Mixture((StudentMixture.of(diagonal(2)),), torch.zeros(2, 1).double()))


def scores(**changed: list[float]) -> dict[str, np.ndarray]:
    """Of three examples: the best and the common proposal agree, the own one is a nat lower and trusted."""
    found = {f"{name}_{of}": np.full(3, value) for of in ("laplace", "own", "best") for name, value in ZERO.items()}
    found |= {"log_likelihood": np.zeros(3), "elbo": np.zeros(3), "log_likelihood_own": np.full(3, -1.0)}
    return found | {name: np.array(values) for name, values in changed.items()}


ZERO = {"log_likelihood": 0.0, "limit": 0.1, "khat": 0.2}


def test_only_a_trusted_proposal_that_says_more_is_a_disagreement():
    """By three errors of the difference, 0.42 here; what says less, or has a bad k-hat, is none."""
    assert not disagree(scores()).any()
    found = scores(log_likelihood_own=[0.4, 0.5, 0.5], khat_own=[0.2, 0.2, 0.9])
    assert disagree(found).tolist() == [False, True, False]
    assert flagged(found).tolist() == [False, True, False]
    del found["limit_own"]
    assert not disagree(found).any()


@pytest.mark.parametrize("chains", [True, False])
def test_what_no_other_proposal_serves_is_fitted_to_chains(monkeypatch, chains):
    """Here all of them are: then chains give the headline where their own k-hat is at most 0.7, and they are right."""
    monkeypatch.setattr(evaluating, "KHAT_GOOD", -10.0)
    oracle = TwoModes(scale=0.4)
    system = LatentSystem(oracle.model, AmortizedGaussian(nn.Linear(1, 2).double()), elbo)
    found = score(system, ArrayTable(oracle.x), samples=400, chains=chains, seed=torch.initial_seed() % 2**32)
    assert ("khat_chains" in found) == chains
    if chains:
        used = found["proposal"] == PROPOSALS.index("chains")
        np.testing.assert_array_equal(used, found["khat_chains"] <= 0.7)
        assert used.any()
        np.testing.assert_array_equal(found["log_likelihood"][used], found["log_likelihood_chains"][used])
        miss = np.abs(found["log_likelihood"] - oracle.log_evidence().numpy())[used]
        assert (miss < 6 * found["limit_best"][used]).all()
        assert not flagged(found)[used].any()


def test_where_no_example_needs_chains_nothing_is_said_of_them():
    oracle = LinearGaussian()
    system = LatentSystem(oracle.model, Laplace(AmortizedGaussian(nn.Linear(P, 2 * D).double()), 3), elbo)
    found = score(system, ArrayTable(oracle.x[:1]), samples=50)
    assert np.isnan(found["khat_chains"]).all()
    result = summarize(found)
    assert result.chains is None
    assert "nan" not in str(list(result.rows()))


def test_weights_of_modes_are_those_of_the_trial_not_of_where_chains_began():
    """Two modes of equal mass, far apart, and a start that gives one of them a hundredth: no chain changes sides."""
    oracle = TwoModes(scale=0.3)
    loc = torch.tensor([[-1.58], [1.58]]).double().expand(3, 2, 1)
    start = StudentMixture(
        loc, torch.full((3, 2, 1, 1), -2.0).double(), torch.tensor([5.0, 0.0]).double().expand(3, 2), None
    )
    q = ChainFit(rounds=1)(oracle.model, oracle.batch, start, generator())
    assert (q.weights[2] - 0.5).abs().max() < 0.2
