"""Systems with a posterior over their decoder's weights: what they predict, and every posterior with every base."""

from itertools import product

import pytest
import torch
from torch import nn

import lifecycle
from curvae.likelihoods import Gaussian
from curvae.objectives import elbo
from curvae.systems import BayesianSystem, DrawsModels, bayesian_vae, vae
from curvae.systems.bayesian_vae import BASES
from curvae.systems.weight_posteriors import POSTERIORS, with_weight_posterior
from curvae.typing import Batch, DataSpec
from curvae.weights import weight_vector

DATA = lifecycle.data_of((6,))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fitted(word: str, base: str = "vae", draws: int = 3, **options: object) -> BayesianSystem:
    torch.manual_seed(0)
    system = bayesian_vae(DATA.spec, 2, 8, 1, weights=word, base=base, draws=draws, **options)
    if hasattr(system.weights, "every"):
        system.weights.every = 2
    lifecycle.trained(system, DATA, steps=8)
    return system.eval()


@pytest.mark.parametrize(("word", "base"), [*product(POSTERIORS, BASES)])
def test_every_posterior_with_every_base(word, base):
    system = fitted(word, base)
    assert isinstance(system, DrawsModels)
    own = weight_vector(system.model.decoder).detach().clone()
    batch = Batch.of(DATA.validation.x)
    z, drawn = torch.ones(1, 2), []
    for model in system.models(3, generator()):
        drawn.append(model.model.decode(z).detach())
        weights = model.log_weights(batch, 4, generator(1))
        assert weights.log_w.isfinite().all()
        assert model.model.log_joint(batch.x, weights.log_w.new_zeros(len(batch.x), 2)).shape == batch.x.shape[:1]
    assert len({tuple(each.flatten().tolist()) for each in drawn}) == 3
    assert torch.equal(weight_vector(system.model.decoder).detach(), own)
    again = [each.model.decode(z).detach() for each in system.models(3, generator())]
    assert all(torch.equal(*pair) for pair in zip(drawn, again, strict=True))
    assert system.log_weights(batch, 4).log_w.isfinite().all()
    assert system.reconstruct(batch.x).shape == batch.x.shape
    assert system.sample(5, generator()).shape == (5, 6)
    assert int(system.weights.rows) == len(DATA.train)


def test_evidence_is_the_mean_of_the_models_evidence():
    """Linear decoders: log p(x) of each draw is exact, and so is what the system says of all together.

    20,000 draws of z from the prior, under which weights are bounded; within 6 standard errors.
    """
    networks = {"encoder": nn.Linear(6, 4), "decoder": nn.Linear(2, 6), "likelihood": Gaussian(6, scale=2.0)}
    system = fitted("diagonal", draws=4, **networks).double()
    for value in system.inference.parameters():
        nn.init.zeros_(value)
    x = DATA.validation.x[:3].double()
    each = []
    for model in system.models(4, generator(0)):
        weight, bias = (value.detach() for value in model.model.decoder.parameters())
        law = torch.distributions.MultivariateNormal(bias, weight @ weight.mT + 4 * torch.eye(6).double())
        each.append(law.log_prob(x))
    exact = torch.stack(each).exp().mean(0).log()
    log_w, log_c = system.log_weights(Batch.of(x), 20_000, generator(1))
    ratio = (log_w - exact).exp()
    assert ((ratio.mean(0) - 1).abs() < 6 * ratio.std(0) / 20_000**0.5).all()
    torch.testing.assert_close(log_c.exp().sum(0), torch.ones(3).double())


def test_in_training_the_model_is_that_of_the_center():
    system = fitted("diagonal")
    assert system.train().parts().model is system.model
    assert len(system.eval().parts().model.members) == 3
    q = system.posterior(DATA.validation.x)
    value = elbo(system.parts().model, q, Batch.of(DATA.validation.x), 50).value
    assert value.isfinite().all()


def test_misuse():
    spec = DataSpec((6,))
    with pytest.raises(ValueError, match=r"weights: expected one of ensemble, swag, .*; got 'dropout'"):
        with_weight_posterior(vae(spec, 2), "dropout")
    with pytest.raises(ValueError, match="draws must be 1 or more; got 0"):
        bayesian_vae(spec, draws=0)
    with pytest.raises(ValueError, match="without running statistics"):
        bayesian_vae(spec, 2, decoder=nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 6)))
    with pytest.raises(ValueError, match="count must be 1 or more; got 0"):
        next(bayesian_vae(spec, 2).models(0))
