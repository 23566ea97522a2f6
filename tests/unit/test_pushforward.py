"""PushforwardGaussian: J N J' by another route, exact where all is linear, its derivation, the free-form estimator."""

import pytest
import torch
from torch import nn

from curvae.curvature import Status
from curvae.inference import AffinePosterior, AmortizedGaussian, Laplace, PushforwardGaussian
from curvae.inference.pushforward import pushforward
from curvae.linalg import soft_unbound
from curvae.networks import MLP
from curvae.noise import common_noise
from curvae.objectives import elbo, log_weights
from curvae.typing import Batch
from zoo import D, LinearGaussian, P, Residual, batch_of, relu_model, smooth_model

F64 = torch.float64
CLOSE = {"atol": 1e-10, "rtol": 1e-10}
ENCODERS = {
    "fewer inputs than units": lambda: MLP(P, [12, 7], 2 * D),
    "more inputs than units": lambda: MLP(P, [8, 7], 2 * D),
    "smooth": lambda: MLP(P, [8, 12], 2 * D, nn.SiLU),
    "linear": lambda: nn.Linear(P, 2 * D),
    "one hidden layer": lambda: MLP(P, [8], 2 * D),
    "no chain": lambda: nn.Sequential(nn.Flatten(), Residual(P, 8, 2 * D, nn.Tanh)),
}


