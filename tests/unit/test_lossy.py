"""The lossy autoencoder: what its decoder sees, its conditionals and draws, and the weight of its divergence."""

import itertools
import re

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

import curvae
from chance import p_value
from curvae.curvature import Generic, local
from curvae.evaluation import impute
from curvae.inference import Laplace
from curvae.likelihoods import Bernoulli, Categorical, Gaussian, Likelihood, ZeroInflatedNegativeBinomial
from curvae.model import LatentVariableModel
from curvae.networks import MLP, Logarithm, MaskedDecoder, kernels_for
from curvae.objectives import MutualDivergence, SoftFreeBits, elbo, kind_of
from curvae.posteriors import DiagonalGaussian
from curvae.priors import FlowPrior, StandardNormal
from curvae.systems import lossy_vae
from curvae.typing import Batch, DataSpec
from ingredients import stirred
from zoo import batch_of

F64 = torch.float64
MAPS = 2
LIKELIHOODS = {
    "bernoulli": Bernoulli,
    "gaussian": lambda event: Gaussian(event, scale=0.5),
    "noise by pixel": lambda event: Gaussian(event, learn="element", scale=0.5),
    "categorical": lambda event: Categorical(event, 3),
    "zero-inflated": ZeroInflatedNegativeBinomial,
}


def decoder_of(event: tuple[int, int, int], kernels: list[int], likelihood: Likelihood, latent: int = 3):
    """One whose pixels do say something."""
    size = torch.Size(event[1:]).numel()
    network = MLP(latent, [9], likelihood.size + MAPS * size)
    categories = likelihood.categories if isinstance(likelihood, Categorical) else 1
    outputs = likelihood.size // (event[0] * size)
    front = Logarithm(1.0) if isinstance(likelihood, ZeroInflatedNegativeBinomial) else None
    return stirred(MaskedDecoder(network, event, kernels, 8, MAPS, outputs, categories, front)).double()


def model_of(event: tuple[int, int, int], kernels: list[int], word: str = "bernoulli") -> LatentVariableModel:
    likelihood = LIKELIHOODS[word](event)
    decoder = decoder_of(event, kernels, likelihood)
    return LatentVariableModel(StandardNormal(3), decoder, likelihood, autoregressive=True).double()


def seen_by(decoder: MaskedDecoder, z: Tensor, x: Tensor) -> Tensor:
    """Whether an output of a pixel (rows: i, j) depends on an element of another one (columns: i', j')."""
    channels, height, width = decoder.event
    jacobian = torch.autograd.functional.jacobian(lambda at: decoder(z, at), x).squeeze()
    jacobian = jacobian.reshape(channels, height * width, -1, channels, height * width)
    return (jacobian != 0).any(0).any(1).any(1)


def declared(height: int, width: int, window: int) -> Tensor:
    """The same by the rule of the docstring."""
    sites = list(itertools.product(range(height), range(width)))

    def sees(i: int, j: int, a: int, b: int) -> bool:
        above = i - window <= a < i and abs(j - b) <= window
        return above or (a == i and j - window <= b < j)

    return torch.tensor([[sees(*site, *other) for other in sites] for site in sites])


# ------------------------------------------------------------------------------------------ what the decoder sees


