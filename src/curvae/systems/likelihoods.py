"""The likelihood of a system by its word: ``likelihood="poisson"`` for every system that takes one."""

import inspect
from typing import Any

from curvae.likelihoods import Likelihood, likelihood_for


def with_likelihood_words(signature: inspect.Signature) -> inspect.Signature:
    """The signature of a system whose ``likelihood``, where it has one, may be a word."""
    parameters = signature.parameters
    if "likelihood" not in parameters:
        return signature
    widened = parameters["likelihood"].replace(annotation=str | Likelihood | None)
    return signature.replace(parameters=[*(parameters | {"likelihood": widened}).values()])


def take_likelihood(arguments: dict[str, Any]) -> None:
    """Put the likelihood that a word stands for in its place.

    Raises:
        ValueError: no such word, or one for data of another support.
    """
    if isinstance(word := arguments.get("likelihood"), str):
        arguments["likelihood"] = likelihood_for(word, arguments["spec"])
