"""What every numeric flag may be: looked at before anything is opened, made or drawn."""

import math
from collections.abc import Iterator, Mapping
from numbers import Real
from typing import Any, NamedTuple

from curvae.argument_checks import MOST, SEEDS
from curvae.cli.errors import UsageError

LARGEST = 1.7e308


class FlagRange(NamedTuple):
    """Numbers from ``low`` to ``high``, both among them, and how they are told."""

    low: float
    high: float
    words: str

    def holds(self, value: Any) -> bool:
        """Whether a number is one of them; NaN never is."""
        return self.low <= value <= self.high


def counts(low: int = 1, high: int = MOST) -> FlagRange:
    """Whole numbers.

    >>> counts().words, counts().holds(0), counts(0).holds(0)
    ('a whole number from 1 to 1,000,000,000', False, True)
    """
    return FlagRange(low, high, f"a whole number from {low} to {high:,}")


COUNT, SIZE = counts(), FlagRange(1, LARGEST, "1 or more")
SIZE_OR_NONE = FlagRange(0, LARGEST, "0 or more")
POSITIVE = FlagRange(math.nextafter(0, 1), LARGEST, "a positive number")
NOT_NEGATIVE = FlagRange(0, LARGEST, "0 or more")
FINITE = FlagRange(-LARGEST, LARGEST, "a finite number")
SHARE = FlagRange(0, 1, "a share in [0, 1]")
BEGIN = FlagRange(0, math.nextafter(1, 0), "a share in [0, 1)")
PROBABILITY = FlagRange(math.nextafter(0, 1), math.nextafter(1, 0), "a probability in (0, 1)")
SEED = FlagRange(0, SEEDS - 1, "an integer in [0, 2^32)")

COMMON: Mapping[str, FlagRange] = {
    **dict.fromkeys(("seed", "split_seed"), SEED),
    **dict.fromkeys(("samples", "batch_size", "limit", "most", "n", "count", "draws", "data", "steps"), COUNT),
    **dict.fromkeys(("rounds", "temperatures", "chains", "ais_data", "models", "reference"), COUNT),
    "ais": counts(0),
    "memory": counts(1, 2**62),
    "stderr": POSITIVE,
    "rate": POSITIVE,
    "level": PROBABILITY,
    "positions": counts(-MOST),
}
"""Of every command, by name."""
FIT: Mapping[str, FlagRange] = {
    "epochs": counts(1, 10**7),
    "max_updates": counts(1, 10**10),
    "max_skipped": COUNT,
    "devices": counts(1, 10**4),
    "restarts": counts(1, 1000),
    "learning_rate": POSITIVE,
    "minutes": POSITIVE,
    "patience": FlagRange(0, MOST, "a share of a stage below 1, or a whole number of epochs"),
    "average": SHARE,
    "clip": POSITIVE,
    "weight_decay": NOT_NEGATIVE,
    "validation": FlagRange(math.nextafter(0, 1), MOST, "a fraction in (0, 1) or a number of rows"),
    "split": SHARE,
    "event": COUNT,
    "categories": counts(1, 10**6),
    "depth": counts(1, 1000),
    **dict.fromkeys(("latent", "hidden", "hyper", "width", "context", "channels", "features", "layers"), SIZE),
    **dict.fromkeys(("bins", "couplings", "dense", "groups", "leapfrogs", "passes", "reflections"), SIZE),
    **dict.fromkeys(("variables", "window", "cluster_latent", "cluster_hidden", "copies"), SIZE),
    **dict.fromkeys(("belief", "blocks", "gates", "heads", "jump", "recurrent"), SIZE),
    "updates": SIZE_OR_NONE,
    "delay": BEGIN,
    **dict.fromkeys(("bfgs", "components", "flows", "kl_warmup", "rounds", "steps"), SIZE_OR_NONE),
    **dict.fromkeys(("cap", "epsilon", "floor", "order", "scale", "step", "temperature"), POSITIVE),
    "prior_precision": POSITIVE,
    **dict.fromkeys(("diversity", "free_bits", "kl_weight", "smoothness", "strength", "tilt", "weight"), NOT_NEGATIVE),
    **dict.fromkeys(("alpha", "skew"), FINITE),
    "beta": SHARE,
    "momentum": BEGIN,
    "warmup": BEGIN,
}
"""Of ``curvae fit``: of training, data and systems. How large networks may be is for memory to say."""

OWN: Mapping[str, Mapping[str, FlagRange]] = {
    "fit": FIT,
    "adopt": {**FIT, "noise": POSITIVE},
    "impute": {"draws": counts(0)},
    "traverse": {"latent": counts(0), "row": counts(0)},
}
"""Of single commands, where they differ."""


def range_of(command: str, name: str) -> FlagRange | None:
    """That of a flag of a command; None where it is no number, or any.

    >>> range_of("refine", "steps").words, range_of("fit", "steps").words
    ('a whole number from 1 to 1,000,000,000', '0 or more')
    """
    return OWN.get(command, {}).get(name) or COMMON.get(name)


def check_ranges(command: str, chosen: Mapping[str, Any]) -> None:
    """
    Raises:
        UsageError: a number beyond its range, named with it.
    """
    for name, given in chosen.items():
        if (allowed := range_of(command, name)) is None:
            continue
        for value in _numbers(given):
            if not allowed.holds(value):
                got = f"{value:,}" if isinstance(value, int) else value
                raise UsageError(f"--{name.replace('_', '-')}: expected {allowed.words}, got {got}.")


def _numbers(given: Any) -> Iterator[Any]:
    """One number, or those of a list; words and modules of the user's are none."""
    for value in given if isinstance(given, list | tuple) else [given]:
        if isinstance(value, Real) and not isinstance(value, bool):
            yield value