@pytest.mark.parametrize("kernels", [[1], [1, 1], [3], [5], [3, 3], [5, 3, 1], [3, 3, 3, 3, 3], [13, 1, 1]])
@pytest.mark.parametrize("event", [(1, 5, 7), (2, 6, 4)])
def test_a_pixel_sees_its_window_and_nothing_else(event, kernels):
    """By gradient: none of itself and of what comes after, none outside the window, and some of all within it."""
    decoder = all_positive(decoder_of(event, kernels, Gaussian(event)))
    assert decoder.window == sum(each // 2 for each in kernels)
    found = seen_by(decoder, torch.rand(1, 3, dtype=F64), torch.rand(1, *event, dtype=F64))
    assert torch.equal(found, declared(*event[1:], decoder.window))
    assert not found.triu().any(), "nothing of the pixel itself, or of a later one"


def all_positive(decoder: MaskedDecoder) -> MaskedDecoder:
    """No unit rests at positive values, and no two paths cancel."""
    with torch.no_grad():
        for each in decoder.parameters():
            each.abs_()
    return decoder


def test_every_pixel_sees_all_of_z():
    """In its maps too, which no mask keeps from it: with b at rest, every output follows every latent."""
    event = (1, 5, 7)
    decoder = all_positive(decoder_of(event, [3, 3], Gaussian(event)))
    with torch.no_grad():
        decoder.network[-1].weight[:35] = 0
    z, x = torch.rand(1, 3, dtype=F64), torch.rand(1, *event, dtype=F64)
    jacobian = torch.autograd.functional.jacobian(lambda at: decoder(at, x), z).squeeze()
    assert jacobian.shape == (35, 3)
    assert (jacobian != 0).all()


def test_at_first_the_pixels_say_nothing():
    event = (1, 4, 4)
    decoder = MaskedDecoder(MLP(2, [], 16 + 16), event, [5, 3], maps=1)
    z, x = torch.randn(3, 2), torch.randn(3, *event)
    assert torch.equal(decoder(z, x), decoder.network(z)[:, :16])


def test_many_rows_are_decoded_some_at_a_time():
    """Without a gradient to be taken; the numbers are the same."""
    event = (1, 8, 8)
    decoder = decoder_of(event, [3, 3], Bernoulli(event))
    z, x = torch.randn(2500, 3, dtype=F64), torch.randn(2500, *event, dtype=F64)
    with torch.no_grad():
        torch.testing.assert_close(decoder(z, x), decoder._eta(z, x), atol=1e-12, rtol=1e-12)


def test_categories_are_seen_as_such():
    """Categories 0 and 2 are no further apart than 0 and 1: a number would be a straight line through all three."""
    event = (1, 1, 2)
    decoder = decoder_of(event, [3], Categorical(event, 3))
    x = torch.tensor([0.0, 1.0, 2.0], dtype=F64)[:, None, None, None].expand(3, 1, 1, 2)
    eta = decoder(torch.zeros(3, 3, dtype=F64), x).reshape(3, 2, 3)
    assert torch.equal(eta[0, 0], eta[2, 0])
    first, second, third = eta[:, 1]
    assert not torch.allclose(third - second, second - first)


def test_counts_are_seen_by_their_logarithm():
    decoder = lossy_vae(DataSpec((1, 4, 4), "count"), latent=2, hidden=8).model.decoder
    x = torch.tensor([[[[0.0, 1.0], [99.0, 3.0]]]])
    torch.testing.assert_close(decoder._as_numbers(x, x), x.log1p())


def test_kernels_make_up_the_window():
    for window, layers in itertools.product(range(12), range(1, 5)):
        kernels = kernels_for(window, layers)
        assert len(kernels) == layers
        assert sum(each // 2 for each in kernels) == window
        assert max(kernels) - min(kernels) <= 2
        assert kernels == sorted(kernels, reverse=True)


# ------------------------------------------------------------------------------------------ p(x | z) and its draws


@pytest.mark.parametrize("kernels", [[1], [3, 3], [5]])
def test_all_pictures_of_two_by_two_have_probability_1(kernels):
    model = model_of((1, 2, 2), kernels)
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)), dtype=F64).reshape(16, 1, 2, 2)
    z = torch.randn(5, 1, 3, dtype=F64)
    total = model.log_likelihood(every, z.expand(5, 16, 3)).logsumexp(1)
    torch.testing.assert_close(total, torch.zeros(5, dtype=F64), atol=1e-12, rtol=0)


@pytest.mark.statistical
def test_draws_come_as_often_as_they_are_likely():
    model = model_of((1, 2, 2), [3, 3])
    every = torch.tensor(list(itertools.product([0.0, 1.0], repeat=4)), dtype=F64).reshape(16, 1, 2, 2)
    z = torch.randn(1, 3, dtype=F64)
    expected = model.log_likelihood(every, z.expand(16, 3)).exp()
    drawn = model.sample_given(z.expand(20_000, 3)).flatten(1)
    counted = torch.bincount((drawn @ torch.tensor([8.0, 4.0, 2.0, 1.0], dtype=F64)).long(), minlength=16)
    p_value("chi-squared", chisquare(counted.numpy(), (20_000 * expected / expected.sum()).detach().numpy()).pvalue)


