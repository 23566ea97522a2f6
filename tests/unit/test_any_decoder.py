"""Decoders of every make: their precision against finite differences in float64, their training, their refusals."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from curvae import training
from curvae.curvature import Generic, local
from curvae.curvature.routes import differentiable, generic
from curvae.curvature.routes.decoder_jacobians import WAYS, Kernels, Taking, running
from curvae.curvature.routes.decoder_jacobians import jacobian as jacobian_of
from curvae.curvature.routes.differentiable import decoding
from curvae.curvature.routes.matrix_free import MatrixFree
from curvae.data import from_array
from curvae.inference import AmortizedGaussian, Inference, Laplace, MatrixFreeLaplace
from curvae.likelihoods import Gaussian
from curvae.model import LatentVariableModel
from curvae.objectives import elbo
from curvae.priors import StandardNormal
from curvae.systems import LatentSystem, vlae
from curvae.typing import Batch
from decoders import BFLOAT, DECODERS, ONCE, REFUSED, ROUGH, SIZE, Cube, made, pair, smooth
from zoo import batch_of

EVERY = {**DECODERS, **ROUGH, **ONCE}
COUNT = 2


def problem(decoder: nn.Module, count: int = COUNT) -> tuple[LatentVariableModel, Batch, Tensor]:
    z = torch.randn(count, SIZE)
    with torch.no_grad():
        outputs = decoder(z.to(next(decoder.parameters()).dtype)).flatten(1).shape[1]
    model = LatentVariableModel(StandardNormal(SIZE), decoder, Gaussian(outputs, scale=0.7))
    return model, batch_of(torch.randn(count, outputs)), z


def jacobian(decoder: nn.Module, z: Tensor, by: float = 1e-5) -> Tensor:
    """(B, P, D) by central differences."""
    with torch.no_grad():
        units = by * torch.eye(SIZE, dtype=z.dtype)
        columns = [(decoder(z + unit) - decoder(z - unit)).flatten(1) / (2 * by) for unit in units]
    return torch.stack(columns, -1)


def precision(decoder: nn.Module, z: Tensor) -> Tensor:
    j = jacobian(decoder, z)
    return j.mT @ j / 0.7**2 + torch.eye(SIZE, dtype=z.dtype)


def assert_near(found: Tensor, expected: Tensor, tolerance: float) -> None:
    """Relative to the largest."""
    torch.testing.assert_close(found.double(), expected, atol=tolerance * expected.abs().max().item(), rtol=0.0)


@pytest.mark.parametrize("name", EVERY)
def test_precision_and_its_gradient_are_those_of_float64(name):
    """And the slope; formed from J and by products. The gradient is that of ``log det Lam`` along a direction in the
    weights; of weights in half precision it has three digits.
    """
    decoder, reference = pair(EVERY[name])
    model, batch, z = problem(decoder)
    expected, tolerance = precision(reference, z.double()), 3e-2 if name in ROUGH else 1e-4
    residual = batch.x.double() - reference(z.double()).flatten(1)
    slope = (jacobian(reference, z.double()).mT @ residual.unsqueeze(-1)).squeeze(-1) / 0.7**2 - z.double()
    with torch.no_grad():
        for route in (None, Generic):
            found = local(model, batch, z, route)
            assert_near(found.precision, expected, tolerance)
            assert_near(found.grad, slope, tolerance)
    if name in ONCE:
        return
    with torch.no_grad(), model.evaluating():
        found = MatrixFree.of(model, batch, z).local()
        assert_near(found.precision, expected, tolerance)
        assert_near(found.grad, slope, tolerance)
    found = local(model, batch, z, Generic)
    assert_near(found.precision.detach(), expected, tolerance)
    found.precision.logdet().sum().backward()
    assert_gradient_of_log_det(decoder, reference, z, 1e-1 if name in ROUGH else 3e-2 if half(decoder) else 1e-3)


def half(decoder: nn.Module) -> bool:
    return next(decoder.parameters()).dtype in (BFLOAT, torch.float16)


def assert_gradient_of_log_det(decoder: nn.Module, reference: nn.Module, z: Tensor, tolerance: float) -> None:
    learned = list(zip(decoder.parameters(), reference.parameters(), strict=True))
    grads = [torch.zeros_like(there) if here.grad is None else here.grad.double() for here, there in learned]
    size = torch.stack([grad.norm() for grad in grads]).norm()
    steps = [torch.randn_like(grad) for grad in grads]
    found = sum((grad * step).sum() for grad, step in zip(grads, steps, strict=True))
    ends = []
    with torch.no_grad():
        for by in (1e-5, -2e-5):
            for (_, there), step in zip(learned, steps, strict=True):
                there += by * step
            ends.append(precision(reference, z.double()).logdet().sum())
    expected = (ends[0] - ends[1]) / (2e-5 * size)  # of a standard normal size, near 0 at times
    torch.testing.assert_close((found / size).double(), expected, atol=tolerance, rtol=0.0)


# --------------------------------------------------------------------------------------------------- in training


def start(outputs: int) -> AmortizedGaussian:
    return AmortizedGaussian(nn.Linear(outputs, 2 * SIZE))


def assert_trains(model: LatentVariableModel, batch: Batch, inference: Inference) -> None:
    """A training step reaches every weight of the decoder."""
    LatentSystem(model.train(), inference, elbo).bound(batch).surrogate.sum().backward()
    for name, weight in model.decoder.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
    assert sum(weight.grad.abs().sum() for weight in model.decoder.parameters()) > 0


STEPS = (
    "transformer",
    "batch-norm-max-pool",
    "lstm",
    "spectral-norm-hook",
    "compiled",
    "scripted",
    "function-old",
    "function-new",
    "hooks",
    "checkpoint",
    "group-norm-channels-last",
    "bfloat16",
    *ROUGH,
    *ONCE,
)


@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch.compile, of latents that have a graph
@pytest.mark.parametrize("name", STEPS)
def test_a_training_step(name):
    """Of Laplace, with the posterior constant where there are no second derivatives, and without a Jacobian."""
    decoder, _ = pair(EVERY[name])
    model, batch, _ = problem(decoder)
    outputs = model.likelihood.size
    assert_trains(model, batch, Laplace(start(outputs), steps=1, constant=name in ONCE))
    if name not in ONCE:
        assert_trains(model, batch, MatrixFreeLaplace(start(outputs), steps=1))


def test_a_whole_fit(tmp_path):
    """Of attention in bfloat16: the trial of the networks, a warm-up, the refined stage, and its judgement."""
    decoder, _ = pair(DECODERS["bfloat16"])
    outputs = problem(decoder)[0].likelihood.size
    data = from_array(torch.randn(600, outputs), split=(0.1, 0.85, 0.05))
    system = vlae(data.spec, latent=SIZE, decoder=decoder, encoder=nn.Linear(outputs, 2 * SIZE), warmup=0.5)
    run = training.fit(system, data, max_updates=2, batch_size=60, out=tmp_path / "run", progress=False)
    assert all(math.isfinite(value) for value in run.metrics()["validation_bound"])


def test_chunks_of_what_is_taken_one_by_one(monkeypatch):
    """Their gradient, too, and the budget counts the graph that is kept."""
    decoder, _ = pair(DECODERS["function-old"])
    model, batch, z = problem(decoder, 5)
    assert decoding(model, batch.x, z).way.taking is Taking.LOOP
    gradients = []
    budget = 2 * Generic.of(model, batch, z).needs.each(True) - 1  # one datum and its graph, but not two
    for route in (Generic, Generic.within(budget)):
        near = local(model, batch, z, route)
        total = near.precision.logdet().sum() + near.grad.square().sum() + near.log_joint.sum()
        gradients.append((near.precision, *torch.autograd.grad(total, list(decoder.parameters()))))
    for whole, part in zip(*gradients, strict=True):
        torch.testing.assert_close(whole, part, atol=1e-4, rtol=1e-4)
    sizes = []
    monkeypatch.setattr(
        generic, "jacobian", lambda decode, z, *how: sizes.append(len(z)) or jacobian_of(decode, z, *how)
    )
    with torch.no_grad():
        local(model, batch, z, route)
    assert sizes == [1] * 5


@pytest.mark.parametrize("name", ["batch-norm-max-pool", "spectral-norm-hook"])
def test_a_pass_in_training_does_not_change_the_gradient(name):
    """Between the curvature and the backward pass, running statistics move on."""
    decoder, _ = pair(DECODERS[name])
    model, batch, z = problem(decoder)
    grads = []
    for between in (False, True):
        total = local(model, batch, z, Generic).precision.logdet().sum()
        if between:
            decoder.train()(5 * z)
        grads.append(torch.autograd.grad(total, list(decoder.parameters()), allow_unused=True))
    for one, other in zip(*grads, strict=True):
        assert one is other is None or torch.equal(one, other)


@pytest.mark.parametrize("name", ["function-old", "transformer", "bfloat16", "complex"])
def test_without_autograd_at_all(name):
    decoder, reference = pair(DECODERS[name])
    model, batch, z = problem(decoder)
    with torch.inference_mode():
        x, point = batch.x.clone(), z.clone()
        found = Laplace(start(model.likelihood.size), route=Generic)(model, batch_of(x)).posterior
        assert_near(local(model, batch_of(x), point, Generic).precision, precision(reference, z.double()), 1e-4)
        near = MatrixFreeLaplace(start(model.likelihood.size), dense=0)(model, batch_of(x)).posterior
        assert near.draw(2).z.isfinite().all()
    assert found.mean.isfinite().all()


class Watching(nn.Module):
    """An autoregressive decoder of the old kind."""

    def __init__(self):
        super().__init__()
        self.z, self.x = nn.Linear(SIZE, 5), nn.Linear(5, 5)

    def forward(self, z: Tensor, x: Tensor) -> Tensor:
        return Cube.apply(self.z(z) + self.x(x.roll(1, -1)).tanh())


@pytest.mark.parametrize("inside", [False, True])
def test_a_decoder_that_sees_the_data(inside):
    model = LatentVariableModel(StandardNormal(SIZE), Watching(), Gaussian(5, scale=0.7), autoregressive=True)
    batch, z = batch_of(torch.randn(COUNT, 5)), torch.randn(COUNT, SIZE)
    with torch.inference_mode(inside):
        x, point = (one.clone() for one in (batch.x, z))
        found = local(model, batch_of(x), point, Generic).precision.clone()
    twin = copy.deepcopy(model.decoder).double()
    assert_near(found.detach(), precision(lambda at: twin(at, batch.x.double()), z.double()), 1e-4)


# ------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize("name", REFUSED)
def test_refusal_names_the_layer_and_the_remedy(name):
    make, line = REFUSED[name]
    model, batch, z = problem(pair(make)[0])
    with pytest.raises(ValueError, match=f"^decoder: expected .*{line}") as error:
        local(model, batch, z)
    assert "\n" not in str(error.value)
    assert error.value.__suppress_context__
    with pytest.raises(ValueError, match=line):
        MatrixFreeLaplace(start(model.likelihood.size))(model, batch)


@pytest.mark.parametrize("name", ONCE)
def test_what_is_differentiable_once(name):
    """No gradient flows through its curvature, and there are no products without J; the remedies were tested above."""
    model, batch, z = problem(pair(ONCE[name])[0])
    line = r"^decoder: expected layers that can be differentiated twice, got '.*' from layer 'middle' \(Do\); write it "
    with pytest.raises(ValueError, match=line + r".* hold the posterior constant \(Laplace\(constant=True\)\)"):
        local(model, batch, z)
    with torch.no_grad(), pytest.raises(ValueError, match=line + ".* or take Laplace, which forms J"):
        MatrixFree.of(model, batch, z).local()


def test_layer_norm_out_of_reach_has_no_gradient():
    """Inside of a script torch's own derivatives run, which take mean and variance as constants."""
    decoder, reference = pair(lambda: made(torch.jit.script, smooth()))
    model, batch, z = problem(decoder)
    with torch.no_grad():
        assert_near(local(model, batch, z).precision, precision(reference, z.double()), 1e-4)
    with pytest.raises(ValueError, match=r"not those of its values' from RecursiveScriptModule; .*constant=True"):
        local(model, batch, z)


