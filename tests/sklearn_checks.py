"""Which of scikit-learn's own checks of an estimator are run: all by ``make long``, the quick ones by ``make test``."""

import os
from typing import Any

import pytest

WHOLE = os.environ.get("CURVAE_TEST_WHOLE") == "1"
SLOW = (
    "check_classifier_data_not_an_array", "check_estimators_dtypes", "check_fit_score_takes_y",
    "check_methods_subset_invariance", "check_pipeline_consistency", "check_transformer_data_not_an_array",
    "check_transformer_general", "check_transformer_preserve_dtypes",
)  # fmt: skip
"""Two thirds of the time."""


def run(estimator: Any, check: Any) -> None:
    """One check, or none where it is a slow one."""
    if not WHOLE and check.func.__name__ in SLOW:
        pytest.skip("slow, see make long")
    check(estimator)
