"""Mixtures over the levels of a ladder: the exact sum over labels, the form without, k-means, labels, the metric."""

import json
from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.cluster import KMeans
from torch import nn
from torch.distributions import Normal, kl_divergence

import curvae
from chance import deviates, means
from curvae.data import from_array
from curvae.evaluation import agreement, evaluate
from curvae.inference import AmortizedGaussian, AmortizedLabels
from curvae.objectives import elbo, log_weights
from curvae.objectives.elbo import kl_or_estimate
from curvae.posteriors import DiagonalGaussian, Mixture, kl
from curvae.priors import MixturePrior, ProductPrior, StandardNormal, assignments
from curvae.report import write_report
from curvae.systems import LatentSystem, flat_ladder, ladder_clustering, vae
from curvae.systems.ladder_clustering import mixed_prior
from curvae.systems.priors import encoder_posteriors
from curvae.training import fit
from curvae.typing import Batch, DataSpec
from ingredients import stirred

SPEC, F64 = DataSpec((6,)), torch.float64


def seeded(make, seed: int = 0, **arguments) -> LatentSystem:
    torch.manual_seed(seed)
    return make(SPEC, **{"hidden": 16, "latent": 2, "layers": 2, "kl_warmup": 0, **arguments}).double()


def batch(count: int = 8) -> Batch:
    return Batch.of(torch.randn(count, 6, dtype=F64))


def labeled(layers: int = 1, components: int = 3) -> LatentSystem:
    """With labels from a network, prior and moves away from where they start."""
    system = seeded(ladder_clustering, layers=layers, components=components, clustered="deepest")
    stirred(system.model.prior)
    stirred(system.inference.gate, 0.3)
    return system


@pytest.mark.parametrize("clustered", ["every", "deepest"])
@pytest.mark.parametrize("layers", [1, 3])
def test_one_component_at_the_standard_normal_is_the_flat_ladder(clustered, layers):
    """From the same seed: networks, draws and every digit of the bound but for the order of sums."""
    rows, bounds = batch(), []
    for make, more in ((flat_ladder, {}), (ladder_clustering, {"components": 1, "clustered": clustered})):
        system = seeded(make, layers=layers, **more)
        torch.manual_seed(1)
        bounds.append(system.bound(rows).value)
    torch.testing.assert_close(*bounds, atol=1e-12, rtol=0)


def parts_of(system: LatentSystem, rows: Batch):
    """Of each label: q(y | x), log q - log p of it, the law of z, its divergences by block; all by hand."""
    q, prior = system.inference(system.model, rows).posterior, system.model.prior
    assert isinstance(q, Mixture)
    mixed, size = prior.factors[0], prior.blocks[0]
    log_q, log_p = q.logits.log_softmax(-1), mixed.logits.log_softmax(-1)
    spent = []
    for c, law in enumerate(q.components):
        normal, first = Normal(law.loc, law.log_scale.exp()), Normal(mixed.loc[c], mixed.component(c).log_scale.exp())
        deepest = kl_divergence(Normal(normal.loc[:, :size], normal.scale[:, :size]), first).sum(-1)
        others = kl_divergence(Normal(normal.loc[:, size:], normal.scale[:, size:]), Normal(0.0, 1.0)).sum(-1)
        spent.append((deepest, others))
    return q, log_q, log_q - log_p, spent


@pytest.mark.parametrize("layers", [1, 3])
def test_the_sum_over_labels_is_that_of_a_brute_enumeration(layers):
    """Value and gradient, draws being the same; and the divergence of each block is its own."""
    system, rows = labeled(layers), batch()
    q, log_q, log_ratio, spent = parts_of(system, rows)
    torch.manual_seed(1)
    draws = q.draw(2)
    fits = system.model.log_likelihood(rows.x, draws.z).unflatten(0, (3, 2)).mean(1)
    terms = [fits[c] - sum(spent[c]) - log_ratio[:, c] for c in range(3)]
    expected = sum(log_q[:, c].exp() * terms[c] for c in range(3))
    torch.manual_seed(1)
    found = elbo(system.model, q, rows, 2)
    torch.testing.assert_close(found.value, expected, atol=1e-10, rtol=0)
    slopes = [
        torch.autograd.grad(value.sum(), [*system.parameters()], retain_graph=True, allow_unused=True)
        for value in (found.surrogate, expected)
    ]
    for ours, theirs in zip(*slopes, strict=True):
        if theirs is not None:
            torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=1e-9)
    each = kl(q, system.model.prior)
    assert each.shape == (8, layers)
    first = sum(log_q[:, c].exp() * (spent[c][0] + log_ratio[:, c]) for c in range(3))
    torch.testing.assert_close(each[:, 0], first)
    torch.testing.assert_close(each[:, 1:].sum(-1), sum(log_q[:, c].exp() * spent[c][1] for c in range(3)))