def test_refused_before_training_starts(tmp_path):
    decoder = pair(REFUSED["dropout"][0])[0]
    data = from_array(torch.randn(60, 5))
    system = vlae(data.spec, latent=SIZE, decoder=decoder, encoder=nn.Linear(5, 2 * SIZE), warmup=0.5)
    with pytest.raises(ValueError, match="one function of z in evaluation mode"):
        training.fit(system, data, max_updates=2, out=tmp_path / "run", progress=False)
    assert not (tmp_path / "run").exists()


def test_what_fails_by_itself_says_so_itself():
    """That is no matter of derivatives."""
    model, batch, z = problem(pair(DECODERS["tied"])[0])
    model.decoder.forward = lambda z: z @ torch.ones(7, 2)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        local(model, batch, z)


# --------------------------------------------------------------------------------------------------------- parts


@pytest.mark.parametrize("kernels", Kernels)
def test_kernels_are_as_before_afterwards(kernels):
    def state():
        backends = torch.backends
        return backends.mha.get_fastpath_enabled(), backends.mkldnn.enabled, backends.cudnn.enabled

    before = state()

    def fail():
        with running(kernels):
            assert state() == (kernels is Kernels.DEFAULT, *(2 * [kernels is not Kernels.PLAIN]))
            raise RuntimeError("lost")

    with pytest.raises(RuntimeError, match="lost"):
        fail()
    assert state() == before


@pytest.mark.parametrize("dtype", [BFLOAT, torch.float16])
def test_half_precision_is_called_in_its_own(dtype):
    """And gives back that of the latents; a float32 one is computed as it is."""
    layer = nn.Linear(SIZE, 4).to(dtype)
    model, z = LatentVariableModel(StandardNormal(SIZE), layer, Gaussian(4)), torch.randn(2, SIZE)
    assert torch.equal(model.decode(z), layer(z.to(dtype)).float())
    assert torch.equal(model.decode(z, precise=True), z @ layer.weight.float().mT + layer.bias.float())
    assert not torch.equal(model.decode(z), model.decode(z, precise=True))


def test_the_way_is_found_once(monkeypatch):
    model, batch, z = problem(pair(DECODERS["transformer"])[0])
    local(model, batch, z)
    monkeypatch.setattr(differentiable, "_found", None)
    local(model, batch, z)
    assert decoding(model, batch.x, z).way == WAYS[1]
