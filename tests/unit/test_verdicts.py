"""Each verdict on a planted curve or evaluation, and none where nothing is wrong."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import curvae.report
from curvae.evaluation import Evaluation
from curvae.evaluation.estimate import Estimate
from curvae.evaluation.likelihood.baselines import BaselineResult
from curvae.verdicts import bound_verdicts, conclusion, evaluation_verdicts, training_verdicts


def curve(bound, train=None, stage="train", first=1):
    count = len(bound)
    rows = list(range(first, first + count))
    train = list(bound) if train is None else train
    return {
        "stage": [stage] * count,
        "epoch": rows,
        "step": rows,
        "train_bound": train,
        "validation_bound": list(bound),
    }


def noisy(values, sd=0.3, seed=0):
    return np.asarray(values) + np.random.default_rng(seed).normal(size=len(values)) * sd


def kinds(metrics):
    return [each.kind for each in training_verdicts(metrics)]


def test_a_curve_that_rises_to_its_end():
    found = training_verdicts(curve(noisy(np.linspace(0, 60, 60))), again="curvae fit --continue runs/a")
    assert [each.kind for each in found] == ["rising"]
    assert "curvae fit --continue runs/a goes on" in str(found[0])


@pytest.mark.parametrize("seed", range(20))
def test_a_curve_that_has_come_to_rest_says_nothing(seed):
    """Noise at its end makes the last look the best one time in sixty, and never a gain of three of its deviations."""
    assert kinds(curve(noisy(50 * (1 - np.exp(-np.arange(60) / 4)), seed=seed))) == []


def test_a_curve_that_turns_while_training_goes_on():
    bound = noisy(np.concatenate([np.linspace(0, 20, 20), np.linspace(20, 5, 40)]))
    (found,) = training_verdicts(curve(bound, np.linspace(0, 90, 60)))
    assert found.kind == "overfits"
    assert f"after epoch {int(bound.argmax()) + 1} of 60" in found.text


def test_a_curve_that_falls_with_that_of_training_is_no_overfitting():
    assert kinds(curve(np.linspace(0, -9, 20))) == []


def test_only_the_last_stage_counts_and_few_looks_say_nothing():
    early, late = curve(noisy(np.linspace(0, 60, 60))), curve(noisy(np.full(30, 70.0)), stage="laplace", first=61)
    assert kinds({name: [*early[name], *late[name]] for name in early}) == []
    assert kinds(curve(np.arange(5.0))) == []


def result(ahead=5.0, flagged=0, activity=(1.0, 1.0), kl=3.0):
    """An evaluation of 100 data that is ahead of factor analysis by so many nats, with an error of 0.5."""
    beside = BaselineResult("factor_analysis", 2, Estimate(-20.0, 1.0), Estimate(ahead, 0.5))
    weak = BaselineResult("ppca", 2, Estimate(-25.0, 1.0), Estimate(ahead + 5, 0.5))
    return Evaluation(
        log_likelihood=Estimate(ahead - 20, 1.0),
        count=100,
        flagged=flagged,
        activity=activity,
        active_units=sum(each > 0.01 for each in activity),
        kl=Estimate(kl, 0.1),
        baselines=(weak, beside),
    )


def test_a_model_that_is_ahead_is_worth_using():
    assert evaluation_verdicts(result()) == ()
    assert conclusion(result()) == "Worth using: +5.00 ± 0.50 nats in log p(x) over factor analysis, 2 latents, paired."


@pytest.mark.parametrize(("ahead", "how"), [(0.9, "not ahead of"), (-0.9, "not ahead of"), (-1.1, "behind")])
def test_a_model_that_is_not_ahead_of_the_best_baseline(ahead, how):
    """Within two errors of the paired difference, whatever the weaker baseline says."""
    (found,) = evaluation_verdicts(result(ahead))
    assert found.kind == "baseline"
    assert f"Not better than factor analysis, 2 latents: {how}" in str(found)
    assert conclusion(result(ahead)).startswith("Not worth using as it is: factor analysis, 2 latents explains")


def test_estimates_that_cannot_be_trusted():
    assert evaluation_verdicts(result(flagged=10)) == ()
    (found,) = evaluation_verdicts(result(flagged=11))
    assert found.kind == "estimates"
    assert "for 11% of the data" in str(found)
    assert conclusion(result(flagged=11)).endswith("; but part of the estimates of log p(x) cannot be trusted.")


def test_latents_that_say_nothing():
    (found,) = evaluation_verdicts(result(activity=(1.0, 0.001, 0.0)))
    assert (found.kind, str(found)) == ("collapsed", "2 of 3 latents say nothing; --latent 1 would do.")
    (found,) = evaluation_verdicts(result(activity=(0.0, 0.0), kl=0.0))
    assert str(found).startswith("Collapsed: the latents say nothing")


def test_what_training_says_is_part_of_the_sentence_and_no_baseline_is_said():
    rising = training_verdicts(curve(np.linspace(0, 60, 60)))
    assert conclusion(result(), rising).endswith("; but training longer would still gain.")
    assert "cannot be said" in conclusion(replace(result(), baselines=None))


def test_a_bound_below_a_baseline_before_anything_is_evaluated():
    assert bound_verdicts(-15.0, {"PPCA, 2 latents": -16.0}) == ()
    (found,) = bound_verdicts(-17.0, {"PPCA, 2 latents": -16.0, "factor analysis, 2 latents": -15.5})
    assert "not above factor analysis, 2 latents (-15.50)" in str(found)


def test_a_planted_run_overfits_and_the_report_says_so(tmp_path):
    """Twenty rows, many units, no stopping: the last lines of fit, of evaluate and the head of the report."""
    x = np.random.default_rng(0).normal(size=(60, 6))
    data = curvae.data.from_array(x, split=(0.4, 0.3, 0.3))
    torch.manual_seed(0)
    system = curvae.systems.vae(data.spec, latent=2, hidden=128)
    run = curvae.training.fit(system, data, max_updates=2000, out=tmp_path / "run", progress=False)
    (found,) = training_verdicts(run.metrics())
    assert found.kind == "overfits"
    result = curvae.evaluate(run, samples=50, progress=False)
    assert [each.kind for each in evaluation_verdicts(result)][:1] == ["baseline"]
    text = curvae.report.html(curvae.report.read_snapshot(run.path))
    assert "Not worth using as it is" in text
    assert "Overfits: after epoch" in text
