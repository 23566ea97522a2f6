"""Mixtures of t laws: against scipy, and that they give as many draws as are asked for, from the right component."""

import numpy as np
import pytest
import torch
from scipy import stats

from chance import deviates
from curvae.distributions import StudentMixture
from ingredients import students


@pytest.mark.parametrize("components", [1, 3])
@pytest.mark.parametrize("freedom", [None, 3, 7])
def test_density_is_that_of_scipy(freedom, components):
    q = StudentMixture(*students(4, components).tensors.values(), freedom)
    z = torch.randn(5, 4, 3).double()
    for row in range(4):
        laws = [
            stats.multivariate_normal(m, shape) if freedom is None else stats.multivariate_t(m, shape, df=freedom)
            for m, shape in zip(q.loc[row].numpy(), (q.factor @ q.factor.mT)[row].numpy(), strict=True)
        ]
        each = np.stack([law.logpdf(z[:, row].numpy()) for law in laws])
        expected = np.logaddexp.reduce(each + np.log(q.weights[row].numpy())[:, None])
        torch.testing.assert_close(q.log_prob(z)[:, row], torch.from_numpy(expected))


@pytest.mark.parametrize("freedom", [None, 7])
def test_intervals_of_one_component_are_exact(freedom):
    q = StudentMixture(torch.zeros(1, 1, 1), torch.zeros(1, 1, 1, 1), torch.zeros(1, 1), freedom)
    law = stats.norm() if freedom is None else stats.t(freedom)
    assert [end.item() for end in q.interval(0.9)] == pytest.approx(law.interval(0.9))


def test_gaussian_limit_and_widening():
    q = students(4, 2)
    wide = StudentMixture(q.loc, q.packed, q.logits, None).widened(4.0)
    torch.testing.assert_close(wide.factor, 2 * q.factor)
    torch.testing.assert_close(wide.mean, q.mean)


@pytest.mark.statistical
def test_components_are_drawn_by_their_weight():
    """Counts of 20,000 draws, a binomial share of each of 4 rows: 4 normal deviates, 2e-6 of the seeds fail."""
    q = StudentMixture(
        torch.tensor([-50.0, 50.0]).expand(4, 2).unsqueeze(-1), torch.zeros(4, 2, 1, 1), torch.randn(4, 2)
    )
    draws = q.draw(20_000, torch.Generator().manual_seed(torch.initial_seed()))
    share, p = (draws.z[..., 0] > 0).double().mean(0), q.weights[:, 1].double()
    deviates("share", (share - p) / (p * (1 - p) / 20_000).sqrt())
    expected = torch.where(draws.z[..., 0] > 0, q.logits.log_softmax(-1)[:, 1], q.logits.log_softmax(-1)[:, 0])
    torch.testing.assert_close(draws.score, expected)


def test_too_little_freedom_is_refused():
    with pytest.raises(ValueError, match="freedom must be 3 or more, or None; got 2"):
        StudentMixture(*students(2, 1).tensors.values(), 2)


@pytest.mark.parametrize("freedom", [None, 3, 10])
def test_intervals_of_several_components_hold_what_they_say(freedom):
    """By the marginal distribution functions; to rounding."""
    q = StudentMixture(
        3 * torch.randn(4, 3, 2).double(),
        (0.5 * torch.randn(4, 3, 2, 2)).tril().double(),
        torch.randn(4, 3).double(),
        freedom,
    )
    law = stats.norm if freedom is None else stats.t(freedom)
    scale = q.factor.square().sum(-1).sqrt()
    for end, mass in zip(q.interval(0.8), (0.1, 0.9), strict=True):
        below = torch.from_numpy(law.cdf(((end.unsqueeze(1) - q.loc) / scale).numpy()))
        torch.testing.assert_close((q.weights.unsqueeze(-1) * below).sum(1), torch.full((4, 2), mass).double())