@pytest.mark.statistical
def test_drawn_labels_average_to_the_exact_sum():
    """By the same z of each label. 4 means of 20,000 draws: 3e-6 of the seeds fail."""
    system, rows = labeled(), batch(4)
    with torch.no_grad():
        q, log_q, log_ratio, spent = parts_of(system, rows)
        torch.manual_seed(1)
        draws = q.draw(1)
        fits = system.model.log_likelihood(rows.x, draws.z)
        terms = torch.stack([fits[c] - sum(spent[c]) - log_ratio[:, c] for c in range(3)])
        torch.manual_seed(1)
        exact = elbo(system.model, q, rows, 1).value
        drawn = torch.multinomial(log_q.exp(), 20_000, replacement=True).mT
    means("labels", terms.gather(0, drawn), exact)


@pytest.mark.statistical
@torch.no_grad()
def test_the_bound_with_labels_is_below_that_of_z_alone():
    """By 4,000 draws of each component, the same for both: 8 numbers of one side, 2e-6 of the seeds fail."""
    system, rows = labeled(), batch()
    q = system.inference(system.model, rows).posterior
    draws = q.draw(4000)
    log_w = log_weights(system.model, rows, draws)
    fit = system.model.log_likelihood(rows.x, draws.z)
    joint = fit - kl(q, system.model.prior).sum(-1)
    gain = (log_w - joint).unflatten(0, (3, 4000))
    share = q.log_weights.exp()
    error = (share.square() * gain.var(1) / 4000).sum(0).sqrt()
    deviates("gain", -(share * gain.mean(1)).sum(0) / error, sides=1)


@pytest.mark.statistical
def test_without_labels_the_divergence_is_that_of_quadrature_and_not_negative():
    """In one dimension; 5 means of 20,000 draws: 3e-6 of the seeds fail."""
    prior = stirred(MixturePrior(1, components=3).double())
    q = DiagonalGaussian(torch.linspace(-2, 2, 5, dtype=F64).unsqueeze(1), torch.full((5, 1), -0.5, dtype=F64))
    grid = torch.linspace(-12, 12, 6001, dtype=F64)
    with torch.no_grad():
        log_q = Normal(q.loc, q.log_scale.exp()).log_prob(grid)
        expected = (log_q.exp() * (log_q - prior.log_prob(grid.unsqueeze(-1)))).sum(1) * (grid[1] - grid[0])
        assert (expected > 0).all()
        draws = q.draw(20_000)
        means("rate", draws.log_q - prior.log_prob(draws.z), expected)
        system = seeded(ladder_clustering, latent=1, layers=1, components=3)
        system.model.prior = ProductPrior([prior])
        torch.manual_seed(2)
        drawn = q.draw(3)
        by_hand = (drawn.log_q - prior.log_prob(drawn.z)).mean(0)
        torch.testing.assert_close(kl_or_estimate(system.model, q, drawn), by_hand)


def blobs(rows: int = 300) -> curvae.data.Data:
    torch.manual_seed(0)
    which = torch.arange(rows) % 3
    centers = torch.tensor([[4.0] * 6, [-4.0] * 6, [4.0, -4.0] * 3])
    return from_array((centers[which] + 0.2 * torch.randn(rows, 6)).double(), labels=which)