def means_of(encoder: nn.Module):
    return lambda one: encoder(one[None])[0, :D]


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("name", ENCODERS)
def test_the_pushed_noise_is_that_of_the_whole_jacobian(name, missing):
    """And so are its gradients in the encoder's weights and in the noise."""
    encoder, x = nn.Sequential(nn.Flatten(), ENCODERS[name]()).double(), torch.randn(6, 2, P // 2, dtype=F64)
    noise, mask = torch.rand(P, dtype=F64).requires_grad_(), torch.rand(x.shape) < 0.7
    jacobian = torch.stack([torch.func.jacrev(means_of(encoder))(one).flatten(1) for one in x])
    seen = noise * mask.flatten(1) if missing else noise.expand(6, P)
    expected = torch.einsum("bip,bp,bjp->bij", jacobian, seen, jacobian)
    out, pushed = pushforward(encoder, x, noise, mask if missing else None)
    torch.testing.assert_close(out, encoder(x), **CLOSE)
    torch.testing.assert_close(pushed, expected, **CLOSE)
    weights, learned = torch.randn_like(expected), [noise, *encoder.parameters()]
    slopes = (torch.autograd.grad((weights * one).sum(), learned, allow_unused=True) for one in (pushed, expected))
    for ours, theirs in zip(*slopes, strict=True):
        ours, theirs = (torch.zeros(1, dtype=F64) if one is None else one for one in (ours, theirs))
        torch.testing.assert_close(*torch.broadcast_tensors(ours, theirs), **CLOSE)


def exact_inference(oracle: LinearGaussian, wrong: float = 0.0) -> PushforwardGaussian:
    """The posterior mean is linear in x, the noise the model's, and the own part the prior's share, S."""
    covariance = torch.linalg.inv(oracle.precision())
    gain = covariance @ oracle.weight.mT / oracle.scale**2
    encoder = nn.Linear(len(oracle.weight), 2 * D).double()
    inference = PushforwardGaussian(encoder, len(oracle.weight)).double()
    with torch.no_grad():
        encoder.weight.copy_(torch.cat([gain + wrong * torch.randn_like(gain), torch.zeros_like(gain)]))
        root = soft_unbound(0.5 * covariance.diagonal().log())
        encoder.bias.copy_(torch.cat([-gain @ oracle.bias, root]))
        inference.log_noise.fill_(oracle.scale).log_()
    return inference


def orthogonal_oracle() -> LinearGaussian:
    return LinearGaussian(lengths=(0.3, 1.0, 2.0))


def test_it_is_the_exact_posterior_of_a_linear_gaussian_model():
    oracle = orthogonal_oracle()
    q = exact_inference(oracle)(oracle.model, oracle.batch).posterior
    torch.testing.assert_close(q.mean, oracle.mean(), **CLOSE)
    torch.testing.assert_close(torch.linalg.inv(q.covariance), oracle.precision().expand(8, -1, -1), **CLOSE)
    log_w = log_weights(oracle.model, oracle.batch, q.draw(5))
    torch.testing.assert_close(log_w, oracle.log_evidence().expand_as(log_w), **CLOSE)


def test_noise_pushed_through_the_map_of_modes_leaves_the_square_of_the_covariance():
    """``S - S^2`` for a ReLU decoder, its mode differentiated by central differences."""
    model, _ = relu_model()
    batch = batch_of(model.sample(64)[0].detach())
    start = Laplace(AmortizedGaussian(MLP(P, [8], 2 * D).double()), steps=30)

    def modes(x):
        return start(model, batch_of(x)).posterior

    step, q = 1e-5, modes(batch.x)
    ahead, behind = (
        torch.stack([modes(batch.x + side * axis).mean for axis in torch.eye(P).double()], -1) for side in (step, -step)
    )
    jacobian = (ahead - behind) / (2 * step)
    pushed = model.likelihood.variance * jacobian @ jacobian.mT
    bend = (ahead + behind - 2 * q.mean.unsqueeze(-1)).abs().amax((1, 2))
    kink = (start(model, batch).info["grad_norm"][-1] > 1e-8) | (bend > 1e-9)
    assert not kink.all()
    expected = q.covariance - q.covariance @ q.covariance
    torch.testing.assert_close(pushed[~kink], expected[~kink], atol=1e-6, rtol=1e-5)


def test_gradient_of_the_elbo():
    """In weights of the encoder and in the noise, by central differences."""
    model, batch = smooth_model()
    network = MLP(P, [8, 7], 2 * D, nn.SiLU)
    inference = PushforwardGaussian(network, P).double()
    with torch.no_grad():
        network[-1].weight.mul_(0.1)  # near the prior, where the ELBO has few digits before the point

    def value():
        return elbo(model, inference(model, batch).posterior, batch, 3, generator=common_noise(1)).value.sum()

    parameters = list(inference.parameters())
    for parameter, grad in zip(parameters, torch.autograd.grad(value(), parameters), strict=True):
        step, ends = torch.randn_like(parameter), []
        for side in (1e-5, -1e-5):
            with torch.no_grad():
                parameter.add_(side * step)
                ends.append(value())
                parameter.sub_(side * step)
        torch.testing.assert_close((grad * step).sum(), (ends[0] - ends[1]) / 2e-5, atol=1e-6, rtol=1e-6)


def entropy_slopes(jacobian, noise, own, decoder) -> list[torch.Tensor]:
    """Of ``1/2 log det(J N J' + T)`` in J, exact and free-form: ``v' J J_g v`` over all axes v, its expectation."""
    free = jacobian.clone().requires_grad_()
    whole = 0.5 * torch.logdet((free * noise) @ free.mT + own)
    return [torch.autograd.grad(one, free)[0] for one in (whole, (free @ decoder).trace())]


def test_the_free_form_gradient_is_exact_at_the_map_of_modes():
    """And so is it at the decoder's pseudo-inverse without the prior's share; at another encoder it is not."""
    oracle = LinearGaussian()
    weight, noise = oracle.weight, torch.full((P,), oracle.scale**2, dtype=F64)
    covariance = torch.linalg.inv(oracle.precision())
    modes = covariance @ weight.mT / oracle.scale**2
    torch.testing.assert_close(*entropy_slopes(modes, noise, covariance @ covariance, weight), **CLOSE)
    inverse, nothing = torch.linalg.pinv(weight), torch.zeros(D, D, dtype=F64)
    torch.testing.assert_close(*entropy_slopes(inverse, noise, nothing, weight), **CLOSE)
    exact, free_form = entropy_slopes(inverse + 0.1 * torch.randn_like(inverse), noise, nothing, weight)
    assert (exact - free_form).norm() > 0.01 * exact.norm()


def test_without_a_noise_of_x_it_starts_at_the_variances():
    """Half of one at most is pushed, the encoder's own part is the rest."""
    inference = PushforwardGaussian(MLP(4, [20], 6), 4).double()
    inward, scale = torch.randn(2, 4, dtype=F64), torch.tensor([0.3, 0.8], dtype=F64)
    assert inference.start_from(AffinePosterior(inward, torch.zeros(2, dtype=F64), scale.log()))
    x = torch.randn(5, 4, dtype=F64)
    q = inference(None, Batch.of(x)).posterior
    torch.testing.assert_close(q.mean[:, :2], x @ inward.mT, **CLOSE)
    torch.testing.assert_close(q.variance[:, :2], scale.square().expand(5, 2), **CLOSE)
    assert ((2 * inference.log_noise).exp() @ inward.square().mT <= 0.5 * scale.square() + 1e-6).all()


def test_status_says_what_is_not_finite_and_spares_the_others():
    inference = PushforwardGaussian(nn.Linear(P, 2 * D), P).double()
    x = torch.randn(4, P, dtype=F64)
    x[1] = torch.inf
    found = inference(None, batch_of(x))
    assert found.info["status"].tolist() == [Status.OK, Status.NONFINITE, Status.OK, Status.OK]
    assert found.posterior.draw(2).z[:, [0, 2, 3]].isfinite().all()


def test_misuse():
    with pytest.raises(ValueError, match="inputs must be 1 or more; got 0"):
        PushforwardGaussian(nn.Linear(4, 2), 0)
    with pytest.raises(ValueError, match="expected 4 values of an example; got 5"):
        PushforwardGaussian(nn.Linear(4, 2), 4)(None, batch_of(torch.zeros(3, 5)))
    with pytest.raises(ValueError, match=r"must give 2 D values .* got 5, an odd number"):
        PushforwardGaussian(nn.Linear(4, 5), 4)(None, batch_of(torch.zeros(3, 4)))
