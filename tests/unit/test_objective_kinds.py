"""What objectives declare themselves to be, and what they refuse."""

import functools

import pytest
import torch
from torch import nn

from curvae import objectives
from curvae.distributions.gaussian import pack
from curvae.inference import AmortizedGaussian
from curvae.objectives import (
    BatchInformation,
    BatchLikelihood,
    Bound,
    Ciwae,
    Cubo,
    Miwae,
    MutualDivergence,
    Piwae,
    Renyi,
    SkewJensenShannon,
    WakePhi,
    aggregate_moments,
    declares,
    elbo,
    kind_of,
)
from curvae.posteriors import DiagonalGaussian, FullGaussian, Mixture
from curvae.systems import LatentSystem
from zoo import LinearGaussian, relu_model

DOUBLE = torch.float64


def test_kinds_are_declared():
    kinds = {
        elbo: "lower",
        Miwae(2): "lower",
        Renyi(0.5): "lower",
        Renyi(-2.0): "none",
        Cubo(): "upper",
        WakePhi(): "none",
        objectives.RecursiveElbo(): "lower",
        SkewJensenShannon(): "none",
        MutualDivergence(): "none",
        BatchInformation(): "lower",
    }
    for objective, kind in kinds.items():
        assert kind_of(objective) == kind
    assert kind_of(functools.partial(elbo, beta=0.5)) == "lower"
    assert kind_of(objectives.AnnealedElbo(3)) == "lower"
    model, inference = LinearGaussian().model, AmortizedGaussian(nn.Linear(10, 6))
    assert LatentSystem(model, inference, Cubo()).kind == "upper"


def test_an_objective_that_declares_nothing_is_refused():
    def mine(model, posterior, batch, samples):
        return Bound(torch.zeros(len(batch.x)), torch.zeros(len(batch.x)))

    model, inference = LinearGaussian().model, AmortizedGaussian(nn.Linear(10, 6))
    with pytest.raises(ValueError, match="mine must say whether it is a bound of log p"):
        LatentSystem(model, inference, mine)
    assert LatentSystem(model, inference, declares("none")(mine)).kind == "none"


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Miwae(0), "Miwae: groups must be 1 or more; got 0"),
        (lambda: Piwae(0), "Piwae: groups must be 1 or more; got 0"),
        (lambda: Ciwae(1.5), r"share of the ELBO, in \[0, 1\]; got 1.5"),
        (lambda: Cubo(1.0), "order must be above 1; got 1.0"),
        (lambda: SkewJensenShannon(2.0), r"skew must lie in \[0, 1\]; got 2.0"),
        (lambda: MutualDivergence(smoothness=-1.0), "smoothness must be 0 or more; got -1.0"),
        (lambda: BatchLikelihood(0.0), "floor must be positive; got 0.0"),
    ],
)
def test_misuse_of_constructors(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_misuse_of_posteriors_and_likelihoods():
    model, batch = relu_model("bernoulli")
    q = DiagonalGaussian(*torch.zeros(2, 8, 3, dtype=DOUBLE))
    with pytest.raises(ValueError, match="expects a Gaussian likelihood; got Bernoulli"):
        BatchLikelihood()(model, q, batch, 1)
    with pytest.raises(ValueError, match="expects a DiagonalGaussian posterior; got FullGaussian"):
        MutualDivergence()(model, FullGaussian(q.loc, pack(torch.eye(3).expand(8, 3, 3).double())), batch, 1)
    spread = Mixture((q,), torch.zeros(8, 1, dtype=DOUBLE))
    with pytest.raises(ValueError, match="batch information: expects a Gaussian posterior; got Mixture"):
        aggregate_moments(spread)