@pytest.mark.parametrize("clustered", ["every", "deepest"])
def test_components_start_at_the_clusters_of_the_ladder(clustered):
    """Under N(0, I) before; then at the clusters, by k-means, of the posterior means of each block with a mixture."""
    data = blobs()
    system = seeded(ladder_clustering, components=3, clustered=clustered)
    z = torch.randn(20, 4, dtype=F64)
    torch.testing.assert_close(system.model.prior.log_prob(z), StandardNormal(4).log_prob(z))
    first, second, *_ = system.stages()
    first.start(system, data)
    second.start(system, data)
    rows = Batch.of(data.train.x.double())
    q = encoder_posteriors(system, rows)
    mixtures = [factor for factor in system.model.prior.factors if isinstance(factor, MixturePrior)]
    assert len(mixtures) == (2 if clustered == "every" else 1)
    for k, mixture in enumerate(mixtures):
        part = q.loc[:, 2 * k : 2 * k + 2]
        of = KMeans(3, n_init="auto", random_state=0).fit_predict(part.numpy())
        for c in range(3):
            torch.testing.assert_close(mixture.loc[c], part[of == c].mean(0))
        torch.testing.assert_close(mixture.logits.exp(), torch.from_numpy(np.bincount(of) / len(of)))


def test_what_each_stage_trains():
    every, deepest = (seeded(ladder_clustering, clustered=word).stages() for word in ("every", "deepest"))
    assert [stage.name for stage in every] == ["ladder", "clusters"]
    assert [stage.trained for stage in deepest][1] == ("inference.gate",)
    for stages in (every, deepest):
        assert not any(
            name.startswith(("model.prior", "")) for name in stages[0].trained if name in ("", "model.prior")
        )
        assert stages[-1].trained == ("",)
        assert sum(stage.share for stage in stages) == pytest.approx(1)
    assert deepest[-1].cost > deepest[0].cost


def test_labels_start_alike_and_move_their_block_alone():
    inference = AmortizedLabels(AmortizedGaussian(nn.Linear(5, 6)), nn.Linear(5, 4 * 5), labels=4, size=2).double()
    rows = Batch.of(torch.randn(7, 5, dtype=F64))
    start = inference.start(None, rows).posterior
    for law in inference(None, rows).posterior.components:
        assert torch.equal(law.loc, start.loc)
        assert torch.equal(law.log_scale, start.log_scale)
    stirred(inference.gate)
    moved = inference(None, rows).posterior
    assert moved.labeled
    assert moved.with_tensors(moved.tensors).labeled
    for law in moved.components:
        assert (law.loc[:, :2] != start.loc[:, :2]).all()
        assert torch.equal(law.loc[:, 2:], start.loc[:, 2:])
        assert torch.equal(law.log_scale[:, 2:], start.log_scale[:, 2:])


def test_labels_out_of_a_network_and_out_of_latents():
    """The network's own; else the mean of p(y | z), here of a posterior so narrow that z is known."""
    system, rows = labeled(2), batch()
    found = system.clusters(rows.x)
    torch.testing.assert_close(found[:, 0], system.inference.gate(rows.x)[:, :3].softmax(-1).detach())
    prior = ProductPrior([stirred(MixturePrior(2, 3)), StandardNormal(1), stirred(MixturePrior(1, 4))]).double()
    z = torch.randn(8, 4, dtype=F64)
    found = assignments(prior, DiagonalGaussian(z, torch.full_like(z, -20)))
    assert found.shape == (8, 2, 4)
    torch.testing.assert_close(found[:, 0, :3], prior.factors[0].responsibilities(z[:, :2]), atol=1e-6, rtol=0)
    torch.testing.assert_close(found[:, 1], prior.factors[2].responsibilities(z[:, 3:]), atol=1e-6, rtol=0)
    assert (found[:, 0, 3] == 0).all()
    torch.testing.assert_close(found.sum(-1), torch.ones(8, 2, dtype=F64))


def test_agreement_is_the_best_match_of_all():
    """By every one-to-one match; a permutation of the labels agrees in full."""
    rng = np.random.default_rng(0)
    labels, clusters = rng.integers(4, size=50), rng.integers(4, size=50)
    best = max(np.mean(np.array(order)[clusters] == labels) for order in permutations(range(4)))
    assert agreement(labels, clusters, 4).accuracy == pytest.approx(best)
    same = agreement(np.array(list("abcd"))[labels], (labels + 1) % 4, 4)
    assert (same.accuracy, same.nmi, same.ari, same.mapping) == (1.0, pytest.approx(1), pytest.approx(1), "Hungarian")
    many = agreement(labels, np.arange(50), 50)
    assert (many.accuracy, many.mapping, many.used) == (1.0, "majority", 50)
    one = agreement(labels, np.zeros(50, dtype=int), 4)
    assert (one.nmi, one.ari, one.used) == (pytest.approx(0, abs=1e-12), 0.0, 1)
    assert one.accuracy == pytest.approx(np.bincount(labels).max() / 50)


