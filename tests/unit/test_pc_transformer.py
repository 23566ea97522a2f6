"""A transformer that learns by predictive coding: causal to the bit, an exact density, as backpropagation nearby."""

import copy
import pickle

import pytest
import torch
from torch.nn.functional import one_hot

import lifecycle
from curvae.coding import NodeDescent
from curvae.data import from_array
from curvae.evaluation import evaluate
from curvae.fitted import Fitted
from curvae.systems import CanSample, HasDensity, HasModel, pc_transformer
from curvae.systems.pc_transformer import check_word
from curvae.training import fit
from curvae.typing import Batch, DataSpec

PLACES, COUNT = 7, 5
FAMILIES = ["categorical", "normal-attention", "normal"]
LEARNING = ["predictive-coding", "incremental", "backpropagation"]


def small(**options):
    system = pc_transformer(DataSpec((PLACES,), "category", COUNT), **{"width": 8, "hidden": 12, **options}).double()
    for parameter in system.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return system


def texts(count=4):
    return torch.randint(COUNT, (count, PLACES)).double()


def gradients(value, weights):
    return torch.cat([each.flatten() for each in torch.autograd.grad(value, weights)])


def target(x):
    return one_hot(x.long(), COUNT).double()


@pytest.mark.parametrize("family", FAMILIES)
def test_a_later_token_changes_no_earlier_prediction(family):
    system, x = small(family=family), texts()
    other = x.clone()
    other[:, 4:] = (x[:, 4:] + 1) % COUNT
    one, two = (system.network.forward_pass(each) for each in (x, other))
    assert torch.equal(one[1][:, :5], two[1][:, :5])
    assert (one[1][:, 5:] != two[1][:, 5:]).any(-1).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_nodes_of_attention_stay_causal_as_they_move(family):
    """Their means at later places are 0 to the bit, or are not looked at: what is predicted from them does not ask."""
    system, x = small(family=family), texts()
    network = system.network
    nodes = NodeDescent(6)(network, x, target(x), torch.arange(4)).nodes
    future = torch.ones(PLACES, PLACES, dtype=torch.bool).triu(1)
    before, after = (network._split(each) for each in (network.forward_pass(x)[0], nodes))
    for number in (1, 4):
        layer = network.layers[number]
        weights = layer.family(after[number]).mean.unflatten(-1, (2, PLACES)).transpose(1, 2)
        assert (after[number] - before[number]).abs().max() > 1e-6
        if family == "categorical":
            assert (weights[..., future] == 0).all()
            torch.testing.assert_close(weights.sum(-1), torch.ones(4, 2, PLACES).double())
        changed = weights + torch.where(future, torch.randn(PLACES, PLACES).double(), 0.0)
        h = torch.randn(4, PLACES, 8).double()
        seen = [network.predictors[number + 1](h, each.transpose(1, 2).flatten(2)) for each in (weights, changed)]
        assert torch.equal(*seen)


