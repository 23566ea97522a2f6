"""Networks of predictive coding: energies are divergences, descent is exact where all is linear, learning is local."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from curvae.coding import CodingNetwork, Layer, NodeDescent
from curvae.distributions import FixedNormal, LearnedNormal, OneHot
from curvae.inference.energy_descent import descended
from curvae.networks import MLP
from curvae.training.loop.state import write_state

FAMILIES = {"fixed": FixedNormal(4, scale=0.7), "learned": LearnedNormal(4), "categorical": OneHot(2, 2)}
OUTPUTS = {"normal": FixedNormal(3), "categorical": OneHot(1, 3)}
DOUBLE = {"dtype": torch.float64}


def network(family="fixed", output="categorical") -> CodingNetwork:
    """Four layers; the third sees the first two, the last sees all."""
    of, out = FAMILIES[family], OUTPUTS[output]
    sizes = [5, of.size, of.size, of.size]
    layers = [
        Layer(of, MLP(sizes[0], [6], of.parameters, nn.Tanh), (0,)),
        Layer(of, MLP(sizes[1], [6], of.parameters, nn.Tanh), (1,)),
        Layer(of, Joined(sizes[1] + sizes[2], of.parameters), (1, 2)),
        Layer(out, Joined(sum(sizes[1:]), out.parameters), (1, 2, 3)),
    ]
    return CodingNetwork(layers).double()


class Joined(nn.Module):
    """A layer of several parents."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.layers = MLP(inputs, [6], outputs, nn.Tanh)

    def forward(self, *parents):
        return self.layers(torch.cat(parents, -1))


def data(count=6):
    return torch.randn(count, 5, **DOUBLE), torch.eye(3, **DOUBLE)[torch.randint(3, (count,))]


def gradients(value, weights):
    return torch.cat([each.flatten() for each in torch.autograd.grad(value, weights)])


