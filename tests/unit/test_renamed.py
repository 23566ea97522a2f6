"""Names of before lead to what took their place, and say so."""

import importlib

import pytest

from curvae import (
    baselines,
    curvature,
    distributions,
    dynamics,
    evaluation,
    flows,
    inference,
    latents,
    networks,
    posteriors,
    priors,
    report,
    verdicts,
)

PACKAGES = (dynamics, flows, inference, networks, posteriors, priors)
BEFORE = {
    curvature: "Bound Information Seen Tried chosen moved route_for Local Typical follow",
    evaluation: "choose read Member Size annealed classified defensive describe smooth",
    report: "write",
    latents: "describe one_at_a_time principal",
    flows: "Image",
    networks: "Lowest TopDown carried",
    dynamics: "Bridge Point cooled tune value_and_slope",
    inference: "AscentRule Uninformed refit at_test_time best_gaussian",
    priors: "Family FixedNormal LearnedNormal OneHot all_states one_hot",
    posteriors: "Factored pushed common_noise gumbel noise Enumerated Parametric Rotated typical",
    baselines: "fit_beside",
    distributions: "Enumerated Parametric Rotated typical",
    verdicts: "of_baselines of_bound of_evaluation of_training",
}


@pytest.mark.parametrize(
    ("package", "name"), [(package, name) for package, names in BEFORE.items() for name in names.split()]
)
def test_a_name_of_before_says_where_it_went(package, name):
    with pytest.warns(DeprecationWarning, match=rf"^{package.__name__}.{name} is now curvae\.") as told:
        found = getattr(package, name)
    where, _, new = str(told[0].message).removesuffix(".").split()[-1].rpartition(".")
    assert getattr(importlib.import_module(where), new) is found


@pytest.mark.parametrize("package", PACKAGES)
def test_a_name_that_never_was(package):
    with pytest.raises(AttributeError, match=rf"module '{package.__name__}' has no attribute 'Nothing'"):
        _ = package.Nothing