def test_hidden_scores_leave_no_trace_in_the_energy():
    system, x = small(), texts()
    nodes = system.network.forward_pass(x)[0].requires_grad_()
    energy = system.network.energies(nodes, x, target(x))
    slope = torch.autograd.grad(energy.sum(), nodes)[0]
    assert energy.isfinite().all()
    hidden = nodes < -1e8
    assert hidden.sum() == 2 * 2 * 4 * PLACES * (PLACES - 1) // 2  # blocks, heads, rows
    assert (slope[hidden] == 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_log_p_is_the_sum_token_by_token(family):
    system, x = small(family=family), texts()
    total = torch.zeros(4).double()
    for place in range(PLACES):
        cut = x.clone()
        cut[:, place:] = 0  # of the row what comes before
        p = system.logits(cut)[:, place].log_softmax(-1)
        total = total + p.gather(1, x[:, place : place + 1].long()).squeeze(1)
        mask = (torch.arange(PLACES) <= place).expand(4, -1)
        torch.testing.assert_close(system.log_prob(torch.where(mask, x, 0.0), mask), total)
    torch.testing.assert_close(system.log_prob(x), total)


def test_p_sums_to_one():
    system = pc_transformer(DataSpec((4,), "category", 3), width=8, hidden=8, blocks=1).double()
    every = torch.cartesian_prod(*[torch.arange(3.0)] * 4).double()
    assert system.log_prob(every).logsumexp(0).item() == pytest.approx(0, abs=1e-10)
    binary = pc_transformer(DataSpec((1, 2, 2), "binary"), width=8, hidden=8, blocks=1).double()
    every = torch.cartesian_prod(*[torch.arange(2.0)] * 4).reshape(-1, 1, 2, 2).double()
    assert binary.log_prob(every).logsumexp(0).item() == pytest.approx(0, abs=1e-10)


@pytest.mark.statistical
def test_samples_are_as_probable_as_the_density_says():
    """Frequencies of 27 texts in 20,000 draws: chi-squared, 26 degrees of freedom; above 75 in 2e-6 of the seeds."""
    system = pc_transformer(DataSpec((3,), "category", 3), width=8, hidden=8, blocks=1).double()
    for parameter in system.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    x = system.sample(20_000)
    codes = (x * torch.tensor([9.0, 3.0, 1.0])).sum(1).long()
    every = torch.cartesian_prod(*[torch.arange(3.0)] * 3).double()
    expected = 20_000 * system.log_prob(every).exp().detach()
    assert ((torch.bincount(codes, minlength=27) - expected).square() / expected).sum() < 75


def test_a_text_goes_on_from_its_beginning():
    system, x = small(), texts()
    drawn = system.continued(x, 3, torch.Generator().manual_seed(0))
    assert torch.equal(drawn[:, :3], x[:, :3])
    assert torch.equal(drawn, system.continued(x, 3, torch.Generator().manual_seed(0)))
    assert torch.equal(system.continued(x, PLACES), x)
    assert system.sample(5).shape == (5, PLACES)
    assert set(system.sample(50).unique().tolist()) <= set(range(COUNT))
    with pytest.raises(ValueError, match="given must be from 0 to 7; got 8"):
        system.continued(x, 8)


def test_it_starts_with_the_loss_of_backpropagation():
    """F of the forward pass is ``-log p(x)``, and so is what is reported."""
    system, x = small(), texts()
    bound = system.train().bound(Batch(x, torch.arange(4)))
    torch.testing.assert_close(bound.info["energy"][0], -system.log_prob(x))
    torch.testing.assert_close(bound.value, system.log_prob(x))
    torch.testing.assert_close(bound.info["energy"][-1], -bound.surrogate)
    assert not bound.value.requires_grad
    assert (bound.surrogate > bound.value).all()  # so it is no lower bound
    assert system.kind == "none"
    with torch.inference_mode():
        assert system.eval().bound(Batch.of(x)).surrogate.isfinite().all()


@pytest.mark.parametrize("scale", [0.3, 0.03])
def test_from_small_errors_gradients_are_near_those_of_backpropagation(scale):
    """Of a network that predicts nearly what is there."""
    torch.manual_seed(3)
    system = pc_transformer(DataSpec((PLACES,), "category", COUNT), width=8, hidden=12, scale=scale, steps=20).double()
    x, weights = texts(1).expand(3, -1), list(system.parameters())
    optimizer = torch.optim.Adam(weights, 0.02)
    for _ in range(100):
        optimizer.zero_grad()
        (-system.log_prob(x).mean()).backward()
        optimizer.step()
    assert system.log_prob(x).mean() > -0.5
    backward = gradients(system.log_prob(x).sum(), weights)
    local = gradients(system.train().bound(Batch(x, torch.arange(3))).surrogate.sum(), weights)
    assert torch.cosine_similarity(backward, local, dim=0) > (0.9 if scale == 0.3 else 0.99)


def test_as_values_are_held_fast_it_becomes_backpropagation():
    """Errors are then the gradients of each layer, over its information."""
    system, x = small(scale=1e-2, steps=20), texts()
    weights = list(system.parameters())
    backward = gradients(system.log_prob(x).sum(), weights)
    local = gradients(system.train().bound(Batch(x, torch.arange(4))).surrogate.sum(), weights)
    assert (local - backward).norm() < 0.01 * backward.norm()


def test_gaps_have_no_density():
    system, x = small(), texts()
    mask = torch.tensor([True, True, False, True, False, False, False]).expand(4, -1)
    with pytest.raises(ValueError, match="got gaps with elements after them"):
        system.log_prob(x, mask)
    with pytest.raises(ValueError, match="expected whole rows, got missing elements; use backpropagation"):
        system.train().bound(Batch(x, torch.arange(4), mask))


@pytest.mark.parametrize("learning", LEARNING)
def test_it_trains(learning, tmp_path):
    """On rows that go up by one at each place, of which all but the first element is known."""
    torch.manual_seed(0)
    x = (torch.randint(COUNT, (160, 1)) + torch.arange(PLACES)) % COUNT
    data = from_array(x.numpy(), support="category")
    system = pc_transformer(data.spec, width=16, hidden=16, blocks=1, learning=learning)
    before = system.log_prob(data.test.x).mean().item()
    run = fit(system, data, epochs=4, batch_size=20, learning_rate=0.02, out=tmp_path / "run", progress=False)
    after = run.system().log_prob(data.test.x).mean().item()
    assert before < -8 < -5 < after
    result = evaluate(run, progress=False)
    assert result.evidence == "exact"
    assert result.log_likelihood.value == pytest.approx(after, abs=1e-4)
    assert Fitted(run).drawn(3, seed=0).shape == (3, PLACES)


def test_what_it_can_do():
    system = small()
    assert isinstance(system, HasDensity)
    assert isinstance(system, CanSample)
    assert not isinstance(system, HasModel)
    assert [stage.repeat for stage in small(learning="incremental", steps=5).stages()] == [5]
    assert small(learning="backpropagation").kind == "lower"


def test_misuse():
    spec = DataSpec((6,), "category", 4)
    with pytest.raises(ValueError, match="pc-transformer expects data of categories; got support 'real'"):
        pc_transformer(DataSpec((6,)))
    with pytest.raises(ValueError, match="width a multiple of heads; got width=9, blocks=2, heads=2"):
        pc_transformer(spec, width=9)
    with pytest.raises(ValueError, match="sizes must be 1 or more"):
        pc_transformer(spec, blocks=0)
    with pytest.raises(ValueError, match=r"scale must be positive; got 0\.0"):
        pc_transformer(spec, scale=0.0)
    with pytest.raises(ValueError, match="steps must be >= 1"):
        pc_transformer(spec, steps=0)
    with pytest.raises(ValueError, match="learning: expected incremental, predictive-coding or no; got 'hebbian'"):
        check_word("learning", "hebbian", ("incremental", "predictive-coding", "no"))


@pytest.mark.parametrize("again", [copy.deepcopy, lambda system: pickle.loads(pickle.dumps(system))])
def test_training_a_copy_leaves_the_original_and_gives_the_same_numbers(again):
    torch.manual_seed(0)
    original = pc_transformer(DataSpec((5,), "category", 3), width=8, heads=2, hidden=8)
    data = from_array(torch.randint(3, (40, 5)).numpy(), support="category", categories=3)
    before, second = lifecycle.state(original), again(original)
    assert lifecycle.same(lifecycle.state(second), before)
    after = lifecycle.trained(second, data)
    assert not lifecycle.same(after, before)
    assert lifecycle.same(lifecycle.state(original), before)
    assert lifecycle.same(after, lifecycle.trained(original, data))