@pytest.mark.parametrize("clustered", ["every", "deepest"])
def test_a_run_tells_its_clusters(tmp_path, clustered):
    """In encodings, the evaluation and the report; a seed tells the same again."""
    data = curvae.data.load("digits")
    torch.manual_seed(0)
    system = ladder_clustering(data.spec, latent=2, layers=2, hidden=16, components=4, clustered=clustered)
    run = fit(system, data, max_updates=40, out=tmp_path / "run", progress=False)
    fitted = curvae.load(run.path)
    found = fitted.encode("test")
    blocks = 2 if clustered == "every" else 1
    assert found.clusters.shape == (len(data.test), blocks, 4)
    np.testing.assert_allclose(found.clusters.sum(-1), 1, atol=1e-5)
    np.testing.assert_array_equal(found.clusters, fitted.encode("test").clusters)
    result = evaluate(run, samples=20, limit=60, progress=False)
    values = json.loads((run.path / "evaluation.json").read_text())["metrics"]["clustering"]["values"]
    names = ["clusters of z0 to z1", "clusters of z2 to z3"][:blocks]
    assert [name for name in values if name != "count"] == names
    of = found.clusters[:60, 0].argmax(-1)
    expected = agreement(data.test.label[:60].numpy(), of, 4)
    near = result.metrics["clustering"].values[names[0]]["accuracy"]
    assert near == pytest.approx(expected.accuracy, abs=0.05)  # other draws of z
    assert "(Hungarian), NMI" in dict(result.rows())[names[0]]
    page = write_report(run.path).read_text(encoding="utf-8")
    for slug in ("levels", "clusters", "clustering"):
        assert f'<section id="{slug}">' in page
    assert "Block 1 of 2, the deepest: z0, z1, a row each" in page


def test_a_frame_has_columns_of_clusters_and_other_systems_none(tmp_path):
    frame = pd.DataFrame(torch.randn(80, 3).numpy(), columns=list("abc"))
    options = {"hidden": 8, "max_updates": 5, "progress": False}
    fitted = curvae.fit("ladder-clustering", frame, latent=1, layers=2, components=3, out=tmp_path / "one", **options)
    found = fitted.encode(frame)
    assert [name for name in found if name.startswith("cluster")] == [
        "cluster0",
        "cluster0_probability",
        "cluster1",
        "cluster1_probability",
    ]
    assert found["cluster0"].isin(range(3)).all()
    assert (found["cluster0_probability"] >= 1 / 3).all()
    mixed = curvae.fit("vae", frame, latent=1, prior="mixture", out=tmp_path / "two", **options).encode(frame)
    assert [*mixed][-2:] == ["cluster", "cluster_probability"]
    plain = curvae.fit("vae", frame, latent=1, out=tmp_path / "three", **options)
    assert not any("cluster" in name for name in plain.encode(frame))
    assert "clustering" not in evaluate(plain, samples=20, progress=False).to_dict()["metrics"]


def test_misuse():
    with pytest.raises(ValueError, match="clustered: expected every or deepest; got 'top'"):
        mixed_prior("top", 2, 2, 3)
    with pytest.raises(ValueError, match="MixturePrior: components must be 1 or more; got 0"):
        ladder_clustering(SPEC, components=0)
    with pytest.raises(ValueError, match="ladder_clustering: layers must be 1 or more; got 0"):
        ladder_clustering(SPEC, layers=0)
    with pytest.raises(ValueError, match=r"assignments: expected a prior that is a mixture.*; got StandardNormal"):
        vae(SPEC, latent=2, hidden=8).clusters(torch.zeros(3, 6))
    start, rows = AmortizedGaussian(nn.Linear(6, 4)), Batch.of(torch.zeros(3, 6))
    with pytest.raises(ValueError, match=r"the gate must give C \(1 \+ 2 d\) = 10 values; got \(9,\)"):
        AmortizedLabels(start, nn.Linear(6, 9), labels=2, size=2)(None, rows)
    with pytest.raises(ValueError, match="expects a start of diagonal Gaussians"):
        AmortizedLabels(AmortizedLabels(start, nn.Linear(6, 10), 2, 2), nn.Linear(6, 10), 2, 2)(None, rows)
