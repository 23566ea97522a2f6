"""What the arguments of most systems mean, said once: a system's docstring describes its own arguments alone."""

import inspect
import re
from collections.abc import Callable, Mapping
from typing import Any

SHARED = {
    "spec": "shape and support of the data (``data.spec``).",
    "latent": "number of latent dimensions D; for ``curvae fit`` also several, 1:8 or 1,2,4.",
    "hidden": "width of the hidden layers.",
    "depth": "number of hidden layers, in encoder and decoder.",
    "kl_warmup": "steps over which the divergence's weight grows to 1; never in a reported number.",
    "gradient": 'estimator for the encoder: "standard", "stl" (biased here) or "dreg" (doubly reparameterized).',
    "encoder": "your own network, from a batch of data to 2 D values.",
    "decoder": "your own network, from (N, D) to the likelihood's parameters.",
    "likelihood": "a word (docs, Likelihoods) or your own; by default that of the data's support.",
    "prior": "normal, flow, autoregressive, mixture, vamp or tilted; or your own.",
    "start": '"random", or "linear": principal components (or factors) inside our networks.',
}
"""Parameter -> description, where a docstring has none of its own."""

SECTION = re.compile(r"^(?:Raises|Example|Returns|Yields):", re.MULTILINE)


def full_docstring(function: Callable[..., Any]) -> str:
    """The docstring of a function, with the descriptions of :data:`SHARED` for arguments that it leaves out.

    Example:
        >>> def build(spec, width, decoder=None):
        ...     '''Something.
        ...
        ...     Args:
        ...         width: of it.
        ...     '''
        >>> print(full_docstring(build))
        Something.
        <BLANKLINE>
        Args:
            spec: shape and support of the data (``data.spec``).
            width: of it.
            decoder: your own network, from (N, D) to the likelihood's parameters.
    """
    text = inspect.getdoc(function) or ""
    before, own, after = _parts(text)
    names = inspect.signature(function).parameters
    entries = {name: own.get(name) or SHARED.get(name) for name in names}
    lines = [f"    {name}: {entry}" for name, entry in entries.items() if entry]
    return "\n\n".join(part for part in (before, "\n".join(["Args:", *lines]), after) if part)


def _parts(text: str) -> tuple[str, Mapping[str, str], str]:
    """What stands before the arguments, their descriptions, and what stands after."""
    head, found, rest = text.partition("Args:\n")
    if not found:
        place = section.start() if (section := SECTION.search(text)) else len(text)
        return text[:place].strip(), {}, text[place:].strip()
    block, _, after = rest.partition("\n\n")
    entries = re.split(r"^    (?=\w+: )", block, flags=re.MULTILINE)[1:]
    own = {name: entry.rstrip() for name, _, entry in (each.partition(": ") for each in entries)}
    return head.strip(), own, after.strip()