@pytest.mark.parametrize("output", OUTPUTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_nothing_but_the_output_is_in_error_to_begin_with(family, output):
    net, (x, y) = network(family, output), data()
    nodes, predicted = net.forward_pass(x)
    each = net.energies(nodes, x, y)
    torch.testing.assert_close(each[:, :-1], torch.zeros(6, 3, **DOUBLE), atol=1e-12, rtol=0)
    torch.testing.assert_close(each[:, -1], -net.layers[-1].family(predicted).log_prob(y))
    assert nodes.shape == (6, net.size)


@pytest.mark.parametrize("family", FAMILIES)
def test_no_term_is_below_zero(family):
    net, (x, y) = network(family), data()
    nodes = net.forward_pass(x)[0]
    each = net.energies(nodes + torch.randn_like(nodes), x, y)
    assert (each >= 0).all()
    assert (each[:, :-1] > 1e-3).any(0).all()


def test_fixed_normals_are_squared_errors():
    net, (x, y) = network("fixed", "normal"), data()
    nodes = torch.randn(6, 12, **DOUBLE)
    one, two, three = nodes.split(4, -1)
    first, second, third, last = net.predictors
    errors = [one - first(x), two - second(one), three - third(one, two)]
    squares = sum(0.5 * error.square().sum(-1) / 0.49 for error in errors)
    squares = squares + 0.5 * (y - last(one, two, three)).square().sum(-1) + 1.5 * math.log(2 * math.pi)
    torch.testing.assert_close(net.energies(nodes, x, y).sum(-1), squares, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("by_errors", [True, False])
@pytest.mark.parametrize("rate", [0.01, 0.5, 100.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_energy_never_rises(family, rate, by_errors):
    net, (x, y) = network(family), data()
    found = NodeDescent(20, rate, by_errors=by_errors)(net, x, y, torch.arange(6))
    assert found.energy.shape == (21, 6)
    assert (found.energy.diff(dim=0) <= 0).all()
    assert (found.energy[-1] < found.energy[0] - 1e-3).all()
    torch.testing.assert_close(found.energy[-1], net.energies(found.nodes, x, y).sum(-1))


def test_descent_ends_at_the_exact_posterior_mean_of_a_linear_network():
    """``z ~ N(W x, s^2)``, ``y ~ N(V z, 1)``: the mean of z given both."""
    inner, outer = nn.Linear(5, 4), nn.Linear(4, 3)
    net = CodingNetwork([Layer(FixedNormal(4, 0.7), inner, (0,)), Layer(FixedNormal(3), outer, (1,))]).double()
    x, y = torch.randn(6, 5, **DOUBLE), torch.randn(6, 3, **DOUBLE)
    precision = torch.eye(4, **DOUBLE) / 0.49 + outer.weight.mT @ outer.weight
    right = inner(x) / 0.49 + (y - outer.bias) @ outer.weight
    mean = torch.linalg.solve(precision, right.mT).mT
    for by_errors in (True, False):
        found = NodeDescent(80, by_errors=by_errors)(net, x, y, torch.arange(6))
        torch.testing.assert_close(found.nodes, mean.detach(), atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("family", FAMILIES)
def test_learning_is_local(family):
    """The gradient of F in a layer's weights is that of its own term, whatever the others are."""
    net, (x, y) = network(family), data()
    nodes = NodeDescent(5)(net, x, y, torch.arange(6)).nodes
    for layer, predictor in enumerate(net.predictors):
        weights = list(predictor.parameters())
        whole, own = (gradients(net.energies(nodes, x, y)[:, part].sum(), weights) for part in (slice(None), layer))
        torch.testing.assert_close(whole, own)
        assert own.abs().max() > 1e-8
        others = [part for part in range(4) if part != layer]
        assert gradients(net.energies(nodes, x, y)[:, others].sum(), weights).abs().max() == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_the_first_step_goes_where_backpropagation_does(family):
    """In every layer, for an output that is nearly as it is predicted."""
    net, (x, _) = network(family, "normal"), data()
    y = (net.forward_pass(x)[1] + 0.01 * torch.randn(6, 3, **DOUBLE)).detach()
    nodes = NodeDescent(1, 1e-4)(net, x, y, torch.arange(6)).nodes
    for predictor in net.predictors:
        weights = list(predictor.parameters())
        backward = gradients(0.5 * (y - net.forward_pass(x)[1]).square().sum(), weights)
        local = gradients(net.energies(nodes, x, y).sum(), weights)
        assert torch.cosine_similarity(backward, local, dim=0) > 0.999


@pytest.mark.parametrize("family", FAMILIES)
def test_where_nodes_count_for_much_the_end_is_backpropagation(family):
    net, (x, y) = network(family), data()
    held = CodingNetwork([replace(layer, draws=1e4) for layer in net.layers[:-1]] + [net.layers[-1]])
    weights = list(net.parameters())
    backward = gradients(-log_p(net, x, y), weights)
    local = gradients(held.energies(NodeDescent(40)(held, x, y, torch.arange(6)).nodes, x, y).sum(), weights)
    assert (local - backward).norm() < 5e-3 * backward.norm()


def log_p(net, x, y):
    return net.layers[-1].family(net.forward_pass(x)[1]).log_prob(y).sum()


@pytest.mark.parametrize("family", FAMILIES)
def test_errors_and_nodes_are_coordinates_of_one_energy(family):
    net, (x, y) = network(family), data()
    nodes = net.forward_pass(x)[0] + torch.randn(6, net.size, **DOUBLE)
    terms, there = net.displaced(net.errors(nodes, x), x, y)
    torch.testing.assert_close(there, nodes)
    torch.testing.assert_close(terms, net.energies(nodes, x, y))


def test_where_errors_come_to_rest_so_do_nodes():
    """The slope of F in the nodes, where it was descended in the errors; steps in the nodes are behind."""
    net, (x, y) = network("fixed"), data(2)
    ends = [NodeDescent(60, by_errors=word)(net, x, y, torch.arange(2)).nodes for word in (True, False)]
    first, errors, nodes = (slope_of(net, each, x, y).norm() for each in (net.forward_pass(x)[0].detach(), *ends))
    assert errors < 1e-2 * first
    assert errors < nodes


def slope_of(net, nodes, x, y):
    nodes = nodes.clone().requires_grad_()
    return torch.autograd.grad(net.energies(nodes, x, y).sum(), nodes)[0]


def test_in_nodes_an_error_goes_one_layer_on_a_step():
    layers = [Layer(FixedNormal(3), nn.Sequential(nn.Linear(3, 3), nn.Tanh()), (k,)) for k in range(4)]
    net = CodingNetwork(layers).double()
    x = torch.randn(2, 3, **DOUBLE)
    nodes, output = net.forward_pass(x)
    for steps in range(1, 4):
        for by_errors in (True, False):
            found = NodeDescent(steps, 0.1, by_errors=by_errors)(net, x, output.detach() + 0.1, torch.arange(2))
            moved = [bool((part != 0).any()) for part in (found.nodes - nodes).split(3, -1)]
            assert moved == [by_errors or layer >= 3 - steps for layer in range(3)]


@pytest.mark.parametrize("family", FAMILIES)
def test_natural_gradients_are_by_the_information_of_the_law(family):
    """``E[(d log q / d phi)(...)']`` by draws, or by the sum over categories; G times what is found is the slope."""
    of = FAMILIES[family]
    phi = 0.5 * torch.randn(of.parameters, **DOUBLE)
    if family == "categorical":
        states = torch.eye(2, **DOUBLE)
        z = torch.cat([states.repeat_interleave(2, 0), states.repeat(2, 1)], -1)
        weight = of(phi).log_prob(z).exp()
    else:
        z = of(phi.expand(200_000, -1)).from_noise(torch.randn(200_000, 4, **DOUBLE))
        weight = torch.full((len(z),), 1 / len(z), **DOUBLE)
    scores = torch.func.vmap(torch.func.grad(lambda at, z: of(at).log_prob(z)), (None, 0))(phi, z)
    information = (weight.unsqueeze(-1) * scores).mT @ scores
    slope = information @ torch.randn(of.parameters, **DOUBLE)
    close = {"atol": 1e-10, "rtol": 1e-10} if family == "categorical" else {"atol": 0.05, "rtol": 0.05}
    torch.testing.assert_close(information @ of.natural_gradient(phi, slope), slope, **close)


def test_increments_of_a_frozen_network_are_the_same_path():
    net, (x, y) = network("learned"), data()
    rows, steps = torch.tensor([3, 0, 7, 2, 9, 1]), 5
    whole = NodeDescent(steps, 0.3)(net, x, y, rows)
    descent = NodeDescent(steps, 0.3, incremental=True)
    for _ in range(2):  # and begins anew when they are done
        for step in range(steps):
            found = descent(net, x, y, rows)
            torch.testing.assert_close(found.energy, whole.energy[step : step + 2])
            write_state(descent, found.state, rows, rows=10)
        torch.testing.assert_close(descent.nodes, whole.nodes)
    write_state(descent, descent(net, x, y, rows).state, rows, rows=10)
    other = descent(net, x[:2], y[:2], rows[:2])  # another batch begins anew, whatever its size
    torch.testing.assert_close(other.energy[0], whole.energy[0, :2])
    torch.testing.assert_close(descent.eval()(net, x, y, rows).nodes, whole.nodes)
    assert not descent.state_dict()


def test_unknown_rows_are_never_the_same_batch():
    net, (x, y) = network(), data()
    descent, unknown = NodeDescent(3, incremental=True), torch.full((6,), -1)
    first = descent(net, x, y, unknown)
    write_state(descent, first.state, unknown, rows=10)
    torch.testing.assert_close(descent(net, x.flip(0), y.flip(0), unknown).energy[0], first.energy[0].flip(0))


def test_a_step_that_is_not_finite_is_not_taken():
    step = descended(lambda x: (x.pow(4).sum(-1), x), torch.tensor([[1e9], [0.1]]), torch.tensor([1.0, 1.0]))
    assert step.coordinates[0].item() == 1e9
    assert step.rate.tolist() == [0.5, pytest.approx(1.2)]
    assert (step.after <= step.before).all()


def test_misuse():
    with pytest.raises(ValueError, match=r"whose parents come before them; got parents \(2,\) of layer 2"):
        CodingNetwork([Layer(FixedNormal(2), nn.Linear(2, 2), (0,)), Layer(FixedNormal(2), nn.Linear(2, 2), (2,))])
    with pytest.raises(ValueError, match="whose parents come before them; got no layer"):
        CodingNetwork([])
    with pytest.raises(ValueError, match="steps must be >= 1 and rate > 0; got steps=0"):
        NodeDescent(0)
    with pytest.raises(ValueError, match="got steps=3, rate=0"):
        NodeDescent(3, 0.0)
