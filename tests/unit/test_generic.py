"""Decoders of any kind: the budget of memory, the direction, modules that behave otherwise in training, no Jacobian."""

import pytest
import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from curvae.curvature import Generic, linearize
from curvae.curvature.routes.differentiable import decoding
from curvae.inference import AmortizedGaussian, Laplace, MatrixFreeLaplace
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.networks import ConvDecoder, ConvEncoder
from curvae.priors import StandardNormal
from zoo import Residual, batch_of

CLOSE = {"atol": 1e-10, "rtol": 1e-10}


def tensor_peak(run) -> int:
    """Bytes: the most that is alive at once of what torch's allocator hands out while ``run`` runs."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        run()
    events = [event for event in seen.profiler.kineto_results.events() if event.name() == "[memory]"]
    alive, most = 0, 0
    for event in sorted(events, key=lambda event: event.start_ns()):
        alive += event.nbytes()
        most = max(most, alive)
    return most


def conv_problem(size: int = 12, count: int = 6, event=(2, 12, 12)):
    model = LatentVariableModel(StandardNormal(size), ConvDecoder(size, event, 4, 16), Gaussian(event))
    return model, batch_of(torch.randn(count, *event)), torch.randn(count, size)


def wide_problem(size: int = 20, count: int = 30):
    """Fewer outputs than latents."""
    model = LatentVariableModel(StandardNormal(size), Residual(size, 50, 6, nn.Tanh), Gaussian(6, scale=0.5))
    return model, batch_of(torch.randn(count, 6)), torch.randn(count, size)


@pytest.mark.parametrize("problem", [conv_problem, wide_problem])
@pytest.mark.parametrize("gradient", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_peak_memory_respects_the_budget(monkeypatch, problem, share, gradient):
    """By torch's own record of every allocation; the budget is a share of what the whole batch takes at once.

    With torch's own loops: within an operation oneDNN keeps copies whose channels are padded to the width of the
    processor's vectors. Two channels become eight under AVX2, which no budget of a route can know.
    """
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    model, batch, z = problem()

    def peak(route):
        def run():
            near = route.of(model, batch, z).local()
            if gradient:
                torch.autograd.grad(near.precision.sum() + near.grad.sum(), list(model.parameters()))

        with torch.set_grad_enabled(gradient):
            return tensor_peak(run)

    needs = Generic.of(model, batch, z).needs
    unit = peak(Generic.within(2**40))
    budget = max(int(share * unit), needs.each(True) if gradient else needs.least)
    results = 3 * batch.x.element_size() * len(z) * z.shape[1] * (z.shape[1] + 1)  # of the chunks, and put together
    assert peak(Generic.within(budget)) <= budget + results


def test_refusal_names_the_bytes():
    model, batch, z = conv_problem()
    least = Generic.of(model, batch, z).needs.least
    with pytest.raises(ValueError, match=rf"needs {least:,} bytes; the budget is {least - 1:,}\. Take route=Generic"):
        linearize(model, batch, z, Generic.within(least - 1))
    with pytest.raises(ValueError, match="expects a positive number of bytes; got 0"):
        Generic.within(0)


def test_fewer_outputs_than_latents_take_the_rows(monkeypatch):
    model, batch, z = wide_problem()
    near, directions = Generic.of(model, batch, z), []
    near.local()  # the way to its derivatives is known from here on
    vmap = torch.func.vmap

    def counted(function, **options):
        def run(eye):
            directions.append(len(eye))
            return vmap(function, **options)(eye)

        return run

    monkeypatch.setattr(torch.func, "vmap", counted)
    near.local()
    assert directions == [6]


# ------------------------------------------------------------------------------------------- decoders in training


def restless(size: int = 3) -> nn.Module:
    decoder = nn.Sequential(nn.Linear(size, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Dropout(0.5), nn.Linear(8, 10))
    with torch.no_grad():
        decoder[1].running_mean.normal_()
        decoder[1].running_var.uniform_(0.5, 2.0)
    return decoder.double()


@pytest.mark.parametrize("inference", [Laplace, MatrixFreeLaplace])
def test_training_decoder_is_searched_in_evaluation_mode(inference):
    """Batch normalization by its running statistics, dropout off; nothing of that is left behind."""
    model = LatentVariableModel(StandardNormal(3), restless(), Gaussian(10, scale=0.5)).double()
    batch = batch_of(torch.randn(8, 10, dtype=torch.float64))
    find = inference(AmortizedGaussian(nn.Linear(10, 6).double()))
    expected = find(model.eval(), batch).posterior
    model.train()
    model.decoder[3].eval()  # switched off by hand: stays so
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = find(model, batch).posterior
    torch.testing.assert_close(found.mean, expected.mean, **CLOSE)
    torch.testing.assert_close(found.covariance, expected.covariance, **CLOSE)
    assert [module.training for module in model.decoder] == [True, True, True, False, True]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    alone = find(model, batch_of(batch.x[2:3])).posterior
    torch.testing.assert_close(alone.mean, expected.mean[2:3], **CLOSE)
    found.mean.sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    model.log_joint(batch.x, found.mean)
    assert model.decoder[1].num_batches_tracked == before["decoder.1.num_batches_tracked"] + 1


def test_recomputed_gradient_knows_the_mode_it_was_taken_in():
    """The backward pass of a chunk runs the decoder again, after the search is over and training goes on."""
    model = LatentVariableModel(StandardNormal(3), restless(), Gaussian(10, scale=0.5)).double().train()
    batch = batch_of(torch.randn(8, 10, dtype=torch.float64))
    start = AmortizedGaussian(nn.Linear(10, 6).double())
    gradients = []
    for route in (Generic, Generic.within(2**13)):
        posterior = Laplace(start, route=route)(model, batch).posterior
        total = posterior.draw(2, torch.Generator().manual_seed(0)).log_q.sum() + posterior.mean.sin().sum()
        gradients.append(torch.autograd.grad(total, list(model.decoder.parameters())))
    for chunked, whole in zip(*gradients, strict=True):
        torch.testing.assert_close(chunked, whole, atol=1e-9, rtol=1e-9)


def test_mode_is_restored_after_an_error():
    model = LatentVariableModel(StandardNormal(3), restless(), Gaussian(10)).double().train()
    with pytest.raises(RuntimeError, match="lost"), model.evaluating():
        raise RuntimeError("lost")
    assert all(module.training for module in model.decoder.modules())


# ----------------------------------------------------------------------------------------------- without a Jacobian


class Largest(TorchDispatchMode):
    """The number of elements of the largest tensor that any operation gave."""

    numel = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.numel = max([self.numel, *(one.numel() for one in tree_leaves(out) if isinstance(one, torch.Tensor))])
        return out


def test_convolutional_search_takes_twelve_decoder_passes_a_step():
    """To 3 x 32 x 32 from 64 latents: counted in floating-point operations, and with no tensor as large as J."""
    event, size, count, steps = (3, 32, 32), 64, 8, 4
    decoder = ConvDecoder(size, event)
    with torch.no_grad():
        for weight in decoder.parameters():
            weight.mul_(2.0 if weight.ndim > 1 else 1.0)  # so that the modes are far from the start
        model = LatentVariableModel(StandardNormal(size), decoder, Gaussian(event, scale=0.3))
        batch = batch_of(model.sample(count)[0])
        start = AmortizedGaussian(ConvEncoder(event, 2 * size))
        inference, begin = MatrixFreeLaplace(start, steps, tolerance=0.0), start(model, batch).posterior
        decoding(model, batch.x, begin.center)  # finds the way to the derivatives, once
        with FlopCounterMode(display=False) as plain:
            model.decode(begin.center)
        with FlopCounterMode(display=False) as search, Largest() as largest:
            near, seen = inference._search(model, batch, begin.center, begin)
    assert (near.log_joint > seen[0].log_joint + 100).all()
    assert len(seen) == steps
    assert search.get_total_flops() <= 12 * steps * plain.get_total_flops()
    assert largest.numel < count * 3072 * size
