"""What seeds and counts may be; what lies beyond is refused in one line, before torch says so in words of its own."""

from numbers import Integral

SEEDS = 2**32
"""NumPy's generators take no larger one."""
MOST = 10**9
"""A larger count is a slip of the hand, and would take for ever."""


def check_seed(seed: int, error: type[ValueError] = ValueError) -> None:
    """The door of whatever draws by a seed.

    Raises:
        ValueError: no generator takes it.

    Example:
        >>> check_seed(2**32)
        Traceback (most recent call last):
        ...
        ValueError: seed: expected an integer in [0, 2^32), got 4294967296.
    """
    if not 0 <= seed < SEEDS:
        raise error(f"seed: expected an integer in [0, 2^32), got {seed}.")


def check_least(what: str, least: int, /, **values: int | None) -> None:
    """The door of whatever needs so many of something, or more; None is left out.

    Args:
        what: the word before the colon of the message.
        least: the smallest value.
        values: by their names.

    Raises:
        ValueError: below the least.
    """
    for name, value in values.items():
        if value is not None and value < least:
            raise ValueError(f"{what}: {name} must be {least} or more; got {value}.")


def check_counts(what: str, /, **counts: int | None) -> None:
    """The same of whatever is done so many times.

    Raises:
        ValueError: no whole number, below 1, or above a billion.

    Example:
        >>> check_counts("evaluate", samples=500, limit=None)
        >>> check_counts("evaluate", samples=10**12)
        Traceback (most recent call last):
        ...
        ValueError: evaluate: samples must be 1,000,000,000 or less; got 1,000,000,000,000.
    """
    for name, value in counts.items():
        if value is not None and (not isinstance(value, Integral) or isinstance(value, bool)):
            raise ValueError(f"{what}: {name} must be a whole number; got {value!r}.")
    check_least(what, 1, **counts)
    for name, value in counts.items():
        if value is not None and value > MOST:
            raise ValueError(f"{what}: {name} must be {MOST:,} or less; got {value:,}.")
