"""From scores of each example to the evaluation of a table, and to what it warns of."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from curvae.evaluation.estimate import Scores
from curvae.evaluation.information import posterior_summary as latents
from curvae.evaluation.likelihood import likelihood_summary as likelihood
from curvae.evaluation.likelihood.estimation import finite
from curvae.evaluation.results import Evaluation


def summarize(scores: Scores, levels: float | None = None, stderr: float | None = None, **facts: Any) -> Evaluation:
    """The evaluation of scored data; data whose estimates are not finite are counted and left out of every mean.

    Args:
        scores: from :func:`curvae.evaluation.score`.
        levels: grey levels within 1 of the unit, for bits per dimension of one level; None = bits mean nothing here.
        stderr: the error of each example that was asked for, nats.
        facts: other fields of the evaluation: ``unit``, ``samples``, ``split``, ``seed``, ``evidence``, ``objective``,
            ``seconds``.

    Example:
        >>> import numpy as np
        >>> values = np.array([-1.0, np.nan, -3.0])
        >>> scores = {"index": np.arange(3), "log_likelihood": values, "elbo": values, "log_det": np.zeros(3)}
        >>> result = summarize(scores)
        >>> result.log_likelihood.value, result.count, result.excluded
        (-2.0, 3, 1)
        >>> result.warnings
        ('1 of 3 data gave estimates that are not finite; they are left out of every mean.',)
    """
    used = {name: values[finite(scores)] for name, values in scores.items()}
    status = likelihood.status_shares(scores["status"]) if "status" in scores else {}
    likely = likelihood.summarize_likelihood(scores, levels, stderr)
    result = Evaluation(status=status, **likely, **latents.summarize_latents(used), **facts)
    return replace(result, warnings=tuple(evaluation_warnings(result)))


def evaluation_warnings(result: Evaluation) -> Iterator[str]:
    """What to be careful about, one sentence each."""
    yield from likelihood.likelihood_warnings(result)
    yield from () if result.ais is None else result.ais.warnings
    yield from latents.posterior_warnings(result)
    for finding in result.metrics.values():
        yield from finding.warnings