@pytest.mark.parametrize("word", LIKELIHOODS)
@pytest.mark.parametrize("kernels", [[1], [3, 3], [5, 1], [13]])
def test_log_p_is_the_sum_of_the_conditionals_that_were_drawn_from(word, kernels):
    """The parameters that each pixel was drawn from are those that its picture is judged by."""
    model = model_of((2, 4, 5), kernels, word)
    z, used = torch.randn(6, 3, dtype=F64), []

    def draw(eta: Tensor) -> Tensor:
        used.append(eta.clone())
        return model.likelihood.sample(eta)

    x = model.decoder.ancestral(z, draw)
    at_its_turn = [eta.reshape(6, 2, 20, -1)[:, :, site] for site, eta in enumerate(used)]
    eta = torch.stack(at_its_turn, 2).flatten(1)
    torch.testing.assert_close(eta, model.decode(z, x), atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(model.likelihood.log_prob(x, eta), model.log_likelihood(x, z))


def test_a_model_draws_pixel_by_pixel():
    model = model_of((1, 3, 3), [3])
    one, two = (model.sample(4, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(one[0], two[0])
    assert torch.equal(one[1], two[1])
    model.decoder = torch.nn.Bilinear(3, 9, 9)
    with pytest.raises(ValueError, match=r"^sample: expects an autoregressive decoder with a method ancestral"):
        model.sample(4)


@pytest.mark.parametrize("word", ["bernoulli", "gaussian", "categorical"])
def test_curvature_is_that_of_the_decoder_given_x(word):
    model, z = model_of((1, 3, 3), [3, 3], word), torch.randn(4, 3, dtype=F64)
    x = model.sample_given(z).to(F64).detach()
    near = local(model, batch_of(x), z, Generic)
    pairs = zip(z.unsqueeze(1), x.unsqueeze(1), strict=True)
    slopes = [torch.autograd.functional.jacobian(lambda at, x=x: model.decode(at, x)[0], z) for z, x in pairs]
    jacobian = torch.stack(slopes).squeeze(2)
    root = model.likelihood.root(model.decode(z, x).unsqueeze(1), jacobian.mT)
    torch.testing.assert_close(near.precision, root @ root.mT + torch.eye(3, dtype=F64))
    leaf = z.clone().requires_grad_()
    (slope,) = torch.autograd.grad(model.log_joint(x, leaf).sum(), leaf)
    torch.testing.assert_close(near.grad, slope)


# ------------------------------------------------------------------------------------------ soft free bits


@pytest.mark.parametrize(
    ("divergence", "weight", "expected"),
    [
        (0.5, 1.0, 0.8),  # below the target: less is paid
        (0.5, 0.01, 0.01),  # no less than the least
        (2.0, 0.4, 0.4),  # on it
        (2.19, 0.4, 0.4),  # within the tolerance
        (2.21, 0.4, 0.5),  # above: more
        (9.0, 0.9, 1.0),  # but no more than the ELBO does
    ],
)
def test_the_weight_follows_its_law(divergence, weight, expected):
    model = LatentVariableModel(StandardNormal(2), torch.nn.Linear(2, 3), Gaussian(3)).double()
    loc = torch.full((4, 2), divergence**0.5, dtype=F64)  # KL = 1/2 (m1^2 + m2^2)
    q, objective = DiagonalGaussian(loc, torch.zeros_like(loc)), SoftFreeBits(2.0, 0.25, 0.1, 0.01).double()
    objective.weight.fill_(weight)
    torch.manual_seed(0)
    bound = objective(model, q, batch_of(torch.randn(4, 3, dtype=F64)), 3)
    assert bound.state["weight"].item() == pytest.approx(expected)
    assert objective.weight.item() == pytest.approx(weight), "forward is pure: the trainer writes the state"
    torch.testing.assert_close(bound.value - bound.surrogate, torch.full((4,), (weight - 1) * divergence, dtype=F64))


def test_soft_free_bits_report_the_elbo():
    model = LatentVariableModel(StandardNormal(2), torch.nn.Linear(2, 3), Gaussian(3)).double()
    q, batch = DiagonalGaussian(*torch.randn(2, 4, 2, dtype=F64)), batch_of(torch.randn(4, 3, dtype=F64))
    objective = SoftFreeBits(50.0).double()
    objective.weight.fill_(0.1)
    values = []
    for each in (objective, elbo):
        torch.manual_seed(1)
        values.append(each(model, q, batch, 2).value)
    torch.testing.assert_close(*values)
    assert kind_of(objective) == "lower"


@pytest.mark.parametrize("wrong", [{"target": -1.0}, {"target": 1.0, "rate": 0.0}, {"target": 1.0, "least": 2.0}])
def test_soft_free_bits_misused(wrong):
    with pytest.raises(ValueError, match="SoftFreeBits: expects target and tolerance of 0 or more"):
        SoftFreeBits(**wrong)


# ------------------------------------------------------------------------------------------ the system


def small(**options: object):
    return lossy_vae(DataSpec((1, 4, 4)), **{"latent": 3, "hidden": 16, "channels": 6, "width": 8, **options})


def test_parts():
    system = small(window=None)
    assert system.model.decoder.window == 3, "all that came before"
    assert small(window=9).model.decoder.window == 3
    assert small(window=0).model.decoder.window == 0
    assert isinstance(system.model.prior, FlowPrior)
    assert isinstance(small(flows=0).model.prior, StandardNormal)
    assert isinstance(small(free_bits=2.0).objective, SoftFreeBits)
    assert small(diversity=1.0, free_bits=2.0).objective == MutualDivergence(1.0, 0.0, 2.0)
    assert small(smoothness=1.0).objective == MutualDivergence(0.0, 1.0, 0.0)
    assert small().kind == "lower"
    assert small(diversity=1.0).kind == "none"


def test_mutual_divergence_trains_and_the_elbo_is_reported():
    x, plain, diverse = torch.randn(6, 1, 4, 4), small(), small(diversity=2.0)
    diverse.load_state_dict(plain.state_dict())
    bounds = []
    for system in (plain, diverse):
        torch.manual_seed(0)
        bounds.append(system.bound(Batch(x, torch.arange(6))))
    torch.testing.assert_close(bounds[0].value, bounds[1].value)
    assert not torch.allclose(bounds[1].value.mean(), bounds[1].surrogate.mean())


@pytest.mark.parametrize("event", [(12,), (4, 4), (2, 1, 4, 4)])
def test_what_is_no_picture_is_refused(event):
    words = (
        rf"^lossy-vae: expects pictures, \(channels, height, width\), .*; got data of shape {re.escape(str(event))}\."
    )
    with pytest.raises(ValueError, match=words) as error:
        lossy_vae(DataSpec(event))
    assert "\n" not in str(error.value)


def test_misuse():
    with pytest.raises(ValueError, match="kl_warmup: expected 0 beside free_bits, diversity or smoothness; got 5"):
        small(free_bits=1.0, kl_warmup=5)
    with pytest.raises(ValueError, match="kernels: window must be 0 or more; got -1"):
        small(window=-1)
    with pytest.raises(
        ValueError, match=r"likelihood: expected one of data of shape \(1, 4, 4\), as there are; got \(16"
    ):
        small(likelihood=Bernoulli(16))
    with pytest.raises(ValueError, match="latent must be 1 or more; got 0"):
        small(latent=0)
    with pytest.raises(ValueError, match="kernels: layers must be 1 or more; got 0"):
        small(layers=0)
    with pytest.raises(ValueError, match="channels must be 2 or more; got 1"):
        small(channels=1)
    with pytest.raises(ValueError, match="kernel must be odd, 1 or more; got 4"):
        MaskedDecoder(MLP(2, [], 32), (1, 4, 4), [4], maps=1)
    with pytest.raises(ValueError, match=r"the first kernel alone sees pixels, .*; got \[1, 3\]"):
        MaskedDecoder(MLP(2, [], 32), (1, 4, 4), [1, 3], maps=1)


@pytest.mark.parametrize("window", [0, 2, None])
def test_it_starts_at_the_linear_model(window):
    """The log weight of every single draw is log p(x) of probabilistic PCA, in float64."""
    data = curvae.data.from_array(torch.randn(120, 4, 4, dtype=F64).cumsum(-1), standardize=False)
    system = small(window=window, hidden=32).double()
    system.stages()[0].start(system, data)
    x = data.test.batch(torch.arange(len(data.test))).x.double()
    expected = curvae.linear.ppca(data.train.x.flatten(1), 3, floor=2e-6).log_prob(x.flatten(1))
    log_w = system.log_weights(Batch.of(x), 5).log_w
    torch.testing.assert_close(log_w, expected.expand_as(log_w), atol=1e-9, rtol=0)


def test_missing_pixels_are_refused_where_log_p_is_asked_for():
    """A pixel that is not there would be seen as 0 by those after it."""
    system, x = small(), torch.randn(6, 1, 4, 4)
    holes = Batch.of(x, torch.rand_like(x) < 0.8)
    line = "expects examples without missing elements, which an autoregressive decoder cannot leave out"
    for ask in (
        lambda: system.bound(holes),
        lambda: system.log_weights(holes, 2),
        lambda: system.posterior(x, holes.mask, refine=1),
        lambda: Laplace(system.inference)(system.model, holes),
        lambda: impute(system, x, holes.mask),
    ):
        with pytest.raises(ValueError, match=f"{line}|impute: an autoregressive decoder draws element by element"):
            ask()
    whole = Batch.of(x, torch.ones_like(x, dtype=torch.bool))
    assert system.bound(whole).value.isfinite().all()


def test_a_reconstruction_is_a_draw_given_the_code():
    """Not what each pixel is expected to be given the picture's own: of a picture whose code says nothing it is new."""
    system, x = small(), torch.randn(6, 1, 4, 4)
    stirred(system.model.decoder)
    one, two = (system.reconstruct(x) for _ in range(2))
    assert torch.equal(one, two)
    z = system.posterior(x).mean
    assert torch.equal(one, system.model.sample_given(z, torch.Generator().manual_seed(0)))
    assert torch.equal(system.reconstruct(x.flatten(1)), one.flatten(1))
