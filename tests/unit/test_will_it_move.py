"""The will-it-move test: what it trains, what it leaves alone, and whom it tells apart."""

import copy

import pytest
import torch

from curvae import training
from curvae.data import from_array
from curvae.evaluation.ood import will_it_move
from curvae.priors import StandardNormal, TiltedNormal
from curvae.systems import tilted_vae


def tables():
    """Rows near a plane, and rows of another one."""
    generator = torch.Generator().manual_seed(0)
    z, noise = torch.randn(400, 2, generator=generator), 0.1 * torch.randn(400, 6, generator=generator)
    maps = torch.randn(2, 2, 6, generator=generator)
    return (from_array(z @ one + noise, seed=0, standardize=False) for one in maps)


def test_without_a_step_it_is_the_negative_bound():
    data, strange = tables()
    system = tilted_vae(data.spec, latent=2, hidden=8, tilt=4.0).eval()
    found = will_it_move(system, data.train, strange.test, data.test, TiltedNormal(2, 8.0), steps=0, seed=3)
    torch.manual_seed(3)
    batch = strange.test.batch(torch.arange(len(strange.test)))
    torch.testing.assert_close(found.asked, -system.bound(batch).value.detach())


def test_the_system_stays_as_it_is_and_the_seed_decides():
    data, strange = tables()
    system = tilted_vae(data.spec, latent=2, hidden=8, tilt=4.0).eval()
    before, state = copy.deepcopy(system.state_dict()), torch.get_rng_state()
    runs = [will_it_move(system, data.train, strange.test, data.test, TiltedNormal(2, 8.0)) for _ in range(2)]
    assert all(torch.equal(value, before[name]) for name, value in system.state_dict().items())
    assert isinstance(system.model.prior, TiltedNormal)
    assert system.model.prior.tilt == 4.0
    assert not system.training
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(runs[0].asked, runs[1].asked)


def test_unknown_rows_score_higher_and_the_other_prior_counts_by_its_weight(tmp_path):
    """Of the other plane, before and after; a weight of 0 leaves only the training rows to learn from."""
    data, strange = tables()
    system = tilted_vae(data.spec, latent=2, hidden=16, tilt=5.0)
    training.fit(system, data, seed=0, out=tmp_path / "run", max_updates=200, progress=False)

    def scores(tilt: float, weight: float, steps: int = 20) -> torch.Tensor:
        other = TiltedNormal(2, tilt)
        found = will_it_move(system, data.train, strange.test, data.test, other, steps=steps, rate=1e-3, weight=weight)
        assert found.asked.median() > found.known.median()
        return found.asked

    assert torch.equal(scores(15.0, 0.0), scores(1.0, 0.0))
    assert (scores(15.0, 1.0) - scores(1.0, 1.0)).abs().max() > 0.1


@pytest.mark.parametrize(("other", "options"), [(StandardNormal(3), {}), (StandardNormal(2), {"steps": -1})])
def test_refused(other, options):
    data, strange = tables()
    system = tilted_vae(data.spec, latent=2, hidden=8)
    with pytest.raises(ValueError, match="expected"):
        will_it_move(system, data.train, strange.test, data.test, other, **options)
